"""Blocks that CPUs work on band by band compute what the others do."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from encoder4editing_jax.models import banded
from encoder4editing_jax.models.synthesis import SynthesisBlock

SHAPE = (24, 20)  # of the output


@pytest.fixture(scope="module")
def block():
  """A block whose every number counts."""
  block = SynthesisBlock(5, 4, SHAPE, 7, conv_clamp=4.0, rngs=nnx.Rngs(0))
  keys = iter(jax.random.split(jax.random.key(1), 99))
  for leaf in jax.tree.leaves(
    nnx.state(block, nnx.Param), is_leaf=lambda x: isinstance(x, nnx.Variable)
  ):
    leaf.set_value(leaf[...] + 0.3 * jax.random.normal(next(keys), leaf.shape))
  return block


@pytest.fixture
def in_bands(monkeypatch):
  """Of as many rows as asked for, or nearly."""

  def set_rows(rows):
    monkeypatch.setattr(banded, "LARGE", 0)
    monkeypatch.setattr(banded, "BAND", rows * SHAPE[1] * 4 * 4)

  return set_rows


def draw(*shape, seed=0):
  return jnp.asarray(np.random.RandomState(seed).randn(*shape), jnp.float32)


def values(batch=2, noise="own"):
  """What a block is called with: noise of each example's own, and shared."""
  h, w = (n // 2 for n in SHAPE)
  noises = {
    "own": (draw(batch, *SHAPE, 1, seed=1), draw(1, *SHAPE, 1, seed=2)),
    "none": (None, None),
  }
  styles = tuple(draw(3, batch, 7, seed=3))
  return draw(batch, h, w, 5), draw(batch, h, w, 3), styles, noises[noise]


def close(found, expected, tolerance=1e-6):
  for one, other in zip(
    jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
  ):
    scale = float(jnp.abs(other).max())
    np.testing.assert_allclose(one, other, atol=tolerance * scale, rtol=0)


@pytest.mark.parametrize("rows", [2, 4, 6, 7, 24, 99])
def test_a_block_in_bands_is_the_same_function(block, in_bands, rows):
  in_bands(rows)
  close(banded.banded_block(block, *values()), block.plain(*values()))


@pytest.mark.parametrize("batch", [1, 3])
def test_of_any_batch_and_without_noise(block, in_bands, batch):
  in_bands(8)
  given = values(batch, "none")
  close(banded.banded_block(block, *given), block.plain(*given))


def test_in_bfloat16_too(block, in_bands):
  in_bands(4)
  x, *rest = values()
  found = banded.banded_block(block, x.astype(jnp.bfloat16), *rest)
  assert [y.dtype for y in found] == [jnp.bfloat16, jnp.float32]
  expected = block.plain(x, *rest)
  for one, other in zip(found, expected, strict=True):
    close(one.astype(jnp.float32), other, 4e-2)


def test_scales_are_those_of_float32(block, in_bands):
  in_bands(4)
  graph, state = nnx.split(block)
  low = nnx.merge(graph, jax.tree.map(lambda x: x.astype(jnp.bfloat16), state))
  x, image, styles, noises = values(noise="none")
  styles = tuple(style.astype(jnp.bfloat16) for style in styles)
  found, _ = banded.banded_block(low, x, image, styles, noises)
  close(found, low.plain(x, image, styles, noises)[0])


def test_no_examples_are_no_error(block, in_bands):
  in_bands(8)
  y, image = block(*values(batch=0, noise="none"))
  assert y.shape == (0, *SHAPE, 4) and image.shape == (0, *SHAPE, 3)


def test_axes_of_a_mesh_can_be_explicit(block, in_bands):
  in_bands(8)
  mesh = jax.make_mesh((2,), ("b",), axis_types=(AxisType.Explicit,))
  given = values(noise="none")
  with jax.set_mesh(mesh):
    placed = jax.device_put(given, NamedSharding(mesh, P("b")))
    found = jax.jit(lambda *given: block(*given))(*placed)
  close(found, block.plain(*given))


def lowered(block, platform="cpu"):
  function = jax.jit(lambda *given: block(*given))
  traced = function.trace(*values())
  return traced.lower(lowering_platforms=(platform,)).as_text()


def test_large_blocks_are_in_bands_on_cpus_alone(block, in_bands):
  usual = {name: lowered(block, name) for name in ("cpu", "cuda", "tpu")}
  assert not any("stablehlo.while" in text for text in usual.values())
  in_bands(8)
  assert "stablehlo.while" in lowered(block)
  for name in ("cuda", "tpu"):
    assert lowered(block, name).count("convolution") == usual[name].count(
      "convolution"
    )
    assert "stablehlo.while" not in lowered(block, name)
  found = jax.jit(lambda *given: block(*given))(*values())
  close(found, block.plain(*values()))


def test_what_counts_is_one_map_of_the_output(block, monkeypatch):
  size = SHAPE[0] * SHAPE[1] * 4 * 4
  monkeypatch.setattr(banded, "LARGE", size)
  assert banded.pays(block, values(batch=1)[0])
  monkeypatch.setattr(banded, "LARGE", size + 1)
  assert not banded.pays(block, values(batch=8)[0])


def test_an_open_batch_is_not_cut(block, in_bands):
  in_bands(8)
  (b,) = export.symbolic_shape("b")

  def open_batch(x):
    return jax.ShapeDtypeStruct((b, *x.shape[1:]), x.dtype)

  x, image, styles, _ = values(noise="none")

  def function(x, image, styles):
    return block(x, image, styles, (None, None))

  program = export.export(jax.jit(function))(
    *jax.tree.map(open_batch, (x, image, styles))
  )
  close(program.call(x, image, styles), function(x, image, styles))


def derivatives(block, directions):
  """Forward, backward, and backward over backward, of state and arguments."""
  graph, state = nnx.split(block)

  def function(state, *given):
    return nnx.merge(graph, state)(*given)

  given = (state, *values())
  _, along = jax.jvp(function, given, directions)

  def loss(given):
    return sum((y**2).mean() for y in function(*given))

  def norm(x):
    gradient = jax.grad(loss)((state, x, *values()[1:]))
    return sum((g**2).sum() for g in jax.tree.leaves(gradient))

  return along, jax.grad(loss)(given), jax.grad(norm)(values()[0])


def test_derivatives_are_those_of_the_block_as_it_is(block, in_bands):
  _, state = nnx.split(block)
  directions = jax.tree.map(
    lambda x: draw(*x.shape, seed=x.size), (state, *values())
  )
  expected = jax.jit(partial(derivatives, block))(directions)
  in_bands(6)
  found = jax.jit(partial(derivatives, block))(directions)
  close(found, expected)


def test_nothing_is_computed_for_what_stands_still(block, in_bands):
  """Weights that are not trained have no gradients, and no bands are worked
  on beside what is derived."""
  x, *rest = values()

  def gradient(x):
    return jax.grad(lambda x: (block(x, *rest)[1] ** 2).sum())(x)

  def text():
    lowered = jax.jit(gradient).lower(x)
    return lowered.as_text(), lowered.compile().cost_analysis()["flops"]

  usual, operations = text()
  in_bands(6)
  found, as_many = text()
  assert found.count("stablehlo.convolution") == usual.count(
    "stablehlo.convolution"
  )
  assert as_many == pytest.approx(operations, rel=1e-3)
  assert "stablehlo.while" not in found


def test_blocks_can_be_batched(block, in_bands):
  x, *rest = values()
  expected = block(x, *rest)
  in_bands(6)
  many = jnp.stack([x, 2 * x])
  found = jax.vmap(lambda x: block(x, *rest))(many)
  close(jax.tree.map(lambda y: y[0], found), expected)
