"""Runs the commands as a new user would, and writes down what they say.

    python benchmarks/transcript.py [--only WORD]

Each part of `PARTS` has a fresh folder in which its commands run in order. A
photo is a drawn face as a JPEG, `mixed` the folder of tests/mixed_folder.py.
Writes docs/transcript.md; with --only it prints the commands that have the
word in them, and those they need, and writes nothing. Ends with status 1 if a
command's exit status is not the one of the table.
"""

import argparse
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "transcript.md"
START = "import sys; from encoder4editing_jax.cli import main; sys.exit(main())"

# Exit status that is right, and the command. Each part is typed in one folder.
PARTS: dict[str, tuple[tuple[int, str], ...]] = {
  "One photo": (
    (0, "e4e --help"),
    (0, "e4e doctor"),
    (0, "e4e invert photo.jpg --demo --out inverted"),
    (2, "e4e invert photo.jpg --demo --out inverted"),
    (0, "e4e edit inverted/latents.npz --demo --edit smile=1.5 --out happy"),
    (2, "e4e edit inverted/latents.npz --demo --edit smil=1 --out typo"),
    (
      0,
      "e4e mix inverted/latents.npz --random 3 --layers fine --demo "
      "--out mixed_styles",
    ),
    (
      0,
      "e4e animate inverted/latents.npz --demo --edit smile=-2:2 "
      "--out smile.gif",
    ),
    (
      0,
      "e4e animate inverted/latents.npz --demo --wipe photo.jpg --frames 12 "
      "--out wipe.webp",
    ),
    (0, "e4e evaluate inverted photo.jpg --size 64 64 --out numbers"),
    (0, "e4e evaluate --demo --metrics l2,psnr,ssim,lec"),
    (0, "e4e info inverted/latents.npz"),
    (0, "e4e info photo.jpg"),
    (0, "e4e plan toy --target v5e:4x4 --no_compile"),
    (2, "e4e convert photo.jpg"),
    (2, "e4e invert phoot.jpg --demo --out other"),
    (2, "e4e invret photo.jpg --demo --out other"),
  ),
  "A photo of several faces": (
    (0, "e4e align --demo --out crops"),
    (0, "e4e invert crops --demo --out inverted"),
    (0, "e4e edit inverted/latents.npz --demo --edit smile=1.5 --out happy"),
    (0, "e4e unalign happy --sidecars crops --out photos_happy"),
    (
      0,
      "e4e align crops_photos --landmarks crops_photos/landmarks.json "
      "--out largest",
    ),
    (
      1,
      "e4e align crops_photos --landmarks crops_photos/landmarks.json "
      "--face 3 --out fourth",
    ),
    (2, "e4e align crops_photos --detector yunet.onnx --out found"),
  ),
  "Directions, and programs for serving": (
    (0, "e4e directions list --demo"),
    (
      0,
      "e4e directions find --demo --attributes smile age --out found.npz",
    ),
    (0, "e4e directions pca --demo --components 4 --out pca.safetensors"),
    (0, "e4e directions sefa --demo --components 4 --out sefa.safetensors"),
    (0, "e4e invert --demo --out inverted"),
    (
      0,
      "e4e edit inverted/latents.npz --demo --directions pca.safetensors "
      "--edit pc0+=2 --out moved",
    ),
    (0, "e4e export --demo --out served"),
    (0, "e4e info served"),
  ),
  "A folder of 100 mixed files": (
    (1, "e4e align mixed --landmarks landmarks.json --size 64 --out crops"),
    (0, "e4e unalign crops --out pasted"),
    (1, "e4e invert mixed --demo --out inverted"),
    (0, "e4e edit inverted/latents.npz --demo --edit smile=1.5 --out happy"),
    (0, "e4e mix inverted/latents.npz --random 2 --demo --out mixed_styles"),
    (
      0,
      "e4e animate inverted/latents.npz --demo --edit smile=-2:2 --frames 4 "
      "--out smile.gif",
    ),
    (
      0,
      "e4e animate inverted/latents.npz --demo --wipe mixed --frames 4 "
      "--out wipe.webp",
    ),
    (1, "e4e evaluate inverted mixed --size 64 64 --out numbers"),
    (0, "e4e data info mixed --sheet sheet.png"),
    (0, "e4e data build mixed --size 64 --out prepared"),
    (0, "e4e data info prepared --verify"),
    (0, "e4e info mixed"),
    (0, "e4e info prepared"),
  ),
  "Training on it": (
    (0, "e4e data build mixed --size 64 --out prepared --json"),
    (
      0,
      "e4e train --config toy --workdir run --data.train prepared "
      "--run.steps 4",
    ),
    (0, "e4e runs list run"),
    (0, "e4e info run"),
    (0, "e4e runs plot run --metrics loss --out curves.png"),
    (0, "e4e runs export run --out toy.safetensors"),
    (0, "e4e info toy.safetensors"),
    (0, "e4e invert photo.jpg --model toy.safetensors --out again"),
  ),
}
FIRST, LAST = 14, 6  # lines of an output that are kept
WIDTH = 240  # letters of a line that are kept


class Done(NamedTuple):
  """What a command has said, how it ended, and what it took."""

  output: str
  status: int
  seconds: float
  megabytes: float


def run(line: str, folder: Path) -> Done:
  """Runs a command as it is typed, in a folder."""
  words = shlex.split(line)[1:]
  environment = os.environ | {"COLUMNS": "80", "PYTHONPATH": str(ROOT)}
  began = time.perf_counter()
  process = subprocess.Popen(
    [sys.executable, "-c", START, *words],
    cwd=folder,
    env=environment,
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
  )
  assert process.stdout is not None
  output = process.stdout.read().decode(errors="replace")
  _, code, usage = os.wait4(process.pid, 0)
  process.returncode = os.waitstatus_to_exitcode(code)
  seconds = time.perf_counter() - began
  return Done(output, process.returncode, seconds, usage.ru_maxrss / 1024)


def trimmed(output: str, folder: Path) -> list[str]:
  """The first and the last lines; paths begin where the user is."""
  text = output.replace(f"{folder}/", "").replace(str(folder), ".")
  text = text.replace(str(ROOT), "encoder4editing_jax")
  lines = [line.split("\r")[-1].rstrip() for line in text.split("\n")]
  while lines and not lines[-1]:
    lines.pop()
  lines = [x if len(x) <= WIDTH else f"{x[:WIDTH]} ..." for x in lines]
  left_out = len(lines) - FIRST - LAST
  if left_out < 2:
    return lines
  return [*lines[:FIRST], f"... ({left_out} more lines)", *lines[-LAST:]]


def prepare(folder: Path) -> None:
  """The photo and the mixed folder, made by a process of its own.

  What a process holds counts for those it starts, until they have begun.
  """
  code = "import json; import mixed_folder as m; m.write('mixed'); "
  code += "json.dump(m.landmarks('mixed'), open('landmarks.json', 'w')); "
  code += "m.face(0).resize((640, 640)).save('photo.jpg', quality=95)"
  paths = os.pathsep.join((str(ROOT / "tests"), str(ROOT)))
  environment = os.environ | {"PYTHONPATH": paths}
  command = [sys.executable, "-c", code]
  subprocess.run(command, cwd=folder, env=environment, check=True)


def heading() -> str:
  """What this is, and where it was run."""
  jax = importlib.metadata.version("jax")
  return f"""# What the commands say

Written by `python benchmarks/transcript.py`, not by hand: each command as it
was typed, its output (both streams, the middle of long ones left out), and in
brackets its exit status, seconds and peak memory, start and compilation
included. Each part began in a new folder with `photo.jpg`, a drawn face of 640
x 640, and `mixed`, which `tests/mixed_folder.py` writes: 100 files, among them
progressive, CMYK and grey JPEG, palettes, 16 bits, transparency, all eight EXIF
orientations, GIF, WebP, BMP, TIFF, one pixel, one of 12,000 x 9,000, odd names,
links, and eleven that are no picture: truncated, empty, text, HTML, noise.

Python {platform.python_version()}, jax {jax}, {os.cpu_count()} CPU cores that
were not free.
"""


def main() -> int:
  """Runs what was asked for."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--only", default="")
  only = parser.parse_args().only
  page, wrong = [heading()], []
  for title, commands in PARTS.items():
    last = max((i for i, c in enumerate(commands) if only in c[1]), default=-1)
    page.append(f"## {title}\n")
    with tempfile.TemporaryDirectory() as name:
      folder = Path(name).resolve()
      prepare(folder)
      for expected, line in commands[: last + 1]:
        done = run(line, folder)
        if done.status != expected:
          wrong.append(f"{line}: {done.status} instead of {expected}")
        facts = f"exit {done.status}, {done.seconds:.0f} s"
        facts += f", {done.megabytes:.0f} MB"
        block = [f"$ {line}", *trimmed(done.output, folder), f"[{facts}]"]
        text = "\n".join(block)
        print(text, flush=True)
        page.append(f"```\n{text}\n```\n")
  if not only:
    PAGE.write_text("\n".join(page))
  print("\n".join(wrong), file=sys.stderr)
  return 1 if wrong else 0


if __name__ == "__main__":
  sys.exit(main())
