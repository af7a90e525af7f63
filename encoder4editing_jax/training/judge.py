"""The evaluations of one run: numbers, a picture, eval.json."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from encoder4editing_jax.config import Config
from encoder4editing_jax.data import pipeline, sources
from encoder4editing_jax.data.tasks import INVERSION, Task, task_of
from encoder4editing_jax.files import replace_text
from encoder4editing_jax.training import pictures
from encoder4editing_jax.training.evaluation import (
  Evaluator,
  Shown,
  mean_image,
)
from encoder4editing_jax.training.export import BEST, EXPORTED, Best
from encoder4editing_jax.training.hosts import is_first, local
from encoder4editing_jax.training.logging import Logger, spelled
from encoder4editing_jax.training.preparation import Plan
from encoder4editing_jax.training.state import Frozen, Networks, TrainState

EVALUATED = "eval.json"
PICTURE = "inversions.png"
PICTURES = "pictures"
MEAN_OF = 2048  # training images, at most, behind the mean image


class Judge:
  """Evaluates states of one run on its held-out images."""

  def __init__(
    self,
    config: Config,
    networks: Networks,
    plan: Plan,
    frozen: Frozen,
    workdir: Path,
  ):
    self.config = config
    self.networks = networks
    self.plan = plan
    self.frozen = frozen
    self.workdir = workdir
    self._evaluator = Evaluator(config, networks)
    self._mean: np.ndarray | None = None

  def __call__(self, state: TrainState) -> tuple[dict, Shown | None]:
    """Numbers and pictures; {} and None without held-out images."""
    if not self.plan.evaluation:
      return {}, None
    if self._mean is None:
      some = sources.spread(self.plan.training, MEAN_OF)
      self._mean = mean_image(_all_batches(self.config, some, INVERSION))
    task = task_of(self.config.data)
    place = jax.process_index(), jax.process_count()
    batches = _all_batches(self.config, self.plan.evaluation, task, *place)
    return self._evaluator(
      local(state), local(self.frozen), batches, self._mean
    )

  def final(
    self, state: TrainState, best: Best, logger: Logger
  ) -> dict[str, Any]:
    """The evaluation at the end, with inversions.png; nothing is logged.

    A run that has ended before shows its picture on the boards no second time.
    """
    results, shown = self(state)
    offered = self._offer(state, results, best, logger)
    if shown and is_first():
      with logger.tried(PICTURE):
        pictures.save_grid(self.workdir / PICTURE, *shown)
      if int(state.step) != evaluated_step(self.workdir):
        self._show(int(state.step), shown, offered, logger)
    return results | offered

  def along_the_way(
    self, state: TrainState, best: Best, logger: Logger
  ) -> float | None:
    """An evaluation during the run: logged, offered to `best`; its score."""
    step = int(state.step)
    with logger.paused():
      results, shown = self(state)
      offered = self._offer(state, results, best, logger)
      if shown and is_first():
        self._show(step, shown, offered, logger)
    logger.write(step, results, "test")
    logger.say(f"step {step} {summary(results)}")
    return results.get("score")

  def _offer(
    self, state: TrainState, results: dict, best: Best, logger: Logger
  ) -> dict[str, int | float]:
    with logger.tried(BEST):
      return best.offer(state, results)
    return {}

  def _show(
    self, step: int, shown: Shown, offered: dict, logger: Logger
  ) -> None:
    """The pictures on the boards, and in pictures/."""
    sheet = pictures.grid(*shown)
    logger.picture(step, "test/inversions", np.asarray(sheet))
    with logger.tried(PICTURES):
      pictures.keep(
        self.workdir / PICTURES,
        step,
        sheet,
        newest=self.config.run.keep_pictures,
        best=offered.get("best_step"),
      )


def evaluated_step(workdir: Path) -> int | None:
  """The step of eval.json; None if there is none, or it cannot be read."""
  try:
    return json.loads((workdir / EVALUATED).read_text()).get("step")
  except (AttributeError, OSError, ValueError):
    return None


def summary(results: dict[str, Any]) -> str:
  """One line about an evaluation."""
  if "psnr" not in results:
    return "nothing was evaluated; name held-out images with --data.eval"
  line = (
    f"PSNR {results['psnr']:.2f} dB on {results['images']} held-out images; "
    f"mean image {results['psnr_mean_image']:.2f} dB; "
    f"gain {results['psnr_gain']:+.2f} dB"
  )
  for name in (key[:-5] for key in results if key.endswith("_plus")):
    before, after = results[f"{name}_reconstruction"], results[f"{name}_plus"]
    minus = results[f"{name}_minus"]
    line += (
      f"; {name} {results[f'{name}_input']:.2f} in the inputs, {before:.2f} "
      f"reconstructed, {after:.2f} after +, {minus:.2f} after -"
    )
  return line


def write_results(results: dict[str, Any], workdir: Path) -> None:
  """Writes eval.json and says what the run was worth."""
  if not is_first():
    return
  text = json.dumps(spelled(results), indent=2)
  replace_text(workdir / EVALUATED, text + "\n")
  print(summary(results))
  files = [EXPORTED, EVALUATED]
  if (workdir / PICTURE).exists():
    files.insert(0, PICTURE)
  print(
    f"{results['seconds']} s; see " + ", ".join(f"{workdir / f}" for f in files)
  )


def _all_batches(
  config: Config,
  source: sources.Source,
  task: Task,
  host: int = 0,
  hosts: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
  return pipeline.all_batches(
    source,
    size=config.data.size,
    batch_size=config.run.batch_size,
    task=task,
    workers=config.data.workers,
    max_megapixels=config.data.max_megapixels,
    plain=config.data.decode == "plain",
    read_timeout=config.data.read_timeout,
    host=host,
    hosts=hosts,
  )
