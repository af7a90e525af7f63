"""History pools."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from encoder4editing_jax.training import pool

exchange = jax.jit(pool.exchange)


def numbered(start, n):
  return jnp.tile(jnp.arange(start, start + n, dtype=jnp.float32)[:, None], 2)


def test_a_pool_fills_up_before_it_swaps():
  stored = pool.empty(5, 2)
  for i in range(2):
    codes = numbered(2 * i, 2)
    stored, shown = exchange(stored, codes, jax.random.key(i))
    np.testing.assert_array_equal(shown, codes)
  assert int(stored.count) == 4
  np.testing.assert_array_equal(stored.codes[:4, 0], np.arange(4))


def test_size_zero_passes_codes_through():
  stored, shown = exchange(pool.empty(0, 2), numbered(7, 3), jax.random.key(0))
  np.testing.assert_array_equal(shown, numbered(7, 3))
  assert stored.codes.shape == (0, 2)


@pytest.mark.slow
def test_swaps_lose_nothing_and_happen_half_of_the_time():
  size, n = 8, 400
  stored, _ = exchange(
    pool.empty(size, 2), numbered(0, size), jax.random.key(0)
  )
  after, shown = exchange(stored, numbered(size, n), jax.random.key(1))
  everything = np.concatenate([shown[:, 0], after.codes[:, 0]])
  assert sorted(everything) == list(range(size + n))
  swapped = (shown[:, 0] != numbered(size, n)[:, 0]).mean()
  assert 0.4 < swapped < 0.6
  assert (after.codes[:, 0] >= size).sum() == size  # every slot was drawn


def test_a_batch_is_its_examples_in_order():
  """What one batch does with one key, the same codes do in any arrangement."""
  keys = jax.random.split(jax.random.key(3), 2)
  stored, _ = exchange(pool.empty(4, 2), numbered(0, 4), keys[0])
  again, shown = pool.exchange(stored, numbered(4, 6), keys[1])
  other, other_shown = exchange(stored, numbered(4, 6), keys[1])
  np.testing.assert_array_equal(shown, other_shown)
  np.testing.assert_array_equal(again.codes, other.codes)
