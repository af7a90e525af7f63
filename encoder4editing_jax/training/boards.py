"""Where numbers and pictures of a run are watched: TensorBoard, W&B.

Each board takes scalars by name, and pictures as bytes `[h w 3]`.
"""

import importlib.util
import secrets
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from encoder4editing_jax.config import Config, ConfigError
from encoder4editing_jax.files import replace_text

RUN_ID = "wandb_id.txt"


@runtime_checkable
class Board(Protocol):
  """What a run writes to."""

  def scalars(self, step: int, values: dict[str, float]) -> None:
    """Shows numbers by name."""

  def picture(
    self, step: int, name: str, pixels: UInt8[np.ndarray, "h w 3"]
  ) -> None:
    """Shows a picture."""

  def close(self) -> None:
    """Writes what is left."""


class TensorBoard:
  """Event files, in workdir/tensorboard; entries beyond the start are hidden.

  Raises:
    OSError: the folder takes no files.
  """

  def __init__(self, workdir: Path, first_step: int):
    from tensorboardX import SummaryWriter

    self._writer = SummaryWriter(
      str(workdir / "tensorboard"), purge_step=first_step + 1
    )

  def scalars(self, step: int, values: dict[str, float]) -> None:
    """Shows numbers by name."""
    for name, value in values.items():
      self._writer.add_scalar(name, value, step)

  def picture(
    self, step: int, name: str, pixels: UInt8[np.ndarray, "h w 3"]
  ) -> None:
    """Shows a picture."""
    self._writer.add_image(name, pixels, step, dataformats="HWC")
    self._writer.flush()

  def close(self) -> None:
    """Writes what is left."""
    self._writer.close()


class WeightsAndBiases:
  """A run of wandb; the same one after a restart, by an id in the folder.

  WANDB_MODE=offline keeps everything in the folder.
  """

  def __init__(self, workdir: Path, project: str, settings: dict[str, Any]):
    import wandb

    path = workdir / RUN_ID
    if not path.exists():
      replace_text(path, secrets.token_hex(8) + "\n")
    self._wandb = wandb
    self._run = wandb.init(
      project=project,
      id=path.read_text().strip(),
      name=workdir.absolute().name,
      dir=str(workdir),
      config=settings,
      resume="allow",
    )
    # Their own counter only rises; a restart may begin before where it stands.
    self._run.define_metric("*", step_metric="step")

  def scalars(self, step: int, values: dict[str, float]) -> None:
    """Shows numbers by name."""
    self._run.log({"step": step} | values)

  def picture(
    self, step: int, name: str, pixels: UInt8[np.ndarray, "h w 3"]
  ) -> None:
    """Shows a picture."""
    self._run.log({"step": step, name: self._wandb.Image(pixels)})

  def close(self) -> None:
    """Writes what is left."""
    self._run.finish()


def check_boards(config: Config) -> None:
  """Raises ConfigError if a board is asked for that cannot be imported."""
  if config.run.wandb and importlib.util.find_spec("wandb") is None:
    raise ConfigError(
      "run.wandb is set, but wandb is not installed; pip install wandb, or "
      "leave it empty."
    )


def open_boards(config: Config, workdir: Path, first_step: int) -> list[Board]:
  """The boards of a run that begins or goes on after `first_step`."""
  boards: list[Board] = [TensorBoard(workdir, first_step)]
  if config.run.wandb:
    settings = config.to_dict()
    boards.append(WeightsAndBiases(workdir, config.run.wandb, settings))
  return boards
