"""Picture grids with labels, by Pillow."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from encoder4editing_jax import files

MARGIN = 4


def to_bytes(images: Float[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "..."]:
  """[-1, 1] to bytes, clipped and rounded."""
  scaled = (np.asarray(images) + 1) * 127.5
  return np.clip(np.round(scaled), 0, 255).astype(np.uint8)


def save_grid(
  path: str | Path,
  columns: dict[str, np.ndarray],
  *,
  least_side: int = 128,
) -> None:
  """Writes one row per example and one labelled column per entry.

  Args:
    path: the picture file.
    columns: label to images `[b h w 3]` in [-1, 1].
    least_side: smaller images are enlarged to this height.
  """
  first = next(iter(columns.values()))
  n, h, w = first.shape[:3]
  scale = max(1, -(-least_side // h))
  h, w = h * scale, w * scale
  font = ImageFont.load_default(size=max(12, h // 9))
  top = 2 * MARGIN + int(font.size * 1.3)
  size = (
    MARGIN + (w + MARGIN) * len(columns),
    top + (h + MARGIN) * n,
  )
  sheet = Image.new("RGB", size, "white")
  draw = ImageDraw.Draw(sheet)
  for column, (label, images) in enumerate(columns.items()):
    left = MARGIN + (w + MARGIN) * column
    draw.text(
      (left + w // 2, top // 2), label, fill="black", font=font, anchor="mm"
    )
    for row, image in enumerate(to_bytes(images)):
      tile = Image.fromarray(image).resize((w, h), Image.Resampling.BICUBIC)
      sheet.paste(tile, (left, top + (h + MARGIN) * row))
  with files.replacing(path) as unfinished:
    sheet.save(unfinished)
