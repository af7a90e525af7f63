"""Curves of runs as a picture, by matplotlib."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from encoder4editing_jax import files
from encoder4editing_jax.runs import Run, known_name, labels

ACROSS = 3  # panels in a row


def check_plotting() -> None:
  """Raises ImportError, with the fix, where matplotlib is not installed."""
  try:
    import matplotlib.figure  # noqa: F401
  except ImportError as error:
    raise ImportError(
      'plots need matplotlib; pip install "encoder4editing_jax[plot]".'
    ) from error


def plot(
  runs: Sequence[Run],
  path: str | os.PathLike[str],
  metrics: Sequence[str] = (),
  *,
  log: bool = False,
) -> list[str]:
  """Draws a panel for each metric, with a curve for each run.

  Args:
    runs: what is compared.
    path: the picture: .png, .svg or .pdf.
    metrics: names as in metrics.jsonl; train/ may be left out. All that any
      run has if empty.
    log: logarithmic values; those that are not above 0 are left out.

  Returns:
    The names that were drawn.

  Raises:
    ImportError: matplotlib is not installed.
    ValueError: a metric that no run has, an ending that cannot be drawn.
    OSError: the picture cannot be written.
  """
  check_plotting()
  from matplotlib.figure import Figure

  known = sorted({name for run in runs for name in run.metrics()})
  names = [known_name(name, known) for name in metrics] or known
  if not names:
    raise ValueError("none of the runs has an entry yet; nothing to draw.")
  across = min(ACROSS, len(names))
  down = math.ceil(len(names) / across)
  figure = Figure((5 * across, 3.2 * down), layout="constrained")
  panels: Any = figure.subplots(down, across, squeeze=False).flat
  for name, panel in zip(names, panels, strict=False):
    _draw(panel, name, runs, log)
  for unused in panels:
    unused.remove()
  if len(runs) > 1:
    figure.legend(
      *figure.axes[0].get_legend_handles_labels(),
      loc="outside upper center",
      ncols=4,
    )
  ending = Path(path).suffix.removeprefix(".")
  if ending not in figure.canvas.get_supported_filetypes():
    raise ValueError(f"{path}: name a .png, .svg or .pdf file.")
  with files.replacing(path) as unfinished:
    figure.savefig(unfinished, format=ending, dpi=120)
  return names


def _draw(panel: Any, name: str, runs: Sequence[Run], log: bool) -> None:
  """A metric of all runs on its panel."""
  for run, label in zip(runs, labels(runs), strict=True):
    steps, values = run.curve(name)
    marker = "." if len(steps) < 20 else ""
    panel.plot(steps, values, marker=marker, label=label, lw=1)
  positive = any(v > 0 for run in runs for v in run.curve(name)[1])
  scale = "log" if log and positive else "linear"
  panel.set(title=name, xlabel="step", yscale=scale)
  panel.grid(alpha=0.3)
