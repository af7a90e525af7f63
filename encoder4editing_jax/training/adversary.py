"""The updates of the latent discriminator (e4e: L_adv of D, and R1).

    discriminator <- logistic loss on sampled and encoded styles
    discriminator <- R1 on the sampled styles, every few steps

R1 is an update of its own, with its own optimizer step, on the same styles.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax import losses
from encoder4editing_jax.config import Config
from encoder4editing_jax.training import optim, pool
from encoder4editing_jax.training.keys import Draw, Keys, normal
from encoder4editing_jax.training.parallel import AXIS, mean
from encoder4editing_jax.training.state import (
  Arrays,
  Frozen,
  Metrics,
  Networks,
  TrainState,
)


def make_discriminator_update(
  config: Config, networks: Networks, draw: Draw = normal
) -> Callable:
  """One shard's update of the discriminator, its optimizer and the pools.

  Args:
    config: of the run.
    networks: their graphs only.
    draw: draws z, whose styles are the real ones.

  Returns:
    `update(state, frozen, codes, stage, keys) -> (state, metrics)` for codes
    `[b n d]` of the encoder, which get no gradient.
  """
  descend = make_descent(config, networks)
  penalize = make_penalty(config, networks)
  generator_graph = nnx.graphdef(networks.generator)

  def update(
    state: TrainState,
    frozen: Frozen,
    codes: Float[Array, "b n d"],
    stage: Array | None,
    keys: Keys,
  ) -> tuple[TrainState, Metrics]:
    mapping = nnx.merge(generator_graph, frozen.generator).mapping
    real = mapping(draw(keys.z, codes.shape[-1]))
    if config.discriminator.pool:
      fake = _pick_rows(codes, stage, keys.row)
    else:
      fake = codes[:, 0]
    real_key, fake_key = jax.random.split(keys.pool)
    real_pool, real = _exchange(state.real_pool, real, real_key)
    fake_pool, fake = _exchange(state.fake_pool, fake, fake_key)
    learned = state.discriminator, state.discriminator_optimizer
    learned, metrics = descend(*learned, real, fake)
    if config.discriminator.r1:
      learned, metrics["r1"] = penalize(*learned, real, state.step)
    discriminator, optimizer_state = learned
    return dataclasses.replace(
      state,
      discriminator=discriminator,
      discriminator_optimizer=optimizer_state,
      real_pool=real_pool,
      fake_pool=fake_pool,
    ), metrics

  return update


def make_descent(config: Config, networks: Networks) -> Callable:
  """One optimizer step of the discriminator on the logistic loss.

  Returns:
    `descend(parameters, optimizer_state, real, fake)` for codes `[b d]` of one
    shard, giving ((parameters, optimizer_state), named terms).
  """
  graph = nnx.graphdef(networks.discriminator)
  apply = _make_apply(config)

  def loss(
    parameters: Arrays, real: Array, fake: Array
  ) -> tuple[Array, Metrics]:
    critic = nnx.merge(graph, parameters)
    terms = {
      "discriminator_real": losses.discriminator_real(critic, real),
      "discriminator_fake": losses.discriminator_fake(critic, fake),
    }
    return sum(terms.values(), jnp.zeros(())), terms

  def descend(
    parameters: Arrays,
    optimizer_state: optax.OptState,
    real: Float[Array, "b d"],
    fake: Float[Array, "b d"],
  ) -> tuple[tuple[Arrays, optax.OptState], Metrics]:
    gradient, terms = jax.grad(loss, has_aux=True)(parameters, real, fake)
    gradient = mean(gradient)
    return apply(parameters, optimizer_state, gradient), terms

  return descend


def make_penalty(config: Config, networks: Networks) -> Callable:
  """One optimizer step of the discriminator on R1, on the steps that have one.

  Returns:
    `penalize(parameters, optimizer_state, real, step)` for codes `[b d]` of
    one shard, giving ((parameters, optimizer_state), weighted penalty); it
    changes nothing, and the penalty is 0, on other steps.
  """
  graph = nnx.graphdef(networks.discriminator)
  apply = _make_apply(config)
  every = config.discriminator.r1_every
  gamma = config.discriminator.r1 * every

  def loss(parameters: Arrays, real: Array) -> Array:
    return gamma / 2 * losses.r1(nnx.merge(graph, parameters), real)

  def penalize(
    parameters: Arrays,
    optimizer_state: optax.OptState,
    real: Float[Array, "b d"],
    step: Array,
  ) -> tuple[tuple[Arrays, optax.OptState], Array]:
    # No collective may stand inside a cond: the mean is taken on every step.
    due = step % every == 0
    penalty, gradient = jax.lax.cond(
      due, jax.value_and_grad(loss), _nothing, parameters, real
    )
    gradient = mean(gradient)
    learned = jax.lax.cond(
      due, apply, lambda p, o, g: (p, o), parameters, optimizer_state, gradient
    )
    return learned, penalty

  return penalize


def _make_apply(config: Config) -> Callable:
  optimizer = optim.make_discriminator_optimizer(config)

  def apply(
    parameters: Arrays, optimizer_state: optax.OptState, gradient: Arrays
  ) -> tuple[Arrays, optax.OptState]:
    updates, optimizer_state = optimizer.update(
      gradient, optimizer_state, parameters
    )
    return optax.apply_updates(parameters, updates), optimizer_state

  return apply


def _pick_rows(
  codes: Float[Array, "b n d"], stage: Array | None, keys: Array
) -> Float[Array, "b d"]:
  """One awake style of each example, all equally likely."""
  last = codes.shape[1] - 1 if stage is None else stage
  draw = jax.vmap(lambda key: jax.random.randint(key, (), 0, last + 1))
  return pool.pick_rows(codes, draw(keys))


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
