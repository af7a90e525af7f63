"""Who takes part in a run, as flags say it; known before JAX is imported."""

import dataclasses
import os
import sys
import threading

from encoder4editing_jax.config import ConfigError

AUTO = "auto"
COMPILING = "compiling"
"""Names the thread that compiles the step."""


@dataclasses.dataclass(frozen=True)
class Hosts:
  """Who takes part; not a part of the config: another run may differ."""

  coordinator: str = ""
  """Address HOST:PORT of process 0, for training with several processes; auto
  on TPU pods and under Slurm, which say it themselves. See docs/tpu.md."""
  processes: int | None = None
  """How many processes there are, with --coordinator HOST:PORT."""
  process: int | None = None
  """Which one this is, from 0, with --coordinator HOST:PORT."""

  def validate(self) -> None:
    """Raises ConfigError if the parts do not fit together; one line."""
    numbers = (self.processes, self.process)
    given = [n for n in numbers if n is not None]
    if self.coordinator in ("", AUTO):
      if given:
        raise ConfigError(
          "--processes and --process need --coordinator HOST:PORT, the "
          "address of process 0; add it, or leave them out."
        )
      return
    host, _, port = self.coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
      raise ConfigError(
        f"--coordinator is {self.coordinator}; give HOST:PORT, the address of "
        "process 0, or auto on TPU pods and under Slurm."
      )
    if self.processes is None or self.process is None:
      raise ConfigError(
        "--coordinator HOST:PORT needs --processes and --process; say how "
        "many there are, and which one this is (from 0)."
      )
    if not 0 <= self.process < self.processes:
      raise ConfigError(
        f"--process is {self.process} of {self.processes}; number the "
        f"processes from 0 to --processes - 1."
      )


def leave(status: int) -> int:
  """Gives back an exit status, or ends with it where Python would wait.

  A process that failed ends at once: at the end Python would wait for the
  compiler (`parallel.PmapStep.compile`), and, among several processes, for the
  others, and they for it.
  """
  jax = sys.modules.get("jax")  # without it no others were met
  met = jax and jax.distributed.is_initialized()
  compiling = any(t.name.startswith(COMPILING) for t in threading.enumerate())
  if status and (met or compiling):
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
  return status
