"""History pools."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from encoder4editing_jax.training import adversary, pool

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


def test_what_is_shown_has_the_published_chances():
  """Half of the new codes as they are; else each stored one equally often."""
  size, n, runs = 4, 2, 20_000
  full = pool.Pool(numbered(0, size), jnp.int32(size))
  keys = jax.random.split(jax.random.key(5), runs)
  offer = jax.jit(jax.vmap(lambda k: pool.exchange(full, numbered(size, n), k)))
  after, shown = offer(keys)

  def agrees(seen, chance):
    bound = 4 * np.sqrt(chance * (1 - chance) / runs)  # standard deviations
    assert abs(np.mean(seen) - chance) < bound, chance

  first, second = np.asarray(shown)[:, 0, 0], np.asarray(shown)[:, 1, 0]
  swap = 1 / 2 / size  # for one place
  agrees(first == size, 1 / 2)
  agrees(second == size + 1, 1 / 2)
  agrees(second == size, 1 / 2 * swap)  # the first code, if it was stored
  for slot in range(size):
    agrees(first == slot, swap)
    agrees(second == slot, swap * (1 - swap))  # if it was still there
    agrees(after.codes[:, slot, 0] == slot, (1 - swap) ** 2)
    agrees(after.codes[:, slot, 0] == size + 1, swap)
  assert (after.count == size).all()


@pytest.mark.parametrize(("stage", "awake"), [(0, 1), (2, 3), (None, 5)])
def test_awake_styles_are_offered_equally_often(stage, awake):
  n = 4_000
  codes = jnp.tile(jnp.arange(5.0)[None, :, None], (n, 1, 1))
  keys = jax.random.split(jax.random.key(6), n)
  stage = None if stage is None else jnp.int32(stage)
  rows = adversary._pick_rows(codes, stage, keys)[:, 0]
  counts = np.bincount(np.asarray(rows, int), minlength=5)
  assert (counts[awake:] == 0).all()
  chance = 1 / awake
  bound = 4 * np.sqrt(n * chance * (1 - chance))
  assert (np.abs(counts[:awake] - n * chance) <= bound).all()
