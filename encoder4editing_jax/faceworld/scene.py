"""A larger picture with several drawn faces in it, whose places are known."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from encoder4editing_jax import align
from encoder4editing_jax.faceworld.renderer import sample

# Eyes, nose and mouth of a face that looks straight ahead, in halves of its
# frame. The eyes are taken towards their outer corners: then the crop that
# these points span is exactly the frame, as encoders of drawn faces know it.
EYES, MOUTH = -0.0385, 0.3465
POINTS = np.array(
  [[-0.25, EYES], [0.25, EYES], [0, 0.14], [-0.16, MOUTH], [0.16, MOUTH]]
)

SIZE = (360, 700)  # height and width
# Middle (x, y), side, and angle in degrees, with the clock.
PLACES = (
  (150.0, 190.0, 190.0, -9.0),
  (350.0, 150.0, 150.0, 0.0),
  (560.0, 200.0, 210.0, 11.0),
)
DRAWN = 256  # side of the faces before they are put there


class Scene(NamedTuple):
  """A picture, and the five landmarks of each face in it."""

  image: UInt8[np.ndarray, "h w 3"]
  landmarks: Float[np.ndarray, "n 5 2"]


def draw_scene(seed: int = 7) -> Scene:
  """Three faces of several sizes, upright and tilted, on a wall."""
  faces, _, _ = sample(seed, len(PLACES), DRAWN)
  image = _wall()
  landmarks = [_placed(*place) for place in PLACES]
  for pixels, points in zip(np.asarray(faces), landmarks, strict=True):
    drawn = np.uint8(np.clip(np.rint(127.5 * (pixels + 1)), 0, 255))
    image = align.unalign(image, drawn, points, feather=0.0)
  return Scene(image, np.stack(landmarks))


def _wall() -> UInt8[np.ndarray, "h w 3"]:
  y, x = np.mgrid[: SIZE[0], : SIZE[1]]
  light = 1.05 - 0.2 * y / SIZE[0] - 0.1 * x / SIZE[1]
  return np.uint8(np.rint(light[..., None] * [190, 184, 176]))


def _placed(
  x: float, y: float, side: float, degrees: float
) -> Float[np.ndarray, "5 2"]:
  """`POINTS` in pixels of a frame with this middle, side and angle."""
  turn = np.deg2rad(degrees)
  axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
  return POINTS @ axes * (side / 2) + [x, y]
