"""Where numbers and pictures of a run are watched: TensorBoard, W&B.

Each board takes scalars by name, and pictures as bytes `[h w 3]`.
"""

import contextlib
import os
import secrets
import socket
import time
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from encoder4editing_jax.config import Config, ConfigError
from encoder4editing_jax.files import replace_text

RUN_ID = "wandb_id.txt"


@runtime_checkable
class Board(Protocol):
  """What a run writes to; OSError is raised where it cannot be written."""

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

  Each call writes: the threads of tensorboardX's own writer let a run hang once
  the disk is full. After a failure the next call begins another file.
  """

  def __init__(self, workdir: Path, first_step: int):
    self._folder = workdir / "tensorboard"
    self._first_step = first_step
    self._path = self._folder
    self._file: Any = None
    self._files = 0

  def scalars(self, step: int, values: dict[str, float]) -> None:
    """Shows numbers by name."""
    from tensorboardX import summary

    shown = [summary.scalar(name, value) for name, value in values.items()]
    self._write(step, shown)

  def picture(
    self, step: int, name: str, pixels: UInt8[np.ndarray, "h w 3"]
  ) -> None:
    """Shows a picture."""
    from tensorboardX import summary

    self._write(step, [summary.image(name, pixels, dataformats="HWC")])

  def close(self) -> None:
    """Lets go of the file."""
    if self._file is not None:
      self._file.close()

  def _write(self, step: int, summaries: list[Any]) -> None:
    from tensorboardX.proto.event_pb2 import Event

    begun = self._file is None
    try:
      if begun:
        self._open()
      for found in summaries:
        self._record(Event(step=step, wall_time=time.time(), summary=found))
      self._file.flush()
    except OSError:
      self._leave(begun)
      raise

  def _record(self, event: Any) -> None:
    self._file.write(event.SerializeToString())

  def _open(self) -> None:
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.record_writer import RecordWriter

    now, place = time.time(), f"{socket.gethostname()}.{os.getpid()}"
    self._files += 1  # TensorBoard reads files in the order of their names
    name = f"events.out.tfevents.{int(now)}.{place}.{self._files:04}"
    self._path = self._folder / name
    self._folder.mkdir(exist_ok=True)
    self._file = RecordWriter(str(self._path))
    self._record(Event(wall_time=now, file_version="brain.Event:2"))
    if self._files == 1:
      start = SessionLog(status=SessionLog.START)
      hidden_from = self._first_step + 1
      self._record(Event(step=hidden_from, wall_time=now, session_log=start))

  def _leave(self, begun: bool) -> None:
    """Lets go of a file that takes no more; of one just begun wholly."""
    with contextlib.suppress(OSError):
      self.close()
    if begun:
      with contextlib.suppress(OSError):
        self._path.unlink()
      self._files -= 1
    self._file = None


class WeightsAndBiases:
  """A run of wandb; the same one after a restart, by an id in the folder.

  WANDB_MODE=offline keeps everything in the folder.

  Raises:
    ConfigError: wandb does not begin; says why.
  """

  def __init__(self, workdir: Path, project: str, settings: dict[str, Any]):
    import wandb

    path = workdir / RUN_ID
    if not path.exists():
      replace_text(path, secrets.token_hex(8) + "\n")
    self._wandb = wandb
    try:
      self._run = wandb.init(
        project=project,
        id=path.read_text().strip(),
        name=workdir.absolute().name,
        dir=str(workdir),
        config=settings,
        resume="allow",
      )
    except wandb.Error as error:
      raise ConfigError(
        f"run.wandb {project}: {_first_line(error)}; log in (wandb login), set "
        "WANDB_MODE=offline to keep it in the folder, or leave run.wandb empty."
      ) from error
    # Their own counter only rises; a restart may begin before where it stands.
    self._run.define_metric("*", step_metric="step")

  def scalars(self, step: int, values: dict[str, float]) -> None:
    """Shows numbers by name."""
    self._log({"step": step} | values)

  def picture(
    self, step: int, name: str, pixels: UInt8[np.ndarray, "h w 3"]
  ) -> None:
    """Shows a picture."""
    self._log({"step": step, name: self._wandb.Image(pixels)})

  def _log(self, values: dict[str, Any]) -> None:
    try:
      self._run.log(values)
    except self._wandb.Error as error:
      raise OSError(_first_line(error)) from error

  def close(self) -> None:
    """Writes what is left."""
    self._run.finish()


def _first_line(error: Exception) -> str:
  return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(
    "."
  )


def check_boards(config: Config) -> None:
  """Raises ConfigError if a board is asked for that cannot be imported."""
  if not config.run.wandb:
    return
  try:
    import wandb

    found = hasattr(wandb, "init")  # any folder wandb/ can be imported
  except ImportError:
    found = False
  if not found:
    raise ConfigError(
      "run.wandb is set, but wandb is not installed; pip install "
      '"encoder4editing_jax[wandb]", or leave run.wandb empty.'
    )


def open_boards(config: Config, workdir: Path, first_step: int) -> list[Board]:
  """The boards of a run that begins or goes on after `first_step`."""
  boards: list[Board] = [TensorBoard(workdir, first_step)]
  if config.run.wandb:
    settings = config.to_dict()
    boards.append(WeightsAndBiases(workdir, config.run.wandb, settings))
  return boards
