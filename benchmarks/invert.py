"""Whether inverting many files takes as much memory at the end as before.

    python benchmarks/invert.py [--images 1000] [--batch 32] [--out FILE.json]

Draws faces as PNG files, inverts them with `e4e invert --demo` in a process of
its own, and looks at its memory five times a second. Prints a table in
Markdown: means while the first and the last quarter of the pictures is
written, and what the command says of its speed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from steady import look

from encoder4editing_jax import faceworld

ROOT = Path(__file__).parents[1]
START = "import sys; from encoder4editing_jax.cli import main; sys.exit(main())"
EVERY = 0.2  # seconds


def invert(
  photos: Path, out: Path, batch: int
) -> tuple[list[tuple[int, float]], dict[str, Any]]:
  """(pictures written, MB) as it was seen; and what the command says."""
  words = ["invert", str(photos), "--demo", "--out", str(out), "--json"]
  words += ["--batch", str(batch)]
  seen, told = [], out.with_suffix(".json")
  with (
    told.open("wb") as file,
    subprocess.Popen(
      [sys.executable, "-c", START, *words], cwd=ROOT, stdout=file
    ) as process,
  ):
    while process.poll() is None:
      if found := look(process.pid):
        seen.append((len(list(out.glob("[!.]*.png"))), found["memory MB"]))
      time.sleep(EVERY)
  if process.returncode:
    raise SystemExit(f"the command ended with status {process.returncode}")
  return seen, json.loads(told.read_text())


def mean(values: list[float]) -> float:
  """Of numbers; NaN of none."""
  return sum(values) / len(values) if values else float("nan")


def measure(images: int, batch: int) -> dict[str, Any]:
  """All figures."""
  with tempfile.TemporaryDirectory() as folder:
    photos, out = Path(folder, "photos"), Path(folder, "out")
    faceworld.write_images(photos, images)
    began = time.perf_counter()
    seen, told = invert(photos, out, batch)
    seconds = time.perf_counter() - began
    codes = (out / "latents.npz").stat().st_size
  first = [mb for n, mb in seen if 0 < n <= images / 4]
  last = [mb for n, mb in seen if n > images * 3 / 4]
  return {
    "images": images,
    "batch": batch,
    "images_per_second": told["images_per_second"],
    "compiling_seconds": told["compiling_seconds"],
    "seconds": round(seconds, 1),
    "first_quarter_mb": round(mean(first)),
    "last_quarter_mb": round(mean(last)),
    "peak_mb": round(max(mb for _, mb in seen)),
    "latents_mb": round(codes / 1e6, 1),
    "failed": len(told["failed"]),
  }


def main() -> None:
  """The command."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--images", type=int, default=1000)
  parser.add_argument("--batch", type=int, default=32)
  parser.add_argument("--out", type=Path)
  asked = parser.parse_args()
  found = measure(asked.images, asked.batch)
  columns = {
    "images / s": "images_per_second",
    "compiling s": "compiling_seconds",
    "whole s": "seconds",
    "first quarter MB": "first_quarter_mb",
    "last quarter MB": "last_quarter_mb",
    "peak MB": "peak_mb",
  }
  print("| " + " | ".join(columns) + " |")
  print("|---" * len(columns) + "|")
  print("| " + " | ".join(str(found[key]) for key in columns.values()) + " |")
  if asked.out:
    asked.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
  main()
