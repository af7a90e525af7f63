"""Where encoded images come from: anything with a length, bytes and names.

A source is a sequence of encoded files in a fixed order: a folder, see here,
or a directory of tensorflow-datasets, see `datasets`.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from encoder4editing_jax.data import images


class DataError(ValueError):
  """A data set that cannot be used: one line with the fix."""


@runtime_checkable
class Source(Protocol):
  """Encoded images in a fixed order."""

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> bytes:
    """The encoded bytes of one image."""
    ...

  def name(self, index: int) -> str:
    """What to call that image in a message."""
    ...


class FolderSource:
  """All image files below a folder, sorted by path.

  Args:
    folder: searched recursively for `images.EXTENSIONS` (any case); files and
      folders whose names begin with a dot are left out.

  Raises:
    DataError: the folder is missing, not a folder, or holds no images.
  """

  def __init__(self, folder: str | Path):
    self.folder = Path(folder)
    if not self.folder.exists():
      raise DataError(
        f"data folder {self.folder} does not exist; check the path"
        + ("." if self.folder.is_absolute() else f" below {Path.cwd()}.")
      )
    if not self.folder.is_dir():
      raise DataError(
        f"data folder {self.folder} is a file; name the folder that holds "
        "the images."
      )
    self.paths = sorted(_walk(self.folder))
    if not self.paths:
      raise DataError(
        f"data folder {self.folder} holds no images; put files that end in "
        f"{', '.join(images.EXTENSIONS)} into it."
      )

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, index: int) -> bytes:
    return self.paths[index].read_bytes()

  def name(self, index: int) -> str:
    """The path of the file."""
    return str(self.paths[index])


class Subset:
  """Some images of another source, in the order of `indices`."""

  def __init__(self, source: Source, indices: Sequence[int]):
    self.source = source
    self.indices = list(indices)

  def __len__(self) -> int:
    return len(self.indices)

  def __getitem__(self, index: int) -> bytes:
    return self.source[self.indices[index]]

  def name(self, index: int) -> str:
    """The name that the other source gives it."""
    return self.source.name(self.indices[index])


class Paired:
  """Targets, each with a partner from which its code is to be read.

  It is the targets to those who do not ask `partners_of`.
  """

  def __init__(self, targets: Source, partners: Source):
    if len(targets) != len(partners):
      raise DataError(
        f"{len(targets)} targets and {len(partners)} partners are no pairs; "
        "pair them by name (data.pairs)."
      )
    self.targets = targets
    self.partners = partners

  def __len__(self) -> int:
    return len(self.targets)

  def __getitem__(self, index: int) -> bytes:
    return self.targets[index]

  def name(self, index: int) -> str:
    """The name of the target."""
    return self.targets.name(index)


def partners_of(source: Source) -> Source | None:
  """The partners of a source or of some of it, in its order; None if none."""
  if isinstance(source, Paired):
    return source.partners
  if isinstance(source, Subset):
    whole = partners_of(source.source)
    return None if whole is None else Subset(whole, source.indices)
  return None


def hold_out(source: Source, n: int) -> tuple[Source, Source]:
  """Splits off `n` images, at most a tenth, evenly spread over the order.

  Returns:
    (training images, held-out images); the second is empty for fewer than
    ten images.
  """
  total = len(source)
  n = min(n, total // 10)
  chosen = {(2 * i + 1) * total // (2 * n) for i in range(n)}
  rest = [i for i in range(total) if i not in chosen]
  return Subset(source, rest), Subset(source, sorted(chosen))


def spread(source: Source, n: int) -> Source:
  """`n` images, or all if there are fewer, evenly spread over the order."""
  total = len(source)
  n = min(n, total)
  return Subset(source, [(2 * i + 1) * total // (2 * n) for i in range(n)])


def _refuse_closed(error: OSError) -> None:
  raise DataError(
    f"data folder {error.filename} cannot be listed ({error.strerror}); allow "
    "reading it, or move it elsewhere."
  )


def _walk(folder: Path) -> list[Path]:
  found, seen = [], set()
  walk = os.walk(folder, followlinks=True, onerror=_refuse_closed)
  for root, folders, files in walk:
    here = os.path.realpath(root)
    if here in seen:  # a link to a folder above, or to another one inside
      folders.clear()
      continue
    seen.add(here)
    folders[:] = sorted(name for name in folders if not name.startswith("."))
    for name in files:
      end = os.path.splitext(name)[1].lower()
      if end in images.EXTENSIONS and not name.startswith("."):
        found.append(Path(root, name))
  return found
