"""Numbers of a run: a progress bar or plain lines, metrics.jsonl, TensorBoard.

Only the first process writes.
"""

import contextlib
import datetime
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from encoder4editing_jax.files import replace_text


class Logger:
  """Shows and keeps metrics.

  Args:
    workdir: gets metrics.jsonl and the TensorBoard files (tensorboard/).
    first_step: where the run (re)starts; older entries of metrics.jsonl that
      lie beyond it belong to a run that was cut off, and are dropped.
    steps: where it ends.
    batch_size: for the rate in images per second.
    log_every: steps between two entries.
  """

  def __init__(
    self,
    workdir: str | Path,
    *,
    first_step: int,
    steps: int,
    batch_size: int,
    log_every: int,
  ):
    self.steps = steps
    self.batch_size = batch_size
    self.log_every = log_every
    self.active = jax.process_index() == 0
    self._rate_from = (first_step, time.perf_counter())
    self._bar: Any = None
    if not self.active:
      return
    from tensorboardX import SummaryWriter

    self._path = Path(workdir, "metrics.jsonl")
    _drop_from(self._path, first_step)
    self._board = SummaryWriter(
      str(Path(workdir, "tensorboard")), purge_step=first_step + 1
    )
    if sys.stderr.isatty():
      from tqdm import tqdm

      self._bar = tqdm(
        total=steps, initial=first_step, unit="step", dynamic_ncols=True
      )

  def step(self, step: int, metrics: dict[str, Any]) -> None:
    """One training step is done; `metrics` are arrays that are ready soon."""
    if not self.active:
      return
    if self._bar is not None:
      self._bar.update(1)
    if step % self.log_every and step != self.steps:
      return
    values = {name: float(value) for name, value in metrics.items()}
    values["images_per_second"] = self._rate(step)
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
    values = {f"{group}/{name}": value for name, value in values.items()}
    for name, value in values.items():
      self._board.add_scalar(name, value, step)
    with self._path.open("a") as file:
      file.write(json.dumps({"step": step} | spelled(values)) + "\n")

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
    since, then = self._rate_from
    self._rate_from = (since, then + time.perf_counter() - began)

  def close(self) -> None:
    """Closes the files and the bar."""
    if not self.active:
      return
    if self._bar is not None:
      self._bar.close()
    self._board.close()

  def _rate(self, step: int) -> float:
    since, then = self._rate_from
    now = time.perf_counter()
    self._rate_from = (step, now)
    return (step - since) * self.batch_size / max(now - then, 1e-9)


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
  for line in path.read_text().splitlines():
    try:
      if json.loads(line)["step"] <= step:
        kept.append(line + "\n")
    except (ValueError, KeyError, TypeError):
      continue
  replace_text(path, "".join(kept))
