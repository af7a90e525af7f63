"""The toy task cards, trained to their end: a table and a strip of each.

    python benchmarks/tasks.py [--folder runs/tasks] [CARD ...]

Runs that are finished are read, so the command goes on where it was cut off.
Fills the table of docs/tasks.md and writes docs/tasks/CARD.jpg, the first rows
of each run's inversions.png.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import jax
from PIL import Image

ROOT = Path(__file__).parents[1]
CARDS = (
  "toy_psp",
  "toy_restyle",
  "toy_segmentation",
  "toy_sketch",
  "toy_super_resolution",
  "toy_inpainting",
)
ROWS, ROW, HEADING = 4, 132, 26  # of inversions.png, in pixels
BEGIN, END = "<!-- table -->\n", "<!-- /table -->"
COLUMNS = {
  "step": ("steps", "d"),
  "seconds": ("seconds", ".0f"),
  "psnr": ("PSNR dB", ".2f"),
  "psnr_mean_image": ("mean image dB", ".2f"),
  "smile_plus": ("smile +", ".2f"),
  "smile_reconstruction": ("as it is", ".2f"),
  "smile_minus": ("smile -", ".2f"),
}


def train(card: str, folder: Path) -> Path:
  """The folder of a card's run, which has ended."""
  workdir = folder / card
  if not (workdir / "eval.json").exists():
    command = [sys.executable, str(ROOT / "train.py")]
    command += ["--config", str(ROOT / "configs" / f"{card}.py")]
    subprocess.run([*command, "--workdir", str(workdir)], check=True)
  return workdir


def save_strip(workdir: Path, card: str) -> None:
  """The first rows of the picture that a run ends with."""
  sheet = Image.open(workdir / "inversions.png").convert("RGB")
  strip = sheet.crop((0, 0, sheet.width, HEADING + ROWS * ROW))
  strip.save(ROOT / "docs" / "tasks" / f"{card}.jpg", quality=80)


def table(folder: Path) -> str:
  """One line per card whose run has ended, in Markdown."""
  titles = ["card", *(title for title, _ in COLUMNS.values())]
  lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
  for card in CARDS:
    path = folder / card / "eval.json"
    if path.exists():
      found = json.loads(path.read_text())
      cells = [format(found[name], how) for name, (_, how) in COLUMNS.items()]
      lines.append("| " + " | ".join([f"`{card}`", *cells]) + " |")
  versions = f"Python {platform.python_version()}, jax {jax.__version__}"
  machine = f"{os.cpu_count()} cores ({platform.machine()})"
  return "\n".join(lines) + f"\n\n{versions}, {machine}.\n"


def main() -> None:
  """Trains what is not trained yet, and writes the page."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("cards", nargs="*", default=CARDS, metavar="CARD")
  parser.add_argument("--folder", type=Path, default=Path("runs/tasks"))
  options = parser.parse_args()
  if unknown := sorted(set(options.cards) - set(CARDS)):
    parser.error(f"no card {unknown[0]}; there are {', '.join(CARDS)}")
  for card in options.cards:
    save_strip(train(card, options.folder), card)
  page = ROOT / "docs" / "tasks.md"
  before, rest = page.read_text().split(BEGIN)
  after = rest.split(END)[1]
  page.write_text(before + BEGIN + table(options.folder) + END + after)


if __name__ == "__main__":
  main()
