"""Writes converted files, all or none, and never over other ones unasked."""

import contextlib
import filecmp
from collections.abc import Callable, Mapping
from pathlib import Path

from encoder4editing_jax import files

Writer = Callable[[Path], None]
"""Writes the content of a file to a path."""

WRITTEN, SAME = "written", "was the same already"


def put(writers: Mapping[Path, Writer], force: bool) -> list[str]:
  """Writes files; none takes its place before all are there.

  Args:
    writers: of each file.
    force: replace other files of those names.

  Returns:
    For each "written", or "was the same already": that one is left alone.

  Raises:
    ValueError: there is another file, and not `force`.
    OSError: something cannot be written.
  """
  with contextlib.ExitStack() as stack:
    fresh = {}
    for target, writer in writers.items():
      try:
        fresh[target] = stack.enter_context(files.replacing(target))
        writer(fresh[target])
        files.to_disk(fresh[target])  # here, where no file is in its place yet
      except OSError as error:
        raise OSError(
          f"{target} cannot be written: {error.strerror or error}. Nothing was "
          "changed; make room, or name a file where you may write."
        ) from error
    return [_settle(path, target, force) for target, path in fresh.items()]


def _settle(fresh: Path, target: Path, force: bool) -> str:
  """What becomes of a file that is written, and not in its place yet."""
  if target.exists() and filecmp.cmp(fresh, target, shallow=False):
    fresh.unlink()
    return SAME
  if target.exists() and not force:
    raise ValueError(
      f"{target} is there and holds something else; name another file, or add "
      "--force to replace it."
    )
  return WRITTEN
