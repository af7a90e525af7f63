"""One training step of e4e (arXiv 2102.02766) on one shard.

    codes = encoder(source) + w_avg               one forward for both updates
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

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from encoder4editing_jax.config import Config
from encoder4editing_jax.config_rules import is_progressive
from encoder4editing_jax.data.tasks import task_of, to_float, to_source
from encoder4editing_jax.models.layers import MOMENTUM
from encoder4editing_jax.training import optim
from encoder4editing_jax.training.adversary import make_discriminator_update
from encoder4editing_jax.training.keys import Draw, keys_of, normal
from encoder4editing_jax.training.objective import make_encoder_loss
from encoder4editing_jax.training.parallel import AXIS
from encoder4editing_jax.training.state import (
  Arrays,
  Frozen,
  Metrics,
  Networks,
  TrainState,
  split_encoder,
)

Batch = dict[str, Array]


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
  encode = make_encode(networks)
  optimizer = optim.make_optimizer(config)
  differentiate = jax.value_and_grad(
    make_encoder_loss(config, networks), argnums=(0, 1), has_aux=True
  )
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
    w_plus, pull_back, statistics = jax.vjp(
      lambda trained: encode(trained, state.statistics, frozen, shown, stage),
      state.encoder,
      has_aux=True,
    )
    if config.loss.adversarial:
      codes = jax.lax.stop_gradient(w_plus)
      state, seen = update_discriminator(state, frozen, codes, stage, keys)
      metrics |= seen

    (loss, terms), (w_gradient, painted) = differentiate(
      w_plus,
      state.generator,
      images,
      shown,
      state.discriminator,
      frozen,
      stage,
      keys,
    )
    (gradient,) = pull_back(w_gradient)
    gradient = dataclasses.replace(state, encoder=gradient, generator=painted)
    gradient = jax.lax.pmean(gradient.trained(), AXIS)
    changed = _descend(state, statistics, gradient, optimizer, config)
    metrics = jax.lax.pmean(metrics | terms | {"loss": loss}, AXIS)
    metrics["gradient_norm"] = optax.tree.norm(gradient)
    return _step_or_skip(before, changed, metrics)

  return train_step


def _descend(
  state: TrainState,
  statistics: Arrays,
  gradient: Arrays,
  optimizer: optax.GradientTransformation,
  config: Config,
) -> TrainState:
  """The state after the encoder's update (and the generator's)."""
  if config.loss.adversarial and config.optim.batch_statistics == "published":
    statistics = _as_by_two_passes(state.statistics, statistics)
  trained = state.trained()
  updates, optimizer_state = optimizer.update(
    gradient, state.optimizer, trained
  )
  trained = optax.apply_updates(trained, updates)
  if state.generator:
    encoder, generator = trained["encoder"], trained["generator"]
  else:
    encoder, generator = trained, {}
  new = {"encoder": encoder, "statistics": statistics}
  return dataclasses.replace(
    state,
    **new,
    generator=generator,
    optimizer=optimizer_state,
    average=optim.update_average(
      state.average, new, config.optim.ema, state.step
    ),
  )


def _as_by_two_passes(before: Arrays, after: Arrays) -> Arrays:
  """Running statistics as if the pass over the batch had been made twice."""
  return jax.tree.map(lambda b, a: a + MOMENTUM * (a - b), before, after)


def _step_or_skip(
  before: TrainState, new: TrainState, metrics: Metrics
) -> tuple[TrainState, Metrics]:
  """The new state, or the old one if a number of the step is not finite."""
  numbers = (metrics, optax.tree.norm(new.discriminator))
  finite = jnp.isfinite(jnp.stack(jax.tree.leaves(numbers))).all()
  kept = jax.tree.map(lambda n, b: jnp.where(finite, n, b), new, before)
  skipped = jnp.where(finite, 0, before.skipped + 1)
  kept = dataclasses.replace(kept, step=before.step + 1, skipped=skipped)
  return kept, metrics | {"skipped": skipped}


def make_encode(networks: Networks) -> Callable:
  """Codes `[b n d]` and new running statistics from trained arrays."""
  graph = nnx.graphdef(networks.encoder)

  def encode(
    trained: Arrays,
    statistics: Arrays,
    frozen: Frozen,
    images: Float[Array, "b h w c"],
    stage: Array | None,
  ) -> tuple[Float[Array, "b n d"], Arrays]:
    encoder = nnx.merge(graph, trained, statistics, copy=True)
    encoder.train()
    staged = {} if stage is None else {"stage": stage}
    w_plus = encoder(images, **staged) + frozen.w_avg[None]
    return w_plus, split_encoder(encoder)[1]

  return encode
