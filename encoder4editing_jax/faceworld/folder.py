"""Faceworld as a folder of pictures, like any other dataset."""

import json
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from encoder4editing_jax.data.tasks import LABEL_COLOURS
from encoder4editing_jax.faceworld.drawings import (
  render_contours,
  render_labels,
)
from encoder4editing_jax.faceworld.renderer import (
  ATTRIBUTES,
  attributes,
  codes,
  in_chunks,
  sample,
)

QUICK = 1  # of zlib: a fifth larger, in less than half the time


def write_images(
  folder: str | Path, n: int, seed: int = 0, size: int = 64
) -> list[Path]:
  """Writes `n` rendered faces and what they show.

  The pictures are `face_00000.png`, ...; `attributes.json` holds, by file
  name, the value in [-1, 1] of every attribute. The same seed writes the same
  bytes, and a larger `n` keeps the first pictures.

  Returns:
    The paths of the pictures, in order.
  """
  folder = Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  images, truth, _ = sample(seed, n, size)
  bytes_ = np.asarray(images * 127.5 + 128).clip(0, 255).astype(np.uint8)
  paths = [folder / f"face_{i:05d}.png" for i in range(n)]
  for path, pixels in zip(paths, bytes_, strict=True):
    Image.fromarray(pixels).save(path, compress_level=QUICK)
  table = {
    path.name: {
      name: round(float(value), 6)
      for name, value in zip(ATTRIBUTES, row, strict=True)
    }
    for path, row in zip(paths, np.asarray(truth), strict=True)
  }
  text = json.dumps(table, indent=1)
  (folder / "attributes.json").write_text(text + "\n")
  return paths


SOURCES = {"segmentation": render_labels, "sketch": render_contours}


def write_sources(
  folder: str | Path,
  task: str,
  n: int,
  seed: int = 0,
  size: int = 64,
) -> list[Path]:
  """Writes what the faces of `write_images` are to be painted from.

  The files have the names that `write_images` gives with the same seed:
  palette PNG files of class ids (see `LABELS`), or line drawings.

  Returns:
    The paths of the files, in order.

  Raises:
    ValueError: another task than segmentation and sketch.
  """
  if task not in SOURCES:
    raise ValueError(f"no sources for {task!r}; use {', '.join(SOURCES)}.")
  folder = Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  truth = in_chunks(attributes, codes(seed, n))
  drawn = np.asarray(in_chunks(partial(SOURCES[task], size=size), truth))
  paths = [folder / f"face_{i:05d}.png" for i in range(n)]
  for path, pixels in zip(paths, drawn, strict=True):
    image = Image.fromarray(pixels)
    if task == "segmentation":  # to viewers the ids are colours
      image.putpalette(bytes(value for c in LABEL_COLOURS for value in c))
    image.save(path, compress_level=QUICK)
  return paths
