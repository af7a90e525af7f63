"""Drawn faces as maps of classes and as line drawings.

Made from the layers that `render` paints with, so they show exactly the same
face: sources for conditional synthesis as in pSp (arXiv 2008.00951).
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from encoder4editing_jax.faceworld import parts
from encoder4editing_jax.faceworld.painting import Field, canvas
from encoder4editing_jax.faceworld.renderer import named

LABELS: tuple[str, ...] = (
  "background",
  "clothes",
  "skin",  # face, ears and neck
  "hair",
  "beard",  # from about +0.4 of its attribute on
  "mouth",  # lips, and what they show but for the teeth
  "teeth",
  "eyes",  # lids and whites
  "irises",  # with pupils
  "brows",
  "glasses",  # frames, from about +0.15 of their attribute on
)
SEEN = 1 / 3  # coverage from which a layer counts; full beards cover 3/4
TONE = 0.35  # of a full beard, which has no edges to draw


@partial(jax.jit, static_argnames="size")
def render_labels(
  attributes: Float[Array, "b k"], size: int = 64
) -> UInt8[Array, "b size size"]:
  """What each pixel of a face shows, as indices of `LABELS`.

  Raises:
    ValueError: not one column per name in `ATTRIBUTES`.
  """
  a, whole = named(attributes), canvas(size)
  seen: Array = jnp.zeros((len(attributes), size, size), jnp.uint8)
  for layer in parts.layers(whole, a):
    if layer.label is not None:
      label = jnp.uint8(LABELS.index(layer.label))
      seen = jnp.where(_whole(layer.alpha, seen) > SEEN, label, seen)
  return seen


@partial(jax.jit, static_argnames="size")
def render_contours(
  attributes: Float[Array, "b k"], size: int = 64
) -> UInt8[Array, "b size size"]:
  """A face in dark lines of about one pixel on white paper, in grey.

  Raises:
    ValueError: not one column per name in `ATTRIBUTES`.
  """
  a, whole = named(attributes), canvas(size)
  ink: Array = jnp.zeros((len(attributes), size, size))
  for layer in parts.layers(whole, a):
    alpha = _whole(layer.alpha, ink)
    if layer.label == "beard":
      ink = jnp.maximum(ink, TONE / 0.75 * alpha)
    elif layer.label is not None:  # hides what is below, and gets an outline
      ink = ink * (1 - alpha) + 4 * alpha * (1 - alpha)
  return jnp.round(255 * (1 - jnp.clip(ink, 0, 1))).astype(jnp.uint8)


def _whole(alpha: Field, like: Array) -> Array:
  return jnp.broadcast_to(alpha, like.shape)
