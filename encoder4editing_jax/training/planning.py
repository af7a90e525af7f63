"""Whether a run fits a device, and how fast it can be at most."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

from encoder4editing_jax.config import Config
from encoder4editing_jax.training.needs import (
  Measure,
  Step,
  check_batch,
  compiled,
  devices_of,
  estimator,
  memory_by_part,
  needed,
  parameters,
  usable,
)
from encoder4editing_jax.training.outline import Outline
from encoder4editing_jax.training.searching import MOST, search
from encoder4editing_jax.training.targets import Target

COMPILES = 3
"""Programs that are compiled at most for one plan."""
ESTIMATES = 16
"""Batches that are estimated at most."""

Watch = Callable[[str], contextlib.AbstractContextManager[None]]


def _unwatched(_: str) -> contextlib.AbstractContextManager[None]:
  return contextlib.nullcontext()


def bound(step: Step, target: Target, dtype: str) -> dict[str, float]:
  """Milliseconds that a step takes at least, by what the makers promise.

  Empty where nobody promises anything.
  """
  kind = target.kind
  peak = kind.operations if dtype == "bfloat16" else kind.operations_float32
  if not peak:
    return {}
  found = {
    "compute_ms": 1e3 * step.operations / peak,
    "bandwidth_ms": 1e3 * step.bytes / kind.bandwidth,
  }
  return found | {"step_ms": max(found.values())}


def advice(
  config: Config, step: Step, largest: Step | None, devices: int = 1
) -> list[str]:
  """What to change where a step does not fit, by our fields; best first."""
  if step.fits:
    return []
  found, run = [], config.run
  if config.model.dtype != "bfloat16":
    found.append("--model.dtype bfloat16: half the activations")
  if largest is not None:
    found.append(
      f"--run.batch_size {largest.batch * devices}: {largest.batch} for each "
      f"device fit, {step.batch} do not"
    )
  if not run.rematerialise:
    found.append("--run.rematerialise True: less memory for more time")
  if step.batch >= 2 * run.microbatches:
    found.append(
      f"--run.microbatches {2 * run.microbatches}: parts of the batch, one "
      "after the other; batch statistics are those of a part"
    )
  if config.optim.name != "adam" and largest is None:
    found.append("--optim.name adam: a third less for the optimizer")
  return found or ["a device with more memory, or a smaller network"]


def plan(
  outline: Outline,
  target: Target,
  *,
  compiles: int = COMPILES,
  watch: Watch = _unwatched,
) -> dict[str, Any]:
  """What `e4e plan` prints, see there.

  Args:
    outline: of the run.
    target: the devices.
    compiles: how often the compiler is asked at most, if there is one; 0 for
      estimates only.
    watch: is entered while a batch is compiled; told what it is.

  Returns:
    Plain values; bytes and operations are those of each device. `step` is the
    batch of the config, `work` the same, estimated where it did not compile,
    `tries` all batches that were looked at, `too_large` the smallest of them
    that does not fit. `failed` says where and why the compiler gave up for
    another reason than memory; the rest is what was found until then, or an
    estimate if that was nothing.

  Raises:
    ConfigError: the devices do not divide the batch.
  """
  batch = check_batch(outline.config, target)
  estimated = estimator(outline, target)
  tries: list[Step] = []
  why, failed = "no compiler was asked", ""
  if compiles:
    try:
      devices_of(target)  # before anything is said to be compiled
    except ValueError as error:
      why = str(error)
    else:
      tries, failed = _by_compiler(outline, target, estimated, compiles, watch)
      why = "" if tries else failed
  if not tries:
    rough = estimated(batch)
    slope = rough.temporary / batch
    tries = search(rough, outline, target, estimated, ESTIMATES, slope)
  found = _found(outline, target, batch, tries, estimated)
  return found | {"estimated_because": why, "failed": failed}


def _found(
  outline: Outline,
  target: Target,
  batch: int,
  tries: list[Step],
  estimated: Measure,
) -> dict[str, Any]:
  """What there is to print of the batches that were looked at."""
  config = outline.config
  step = next(step for step in tries if step.batch == batch)
  fits = [step for step in tries if step.fits]
  over = [step for step in tries if not step.fits]
  largest = fits[-1] if fits else None
  work = step if step.operations else estimated(batch)
  return {
    "target": target.name,
    "devices": target.count,
    "memory": usable(target),
    "notes": list(outline.notes),
    "parameters": parameters(outline),
    "parts": memory_by_part(outline),
    "step": dataclasses.asdict(step),
    "needed": needed(outline, step),
    "largest": largest and dataclasses.asdict(largest),
    "too_large": dataclasses.asdict(over[0]) if over else None,
    "most": MOST,
    "tries": [dataclasses.asdict(step) for step in tries],
    "work": dataclasses.asdict(work),
    "bound": bound(work, target, config.model.dtype),
    "advice": advice(config, step, largest, target.count),
  }


def _by_compiler(
  outline: Outline,
  target: Target,
  estimated: Measure,
  compiles: int,
  watch: Watch,
) -> tuple[list[Step], str]:
  """The batch of the config and the largest one, as XLA compiles them.

  Returns:
    What was compiled, by batch, and what the compiler failed at, if it did.
  """
  tries: list[Step] = []

  def measure(batch: int) -> Step:
    what = f"batch {batch} for {target.name}"
    try:
      with watch(f"{what}, {len(tries) + 1} of {compiles} at most"):
        tries.append(compiled(outline, target, batch))
    except ValueError as error:
      raise ValueError(f"{what}: {error}") from error
    return tries[-1]

  failed, batch = "", check_batch(outline.config, target)
  try:
    step = measure(batch)
    slope = step.temporary / batch  # as if none were there without examples
    if not step.fits:  # how far down: no less than the estimate says
      one, two = estimated(batch), estimated(2 * batch)
      slope *= (two.temporary - one.temporary) / max(one.temporary, 1.0)
    search(step, outline, target, measure, compiles - 1, slope)
  except ValueError as error:
    failed = str(error)
  return sorted(tries, key=lambda step: step.batch), failed
