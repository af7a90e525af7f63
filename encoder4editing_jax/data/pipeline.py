"""From a source to batches of uint8 images, by grain in thread mode.

Order and flips are pure functions of (seed, position), and a batch of (seed,
step): the position in the data IS the step number, whatever the number of
threads, and nothing else has to be saved.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from encoder4editing_jax.data import images
from encoder4editing_jax.data.sources import DataError, Source


class _Load:
  """Decodes one record; grain hands in a generator that is its own."""

  def __init__(
    self,
    source: Source,
    size: tuple[int, int],
    flip: bool,
    max_megapixels: float,
  ):
    self.source = source
    self.size = size
    self.flip = flip
    self.max_megapixels = max_megapixels

  def __call__(self, index: int, rng: np.random.Generator) -> dict:
    index = int(index)
    flip = self.flip and bool(rng.integers(2))
    try:
      image = images.decode(
        self.source[index],
        self.size,
        flip=flip,
        max_megapixels=self.max_megapixels,
      )
    except (images.UnreadableImage, OSError) as error:
      raise DataError(
        f"{self.source.name(index)} cannot be decoded: {error}; replace the "
        "file, or restart with data.on_unreadable skip."
      ) from error
    return {"image": image}


def train_batches(
  source: Source,
  *,
  size: tuple[int, int],
  batch_size: int,
  seed: int,
  first_step: int = 0,
  flip: bool = True,
  workers: int = 2,
  max_megapixels: float = 100.0,
  host: int = 0,
  hosts: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
  """Endless batches from `first_step` on; every epoch has its own order.

  Args:
    source: encoded images.
    size: height and width of the batches.
    batch_size: images per step over all hosts.
    seed: of order and flips.
    first_step: batches before it are passed over at no cost.
    flip: mirror half of the images.
    workers: decoding threads.
    max_megapixels: see `images.decode`.
    host: number of this host.
    hosts: number of hosts; each gets a contiguous part of every batch.

  Yields:
    `{"image": uint8 [batch_size / hosts, h, w, 3]}`.
  """
  import grain

  load = _Load(source, size, flip, max_megapixels)
  batches = _order(source, seed).random_map(load).batch(batch_size // hosts)
  batches = batches[host + first_step * hosts :: hosts]
  options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=4)
  yield from batches.to_iter_dataset(options)


def batch_names(
  source: Source, *, batch_size: int, seed: int, step: int
) -> list[str]:
  """The names of the images of a training step, counted from 0."""
  order = _order(source, seed)
  places = range(step * batch_size, (step + 1) * batch_size)
  return [source.name(int(order[place])) for place in places]


def _order(source: Source, seed: int) -> Any:
  import grain

  return grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()


def all_batches(
  source: Source,
  *,
  size: tuple[int, int],
  batch_size: int,
  workers: int = 2,
  max_megapixels: float = 100.0,
) -> Iterator[dict[str, np.ndarray]]:
  """Every image once, in order, unflipped; the last batch may be smaller."""
  import grain

  load = _Load(source, size, False, max_megapixels)
  examples = grain.MapDataset.range(len(source)).seed(0).random_map(load)
  options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=4)
  yield from examples.batch(batch_size).to_iter_dataset(options)
