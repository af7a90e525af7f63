"""A window of steps whose work is recorded, for TensorBoard and XProf."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from encoder4editing_jax.config import Config


class Profile:
  """Records `run.profile_steps` steps after step `run.profile_after`.

  Args:
    config: of the run; without `run.profile_steps` nothing is recorded.
    workdir: gets profile/.
    first_step: where this process begins; a window that began before it is
      left out, one process's compilation is no part of any.
    say: told of what cannot be recorded or written; the run goes on.
  """

  def __init__(
    self,
    config: Config,
    workdir: Path,
    first_step: int,
    say: Callable[[str], None] = print,
  ):
    self._say = say
    self._folder = workdir / "profile"
    after = config.run.profile_after
    wanted = config.run.profile_steps and after > first_step
    self._window = (after, after + config.run.profile_steps) if wanted else None
    self._on = False

  def after(self, step: int, state: Any) -> None:
    """Step `step` has been given to the devices; `state` is its result."""
    if self._window is None:
      return
    begin, end = self._window
    if step == begin:
      jax.block_until_ready(state)  # earlier steps have no part in it
      self._on = self._done(jax.profiler.start_trace, str(self._folder))
    elif step == end:
      jax.block_until_ready(state)
      self.close()

  def close(self) -> None:
    """Ends the recording, if it is still on."""
    if self._on:
      self._done(jax.profiler.stop_trace)
      self._on, self._window = False, None

  def _done(self, action: Callable[..., None], *arguments: str) -> bool:
    try:
      action(*arguments)
    except (OSError, RuntimeError) as error:  # JAX's own are RuntimeErrors
      why = " ".join(str(error).split())
      self._say(f"warning: no profile ({why}); the run goes on without it")
      return False
    return True
