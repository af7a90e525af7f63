"""Passes of the encoder over a shard, and the loss's gradient through them.

    one pass   codes = E(source) + w_avg
    ReStyle    codes_0 = w_avg, picture_0 = G(w_avg)
               codes_i+1 = E([source, picture_i]) + codes_i
               picture_i+1 = G(codes_i+1)             (2104.02699, equation 1)

Each refinement has its loss, and gradients go through it alone: codes and
picture that it starts from count as given. `accumulation` adds them up.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax.config import Config
from encoder4editing_jax.models.layers import MOMENTUM
from encoder4editing_jax.training.objective import (
  make_encoder_loss,
  rematerialised,
)
from encoder4editing_jax.training.state import (
  Arrays,
  Frozen,
  Metrics,
  Networks,
  TrainState,
  split_encoder,
)


class Examples(NamedTuple):
  """What a pass works on: leaves `[b ...]`."""

  images: Array
  """Targets `[b h w 3]` in [-1, 1]."""
  shown: Array
  """What the encoder sees of them, `[b h w c]`."""
  noise: Array
  """Keys of the generator's noise."""


class Reached(NamedTuple):
  """Where a refinement starts from; no pictures in a single pass."""

  w_plus: Array
  images: Array | None


class Passes(NamedTuple):
  """Both steps of the encoder's update; the discriminator's is between them.

  `first(state, frozen, examples, stage) -> (codes, memo)` for the codes
  `[b n d]` that the discriminator is shown (None if there is none), and
  `gradient(state, frozen, examples, stage, memo) -> (gradient, statistics,
  metrics)`, where the gradient is that of the shard.
  """

  first: Callable[..., tuple[Array | None, Any]]
  gradient: Callable[..., tuple[Arrays, Arrays, Metrics]]


def make_encode(networks: Networks) -> Callable:
  """Codes `[b n d]` and new running statistics from trained arrays.

  Returns:
    `encode(trained, statistics, frozen, images, stage, start=None)`; codes
    are offsets from `start` `[b n d]`, by custom from the mean code.
  """
  graph = nnx.graphdef(networks.encoder)

  def encode(
    trained: Arrays,
    statistics: Arrays,
    frozen: Frozen,
    images: Float[Array, "b h w c"],
    stage: Array | None,
    start: Array | None = None,
  ) -> tuple[Float[Array, "b n d"], Arrays]:
    encoder = nnx.merge(graph, trained, statistics, copy=True)
    encoder.train()
    staged = {} if stage is None else {"stage": stage}
    start = frozen.w_avg[None] if start is None else start
    w_plus = encoder(images, **staged) + start
    return w_plus, split_encoder(encoder)[1]

  return encode


def unrefined(frozen: Frozen, n: int) -> Reached:
  """Where the first pass over n examples starts from."""
  w_plus = jnp.tile(frozen.w_avg[None], (n, 1, 1))
  if frozen.average_image is None:
    return Reached(w_plus, None)
  return Reached(w_plus, jnp.tile(frozen.average_image, (n, 1, 1, 1)))


def look(shown: Array, reached: Reached) -> Float[Array, "b h w c"]:
  """What the encoder takes: the source, and the picture it is to better."""
  if reached.images is None:
    return shown
  return jnp.concatenate([shown, reached.images], -1)


def make_forward(config: Config, networks: Networks) -> Callable:
  """A pass that remembers its way: codes, the way back, statistics."""
  encode = rematerialised(config, make_encode(networks))

  def forward(
    state: TrainState,
    statistics: Arrays,
    frozen: Frozen,
    examples: Examples,
    stage: Array | None,
    reached: Reached,
  ) -> tuple[Array, Callable, Arrays]:
    seen = look(examples.shown, reached)
    return jax.vjp(
      lambda trained: encode(
        trained, statistics, frozen, seen, stage, reached.w_plus
      ),
      state.encoder,
      has_aux=True,
    )

  return forward


def make_backward(config: Config, networks: Networks) -> Callable:
  """The gradient of what is trained, metrics, and the pictures."""
  differentiate = jax.value_and_grad(
    make_encoder_loss(config, networks), argnums=(0, 1), has_aux=True
  )

  def backward(
    state: TrainState,
    frozen: Frozen,
    examples: Examples,
    stage: Array | None,
    w_plus: Array,
    pull_back: Callable,
  ) -> tuple[Arrays, Metrics, Array]:
    (loss, (terms, images)), (to_codes, to_generator) = differentiate(
      w_plus,
      state.generator,
      examples.images,
      examples.shown,
      state.discriminator,
      frozen,
      stage,
      examples.noise,
    )
    (to_encoder,) = pull_back(to_codes)
    gradient = state.joined(to_encoder, to_generator)
    return gradient, terms | {"loss": loss}, images

  return backward


def one_pass(config: Config, networks: Networks) -> Passes:
  """One pass, which serves both networks."""
  forward = make_forward(config, networks)
  backward = make_backward(config, networks)

  def first(
    state: TrainState, frozen: Frozen, examples: Examples, stage: Array | None
  ) -> tuple[Array, Any]:
    start = unrefined(frozen, len(examples.images))
    passed = forward(state, state.statistics, frozen, examples, stage, start)
    return passed[0], passed

  def gradient(
    state: TrainState,
    frozen: Frozen,
    examples: Examples,
    stage: Array | None,
    memo: Any,
  ) -> tuple[Arrays, Arrays, Metrics]:
    w_plus, pull_back, statistics = memo
    found, metrics, _ = backward(
      state, frozen, examples, stage, w_plus, pull_back
    )
    if counts_twice(config):
      statistics = _as_by_two_passes(state.statistics, statistics)
    return found, statistics, metrics

  return Passes(first, gradient)


def counts_twice(config: Config) -> bool:
  """Whether the discriminator's pass moves the running statistics."""
  published = config.optim.batch_statistics == "published"
  return published and config.loss.adversarial > 0


def _as_by_two_passes(before: Arrays, after: Arrays) -> Arrays:
  """Running statistics as if the pass over the batch had been made twice."""
  return jax.tree.map(lambda b, a: a + MOMENTUM * (a - b), before, after)
