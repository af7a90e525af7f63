"""The training step: one device, many devices, and what it must not do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from encoder4editing_jax.config import (
  Config,
  Data,
  Discriminator,
  Loss,
  Model,
  Optim,
  Progressive,
  Run,
)
from encoder4editing_jax.models.arcface import ArcFace
from encoder4editing_jax.models.lpips import LPIPS
from encoder4editing_jax.models.moco import MoCo
from encoder4editing_jax.models.stylegan2 import Generator
from encoder4editing_jax.training import (
  parallel,
  passes,
  state as states,
)
from encoder4editing_jax.training.step import (
  SMALL,
  make_train_step,
  norm,
  stage_at,
)

BATCH, SIDE, STEPS = 8, 16, 3

# Plain gradient descent: Adam would turn rounding noise into whole steps.
CONFIG = Config(
  data=Data(size=(SIDE, SIDE)),
  model=Model(num_layers=10, channels=(4, 4, 8, 8)),
  optim=Optim(name="sgd", lr=0.02),
  discriminator=Discriminator(
    lr=0.02, hidden=8, n_layers=2, r1_every=2, pool=6
  ),
  progressive=Progressive(start=1, every=1),
  run=Run(steps=STEPS, batch_size=BATCH),
)


# Every term of the losses but moco, which stands in for identity.
EVERYTHING = dataclasses.replace(
  CONFIG,
  data=Data(size=(48, 48)),
  loss=Loss(
    lpips=0.8,
    lpips_crop=0.1,
    l2_crop=0.1,
    identity=0.5,
    w_norm=0.01,
    delta=0.01,
  ),
  model=dataclasses.replace(CONFIG.model, train_decoder=True),
  optim=dataclasses.replace(CONFIG.optim, batch_statistics="published"),
)
ONLY_MOCO = dataclasses.replace(
  EVERYTHING, loss=Loss(moco=0.5, l2=0.0), model=CONFIG.model
)


def features(config):
  """Tiny networks for the losses of a config."""
  rngs, found = nnx.Rngs(5), {}
  if config.loss.lpips:
    found["lpips"] = LPIPS(channels=(4, 4, 4, 4, 4), rngs=rngs)
  if config.loss.identity:
    found["arcface"] = ArcFace(
      10, input_size=32, embedding_dim=8, channels=(4, 4, 8, 8), rngs=rngs
    )
  if config.loss.moco:
    found["moco"] = MoCo((1, 1), channels=(4, 8), input_size=16, rngs=rngs)
  return found


def build(config):
  generator = Generator(
    SIDE, channel_base=64, channel_max=4, style_dim=8, n_mlp=1, rngs=nnx.Rngs(7)
  )
  return states.build_networks(config, generator, features(config))


@pytest.fixture(scope="module")
def networks():
  return build(CONFIG)


@pytest.fixture(scope="module")
def step(networks):
  return make_train_step(CONFIG, networks)


def batches(side=SIDE):
  random = np.random.default_rng(0)
  shape = (BATCH, side, side, 3)
  for _ in range(STEPS):
    yield {"image": random.integers(0, 256, shape, dtype=np.uint8)}


def vmap_step(step, n):
  """Shards as a batch axis on one device.

  `out_axes=None` raises if anything that comes back differs between shards: a
  forgotten pmean, or batch statistics that are not synchronised.
  """
  mapped = jax.vmap(
    step, axis_name=parallel.AXIS, in_axes=(None, None, 0), out_axes=None
  )
  return jax.jit(lambda s, f, b: mapped(s, f, parallel.split(b, n)))


def train(step, networks, devices=None, config=CONFIG):
  state = states.create_state(config, networks)
  start = config.data.size if config.model.refinements else None
  frozen = states.create_frozen(networks, start)
  if devices:
    state = parallel.replicate(state, devices)
    frozen = parallel.replicate(frozen, devices)
  seen = []
  for batch in batches(config.data.size[0]):
    state, metrics = step(state, frozen, batch)
    seen.append({name: float(value) for name, value in metrics.items()})
  return state, seen


def arrays(state):
  key = jax.random.key_data(state.key)
  return jax.device_get(dataclasses.replace(state, key=key))


def assert_same(one, other):
  for a, b in zip(one[1], other[1], strict=True):
    assert a.keys() == b.keys()
    for name, value in a.items():
      assert b[name] == pytest.approx(value, rel=2e-4, abs=1e-6), name
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5),
    arrays(one[0]),
    arrays(other[0]),
  )


def counted(step, calls):
  """A step that notes its calls: under a transform, its traces."""

  def noting(*arguments):
    calls.append(1)
    return step(*arguments)

  return noting


@pytest.fixture(scope="module")
def traces():
  """One entry for each time that `on_one` traced its step."""
  return []


@pytest.fixture(scope="module")
def on_one(step, networks, traces):
  device = jax.local_devices()[:1]
  step = counted(step, traces)
  return train(parallel.pmap_step(step, device), networks, device)


def test_one_trace_serves_all_stages(on_one, traces):
  assert [m["stage"] for m in on_one[1]] == [0, 1, 2]
  assert len(traces) == 1


def test_eight_devices_do_what_one_does(step, networks, on_one):
  devices = jax.local_devices()
  assert len(devices) == 8
  assert_same(on_one, train(parallel.pmap_step(step), networks, devices))


def switched_on(config):
  """The terms of a config's loss."""
  weights = dataclasses.asdict(config.loss)
  del weights["delta_norm"], weights["lpips_net"]
  return {name for name, weight in weights.items() if weight}


def test_those_two_have_every_loss():
  """So that a new term does not go without the test below."""
  every = dataclasses.fields(Loss)
  every = {f.name for f in every} - {"delta_norm", "lpips_net"}
  assert switched_on(EVERYTHING) | switched_on(ONLY_MOCO) == every
  for critic in (EVERYTHING.discriminator, ONLY_MOCO.discriminator):
    assert 0 < critic.pool < BATCH and critic.r1  # codes are swapped at once


@pytest.mark.slow
@pytest.mark.parametrize("config", [EVERYTHING, ONLY_MOCO])
def test_eight_devices_do_what_one_does_with_every_loss(config):
  networks = build(config)
  step, one = make_train_step(config, networks), jax.local_devices()[:1]
  alone = train(parallel.pmap_step(step, one), networks, one, config)
  assert_same(alone, train(parallel.pmap_step(step), networks, None, config))
  assert all(np.isfinite(list(m.values())).all() for m in alone[1])
  for name in switched_on(config) | {"r1"}:
    assert alone[1][-1][name] > 0, name
  if config.model.train_decoder:
    before = states.create_state(config, networks).generator
    moved = jax.tree.map(
      lambda a, b: not np.array_equal(a, b), before, alone[0].generator
    )
    assert np.mean(jax.tree.leaves(moved)) > 0.7
    assert "mapping" not in before


@pytest.mark.slow
def test_shards_as_a_batch_axis_do_what_one_does(step, networks, on_one):
  assert_same(on_one, train(vmap_step(step, 4), networks))


@pytest.mark.slow
def test_shard_map_does_what_pmap_does(step, networks, on_one):
  devices = jax.local_devices()[:2]
  mapped = parallel.shard_map_step(step, devices)
  assert_same(on_one, train(mapped, networks, devices))


def test_everything_moves(networks, on_one):
  state, seen = on_one
  before = arrays(states.create_state(CONFIG, networks))
  after = arrays(state)
  assert after.step == STEPS
  for name in ("encoder", "statistics", "discriminator"):
    same = jax.tree.map(
      lambda a, b: bool((a == b).all()),
      getattr(before, name),
      getattr(after, name),
    )
    moved = [not x for x in jax.tree.leaves(same)]
    assert np.mean(moved) > 0.7, name
  assert int(after.real_pool.count) == int(after.fake_pool.count) == 6
  assert all(np.isfinite(list(m.values())).all() for m in seen)
  assert [m["stage"] for m in seen] == [0, 1, 2]


def test_steps_that_are_not_finite_change_nothing(step, networks):
  device = jax.local_devices()[:1]
  mapped = parallel.pmap_step(step, device)
  state = states.create_state(CONFIG, networks)
  state = parallel.replicate(state, device)
  frozen = parallel.replicate(states.create_frozen(networks), device)
  nothing = jax.tree.map(lambda x: x * jnp.nan, frozen.w_avg)
  broken = dataclasses.replace(frozen, w_avg=nothing)
  before = arrays(state)
  batch = next(batches())
  for count in (1, 2):
    state, metrics = mapped(state, broken, batch)
    assert np.isnan(metrics["loss"])
    assert metrics["skipped"] == count
  after = arrays(state)
  assert after.step == 2
  same = dataclasses.replace(after, step=before.step, skipped=before.skipped)
  jax.tree.map(np.testing.assert_array_equal, same, before)
  state, metrics = mapped(state, frozen, batch)
  assert metrics["skipped"] == 0
  assert np.isfinite(metrics["loss"])


def test_r1_acts_every_other_step(on_one):
  penalties = [m["r1"] for m in on_one[1]]
  assert penalties[0] > 0 and penalties[2] > 0
  assert penalties[1] == 0


def test_the_total_is_the_weighted_sum(on_one):
  for metrics in on_one[1]:
    total = sum(
      getattr(CONFIG.loss, name) * metrics[name]
      for name in ("l2", "delta", "adversarial")
    )
    assert metrics["loss"] == pytest.approx(total, rel=1e-4)


def abstract_metrics(config):
  """Names of the metrics of a config, without compiling anything."""

  def whole():
    networks = build(config)
    batch = {"image": jnp.zeros((2, 1, *config.data.size, 3), jnp.uint8)}
    mapped = jax.vmap(
      make_train_step(config, networks),
      axis_name=parallel.AXIS,
      in_axes=(None, None, 0),
      out_axes=None,
    )
    state = states.create_state(config, networks)
    new, metrics = mapped(state, states.create_frozen(networks), batch)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    return metrics

  return set(jax.eval_shape(whole))


def test_sleeping_heads_do_not_move(networks, on_one):
  """Those of the middle would wake with style 3, after the last step."""
  before = states.create_state(CONFIG, networks).encoder
  after = on_one[0].encoder
  assert "heads_middle" in before
  for name in ("heads_middle", "lateral1"):
    jax.tree.map(np.testing.assert_array_equal, before[name], after[name])


def test_terms_of_weight_zero_are_left_out():
  plain = dataclasses.replace(CONFIG, loss=Loss(adversarial=0.0, delta=0.0))
  assert abstract_metrics(plain) == {
    "loss",
    "l2",
    "stage",
    "gradient_norm",
    "skipped",
  }


def test_every_loss_has_its_metric():
  names = abstract_metrics(EVERYTHING)
  on = {"lpips", "lpips_crop", "l2", "l2_crop", "identity", "w_norm", "delta"}
  seen = {"diff_target", "diff_input", "diff_views", "improvement"}
  assert on | seen <= names
  assert "moco" not in names
  assert {"moco", *seen} <= abstract_metrics(ONLY_MOCO)


def test_statistics_can_move_as_by_two_passes():
  before, batch = 3.0, -2.0
  once = 0.9 * before + 0.1 * batch
  twice = 0.9 * once + 0.1 * batch
  found = passes._as_by_two_passes({"mean": before}, {"mean": once})
  assert found["mean"] == pytest.approx(twice)


def test_the_average_is_evaluated_if_there_is_one(networks):
  plain = states.create_state(CONFIG, networks)
  assert plain.best_encoder() == (plain.encoder, plain.statistics)
  average = {"encoder": {"x": 1}, "statistics": {"y": 2}}
  state = dataclasses.replace(plain, average=average)
  assert state.best_encoder() == ({"x": 1}, {"y": 2})


@pytest.mark.parametrize(
  "encoder",
  [
    "SingleStyleEncoder",
    pytest.param("GradualStyleEncoder", marks=pytest.mark.slow),
  ],
)
def test_encoders_without_stages_train_too(encoder):
  config = dataclasses.replace(
    CONFIG,
    model=dataclasses.replace(CONFIG.model, encoder=encoder),
    optim=Optim(name="ranger", clip_norm=1.0, ema=0.9),
    progressive=Progressive(),
    discriminator=dataclasses.replace(CONFIG.discriminator, pool=0),
  )
  names = abstract_metrics(config)
  assert "stage" not in names and "delta" not in names
  assert {"adversarial", "r1", "discriminator_real"} <= names


def test_stages_begin_at_their_steps():
  config = dataclasses.replace(CONFIG, progressive=Progressive(20, 10))
  stages = {s: int(stage_at(jnp.int32(s), config, 5)) for s in range(100)}
  assert [stages[s] for s in (0, 19, 20, 29, 30, 40, 50, 99)] == [
    0,
    0,
    1,
    1,
    2,
    3,
    4,
    4,
  ]
  assert stage_at(jnp.int32(3), Config(), 5) is None


def test_stages_may_begin_at_any_steps():
  steps = Progressive(steps=(0, 2, 2, 7, 100))
  config = dataclasses.replace(CONFIG, progressive=steps)
  stages = [int(stage_at(jnp.int32(s), config, 5)) for s in range(9)]
  assert stages == [0, 0, 2, 2, 2, 2, 2, 3, 3]


def test_the_norm_is_that_of_small_and_large_arrays_together():
  rng = np.random.default_rng(0)
  shapes = {"small": (3, 4), "scalar": (), "large": (SMALL + 1,)}
  tree = {k: rng.standard_normal(s, np.float32) for k, s in shapes.items()}
  for names in (("small", "scalar", "large"), ("large",), ("small", "scalar")):
    part = {name: jnp.asarray(tree[name]) for name in names}
    numbers = np.concatenate([np.ravel(tree[name]) for name in names])
    np.testing.assert_allclose(norm(part), np.linalg.norm(numbers), rtol=1e-6)
