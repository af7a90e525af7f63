"""Laws of the generator; parity with the original is in test_parity.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from random_weights import randomised

from encoder4editing_jax.models.stylegan2 import Generator

SMALL = {"channel_base": 64, "channel_max": 8, "style_dim": 6, "n_mlp": 2}


@functools.cache
def generator():
  return randomised(lambda: Generator(16, **SMALL, rngs=nnx.Rngs(0)))


def codes(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.standard_normal(shape), jnp.float32)


@pytest.mark.parametrize(
  ("size", "styles"), [(8, 4), (64, 10), (256, 14), (1024, 18)]
)
def test_number_of_styles_and_shapes(size, styles):
  big = nnx.eval_shape(lambda: Generator(size, rngs=nnx.Rngs(0)))
  assert big.n_styles == styles
  w_plus = jax.ShapeDtypeStruct((2, styles, 512), jnp.float32)
  image = nnx.eval_shape(lambda g, w: g.synthesis(w), big, w_plus)
  assert image.shape == (2, size, size, 3)


@pytest.mark.parametrize(
  ("size", "base", "millions"),
  [(1024, 32768, 30.37), (512, 32768, 30.28), (256, 32768, 30.03)],
)
def test_number_of_parameters_of_the_published_sizes(size, base, millions):
  big = nnx.eval_shape(
    lambda: Generator(size, channel_base=base, rngs=nnx.Rngs(0))
  )
  leaves = jax.tree.leaves(nnx.state(big, nnx.Param))
  assert round(sum(leaf.size for leaf in leaves) / 1e6, 2) == millions


@pytest.mark.parametrize("size", [0, 4, 24, 2048])
def test_refuses_other_sizes(size):
  with pytest.raises(ValueError, match=f"size {size} is not a power of two"):
    Generator(size, rngs=nnx.Rngs(0))


def test_non_square_constant_makes_non_square_images():
  wide = randomised(
    lambda: Generator(8, constant_shape=(4, 6), **SMALL, rngs=nnx.Rngs(0))
  )
  assert wide.image_shape == (8, 12)
  shapes = nnx.eval_shape(lambda g, w: g.synthesis(w), wide, codes(1, 4, 6))
  assert shapes.shape == (1, 8, 12, 3)


@functools.partial(nnx.jit, static_argnames="noise")
def paint(g, w_plus, noise="stored", maps=None, key=None):
  """The picture and the last maps, compiled."""
  chosen = noise if maps is None else maps
  return g.synthesis(w_plus, chosen, key, return_features=True)


def test_first_styles_reach_everything_and_the_last_only_the_last_rgb():
  w_plus = codes(1, 6, 6)
  features = []
  for changed in (None, 5, 4):
    w = w_plus if changed is None else w_plus.at[:, changed].add(1.0)
    image, maps = paint(generator(), w)
    features.append((np.asarray(image), np.asarray(maps)))
  (image, maps), (image_5, maps_5), (_, maps_4) = features
  np.testing.assert_array_equal(maps, maps_5)  # style 5 drives ToRGB alone
  assert np.abs(image - image_5).max() > 1e-3
  assert np.abs(maps - maps_4).max() > 1e-3  # style 4 drives the last layer


def test_noise_stored_none_random_and_given():
  g, w_plus = generator(), codes(2, 6, 6)
  stored, none = paint(g, w_plus)[0], paint(g, w_plus, "none")[0]
  maps = [layer.noise[...] for layer in g.synthesis._layers()]
  np.testing.assert_allclose(stored, paint(g, w_plus, maps=maps)[0], atol=1e-5)
  zeros = [jnp.zeros_like(m) for m in maps]
  np.testing.assert_allclose(none, paint(g, w_plus, maps=zeros)[0], atol=1e-5)
  assert np.abs(stored - none).max() > 1e-3
  key = jax.random.key(1)
  drawn = paint(g, w_plus, "random", key=key)[0]
  again = paint(g, w_plus, "random", key=key)[0]
  np.testing.assert_array_equal(drawn, again)
  # one key per example: an example's noise does not depend on its batch
  last = paint(g, w_plus[1:], "random", key=jax.random.split(key, 2)[1:])[0]
  np.testing.assert_allclose(drawn[1:], last, atol=2e-5)


@pytest.mark.parametrize(
  ("noise", "message"),
  [
    ("random", "needs key="),
    ("fresh", "'fresh' is unknown"),
    ([jnp.zeros((4, 4, 1))], "1 noise maps given, this generator takes 5"),
    ([jnp.zeros((9, 4, 1))] * 5, r"noise\[0\] has shape \(9, 4, 1\)"),
  ],
)
def test_noise_that_does_not_fit_is_named(noise, message):
  with pytest.raises(ValueError, match=message):
    generator().synthesis(codes(1, 6, 6), noise)


def test_wrong_number_of_styles_is_named():
  with pytest.raises(ValueError, match="has 4 styles, this generator takes 6"):
    generator().synthesis(codes(1, 4, 6))


@functools.partial(nnx.jit, static_argnames="psi")
def latents(g, z, psi):
  """The codes that are rendered; their rendering itself drops out."""
  return g(z, truncation_psi=psi, return_latents=True)[1]


def test_truncation_pulls_to_the_centre():
  g, z = generator(), codes(2, 6)
  g.w_avg[...] = codes(6, seed=1)
  full, none, half = (latents(g, z, psi) for psi in (1.0, 0.0, 0.5))
  np.testing.assert_allclose(none, jnp.broadcast_to(g.w_avg[...], none.shape))
  np.testing.assert_allclose(half, (full + none) / 2, atol=1e-6)


def test_style_mixing_crosses_over():
  g, a, b = generator(), codes(2, 6), codes(2, 6, seed=1)
  mixed = nnx.jit(
    lambda g, a, b: g([a, b], inject_index=2, return_latents=True)[1]
  )(g, a, b)
  w_a, w_b = g.mapping(a), g.mapping(b)
  for i in range(6):
    np.testing.assert_allclose(mixed[:, i], w_a if i < 2 else w_b, atol=1e-6)
  with pytest.raises(ValueError, match="inject_index= or key="):
    g([a, b])


def test_mapping_ignores_the_length_of_z():
  z = codes(2, 6)
  g = generator()
  np.testing.assert_allclose(g.mapping(z), g.mapping(3 * z), atol=1e-5)


def test_mean_latent_approaches_the_mean():
  g, key = generator(), jax.random.key(0)
  mean = g.mean_latent(1500, key)
  w = g.mapping(jax.random.normal(jax.random.key(9), (4000, 6)))
  error = np.abs(mean - w.mean(0)) / (w.std(0) + 1e-6)
  assert error.max() < 0.2
