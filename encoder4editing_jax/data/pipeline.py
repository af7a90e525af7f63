"""From a source to batches of uint8 images, ordered and mapped by grain.

Order, flips and what else is drawn are pure functions of (seed, position),
and a batch of (seed, step): the position in the data IS the step number,
whatever the number of threads, and nothing else has to be saved. The threads
are those of `readers`, which do not hang where a file does.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from encoder4editing_jax.config_rules import NEEDS_SOURCE
from encoder4editing_jax.data import images, transforms
from encoder4editing_jax.data.readers import READ_TIMEOUT, Watch, in_threads
from encoder4editing_jax.data.sources import DataError, Source, partners_of
from encoder4editing_jax.data.tasks import INVERSION, Task


class _Load:
  """Makes one example; grain hands in a generator that is its own."""

  def __init__(
    self,
    source: Source,
    size: tuple[int, int],
    task: Task,
    watch: Watch,
    *,
    max_megapixels: float,
    plain: bool,
    training: bool,
    flip: bool,
  ):
    self.source = source
    self.partners = partners_of(source)
    if self.partners is None and task.name in NEEDS_SOURCE:
      raise ValueError(
        f"the task {task.name} reads its sources from files, but the data "
        "have no partners; pair two folders with data.pairs.pair."
      )
    self.size = size
    self.watch = watch
    self.options = {"max_megapixels": max_megapixels, "plain": plain}
    self.task = task
    self.training = training
    self.flip = flip

  def __call__(self, index: int, rng: np.random.Generator) -> dict:
    index = int(index)
    flip = self._coin(rng)
    image = self._decode(self.source, index, images.decode, flip)
    if self.task.name == "inversion":  # the source is the target
      return {"image": image}
    return {"image": image, "source": self._source(index, image, flip, rng)}

  def _coin(self, rng: np.random.Generator) -> bool:
    return self.flip and bool(rng.integers(2))

  def _source(
    self, index: int, image: np.ndarray, flip: bool, rng: np.random.Generator
  ) -> np.ndarray:
    """The source of a target that was mirrored if `flip` says so."""
    if self.task.name == "super_resolution":
      factors = self.task.factors
      draw = rng.integers(len(factors)) if self.training else index
      return transforms.degrade(image, factors[draw % len(factors)])
    if self.task.name == "inpainting":
      return transforms.cover(image, rng)
    if self.task.name == "frontalization":
      mirrored = self._coin(rng)  # whatever the target is
      if self.partners is None:
        return image if mirrored == flip else image[:, ::-1]
      flip = mirrored
    assert self.partners is not None
    return self._decode(self.partners, index, self.task.decode, flip)

  def _decode(
    self,
    source: Source,
    index: int,
    decode: Callable[..., np.ndarray],
    flip: bool,
  ) -> np.ndarray:
    try:
      data = self.watch.read(source, index)
      return decode(data, self.size, flip=flip, **self.options)
    except (images.UnreadableImage, OSError) as error:
      raise DataError(
        f"{source.name(index)} cannot be decoded: {error}; replace the "
        "file, and run the same command again."
      ) from error


def train_batches(
  source: Source,
  *,
  size: tuple[int, int],
  batch_size: int,
  seed: int,
  first_step: int = 0,
  task: Task = INVERSION,
  flip: bool = True,
  workers: int = 2,
  max_megapixels: float = 100.0,
  plain: bool = False,
  read_timeout: float = READ_TIMEOUT,
  host: int = 0,
  hosts: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
  """Endless batches from `first_step` on; every epoch has its own order.

  Args:
    source: encoded images; with partners if the task reads its sources.
    size: height and width of the batches.
    batch_size: images per step over all hosts.
    seed: of order, flips and whatever else the task draws.
    first_step: batches before it are passed over at no cost.
    task: what the source of an example is.
    flip: mirror half of the images.
    workers: decoding threads.
    max_megapixels: see `images.decode`.
    plain: the same.
    read_timeout: seconds that reading an image may take.
    host: number of this host.
    hosts: number of hosts; each gets a contiguous part of every batch.

  Yields:
    `{"image": uint8 [batch_size / hosts, h, w, 3]}`, the targets; for other
    tasks than inversion "source" as well, uint8 `[.. h w c]`, see `tasks`.

  Raises:
    DataError: an image cannot be read or decoded, or not in time.
  """
  watch = Watch(read_timeout)
  load = _Load(
    source,
    size,
    task,
    watch,
    max_megapixels=max_megapixels,
    plain=plain,
    training=True,
    flip=flip,
  )
  batches = _order(source, seed).random_map(load).batch(batch_size // hosts)
  steps = range(host + first_step * hosts, sys.maxsize, hosts)
  yield from in_threads(batches.__getitem__, steps, workers, watch)


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
  task: Task = INVERSION,
  workers: int = 2,
  max_megapixels: float = 100.0,
  plain: bool = False,
  read_timeout: float = READ_TIMEOUT,
  host: int = 0,
  hosts: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
  """Every image once, in order, unflipped; the last batch may be smaller.

  What a task draws is the same every time; super-resolution takes its factors
  in turn. Hosts take whole batches in turn. Other arguments and errors are
  those of `train_batches`.
  """
  import grain

  watch = Watch(read_timeout)
  load = _Load(
    source,
    size,
    task,
    watch,
    max_megapixels=max_megapixels,
    plain=plain,
    training=False,
    flip=False,
  )
  examples = grain.MapDataset.range(len(source)).seed(0).random_map(load)
  batches = examples.batch(batch_size)
  steps = range(host, len(batches), hosts)
  yield from in_threads(batches.__getitem__, steps, workers, watch)
