import jax
import numpy as np
import pytest
from flax import nnx
from random_weights import apply, randomised

from encoder4editing_jax.models.discriminator import (
  Discriminator,
  LatentDiscriminator,
  minibatch_stddev,
)

pytestmark = pytest.mark.slow  # many small compilations


def normal(*shape):
  return np.random.RandomState(1).standard_normal(shape).astype(np.float32)


def small():
  return randomised(lambda: Discriminator(16, 128, 12, rngs=nnx.Rngs(0)))


def images(b, size=16):
  return normal(b, size, size, 3)


def count(make):
  state = nnx.state(nnx.eval_shape(make))
  return sum(leaf.size for leaf in jax.tree.leaves(state))


def test_parameter_counts_are_the_published_ones():
  assert count(lambda: LatentDiscriminator(rngs=nnx.Rngs(0))) == 788_481
  assert count(lambda: Discriminator(256, rngs=nnx.Rngs(0))) == 28_864_129
  assert count(lambda: Discriminator(1024, rngs=nnx.Rngs(0))) == 29_012_513


def test_latent_discriminator_judges_every_row():
  network = randomised(lambda: LatentDiscriminator(6, 5, 3, rngs=nnx.Rngs(0)))
  x = normal(2, 4, 6)
  got = apply(network, x)
  for i, layer in enumerate(network.layers):
    x = x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])
    x = np.maximum(x, 0.2 * x) if i < 2 else x
  assert got.shape == (2, 4, 1)
  np.testing.assert_allclose(got, x, rtol=1e-4, atol=1e-5)


def test_minibatch_stddev_of_interleaved_groups():
  x = normal(8, 3, 2, 5)
  got = np.asarray(jax.jit(minibatch_stddev)(x))
  np.testing.assert_array_equal(got[..., :-1], x)
  for b in range(8):
    group = x[b % 2 :: 2]  # 8 images make two groups: the even, the odd
    deviation = np.sqrt(group.var(0) + 1e-8).mean()
    np.testing.assert_allclose(got[b, ..., -1], deviation, rtol=1e-5)


def test_minibatch_stddev_vanishes_for_equal_images_and_single_ones():
  x = normal(1, 3, 2, 5)
  for y in (x, np.tile(x, (4, 1, 1, 1))):
    got = np.asarray(jax.jit(minibatch_stddev)(y))
    np.testing.assert_allclose(got[..., -1], 1e-4, rtol=1e-3)


def test_logits_depend_on_the_other_images_of_a_group():
  network, x = small(), images(4)
  logits = np.asarray(apply(network, x))
  assert logits.shape == (4, 1)
  x[3] *= 3
  changed = np.asarray(apply(network, x))
  assert np.all(np.abs(changed - logits)[:3] > 1e-6)
  backwards = np.asarray(apply(network, x[::-1]))
  np.testing.assert_allclose(backwards[::-1], changed, rtol=1e-4, atol=1e-5)


def test_eight_images_are_two_independent_groups():
  network, x = small(), images(8)
  changed = x.copy()
  changed[6] *= 3
  difference = np.asarray(apply(network, changed) - apply(network, x))
  difference = np.abs(difference[:, 0])
  assert np.all(difference[1::2] < 1e-6)
  assert np.all(difference[0::2] > 1e-6)


@pytest.mark.parametrize("size", [4, 8, 32])
def test_any_power_of_two(size):
  network = nnx.eval_shape(lambda: Discriminator(size, 64, 8, rngs=nnx.Rngs(0)))
  graph, state = nnx.split(network)
  shape = jax.eval_shape(
    lambda state, x: nnx.merge(graph, state)(x), state, images(2, size)
  )
  assert shape.shape == (2, 1)
  assert len(network.blocks) == size.bit_length() - 3


def test_refusals_name_the_fix():
  with pytest.raises(ValueError, match="power of two"):
    Discriminator(24, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match="multiple of 4"):
    jax.eval_shape(minibatch_stddev, normal(6, 2, 2, 1))
  with pytest.raises(ValueError, match="16 x 16"):
    apply(small(), images(2, 32))
