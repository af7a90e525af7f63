"""History pools of codes for the latent discriminator.

Shrivastava et al. 2017, arXiv 1612.07828, section 2.3, in the form of e4e: a
pool first fills up; from then on each new code is, with probability one half,
swapped for a stored one, which is shown in its place.

The pool is part of the training state and acts on the codes of the whole
batch in order, so that it does not depend on the number of devices.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


class Pool(NamedTuple):
  """Stored codes; the first `count` of them are filled."""

  codes: Float[Array, "p d"]
  count: Int[Array, ""]


def empty(size: int, style_dim: int) -> Pool:
  """A pool for `size` codes; with size 0 codes pass through."""
  return Pool(jnp.zeros((size, style_dim)), jnp.zeros((), jnp.int32))


def exchange(
  pool: Pool, codes: Float[Array, "b d"], key: Key[Array, ""]
) -> tuple[Pool, Float[Array, "b d"]]:
  """Offers codes to the pool, one after another.

  Args:
    pool: what is stored.
    codes: new codes.
    key: decides on swaps and slots.

  Returns:
    The new pool, and the codes to show: each the new one or a stored one.
  """
  size = pool.codes.shape[0]
  if size == 0:
    return pool, codes

  def offer(pool: Pool, item: tuple[Array, Array]) -> tuple[Pool, Array]:
    code, key = item
    swap_key, slot_key = jax.random.split(key)
    full = pool.count == size
    swap = full & jax.random.bernoulli(swap_key)
    slot = jnp.where(
      full, jax.random.randint(slot_key, (), 0, size), pool.count
    )
    stored = pool.codes[slot]
    kept = jnp.where(swap | ~full, code, stored)
    count = jnp.minimum(pool.count + 1, size)
    return Pool(pool.codes.at[slot].set(kept), count), jnp.where(
      swap, stored, code
    )

  return jax.lax.scan(offer, pool, (codes, jax.random.split(key, len(codes))))
