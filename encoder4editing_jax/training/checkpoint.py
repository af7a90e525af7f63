"""Training states on disk, by Orbax.

One item per module, each a flat dictionary from paths ("body/blocks/0/...")
to arrays without device axes, plus a JSON item with the config and versions:
`encoder` alone opens without knowledge of the rest. Saving is asynchronous;
what is saved is the state at the time of the call. The JSON item also holds a
digest of every array, checked on restoring: Orbax loads flipped bits silently.
A save that fails leaves the older checkpoints as they were; training goes on,
and the next save is due as ever.
"""

import contextlib
import hashlib
import json
import logging
import math
import operator
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from encoder4editing_jax.config import Config, ConfigError
from encoder4editing_jax.files import replace_text
from encoder4editing_jax.training.hosts import is_first, wait
from encoder4editing_jax.training.packing import (
  Records,
  first_difference,
  pack,
  records,
  unpack,
)
from encoder4editing_jax.training.state import TrainState

FORMAT = 4
CONFIG = "config.json"
FOLDER = "checkpoints"
MOST_FAILURES = 3  # saves in a row


class Damaged(Exception):
  """A checkpoint that is not what was saved; says why."""


class NotSaved(RuntimeError):
  """Checkpoints could not be written, several times in a row."""


class Checkpoints:
  """The checkpoints of one run, under `workdir/checkpoints/STEP`.

  Args:
    workdir: folder of the run.
    keep: number of newest checkpoints that stay.
    keep_best: number of those with the lowest scores that stay besides.
    read_only: leaves the folder as it is: another process may be writing.
  """

  def __init__(
    self,
    workdir: str | Path,
    keep: int = 2,
    keep_best: int = 0,
    *,
    read_only: bool = False,
  ):
    import orbax.checkpoint as ocp
    from orbax.checkpoint.checkpoint_managers import preservation_policy

    self._ocp = ocp
    self.folder = (Path(workdir) / FOLDER).absolute()
    if not read_only and is_first():
      _remove_unfinished(self.folder)  # Orbax does so too late for `check_room`
    newest = preservation_policy.LatestN(keep)
    score_of = operator.itemgetter("score")
    best = preservation_policy.BestN(
      get_metric_fn=score_of,
      reverse=True,  # keeps the lowest
      n=keep_best,
      keep_checkpoints_without_metrics=False,
    )
    logging.getLogger("absl").addFilter(_worth_saying)
    self._manager = ocp.CheckpointManager(
      self.folder,
      options=ocp.CheckpointManagerOptions(
        create=not read_only,
        read_only=read_only,
        best_fn=score_of,
        best_mode="min",
        preservation_policy=preservation_policy.AnyPreservationPolicy(
          [newest, best] if keep_best else [newest]
        ),
      ),
    )
    self._failures, self._pending = 0, False
    self._read_only = read_only

  def steps(self) -> list[int]:
    """Steps of which there is a checkpoint, newest first."""
    if self._read_only:  # others write
      self._manager.reload()
    return sorted(self._manager.all_steps(), reverse=True)

  def latest_step(self) -> int | None:
    """The newest step; None if there is no checkpoint."""
    return next(iter(self.steps()), None)

  def save(
    self, state: TrainState, config: Config, score: float | None = None
  ) -> None:
    """Starts to write a state; does nothing if its step is there already.

    Args:
      state: of the run.
      config: of the run.
      score: of the state's evaluation, if it was evaluated; less is better,
        and what is not finite counts as none.

    Raises:
      NotSaved: this and the saves before it failed.
    """
    self.wait()
    step = int(state.step)
    if step in self._manager.all_steps():
      return
    args = self._ocp.args
    packed = pack(state)
    items = {name: args.StandardSave(arrays) for name, arrays in packed.items()}
    meta = _meta(step, config) | {"arrays": records(packed)}
    meta["digest"] = _digest_of_text(meta)
    # Orbax sorts by score: NaN would put the others out of order.
    scored = score is not None and math.isfinite(score)
    with self._failures_counted():
      self._manager.save(
        step,
        args=args.Composite(meta=args.JsonSave(meta), **items),
        metrics={"score": score} if scored else None,
      )
      self._pending = True

  def wait(self) -> None:
    """Ends when everything that was to be saved is on the disk.

    Raises:
      NotSaved: this and the saves before it failed.
    """
    pending, self._pending = self._pending, False
    with self._failures_counted():
      self._manager.wait_until_finished()
      if pending:
        self._failures = 0

  @contextlib.contextmanager
  def _failures_counted(self) -> Iterator[None]:
    try:
      yield
    except Exception as error:  # Orbax's own for a full disk is a ValueError
      self._failures += 1
      if is_first():
        _remove_unfinished(self.folder)
        self._manager.reload()
      found = f"no checkpoint could be written ({_first_line(error)})"
      # Several processes would not agree on trying again.
      if self._failures >= MOST_FAILURES or jax.process_count() > 1:
        raise NotSaved(
          f"{found}, {self._failures} times in a row; make room in or mend "
          f"{self.folder}, and give the same command: it goes on from step "
          f"{self.latest_step() or 0}."
        ) from error
      print(
        f"warning: {found}; training goes on, and tries again at the next save",
        file=sys.stderr,
        flush=True,
      )

  def restore(self, step: int, template: TrainState) -> TrainState:
    """The state of a step, with its arrays checked against `template`.

    Raises:
      ConfigError: it was made with another architecture; says what to do.
      Damaged: it is not what was saved.
    """
    wanted = pack(template)
    stored = self._meta(step)["arrays"]
    self._refuse_misfit(step, records(wanted), stored)
    args = self._ocp.args
    items = {
      name: args.StandardRestore(arrays) for name, arrays in wanted.items()
    }
    try:
      restored = self._manager.restore(step, args=args.Composite(**items))
    except Exception as error:  # Orbax and its parts raise nearly anything
      raise Damaged(_first_line(error)) from error
    restored = {name: restored[name] for name in wanted}
    if lost := first_difference(records(restored), stored):
      raise Damaged(f"{lost} is not what was saved")
    return unpack(template, restored)

  def config(self, step: int) -> Config:
    """The config that a checkpoint was made with.

    Raises:
      ConfigError: it is of another version.
      Damaged: it is not what was saved.
    """
    return Config.from_dict(self._meta(step)["config"])

  def _meta(self, step: int) -> dict[str, Any]:
    args = self._ocp.args
    try:
      meta = self._manager.restore(
        step, args=args.Composite(meta=args.JsonRestore())
      )["meta"]
      version, digest = meta["format"], meta.pop("digest")
    except Exception as error:
      raise Damaged(_first_line(error)) from error
    if version != FORMAT:
      raise ConfigError(
        f"checkpoint {self.folder / str(step)} has format {version}, this "
        f"version reads {FORMAT}; continue with the version that made it, or "
        "use another --workdir."
      )
    if digest != _digest_of_text(meta):
      raise Damaged("its config or its list of arrays is not what was saved")
    return meta

  def _refuse_misfit(self, step: int, wanted: Records, stored: Records) -> None:
    shapes = [
      {name: record[:2] for name, record in found.items()}
      for found in (wanted, stored)
    ]
    if name := first_difference(*shapes):
      ours, theirs = (f.get(name, ["nothing"])[0] for f in shapes)
      raise ConfigError(
        f"checkpoint {self.folder / str(step)} does not fit this config "
        f"({name}: {theirs} there, {ours} here); use the config it was made "
        "with, or another --workdir."
      )

  def set_aside(self, step: int) -> Path:
    """Renames the folder of a damaged step, so that it can be saved again."""
    place = self.folder / f"damaged-{step}"
    if is_first():
      shutil.rmtree(place, ignore_errors=True)
      (self.folder / str(step)).rename(place)
    wait(f"set aside {step}")
    self._manager.reload()
    return place

  def close(self) -> None:
    """Lets go of the folder."""
    self._manager.close()


def save_config(config: Config, workdir: str | Path) -> None:
  """Writes the resolved config beside the checkpoints, as `CONFIG`."""
  text = json.dumps(config.to_dict(), indent=2)
  replace_text(Path(workdir, CONFIG), text + "\n")


def _meta(step: int, config: Config) -> dict[str, Any]:
  import flax
  import numpy as np
  import optax

  modules = (jax, flax, optax, np)
  return {
    "format": FORMAT,
    "step": step,
    "data_position": step * config.run.batch_size,
    "versions": {module.__name__: module.__version__ for module in modules},
    "config": config.to_dict(),
  }


def _remove_unfinished(folder: Path) -> None:
  """Removes what failed or killed saves have written, large as it is."""
  for path in folder.glob("*.orbax-checkpoint-tmp*"):
    shutil.rmtree(path, ignore_errors=True)


def _worth_saying(record: logging.LogRecord) -> bool:
  """Most steps that are saved have no score, and readers write nothing: Orbax
  warns of each."""
  told = ("tracked_metric", "read_only=True", "directory is read only")
  return not any(text in str(record.msg) for text in told)


def _digest_of_text(meta: dict[str, Any]) -> str:
  text = json.dumps(meta, sort_keys=True)
  return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _first_line(error: Exception) -> str:
  return str(error).strip().splitlines()[0][:200] if str(error) else "?"
