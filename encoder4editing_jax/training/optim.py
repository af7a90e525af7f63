"""Optimizers, as optax chains."""

import optax

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
