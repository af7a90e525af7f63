"""Picture grids with labels, by Pillow."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from encoder4editing_jax import files
from encoder4editing_jax.data.tasks import LABEL_COLOURS, Task

MARGIN = 4


def to_bytes(
  images: Float[np.ndarray, "b h w 3"], *, truncate: bool = False
) -> UInt8[np.ndarray, "b h w 3"]:
  """[-1, 1] to bytes, clipped and rounded.

  `truncate` cuts to whole numbers instead, as the originals do: for numbers
  that are to be compared with theirs.
  """
  scaled = np.clip((np.asarray(images) + 1) / 2, 0, 1) * 255
  return (scaled if truncate else np.round(scaled)).astype(np.uint8)


def show_source(
  source: UInt8[np.ndarray, "b h w c"], task: Task
) -> Float[np.ndarray, "b h w 3"]:
  """A picture in [-1, 1] of what an encoder is shown.

  Classes are coloured; there are 19 colours, then they begin again.
  """
  if task.name == "segmentation":
    colours = np.array(LABEL_COLOURS, np.uint8)
    source = colours[source[..., 0] % len(colours)]
  pixels = np.broadcast_to(source, (*source.shape[:3], 3))
  return pixels.astype(np.float32) / 127.5 - 1


def save_grid(
  path: str | Path,
  columns: dict[str, np.ndarray],
  captions: Sequence[str] = (),
  *,
  least_side: int = 128,
) -> None:
  """Writes `grid` to a picture file."""
  sheet = grid(columns, captions, least_side=least_side)
  with files.replacing(path) as unfinished:
    sheet.save(unfinished)


def grid(
  columns: dict[str, np.ndarray],
  captions: Sequence[str] = (),
  *,
  least_side: int = 128,
) -> Image.Image:
  """One row per example and one labelled column per entry.

  Args:
    columns: label to images `[b h w 3]` in [-1, 1].
    captions: a line above each row; none if empty.
    least_side: smaller images are enlarged to this height.
  """
  first = next(iter(columns.values()))
  n, h, w = first.shape[:3]
  scale = max(1, -(-least_side // h))
  h, w = h * scale, w * scale
  font = ImageFont.load_default(size=max(12, h // 9))
  line = int(font.size * 1.3)
  top, above = 2 * MARGIN + line, line if captions else 0
  row_height = h + MARGIN + above
  size = MARGIN + (w + MARGIN) * len(columns), top + row_height * n
  sheet = Image.new("RGB", size, "white")
  draw = ImageDraw.Draw(sheet)
  for column, (label, images) in enumerate(columns.items()):
    left = MARGIN + (w + MARGIN) * column
    draw.text(
      (left + w // 2, top // 2), label, fill="black", font=font, anchor="mm"
    )
    for row, image in enumerate(to_bytes(images)):
      tile = Image.fromarray(image).resize((w, h), Image.Resampling.BICUBIC)
      sheet.paste(tile, (left, top + row_height * row + above))
  for row, text in enumerate(captions):
    place = MARGIN, top + row_height * row + above // 2
    draw.text(place, text, fill="black", font=font, anchor="lm")
  return sheet


def keep(
  folder: str | Path,
  step: int,
  sheet: Image.Image,
  *,
  newest: int,
  best: int | None = None,
) -> None:
  """Writes STEP.jpg, and removes older ones.

  Those of later steps go too: the run was taken up before them.

  Args:
    folder: made if need be.
    step: of the run.
    sheet: what to write.
    newest: number of pictures of the highest steps that stay; 0 for none.
    best: step whose picture stays besides.
  """
  folder = Path(folder)
  if not newest:
    return
  folder.mkdir(exist_ok=True)
  with files.replacing(folder / f"{step}.jpg") as unfinished:
    sheet.save(unfinished, quality=90)
  there = {int(p.stem): p for p in folder.glob("*.jpg") if p.stem.isdigit()}
  others = sorted(there.keys() - {best})
  late = [k for k in others if k > step]
  for old in [*others[: len(others) - len(late)][:-newest], *late]:
    there[old].unlink(missing_ok=True)
