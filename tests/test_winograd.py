"""Convolutions with fewer products give what plain ones give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export

from encoder4editing_jax import ops, phases, winograd
from encoder4editing_jax.models.layers import conv


def draw(*shape, seed=0):
  return jnp.asarray(np.random.RandomState(seed).randn(*shape), jnp.float32)


def kernel_for(i, o, seed=1):
  return draw(3, 3, i, o, seed=seed) / np.sqrt(9 * i)


def plain(x, kernel):
  return phases.conv(x, kernel, 1)


def error(found, expected):
  return float(jnp.abs(found - expected).max() / jnp.abs(expected).max())


@pytest.mark.parametrize(
  "shape",
  [
    (1, 2, 2, 3),
    (3, 8, 6, 5),  # three maps in one part
    (10, 32, 32, 4),  # two parts of five
    (2, 128, 96, 3),  # rows of each map
    (1, 6, 4096, 2),  # as few rows as possible
    (1, 2 * 67, 64, 2),  # a prime number of pairs
  ],
)
def test_it_is_the_plain_convolution(shape):
  x, kernel = draw(*shape), kernel_for(shape[-1], 7)
  assert error(winograd.minimal(x, kernel), plain(x, kernel)) < 2e-6


def test_an_impulse_gives_the_kernel():
  x = jnp.zeros((1, 6, 6, 1)).at[0, 2, 3, 0].set(1)
  kernel = jnp.arange(9.0).reshape(3, 3, 1, 1)
  y = winograd.minimal(x, kernel)
  np.testing.assert_array_equal(y[0, 1:4, 2:5, 0], kernel[::-1, ::-1, 0, 0])
  assert float(jnp.abs(y).sum()) == 36


def test_it_is_as_accurate_as_the_plain_convolution():
  x, kernel = draw(1, 16, 16, 256), kernel_for(256, 256)
  with jax.enable_x64(True):
    exact = plain(x.astype(jnp.float64), kernel.astype(jnp.float64))
    of_plain = error(plain(x, kernel).astype(jnp.float64), exact)
    found = winograd.minimal(x, kernel).astype(jnp.float64)
    assert 0 < error(found, exact) < 4 * of_plain < 1e-5


WIDE = (1, 16, 16, 128)


def products(function, *arguments):
  """How many convolutions and matrix products are written down for CPUs."""
  text = jax.jit(function).lower(*arguments).as_text()
  return text.count("stablehlo.convolution"), text.count("dot_general")


def test_it_is_taken_where_it_pays():
  kernel = kernel_for(128, 128)
  assert products(winograd.conv, draw(*WIDE), kernel) == (0, 2)
  for x, other in (
    (draw(1, 16, 15, 128), kernel),  # an odd side
    (draw(1, 8, 8, 128), kernel),  # few samples
    (draw(131, 8, 8, 128), kernel),  # in any part
    (draw(1, 2, 4098, 128), kernel),  # rows that are too long
    (draw(*WIDE).astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)),
    (draw(*WIDE), kernel_for(128, 127)),  # few channels
    (draw(1, 16, 16, 127), kernel_for(127, 128)),
  ):
    assert products(winograd.conv, x, other) == (1, 0)
    np.testing.assert_array_equal(winograd.conv(x, other), plain(x, other))


@pytest.mark.parametrize("side", [8, 16, 64])
def test_an_open_batch_is_convolved_plainly(side):
  (b,) = export.symbolic_shape("b")
  kernel = kernel_for(128, 128)
  x = jax.ShapeDtypeStruct((b, side, side, 128), jnp.float32)
  program = export.export(jax.jit(lambda x: winograd.conv(x, kernel)))(x)
  x = draw(2, side, side, 128)
  assert error(program.call(x), plain(x, kernel)) < 2e-6


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_other_devices_convolve_plainly(platform):
  arguments = draw(*WIDE), kernel_for(128, 128)
  traced = jax.jit(winograd.conv).trace(*arguments)
  text = traced.lower(lowering_platforms=(platform,)).as_text()
  assert text.count("stablehlo.convolution") == 1
  assert "dot_general" not in text


def test_derivatives_are_those_of_the_plain_convolution():
  x, kernel = draw(*WIDE), kernel_for(128, 128)
  dx, dkernel, g = draw(*WIDE, seed=2), draw(*kernel.shape, seed=3), draw(*WIDE)
  _, along = jax.jvp(winograd.conv, (x, kernel), (dx, dkernel))
  _, expected = jax.jvp(plain, (x, kernel), (dx, dkernel))
  np.testing.assert_array_equal(along, expected)
  found = jax.vjp(winograd.conv, x, kernel)[1](g)
  for one, other in zip(found, jax.vjp(plain, x, kernel)[1](g), strict=True):
    np.testing.assert_array_equal(one, other)


def test_a_frozen_kernel_has_no_derivative_computed():
  x, kernel = draw(*WIDE), kernel_for(128, 128)

  def to_map(x):
    return jax.grad(lambda x: (winograd.conv(x, kernel) ** 2).sum())(x)

  assert products(to_map, x) == (1, 2)
  assert products(
    lambda x: jax.jvp(lambda x: winograd.conv(x, kernel), (x,), (x,)), x
  ) == (1, 2)


def test_second_derivatives():
  x, kernel = draw(*WIDE), kernel_for(128, 128)

  def of_gradient(convolve):
    def loss(x, kernel):
      return (convolve(x, kernel) ** 3).mean()

    def norm(x):
      return (jax.grad(loss, 1)(x, kernel) ** 2).sum()

    return jax.grad(norm)(x)

  assert error(of_gradient(winograd.conv), of_gradient(plain)) < 1e-5


def test_maps_and_kernels_can_be_batched():
  xs, kernels = (
    draw(2, *WIDE),
    jnp.stack([kernel_for(128, 128, k) for k in (1, 2)]),
  )
  found = jax.vmap(winograd.conv)(xs, kernels)
  assert error(found, jax.vmap(plain)(xs, kernels)) < 2e-6
  found = jax.vmap(winograd.conv, (0, None))(xs, kernels[0])
  assert error(found, jax.vmap(plain, (0, None))(xs, kernels[0])) < 2e-6


def test_networks_use_it():
  x = draw(*WIDE)
  style = 1 + 0.1 * draw(1, 128)
  kernel = kernel_for(128, 128)
  assert products(ops.modulated_conv2d, x, kernel, style)[0] == 0
  layer = conv(128, 128, 3, padding=1, rngs=nnx.Rngs(0))
  assert products(lambda x: layer(x), x) == (0, 2)
  assert error(layer(x), plain(x, layer.kernel[...])) < 2e-6
  strided = conv(128, 128, 3, padding=1, stride=2, rngs=nnx.Rngs(0))
  assert products(lambda x: strided(x), x) == (1, 0)
