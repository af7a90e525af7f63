"""The originals' training loops on our training step, at recipe weights.

What the step does not report is computed beside it, in the same executable,
where the two share their work: the codes, the pictures and the cosines of
each. The gradient of a generator is what the step hands to its optimizer.

The weights fill gigabytes. Only the state of the run holds them: the networks
are bare graphs, and weights from before the run are drawn anew, one by one.
"""

import ctypes
import dataclasses
import re
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from goldens.recipe import (
  recipe_keys,
  recipe_normal,
  recipe_state_dict,
  recipe_tensor,
)
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from parity import load
from parity_networks import D, mean_code

from encoder4editing_jax import converters
from encoder4editing_jax.converters import (
  inverter as tables,
  stylegan2,
  transfer,
)
from encoder4editing_jax.converters.discriminators import (
  latent_discriminator_table,
)
from encoder4editing_jax.models.inverter import Inverter
from encoder4editing_jax.training import objective, optim, state as states
from encoder4editing_jax.training.adam import Moments
from encoder4editing_jax.training.keys import keys_of
from encoder4editing_jax.training.parallel import AXIS, pmap_step
from encoder4editing_jax.training.passes import make_encode
from encoder4editing_jax.training.step import make_train_step, stage_at

STYLES, BATCH = 10, 2

# What the originals call our metrics.
ENTRIES = {
  "d_real_loss": "discriminator_real",
  "d_fake_loss": "discriminator_fake",
  "discriminator_r1_loss": "r1",
  "encoder_discriminator_loss": "adversarial",
  "total_delta_loss": "delta",
  "id_improve": "improvement",
  "loss_l2": "l2",
  "loss_lpips": "lpips",
  "loss_w_norm": "w_norm",
  "loss": "loss",
}


# Weights before the run.


def initial(name, shape, dtype="float32"):
  """One tensor of a framework at the start: noise has no strength."""
  if name.endswith("noise.weight"):
    return np.zeros(shape, np.float32)
  return recipe_tensor(name, shape, dtype=dtype)


def official(kind):
  """A framework at the start, with a mean code for each style."""
  state = {k: initial(k, *rest) for k, *rest in recipe_keys(kind)}
  return {"state_dict": state, "latent_avg": mean_code(STYLES, D)}


def feature_networks(config):
  """The networks of a config's losses, at recipe weights."""
  found = {
    "lpips": converters.to_lpips(
      recipe_state_dict("alexnet_features"), recipe_state_dict("lpips_lin_alex")
    )
  }
  if config.loss.identity:
    found["arcface"] = converters.to_arcface(recipe_state_dict("ir_se50"))
  if config.loss.moco:
    weights = {"state_dict": recipe_state_dict("moco_resnet50")}
    found["moco"] = converters.to_moco(weights)
  return found


def build(config, kind):
  """The modules of a run, and the mean code."""
  inverter = converters.to_inverter(official(kind), config.model.encoder)
  encoder = transfer.abstract(
    lambda: states.build_encoder(config, inverter.generator)
  )
  encoder = nnx.merge(nnx.graphdef(encoder), nnx.state(inverter.encoder))
  critic = recipe_state_dict("latent_discriminator")
  networks = states.Networks(
    encoder,
    inverter.generator,
    converters.to_latent_discriminator(critic),
    feature_networks(config),
  )
  return networks, inverter.w_avg[...]


def bare(module):
  """A module with shapes in place of its arrays."""
  graph, state = nnx.split(module)
  return nnx.merge(graph, jax.eval_shape(lambda: state))


def without(tree, name):
  """A nested dictionary without the leaves of a name."""
  return {
    k: without(v, name) if isinstance(v, dict) else v
    for k, v in tree.items()
    if k != name
  }


def return_memory():
  """Hands freed memory back to the system, where the C library can."""
  trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
  if trim is not None:
    trim(0)


# The run.


def remember():
  """An optimizer that passes on and keeps the gradients of a generator."""

  def generator(tree):
    return tree.get("generator", {})

  return optax.GradientTransformation(
    lambda trained: jax.tree.map(jnp.zeros_like, generator(trained)),
    lambda gradients, _, trained=None: (gradients, generator(gradients)),
  )


def listening():
  """Optimizers that are made within start with `remember`."""
  make = optim.make_optimizer
  return mock.patch.object(
    optim, "make_optimizer", lambda c: optax.chain(remember(), make(c))
  )


class Coach:
  """A run of the training step at recipe weights."""

  def __init__(self, config, kind):
    self.config, self.kind = config, kind
    networks, w_avg = build(config, kind)
    device = jax.local_devices()[:1]
    place = NamedSharding(Mesh(np.array(device), (AXIS,)), PartitionSpec())
    frozen = dataclasses.replace(states.create_frozen(networks), w_avg=w_avg)
    self.frozen = jax.device_put(frozen, place)
    self.networks = states.Networks(
      *map(bare, networks[:3]), {k: bare(v) for k, v in networks[3].items()}
    )
    with listening():
      self.state = jax.device_put(self._first_state(networks), place)
    del networks, frozen
    return_memory()
    self.step = pmap_step(self._step, device)

  def _first_state(self, networks):
    state = states.create_state(self.config, networks)
    if state.generator:  # here the noise keeps its strength
      synthesis = without(state.generator, "noise_strength")
      state = dataclasses.replace(state, generator=synthesis)
      optimizer = optim.make_optimizer(self.config).init(state.trained())
      state = dataclasses.replace(state, optimizer=optimizer)
    return state

  def _step(self, state, frozen, batch):
    """The training step, and what it does not tell: compiled, they share."""
    config, networks = self.config, self.networks
    with listening():
      step = make_train_step(config, networks, lambda *_: batch["z"])
    new, metrics = step(state, frozen, batch)
    stage = stage_at(state.step, config, STYLES)
    latent, _ = make_encode(networks)(
      state.encoder, state.statistics, frozen, batch["source"], stage
    )
    painted = states.with_generator(frozen, state.generator)
    keys, decode = keys_of(state, BATCH), objective.make_decode(networks)
    output = decode(painted, latent, config.data.size, keys.noise)
    seen = {"latent": latent, "y_hat": output.transpose(0, 3, 1, 2)}
    for name, method in objective.EMBED.items():
      if getattr(config.loss, name):
        net = objective.FEATURES[name]
        graph = nnx.graphdef(networks.features[net])
        embed = getattr(nnx.merge(graph, frozen.features[net]), method)
        _, cosines = objective.similarity(
          embed, output, batch["image"], batch["source"]
        )
        seen |= {f"id_logs/{k}": v for k, v in cosines.items()}
        metrics["loss_id"] = metrics[name]
    return new, (metrics, seen)

  def advance(self, batch, z):
    """What a step reports, and what is computed beside it."""
    batch = batch | {"z": jnp.asarray(z)}
    self.state, told = self.step(self.state, self.frozen, batch)
    return jax.device_get(told)

  def official_generator(self, tree):
    """Arrays in the places of the generator's, under official names."""
    generator = nnx.clone(self.networks.generator)
    nnx.update(generator, self.frozen.generator)
    nnx.update(generator, tree)
    table = stylegan2.generator_table(generator).under("decoder.", "")
    return transfer.extract(generator, table)

  def last_gradient(self):
    """The generator's, as the step gave it to its optimizer."""
    return self.state.optimizer[0]

  def first_moments(self):
    """Ranger's means of the generator's gradients."""
    parts = jax.tree.leaves(
      self.state.optimizer, is_leaf=lambda x: isinstance(x, Moments)
    )
    moments = next(x for x in parts if isinstance(x, Moments))
    return moments.mean["generator"]

  def official_state(self):
    """Parameters and statistics under official names; ends the run."""
    networks, state, frozen = self.networks, self.state, self.frozen
    del self.state, self.frozen, self.step
    state = dataclasses.replace(state, optimizer=None)
    inverter = Inverter(
      networks.encoder, networks.generator, w_avg=frozen.w_avg
    )
    nnx.update(inverter.encoder, state.encoder)
    nnx.update(inverter.encoder, state.statistics)
    nnx.update(inverter.generator, frozen.generator)
    nnx.update(inverter.generator, state.generator)
    found = transfer.extract(inverter, tables.inverter_table(inverter))
    critic = networks.discriminator
    nnx.update(critic, state.discriminator)
    critic = transfer.extract(critic, latent_discriminator_table(critic))
    return found | {f"discriminator.{k}": v for k, v in critic.items()}


# Fields.


def run(golden, coach, batches):
  """The fields of a golden, for a batch for each step."""
  theirs = load(golden)
  yield from reported(theirs, coach, batches)
  if "checksum_decoder/names" in theirs:
    moments = coach.official_generator(coach.first_moments())
    yield from below("exp_avg", moments, theirs)
  yield from changes(theirs, coach.official_state())


def reported(theirs, coach, batches):
  """What the steps report, with an axis of steps, and the first gradient."""
  history, found = [], []
  for t, batch in enumerate(batches):
    z = recipe_normal(f"z{t}", (BATCH, D))
    metrics, seen = coach.advance(batch, z)
    found.append(seen)
    history.append(metrics | offsets(seen["latent"], metrics))
    if t == 0 and coach.config.model.train_decoder:
      gradient = coach.official_generator(coach.last_gradient())
      moments = coach.official_generator(coach.first_moments())
      yield from below("grad0", gradient, theirs)
      yield from below("exp_avg1", moments, theirs)
  for what, value in (("loss_dict", entry), ("present", present)):
    for field in fields_below(what, theirs):
      name = field.partition("/")[2]
      yield field, np.array([value(name, x) for x in history])
  for name in found[0]:
    if any(key.split("__")[0] == name for key in theirs):
      yield name, np.stack([seen[name] for seen in found])


def fields_below(group, theirs):
  """The names of a golden's fields that begin with GROUP/."""
  names = {key.split("__")[0] for key in theirs}
  return sorted(name for name in names if name.startswith(f"{group}/"))


def below(group, tensors, theirs):
  """Those tensors that the golden has under GROUP/."""
  for field in fields_below(group, theirs):
    yield field, tensors[field.partition("/")[2]]


def offsets(latent, metrics):
  """`delta{i}_loss` of the styles that are awake, by the step's own stage."""
  awake = range(1, int(metrics.get("stage", 0)) + 1)
  norms = np.linalg.norm(latent - latent[:, :1], axis=-1).mean(0)
  return {f"delta{i}_loss": norms[i] for i in awake}


def present(name, metrics):
  """Whether the step reports what the originals log by that name.

  It reports a penalty of exactly 0 where none is due.
  """
  if name == "discriminator_loss":
    return present("d_real_loss", metrics) and present("d_fake_loss", metrics)
  if name == "discriminator_r1_loss":
    return metrics["r1"] != 0
  return ENTRIES.get(name, name) in metrics


def entry(name, metrics):
  """What the originals log by that name in a step; 0 where they do not."""
  if name == "discriminator_loss":
    return entry("d_real_loss", metrics) + entry("d_fake_loss", metrics)
  return metrics.get(ENTRIES.get(name, name), 0)


def changes(theirs, after):
  """Parameters after the last step, their change, and sums over both."""
  before = {
    k: (k.removeprefix("discriminator."), v.shape) for k, v in after.items()
  }
  for name in sorted({k.split("__")[0] for k in theirs}):
    kind, _, tensor = name.partition("/")
    if tensor.endswith("num_batches_tracked"):
      continue
    if kind == "after":
      yield name, after[tensor]
    if kind == "delta":
      yield name, after[tensor] - initial(*before[tensor])
  yield from checksums(theirs, after, "checksum", r"encoder\..+")
  if "checksum_decoder/names" in theirs:
    yield from checksums(theirs, after, "checksum_decoder", DECODER)


# All parameters of a generator but the strengths of noise: no filters, and no
# stored noise.
DECODER = r"decoder\.(?!noises\.).+(?<!noise\.weight)(?<!kernel)"


def checksums(theirs, after, group, pattern):
  """Sums and norms of every tensor whose name fits."""
  names = theirs[f"{group}/names"].tolist()
  ours = {k for k in after if re.fullmatch(pattern, k)}
  assert set(names) == ours, set(names) ^ ours
  sums = []
  for name in names:
    new = after[name].astype(float)
    old = initial(name, new.shape)
    sums.append((new.sum(), np.linalg.norm(new), np.linalg.norm(new - old)))
  columns = np.array(sums).T
  for name, column in zip(("sum", "norm", "delta_norm"), columns, strict=True):
    yield f"{group}/{name}", column
