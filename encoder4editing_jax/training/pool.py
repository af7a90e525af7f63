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


def pick_rows(
  codes: Float[Array, "b n d"], rows: Int[Array, " b"]
) -> Float[Array, "b d"]:
  """The style of each code that a pool is offered."""
  return jnp.take_along_axis(codes, rows[:, None, None], 1)[:, 0]


def offer(
  pool: Pool,
  code: Float[Array, " d"],
  coin: Float[Array, ""],
  slot: Int[Array, ""],
) -> tuple[Pool, Float[Array, " d"]]:
  """Offers one code to a pool.

  Args:
    pool: what is stored; it has one place or more.
    code: the new code. A pool with room keeps it.
    coin: in [0, 1]; above one half a full pool swaps.
    slot: the place of the stored code that is then given for the new one.

  Returns:
    The new pool, and the code to show: the new one or the stored one.
  """
  size = pool.codes.shape[0]
  full = pool.count == size
  swap = full & (coin > 0.5)
  slot = jnp.where(full, slot, pool.count)
  stored = pool.codes[slot]
  kept = jnp.where(swap | ~full, code, stored)
  count = jnp.minimum(pool.count + 1, size)
  shown = jnp.where(swap, stored, code)
  return Pool(pool.codes.at[slot].set(kept), count), shown


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
  size, n = pool.codes.shape[0], len(codes)
  if size == 0:
    return pool, codes
  coin_key, slot_key = jax.random.split(key)
  coins = jax.random.uniform(coin_key, (n,))
  slots = jax.random.randint(slot_key, (n,), 0, size)
  return jax.lax.scan(
    lambda pool, item: offer(pool, *item), pool, (codes, coins, slots)
  )
