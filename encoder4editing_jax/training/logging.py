"""Numbers of a run: a progress bar or plain lines, metrics.jsonl, boards.

Only the first process writes. What is kept has the names that the originals
gave it (`PUBLISHED`), in the groups `train` and `test`.
"""

import contextlib
import datetime
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from encoder4editing_jax.files import replace_text
from encoder4editing_jax.training.boards import Board

METRICS = "metrics.jsonl"

# Our names of losses, and the originals'.
PUBLISHED = {
  "l2": "loss_l2",
  "lpips": "loss_lpips",
  "identity": "loss_id",
  "moco": "loss_moco",
  "improvement": "id_improve",
  "l2_crop": "loss_l2_crop",
  "lpips_crop": "loss_lpips_crop",
  "w_norm": "loss_w_norm",
  "delta": "total_delta_loss",
  "adversarial": "encoder_discriminator_loss",
  "discriminator_real": "d_real_loss",
  "discriminator_fake": "d_fake_loss",
  "r1": "discriminator_r1_loss",
}


class Logger:
  """Shows and keeps metrics.

  Args:
    workdir: gets metrics.jsonl.
    first_step: where the run (re)starts; older entries of metrics.jsonl that
      lie beyond it belong to a run that was cut off, and are dropped.
    steps: where it ends.
    batch_size: for the rate in images per second.
    log_every: steps between two entries.
    boards: where else entries go; they are closed with this.
  """

  def __init__(
    self,
    workdir: str | Path,
    *,
    first_step: int,
    steps: int,
    batch_size: int,
    log_every: int,
    boards: Sequence[Board] = (),
  ):
    self.steps = steps
    self.batch_size = batch_size
    self.log_every = log_every
    self.active = jax.process_index() == 0
    self._paused = 0.0
    self._rate_from = (first_step, self.clock())
    self._bar: Any = None
    self._boards = boards
    self._failed: set[str] = set()
    if not self.active:
      return
    self._path = Path(workdir, METRICS)
    with self.tried(METRICS):
      _drop_from(self._path, first_step)
    if _is_terminal():
      from tqdm import tqdm

      self._bar = tqdm(
        total=steps, initial=first_step, unit="step", dynamic_ncols=True
      )

  def clock(self) -> float:
    """Seconds, without those of pauses."""
    return time.perf_counter() - self._paused

  def step(
    self, step: int, metrics: dict[str, Any], at: float | None = None
  ) -> None:
    """One training step is done; `metrics` are arrays that are ready soon.

    Args:
      step: its number, from 1.
      metrics: its numbers.
      at: what `clock` said when it was given to the devices; the steps between
        two such times are what the rate counts. Now, if None.
    """
    if not self.active:
      return
    if self._bar is not None:
      self._bar.update(1)
    if step % self.log_every and step != self.steps:
      return
    values = {name: float(value) for name, value in metrics.items()}
    values["images_per_second"] = self._rate(
      step, self.clock() if at is None else at
    )
    self.write(step, values, "train")
    text = " ".join(
      f"{name} {values[name]:.4g}"
      for name in ("loss", "l2", "stage", "images_per_second")
      if name in values
    )
    if self._bar is not None:
      self._bar.set_postfix_str(text.replace("images_per_second", "img/s"))
    else:
      images = (self.steps - step) * self.batch_size
      seconds = round(images / values["images_per_second"])
      left = datetime.timedelta(seconds=seconds)
      print(f"step {step}/{self.steps} {text} left {left}", flush=True)

  def write(self, step: int, values: dict[str, float], group: str) -> None:
    """Keeps numbers, as GROUP/NAME, without showing them."""
    if not self.active:
      return
    if {"discriminator_real", "discriminator_fake"} <= set(values):
      both = values["discriminator_real"] + values["discriminator_fake"]
      values = values | {"discriminator_loss": both}
    values = {
      f"{group}/{PUBLISHED.get(name, name)}": value
      for name, value in values.items()
    }
    # After a failure, half a line may lie there.
    line = "\n" * (METRICS in self._failed)
    line += json.dumps({"step": step} | spelled(values)) + "\n"
    with self.tried(METRICS), self._path.open("a") as file:
      file.write(line)
    for board in self._boards:
      with self.tried(type(board).__name__):
        board.scalars(step, values)

  def picture(
    self, step: int, name: str, pixels: UInt8[np.ndarray, "h w 3"]
  ) -> None:
    """Shows a picture on the boards."""
    if not self.active:
      return
    for board in self._boards:
      with self.tried(type(board).__name__):
        board.picture(step, name, pixels)

  @contextlib.contextmanager
  def tried(self, what: str) -> Iterator[None]:
    """What cannot be written inside is a warning, the first time of its name:
    training is worth more."""
    try:
      yield
    except OSError as error:
      if what not in self._failed:
        self.say(
          f"warning: {what} cannot be written ({error.strerror or error}); "
          "the run goes on without it"
        )
      self._failed.add(what)

  def say(self, text: str) -> None:
    """Prints a line without breaking the progress bar."""
    if self._bar is not None:
      self._bar.write(text)
    elif self.active:
      print(text, flush=True)

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """What happens inside does not count in the rate of images per second."""
    began = time.perf_counter()
    yield
    self._paused += time.perf_counter() - began

  def close(self) -> None:
    """Closes the files and the bar."""
    if not self.active:
      return
    if self._bar is not None:
      self._bar.close()
    for board in self._boards:
      with self.tried(type(board).__name__):
        board.close()

  def _rate(self, step: int, at: float) -> float:
    since, then = self._rate_from
    self._rate_from = (step, at)
    return (step - since) * self.batch_size / max(at - then, 1e-9)


def _is_terminal() -> bool:
  """Whether a bar can be seen: some terminals in containers have no size."""
  try:
    size = os.get_terminal_size(sys.stderr.fileno())
    return sys.stderr.isatty() and min(size) > 0
  except OSError:
    return False


def spelled(values: dict[str, Any]) -> dict[str, Any]:
  """Values fit for JSON, which has no NaN or infinity: they become texts."""
  return {
    name: str(v) if isinstance(v, float) and not math.isfinite(v) else v
    for name, v in values.items()
  }


def _drop_from(path: Path, step: int) -> None:
  """Removes the entries after `step`, and a last line that was cut off."""
  if not path.exists():
    return
  kept = []
  for line in path.read_text(errors="replace").splitlines():
    try:
      if json.loads(line)["step"] <= step:
        kept.append(line + "\n")
    except (ValueError, KeyError, TypeError):
      continue
  replace_text(path, "".join(kept))
