"""Distances of pictures, pixel by pixel."""

import jax.numpy as jnp
from jaxtyping import Array, Float

LEAST = 1e-10  # of mean squared errors: equal pictures have 106 dB


def psnr(
  prediction: Float[Array, "b h w c"], target: Float[Array, "b h w c"]
) -> Float[Array, " b"]:
  """Peak signal-to-noise ratio of each picture, in dB.

  Args:
    prediction: is clipped to [-1, 1], as pictures are that people see.
    target: in [-1, 1]; the peak is 2.
  """
  error = jnp.square(jnp.clip(prediction, -1, 1) - target).mean((1, 2, 3))
  return 10 * jnp.log10(4 / jnp.maximum(error, LEAST))
