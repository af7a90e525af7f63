"""Training states on disk, by Orbax.

One item per module, each a flat dictionary from paths ("body/blocks/0/...")
to arrays without device axes, plus a JSON item with the config and versions:
`encoder` alone opens without knowledge of the rest. Saving is asynchronous;
what is saved is the state at the time of the call. The JSON item also holds a
digest of every array, checked on restoring: Orbax loads flipped bits silently.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from encoder4editing_jax.config import Config, ConfigError
from encoder4editing_jax.files import replace_text
from encoder4editing_jax.training.state import TrainState

FORMAT = 3
FOLDER = "checkpoints"

Records = dict[str, list[Any]]
"""Shape, dtype and digest of arrays, by "ITEM/PATH", as JSON keeps them."""


class Checkpoints:
  """The checkpoints of one run, under `workdir/checkpoints/STEP`.

  Args:
    workdir: folder of the run.
    keep: number of newest checkpoints that stay.
  """

  def __init__(self, workdir: str | Path, keep: int = 2):
    import orbax.checkpoint as ocp

    self._ocp = ocp
    self._manager = ocp.CheckpointManager(
      (Path(workdir) / FOLDER).absolute(),
      options=ocp.CheckpointManagerOptions(
        create=True, cleanup_tmp_directories=True, max_to_keep=keep
      ),
    )

  def latest_step(self) -> int | None:
    """The newest step; None if there is no checkpoint."""
    return self._manager.latest_step()

  def save(self, state: TrainState, config: Config) -> None:
    """Starts to write a state; does nothing if its step is there already."""
    step = int(state.step)
    if step in self._manager.all_steps():
      return
    args = self._ocp.args
    packed = _pack(state)
    items = {name: args.StandardSave(arrays) for name, arrays in packed.items()}
    meta = _meta(step, config) | {"arrays": _records(packed)}
    self._manager.save(
      step, args=args.Composite(meta=args.JsonSave(meta), **items)
    )

  def restore(self, template: TrainState) -> TrainState:
    """The newest state, with its arrays checked against `template`.

    Raises:
      ConfigError: the checkpoint was made with another architecture, or it is
        damaged; says what to do.
    """
    wanted = _pack(template)
    stored = self._meta()["arrays"]
    self._refuse_misfit(_records(wanted), stored)
    args = self._ocp.args
    items = {
      name: args.StandardRestore(arrays) for name, arrays in wanted.items()
    }
    try:
      restored = self._manager.restore(
        self.latest_step(), args=args.Composite(**items)
      )
    except Exception as error:  # Orbax and its parts raise nearly anything
      raise self._damaged(_first_line(error)) from error
    restored = {name: restored[name] for name in wanted}
    if lost := _first_difference(_records(restored), stored):
      raise self._damaged(f"{lost} is not what was saved")
    return _unpack(template, restored)

  def config(self) -> Config:
    """The config that the newest checkpoint was made with.

    Raises:
      ConfigError: the checkpoint is damaged, or of another version.
    """
    return Config.from_dict(self._meta()["config"])

  def _meta(self) -> dict[str, Any]:
    args = self._ocp.args
    try:
      meta = self._manager.restore(
        self.latest_step(), args=args.Composite(meta=args.JsonRestore())
      )["meta"]
      version = meta["format"]
    except Exception as error:
      raise self._damaged(_first_line(error)) from error
    if version != FORMAT:
      raise ConfigError(
        f"checkpoint {self.latest_step()} in {self._manager.directory} has "
        f"format {version}, this version reads {FORMAT}; continue with the "
        "version that made it, or use another --workdir."
      )
    return meta

  def _refuse_misfit(self, wanted: Records, stored: Records) -> None:
    shapes = [
      {name: record[:2] for name, record in records.items()}
      for records in (wanted, stored)
    ]
    if name := _first_difference(*shapes):
      ours, theirs = (f.get(name, ["nothing"])[0] for f in shapes)
      raise ConfigError(
        f"checkpoint {self.latest_step()} in {self._manager.directory} does "
        f"not fit this config ({name}: {theirs} there, {ours} here); use the "
        "config it was made with, or another --workdir."
      )

  def _damaged(self, reason: str) -> ConfigError:
    folder = self._manager.directory / str(self.latest_step())
    others = sorted(set(self._manager.all_steps()) - {self.latest_step()})
    instead = f"step {others[-1]}" if others else "the start"
    return ConfigError(
      f"checkpoint {folder} is damaged ({reason}); remove that folder to "
      f"continue from {instead}."
    )

  def close(self) -> None:
    """Finishes writing and lets go of the folder."""
    self._manager.close()


def save_config(config: Config, workdir: str | Path) -> None:
  """Writes the resolved config beside the checkpoints, as config.json."""
  text = json.dumps(config.to_dict(), indent=2)
  replace_text(Path(workdir, "config.json"), text + "\n")


def _meta(step: int, config: Config) -> dict[str, Any]:
  import flax
  import optax

  modules = (jax, flax, optax, np)
  return {
    "format": FORMAT,
    "step": step,
    "data_position": step * config.run.batch_size,
    "versions": {module.__name__: module.__version__ for module in modules},
    "config": config.to_dict(),
  }


def _pack(state: TrainState) -> dict[str, dict[str, np.ndarray]]:
  """A state as items; pools, step and key share one, "progress"."""
  own_item = (
    "encoder",
    "statistics",
    "average",
    "generator",
    "optimizer",
    "discriminator",
    "discriminator_optimizer",
  )
  items = {name: _flat(getattr(state, name)) for name in own_item}
  items["progress"] = _flat(
    {
      "step": state.step,
      "skipped": state.skipped,
      "key": jax.random.key_data(state.key),
      "real_pool": state.real_pool,
      "fake_pool": state.fake_pool,
    }
  )
  return {name: arrays for name, arrays in items.items() if arrays}


def _unpack(template: TrainState, items: dict[str, dict]) -> TrainState:
  progress = _filled(
    {
      "step": template.step,
      "skipped": template.skipped,
      "key": jax.random.key_data(template.key),
      "real_pool": template.real_pool,
      "fake_pool": template.fake_pool,
    },
    items.pop("progress"),
  )
  progress["key"] = jax.random.wrap_key_data(progress["key"])
  modules = {
    name: _filled(getattr(template, name), arrays)
    for name, arrays in items.items()
  }
  return dataclasses.replace(template, **progress, **modules)


def _flat(tree: Any) -> dict[str, np.ndarray]:
  """Copies of the arrays on the host, by path; Orbax refuses empty ones."""
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {_path(path): np.array(x) for path, x in leaves if np.size(x)}


def _filled(template: Any, arrays: dict[str, np.ndarray]) -> Any:
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: arrays.get(_path(path), leaf), template
  )


def _records(items: dict[str, dict[str, np.ndarray]]) -> Records:
  return {
    f"{item}/{name}": [list(x.shape), str(x.dtype), _digest(x)]
    for item, arrays in items.items()
    for name, x in arrays.items()
  }


def _digest(x: np.ndarray) -> str:
  data = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
  return hashlib.blake2b(data, digest_size=16).hexdigest()


def _first_difference(one: Records, other: Records) -> str | None:
  """The first name, in order, under which the two differ."""
  names = sorted({*one, *other})
  return next((n for n in names if one.get(n) != other.get(n)), None)


def _path(path: Any) -> str:
  return jax.tree_util.keystr(path, simple=True, separator="/")


def _first_line(error: Exception) -> str:
  return str(error).strip().splitlines()[0][:200] if str(error) else "?"
