"""Random keys of a step, the same on any number of devices.

They come from (key of the run, step, position in the whole batch).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from encoder4editing_jax.training.parallel import AXIS
from encoder4editing_jax.training.state import TrainState

Draw = Callable[[Array, int], Array]
"""Vectors `[b d]` of a step, from keys `[b]` and d."""


class Keys(NamedTuple):
  """Random keys of one step on one shard; `z`, `row`, `noise` per example."""

  z: Array
  row: Array
  noise: Array
  pool: Array


def keys_of(state: TrainState, local: int) -> Keys:
  """The keys of the step that a state is about to take, on a shard of
  `local` examples."""
  pool_key, key = jax.random.split(jax.random.fold_in(state.key, state.step))
  position = jax.lax.axis_index(AXIS) * local + jnp.arange(local)
  keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(key, i), 3))
  keys = keys(position)
  return Keys(keys[:, 0], keys[:, 1], keys[:, 2], pool_key)


def normal(keys: Array, size: int) -> Float[Array, "b d"]:
  """A standard normal vector from each of b keys."""
  return jax.vmap(lambda key: jax.random.normal(key, (size,)))(keys)
