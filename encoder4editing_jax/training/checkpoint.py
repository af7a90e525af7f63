"""Training states on disk, by Orbax.

One item per module, each a flat dictionary from paths ("body/blocks/0/...")
to arrays without device axes, plus a JSON item with the config and versions:
`encoder` alone opens without knowledge of the rest. Saving is asynchronous;
what is saved is the state at the time of the call.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from encoder4editing_jax.config import Config, ConfigError
from encoder4editing_jax.files import replace_text
from encoder4editing_jax.training.state import TrainState

FORMAT = 1
FOLDER = "checkpoints"


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
    items = {
      name: args.StandardSave(arrays) for name, arrays in _pack(state).items()
    }
    meta = args.JsonSave(_meta(step, config))
    self._manager.save(step, args=args.Composite(meta=meta, **items))

  def restore(self, template: TrainState) -> TrainState:
    """The newest state, with the arrays' shapes checked against `template`.

    Raises:
      ConfigError: the checkpoint was made with another architecture.
    """
    step = self.latest_step()
    args = self._ocp.args
    wanted = _pack(template)
    items = {
      name: args.StandardRestore(arrays) for name, arrays in wanted.items()
    }
    try:
      restored = self._manager.restore(step, args=args.Composite(**items))
      return _unpack(template, {name: restored[name] for name in wanted})
    except (ValueError, KeyError) as error:
      raise ConfigError(
        f"checkpoint {step} in {self._manager.directory} does not fit this "
        f"config ({_first_line(error)}); use the config it was made with, or "
        "another --workdir."
      ) from error

  def config(self) -> Config:
    """The config that the newest checkpoint was made with."""
    args = self._ocp.args
    restored = self._manager.restore(
      self.latest_step(), args=args.Composite(meta=args.JsonRestore())
    )
    return Config.from_dict(restored["meta"]["config"])

  def wait(self) -> None:
    """Returns when everything is on disk."""
    self._manager.wait_until_finished()

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
    "optimizer",
    "discriminator",
    "discriminator_optimizer",
  )
  items = {name: _flat(getattr(state, name)) for name in own_item}
  items["progress"] = _flat(
    {
      "step": state.step,
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
  def fill(path: Any, leaf: Any) -> Any:
    name = _path(path)
    if name not in arrays and np.size(leaf):
      raise KeyError(f"{name} is missing")
    return arrays.get(name, leaf)

  return jax.tree_util.tree_map_with_path(fill, template)


def _path(path: Any) -> str:
  return jax.tree_util.keystr(path, simple=True, separator="/")


def _first_line(error: Exception) -> str:
  return str(error).strip().splitlines()[0][:200] if str(error) else "?"
