"""What is done to a picture to make the source of a task from it.

pSp (arXiv 2008.00951) trains the same encoder on other sources than the
target itself. All functions are pure; those that draw are handed a generator.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from encoder4editing_jax.config_rules import largest_factor

HOLE = 128  # grey, very nearly 0 on the way to [-1, 1]: no information


def cubic_taps(factor: int) -> Float[np.ndarray, " k"]:
  """Weights of an antialiased cubic that shrinks by `factor`.

  Keys' cubic convolution kernel (1981, a = -1/2), stretched to 4 * factor
  taps and normalised. For factor 1 this is a blur by half a pixel, and not
  the identity.
  """
  x = np.abs((np.arange(4 * factor) - 2 * factor + 0.5) / factor)
  near = 1.5 * x**3 - 2.5 * x**2 + 1
  far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
  taps = np.where(x <= 1, near, np.where(x < 2, far, 0.0))
  return (taps / taps.sum()).astype(np.float32)


@lru_cache(maxsize=64)
def _shrinking(n: int, factor: int) -> Float[np.ndarray, "m n"]:
  """`shrink` along one axis, as a matrix."""
  if not 1 <= factor <= largest_factor(n):
    raise ValueError(
      f"{n} pixels cannot be shrunk by {factor}; use 1 to {largest_factor(n)}."
    )
  before = 3 * factor // 2
  place = np.pad(np.arange(n), (before, 3 * factor - before), "reflect")
  matrix: np.ndarray = np.zeros((n // factor, n), np.float32)
  taps = cubic_taps(factor)
  for row in range(n // factor):
    window = place[row * factor : row * factor + 4 * factor]
    np.add.at(matrix[row], window, taps)
  return matrix


def shrink(
  image: Float[np.ndarray, "h w c"], factor: int
) -> Float[np.ndarray, "h2 w2 c"]:
  """Smaller by a whole factor, rounded down; may overshoot the range.

  Raises:
    ValueError: the picture is too small, see `config_rules`.
  """
  rows, columns = (_shrinking(n, factor) for n in image.shape[:2])
  narrow = np.tensordot(rows, image, 1)
  return np.moveaxis(np.tensordot(columns, narrow, (1, 1)), 0, 1)


def low_resolution(
  image: UInt8[np.ndarray, "h w c"], factor: int
) -> UInt8[np.ndarray, "h2 w2 c"]:
  """`shrink` for bytes: clipped, and cut to whole numbers like the original's.

  Raises:
    ValueError: the picture is too small, see `config_rules`.
  """
  small = shrink(image / np.float32(255), factor)
  return (np.clip(small, 0, 1) * np.float32(255)).astype(np.uint8)


def degrade(
  image: UInt8[np.ndarray, "h w 3"], factor: int
) -> UInt8[np.ndarray, "h w 3"]:
  """Super-resolution: shrunk by a factor, and enlarged again (bilinear).

  Raises:
    ValueError: the picture is too small, see `config_rules`.
  """
  h, w = image.shape[:2]
  small = Image.fromarray(low_resolution(image, factor))
  return np.asarray(small.resize((w, h), Image.Resampling.BILINEAR))


def cover(
  image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
  """Inpainting: one or two rectangles and some strokes are painted grey.

  pSp does not say which holes it makes. These take a fifth of the picture on
  average, seldom more than two fifths.
  """
  h, w = image.shape[:2]
  size = np.array([w, h])
  hidden = Image.new("L", (w, h))
  brush = ImageDraw.Draw(hidden)
  for _ in range(rng.integers(1, 3)):
    sides = rng.uniform(1 / 8, 1 / 2, 2) * size
    corner = rng.uniform(0, 1, 2) * (size - sides)
    brush.rectangle((*corner, *(corner + sides)), fill=255)
  for _ in range(rng.integers(1, 4)):
    radius = rng.uniform(1 / 64, 1 / 20) * min(h, w)
    points = _wander(rng, int(rng.integers(2, 6))) * size
    brush.line([tuple(p) for p in points], fill=255, width=round(2 * radius))
    for x, y in points:  # round ends and joints
      box = (x - radius, y - radius, x + radius, y + radius)
      brush.ellipse(box, fill=255)
  return np.where(np.asarray(hidden)[..., None] > 0, np.uint8(HOLE), image)


def _wander(rng: np.random.Generator, n: int) -> Float[np.ndarray, "n 2"]:
  """n points of a path in the unit square."""
  steps = rng.uniform(-0.3, 0.3, (n, 2))
  steps[0] = rng.uniform(0.1, 0.9, 2)
  return np.clip(np.cumsum(steps, 0), 0, 1)
