"""Whether a run fits a device, and how fast it can be at most."""

import dataclasses
from typing import Any

from encoder4editing_jax.config import Config
from encoder4editing_jax.training.needs import (
  MOST,
  Step,
  check_batch,
  compiled,
  estimated,
  largest_batch,
  line_through,
  memory_by_part,
  parameters,
  slope_of,
  usable,
)
from encoder4editing_jax.training.outline import Outline
from encoder4editing_jax.training.targets import Target

COMPILES = 3
"""Programs that are compiled at most for one plan."""


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


def advice(config: Config, step: Step, largest: Step | None) -> list[str]:
  """What to change where a step does not fit, by our fields; best first."""
  if step.fits:
    return []
  found, run = [], config.run
  if config.model.dtype != "bfloat16":
    found.append("--model.dtype bfloat16: half the activations")
  if largest is not None:
    found.append(
      f"--run.batch_size: {largest.batch} for each device fit, "
      f"{step.batch} do not"
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
  compile: bool = True,
  compiles: int = COMPILES,
) -> dict[str, Any]:
  """What `e4e plan` prints, see there.

  Args:
    outline: of the run.
    target: the devices.
    compile: ask the compiler, if there is one.
    compiles: how often at most.

  Returns:
    Plain values; bytes and operations are those of each device. `step` is the
    batch of the config, `work` the same, estimated where it did not compile.

  Raises:
    ConfigError: the devices do not divide the batch.
  """
  config = outline.config
  batch = check_batch(config, target)
  rough = estimated(outline, target, batch)
  double = estimated(outline, target, 2 * batch)
  slope, why = slope_of(rough, double), "no compiler was asked"
  step, tries = rough, 64
  measure = line_through(outline, target, rough, double)
  if compile and compiles:
    try:
      step = compiled(outline, target, batch)
      slope *= step.temporary / max(rough.temporary, 1.0)
      tries, measure = compiles - 1, lambda b: compiled(outline, target, b)
      why = ""
    except ValueError as error:
      why = str(error)
  largest = largest_batch(step, outline, target, measure, tries, slope)
  work = step if step.operations else rough  # unknown where it does not fit
  return {
    "target": target.name,
    "devices": target.count,
    "memory": usable(target),
    "notes": list(outline.notes),
    "parameters": parameters(outline),
    "parts": memory_by_part(outline),
    "step": dataclasses.asdict(step),
    "estimated_because": why,
    "largest": largest and dataclasses.asdict(largest),
    "most": MOST,
    "work": dataclasses.asdict(work),
    "bound": bound(work, target, config.model.dtype),
    "advice": advice(config, step, largest),
  }
