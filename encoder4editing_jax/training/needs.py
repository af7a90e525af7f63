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
from encoder4editing_jax.training import ahead, counting, flat
from encoder4editing_jax.training.outline import Outline
from encoder4editing_jax.training.parallel import AXIS
from encoder4editing_jax.training.step import make_train_step
from encoder4editing_jax.training.targets import Target

RESERVED = {"tpu": 0.25 * 2**30, "cpu": 2.0**30}
"""Bytes of a device that programs do not get: libtpu's, of 16 GB; those of
Python, JAX and its compiler (0.65 GB for the toy)."""
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
  """Read and written."""
  fits: bool
  compiled: bool
  """Whether a compiler said so; else it is estimated."""
  seconds: float = 0.0
  """That compiling took."""


Measure = Callable[[int], Step]
"""A step by the batch of one device."""


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
    name: sum(map(flat.nbytes, jax.tree.leaves(tree)))
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
  batch, parts = config.run.batch_size, config.run.microbatches
  n = target.count * parts
  if batch % n:
    whole = f"{target.count} devices" + f" x {parts} microbatches" * (parts > 1)
    each = -(-batch // parts) * parts
    raise ConfigError(
      f"run.batch_size {batch} is that of all devices together, and no "
      f"multiple of {n} ({whole}); add --run.batch_size {each * target.count} "
      f"for {each} on each."
    )
  return config.run.batch_size // target.count


def estimator(outline: Outline, target: Target) -> Measure:
  """Steps by their batch, from one trace of the step of one device."""
  parts = outline.config.run.microbatches
  config = _with_batch(outline.config, flat.MARK * parts)
  step = make_train_step(config, outline.networks)
  traced = jax.make_jaxpr(step, axis_env=[(AXIS, target.count)])(
    outline.state, outline.frozen, ahead.batch_shapes(config)
  )

  def estimated(batch: int) -> Step:
    platform = target.kind.platform
    found = counting.count(traced.jaxpr, platform, batch // parts)
    fits = lasting(outline, batch) + found.peak <= usable(target)
    return Step(batch, found.peak, found.operations, found.bytes, fits, False)

  return estimated


def compiled(outline: Outline, target: Target, batch: int) -> Step:
  """A step as XLA compiles it; if it does not fit, with what it would need.

  Raises:
    ValueError: nothing here compiles for the target.
  """
  config = _with_batch(outline.config, batch * target.count)
  devices = devices_of(target)
  found = ahead.measure(ahead.lower_step(config, outline.build, devices))
  temporary = max(found.memory - lasting(outline, batch), 0.0)
  if not found.fits and found.temporary:  # all that the compiler says then
    temporary = found.temporary
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


def devices_of(target: Target) -> Sequence[Any]:
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
    raise ValueError(f"JAX sees {len(here)} of {target.count} CPU devices here")
  return here[: target.count]


def needed(outline: Outline, step: Step) -> float:
  """Bytes of all that a step holds."""
  return lasting(outline, step.batch) + step.temporary


def lasting(outline: Outline, batch: int) -> float:
  """Bytes of the state and of a batch."""
  parts = memory_by_part(outline)
  example = parts.pop("batch, each example")
  return float(sum(parts.values()) + batch * example)


def _with_batch(config: Config, batch: int) -> Config:
  run = dataclasses.replace(config.run, batch_size=batch)
  return dataclasses.replace(config, run=run)
