"""Picture files by name: many of them, opened while others are in use."""

import collections
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from encoder4editing_jax import files
from encoder4editing_jax.data import images
from encoder4editing_jax.data.tasks import to_float

MEGAPIXELS = 150.0  # larger ones are refused; one at a time is open
FilePath = str | os.PathLike[str]


class Read(NamedTuple):
  """The picture of a file, or why there is none."""

  path: str
  pixels: UInt8[np.ndarray, "h w 3"] | None
  reason: str = ""


class Opened(NamedTuple):
  """Pictures `[b h w 3]` in [-1, 1] by name, and files that are none."""

  names: tuple[str, ...]
  images: Float[np.ndarray, "b h w 3"]
  failed: dict[str, str]


def name_of(path: FilePath) -> str:
  """A file's name without its folder and without the ending of a picture.

  Other dots belong to the name: `a/b.c.png` is `b.c`, and so is `b.c`.
  """
  path = Path(path)
  known = path.suffix.lower() in images.EXTENSIONS
  return path.stem if known else path.name


def names_of(paths: Iterable[FilePath]) -> list[str]:
  """Names of files whose results lie beside each other.

  That is `name_of`, but for those that would have one name: they keep their
  endings, `x.jpg` and `x.png` too.
  """
  known = list(paths)
  shared = collections.Counter(map(name_of, set(map(Path, known))))
  return [
    Path(path).name if shared[name_of(path)] > 1 else name_of(path)
    for path in known
  ]


def read(path: FilePath, size: tuple[int, int]) -> Read:
  """A file as a picture of this height and width."""
  try:
    data = Path(path).read_bytes()
    pixels = images.decode(data, size, max_megapixels=MEGAPIXELS)
    return Read(str(path), pixels)
  except (OSError, ValueError) as error:
    return Read(str(path), None, files.reason(error))


def ahead(
  function: Callable[[Any], Any], items: Iterable[Any], n: int
) -> Iterator[Any]:
  """`function` of each item, in order, by a thread that is up to n ahead.

  One thread: what Pillow's warnings are told is told to all threads.
  """
  pool = ThreadPoolExecutor(1)
  waiting: collections.deque[Any] = collections.deque()
  try:
    for item in items:
      waiting.append(pool.submit(function, item))
      if len(waiting) > n:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
  finally:
    pool.shutdown(cancel_futures=True)


def chunks(items: Iterable[Any], n: int) -> Iterator[list[Any]]:
  """`items` in pieces of n, the last perhaps shorter."""
  items = iter(items)
  while piece := list(itertools.islice(items, n)):
    yield piece


def open_batches(
  paths: Iterable[FilePath], size: tuple[int, int], batch: int
) -> Iterator[Opened]:
  """Opens picture files, resized, up to two batches ahead of that in use.

  Yields:
    Full batches, but for the last; `failed` names what could not be read since
    the batch before. If nothing can be read there is one without pictures.

  Raises:
    ValueError: a batch has less than one.
  """
  if batch < 1:
    raise ValueError(f"batches of {batch} pictures; pass 1 or more.")
  failed: dict[str, str] = {}

  def good() -> Iterator[Read]:
    for found in ahead(lambda path: read(path, size), paths, 2 * batch):
      if found.pixels is None:
        failed[found.path] = found.reason
      else:
        yield found

  for part in chunks(good(), batch):
    pixels = np.stack([found.pixels for found in part])
    names = tuple(found.path for found in part)
    yield Opened(names, to_float(pixels), dict(failed))
    failed.clear()
  if failed:
    yield Opened((), np.zeros((0, *size, 3), np.float32), failed)


def open_images(paths: Sequence[FilePath], size: tuple[int, int]) -> Opened:
  """Opens picture files, resized; whatever cannot be read is named."""
  nothing = Opened((), np.zeros((0, *size, 3), np.float32), {})
  return next(open_batches(paths, size, max(len(paths), 1)), nothing)
