"""Scatter plots by Pillow: a few panels beside each other."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE, LEFT, TOP, BOTTOM, RIGHT = 300, 76, 40, 56, 16
TICKS, RADIUS = 4, 6
COLOURS = ("#777777", "#1f6fb4", "#d9541e", "#2b8a3e")


@dataclass(frozen=True)
class Panel:
  """Points `(label, x, y)`; those of a label have one colour in all panels."""

  x: str
  y: str
  points: list[tuple[str, float, float]]


def draw(path: Path, panels: list[Panel]) -> None:
  """Writes the panels, with a legend above them."""
  width = LEFT + SIDE + RIGHT
  sheet = Image.new("RGB", (width * len(panels), TOP + SIDE + BOTTOM), "white")
  pen = ImageDraw.Draw(sheet)
  labels = list(dict.fromkeys(p[0] for panel in panels for p in panel.points))
  colours = dict(zip(labels, COLOURS, strict=False))
  place = LEFT
  for label, colour in colours.items():
    _dot(pen, place, TOP // 2, colour)
    pen.text((place + 12, TOP // 2), label, "black", _font(), anchor="lm")
    place += 140
  for i, panel in enumerate(panels):
    _axes(sheet, i * width + LEFT, panel)
    scale = _range([p[1] for p in panel.points])
    height = _range([p[2] for p in panel.points])
    for label, x, y in panel.points:
      right = i * width + LEFT + SIDE * _share(x, scale)
      _dot(pen, right, TOP + SIDE * (1 - _share(y, height)), colours[label])
  sheet.save(path, optimize=True)


def _font() -> ImageFont.ImageFont:
  return ImageFont.load_default(size=14)


def _range(values: list[float]) -> tuple[float, float]:
  margin = 0.1 * (max(values) - min(values)) or 1.0
  return min(values) - margin, max(values) + margin


def _share(value: float, ends: tuple[float, float]) -> float:
  return (value - ends[0]) / (ends[1] - ends[0])


def _dot(pen: ImageDraw.ImageDraw, x: float, y: float, colour: str) -> None:
  pen.ellipse((x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS), colour)


def _axes(sheet: Image.Image, left: int, panel: Panel) -> None:
  pen = ImageDraw.Draw(sheet)
  pen.rectangle((left, TOP, left + SIDE, TOP + SIDE), outline="black")
  scale = _range([p[1] for p in panel.points])
  height = _range([p[2] for p in panel.points])
  for share in np.linspace(0, 1, TICKS + 2)[1:-1]:
    x, y = left + SIDE * share, TOP + SIDE * (1 - share)
    number = scale[0] + share * (scale[1] - scale[0])
    pen.line((x, TOP + SIDE, x, TOP + SIDE + 4), "black")
    pen.text((x, TOP + SIDE + 7), f"{number:.4g}", "black", _font(), "ma")
    number = height[0] + share * (height[1] - height[0])
    pen.line((left - 4, y, left, y), "black")
    pen.text((left - 7, y), f"{number:.4g}", "black", _font(), "rm")
  middle, below = left + SIDE // 2, TOP + SIDE + 30
  pen.text((middle, below), panel.x, "black", _font(), "ma")
  name = Image.new("RGB", (SIDE, 20), "white")
  ImageDraw.Draw(name).text((SIDE // 2, 10), panel.y, "black", _font(), "mm")
  sheet.paste(name.rotate(90, expand=True), (left - LEFT + 2, TOP))
