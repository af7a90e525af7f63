"""What each slider of the drawn faces moves, and what it leaves alone.

    python benchmarks/edits.py [--faces 64]

Unseen drawn faces are inverted by the shipped encoder, their codes moved along
each direction, painted, and the attributes measured on the pictures
(`faceworld.measure`). Fills the table of docs/edits.md; ends with status 1 if
an attribute does not rise with its slider, or another is moved a quarter as
far.
"""

import argparse
import os
import platform
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from encoder4editing_jax import editing, faceworld, inference
from encoder4editing_jax.metrics.editability import rises

PAGE = Path(__file__).parents[1] / "docs" / "edits.md"
BEGIN, END = "<!-- table -->\n", "<!-- /table -->"
SEED = 2024  # of faces that neither encoder nor directions have seen
STRENGTHS = (-1.5, -0.75, 0.0, 0.75, 1.5)
MOST = 0.25  # of the effect that another attribute may move
# Attributes are even over [-1, 1]: one standard deviation of drawn faces.
DEVIATION = 1 / 3**0.5


class Row(NamedTuple):
  """What one slider does, in standard deviations.

  `own` are changes of the mean at each strength; `others` by name how far the
  mean of each other attribute goes from one end to the other, as a share of
  `own`; `apart` the same, picture by picture, of the one that moves most;
  `rising` the share of pictures whose attribute rises with every step.
  """

  name: str
  own: np.ndarray
  others: dict[str, float]
  apart: tuple[str, float]
  rising: float

  @property
  def worst(self) -> tuple[str, float]:
    """The attribute that is moved most beside its own."""
    name = max(self.others, key=lambda k: abs(self.others[k]))
    return name, self.others[name]

  @property
  def ok(self) -> bool:
    """Whether it rises, and moves no other by a quarter of that."""
    return bool((np.diff(self.own) > 0).all() and abs(self.worst[1]) < MOST)


def measured(
  n: int, names: tuple[str, ...] = faceworld.ATTRIBUTES
) -> dict[str, np.ndarray]:
  """Attributes `[s b k]` by direction, in standard deviations."""
  inverter = faceworld.load_inverter()
  faces = np.asarray(faceworld.sample(seed=SEED, n=n)[0])
  w_plus = jnp.asarray(inference.invert(inverter, faces, batch=16))
  directions = faceworld.load_directions()
  found = {}
  for name in names:
    series = []
    for strength in STRENGTHS:
      moved = editing.apply(w_plus, [(name, strength)], directions)
      painted = inference.paint(inverter.generator, moved, batch=16)
      series.append(faceworld.measure(jnp.asarray(painted)) / DEVIATION)
    found[name] = np.asarray(series)
  return found


def row(name: str, series: np.ndarray) -> Row:
  """What a slider has done to the attributes `[s b k]`."""
  names = faceworld.ATTRIBUTES
  k = names.index(name)
  mean = series.mean(1)
  whole = mean[-1] - mean[0]
  each = np.abs(series[-1] - series[0]).mean(0)
  others = [i for i in range(len(names)) if i != k]
  far = max(others, key=lambda i: each[i])
  return Row(
    name,
    mean[:, k] - mean[STRENGTHS.index(0.0), k],
    {names[i]: float(whole[i] / whole[k]) for i in others},
    (names[far], float(each[far] / each[k])),
    float(rises(jnp.asarray(series[:, :, k])).mean()),
  )


def table(rows: list[Row]) -> str:
  """The rows as Markdown."""
  ends = " | ".join(f"{s:+g}" if s else "0" for s in STRENGTHS)
  lines = [
    f"| slider | {ends} | most moved beside it | picture by picture | rise |",
    "|---|" + "--:|" * len(STRENGTHS) + "---|---|--:|",
  ]
  for found in rows:
    own = " | ".join(f"{x:+.2f}" for x in found.own)
    name, share = found.worst
    far, apart = found.apart
    lines.append(
      f"| {found.name} | {own} | {name} {share:+.2f} | {far} {apart:.2f} | "
      f"{100 * found.rising:.0f} % |"
    )
  return "\n".join(lines) + "\n"


def main() -> int:
  """Measures, prints and writes the table."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--faces", type=int, default=64)
  n = parser.parse_args().faces
  rows = [row(name, series) for name, series in measured(n).items()]
  text = table(rows)
  print(text)
  where = f"{n} faces; jax {jax.__version__}, Python "
  where += f"{platform.python_version()}, {os.cpu_count()} CPU cores\n\n"
  page = PAGE.read_text()
  head, rest = page.split(BEGIN)
  PAGE.write_text(head + BEGIN + where + text + END + rest.split(END)[1])
  wrong = [found.name for found in rows if not found.ok]
  print("all rise alone" if not wrong else f"not as claimed: {wrong}")
  return 1 if wrong else 0


if __name__ == "__main__":
  sys.exit(main())
