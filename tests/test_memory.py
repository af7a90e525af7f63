"""Steps that need less memory: bfloat16, rematerialisation, microbatches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from changing import change
from flax import nnx
from test_step import EVERYTHING, batches, build

from encoder4editing_jax.architectures import architecture, with_dtype
from encoder4editing_jax.models.encoders import Encoder4Editing
from encoder4editing_jax.models.inverter import Inverter
from encoder4editing_jax.models.stylegan2 import Generator
from encoder4editing_jax.training import (
  accumulation,
  parallel,
  passes,
  state as states,
)
from encoder4editing_jax.training.step import make_train_step

HALF = change(EVERYTHING, model={"dtype": "bfloat16"})
ANEW = change(EVERYTHING, run={"rematerialise": True})
PARTS = change(EVERYTHING, run={"microbatches": 4})


def compiled(config):
  """The step on one device, and its arguments."""
  networks = build(config)
  step = make_train_step(config, networks)
  state = states.create_state(config, networks)
  frozen = states.create_frozen(networks)
  batch = jax.tree.map(lambda x: x[None], next(batches(config.data.size[0])))
  mapped = jax.vmap(
    step, axis_name=parallel.AXIS, in_axes=(None, None, 0), out_axes=None
  )
  return jax.jit(mapped).lower(state, frozen, batch), (state, frozen, batch)


def residuals(config):
  """Numbers that the encoder's pass keeps for its gradient."""
  networks = build(config)
  state, frozen = (
    states.create_state(config, networks),
    states.create_frozen(networks),
  )
  images = jnp.zeros((2, *config.data.size, 3))
  examples = passes.Examples(images, images, jax.random.split(state.key, 2))
  forward = passes.make_forward(config, networks)

  def kept(state):
    start = passes.unrefined(frozen, 2)
    return forward(state, state.statistics, frozen, examples, None, start)[1]

  mapped = jax.vmap(
    kept, axis_name=parallel.AXIS, in_axes=None, axis_size=1, out_axes=None
  )
  return sum(x.size for x in jax.tree.leaves(jax.eval_shape(mapped, state)))


def memory(lowered):
  return lowered.compile().memory_analysis().temp_size_in_bytes


def test_networks_compute_in_another_type_with_the_same_arrays():
  rngs = nnx.Rngs(0)
  generator = Generator(
    16, channel_base=64, channel_max=4, style_dim=8, n_mlp=1, rngs=rngs
  )
  encoder = Encoder4Editing(
    generator.n_styles,
    input_size=16,
    style_dim=8,
    num_layers=10,
    channels=(4, 4, 8, 8),
    rngs=rngs,
  )
  whole = Inverter(encoder, generator)
  half = with_dtype(whole, "bfloat16")
  assert half.encoder.dtype == half.generator.dtype == "bfloat16"
  assert half.generator.synthesis.dtype == "bfloat16"
  assert whole.generator.dtype == "float32"
  jax.tree.map(np.testing.assert_array_equal, nnx.state(half), nnx.state(whole))
  images = jnp.zeros((1, 16, 16, 3))
  assert "bf16" in str(jax.make_jaxpr(half.encode)(images))
  assert "bf16" not in str(jax.make_jaxpr(whole.encode)(images))
  same = with_dtype(half, "float32")
  assert architecture(same)["generator"] == architecture(generator)


@pytest.mark.slow
def test_bfloat16_is_nearly_float32_and_leaves_no_trace():
  full, arguments = compiled(EVERYTHING)
  half, _ = compiled(HALF)
  text = half.as_text()
  assert "bf16" in text and "bf16" not in full.as_text()
  one, seen = full.compile()(*arguments)
  other, told = half.compile()(*arguments)
  kinds = jax.tree.map(lambda x: x.dtype, one)
  assert kinds == jax.tree.map(lambda x: x.dtype, other)
  for name, value in seen.items():
    assert told[name].dtype == value.dtype
    if name not in ("gradient_norm", "skipped", "stage"):
      assert float(told[name]) == pytest.approx(float(value), rel=0.1, abs=0.02)
  assert seen != told


@pytest.mark.slow
def test_rematerialisation_changes_memory_and_nothing_else():
  plain, arguments = compiled(EVERYTHING)
  anew, _ = compiled(ANEW)
  # XLA undoes it on CPUs: the memory of the executable says nothing here.
  assert residuals(ANEW) < 0.5 * residuals(EVERYTHING)
  one, other = (x.compile()(*arguments) for x in (plain, anew))
  key = {"key": jnp.zeros(())}
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
    (dataclasses.replace(one[0], **key), one[1]),
    (dataclasses.replace(other[0], **key), other[1]),
  )


@pytest.mark.slow
def test_a_loop_over_microbatches_needs_less_memory(monkeypatch):
  monkeypatch.setattr(accumulation, "_scan", jax.lax.scan)  # as on accelerators
  assert memory(compiled(PARTS)[0]) < 0.6 * memory(compiled(EVERYTHING)[0])
