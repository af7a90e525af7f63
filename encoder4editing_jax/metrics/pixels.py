"""Distances of pictures, pixel by pixel."""

import jax.numpy as jnp
from jaxtyping import Array, Float

LEAST = 1e-10  # of mean squared errors: equal pictures have 106 dB


def l2(
  prediction: Float[Array, "b h w c"], target: Float[Array, "b h w c"]
) -> Float[Array, " b"]:
  """Mean squared error of each picture, for values in [-1, 1].

  That of e4e, pSp and ReStyle (their `calc_losses_on_images`). It is four
  times that of `l2_unit`; papers give either under the same name.
  """
  return jnp.square(prediction - target).mean((1, 2, 3))


def l2_unit(
  prediction: Float[Array, "b h w c"], target: Float[Array, "b h w c"]
) -> Float[Array, " b"]:
  """Mean squared error of each picture as for values in [0, 1].

  Args:
    prediction, target: in [-1, 1], as everywhere in this library.
  """
  return l2(prediction, target) / 4


def psnr(
  prediction: Float[Array, "b h w c"],
  target: Float[Array, "b h w c"],
  least: float = LEAST,
) -> Float[Array, " b"]:
  """Peak signal-to-noise ratio of each picture, in dB.

  Args:
    prediction: is clipped to [-1, 1], as pictures are that people see.
    target: in [-1, 1]; the peak is 2.
    least: smaller errors count as this; with 0 equal pictures have infinity.
  """
  error = l2(jnp.clip(prediction, -1, 1), target)
  return 10 * jnp.log10(4 / jnp.maximum(error, least))
