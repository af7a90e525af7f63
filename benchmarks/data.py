"""Speed and memory of `e4e data build` and of the loader.

    python benchmarks/data.py [--images 3000] [--folder DIR]

Draws 256 faces of faceworld at 256 pixels, and the first 32 of them at 1024;
writes `--images` JPEG files of them (quality 92; every tenth of 1024 pixels),
each with a comment of its own, so that no two are the same. Builds data sets of
256 pixels from them, one process, and reads batches of 64 with mirroring from
the files of 256 pixels and from the data sets, one decoding thread. Every row
is measured in a process of its own; memory is its resident set, at a quarter of
the shards and at its largest. Prints rows of Markdown.
"""

import argparse
import io
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FACES, LARGE, EVERY = 256, 32, 10
BATCH, BATCHES = 64, 60


def encoded(seed: int, n: int, size: int) -> list[bytes]:
  """Drawn faces as JPEG files."""
  import numpy as np
  from PIL import Image

  from encoder4editing_jax import faceworld

  faces, _, _ = faceworld.sample(seed, n, size)
  pixels = np.asarray(faces * 127.5 + 128).clip(0, 255).astype(np.uint8)
  found = []
  for face in pixels:
    buffer = io.BytesIO()
    Image.fromarray(face).save(buffer, "JPEG", quality=92)
    found.append(buffer.getvalue())
  return found


def write(folder: Path, n: int) -> None:
  """The folders `all` and, of 256 pixels alone, `small`."""
  small, large = encoded(0, FACES, 256), encoded(0, LARGE, 1024)
  for name in ("all", "small"):
    (folder / name).mkdir(parents=True)
  for i in range(n):
    text = b"%010d" % i  # a JPEG comment, after the first two bytes
    comment = b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
    part = small[i % FACES] if i % EVERY else large[i // EVERY % LARGE]
    path = folder / "all" / f"{i:06d}.jpg"
    path.write_bytes(part[:2] + comment + part[2:])
    if i % EVERY:
      (folder / "small" / path.name).symlink_to(path)


def resident() -> int:
  """Bytes of this process in memory."""
  for line in Path("/proc/self/status").read_text().splitlines():
    if line.startswith("VmRSS"):
      return int(line.split()[1]) << 10
  raise OSError("/proc/self/status does not tell VmRSS")


def measure_build(folder: Path, kind: str) -> dict[str, float]:
  """One build, in this process."""
  from encoder4editing_jax.data.building import build
  from encoder4editing_jax.data.shards import Recipe

  sizes: list[int] = []
  recipe = Recipe(str(folder / "all"), format=kind)  # type: ignore[arg-type]
  wall, cpu = time.perf_counter(), time.process_time()
  made = build(recipe, folder / kind, say=lambda text: sizes.append(resident()))
  wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
  return {
    "images": made["images"],
    "per_cpu_s": made["images"] / cpu,
    "per_s": made["images"] / wall,
    "early_mb": sizes[len(sizes) // 4] / 1e6,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    "disk_mb": sum(s["bytes"] for s in made["shards"]) / 1e6,
  }


def measure_load(folder: Path, name: str) -> dict[str, float]:
  """Batches of one place, in this process."""
  from encoder4editing_jax.data.opening import open_source
  from encoder4editing_jax.data.pipeline import train_batches

  source = open_source(str(folder / name))
  options = {"size": (256, 256), "batch_size": BATCH, "seed": 0, "workers": 1}
  stream = train_batches(source, **options)  # type: ignore[arg-type]
  next(stream)
  wall, cpu = time.perf_counter(), time.process_time()
  for _ in itertools.islice(stream, BATCHES):
    pass
  wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
  n = BATCH * BATCHES
  return {"per_cpu_s": n / cpu, "per_s": n / wall}


def child(folder: Path, *words: str) -> dict[str, float]:
  """One measurement in a process of its own."""
  command = [sys.executable, __file__, "--folder", str(folder), "--one", *words]
  out = subprocess.run(command, check=True, capture_output=True, text=True)
  return json.loads(out.stdout)


def report(folder: Path, n: int) -> None:
  """Prints both tables."""
  child(folder, "write", str(n))
  print("| build | images | images / CPU-s | images / s | MB | early | peak |")
  print("|---|---|---|---|---|---|---|")
  for kind in ("png", "jpeg"):
    found = child(folder, "build", kind)
    print(
      f"| {kind} | {found['images']} | {found['per_cpu_s']:.0f} | "
      f"{found['per_s']:.0f} | {found['disk_mb']:.0f} | "
      f"{found['early_mb']:.0f} | {found['peak_mb']:.0f} |",
      flush=True,
    )
  print("\n| read | images / CPU-s | images / s |\n|---|---|---|")
  for name in ("small", "jpeg", "png"):
    found = child(folder, "load", name)
    told = "files" if name == "small" else f"data set, {name}"
    print(
      f"| {told} | {found['per_cpu_s']:.0f} | {found['per_s']:.0f} |",
      flush=True,
    )


def main() -> None:
  """The command."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--images", type=int, default=3000)
  parser.add_argument("--folder", type=Path, help="keep the files here")
  parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.one:
    task, word = options.one
    if task == "write":
      write(options.folder, int(word))
      print("{}")
      return
    measure = {"build": measure_build, "load": measure_load}[task]
    print(json.dumps(measure(options.folder, word)))
    return
  with tempfile.TemporaryDirectory() as temporary:
    report(options.folder or Path(temporary), options.images)


if __name__ == "__main__":
  main()
