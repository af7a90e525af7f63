"""Edits of codes as functions of W+.

A direction is a vector of W, `[d]` for all layers alike or `[n d]`.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float


def move(
  w_plus: Float[Array, "b n d"],
  direction: Array,
  strength: float | Array,
  layers: Sequence[int] | None = None,
) -> Float[Array, "b n d"]:
  """Codes moved along a direction (InterFaceGAN, arXiv 1907.10786, eq. 6).

  Args:
    w_plus: codes.
    direction: `[d]`, `[1 d]` or `[n d]`, also with a leading 1.
    strength: steps along it, one number or one per example `[b]`.
    layers: which styles move, 0 the coarsest; all if None.

  Raises:
    ValueError: the direction does not fit the codes, or a layer is not there.
  """
  n, d = w_plus.shape[1:]
  direction = jnp.atleast_2d(jnp.asarray(direction))
  if direction.ndim == 3 and len(direction) == 1:
    direction = direction[0]
  if direction.shape not in ((1, d), (n, d)):
    raise ValueError(
      f"the direction has shape {direction.shape}, the codes take {(d,)} or "
      f"{(n, d)}."
    )
  strength = jnp.asarray(strength)
  if strength.shape not in ((), (1,), w_plus.shape[:1]):
    raise ValueError(
      f"strength has shape {strength.shape}; pass one number, or one for each "
      f"of the {w_plus.shape[0]} codes."
    )
  step = jnp.reshape(strength, (-1, 1, 1)) * direction[None]
  if layers is None:
    return w_plus + step
  if bad := [i for i in layers if not 0 <= i < n]:
    raise ValueError(f"layers names layer {bad[0]}; use 0 to {n - 1}.")
  moved = jnp.zeros((1, n, 1)).at[:, jnp.array(layers, int)].set(1.0)
  return w_plus + step * moved
