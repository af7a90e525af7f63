"""Parity of the optimizers and of the pool of codes, step by step."""

import functools
import random

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from goldens.recipe import recipe_normal, recipe_state_dict
from parity import case, load

from encoder4editing_jax import converters
from encoder4editing_jax.config import Config, Discriminator
from encoder4editing_jax.converters import discriminators, stylegan2, transfer
from encoder4editing_jax.converters.table import CONV, LINEAR, SAME
from encoder4editing_jax.training import pool, tensors
from encoder4editing_jax.training.adam import Moments, adam
from encoder4editing_jax.training.adversary import make_descent, make_penalty
from encoder4editing_jax.training.parallel import AXIS
from encoder4editing_jax.training.ranger import ranger
from encoder4editing_jax.training.state import Networks

TIGHT = 1e-6  # nothing in an optimizer amplifies rounding


@functools.partial(jax.jit, static_argnums=0)
def trajectory(make, rate, parameters, slopes):
  """Parameters and moments of `make(rate)` after every step."""
  optimizer = make(rate)

  def step(carry, slope):
    parameters, state = carry
    updates, state = optimizer.update(slope, state, parameters)
    parameters = optax.apply_updates(parameters, updates)
    moments = next(part for part in state if isinstance(part, Moments))
    return (parameters, state), (parameters, moments)

  start = parameters, optimizer.init(parameters)
  return jax.lax.scan(step, start, slopes)[1]


def run(make, rate, leaves, start, gradients):
  """All that an optimizer does to some official tensors.

  Args:
    make: makes an optimizer, a chain with `Moments`, from a learning rate.
    rate: the learning rate.
    leaves: path of our leaf and layout, by the official name.
    start: the tensors.
    gradients: a list for each.

  Returns:
    The tensors after every step `[steps ...]`, and our `Moments` likewise;
    all but the counts of these in official layouts.
  """

  def ours(tree):
    leaf = {k: leaves[k][1].forward for k in tree}
    return {leaves[k][0]: np.stack([*map(leaf[k], v)]) for k, v in tree.items()}

  def official(tree):
    tensor = {k: leaves[k][1].inverse for k in start}
    tree = jax.device_get({k: tree[leaves[k][0]] for k in start})
    return {k: np.stack([*map(tensor[k], v)]) for k, v in tree.items()}

  parameters = ours({k: [x] for k, x in start.items()})
  parameters = {path: x[0] for path, x in parameters.items()}
  seen, moments = trajectory(make, rate, parameters, ours(gradients))
  counts = {k: moments.count[leaves[k][0]] for k in start}
  averages = map(official, (moments.mean, moments.square))
  return official(seen), Moments(counts, *averages)


# Ranger.

SMALL = {
  "conv": ("conv/kernel", CONV),
  "linear": ("linear/kernel", LINEAR),
  "bias": ("conv/bias", SAME),
}
SMALL_SHAPES = {"conv": (8, 4, 3, 3), "linear": (6, 10), "bias": (12,)}
LATE = 5  # the first step in which `_late_linear` has a gradient


def _only_convolutions(path):
  whole = tensors.describe(path)
  return whole if path.startswith("conv") else tensors.Tensor()


VARIANTS = {
  "_wd0.01": functools.partial(ranger, weight_decay=0.01),
  "_gc_conv_only": functools.partial(ranger, describe=_only_convolutions),
}


@case("ranger", "", network="Ranger", floor=TIGHT)
def ranger_steps():
  start, gradients = {}, {}
  for k, shape in SMALL_SHAPES.items():
    start[k] = recipe_normal(f"ranger/init/{k}", shape)
    mean = recipe_normal(f"ranger/grad/mean/{k}", shape, scale=0.5)
    gradients[k] = [
      recipe_normal(f"ranger/grad/{t}/{k}", shape, scale=0.5) + mean
      for t in range(1, 31)
    ]
  asleep = [np.zeros_like(g) for g in gradients["linear"][: LATE - 1]]
  late = gradients | {"linear": asleep + gradients["linear"][LATE - 1 :]}
  for name, make, rate, slopes in (
    ("lr0.01", ranger, 1e-2, gradients),
    ("lr0.0001", ranger, 1e-4, gradients),
    ("lr0.01_late_linear", ranger, 1e-2, late),
    *((f"lr0.01{k}", make, 1e-2, gradients) for k, make in VARIANTS.items()),
  ):
    for k, seen in run(make, rate, SMALL, start, slopes)[0].items():
      yield f"{name}/{k}", seen


MODULATED, CONVOLUTION = stylegan2.MODULATED, "synthesis/conv"
DECODER = {
  "modulated_conv": (f"{CONVOLUTION}/kernel", MODULATED),
  "to_rgb_conv": ("synthesis/to_rgb/kernel", MODULATED),
  "to_rgb_bias": ("synthesis/to_rgb/bias", stylegan2.RGB_BIAS),
  "constant": ("synthesis/constant", stylegan2.MAP),
  "modulation": (f"{CONVOLUTION}/modulation/kernel", LINEAR),
  "modulation_bias": (f"{CONVOLUTION}/modulation/bias", SAME),
  "noise_strength": (f"{CONVOLUTION}/noise_strength", stylegan2.SCALAR),
}


@case("ranger_decoder", "", network="Ranger", floor=TIGHT)
def ranger_steps_of_a_generator():
  golden = load("ranger_decoder")
  start, gradients = {}, {}
  for k in DECODER:
    shape = golden[k].shape[1:]
    name = "ranger/decoder/grad"
    start[k] = recipe_normal(f"ranger/decoder/init/{k}", shape)
    mean = 0.7 + recipe_normal(f"{name}/mean/{k}", shape, scale=0.5)
    gradients[k] = [
      recipe_normal(f"{name}/{t}/{k}", shape, scale=0.5) + mean
      for t in range(1, 15)
    ]
  trajectories, moments = run(ranger, 0.01, DECODER, start, gradients)
  for k, seen in trajectories.items():
    yield k, seen
    yield f"exp_avg1/{k}", moments.mean[k][0]


# Adam.

LAYER = {
  "weight": ("layers/0/kernel", LINEAR),
  "bias": ("layers/0/bias", SAME),
}
LAYER_SHAPES = {"weight": (6, 10), "bias": (12,)}


def _layer():
  return {
    k: recipe_normal(f"adam/init/{k}", shape, scale=0.05)
    for k, shape in LAYER_SHAPES.items()
  }


def _slope(kind, t, k):
  shape = LAYER_SHAPES[k]
  mean = recipe_normal(f"adam/grad/mean/{k}", shape, scale=0.5)
  return recipe_normal(f"adam/{kind}/{t}/{k}", shape, scale=0.5) + mean


def _adam_fields(name, trajectories, moments):
  for k in LAYER:
    yield f"{name}/{k}", trajectories[k]
    yield f"{name}/exp_avg/{k}", moments.mean[k][-1]
    yield f"{name}/exp_avg_sq/{k}", moments.square[k][-1]
  yield f"{name}/state_step", np.array([moments.count[k][-1] for k in LAYER])


@case("adam", "lr2e-05/", "lr0.01/", network="Adam", floor=TIGHT)
def adam_steps():
  """Nothing but zeros in step 9, which counts."""
  slopes = {k: [_slope("grad", t, k) for t in range(1, 21)] for k in LAYER}
  for steps in slopes.values():
    steps[8] = np.zeros_like(steps[8])
  for rate in (2e-5, 1e-2):
    done = run(adam, rate, LAYER, _layer(), slopes)
    yield from _adam_fields(f"lr{rate}", *done)


@case("adam", "lr0.01_none/", network="Adam", floor=TIGHT)
def adam_with_a_step_left_out():
  """One tensor has no gradient in step 6; each has an optimizer here."""
  trajectories, moments = {}, Moments({}, {}, {})
  for k, start in _layer().items():
    steps = [t for t in range(1, 21) if (t, k) != (6, "bias")]
    slopes = {k: [_slope("grad", t, k) for t in steps]}
    seen, its = run(adam, 0.01, LAYER, {k: start}, slopes)
    last_before = [
      steps.index(t if t in steps else t - 1) for t in range(1, 21)
    ]
    trajectories |= {k: seen[k][last_before]}
    for ours, new in zip(moments, its, strict=True):
      ours |= new
  yield from _adam_fields("lr0.01_none", trajectories, moments)


@case("adam", "r1_", network="Adam", floor=TIGHT)
def adam_with_second_steps():
  """The penalty's own steps, which give the bias a gradient of zeros."""
  updates, slopes = [], {k: [] for k in LAYER}
  for t in range(8):
    for second in range(2 if t % 4 == 0 else 1):
      kind = "r1_grad" if second else "main_grad"
      updates.append((t, second))
      slopes["weight"].append(_slope(kind, t, "weight"))
      slopes["bias"].append((1 - second) * _slope(kind, t, "bias"))
  for rate in (2e-5, 1e-2):
    trajectories = run(adam, rate, LAYER, _layer(), slopes)[0]
    yield f"r1_lr{rate}/updates", np.array(updates)
    for k, seen in trajectories.items():
      yield f"r1_lr{rate}/{k}", seen


@case("adam", "train/", network="latent discriminator")
def discriminator_steps():
  """The trainer's two updates of the latent discriminator."""
  source = recipe_state_dict("latent_discriminator")
  net = converters.to_latent_discriminator(source)
  graph, state = nnx.split(net)
  parameters = nnx.to_pure_dict(state)
  settings = Discriminator(lr=1e-3, r1=10.0, r1_every=2)
  config, networks = Config(discriminator=settings), Networks(net, net, net)
  descend = make_descent(config, networks)
  penalize = make_penalty(config, networks)

  def update(learned, real, fake, t):
    learned, terms = descend(*learned, real, fake)
    learned, penalty = penalize(*learned, real, t)
    return learned, terms | {"r1": penalty}

  one_shard = jax.vmap(
    update, axis_name=AXIS, in_axes=(None, 0, 0, None), out_axes=0
  )
  step, history = jax.jit(one_shard), []
  learned = parameters, adam(settings.lr).init(parameters)
  for t in range(6):
    real = recipe_normal(f"adam/real/{t}", (1, 3, 512))
    fake = recipe_normal(f"adam/fake/{t}", (1, 3, 512), scale=1.5)
    done = step(learned, real, fake, jnp.int32(t))
    learned, terms = jax.tree.map(lambda x: x[0], done)
    history.append(terms)
  real, fake, r1 = (
    np.array([terms[name] for terms in history])
    for name in ("discriminator_real", "discriminator_fake", "r1")
  )
  for name, values in (
    ("d_real_loss", real),
    ("d_fake_loss", fake),
    ("discriminator_loss", real + fake),
    ("discriminator_r1_loss", r1),
  ):
    yield f"train/loss_dict/{name}", values
    yield f"train/present/{name}", values != 0
  after = nnx.merge(graph, learned[0])
  table = discriminators.latent_discriminator_table(net)
  for name, tensor in transfer.extract(after, table).items():
    yield f"train/after/{name}", tensor
    yield f"train/delta/{name}", tensor - source[name]


# The pool of codes.

SIZE, QUERIES, CODES = 6, 12, 4
KINDS = ("latent_index", "coin", "slot")


class Draws:
  """The random numbers of a seed, as the original takes them, on record."""

  def __init__(self, seed):
    self.random = random.Random(seed)
    self.fields = {kind: np.full((QUERIES, CODES), -1.0) for kind in KINDS}
    self.kinds, self.values = [], []

  def __call__(self, kind, at, n=None):
    """An integer below n, or a number in [0, 1)."""
    draws = self.random
    value = draws.uniform(0, 1) if n is None else draws.randint(0, n - 1)
    self.fields[kind][at] = np.float32(value)
    self.kinds.append(KINDS.index(kind))
    self.values.append(value)
    return value


def _pool(name, seed, n_rows=(), active=None):
  """Our pool, with decisions drawn where it is documented to need them.

  Of codes of `n_rows` styles, a query is given the first `active`.
  """
  draw, stored = Draws(seed), pool.empty(SIZE, 8)
  pick, offer = jax.jit(pool.pick_rows), jax.jit(pool.offer)
  inputs = np.stack(
    [
      recipe_normal(f"pool/{name}/{q}", (CODES, *n_rows, 8))
      for q in range(QUERIES)
    ]
  )
  outputs, counts = np.zeros((QUERIES, CODES, 8)), np.zeros(QUERIES)
  for at in np.ndindex(QUERIES, CODES):
    code, coin, slot = jnp.asarray(inputs[at]), -1.0, -1
    if n_rows:
      row = draw("latent_index", at, active[at[0]])
      code = pick(code[None], jnp.array([row]))[0]
    if stored.count == SIZE:
      coin = draw("coin", at)
      slot = draw("slot", at, SIZE) if coin > 0.5 else slot
    stored, outputs[at] = offer(stored, code, jnp.float32(coin), slot)
    counts[at[0]] = stored.count
  fields = {"inputs": inputs, "outputs": outputs, "seed": seed} | draw.fields
  fields |= {"count": counts, "pool": stored.codes}
  fields |= {"sequence/kind": draw.kinds}
  fields |= {"sequence/value": np.float32(draw.values)}
  fields |= {"active": active} if n_rows else {}
  for field, value in fields.items():
    yield f"{name}/{field}", np.asarray(value)


@case("latent_pool", "2d/", network="pool of codes", floor=0)
def pool_of_codes():
  yield from _pool("2d", 0)


@case("latent_pool", "3d/", network="pool of codes", floor=0)
def pool_of_rows():
  yield from _pool("3d", 1, (5,), [5] * QUERIES)


@case("latent_pool", "growing/", network="pool of codes", floor=0)
def pool_of_growing_codes():
  woken = [min(1 + q // 2, 5) for q in range(QUERIES)]
  yield from _pool("growing", 2, (5,), woken)
