"""How fast pictures of 1024 pixels become batches of 256.

    python benchmarks/pipeline.py [--images 96] [--workers 1 2 4]

Writes drawn faces as JPEG files of 1024 pixels (quality 92) and prepares a data
set of 256 pixels from them. The first table is decoding alone, one thread,
ways in turn: all of the file, as the library does; at a quarter of the size by
Pillow's `draft` (the JPEG library leaves out frequencies; other pixels); the
same pictures stored with 256. The second is the loader with decoding threads:
images per second, and as often per second of processor time, which is what a
core gives. `benchmarks/data.py` measures files of 256 pixels.
"""

import io
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data
import timing

SIZE, LARGE, FACES, BATCH = 256, 1024, 16, 16


def ways(large: list[bytes], small: list[bytes]) -> dict[str, Callable]:
  """What decodes the k-th picture."""
  from PIL import Image

  from encoder4editing_jax.data import images

  size = SIZE, SIZE

  def draft(k: int) -> Any:
    picture = Image.open(io.BytesIO(large[k]))
    picture.draft("RGB", size)
    return images.fit(picture.convert("RGB"), size)

  return {
    f"JPEG of {LARGE}": lambda k: images.decode(large[k], size),
    f"JPEG of {LARGE}, draft": draft,
    f"JPEG of {SIZE}": lambda k: images.decode(small[k], size),
  }


def decoding(rounds: int) -> dict[str, list[float]]:
  """Images per second of processor time, for each way."""
  table = ways(*(data.encoded(0, FACES, size) for size in (LARGE, SIZE)))
  found: dict[str, list[float]] = {}
  for _ in range(rounds):
    for name, decode in table.items():
      began = time.process_time()
      for k in range(FACES):
        decode(k)
      rate = FACES / (time.process_time() - began)
      found.setdefault(name, []).append(rate)
  return found


def loading(place: Path, workers: int, batches: int) -> dict[str, float]:
  """Rates of the training loader."""
  from encoder4editing_jax.data.opening import open_source
  from encoder4editing_jax.data.pipeline import train_batches

  stream = train_batches(
    open_source(str(place)),
    size=(SIZE, SIZE),
    batch_size=BATCH,
    seed=0,
    workers=workers,
  )
  next(stream)
  wall, cpu = time.perf_counter(), time.process_time()
  for _ in itertools.islice(stream, batches):
    pass
  wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
  n = BATCH * batches
  return {"per_s": n / wall, "per_cpu_s": n / cpu}


def places(folder: Path, n: int) -> dict[str, Path]:
  """Files of 1024 pixels, and a data set of 256 made from them."""
  from encoder4editing_jax.data.building import build
  from encoder4editing_jax.data.shards import Recipe

  files = folder / "files"
  files.mkdir()
  faces = data.encoded(0, FACES, LARGE)
  for k in range(n):
    (files / f"{k:05d}.jpg").write_bytes(faces[k % FACES])
  recipe = Recipe(str(files), format="jpeg")
  build(recipe, folder / "prepared", say=lambda text: None)
  return {f"files of {LARGE}": files, "data set of 256": folder / "prepared"}


def main() -> None:
  """The command."""
  cores = os.cpu_count() or 1
  parser = timing.parser(__doc__)
  parser.add_argument("--images", type=int, default=96)
  parser.add_argument("--batches", type=int, default=6)
  usual = sorted({1, 2, cores})
  parser.add_argument("--workers", nargs="+", type=int, default=usual)
  options = parser.parse_args()
  head = timing.header("no device")
  timing.say(head)
  decoded = decoding(options.rounds)
  timing.heading("decoded", "images / CPU-s")
  for name, rates in decoded.items():
    timing.row(name, statistics.median(rates))
  print()
  timing.heading("loaded from", "threads", "images / s", "images / CPU-s")
  rows = []
  with tempfile.TemporaryDirectory() as temporary:
    for name, place in places(Path(temporary), options.images).items():
      for workers in options.workers:
        turns = [
          loading(place, workers, options.batches)
          for _ in range(options.rounds)
        ]
        middle = {
          key: statistics.median(turn[key] for turn in turns)
          for key in turns[0]
        }
        timing.row(name, workers, middle["per_s"], middle["per_cpu_s"])
        rows.append({"place": name, "workers": workers} | middle)
  timing.save(options.json, head, {"decoding": decoded, "loading": rows})


if __name__ == "__main__":
  main()
