"""Convolutions with fewer products give what plain ones give."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P

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
  """How many convolutions are written down for CPUs: plain, and in parts."""
  text = jax.jit(function).lower(*arguments).as_text()
  return text.count("stablehlo.convolution"), text.count("stablehlo.while")


def test_it_is_taken_where_it_pays():
  kernel = kernel_for(128, 128)
  assert products(winograd.conv, draw(*WIDE), kernel) == (0, 1)
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


def test_no_examples_are_no_error():
  y = winograd.conv(draw(0, *WIDE[1:]), kernel_for(128, 130))
  assert y.shape == (0, *WIDE[1:3], 130)


def test_where_nothing_is_compiled():
  x, kernel = draw(1, 16, 16, 128), kernel_for(128, 128)
  with jax.disable_jit():
    assert error(winograd.conv(x, kernel), plain(x, kernel)) < 2e-6
  with jax.debug_nans(True), pytest.raises(FloatingPointError):
    winograd.conv(x.at[0, 0, 0, 0].set(jnp.nan), kernel)


def test_both_are_of_one_type():
  for side in (4, 16):
    with pytest.raises(TypeError, match="same dtypes"):
      winograd.conv(
        draw(1, side, side, 128), kernel_for(128, 128).astype(jnp.bfloat16)
      )


def test_axes_of_a_mesh_can_be_explicit():
  mesh = jax.make_mesh((2,), ("b",), axis_types=(AxisType.Explicit,))
  x, kernel = draw(2, *WIDE[1:]), kernel_for(128, 128)
  with jax.set_mesh(mesh):
    placed = jax.device_put(x, NamedSharding(mesh, P("b")))
    found = jax.jit(winograd.conv)(placed, jax.device_put(kernel, P()))
    assert jax.typeof(found).sharding.spec[0] == "b"
  np.testing.assert_allclose(found, plain(x, kernel), atol=1e-5)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_other_devices_convolve_plainly(platform):
  arguments = draw(*WIDE), kernel_for(128, 128)
  traced = jax.jit(winograd.conv).trace(*arguments)
  text = traced.lower(lowering_platforms=(platform,)).as_text()
  assert text.count("stablehlo.convolution") == 1
  assert "dot_general" not in text


def test_derivatives_are_those_of_the_plain_convolution():
  x, kernel = draw(*WIDE), kernel_for(128, 130)
  dx, dkernel = draw(*WIDE, seed=2), draw(*kernel.shape, seed=3)
  g = draw(*WIDE[:3], 130)
  _, along = jax.jvp(winograd.conv, (x, kernel), (dx, dkernel))
  _, expected = jax.jvp(plain, (x, kernel), (dx, dkernel))
  assert error(along, expected) < 2e-6
  found = jax.vjp(winograd.conv, x, kernel)[1](g)
  expected = jax.vjp(plain, x, kernel)[1](g)
  assert error(found[0], expected[0]) < 2e-6
  np.testing.assert_array_equal(found[1], expected[1])


LONG = (2, 128, 128, 32)  # of 64 rows in each part


def to_kernel(convolve, x, kernel):
  """The gradient to the kernel of something that is not linear."""
  return jax.grad(lambda k: (convolve(x, k) ** 3).mean())(kernel)


@pytest.mark.parametrize(
  ("shape", "outputs"),
  [(LONG, 216), ((2, 58, 62, 128), 256), ((1, 126, 127, 64), 128)],
)
def test_gradients_to_kernels_of_large_maps_go_in_parts(shape, outputs):
  x, kernel = draw(*shape), kernel_for(shape[-1], outputs)
  expected = to_kernel(plain, x, kernel)
  assert error(to_kernel(winograd.conv, x, kernel), expected) < 1e-5


def test_only_they_do():
  def parts(*shape, outputs=216):
    x, kernel = draw(*shape), kernel_for(shape[-1], outputs)
    of_map, _ = products(winograd.conv, x, kernel)
    both, _ = products(lambda x, k: to_kernel(winograd.conv, x, k), x, kernel)
    return both - of_map

  assert parts(*LONG) == 4
  assert parts(2, 128, 128, 31) == 1  # less than a billion products each
  assert parts(1, 64, 64, 130) == 1  # nothing to part
  assert parts(1, 127, 127, 33) == 1  # a prime number of rows
  assert parts(33, *LONG[1:]) == 1  # too many to compile


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_other_devices_do_what_jax_would(platform):
  """Both gradients too: the same convolutions, word for word."""

  def program(convolve):
    def loss(x, kernel):
      return (convolve(x, kernel) ** 2).sum()

    gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))
    traced = gradients.trace(draw(*LONG), kernel_for(32, 216))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    return sorted(
      re.sub(r"%\w+", "%", line.strip())  # names aside
      for line in text.splitlines()
      if "stablehlo.convolution" in line or "stablehlo.transpose" in line
    )

  assert program(winograd.conv) == program(plain)


@pytest.mark.parametrize("channels", [8, 128])
def test_precision_is_what_was_asked_for(channels):
  """Also inside of a function, which is over when a program is lowered."""

  def convolve(x, kernel):
    with jax.default_matmul_precision("float32"):
      return winograd.conv(x, kernel).sum()

  with jax.default_matmul_precision("bfloat16"):
    gradients = jax.jit(jax.grad(convolve, (0, 1)))
    shape = (*WIDE[:3], channels)
    traced = gradients.trace(draw(*shape), kernel_for(channels, channels))
    text = traced.lower(lowering_platforms=("tpu",)).as_text()
  found = [x for x in text.splitlines() if "stablehlo.convolution" in x]
  assert len(found) == 2
  assert all(line.count("HIGHEST") == 2 for line in found), found


def test_weak_types_stay_weak_only_together():
  x, kernel = jnp.full(WIDE, 1.0), jnp.full((3, 3, 128, 4), 1.0)
  assert x.weak_type
  weak = jax.eval_shape(winograd.conv, x, kernel).weak_type
  assert weak == jax.eval_shape(plain, x, kernel).weak_type
  strong = jax.eval_shape(winograd.conv, x, kernel_for(128, 4)).weak_type
  assert not strong


def test_second_derivatives_of_gradients_in_parts():
  x, kernel = draw(1, *LONG[1:]), kernel_for(32, 216)

  def through(convolve):
    return jax.grad(lambda x: (to_kernel(convolve, x, kernel) ** 2).sum())(x)

  assert error(through(winograd.conv), through(plain)) < 1e-5


def test_a_frozen_kernel_has_no_derivative_computed():
  x, kernel = draw(*WIDE), kernel_for(128, 128)

  def to_map(x):
    return jax.grad(lambda x: (winograd.conv(x, kernel) ** 2).sum())(x)

  def to_kernel(kernel):
    return jax.grad(lambda k: (winograd.conv(x, k) ** 2).sum())(kernel)

  def along(x):
    return jax.jvp(lambda x: winograd.conv(x, kernel), (x,), (x,))

  assert products(to_map, x) == (0, 2)
  assert products(to_kernel, kernel) == (1, 1)
  assert products(along, x) == (0, 2)


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


@pytest.mark.parametrize("checked", [True, False])
def test_examples_can_be_on_several_devices(checked):
  devices = jax.devices()[:2]
  mesh = Mesh(np.asarray(devices), ("batch",))
  x, kernel = draw(2, *WIDE[1:]), kernel_for(128, 128)
  shards = jax.shard_map(
    winograd.conv,
    mesh=mesh,
    in_specs=(P("batch"), P()),
    out_specs=P("batch"),
    check_vma=checked,
  )
  assert error(jax.jit(shards)(x, kernel), plain(x, kernel)) < 2e-6
  placed = jax.device_put(x, NamedSharding(mesh, P("batch")))
  found = jax.jit(winograd.conv)(placed, kernel)
  assert len(found.devices()) == len(devices)
  assert error(found, plain(x, kernel)) < 2e-6


@pytest.mark.parametrize("shared", ["map", "kernel"])
def test_what_devices_share_gets_the_sum_of_their_gradients(shared):
  mesh = Mesh(np.asarray(jax.devices()[:2]), ("batch",))
  xs = draw(2, *WIDE)
  kernels = jnp.stack([kernel_for(128, 128, k) for k in (1, 2)])

  def gradient(x, kernel):
    def loss(x, kernel):
      return (winograd.conv(x, kernel) ** 2).sum()

    if shared == "map":
      return jax.grad(loss)(x, kernel[0])
    return jax.grad(loss, 1)(x[0], kernel)

  whole = {"map": (xs[0], kernels), "kernel": (xs, kernels[0])}[shared]
  specs = {"map": (P(), P("batch")), "kernel": (P("batch"), P())}[shared]
  shards = jax.shard_map(gradient, mesh=mesh, in_specs=specs, out_specs=P())

  def expected(x, kernel):
    def loss(x, kernel):
      each = jax.vmap(plain, (None, 0) if shared == "map" else (0, None))
      return (each(x, kernel) ** 2).sum()

    return jax.grad(loss, 0 if shared == "map" else 1)(x, kernel)

  assert error(jax.jit(shards)(*whole), expected(*whole)) < 1e-5


def test_a_jaxpr_says_what_it_stands_for():
  traced = jax.make_jaxpr(winograd.conv)(draw(*WIDE), kernel_for(128, 130))
  (equation,) = traced.jaxpr.eqns
  assert equation.primitive is winograd.conv3x3
  found = {
    name: winograd.written_out(equation, name) for name in ("cpu", "tpu", "")
  }
  assert [v.aval.shape for v in found["cpu"].outvars] == [(1, 16, 16, 130)]
  assert "dot_general" in str(found["cpu"])
  assert str(found["tpu"]) == str(found[""])
  assert "conv_general_dilated" in str(found[""])


def test_networks_use_it():
  x = draw(*WIDE)
  style = 1 + 0.1 * draw(1, 128)
  kernel = kernel_for(128, 128)
  assert products(ops.modulated_conv2d, x, kernel, style)[0] == 0
  layer = conv(128, 128, 3, padding=1, rngs=nnx.Rngs(0))
  assert products(lambda x: layer(x), x) == (0, 1)
  assert error(layer(x), plain(x, layer.kernel[...])) < 2e-6
  strided = conv(128, 128, 3, padding=1, stride=2, rngs=nnx.Rngs(0))
  assert products(lambda x: strided(x), x) == (1, 0)
