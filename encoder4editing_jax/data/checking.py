"""Decoding everything once, before anything is made of it."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from PIL import Image

from encoder4editing_jax.data import images
from encoder4editing_jax.data.readers import READ_TIMEOUT, Watch, in_threads
from encoder4editing_jax.data.sources import (
  DataError,
  Source,
  Subset,
  partners_of,
)


class Unreadable(NamedTuple):
  """A file that cannot be decoded or used."""

  position: int
  name: str
  reason: str


def find_unreadable(
  source: Source,
  *,
  workers: int = 2,
  max_megapixels: float = 100.0,
  plain: bool = False,
  read_timeout: float = READ_TIMEOUT,
  open_partner: Callable[..., Image.Image] = images.open_rgb,
) -> list[Unreadable]:
  """Decodes every image once and lists those that fail, in order.

  Partners, as `open_partner` opens them, are listed as well, and those of
  another shape than their target: they show something else.

  Raises:
    DataError: reading an image takes longer than `read_timeout` seconds.
  """
  partners, watch = partners_of(source), Watch(read_timeout)

  def check(index: int) -> Iterator[Unreadable]:
    shapes = []
    for part, opened in ((source, images.open_rgb), (partners, open_partner)):
      if part is None:
        continue
      try:
        data = watch.read(part, index)
        shapes.append(opened(data, max_megapixels, plain).size)
      except (images.UnreadableImage, OSError) as error:
        yield Unreadable(index, part.name(index), str(error))
    if partners is None or len(shapes) < 2:
      return
    (w, h), (columns, rows) = shapes
    if not same_shape(*shapes):
      yield Unreadable(
        index,
        partners.name(index),
        f"{columns} x {rows} pixels have another shape than those of "
        f"{source.name(index)}, {w} x {h}",
      )

  everything = in_threads(
    lambda index: list(check(index)), range(len(source)), workers, watch
  )
  return [found for several in everything for found in several]


def usable(source: Source, *, skip: bool, **options: Any) -> Source:
  """The images of a source that can be used.

  Args:
    source: any source.
    skip: leave out the others, and name them; False refuses them.
    **options: those of `find_unreadable`.

  Raises:
    DataError: names the images that cannot be used.
  """
  broken = find_unreadable(source, **options)
  if not broken:
    return source
  names = "; ".join(f"{bad.name}: {bad.reason}" for bad in broken)
  positions = {bad.position for bad in broken}
  verb = "read or used" if partners_of(source) else "read"
  found = f"{len(positions)} of {len(source)} images cannot be {verb} ({names})"
  left = sorted(set(range(len(source))) - positions)
  if not skip or not left:
    raise DataError(
      f"{found}; replace them, or set data.on_unreadable to skip."
      if left
      else f"{found}; name a folder with readable images."
    )
  print(f"skipping: {found}", flush=True)
  return Subset(source, left)


def same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
  """Whether two sizes are of one shape, but for the rounding of a pixel."""
  small, large = sorted((one, other))
  scale = small[0] / large[0]
  return abs(large[1] * scale - small[1]) <= 1
