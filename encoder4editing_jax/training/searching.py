"""The largest batch that fits a device, by few questions."""

from encoder4editing_jax.training.needs import Measure, Step, needed, usable
from encoder4editing_jax.training.outline import Outline
from encoder4editing_jax.training.targets import Target

MOST = 4096
"""Largest batch of one device that is looked for."""


def search(
  asked: Step,
  outline: Outline,
  target: Target,
  measure: Measure,
  tries: int,
  slope: float,
) -> list[Step]:
  """Looks for the largest batch of one device that fits.

  Args:
    asked: the batch of the config.
    outline: of the run.
    target: says how much memory there is.
    measure: a step by its batch.
    tries: how often that may be asked.
    slope: bytes for each further example.

  Returns:
    All steps that were seen, the first one too, by their batches.
  """
  parts = outline.config.run.microbatches
  seen = {asked.batch: asked}
  for left in range(tries, 0, -1):
    best = max((b for b, s in seen.items() if s.fits), default=0)
    worst = min((b for b, s in seen.items() if not s.fits), default=MOST + 1)
    nearest = seen[best] if best else seen[worst]
    slope = _slope_of(list(seen.values()), slope)
    room = usable(target) - needed(outline, nearest)
    guess = nearest.batch + int(room // max(slope, 1.0))
    if not best and left == 1:  # it is to fit
      guess -= max(guess, 0) // 8
    guess = max(guess, best + _unit(best, parts, target))
    guess = min(guess, worst - 1)
    guess -= guess % _unit(guess, parts, target)
    if guess <= best:
      break
    seen[guess] = measure(guess)
  return [seen[batch] for batch in sorted(seen)]


def _unit(batch: int, parts: int, target: Target) -> int:
  """Whole microbatches; on TPUs examples fill rows of eight."""
  rows = 8 * parts
  tpu = target.kind.platform == "tpu"
  return rows if tpu and batch >= 2 * rows else parts


def _slope_of(steps: list[Step], otherwise: float) -> float:
  """Bytes of an example, from the two largest batches."""
  if len(steps) < 2:
    return otherwise
  small, large = sorted(steps, key=lambda s: s.batch)[-2:]
  slope = (large.temporary - small.temporary) / (large.batch - small.batch)
  return slope if slope > 0 else otherwise
