"""Networks are compiled once for each architecture and shape."""

import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compilations
from flax import nnx

from encoder4editing_jax import faceworld, inference, optimising
from encoder4editing_jax.compiling import compiled
from encoder4editing_jax.models.arcface import ArcFace
from encoder4editing_jax.models.encoders import (
  Encoder4Editing,
  ResNetBackboneEncoder,
)
from encoder4editing_jax.models.inception import Inception
from encoder4editing_jax.models.inverter import Inverter
from encoder4editing_jax.models.lpips import LPIPS
from encoder4editing_jax.models.moco import MoCo
from encoder4editing_jax.models.stylegan2 import Generator


def tiny(seed=0):
  """An inverter of 8 x 8 pictures."""
  generator = Generator(
    8,
    channel_base=64,
    channel_max=8,
    style_dim=8,
    n_mlp=1,
    rngs=nnx.Rngs(seed),
  )
  encoder = Encoder4Editing(
    4,
    input_size=16,
    style_dim=8,
    num_layers=10,
    channels=(4, 4, 4, 4),
    rngs=nnx.Rngs(seed),
  )
  return Inverter(encoder, generator)


def drawn(*shape, seed=0):
  values = np.random.default_rng(seed).uniform(-1, 1, shape)
  return values.astype(np.float32)


def test_batches_calls_and_networks_share_what_is_compiled():
  first, second = tiny(0), tiny(1)
  images = drawn(7, 16, 16, 3)

  def work(net, images):
    codes = inference.invert(net, images, batch=2)
    return codes, inference.paint(net.generator, codes, batch=2)

  before = work(first, images)
  with compilations() as found:
    work(first, images)
    after = work(second, images[:5])
    again = work(first, images)
  assert not found
  assert (before[0][:5] != after[0]).any() and (before[1][:5] != after[1]).any()
  np.testing.assert_array_equal(before[0], again[0])
  with compilations() as found:
    inference.invert(first, images, batch=3)
  assert found  # else nothing is counted


def test_fitting_is_compiled_once_whatever_its_rates():
  images, codes = jnp.asarray(drawn(2, 8, 8, 3)), jnp.asarray(drawn(2, 4, 8))
  nets = [tiny(seed).generator for seed in (0, 1)]

  def work(net, lr):
    moved = optimising.optimise(net, images, codes, 2, lr)
    return optimising.tune(net, images, moved, 2, lr)

  work(nets[0], 0.1)
  with compilations() as found:
    for net in nets:
      work(net, 0.2)
  assert not found


def twice(net, x, times):
  return net(x) * times


def test_numbers_are_arguments_and_options_are_constants():
  net = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
  x = jnp.ones((1, 3))
  run = compiled(twice, net, times=2)
  np.testing.assert_allclose(run(x), 2 * net(x), rtol=1e-6)
  net.kernel[...] += 1
  np.testing.assert_allclose(run(x), 2 * net(x), rtol=1e-6)
  np.testing.assert_allclose(
    compiled(twice, net, times=3)(x), 3 * net(x), rtol=1e-6
  )


@pytest.mark.parametrize(
  "make",
  [
    lambda rngs: Encoder4Editing(4, input_size=32, num_layers=10, rngs=rngs),
    lambda rngs: ResNetBackboneEncoder(4, input_size=16, rngs=rngs),
    lambda rngs: Generator(16, rngs=rngs),
    lambda rngs: LPIPS("squeeze", rngs=rngs),
    lambda rngs: Inception(16, rngs=rngs),
    lambda rngs: ArcFace(50, channels=(4, 4, 4, 4), rngs=rngs),
    lambda rngs: MoCo(rngs=rngs),
  ],
)
def test_graphs_have_a_hash(make):
  hash(nnx.graphdef(nnx.eval_shape(lambda: make(nnx.Rngs(0)))))


@pytest.mark.slow  # the networks of files
def test_files_of_one_architecture_share_what_is_compiled():
  images = np.asarray(faceworld.sample(seed=3, n=4)[0])
  inference.invert(faceworld.load_inverter(), images, batch=2)
  with compilations() as found:
    inference.invert(faceworld.load_inverter(), images, batch=2)
  assert not found
