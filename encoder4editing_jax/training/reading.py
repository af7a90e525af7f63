"""What the host sees of the steps: their numbers one step late, a profile."""

from pathlib import Path
from typing import Any

from encoder4editing_jax.config import Config
from encoder4editing_jax.data import sources
from encoder4editing_jax.training.boards import open_boards
from encoder4editing_jax.training.checkpoint import Checkpoints
from encoder4editing_jax.training.guard import stop_if_lost
from encoder4editing_jax.training.hosts import is_first
from encoder4editing_jax.training.logging import Logger
from encoder4editing_jax.training.profiling import Profile


class Reader:
  """Reads the numbers of a step while the next one runs.

  Args:
    config: of the run.
    source: its training images.
    checkpoints: its checkpoints.
    workdir: its folder.
    first_step: where this process begins.
  """

  def __init__(
    self,
    config: Config,
    source: sources.Source,
    checkpoints: Checkpoints,
    workdir: Path,
    first_step: int,
  ):
    run = config.run
    boards = open_boards(config, workdir, first_step) if is_first() else ()
    self.logger = Logger(
      workdir,
      first_step=first_step,
      steps=run.steps,
      batch_size=run.batch_size,
      log_every=run.log_every,
      boards=boards,
    )
    """Where the numbers go."""
    self._profile = Profile(config, workdir, first_step, self.logger.say)
    self._config, self._source = config, source
    self._checkpoints = checkpoints
    self._pending: tuple[int, dict[str, Any], float] | None = None
    self._penalty: dict[str, Any] = {}

  def after(self, step: int, state: Any, metrics: dict[str, Any]) -> None:
    """Step `step` has been given to the devices: reads the one before it.

    Args:
      step: its number, from 1.
      state: its result.
      metrics: its numbers. The penalty r1 is that of the last step that had
        one.

    Raises:
      guard.TrainingStopped: too many steps in a row were not finite.
    """
    self._profile.after(step, state)
    every = self._config.discriminator.r1_every
    if (step - 1) % every == 0 and "r1" in metrics:
      self._penalty = {"r1": metrics["r1"]}
    self.catch_up()
    self._pending = (step, metrics | self._penalty, self.logger.clock())

  def catch_up(self) -> None:
    """Waits for the newest step, and reads it too.

    Raises:
      guard.TrainingStopped: as `after`.
    """
    if self._pending is None:
      return
    step, metrics, given = self._pending
    self._pending = None
    saved = self._checkpoints.latest_step()
    stop_if_lost(self._config, self._source, step, metrics, saved=saved)
    self.logger.step(step, metrics, given)

  def close(self) -> None:
    """Ends the profile and the log."""
    try:
      self._profile.close()
    finally:
      self.logger.close()
