"""One run per folder."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from encoder4editing_jax.config import ConfigError

LOCK = ".lock"


@contextlib.contextmanager
def only_run(workdir: Path) -> Iterator[None]:
  """Holds a folder for this process, which lets go of it however it ends.

  Raises:
    ConfigError: another run is at work in the folder.
  """
  try:
    import fcntl
  except ImportError:  # Windows
    yield
    return
  with Path(workdir, LOCK).open("a+") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      file.seek(0)
      raise ConfigError(
        f"--workdir {workdir}: another run is at work there "
        f"({file.read().strip() or 'it has just begun'}); wait for it, stop "
        "it, or name another folder."
      ) from error
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    yield
