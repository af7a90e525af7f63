"""What faces are painted with: coordinates, shapes and coverage.

Shapes are signed distances, negative inside (Quilez, "2D distance functions";
the ellipse is his first-order form). An edge is a smooth step about one pixel
wide: analytic antialiasing, differentiable, right at any size.

Colours are held as `[b 3 h w]` in [0, 1] while painting: XLA vectorises over
the last axis, and three channels there would leave most lanes idle.
"""

from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Field: TypeAlias = Float[Array, "#b #h #w"]
Value: TypeAlias = Float[Array, "b 1 1"]
Picture: TypeAlias = Float[Array, "#b 3 #h #w"]
Stop = tuple[float, float, float]


class Canvas(NamedTuple):
  """Coordinates in halves of the picture (x right, y down), and a pixel."""

  x: Field
  y: Field
  pixel: float

  def moved(self, dx: Value | float, dy: Value | float) -> "Canvas":
    """The canvas as seen from (dx, dy)."""
    return Canvas(self.x - dx, self.y - dy, self.pixel)


def canvas(size: int) -> Canvas:
  """Pixel centres of a square picture, from -1 to 1."""
  axis = (jnp.arange(size) + 0.5) * (2 / size) - 1
  return Canvas(axis[None, None, :], axis[None, :, None], 2 / size)


def rgb(*colour: float) -> Float[Array, "1 3 1 1"]:
  """One colour, ready to meet a picture."""
  return jnp.asarray(colour).reshape(1, 3, 1, 1)


def parabola(stops: tuple[Stop, Stop, Stop], value: Value) -> Picture:
  """The smooth curve through three colours, at value -1, 0 and +1."""
  low, middle, high = (rgb(*stop) for stop in stops)
  t = value[:, None]
  return middle + t * (high - low) / 2 + t**2 * ((high + low) / 2 - middle)


def ramp(t: Array, start: float, end: float) -> Array:
  """Smooth step: 0 up to `start`, 1 from `end`."""
  t = jnp.clip((t - start) / (end - start), 0, 1)
  return t * t * (3 - 2 * t)


def inside(distance: Field, width: float) -> Field:
  """Coverage of a shape from its distance, over an edge of `width`."""
  return ramp(-distance, -width / 2, width / 2)


class Layer(NamedTuple):
  """A colour, where it covers what is below, and what it shows.

  Mere light and shade, which shows nothing of its own, has no label.
  """

  colour: Picture
  alpha: Field
  label: str | None = None


def over(picture: Picture, layer: Layer) -> Picture:
  """Lays a colour over the picture where its `alpha` says so."""
  # the barrier keeps XLA from computing a shape once per colour channel, and
  # from compiling the whole painting as one expression
  picture, alpha = jax.lax.optimization_barrier((picture, layer.alpha))
  return picture + alpha[:, None] * (layer.colour - picture)


def ellipse(c: Canvas, rx: Value | float, ry: Value | float) -> Field:
  """Distance to an ellipse around the origin with half axes rx, ry."""
  k0 = jnp.sqrt((c.x / rx) ** 2 + (c.y / ry) ** 2 + 1e-8)
  k1 = jnp.sqrt((c.x / rx**2) ** 2 + (c.y / ry**2) ** 2 + 1e-8)
  return k0 * (k0 - 1) / k1


def box(
  c: Canvas, rx: Value | float, ry: Value | float, radius: Value | float
) -> Field:
  """Distance to a rounded box of half sizes rx, ry and a corner radius."""
  dx, dy = jnp.abs(c.x) - rx + radius, jnp.abs(c.y) - ry + radius
  outer = jnp.sqrt(jnp.maximum(dx, 0) ** 2 + jnp.maximum(dy, 0) ** 2 + 1e-8)
  return outer + jnp.minimum(jnp.maximum(dx, dy), 0) - radius
