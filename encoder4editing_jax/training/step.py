"""One training step of e4e (arXiv 2102.02766, section 5) on one shard.

    codes = encoder(images) + w_avg               one forward for both updates
    discriminator <- logistic loss on sampled and encoded styles
    discriminator <- R1 on the sampled styles, every few steps
    encoder       <- reconstruction, delta and adversarial terms

All random numbers come from (key, step, position in the whole batch), batch
statistics are synchronised, and the pools act on the gathered codes, so n
devices do what one does.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from encoder4editing_jax import losses, ops
from encoder4editing_jax.config import Config
from encoder4editing_jax.training import optim, pool
from encoder4editing_jax.training.parallel import AXIS
from encoder4editing_jax.training.state import (
  Arrays,
  Frozen,
  Networks,
  TrainState,
  split_encoder,
)

Metrics = dict[str, Array]
Batch = dict[str, Array]


class Keys(NamedTuple):
  """Random keys of one step on one shard; `z`, `row`, `noise` per example."""

  z: Array
  row: Array
  noise: Array
  pool: Array


def to_float(images: UInt8[Array, "b h w c"]) -> Float[Array, "b h w c"]:
  """Bytes to [-1, 1]."""
  return images.astype(jnp.float32) / 127.5 - 1


def stage_at(
  step: Int[Array, ""], config: Config, n_styles: int
) -> Int[Array, ""] | None:
  """Last style that is awake at a step; None without progressive training.

  Stage i begins AT step `start + (i - 1) * every`.
  """
  start, every = config.progressive.start, config.progressive.every
  if start is None:
    return None
  stage = jnp.where(step < start, 0, (step - start) // every + 1)
  return jnp.minimum(stage, n_styles - 1)


def make_train_step(
  config: Config, networks: Networks
) -> Callable[[TrainState, Frozen, Batch], tuple[TrainState, Metrics]]:
  """The step as a pure function of one shard, for `parallel`.

  Args:
    config: weights, schedules and optimizers.
    networks: their graphs only; all arrays come with the arguments.

  Returns:
    `train_step(state, frozen, batch)`, where `batch["image"]` is uint8
    `[b h w 3]`. Metrics are means over the whole batch.
  """
  encoder_graph = nnx.graphdef(networks.encoder)
  optimizer = optim.make_optimizer(config)
  encoder_loss = make_encoder_loss(config, networks)
  update_discriminator = make_discriminator_update(config, networks)
  n_styles = networks.generator.n_styles

  def train_step(
    state: TrainState, frozen: Frozen, batch: Batch
  ) -> tuple[TrainState, Metrics]:
    images = to_float(batch["image"])
    keys = _keys(state, len(images))
    stage = stage_at(state.step, config, n_styles)
    metrics: Metrics = {} if stage is None else {"stage": stage}

    def encode(parameters: Arrays) -> tuple[Array, Arrays]:
      encoder = nnx.merge(
        encoder_graph, parameters, state.statistics, copy=True
      )
      encoder.train()
      staged = {} if stage is None else {"stage": stage}
      w_plus = encoder(images, **staged) + frozen.w_avg[None]
      return w_plus, split_encoder(encoder)[1]

    w_plus, pull_back, statistics = jax.vjp(encode, state.encoder, has_aux=True)
    if config.loss.adversarial:
      codes = jax.lax.stop_gradient(w_plus)
      state, seen = update_discriminator(state, frozen, codes, stage, keys)
      metrics |= seen

    (loss, terms), w_gradient = jax.value_and_grad(encoder_loss, has_aux=True)(
      w_plus, images, state.discriminator, frozen, stage, keys
    )
    (gradient,) = pull_back(w_gradient)
    gradient = jax.lax.pmean(gradient, AXIS)
    updates, optimizer_state = optimizer.update(
      gradient, state.optimizer, state.encoder
    )
    metrics |= terms | {"loss": loss}
    metrics = jax.lax.pmean(metrics, AXIS)
    metrics["gradient_norm"] = optax.global_norm(gradient)
    return dataclasses.replace(
      state,
      step=state.step + 1,
      encoder=optax.apply_updates(state.encoder, updates),
      statistics=statistics,
      optimizer=optimizer_state,
    ), metrics

  return train_step


def make_encoder_loss(config: Config, networks: Networks) -> Callable:
  """The encoder's loss as a function of its codes: (total, named terms)."""
  generator_graph = nnx.graphdef(networks.generator)
  discriminator_graph = nnx.graphdef(networks.discriminator)
  weights = config.loss

  def encoder_loss(
    w_plus: Array,
    images: Array,
    discriminator: Arrays,
    frozen: Frozen,
    stage: Array | None,
    keys: Keys,
  ) -> tuple[Array, Metrics]:
    active = losses.active_styles(w_plus.shape[1], stage)
    terms = {}
    if weights.adversarial:
      critic = nnx.merge(discriminator_graph, discriminator)
      terms["adversarial"] = losses.encoder_adversarial(critic, w_plus, active)
    if weights.delta and stage is not None:
      terms["delta"] = losses.delta(w_plus, active)
    generator = nnx.merge(generator_graph, frozen.generator)
    output = generator.synthesis(w_plus, noise="random", key=keys.noise)
    output = ops.adaptive_avg_pool(output, images.shape[1:3])
    terms |= reconstruction_terms(config, frozen, output, images)
    return losses.weighted_sum(terms, weights), terms

  return encoder_loss


def reconstruction_terms(
  config: Config,
  frozen: Frozen,
  output: Float[Array, "b h w c"],
  target: Float[Array, "b h w c"],
) -> Metrics:
  """Named terms that compare pictures; those of weight 0 are left out.

  Terms that look through a feature network take it from `frozen.features`.
  """
  terms = {"l2": lambda: losses.l2(output, target)}
  return {
    name: term() for name, term in terms.items() if getattr(config.loss, name)
  }


def make_discriminator_update(config: Config, networks: Networks) -> Callable:
  """The two updates of the latent discriminator (e4e, equations 5 and 6).

  R1 is an update of its own, with its own Adam step, on the same real codes.
  """
  graph = nnx.graphdef(networks.discriminator)
  generator_graph = nnx.graphdef(networks.generator)
  optimizer = optim.make_discriminator_optimizer(config)
  settings = config.discriminator

  def main_loss(
    parameters: Arrays, real: Array, fake: Array
  ) -> tuple[Array, Metrics]:
    critic = nnx.merge(graph, parameters)
    seen = losses.discriminator_real(critic, real)
    made = losses.discriminator_fake(critic, fake)
    return seen + made, {
      "discriminator_real": seen,
      "discriminator_fake": made,
    }

  def r1_loss(parameters: Arrays, real: Array) -> Array:
    gamma = settings.r1 * settings.r1_every
    return gamma / 2 * losses.r1(nnx.merge(graph, parameters), real)

  def apply(
    parameters: Arrays, optimizer_state: optax.OptState, gradient: Arrays
  ) -> tuple[Arrays, optax.OptState]:
    updates, optimizer_state = optimizer.update(
      gradient, optimizer_state, parameters
    )
    return optax.apply_updates(parameters, updates), optimizer_state

  def update(
    state: TrainState,
    frozen: Frozen,
    codes: Float[Array, "b n d"],
    stage: Array | None,
    keys: Keys,
  ) -> tuple[TrainState, Metrics]:
    mapping = nnx.merge(generator_graph, frozen.generator).mapping
    real = mapping(_normal(keys.z, codes.shape[-1]))
    fake = _pick_rows(codes, stage, keys.row) if settings.pool else codes[:, 0]
    real_key, fake_key = jax.random.split(keys.pool)
    real_pool, real = _exchange(state.real_pool, real, real_key)
    fake_pool, fake = _exchange(state.fake_pool, fake, fake_key)

    gradient, terms = jax.grad(main_loss, has_aux=True)(
      state.discriminator, real, fake
    )
    gradient = jax.lax.pmean(gradient, AXIS)
    parameters, optimizer_state = apply(
      state.discriminator, state.discriminator_optimizer, gradient
    )
    # No collective may stand inside a cond: the mean is taken on every step.
    due = state.step % settings.r1_every == 0
    penalty, gradient = jax.lax.cond(
      due, jax.value_and_grad(r1_loss), _nothing, parameters, real
    )
    gradient = jax.lax.pmean(gradient, AXIS)
    parameters, optimizer_state = jax.lax.cond(
      due, apply, lambda p, o, g: (p, o), parameters, optimizer_state, gradient
    )
    return dataclasses.replace(
      state,
      discriminator=parameters,
      discriminator_optimizer=optimizer_state,
      real_pool=real_pool,
      fake_pool=fake_pool,
    ), terms | {"r1": penalty}

  return update


def _keys(state: TrainState, local: int) -> Keys:
  pool_key, key = jax.random.split(jax.random.fold_in(state.key, state.step))
  position = jax.lax.axis_index(AXIS) * local + jnp.arange(local)
  keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(key, i), 3))
  keys = keys(position)
  return Keys(keys[:, 0], keys[:, 1], keys[:, 2], pool_key)


def _normal(keys: Array, size: int) -> Float[Array, "b d"]:
  return jax.vmap(lambda key: jax.random.normal(key, (size,)))(keys)


def _pick_rows(
  codes: Float[Array, "b n d"], stage: Array | None, keys: Array
) -> Float[Array, "b d"]:
  """One awake style of each example, all equally likely."""
  last = codes.shape[1] - 1 if stage is None else stage

  def pick(code: Array, key: Array) -> Array:
    return code[jax.random.randint(key, (), 0, last + 1)]

  return jax.vmap(pick)(codes, keys)


def _exchange(
  history: pool.Pool, codes: Float[Array, "b d"], key: Array
) -> tuple[pool.Pool, Float[Array, "b d"]]:
  """Offers the codes of all shards to the pool; returns this shard's."""
  local = len(codes)
  everyone = jax.lax.all_gather(codes, AXIS, tiled=True)
  history, shown = pool.exchange(history, everyone, key)
  start = jax.lax.axis_index(AXIS) * local
  return history, jax.lax.dynamic_slice_in_dim(shown, start, local)


def _nothing(parameters: Arrays, real: Array) -> tuple[Array, Arrays]:
  return jnp.zeros(()), jax.tree.map(jnp.zeros_like, parameters)
