"""Drawn faces whose every attribute is known.

A face is a function of 14 numbers in [-1, 1]; see `painting` for how and
`parts` for what is painted.

The attributes are read off a latent code AFTER StyleGAN2's pixel
normalisation (the first thing its mapping network does), so the attributes
of every code, and of every edit, are known exactly.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from encoder4editing_jax.compiling import in_batches
from encoder4editing_jax.faceworld import parts
from encoder4editing_jax.faceworld.painting import canvas, over
from encoder4editing_jax.models.layers import normal
from encoder4editing_jax.ops import pixel_norm

STYLE_DIM = 64  # entries of a latent code
CHUNK = 8  # faces painted at once
ATTRIBUTES: tuple[str, ...] = (
  "yaw",  # -1 looks to the left of the picture, +1 to the right
  "pitch",  # -1 looks up, +1 down
  "smile",  # -1 small sad mouth, +1 wide open smile with teeth
  "eye_openness",  # -1 nearly closed, +1 wide open
  "gaze",  # -1 left of the picture, +1 right
  "face_width",  # -1 narrow, +1 wide
  "skin_tone",  # -1 light, +1 dark
  "hair_colour",  # -1 black, 0 brown, +1 blond
  "hair_length",  # -1 above the ears, +1 down to the shoulders
  "glasses",  # below -0.1 none, from 0.5 fully there
  "beard",  # below -0.1 none, +1 full
  "age",  # +1 grey hair and folds
  "background",  # -1 blue, 0 cream, +1 green
  "light_direction",  # -1 lit from the left of the picture, +1 right
)


@jax.jit
def attributes(z: Float[Array, "b d"]) -> Float[Array, "b k"]:
  """The truth about a latent code: `ATTRIBUTES`, each within [-1, 1].

  Attribute k is erf(c_k / sqrt 2) of entry k of the pixel-normalised code, so
  for z ~ N(0, I) each is very nearly uniform on [-1, 1] and independent. The
  entries behind the first 14 do nothing.
  """
  if z.shape[-1] < len(ATTRIBUTES):
    raise ValueError(
      f"z has {z.shape[-1]} entries; faceworld needs {len(ATTRIBUTES)} or more."
    )
  return jax.scipy.special.erf(pixel_norm(z)[:, : len(ATTRIBUTES)] / 2**0.5)


@partial(jax.jit, static_argnames="size")
def render(
  attributes: Float[Array, "b k"], size: int = 64
) -> Float[Array, "b size size 3"]:
  """Paints faces of any size (64 and 128 look best), values in [-1, 1].

  Raises:
    ValueError: not one column per name in `ATTRIBUTES`.
  """
  a, whole = named(attributes), canvas(size)
  picture = parts.background(whole, a)
  for layer in parts.layers(whole, a):
    picture = over(picture, layer)
  return jnp.moveaxis(jnp.clip(picture, 0, 1) * 2 - 1, 1, -1)


def named(attributes: Float[Array, "b k"]) -> parts.Attributes:
  """Attributes by name, each `[b 1 1]`.

  Raises:
    ValueError: not one column per name in `ATTRIBUTES`.
  """
  if attributes.shape[-1] != len(ATTRIBUTES):
    raise ValueError(
      f"attributes has {attributes.shape[-1]} columns; render needs "
      f"{len(ATTRIBUTES)}, in the order of faceworld.ATTRIBUTES."
    )
  return {k: attributes[:, i, None, None] for i, k in enumerate(ATTRIBUTES)}


def sample(
  seed: int, n: int, size: int = 64
) -> tuple[
  Float[Array, "n size size 3"], Float[Array, "n k"], Float[Array, "n d"]
]:
  """`n` random faces: images, attributes and codes, the same for a seed.

  They pass through the host: not within `jax.jit`.
  """
  z = codes(seed, n)
  truth = in_chunks(attributes, z)
  return in_chunks(partial(render, size=size), truth), truth, z


def codes(seed: int, n: int) -> Float[Array, "n d"]:
  """`n` random codes; a larger `n` keeps the first ones."""
  return normal(jax.random.key(seed), (n, STYLE_DIM))


def in_chunks(
  draw: Callable[[Array], Array], rows: Float[Array, "n k"]
) -> Shaped[Array, "n ..."]:
  """`draw` for many faces: little memory, and one compilation for every n."""
  return jnp.asarray(in_batches(draw, CHUNK, rows))
