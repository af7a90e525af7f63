"""Files that at any time have their old content or their new, never a part."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
  """Gives a name beside `path` to write to; takes its place at the end.

  What was written is on the disk before it takes the place. If the block
  raises, or removes what it wrote, `path` stays as it was, and nothing lies
  beside it.

  Raises:
    FileNotFoundError: there is no folder to put it in.
  """
  path = Path(path)
  if not path.parent.is_dir():
    raise FileNotFoundError(
      f"{path}: there is no folder {path.parent}; make it first."
    )
  # The suffix stays: Pillow and NumPy go by it.
  unfinished = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
  try:
    unfinished.touch()
    mode = unfinished.stat().st_mode  # writers may choose a closer one
    yield unfinished
    if not unfinished.exists():
      return
    unfinished.chmod(mode)
    to_disk(unfinished)
    unfinished.replace(path)
  finally:
    unfinished.unlink(missing_ok=True)


def to_disk(path: Path) -> None:
  """Returns once what a file holds will outlive a power cut.

  Raises:
    OSError: the disk does not take it.
  """
  with path.open("rb") as file:
    os.fsync(file.fileno())


def replace_text(path: str | os.PathLike[str], text: str) -> None:
  """Writes a text file, see `replacing`."""
  with replacing(path) as unfinished:
    unfinished.write_text(text)


def reason(error: Exception) -> str:
  """An error in one line, for a file that is named beside it.

  Errors of the system without their number and path.
  """
  text = str(error)
  if isinstance(error, OSError) and error.filename and error.strerror:
    text = error.strerror.lower()
  return " ".join(text.split()) or type(error).__name__
