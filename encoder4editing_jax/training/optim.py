"""Optimizers, as optax chains, and the average of what they make."""

from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from encoder4editing_jax.config import Config
from encoder4editing_jax.training.adam import adam
from encoder4editing_jax.training.ranger import ranger

MAKERS = {"ranger": ranger, "adam": adam, "sgd": optax.sgd}


def learning_rate(config: Config) -> optax.Schedule:
  """Learning rate of the encoder as a function of the step."""
  optim, steps = config.optim, config.run.steps
  if optim.schedule == "cosine":
    main = optax.cosine_decay_schedule(optim.lr, max(steps - optim.warmup, 1))
  else:
    main = optax.constant_schedule(optim.lr)
  if not optim.warmup:
    return main
  rise = optax.linear_schedule(
    optim.lr / optim.warmup, optim.lr, optim.warmup - 1
  )
  return optax.join_schedules([rise, main], [optim.warmup])


def make_optimizer(config: Config) -> optax.GradientTransformation:
  """The encoder's optimizer."""
  optim = config.optim
  limit = optim.clip_norm
  clip = optax.identity() if limit is None else optax.clip_by_global_norm(limit)
  return optax.chain(clip, MAKERS[optim.name](learning_rate(config)))


def make_discriminator_optimizer(
  config: Config,
) -> optax.GradientTransformation:
  """The latent discriminator's optimizer.

  Adam, as published also beside Ranger; gradient descent beside the same.
  """
  make = optax.sgd if config.optim.name == "sgd" else adam
  return make(config.discriminator.lr)


def update_average(
  average: Any, arrays: Any, decay: float, step: Int[Array, ""]
) -> Any:
  """A moving average after a step, counted from 0; an empty one stays empty.

  It forgets faster in the beginning, by (1 + step) / (10 + step), lest the
  initial weights stay in it for long.
  """
  if not average:
    return average
  decay = jnp.minimum(decay, (1 + step) / (10 + step))
  return optax.incremental_update(arrays, average, 1 - decay)
