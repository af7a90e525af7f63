"""Laws of the inverter and of edits, with small networks."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from random_weights import randomised

from encoder4editing_jax import editing
from encoder4editing_jax.models.encoders import (
  Encoder4Editing,
  ProgressiveBackboneEncoder,
)
from encoder4editing_jax.models.inverter import (
  Inverter,
  crop_and_pool,
  mix_styles,
)
from encoder4editing_jax.models.stylegan2 import Generator

pytestmark = pytest.mark.slow  # many small compilations

DIM = 8


def encoder(cls=Encoder4Editing, n_styles=4):
  return cls(
    n_styles,
    input_size=32,
    style_dim=DIM,
    num_layers=10,
    channels=(16, 16, 16, 16),
    rngs=nnx.Rngs(0),
  )


def small_generator():
  return Generator(
    8,
    channel_base=64,
    channel_max=8,
    style_dim=DIM,
    n_mlp=1,
    rngs=nnx.Rngs(0),
  )


@functools.cache
def inverter(restyle=False):
  cls = ProgressiveBackboneEncoder if restyle else Encoder4Editing
  return randomised(
    lambda: Inverter(
      encoder(cls), small_generator(), jnp.zeros(DIM), restyle=restyle
    )
  )


def normal(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def test_inverting_is_encoding_then_decoding():
  images = normal(2, 32, 32, 3)
  result = inverter().invert(images)
  w_plus = inverter().encode(images)
  np.testing.assert_allclose(result.w_plus, w_plus, atol=1e-5)
  np.testing.assert_allclose(
    w_plus, inverter().encoder(images) + inverter().w_avg[...][None], atol=1e-5
  )
  np.testing.assert_allclose(
    result.images, inverter().decode(w_plus), atol=1e-4
  )
  assert result.images.shape == (2, 8, 8, 3)
  assert inverter().decode(w_plus, resize=True).shape == (2, 32, 32, 3)
  assert inverter().decode(w_plus, resize=(4, 6)).shape == (2, 4, 6, 3)


def test_forward_takes_images_codes_and_z():
  z = normal(2, DIM)
  from_z = inverter()(z)
  w = inverter().generator.mapping(z)
  np.testing.assert_allclose(from_z.w_plus[:, 3], w, atol=1e-6)
  from_codes = inverter()(from_z.w_plus, latent_mask=[1], alpha=0.5, inject=-w)
  np.testing.assert_allclose(from_codes.w_plus[:, 1], jnp.zeros((2, DIM)))
  np.testing.assert_array_equal(from_codes.w_plus[:, 2], from_z.w_plus[:, 2])


def test_mixing_replaces_only_the_masked_layers():
  w_plus, other = normal(2, 4, DIM), normal(2, 4, DIM, seed=1)
  mixed = mix_styles(w_plus, [0, 3], other)
  np.testing.assert_array_equal(mixed[:, [0, 3]], other[:, [0, 3]])
  np.testing.assert_array_equal(mixed[:, [1, 2]], w_plus[:, [1, 2]])
  assert not mix_styles(w_plus, [2])[:, 2].any()
  with pytest.raises(ValueError, match="layer 4; use 0 to 3"):
    mix_styles(w_plus, [4])


def test_restyle_adds_offsets_to_the_previous_code():
  net, images = inverter(restyle=True), normal(1, 32, 32, 3)
  steps = net.invert(images, iterations=2, all_steps=True)
  assert steps.w_plus.shape == (1, 2, 4, DIM)
  average = net.average_image()
  first = net.encoder(jnp.concatenate([images, average], -1))
  np.testing.assert_allclose(
    steps.w_plus[:, 0], first + net.w_avg[...][None], atol=1e-4
  )
  seen = net.decode(steps.w_plus[:, 0], resize=True)
  second = net.encoder(jnp.concatenate([images, seen], -1))
  np.testing.assert_allclose(
    steps.w_plus[:, 1], steps.w_plus[:, 0] + second, rtol=1e-3, atol=1e-3
  )
  np.testing.assert_allclose(net.encode(images), steps.w_plus[:, 0], atol=1e-4)


def test_wide_pictures_are_cut_from_the_middle_of_square_ones():
  square = normal(1, 8, 8, 3)
  wide = crop_and_pool(square, (3, 4))
  np.testing.assert_allclose(
    wide, square[:, 1:7].reshape(1, 3, 2, 4, 2, 3).mean((2, 4)), atol=1e-6
  )
  np.testing.assert_array_equal(crop_and_pool(square, (8, 8)), square)


def test_what_does_not_fit_is_named():
  with pytest.raises(ValueError, match="pass 1, or use a ReStyle encoder"):
    inverter().invert(normal(1, 32, 32, 3), iterations=2)
  with pytest.raises(ValueError, match="iterations is 0; pass 1 or more"):
    inverter(restyle=True).invert(normal(1, 32, 32, 3), iterations=0)
  with pytest.raises(ValueError, match="build the encoder with n_styles=4"):
    nnx.eval_shape(lambda: Inverter(encoder(n_styles=6), small_generator()))


def test_moving_is_linear_and_keeps_other_layers():
  w_plus, direction = normal(2, 4, DIM), normal(DIM, seed=2)
  moved = editing.move(w_plus, direction, 2.0, layers=[1])
  np.testing.assert_allclose(
    moved[:, 1] - w_plus[:, 1], jnp.stack([2 * direction] * 2), atol=1e-5
  )
  np.testing.assert_array_equal(moved[:, [0, 2, 3]], w_plus[:, [0, 2, 3]])
  each = editing.move(w_plus, direction, jnp.array([1.0, -1.0]))
  np.testing.assert_allclose(each.mean(0), w_plus.mean(0), atol=1e-6)
  with pytest.raises(ValueError, match=r"shape \(1, 3\), the codes take"):
    editing.move(w_plus, jnp.ones(3), 1.0)
  official = editing.move(w_plus, direction[None, None], 2.0)  # [1 1 d]
  np.testing.assert_array_equal(official, editing.move(w_plus, direction, 2.0))
  with pytest.raises(ValueError, match="pass one number, or one for each of"):
    editing.move(w_plus, direction, jnp.ones(3))
  with pytest.raises(ValueError, match="layer 7; use 0 to 3"):
    editing.move(w_plus, direction, 1.0, layers=[7])
