"""Where a run goes on: the newest checkpoint that is whole and fits."""

import shutil
import sys

import jax

from encoder4editing_jax.config import Config, ConfigError
from encoder4editing_jax.training.checkpoint import Checkpoints, Damaged
from encoder4editing_jax.training.state import TrainState

# A resumed run may not change these: its arrays or its data would not fit.
FIXED = (
  "model.",
  "discriminator.",
  "data.",
  "optim.ema",
  "optim.name",
  "weights.backbone",
  "weights.start_from",
  "run.seed",
  "run.batch_size",
)
FREE = (
  "data.workers",
  "data.read_timeout",
  "discriminator.lr",
  "discriminator.r1",
)


def from_newest(
  config: Config, state: TrainState, checkpoints: Checkpoints
) -> TrainState:
  """The state of the newest checkpoint, or `state` if there is none.

  Damaged ones are said, and set aside once an older one is found to be whole.

  Raises:
    ConfigError: the config has changed where it may not, the checkpoints do
      not fit it, or none of them is whole.
  """
  damaged: list[int] = []
  for step in checkpoints.steps():
    try:
      changes = _allowed_changes(config, checkpoints.config(step), step)
      restored = checkpoints.restore(step, state)
    except Damaged as error:
      folder = checkpoints.folder / str(step)
      _warn(f"checkpoint {folder} is damaged ({error})")
      damaged.append(step)
      continue
    for other in damaged:
      _warn(f"the damaged checkpoint is now {checkpoints.set_aside(other)}")
    listed = f" with a changed config: {'; '.join(changes)}" if changes else ""
    print(f"continuing from the checkpoint of step {step}{listed}", flush=True)
    return restored
  if damaged:
    raise ConfigError(
      f"no checkpoint in {checkpoints.folder} is whole (see above); remove "
      "that folder to begin anew, or use another --workdir."
    )
  return state


def _allowed_changes(config: Config, old: Config, step: int) -> list[str]:
  """The fields that have changed, as text, if all of them may."""
  if step > config.run.steps:
    raise ConfigError(
      f"the run in this folder is at step {step} already; set run.steps to "
      f"{step} or more, or use another --workdir."
    )
  changes = {
    name: f"{name}: {before} -> {now}"
    for name, (now, before) in config.changes(old).items()
  }
  fixed = [
    text
    for name, text in changes.items()
    if name.startswith(FIXED) and name not in FREE
  ]
  if fixed:
    raise ConfigError(
      f"the run in this folder was made with another config "
      f"({'; '.join(fixed)}); use the same values, or another --workdir."
    )
  return list(changes.values())


def check_room(state: TrainState, checkpoints: Checkpoints) -> None:
  """Refuses a disk without room for one more checkpoint.

  Raises:
    ConfigError: says how much there is, and how much it takes.
  """
  needed = sum(x.nbytes for x in jax.tree.leaves(state))
  free = shutil.disk_usage(checkpoints.folder).free
  if free < needed:
    raise ConfigError(
      f"{checkpoints.folder}: there are {free / 1e9:.2f} GB free, and a "
      f"checkpoint takes up to {needed / 1e9:.2f} GB; make room, or use "
      "another --workdir."
    )


def _warn(text: str) -> None:
  print(f"warning: {text}", file=sys.stderr, flush=True)
