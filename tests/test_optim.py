"""Laws of the optimizers; tests/parity_training.py has the numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from encoder4editing_jax.config import Config, Optim, Run
from encoder4editing_jax.converters import inverter, stylegan2
from encoder4editing_jax.models import encoders
from encoder4editing_jax.models.heads import StyleHeads
from encoder4editing_jax.models.pyramid import add_deltas
from encoder4editing_jax.models.stylegan2 import Generator
from encoder4editing_jax.training import optim, tensors
from encoder4editing_jax.training.adam import Moments, adam
from encoder4editing_jax.training.ranger import (
  lookahead,
  ranger,
  rectification,
)

HEADS, STEPS, WAKES = "heads_coarse/convs/0/kernel", 14, 5
SHAPE = (3, 3, 2, 4)


@functools.partial(jax.jit, static_argnums=0)
def descend(optimizer, carry, gradients):
  """Last (parameters, state), and the parameters after every step."""

  def step(carry, gradient):
    parameters, state = carry
    updates, state = optimizer.update(gradient, state, parameters)
    parameters = optax.apply_updates(parameters, updates)
    return (parameters, state), parameters

  return jax.lax.scan(step, carry, gradients)


def start(optimizer, parameters):
  return parameters, optimizer.init(parameters)


def normal(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


# What the leaves are.

TINY = {"style_dim": 4, "input_size": 32, "num_layers": 10}
NETWORKS = {
  name: (
    lambda name=name: getattr(encoders, name)(
      10, **TINY, channels=(3, 4, 6, 8), rngs=nnx.Rngs(0)
    ),
    inverter.encoder_table,
  )
  for name in (
    "Encoder4Editing",
    "WPlusEncoder",
    "SingleStyleEncoder",
    "ResNetBackboneEncoder",
  )
}
NETWORKS["Generator"] = (
  lambda: Generator(
    16, channel_base=64, style_dim=6, n_mlp=2, rngs=nnx.Rngs(0)
  ),
  stylegan2.generator_table,
)


@pytest.mark.parametrize("name", NETWORKS)
def test_leaves_are_what_the_originals_hold(name):
  """The mean of the official tensor, and the tensor, of every parameter."""
  build, table = NETWORKS[name]
  network = nnx.eval_shape(build)
  found = nnx.to_flat_state(nnx.state(network, nnx.Param))
  shapes = {".".join(map(str, path)): leaf.shape for path, leaf in found}
  random, unseen = np.random.default_rng(0), set(shapes)
  for row in table(network).rows:
    if row.target not in shapes:
      continue  # statistics, noise maps
    unseen.discard(row.target)
    tensor = tensors.describe(row.target.replace(".", "/"))
    assert tensor.stacked == (row.index is not None), row.target
    leaf = random.standard_normal(shapes[row.target])
    axes = tensor.mean_axes(leaf.ndim)
    mean = np.broadcast_to(leaf.mean(axes, keepdims=True), leaf.shape)
    ours = leaf - mean if axes else leaf
    if tensor.stacked:
      leaf, ours = leaf[row.index], ours[row.index]
    official = row.layout.inverse(leaf)
    if official.ndim > 1:
      axes = tuple(range(1, official.ndim))
      official = official - official.mean(axes, keepdims=True)
    np.testing.assert_allclose(
      ours, row.layout.forward(official), atol=1e-12, err_msg=row.target
    )
  assert not unseen


# Waking late.


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 2])
def test_sleeping_heads_have_a_gradient_of_exact_zeros(stage):
  heads = StyleHeads(4, 3, 5, 4, rngs=nnx.Rngs(0))
  graph, state = nnx.split(heads)

  @jax.jit
  @jax.grad
  def slope(state, x, stage):
    return jnp.sum(add_deltas(nnx.merge(graph, state)(x), stage) ** 2)

  counts = tensors.count_steps(
    tensors.no_steps(lambda path: tensors.Tensor(stacked=True), state),
    slope(state, normal(0, 2, 4, 4, 3), jnp.int32(stage)),
  )
  for count in jax.tree.leaves(counts):
    assert count.tolist() == [int(i <= stage) for i in range(4)]


@pytest.mark.parametrize("make", [ranger, adam])
def test_a_head_that_wakes_late_does_what_a_fresh_one_does(make):
  """Its own warm-up and look-ahead, at the run's rate at that time."""
  both, slopes = normal(1, 2, *SHAPE), normal(2, STEPS, 2, *SHAPE)
  slopes = slopes.at[:WAKES, 1].set(0)
  rate = optax.linear_schedule(1e-2, 1e-3, STEPS)
  whole = make(rate)
  seen = descend(whole, start(whole, {HEADS: both}), {HEADS: slopes})[1][HEADS]
  np.testing.assert_array_equal(
    seen[:WAKES, 1], np.tile(both[1], (WAKES, 1, 1, 1, 1))
  )
  for i, first in ((0, 0), (1, WAKES)):
    fresh = make(lambda step, first=first: rate(step + first))
    alone = {"kernel": both[i]}
    alone = descend(fresh, start(fresh, alone), {"kernel": slopes[first:, i]})
    np.testing.assert_allclose(
      seen[first:, i], alone[1]["kernel"], rtol=0, atol=1e-6
    )


def test_what_sleeps_does_not_decay():
  optimizer = ranger(0.1, weight_decay=0.5)
  both = {HEADS: normal(1, 2, *SHAPE)}
  slopes = {HEADS: normal(2, 8, 2, *SHAPE).at[:, 1].set(0)}
  (last, state), _ = descend(optimizer, start(optimizer, both), slopes)
  np.testing.assert_array_equal(last[HEADS][1], both[HEADS][1])
  assert state[1].count[HEADS].tolist() == [8, 0]


# Parts.


def test_rectification_is_exact_at_every_step():
  t = np.unique(np.geomspace(1, 200_000, 400).astype(int))
  b2 = 0.999
  limit, power = 2 / (1 - b2) - 1, b2**t
  rho = limit - 2 * t * power / (1 - power)
  r = (rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho)
  gain = np.sqrt((1 - power) * np.where(rho > 5, r, 1))
  adapt, ours = jax.jit(lambda t: rectification(t, b2, 5.0))(t)
  np.testing.assert_array_equal(adapt, t > 5)
  np.testing.assert_allclose(ours, np.where(t > 5, gain, 1), rtol=2e-6)


def test_lookahead_meets_the_slow_weights_every_few_steps():
  optimizer = optax.chain(optax.sgd(0.1), lookahead(3, 0.25))
  parameters, slopes = {"bias": normal(1, 4)}, {"bias": normal(2, 7, 4)}
  seen = descend(optimizer, start(optimizer, parameters), slopes)[1]["bias"]
  fast = slow = np.asarray(parameters["bias"], np.float64)
  for t in range(7):
    fast = fast - 0.1 * np.asarray(slopes["bias"][t])
    if t % 3 == 2:
      slow = fast = slow + 0.25 * (fast - slow)
    np.testing.assert_allclose(seen[t], fast, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_state_put_away_and_taken_up_goes_on_to_the_bit():
  optimizer = ranger(1e-2)
  parameters = {HEADS: normal(1, 2, *SHAPE), "conv/kernel": normal(3, *SHAPE)}
  slopes = {
    HEADS: normal(2, STEPS, 2, *SHAPE).at[:WAKES, 1].set(0),
    "conv/kernel": normal(4, STEPS, *SHAPE),
  }
  begun = start(optimizer, parameters)
  whole, _ = descend(optimizer, begun, slopes)
  half = STEPS // 2
  parts = [
    jax.tree.map(lambda x, i=i: x[i * half :][:half], slopes) for i in (0, 1)
  ]
  kept = jax.tree.map(np.array, descend(optimizer, begun, parts[0])[0])
  resumed, _ = descend(optimizer, kept, parts[1])
  jax.tree.map(np.testing.assert_array_equal, whole, resumed)


# From a config.


def test_ranger_is_the_default_and_long_gradients_are_cut():
  assert Config().optim == Optim(name="ranger", lr=1e-4)
  gradient = {"bias": jnp.array([3.0, 4.0])}
  for limit, factor in ((None, 1.0), (10.0, 1.0), (2.5, 0.5)):
    config = Config(optim=Optim(name="sgd", lr=0.1, clip_norm=limit))
    optimizer = optim.make_optimizer(config)
    update, _ = optimizer.update(gradient, optimizer.init(gradient))
    np.testing.assert_allclose(
      update["bias"], -0.1 * factor * gradient["bias"], rtol=1e-6
    )


@pytest.mark.parametrize(
  ("name", "has_moments"), [("ranger", True), ("adam", True), ("sgd", False)]
)
def test_the_discriminator_has_adam_also_beside_ranger(name, has_moments):
  config = Config(optim=Optim(name=name), run=Run(steps=5))
  optimizer = optim.make_discriminator_optimizer(config)
  gradient = {"bias": jnp.array([3.0, -4.0])}
  state = optimizer.init(gradient)
  assert any(isinstance(part, Moments) for part in state) == has_moments
  update, _ = optimizer.update(gradient, state)
  first = [-1, 1] if has_moments else [-3, 4]
  np.testing.assert_allclose(
    update["bias"], config.discriminator.lr * np.array(first), rtol=1e-5
  )


@pytest.mark.parametrize(("step", "decay"), [(0, 0.1), (35, 0.8), (999, 0.9)])
def test_the_average_forgets_the_beginning(step, decay):
  average = optim.update_average(
    {"x": jnp.ones(2)}, {"x": jnp.full(2, 3.0)}, 0.9, jnp.int32(step)
  )
  np.testing.assert_allclose(average["x"], 3 - 2 * decay, rtol=1e-5)
  assert optim.update_average({}, {"x": jnp.ones(2)}, 0.9, jnp.int32(0)) == {}
