"""One run per folder."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from encoder4editing_jax.config import ConfigError
from encoder4editing_jax.training.hosts import is_first

LOCK = ".lock"
TRIES = 5


def held(workdir: Path) -> bool:
  """Whether a run is at work in a folder, as far as this machine can tell."""
  try:
    import fcntl

    with Path(workdir, LOCK).open() as file:
      fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
  except BlockingIOError:
    return True
  except (ImportError, OSError):
    return False
  return False


@contextlib.contextmanager
def only_run(workdir: Path) -> Iterator[None]:
  """Holds a folder for this process, which lets go of it however it ends.

  Of several processes of one run the first holds it.

  Raises:
    ConfigError: another run is at work in the folder.
  """
  if not is_first():
    yield
    return
  try:
    import fcntl
  except ImportError:  # Windows
    yield
    return
  with Path(workdir, LOCK).open("a+") as file:
    for _ in range(TRIES):  # `held` may hold it for a moment
      with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        break
      time.sleep(0.02)
    else:
      file.seek(0)
      raise ConfigError(
        f"--workdir {workdir}: another run is at work there "
        f"({file.read().strip() or 'it has just begun'}); wait for it, stop "
        "it, or name another folder."
      )
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    yield
