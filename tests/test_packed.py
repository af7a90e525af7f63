"""The blocks of TPUs compute what the others do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from encoder4editing_jax.models import packed
from encoder4editing_jax.models.synthesis import SynthesisBlock

ARRAYS = {
  "x": (2, 6, 10, 5),
  "image": (2, 6, 10, 3),
  "styles": (3, 2, 7),
  "noise": (2, 12, 20, 1),
}


@pytest.fixture(scope="module")
def given():
  """A block whose every number counts, and what it is called with."""
  block = SynthesisBlock(5, 4, (12, 20), 7, conv_clamp=8.0, rngs=nnx.Rngs(0))
  keys = iter(jax.random.split(jax.random.key(1), 99))
  for leaf in jax.tree.leaves(
    nnx.state(block, nnx.Param), is_leaf=lambda x: isinstance(x, nnx.Variable)
  ):
    leaf.set_value(leaf[...] + 0.3 * jax.random.normal(next(keys), leaf.shape))
  return block, {
    k: jax.random.normal(next(keys), shape) for k, shape in ARRAYS.items()
  }


def call(function, values):
  stored = jnp.ones((1, 12, 20, 1))
  noises = values["noise"], stored
  return function(values["x"], values["image"], list(values["styles"]), noises)


def close(one, other, tolerance=2e-6):
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    scale = float(jnp.abs(b).max())
    np.testing.assert_allclose(a, b, atol=tolerance * scale)


def by_tpus(block):
  return lambda *arguments: packed.packed_block(block, *arguments)


def pack(x):
  """Space to depth: squares of two by two samples become channels."""
  b, h, w, c = x.shape
  x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, h // 2, w // 2, 4 * c)


def test_packing_is_undone(given):
  x = given[1]["x"]
  assert pack(x).shape == (2, 3, 5, 20)
  np.testing.assert_array_equal(packed.unpack(pack(x)), x)


def test_a_packed_block_is_the_same_function(given):
  block, values = given
  close(call(by_tpus(block), values), call(block, values))


def test_in_bfloat16_too(given):
  block, values = given
  half = values | {"x": values["x"].astype(jnp.bfloat16)}
  found = call(by_tpus(block), half)
  assert [x.dtype for x in found] == [jnp.bfloat16, jnp.float32]
  for one, other in zip(found, call(block, values), strict=True):
    close(one.astype(jnp.float32), other, 4e-2)


def test_its_gradients_are_the_same(given):
  block, values = given

  def loss(function):
    def total(values):
      x, image = call(function, values)
      return (jnp.sin(x).sum() + jnp.sin(image).sum()) / x.size

    return jax.jit(jax.grad(total))(values)

  close(loss(by_tpus(block)), loss(block), 1e-5)


def test_without_noise_too(given):
  block, values = given
  arguments = (
    values["x"],
    values["image"],
    list(values["styles"]),
    (None, None),
  )
  close(packed.packed_block(block, *arguments), block(*arguments))


@pytest.mark.parametrize(("platform", "same"), [("cpu", True), ("tpu", False)])
def test_only_tpus_pack(given, monkeypatch, platform, same):
  """What is lowered for another platform is what it was."""
  block, values = given

  def lowered():
    traced = jax.jit(lambda values: call(block, values)).trace(values)
    return traced.lower(lowering_platforms=(platform,)).as_text()

  plain = lowered()
  monkeypatch.setattr(packed, "SMALLEST", 1)
  chosen = lowered()
  products = [
    sorted(
      line.split(" : ")[-1] for line in text.splitlines() if "convol" in line
    )
    for text in (plain, chosen)
  ]
  assert (products[0] == products[1]) == same
