"""Gradients of several passes of the encoder over a shard, put together.

Those of refinements are added up (ReStyle, arXiv 2104.02699).

Microbatches take a shard in parts, one after the other, and the mean of their
gradients: the memory of a part, the loss of the whole. Batch statistics are
those of a part (over all devices).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from encoder4editing_jax.config import Config
from encoder4editing_jax.training.passes import (
  Examples,
  Passes,
  Reached,
  counts_twice,
  look,
  make_backward,
  make_encode,
  make_forward,
  one_pass,
  unrefined,
)
from encoder4editing_jax.training.state import (
  Arrays,
  Frozen,
  Metrics,
  Networks,
  TrainState,
)


def make_passes(config: Config, networks: Networks) -> Passes:
  """The passes of a config: one, where one is enough."""
  if config.model.refinements > 1 or config.run.microbatches > 1:
    first = _make_first(config, networks)
    return Passes(first, _make_gradient(config, networks))
  return one_pass(config, networks)


def _make_first(config: Config, networks: Networks) -> Callable:
  """The discriminator's codes, from passes of their own; see `Passes`."""
  encode, parts = make_encode(networks), config.run.microbatches

  def first(
    state: TrainState, frozen: Frozen, examples: Examples, stage: Array | None
  ) -> tuple[Array | None, Any]:
    if not config.loss.adversarial:
      return None, state.statistics
    reached = unrefined(frozen, len(examples.images) // parts)

    def one(statistics: Arrays, shown: Array) -> tuple[Arrays, Array]:
      seen = look(shown, reached)
      codes, statistics = encode(
        state.encoder, statistics, frozen, seen, stage, reached.w_plus
      )
      return statistics, codes

    statistics, codes = _scan(
      one, state.statistics, _in_parts(examples.shown, parts)
    )
    kept = statistics if counts_twice(config) else state.statistics
    return codes.swapaxes(0, 1).reshape(-1, *codes.shape[2:]), kept

  return first


def _make_gradient(config: Config, networks: Networks) -> Callable:
  """The mean over parts of their gradients; see `Passes`."""
  refine_part = _make_refinements(config, networks)
  parts = config.run.microbatches

  def gradient(
    state: TrainState,
    frozen: Frozen,
    examples: Examples,
    stage: Array | None,
    memo: Any,
  ) -> tuple[Arrays, Arrays, Metrics]:
    def one(carry: Any, part: Examples) -> tuple[Any, Metrics]:
      return refine_part(state, frozen, part, stage, carry)

    nothing = jax.tree.map(jnp.zeros_like, state.trained())
    (statistics, total), metrics = _scan(
      one,
      (memo, nothing),
      jax.tree.map(lambda x: _in_parts(x, parts), examples),
    )
    mean = jax.tree.map(lambda x: x / parts, total)
    return mean, statistics, jax.tree.map(jnp.mean, metrics)

  return gradient


def _make_refinements(config: Config, networks: Networks) -> Callable:
  """All refinements of a part, whose gradients are added to a total.

  Returns:
    `refine_part(state, frozen, part, stage, (statistics, total))`, giving
    ((statistics, total), metrics of the last refinement).
  """
  forward = make_forward(config, networks)
  backward = make_backward(config, networks)
  n = max(config.model.refinements, 1)

  def refine_part(
    state: TrainState,
    frozen: Frozen,
    part: Examples,
    stage: Array | None,
    carry: tuple[Arrays, Arrays],
  ) -> tuple[tuple[Arrays, Arrays], Metrics]:
    def refine(carry: Any, i: Array) -> tuple[Any, Metrics]:
      statistics, total, reached = carry
      drawn = part
      if n > 1:
        fresh = jax.vmap(lambda key: jax.random.fold_in(key, i))(part.noise)
        drawn = part._replace(noise=fresh)
      w_plus, pull_back, statistics = forward(
        state, statistics, frozen, drawn, stage, reached
      )
      found, metrics, images = backward(
        state, frozen, drawn, stage, w_plus, pull_back
      )
      if reached.images is not None:
        reached = Reached(w_plus, images)
      total = jax.tree.map(jnp.add, total, found)
      return (statistics, total, reached), metrics

    start = unrefined(frozen, len(part.images))
    (statistics, total, _), metrics = _scan(
      refine, (*carry, start), jnp.arange(n)
    )
    return (statistics, total), jax.tree.map(lambda x: x[-1], metrics)

  return refine_part


def _scan(body: Callable, start: Any, steps: Any) -> tuple[Any, Any]:
  """`jax.lax.scan`; for CPUs written out step by step.

  XLA's convolutions are ten to forty times slower there when they come from a
  loop (`unroll=True` included, whose loop of one turn goes away too late).
  Written out, its steps may hold their memory all at once.
  """
  return jax.lax.platform_dependent(
    start,
    steps,
    cpu=lambda start, steps: _written_out(body, start, steps),
    default=lambda start, steps: jax.lax.scan(body, start, steps),
  )


def _written_out(body: Callable, carry: Any, steps: Any) -> tuple[Any, Any]:
  """As `jax.lax.scan`, without a loop."""
  outputs = []
  for i in range(len(jax.tree.leaves(steps)[0])):
    carry, output = body(carry, jax.tree.map(lambda x, i=i: x[i], steps))
    outputs.append(output)
  return carry, jax.tree.map(lambda *xs: jnp.stack(xs), *outputs)


def _in_parts(x: Array, n: int) -> Array:
  """`[b ...]` as `[n b/n ...]`: every n-th example, so that parts are the same
  on any number of devices."""
  return x.reshape(-1, n, *x.shape[1:]).swapaxes(0, 1)
