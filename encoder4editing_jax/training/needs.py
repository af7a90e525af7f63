"""What a training step needs of a device: memory, operations, bytes.

The state is counted exactly, from shapes. What a step needs besides is asked
of XLA's compiler where there is one for the target (TPUs with libtpu, this
machine's processors), and estimated from the traced step where there is none.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import nnx

from encoder4editing_jax.config import Config, ConfigError
from encoder4editing_jax.training import ahead, counting
from encoder4editing_jax.training.outline import Outline
from encoder4editing_jax.training.parallel import AXIS
from encoder4editing_jax.training.step import make_train_step
from encoder4editing_jax.training.targets import Target

MOST = 4096
"""Largest batch of one device that is looked for."""
RESERVED = {"tpu": 0.25 * 2**30}
"""Bytes of a device that programs do not get: libtpu's, of 16 GB."""
POOL = 0.75
"""Share of a GPU's memory that JAX takes, unless told otherwise
(docs.jax.dev, GPU memory allocation)."""


@dataclasses.dataclass(frozen=True)
class Step:
  """One step on one device."""

  batch: int
  """Examples of this device."""
  temporary: float
  """Bytes besides the state and the batch."""
  operations: float
  bytes: float
  """Read and written; a lower bound if it is estimated."""
  fits: bool
  compiled: bool
  """Whether a compiler said so; else it is estimated."""
  seconds: float = 0.0
  """That compiling took."""


def memory_by_part(outline: Outline) -> dict[str, int]:
  """Bytes of each device that last from step to step, and the batch's of one
  example."""
  state, frozen, config = outline.state, outline.frozen, outline.config
  one = _with_batch(config, 1)
  parts = {
    "encoder": (state.encoder, state.statistics),
    "optimizer": state.optimizer,
    "generator, trained": state.generator,
    "moving average": state.average,
    "discriminator": state.discriminator,
    "its optimizer": state.discriminator_optimizer,
    "pools of codes": (state.real_pool, state.fake_pool),
    "counters and key": (state.step, state.skipped, state.key),
    "generator, frozen": (frozen.generator, frozen.w_avg, frozen.average_image),
    "networks of losses": frozen.features,
    "batch, each example": ahead.batch_shapes(one),
  }
  return {
    name: sum(map(counting.nbytes, jax.tree.leaves(tree)))
    for name, tree in parts.items()
  }


def parameters(outline: Outline) -> dict[str, int]:
  """How many numbers the networks have that can be trained, or could be."""
  networks = outline.networks
  nets = {
    "encoder": networks.encoder,
    "generator": networks.generator,
    "discriminator": networks.discriminator,
    **networks.features,
  }
  return {
    name: sum(
      math.prod(x.shape) for x in jax.tree.leaves(nnx.state(net, nnx.Param))
    )
    for name, net in nets.items()
  }


def usable(target: Target) -> float:
  """Bytes of a device that a run can have."""
  kind = target.kind
  if kind.platform == "gpu":
    return kind.memory * _pool()
  return kind.memory - RESERVED.get(kind.platform, 0.0)


def _pool() -> float:
  """The share of a GPU's memory that JAX takes."""
  for name in ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
    if text := os.environ.get(name):
      return float(text)
  return POOL


def check_batch(config: Config, target: Target) -> int:
  """The examples of one device.

  Raises:
    ConfigError: the devices do not divide the batch.
  """
  n = target.count * config.run.microbatches
  if config.run.batch_size % n:
    raise ConfigError(
      f"run.batch_size is {config.run.batch_size}, which {target.count} "
      f"devices and {config.run.microbatches} microbatches do not divide; set "
      f"it to a multiple of {n}."
    )
  return config.run.batch_size // target.count


def estimated(outline: Outline, target: Target, batch: int) -> Step:
  """A step from the traced operations of one device."""
  config = _with_batch(outline.config, batch)
  step = make_train_step(config, outline.networks)
  traced = jax.make_jaxpr(step, axis_env=[(AXIS, target.count)])(
    outline.state, outline.frozen, ahead.batch_shapes(config)
  )
  found = counting.count(traced.jaxpr)
  state = lasting(outline, batch)
  fits = state + found.peak <= usable(target)
  moved = found.bytes + 2 * state  # the state is read and written
  return Step(batch, found.peak, found.operations, moved, fits, False)


def compiled(outline: Outline, target: Target, batch: int) -> Step:
  """A step as XLA compiles it; if it does not fit, with what it would need.

  Raises:
    ValueError: nothing here compiles for the target.
  """
  config = _with_batch(outline.config, batch * target.count)
  devices = _devices(target)
  found = ahead.measure(ahead.lower_step(config, outline.build, devices))
  temporary = max(found.memory - lasting(outline, batch), 0.0)
  fits = found.fits and found.memory <= usable(target)
  return Step(
    batch,
    temporary,
    found.operations,
    found.bytes,
    fits,
    True,
    found.seconds,
  )


def _devices(target: Target) -> Sequence[Any]:
  """What the compiler is asked about.

  Raises:
    ValueError: nothing here compiles for the target.
  """
  if target.kind.platform == "tpu":
    return ahead.topology(target.name)
  if target.kind.platform == "gpu":
    raise ValueError("there is no compiler for GPUs without a GPU")
  here = jax.devices("cpu")
  if len(here) < target.count:
    raise ValueError(f"JAX sees {len(here)} CPU devices here")
  return here[: target.count]


def largest_batch(
  asked: Step,
  outline: Outline,
  target: Target,
  measure: Callable[[int], Step],
  tries: int,
  slope: float,
) -> Step | None:
  """The largest batch of one device that was seen to fit.

  Args:
    asked: the batch of the config.
    outline: of the run.
    target: says how much memory there is.
    measure: a step by its batch.
    tries: how often that may be asked.
    slope: bytes for each further example.

  Returns:
    None if no batch was found that fits.
  """
  unit = outline.config.run.microbatches
  seen = {asked.batch: asked}
  for _ in range(tries):
    best = max((b for b, s in seen.items() if s.fits), default=0)
    worst = min((b for b, s in seen.items() if not s.fits), default=MOST + unit)
    nearest = seen[best] if best else seen[worst]
    if len(seen) > 1:
      slope = slope_of(*seen.values()) or slope
    room = usable(target) - _needed(outline, nearest)
    guess = nearest.batch + int(room // max(slope, 1.0))
    guess = min(max(guess, best + unit), worst - unit) // unit * unit
    if guess <= best or guess in seen:
      break
    seen[guess] = measure(guess)
  return max(
    (s for s in seen.values() if s.fits), key=lambda s: s.batch, default=None
  )


def slope_of(*steps: Step) -> float:
  """Bytes of an example, from the two largest batches."""
  small, large = sorted(steps, key=lambda s: s.batch)[-2:]
  return (large.temporary - small.temporary) / (large.batch - small.batch)


def _needed(outline: Outline, step: Step) -> float:
  return lasting(outline, step.batch) + step.temporary


def lasting(outline: Outline, batch: int) -> float:
  """Bytes of the state and of a batch."""
  parts = memory_by_part(outline)
  example = parts.pop("batch, each example")
  return float(sum(parts.values()) + batch * example)


def _with_batch(config: Config, batch: int) -> Config:
  run = dataclasses.replace(config.run, batch_size=batch)
  return dataclasses.replace(config, run=run)


def line_through(
  outline: Outline, target: Target, one: Step, other: Step
) -> Callable[[int], Step]:
  """Steps on the line through two others."""

  def at(batch: int) -> Step:
    share = (batch - one.batch) / (other.batch - one.batch)

    def between(name: str) -> float:
      low, high = getattr(one, name), getattr(other, name)
      return max(low + share * (high - low), 0.0)

    names = ("temporary", "operations", "bytes")
    values = {name: between(name) for name in names}
    needed = lasting(outline, batch) + values["temporary"]
    return Step(
      batch=batch, fits=needed <= usable(target), compiled=False, **values
    )

  return at
