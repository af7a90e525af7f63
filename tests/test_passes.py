"""ReStyle's refinements and microbatches: what they add up to."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from changing import change
from flax import nnx
from test_step import BATCH, CONFIG, SIDE, assert_same, build, train

from encoder4editing_jax.config import Loss, Progressive
from encoder4editing_jax.models.inverter import Inverter
from encoder4editing_jax.training import (
  accumulation,
  parallel,
  passes,
  state as states,
)
from encoder4editing_jax.training.evaluation import Evaluator
from encoder4editing_jax.training.objective import make_encoder_loss
from encoder4editing_jax.training.step import make_train_step

REFINING = change(
  CONFIG,
  model={"encoder": "ProgressiveBackboneEncoder", "refinements": 3},
  run={"microbatches": 2},
)
PLAIN = dataclasses.replace(
  CONFIG, loss=Loss(adversarial=0.0), progressive=Progressive()
)


def examples_of(config, images, seed=3):
  keys = jax.random.split(jax.random.key(seed), len(images))
  return passes.Examples(images, images, keys)


def pictures(n, seed=0):
  shape = (n, SIDE, SIDE, 3)
  values = np.random.default_rng(seed).uniform(-1, 1, shape)
  return jnp.asarray(values, jnp.float32)


def gradient(config, networks, images, stage=None):
  """Gradient, statistics and metrics of one update, on one device."""
  made = accumulation.make_passes(config, networks)
  start = config.data.size if config.model.refinements else None
  frozen = states.create_frozen(networks, start)

  def update(state, images):
    examples = examples_of(config, images)
    codes, memo = made.first(state, frozen, examples, stage)
    return codes, *made.gradient(state, frozen, examples, stage, memo)

  mapped = jax.vmap(update, axis_name=parallel.AXIS, in_axes=(None, 0))
  state = states.create_state(config, networks)
  found = jax.jit(mapped)(state, images[None])
  return jax.tree.map(lambda x: x[0], found), state, frozen


def close(one, other, rtol=2e-4, atol=1e-6):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol),
    one,
    other,
  )


def by_hand(config, networks, images, state, frozen):
  """ReStyle's update (2104.02699, 3.1), written out."""
  encoder = nnx.clone(networks.encoder)
  loss = make_encoder_loss(config, networks)
  keys = examples_of(config, images).noise
  graph = nnx.graphdef(encoder)
  total = jax.tree.map(jnp.zeros_like, state.encoder)
  statistics, codes = state.statistics, jnp.tile(frozen.w_avg[None], (4, 1, 1))
  fed_back = jnp.tile(frozen.average_image, (4, 1, 1, 1))
  for i in range(config.model.refinements):

    def one(trained, codes=codes, fed_back=fed_back, past=statistics, i=i):
      encoder = nnx.merge(graph, trained, past, copy=True)
      encoder.train()
      w_plus = encoder(jnp.concatenate([images, fed_back], -1)) + codes
      noise = jax.vmap(lambda k: jax.random.fold_in(k, i))(keys)
      value, (terms, output) = loss(
        *(w_plus, {}, images, images, {}, frozen, None, noise)
      )
      rest = states.split_encoder(encoder)[1]
      return value, (w_plus, output, rest, terms)

    found, seen = jax.grad(one, has_aux=True)(state.encoder)
    codes, fed_back, statistics, terms = seen
    total = jax.tree.map(jnp.add, total, found)
  return total, statistics, terms


def test_refinements_add_up_their_own_gradients():
  config = change(PLAIN, model={"encoder": "BackboneEncoder", "refinements": 2})
  networks = build(config)
  images = pictures(4)
  found, state, frozen = gradient(config, networks, images)
  update = jax.vmap(
    lambda x: by_hand(config, networks, x, state, frozen),
    axis_name=parallel.AXIS,
  )
  total, statistics, terms = jax.tree.map(
    lambda x: x[0], jax.jit(update)(images[None])
  )
  _, ours, after, metrics = found
  close(total, ours)
  close(statistics, after)
  assert metrics["l2"] == pytest.approx(float(terms["l2"]), rel=1e-5)
  assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(total)) > 1e-3


@pytest.mark.slow
def test_microbatches_of_copies_are_one_of_them():
  networks = build(PLAIN)
  images = pictures(2)
  pairs = jnp.repeat(images, 2, 0)  # part i: every other example
  (_, alone, *_), *_ = gradient(PLAIN, networks, images)
  config = change(PLAIN, run={"microbatches": 2})
  (_, parts, *_), *_ = gradient(config, networks, pairs)
  close(alone, parts)


@pytest.mark.slow
def test_the_discriminator_sees_the_codes_of_the_first_pass():
  config = change(REFINING, progressive={"start": None})
  networks = build(config)
  (codes, *_), state, frozen = gradient(config, networks, pictures(4))
  encode = passes.make_encode(networks)
  seen = passes.look(pictures(4)[::2], passes.unrefined(frozen, 2))
  first, _ = jax.vmap(
    lambda x: encode(state.encoder, state.statistics, frozen, x, None),
    axis_name=parallel.AXIS,
  )(seen[None])
  close(codes[::2], first[0], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_batch_statistics_count_the_passes():
  """As published the discriminator's pass counts, and comes first: what it
  changed fades by 0.9 with each of the three refinements."""
  config = change(
    REFINING, progressive={"start": None}, run={"microbatches": 1}
  )
  networks, images = build(config), pictures(4)
  (_, _, once, _), state, frozen = gradient(config, networks, images)
  published = change(config, optim={"batch_statistics": "published"})
  (_, _, more, _), *_ = gradient(published, networks, images)
  encode = passes.make_encode(networks)
  seen = passes.look(images, passes.unrefined(frozen, 4))
  _, first = jax.vmap(
    lambda x: encode(state.encoder, state.statistics, frozen, x, None),
    axis_name=parallel.AXIS,
  )(seen[None])
  jax.tree.map(
    lambda a, b, before, after: np.testing.assert_allclose(
      b - a, 0.9**3 * (after[0] - before), rtol=1e-3, atol=1e-5
    ),
    once,
    more,
    state.statistics,
    first,
  )


@pytest.mark.slow
def test_several_devices_refine_as_one_does():
  networks = build(REFINING)
  step = make_train_step(REFINING, networks)
  config = change(REFINING, run={"microbatches": 1})
  step_of_one = make_train_step(config, networks)

  def run(step, devices):
    return train(parallel.pmap_step(step, devices), networks, devices, REFINING)

  devices = jax.local_devices()
  assert BATCH == 8
  assert_same(run(step, devices[:1]), run(step, devices[:4]))
  assert_same(run(step_of_one, devices[:1]), run(step_of_one, devices))


@pytest.mark.slow
def test_evaluations_refine_as_the_exported_inverter():
  config = change(PLAIN, model={"encoder": "BackboneEncoder", "refinements": 2})
  networks = build(config)
  state = states.create_state(config, networks)
  frozen = states.create_frozen(networks, config.data.size)
  evaluator = Evaluator(config, networks)
  images = pictures(2)
  w_plus, output = evaluator._invert(state, frozen, images, None)
  encoder = states.build_encoder(config, networks.generator, bn_axis=None)
  nnx.update(encoder, state.encoder)
  inverter = Inverter(encoder, networks.generator, restyle=True)
  same = inverter.invert(images, 2)
  close(w_plus, same.w_plus, rtol=1e-3, atol=1e-4)
  close(output, same.images, rtol=1e-3, atol=1e-3)
