"""Faceworld as a folder of pictures, like any other dataset."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from encoder4editing_jax.faceworld.renderer import ATTRIBUTES, sample


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
    Image.fromarray(pixels).save(path)
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
