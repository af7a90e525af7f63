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

from encoder4editing_jax import losses
from encoder4editing_jax.config import Config
from encoder4editing_jax.data.tasks import task_of, to_float, to_source
from encoder4editing_jax.models.inverter import crop_and_pool
from encoder4editing_jax.training import optim
from encoder4editing_jax.training.adversary import make_discriminator_update
from encoder4editing_jax.training.keys import Keys, keys_of
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
    `[b h w 3]`, and "source" what the encoder is shown, if it is something
    else (see `data.tasks`). Metrics are means over the whole batch.
  """
  encode = _make_encode(networks)
  optimizer = optim.make_optimizer(config)
  encoder_loss = make_encoder_loss(config, networks)
  update_discriminator = make_discriminator_update(config, networks)
  n_styles, task = networks.generator.n_styles, task_of(config.data)

  def train_step(
    state: TrainState, frozen: Frozen, batch: Batch
  ) -> tuple[TrainState, Metrics]:
    before = state
    images, shown = to_float(batch["image"]), to_source(batch, task)
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

    (loss, terms), w_gradient = jax.value_and_grad(encoder_loss, has_aux=True)(
      w_plus, images, state.discriminator, frozen, stage, keys
    )
    (gradient,) = pull_back(w_gradient)
    gradient = jax.lax.pmean(gradient, AXIS)
    updates, optimizer_state = optimizer.update(
      gradient, state.optimizer, state.encoder
    )
    encoder = optax.apply_updates(state.encoder, updates)
    new = {"encoder": encoder, "statistics": statistics}
    metrics |= terms | {"loss": loss}
    metrics = jax.lax.pmean(metrics, AXIS)
    metrics["gradient_norm"] = optax.tree.norm(gradient)
    changed = dataclasses.replace(
      state,
      **new,
      optimizer=optimizer_state,
      average=optim.update_average(
        state.average, new, config.optim.ema, state.step
      ),
    )
    return _step_or_skip(before, changed, metrics)

  return train_step


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


def _make_encode(networks: Networks) -> Callable:
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
    output = crop_and_pool(output, images.shape[1:3])
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
