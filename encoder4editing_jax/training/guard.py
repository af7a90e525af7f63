"""When a run has to stop, because its numbers are no numbers any more."""

from typing import Any

from encoder4editing_jax.config import Config
from encoder4editing_jax.data import pipeline, sources


class TrainingStopped(RuntimeError):
  """A run that has stopped to learn: what happened, and what to try."""


def stop_if_lost(
  config: Config,
  source: sources.Source,
  step: int,
  metrics: dict[str, Any],
  *,
  saved: int | None,
) -> None:
  """Ends a run after too many steps in a row that were not finite.

  Args:
    config: of the run.
    source: its training images.
    step: number of the step that the metrics are of, counted from 1.
    metrics: with `skipped`, the number of such steps up to this one.
    saved: step of the newest checkpoint, if there is one.

  Raises:
    TrainingStopped: with the numbers and the images of the step.
  """
  skipped = int(metrics["skipped"])
  if skipped < config.run.most_skipped:
    return
  numbers = ", ".join(f"{k} {float(v):.4g}" for k, v in metrics.items())
  names = pipeline.batch_names(
    source,
    batch_size=config.run.batch_size,
    seed=config.run.seed,
    step=step - 1,
  )
  sound = f" The checkpoint of step {saved} is sound." if saved else ""
  raise TrainingStopped(
    f"{skipped} steps in a row, up to step {step}, gave numbers that are not "
    f"finite ({numbers}) and changed nothing. Lower optim.lr, or look at the "
    f"images of that step: {', '.join(names)}.{sound}"
  )
