"""The FFHQ crop of a face from its landmarks, and the way back.

StyleGAN (arXiv 1812.04948, appendix A): the eyes and the mouth span a square,
which becomes the picture. Published face encoders expect such crops. Landmarks
come from any detector, as points (x, y) in pixels: the 68 of iBUG 300-W, or 5
(left eye, right eye, nose, left and right corner of the mouth; left as the
viewer sees it). Pictures here are bytes, `[h w 3]`, and live on the host.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy import ndimage

BAND = 1 << 20  # pixels that are pasted at a time, at 150 bytes each
SHARPNESS = 8  # of the seam between faces whose crops overlap


class _View(NamedTuple):
  """A picture and where the corners of the crop lie in it."""

  image: Image.Image
  quad: Float[np.ndarray, "4 2"]


def _features(landmarks: Any) -> tuple[np.ndarray, ...]:
  """Left eye, right eye and the middle of the mouth, (x, y) each."""
  points = np.asarray(landmarks, np.float64)
  if points.shape not in ((68, 2), (5, 2)):
    raise ValueError(
      f"landmarks have shape {points.shape}; pass (68, 2) or (5, 2), x first."
    )
  if not np.isfinite(points).all():
    raise ValueError("landmarks hold NaN or infinity; detect the face anew.")
  if len(points) == 5:
    return points[0], points[1], (points[3] + points[4]) / 2
  left, right = points[36:42].mean(0), points[42:48].mean(0)
  return left, right, (points[48] + points[54]) / 2


def crop_quad(landmarks: Any) -> Float[np.ndarray, "p 2"]:
  """Corners of the crop `[4 2]`, against the clock from the top left.

  Args:
    landmarks: `[68 2]` or `[5 2]`, x first, in pixels.

  Raises:
    ValueError: another shape, NaN, or eyes and mouth in one point.
  """
  left, right, mouth = _features(landmarks)
  eyes, across = (left + right) / 2, right - left
  down = mouth - eyes
  x = across - down[::-1] * [-1, 1]
  length = max(2 * np.hypot(*across), 1.8 * np.hypot(*down))
  if not np.hypot(*x) > 0 or not length > 0:
    raise ValueError(
      "landmarks: eyes and mouth span no square; detect the face anew."
    )
  x = x / np.hypot(*x) * length
  y = x[::-1] * [-1, 1]
  centre = eyes + 0.1 * down
  return np.stack(
    [centre - x - y, centre - x + y, centre + x + y, centre + x - y]
  )


def _side(quad: Float[np.ndarray, "4 2"]) -> float:
  return float(np.hypot(*(quad[3] - quad[0])))


def _shrunk(view: _View, size: int) -> _View:
  """Large pictures are made smaller first, since the warp has no filter."""
  factor = int(_side(view.quad) / size / 2)
  if factor <= 1:
    return view
  width, height = (max(int(np.rint(n / factor)), 1) for n in view.image.size)
  image = view.image.resize((width, height), Image.Resampling.LANCZOS)
  return _View(image, view.quad / factor)


def _bounds(quad: Float[np.ndarray, "4 2"]) -> tuple[np.ndarray, np.ndarray]:
  return np.floor(quad.min(0)).astype(int), np.ceil(quad.max(0)).astype(int)


def _border(quad: Float[np.ndarray, "4 2"]) -> int:
  return max(int(np.rint(0.1 * _side(quad))), 3)


def _cut(view: _View) -> _View:
  """Without what is far from the crop."""
  border, (low, high) = _border(view.quad), _bounds(view.quad)
  low = np.maximum(low - border, 0)
  high = np.minimum(high + border, view.image.size)
  if (high <= low).any():
    raise ValueError(
      "landmarks: the face lies outside of the picture; check that they "
      "belong to it, and that x comes first."
    )
  return _View(view.image.crop((*low, *high)), view.quad - low)


def _padded(view: _View) -> _View:
  """Mirrored, blurred and faded where the crop reaches over the edge."""
  border, (low, high) = _border(view.quad), _bounds(view.quad)
  before = np.maximum(border - low, 0)
  after = np.maximum(high - view.image.size + border, 0)
  if max(*before, *after) <= border - 4:
    return view
  side = _side(view.quad)
  least = int(np.rint(0.3 * side))
  before, after = np.maximum(before, least), np.maximum(after, least)
  widths = [(before[1], after[1]), (before[0], after[0]), (0, 0)]
  pixels = np.pad(np.float32(view.image), widths, "reflect")
  fade = _fade(pixels.shape, before, after)
  blur = 0.02 * side
  blurred = ndimage.gaussian_filter(pixels, [blur, blur, 0])
  pixels += (blurred - pixels) * np.clip(3 * fade + 1, 0, 1)
  pixels += (np.median(pixels, (0, 1)) - pixels) * np.clip(fade, 0, 1)
  image = Image.fromarray(np.uint8(np.clip(np.rint(pixels), 0, 255)))
  return _View(image, view.quad + before)


def _fade(
  shape: tuple[int, ...], before: np.ndarray, after: np.ndarray
) -> np.ndarray:
  """1 at the rim, 0 where the picture begins, less inside; `[h w 1]`."""
  y, x, _ = np.ogrid[: shape[0], : shape[1], :1]

  def inwards(place: np.ndarray, length: int, axis: int) -> np.ndarray:
    first = np.float32(place) / before[axis]
    last = np.float32(length - 1 - place) / after[axis]
    return 1 - np.minimum(first, last)

  return np.maximum(inwards(x, shape[1], 0), inwards(y, shape[0], 1))


def align(
  image: UInt8[np.ndarray, "h w 3"],
  landmarks: Any,
  size: int = 256,
  warp_size: int | None = None,
) -> UInt8[np.ndarray, "s s 3"]:
  """The FFHQ crop of a face.

  Args:
    image: the whole picture.
    landmarks: `[68 2]` or `[5 2]`, x first, in its pixels.
    size: side of the crop.
    warp_size: side at which the square is cut out, before it is shrunk to
      `size`; FFHQ itself took 4096 for 1024. As `size` if None.

  Raises:
    ValueError: landmarks that are none, or lie outside of the picture.
  """
  warp_size = warp_size or size
  view = _View(Image.fromarray(image), crop_quad(landmarks))
  view = _padded(_cut(_shrunk(view, size)))
  crop = view.image.transform(
    (warp_size, warp_size),
    Image.Transform.QUAD,
    (view.quad + 0.5).flatten(),
    Image.Resampling.BILINEAR,
  )
  if size != warp_size:
    crop = crop.resize((size, size), Image.Resampling.LANCZOS)
  return np.array(crop)


def to_crop(
  points: Any, landmarks: Any, size: int = 256
) -> Float[np.ndarray, "p 2"]:
  """Where points (x, y) of a picture lie in its crop of a side."""
  quad = crop_quad(landmarks)
  axes = np.stack([quad[3] - quad[0], quad[1] - quad[0]], 1)
  away = (np.asarray(points, np.float64) - quad[0]).T
  return np.linalg.solve(axes, away).T * size - 0.5


def unalign(
  image: UInt8[np.ndarray, "h w 3"],
  face: UInt8[np.ndarray, "s s 3"],
  landmarks: Any,
  feather: float = 0.1,
  others: Sequence[Any] = (),
) -> UInt8[np.ndarray, "h w 3"]:
  """A picture with an edited crop pasted back where it was cut out.

  Args:
    image: the whole picture.
    face: its crop, edited; of any side.
    landmarks: those that it was cut out by.
    feather: width of the soft edge as a part of the side; 0 for a hard one.
    others: landmarks of faces that were pasted before; where crops overlap,
      each face keeps what is nearer to its middle.

  Returns:
    A new picture; outside of the crop it has the bytes of `image`.

  Raises:
    ValueError: as `align`, or a feather that is not from 0 to 0.5.
  """
  if not 0 <= feather <= 0.5:
    raise ValueError(f"feather is {feather}; pass 0 to 0.5.")
  quad = crop_quad(landmarks)
  low, high = _bounds(quad)
  low = np.maximum(low, 0)
  high = np.minimum(high + 1, image.shape[1::-1])
  if (high <= low).any():
    raise ValueError("landmarks: the face lies outside of the picture.")
  side = min(len(face), int(np.ceil(_side(quad))))  # shrinking needs a filter
  face = np.asarray(
    Image.fromarray(face).resize((side, side), Image.Resampling.LANCZOS)
  )
  pasted = image.copy()
  rows = max(BAND // int(high[0] - low[0]), 1)
  for top in range(low[1], high[1], rows):
    bottom = min(top + rows, high[1])
    y, x = np.mgrid[top:bottom, low[0] : high[0]]
    points = np.stack([x.ravel(), y.ravel()], 1)
    at = to_crop(points, landmarks, side).reshape(*x.shape, 2)
    weight = _mask((at + 0.5) / side, feather)
    weight *= _share(points, landmarks, others).reshape(weight.shape)
    weight = weight[..., None]
    part = pasted[top:bottom, low[0] : high[0]]
    part[...] = np.rint(_sampled(face, at) * weight + part * (1 - weight))
  return pasted


def _inwards(place: np.ndarray) -> np.ndarray:
  """Distance from the edge of the crop; place is in [0, 1] inside."""
  return np.minimum(place, 1 - place).min(-1)


def _share(
  points: np.ndarray, landmarks: Any, others: Sequence[Any]
) -> np.ndarray:
  """A face's part at points of the picture among all that lie there."""

  def claim(one: Any) -> np.ndarray:
    return _inwards(to_crop(points, one, 1) + 0.5).clip(0) ** SHARPNESS

  if not others:
    return np.ones(len(points))
  mine = claim(landmarks)
  return mine / np.maximum(mine + sum(map(claim, others)), 1e-30)


def _mask(place: np.ndarray, feather: float) -> np.ndarray:
  """1 inside of the crop, 0 outside, smooth between; place is in [0, 1]."""
  inwards = _inwards(place)
  if not feather:
    return (inwards >= 0).astype(np.float64)
  t = np.clip(inwards / feather, 0, 1)
  return t * t * (3 - 2 * t)


def _sampled(face: np.ndarray, at: np.ndarray) -> np.ndarray:
  """Bilinear values of a crop at places (x, y); its edge goes on outside."""
  where = [at[..., 1], at[..., 0]]
  channels = [
    ndimage.map_coordinates(
      np.float64(face[..., c]), where, order=1, mode="nearest"
    )
    for c in range(3)
  ]
  return np.stack(channels, -1)
