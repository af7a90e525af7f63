"""Official training runs go on here, and encoders start from trained bodies.

The law: to leave a run as an official checkpoint and to start from that is the
same as not to have left it.
"""

import dataclasses
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_training_state import ADAM, RANGER

from encoder4editing_jax import converters, weights, weights_folder
from encoder4editing_jax.config import (
  Config,
  ConfigError,
  Data,
  Discriminator,
  Loss,
  Model,
  Optim,
  Progressive,
  Run,
  Weights,
)
from encoder4editing_jax.converters import (
  discriminators,
  inverter as frameworks,
  optimizers,
  transfer,
)
from encoder4editing_jax.converters.start import load_start
from encoder4editing_jax.models.arcface import ArcFace
from encoder4editing_jax.models.inverter import Inverter
from encoder4editing_jax.models.resnet import ResNet
from encoder4editing_jax.models.stylegan2 import Generator
from encoder4editing_jax.training import (
  adam,
  backbone,
  opening,
  parallel,
  ranger,
  settings,
  start,
  state as states,
)
from encoder4editing_jax.training.preparation import Plan
from encoder4editing_jax.training.step import make_train_step

SIDE, BATCH, LEFT, STEPS = 32, 2, 7, 13  # over two lookaheads of Ranger

# Pools are not in official files. Heads wake before and after the run is left.
CONFIG = Config(
  data=Data(size=(SIDE, SIDE)),
  model=Model(num_layers=10, channels=(4, 4, 8, 8), generator="g"),
  optim=Optim(lr=1e-3, schedule="cosine", warmup=2),
  discriminator=Discriminator(
    lr=1e-3, hidden=8, n_layers=3, r1_every=3, pool=0
  ),
  progressive=Progressive(steps=(0, 1, 2, 4, 6, 8, 10, 99)),
  run=Run(steps=STEPS, batch_size=BATCH, seed=3),
)


def change(config, **sections):
  changed = {
    name: dataclasses.replace(getattr(config, name), **fields)
    for name, fields in sections.items()
  }
  return dataclasses.replace(config, **changed)


def make_generator():
  net = Generator(
    SIDE, channel_base=64, channel_max=4, style_dim=8, n_mlp=1, rngs=nnx.Rngs(7)
  )
  net.w_avg[...] = jnp.linspace(-1, 1, 8)
  return net


def fresh(config):
  """A run that starts from nothing."""
  return start.begin(config, Plan(make_generator(), None, None))


def batch(step):
  random = np.random.default_rng(step)
  shape = (BATCH, SIDE, SIDE, 3)
  return {"image": random.integers(0, 256, shape, dtype=np.uint8)}


def compiled(config, networks):
  """One compilation serves a run and the one that goes on with it."""
  mapped = jax.vmap(
    make_train_step(config, networks),
    axis_name=parallel.AXIS,
    in_axes=(None, None, 0),
    out_axes=None,
  )
  return jax.jit(lambda s, f, b: mapped(s, f, parallel.split(b, 1)))


def go_on(step, networks, state, last):
  frozen = states.create_frozen(networks)
  while int(state.step) < last:
    state, _ = step(state, frozen, batch(int(state.step)))
  return state


def parts_of(optimizer, kind):
  leaves = jax.tree.leaves(optimizer, is_leaf=lambda x: isinstance(x, kind))
  return [part for part in leaves if isinstance(part, kind)]


def official_optimizer(module, table, optimizer, group, locate, names):
  """What PyTorch would save of the state of an optimizer of ours."""
  (moments,) = parts_of(optimizer, adam.Moments)
  kinds = {"exp_avg": moments.mean, "exp_avg_sq": moments.square}
  for slow in parts_of(optimizer, ranger.SlowWeights):
    kinds["slow_buffer"] = slow.slow
  values = {}
  for kind, tree in kinds.items():
    net = nnx.clone(module)
    nnx.update(net, locate(tree))
    values[kind] = transfer.extract(net, table)
  counts = {
    ".".join(map(str, path)): np.asarray(n)
    for path, n in nnx.traversals.flatten_mapping(locate(moments.count)).items()
  }
  rows = {row.source: row for row in table.rows}
  entries = {}
  for number, name in enumerate(names):
    row = rows[name]
    steps = counts.get(row.target, np.zeros((), int))
    steps = steps if row.index is None else steps[row.index]
    if steps:
      entry = {kind: found[name] for kind, found in values.items()}
      entries[number] = {"step": int(steps)} | entry
  numbers = list(range(len(names)))
  return {"state": entries, "param_groups": [group | {"params": numbers}]}


def official(config, networks, state, **opts):
  """A state of ours as e4e with `--save_training_data` leaves it."""
  encoder = nnx.clone(networks.encoder)
  nnx.update(encoder, state.encoder)
  nnx.update(encoder, state.statistics)
  generator = nnx.clone(networks.generator)
  nnx.update(generator, state.generator)
  critic = nnx.clone(networks.discriminator)
  nnx.update(critic, state.discriminator)
  inverter = Inverter(encoder, generator)
  found = converters.from_inverter(inverter, {"optim_name": config.optim.name})
  found["opts"] |= opts
  names = optimizers.parameter_names(found["state_dict"], "e4e")
  if not state.generator:
    names = [name for name in names if name.startswith("encoder.")]
  table = discriminators.latent_discriminator_table(critic)
  found |= converters.from_latent_discriminator(critic)
  weights_of = found["discriminator_state_dict"]
  group = RANGER if config.optim.name == "ranger" else ADAM
  return found | {
    "global_step": int(state.step) - 1,
    "best_val_loss": 0.5,
    "optimizer": official_optimizer(
      inverter,
      frameworks.inverter_table(inverter),
      state.optimizer,
      group | {"lr": config.optim.lr},
      lambda tree: tree if state.generator else {"encoder": tree},
      names,
    ),
    "discriminator_optimizer_state_dict": official_optimizer(
      critic,
      table,
      state.discriminator_optimizer,
      ADAM | {"lr": config.discriminator.lr},
      lambda tree: tree,
      list(weights_of),
    ),
  }


def continued(config, path):
  """The run in a file, as the trainer begins it."""
  config = change(config, weights={"start_from": str(path)})
  found = opening.load_start(config, load_start)
  return start.begin(config, Plan(make_generator(), None, None, start=found))


def assert_equal(found, expected, atol=0.0):
  theirs = jax.tree_util.tree_flatten_with_path(expected)[0]
  ours = jax.tree.leaves(found)
  assert len(ours) == len(theirs)
  for a, (path, b) in zip(ours, theirs, strict=True):
    if jnp.issubdtype(b.dtype, jax.dtypes.prng_key):
      a, b = map(jax.random.key_data, (a, b))
    name = jax.tree_util.keystr(path)
    np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=name)


CASES = {
  "ranger": {},
  "adam": {"optim": {"name": "adam"}},
  "ranger and decoder": {"model": {"train_decoder": True}},
  "adam and decoder": {
    "optim": {"name": "adam"},
    "model": {"train_decoder": True},
  },
  "no discriminator": {"loss": {"adversarial": 0.0}},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_run_that_left_as_an_official_checkpoint_goes_on(case, tmp_path):
  config = change(CONFIG, **CASES[case])
  networks, state = fresh(config)
  step = compiled(config, networks)
  state = go_on(step, networks, state, LEFT)
  (moments,) = parts_of(state.optimizer, adam.Moments)
  encoder = moments.count["encoder"] if state.generator else moments.count
  heads = [np.asarray(encoder[k]["linear_bias"]) for k in encoder if "head" in k]
  assert len(set(np.concatenate(heads).tolist())) > 3  # of different ages

  checkpoint = official(config, networks, state)
  if not config.loss.adversarial:
    del checkpoint["discriminator_state_dict"]
    del checkpoint["discriminator_optimizer_state_dict"]
  converters.write(checkpoint, tmp_path / "run.pt")
  again, resumed = continued(config, tmp_path / "run.pt")
  assert_equal(resumed, state)
  assert_equal(states.create_frozen(again), states.create_frozen(networks))
  whole = go_on(step, networks, state, STEPS)
  assert_equal(go_on(step, again, resumed, STEPS), whole, atol=1e-6)
