"""Parity of whole training steps, and of losses that need no network.

The originals' loops, step by step: losses, codes and pictures of each step, and
after the last one the parameters, their change and the running statistics. The
originals' images are floats, and the codes that they draw are given: both enter
the step by its arguments. The strength of the noise is 0, so that drawing it
otherwise changes nothing.

A step makes more of a small error than a forward pass does (a nearly vanishing
gradient moves a weight by a whole step, either way): fields may be apart by
1e-3 where three times their noise floor is less.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from goldens.recipe import recipe_normal, recipe_state_dict
from parity import case, load
from parity_networks import D, images, mean_code

from encoder4editing_jax import converters, losses
from encoder4editing_jax.config import (
  Config,
  Data,
  Discriminator,
  Loss,
  Optim,
  Progressive,
  Run,
)
from encoder4editing_jax.converters import (
  inverter as tables,
  stylegan2,
  transfer,
)
from encoder4editing_jax.converters.discriminators import (
  latent_discriminator_table,
)
from encoder4editing_jax.models.arcface import face_crop
from encoder4editing_jax.models.inverter import Inverter
from encoder4editing_jax.training import objective, state as states
from encoder4editing_jax.training.adam import Moments
from encoder4editing_jax.training.keys import keys_of
from encoder4editing_jax.training.optim import make_optimizer
from encoder4editing_jax.training.parallel import pmap_step, replicate
from encoder4editing_jax.training.passes import make_encode
from encoder4editing_jax.training.step import make_train_step, stage_at

STYLES, BATCH = 10, 2
LOOSE = 1e-3
FIELDS = ("loss_dict/", "present/", "id_logs/", "latent", "y_hat", "after/")
FIELDS += ("delta/", "checksum/sum", "checksum/norm", "checksum/delta_norm")

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

E4E = Config(
  data=Data(size=(256, 256)),
  loss=Loss(lpips=0.8, identity=0.5),
  optim=Optim(lr=1e-4, batch_statistics="published"),
  discriminator=Discriminator(lr=2e-5, r1_every=4, pool=0),
  progressive=Progressive(steps=(0, 2, 3, 4, 5, 6, 7, 7, 1000, 1001)),
  run=Run(batch_size=BATCH),
)


def change(config, **sections):
  """A config with some fields of some sections changed."""
  changed = {
    name: dataclasses.replace(getattr(config, name), **fields)
    for name, fields in sections.items()
  }
  return dataclasses.replace(config, **changed)


FAST = change(
  E4E,
  optim={"lr": 1e-3},
  discriminator={"lr": 2e-4},
  progressive={"steps": (0, 1, 2, 3, 4, 4, 4, 4, 1000, 1001)},
)
CARS = change(
  E4E,
  data={"size": (192, 256)},
  loss={"identity": 0.0, "moco": 0.5},
  discriminator={"r1_every": 2},
  progressive={"steps": ()},
)
DECODER = change(
  E4E,
  model={"train_decoder": True},
  optim={"lr": 1e-3},
  discriminator={"r1_every": 2},
  progressive={"steps": ()},
)
PSP = change(
  E4E,
  model={"encoder": "GradualStyleEncoder"},
  loss={"identity": 0.1, "w_norm": 0.005, "adversarial": 0.0},
  progressive={"steps": ()},
)


def official(kind):
  """A framework at the start: no noise, and a mean code for each style."""
  state = recipe_state_dict(kind)
  for name in state:
    if name.endswith("noise.weight"):
      state[name] = np.zeros_like(state[name])
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


def without(tree, name):
  """A nested dictionary without the leaves of a name."""
  return {
    k: without(v, name) if isinstance(v, dict) else v
    for k, v in tree.items()
    if k != name
  }


class Coach:
  """A run of the training step at recipe weights."""

  def __init__(self, config, kind):
    self.config = config
    self.source = official(kind)["state_dict"]
    inverter = converters.to_inverter(official(kind), config.model.encoder)
    critic = recipe_state_dict("latent_discriminator")
    self.source |= {f"discriminator.{k}": v for k, v in critic.items()}
    networks = states.build_networks(
      config, inverter.generator, feature_networks(config)
    )
    nnx.update(networks.encoder, nnx.state(inverter.encoder))
    critic = converters.to_latent_discriminator(critic)
    nnx.update(networks.discriminator, nnx.state(critic))
    self.networks, self.w_avg = networks, inverter.w_avg[...]
    device = jax.local_devices()[:1]
    self.frozen = replicate(
      dataclasses.replace(states.create_frozen(networks), w_avg=self.w_avg),
      device,
    )
    state = states.create_state(config, networks)
    if state.generator:  # here the noise keeps its strength
      synthesis = without(state.generator, "noise_strength")
      state = dataclasses.replace(state, generator=synthesis)
      optimizer = make_optimizer(config).init(state.trained())
      state = dataclasses.replace(state, optimizer=optimizer)
    self.state = replicate(state, device)
    self.step = pmap_step(self._step, device)

  def _step(self, state, frozen, batch):
    """The training step, and what it does not tell: compiled, they share."""
    config, networks = self.config, self.networks
    step = make_train_step(config, networks, lambda *_: batch["z"])
    new, metrics = step(state, frozen, batch)
    target, source = batch["image"], batch["source"]
    stage = stage_at(state.step, config, STYLES)
    encode, decode = make_encode(networks), objective.make_decode(networks)
    trained = state.encoder, state.statistics
    seen = {"latent": encode(*trained, frozen, source, stage)[0]}
    painted = states.with_generator(frozen, state.generator)
    keys = keys_of(state, BATCH)
    output = decode(painted, seen["latent"], config.data.size, keys.noise)
    if state.generator:
      objective_ = objective.make_encoder_loss(config, networks)
      seen["grad0"], _ = jax.grad(objective_, 1, has_aux=True)(
        *(seen["latent"], state.generator, target, source, new.discriminator),
        *(frozen, stage, keys),
      )
    for name, method in objective.EMBED.items():
      if getattr(config.loss, name):
        net = objective.FEATURES[name]
        graph = nnx.graphdef(networks.features[net])
        embed = getattr(nnx.merge(graph, frozen.features[net]), method)
        _, cosines = objective.similarity(embed, output, target, source)
        seen |= {f"id_logs/{k}": v for k, v in cosines.items()}
        metrics["loss_id"] = metrics[name]
    seen["y_hat"] = output.transpose(0, 3, 1, 2)
    for i in range(1, STYLES):
      offset = seen["latent"][:, i] - seen["latent"][:, 0]
      awake = True if stage is None else i <= stage
      size = jnp.linalg.norm(offset, axis=-1).mean()
      metrics[f"delta{i}_loss"] = jnp.where(awake, size, 0)
    return new, (metrics, seen)

  def official_generator(self, tree):
    """Arrays in the places of the generator's, under official names."""
    generator = nnx.clone(self.networks.generator)
    nnx.update(generator, tree)
    table = stylegan2.generator_table(generator).under("decoder.", "")
    return transfer.extract(generator, table)

  def first_moments(self):
    """Ranger's means of the generator's gradients."""
    parts = jax.tree.leaves(
      self.state.optimizer, is_leaf=lambda x: isinstance(x, Moments)
    )
    moments = next(x for x in parts if isinstance(x, Moments))
    return jax.device_get(moments.mean["generator"])

  def official_state(self):
    """Parameters and statistics under official names."""
    networks = self.networks
    inverter = Inverter(networks.encoder, networks.generator)
    nnx.update(inverter.encoder, jax.device_get(self.state.encoder))
    nnx.update(inverter.encoder, jax.device_get(self.state.statistics))
    if self.state.generator:
      nnx.update(inverter.generator, jax.device_get(self.state.generator))
    found = transfer.extract(inverter, tables.inverter_table(inverter))
    critic = networks.discriminator
    nnx.update(critic, jax.device_get(self.state.discriminator))
    critic = transfer.extract(critic, latent_discriminator_table(critic))
    return found | {f"discriminator.{k}": v for k, v in critic.items()}


def run(golden, coach, batches):
  """The fields of `FIELDS` of a golden, for a batch for each step."""
  history, found, noted = [], [], {}
  for t, batch in enumerate(batches):
    z = jnp.asarray(recipe_normal(f"z{t}", (BATCH, D)))
    coach.state, told = coach.step(coach.state, coach.frozen, batch | {"z": z})
    metrics, seen = jax.device_get(told)
    history.append(metrics)
    if coach.config.model.train_decoder:
      gradient = seen.pop("grad0")
      if t == 0:
        noted = {"grad0": gradient, "exp_avg1": coach.first_moments()}
    found.append(seen)
  theirs = load(golden)
  if noted:
    noted["exp_avg"] = coach.first_moments()
    yield from generator_fields(theirs, coach, noted)
  entries = [k[10:] for k in theirs if k.startswith("loss_dict/")]
  for name in entries:
    yield f"loss_dict/{name}", (values := entry(name, history))
    # An entry that is always there may be 0: the sum of no offsets.
    often = name.startswith("delta") or name == "discriminator_r1_loss"
    there = values != 0 if often else np.ones(len(values), bool)
    yield f"present/{name}", there
  for name in sorted({k.split("__")[0] for k in found[0]}):
    if name in theirs or f"{name}__shape" in theirs:
      yield name, np.stack([seen[name] for seen in found])
  yield from changes(theirs, coach.source, coach.official_state())


def entry(name, history):
  """What the originals log by that name, in each step."""
  if name == "discriminator_loss":
    return entry("d_real_loss", history) + entry("d_fake_loss", history)
  return np.array([metrics[ENTRIES.get(name, name)] for metrics in history])


def changes(theirs, before, after):
  """Parameters after the last step, their change, and sums over both."""
  stored = {k.split("__")[0] for k in theirs}
  for name in sorted(stored):
    kind, _, tensor = name.partition("/")
    if tensor.endswith("num_batches_tracked"):
      continue
    if kind == "after":
      yield name, after[tensor]
    if kind == "delta":
      yield name, after[tensor] - before[tensor]
  yield from checksums(theirs, before, after)


def checksums(theirs, before, after, group="checksum", part="encoder."):
  """Sums and norms of every tensor of a part."""
  names = theirs[f"{group}/names"]
  ours = {k for k in after if k.startswith(part)}
  assert set(names) <= ours, set(names) - ours
  new, old = (
    [tensors[k].astype(float) for k in names] for tensors in (after, before)
  )
  change = [a - b for a, b in zip(new, old, strict=True)]
  for name, tensors, reduce in (
    ("sum", new, np.sum),
    ("norm", new, np.linalg.norm),
    ("delta_norm", change, np.linalg.norm),
  ):
    yield f"{group}/{name}", np.array([reduce(x) for x in tensors])


def generator_fields(theirs, coach, noted):
  """What is stored of a generator that is trained too."""
  for kind, tree in noted.items():
    tensors = coach.official_generator(tree)
    for name in sorted({k.split("__")[0] for k in theirs}):
      if name.startswith(f"{kind}/"):
        yield name, tensors[name.removeprefix(f"{kind}/")]
  after, group = coach.official_state(), "checksum_decoder"
  yield from checksums(theirs, coach.source, after, group, "decoder.")


def coach_case(golden, *more):
  return case(
    golden, *FIELDS, *more, network="training", slow=True, floor=LOOSE
  )


def same(steps, size, salt="coach/{}"):
  """Batches whose source is the target."""
  for t in range(steps):
    image = images(BATCH, size, salt.format(t))
    yield {"image": image, "source": image}


@coach_case("coach_e4e")
def e4e():
  coach = Coach(E4E, "e4e_64")
  yield from run("coach_e4e", coach, same(8, (256, 256)))


@coach_case("coach_e4e_fast")
def e4e_fast():
  batch = {
    "image": images(BATCH, (256, 256), "coach/0"),
    "source": images(BATCH, (256, 256), "coach/src0"),
  }
  yield from run("coach_e4e_fast", Coach(FAST, "e4e_64"), [batch] * 8)


@coach_case("coach_cars")
def cars():
  coach = Coach(CARS, "e4e_64")
  yield from run("coach_cars", coach, same(3, (192, 256)))


@coach_case("coach_psp")
def psp():
  yield from run("coach_psp", Coach(PSP, "psp_64"), same(4, (256, 256)))


MORE = ("grad0/", "exp_avg1/", "exp_avg/")
MORE += tuple(f"checksum_decoder/{k}" for k in ("sum", "norm", "delta_norm"))


@coach_case("coach_decoder", *MORE)
def decoder():
  image = images(BATCH, (256, 256), "coach/0")
  batches = [{"image": image, "source": image}] * 4
  yield from run("coach_decoder", Coach(DECODER, "e4e_64"), batches)


# Plain losses.


@case("loss_simple", "l2", "w_norm", "delta_norm", network="losses")
def plain_losses():
  y_hat, y = (images(BATCH, 256, f"loss/{name}") for name in ("y_hat", "y"))
  codes = jnp.asarray(recipe_normal("loss/latent", (BATCH, 18, D)))
  average = jnp.asarray(mean_code(18, D))
  value, gradient = jax.value_and_grad(losses.l2)(y_hat, y)
  yield "l2/loss", value
  yield "l2/grad_y_hat", gradient.transpose(0, 3, 1, 2)
  yield "l2_crop/loss", losses.l2(face_crop(y_hat), face_crop(y))
  first = losses.active_styles(18, jnp.int32(5))
  for name, function in (
    ("w_norm_avg", lambda w: losses.w_norm(w, average)),
    ("w_norm_noavg", lambda w: losses.w_norm(w, jnp.zeros_like(average))),
    ("delta_norm1", lambda w: losses.delta(w, first, 1.0)),
    ("delta_norm2", lambda w: losses.delta(w, first, 2.0)),
  ):
    value, gradient = jax.value_and_grad(function)(codes)
    yield f"{name}/loss", value
    yield f"{name}/grad_latent", gradient
