"""One training step of e4e (arXiv 2102.02766) on one shard.

    codes = encoder(source) + w_avg               see `passes`
    discriminator <- logistic loss on sampled and encoded styles
    discriminator <- R1 on the sampled styles, every few steps
    encoder       <- reconstruction, delta and adversarial terms

A step whose numbers are not finite changes nothing but the counters `step` and
`skipped`: neither weights nor optimizers, pools or statistics.

All random numbers come from (key, step, position in the whole batch), batch
statistics are synchronised, and the pools act on the gathered codes, so n
devices do what one does.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from encoder4editing_jax.config import Config
from encoder4editing_jax.config_rules import is_progressive
from encoder4editing_jax.data.tasks import task_of, to_float, to_source
from encoder4editing_jax.training import optim
from encoder4editing_jax.training.accumulation import make_passes
from encoder4editing_jax.training.adversary import make_discriminator_update
from encoder4editing_jax.training.keys import Draw, keys_of, normal
from encoder4editing_jax.training.parallel import mean
from encoder4editing_jax.training.passes import Examples
from encoder4editing_jax.training.state import (
  Arrays,
  Frozen,
  Metrics,
  Networks,
  TrainState,
)

Batch = dict[str, Array]
SMALL = 2**16
"""Numbers up to which an array is small, see `norm`."""


def stage_at(
  step: Int[Array, ""], config: Config, n_styles: int
) -> Int[Array, ""] | None:
  """Last style that is awake at a step; None without progressive training.

  Stage i begins AT step `start + (i - 1) * every`, or where `steps` say.
  """
  progressive = config.progressive
  if not is_progressive(progressive):
    return None
  if progressive.steps:
    return jnp.sum(step >= jnp.array(progressive.steps)) - 1
  start, every = progressive.start, progressive.every
  stage = jnp.where(step < start, 0, (step - start) // every + 1)
  return jnp.minimum(stage, n_styles - 1)


def make_train_step(
  config: Config, networks: Networks, draw: Draw = normal
) -> Callable[[TrainState, Frozen, Batch], tuple[TrainState, Metrics]]:
  """The step as a pure function of one shard, for `parallel`.

  Args:
    config: weights, schedules and optimizers.
    networks: their graphs only; all arrays come with the arguments.
    draw: draws the z of the real styles that the discriminator sees.

  Returns:
    `train_step(state, frozen, batch)`, where `batch["image"]` is uint8
    `[b h w 3]`, and "source" what the encoder is shown, if it is something
    else (see `data.tasks`). Metrics are means over the whole batch.
  """
  passes = make_passes(config, networks)
  optimizer = optim.make_optimizer(config)
  update_discriminator = make_discriminator_update(config, networks, draw)
  n_styles, task = networks.generator.n_styles, task_of(config.data)

  def train_step(
    state: TrainState, frozen: Frozen, batch: Batch
  ) -> tuple[TrainState, Metrics]:
    before = state
    images = to_float(batch["image"])
    shown = to_source(batch, task) if "source" in batch else images
    keys = keys_of(state, len(images))
    stage = stage_at(state.step, config, n_styles)
    metrics: Metrics = {} if stage is None else {"stage": stage}
    examples = Examples(images, shown, keys.noise)
    codes, memo = passes.first(state, frozen, examples, stage)
    if codes is not None and config.loss.adversarial:
      codes = jax.lax.stop_gradient(codes)
      state, seen = update_discriminator(state, frozen, codes, stage, keys)
      metrics |= seen

    gradient, statistics, terms = passes.gradient(
      state, frozen, examples, stage, memo
    )
    gradient, metrics = mean((gradient, metrics | terms))
    metrics["gradient_norm"] = norm(gradient)
    new = _step_or_skip(
      before,
      lambda: _descend(state, statistics, gradient, optimizer, config),
      (metrics, norm(state.discriminator)),
    )
    return new, metrics | {"skipped": new.skipped}

  return train_step


def norm(tree: Any) -> Float[Array, ""]:
  """That of all numbers together; small arrays as one, since on a GPU each
  would take two programs."""
  leaves = jax.tree.leaves(tree)
  small = [x.ravel() for x in leaves if x.size <= SMALL]
  large = [x for x in leaves if x.size > SMALL]
  return optax.tree.norm(large + ([jnp.concatenate(small)] if small else []))


def _step_or_skip(
  before: TrainState, descend: Callable[[], TrainState], numbers: Any
) -> TrainState:
  """The new state, or the old one if a number of the step is not finite.

  A branch, not a choice for each array: these could not be updated in place
  then, and old and new ones would be in memory together.
  """
  finite = jnp.isfinite(jnp.stack(jax.tree.leaves(numbers))).all()
  new = jax.lax.cond(finite, descend, lambda: before)
  skipped = jnp.where(finite, 0, before.skipped + 1)
  return dataclasses.replace(new, step=before.step + 1, skipped=skipped)


def _descend(
  state: TrainState,
  statistics: Arrays,
  gradient: Arrays,
  optimizer: optax.GradientTransformation,
  config: Config,
) -> TrainState:
  """The state after the encoder's update (and the generator's)."""
  trained = state.trained()
  updates, optimizer_state = optimizer.update(
    gradient, state.optimizer, trained
  )
  trained = optax.apply_updates(trained, updates)
  encoder, generator = state.parted(trained)
  new = {"encoder": encoder, "statistics": statistics}
  return dataclasses.replace(
    state,
    encoder=encoder,
    statistics=statistics,
    generator=generator,
    optimizer=optimizer_state,
    average=optim.update_average(
      state.average, new, config.optim.ema, state.step
    ),
  )
