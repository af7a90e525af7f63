"""How far work is, on a terminal; and how fast it was."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_COMPILING = "/jax/core/compile/"  # tracing, lowering and building


class Pace:
  """A bar on a terminal, and pictures per second without compiling.

  A context manager: time runs inside of its block.

  Args:
    total: pictures that there are.
    quiet: no bar on a terminal either.
    unit: another name for them.
  """

  def __init__(self, total: int, quiet: bool = False, unit: str = "image"):
    from tqdm import tqdm

    self.done = 0
    self.seconds = 0.0
    self._unit = unit
    self._compiling: list[tuple[float, float]] = []
    hidden = quiet or not sys.stderr.isatty()
    self._bar: Any = tqdm(
      total=total, unit=unit, disable=hidden, dynamic_ncols=True
    )

  def __enter__(self) -> "Pace":
    import jax

    self._began = time.perf_counter()
    jax.monitoring.register_event_duration_secs_listener(self._hear)
    return self

  def __exit__(self, *error: object) -> None:
    import jax

    with contextlib.suppress(AttributeError):  # older versions go on to listen
      jax.monitoring.unregister_event_duration_listener(self._hear)
    self.seconds = time.perf_counter() - self._began
    self._bar.close()

  def _hear(self, event: str, seconds: float, **_: Any) -> None:
    """Notes when something was compiled; a part of it may be noted before."""
    if event.startswith(_COMPILING) and not self.seconds:
      end = time.perf_counter()
      begin = end - seconds
      apart = [span for span in self._compiling if span[1] <= begin]
      self._compiling = [*apart, (begin, end)]

  def add(self, done: int, left_out: int = 0) -> None:
    """So many more are done, or will never be."""
    self.done += done
    self._bar.update(done + left_out)

  def over(
    self, parts: Iterable[Any], size: Callable[[Any], int]
  ) -> Iterator[Any]:
    """The same parts, each counted once it was used."""
    for part in parts:
      yield part
      self.add(size(part))

  def figures(self) -> dict[str, float]:
    """`images_per_second`, and the seconds of compiling before that."""
    compiling = sum(end - begin for begin, end in self._compiling)
    speed = self.done / max(self.seconds - compiling, 1e-9)
    return {
      f"{self._unit}s_per_second": float(f"{speed:.4g}"),
      "compiling_seconds": round(compiling, 2),
    }

  def __str__(self) -> str:
    speed, compiling = self.figures().values()
    return f"{speed:g} {self._unit}s/s after {compiling:.1f} s of compiling"
