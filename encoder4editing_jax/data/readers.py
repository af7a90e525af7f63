"""Threads that make things ahead of time, in order, and never hang.

A read that does not come back (a dead disk, a pipe) cannot be interrupted;
but it is seen, named, and left behind: these threads do not keep the process
alive, as those of an executor do.
"""

import atexit
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from encoder4editing_jax.data.sources import DataError, Source

READ_TIMEOUT = 120.0  # seconds
AHEAD = 2  # things that are made ahead, besides one for each thread
LOOK = 0.5  # seconds between two looks at what is under way
LAST = 3.0  # seconds that the process waits at its end for what hangs

T = TypeVar("T")


class Watch:
  """Knows which reads are under way, and since when.

  Args:
    limit: seconds that a read may take.
  """

  def __init__(self, limit: float = READ_TIMEOUT):
    self.limit = limit
    self._reads: dict[int, tuple[float, Source, int]] = {}

  def read(self, source: Source, index: int) -> bytes:
    """The encoded bytes of an image."""
    me = threading.get_ident()
    self._reads[me] = (time.monotonic(), source, index)
    try:
      return source[index]
    finally:
      del self._reads[me]

  def check(self) -> None:
    """Raises DataError if a read has taken too long; names what is read."""
    now = time.monotonic()
    for began, source, index in self._reads.copy().values():
      if now - began > self.limit:
        raise DataError(
          f"{source.name(index)} has not been read after {self.limit:g} "
          "seconds; see whether it is a file on a disk that answers, and run "
          "the same command again (read_timeout sets the limit)."
        )


def in_threads(
  make: Callable[[int], T], indices: range, workers: int, watch: Watch
) -> Iterator[T]:
  """`make(index)` for all indices, in their order, by several threads.

  Args:
    make: reads through `watch`; may be called by several threads at once.
    indices: may be practically endless.
    workers: number of threads.
    watch: tells which read hangs.

  Raises:
    DataError: a read takes longer than the watch allows; also whatever `make`
      raises, in its place of the order.
  """
  shared = _Shared(make, indices, workers + AHEAD)
  shared.start(workers)
  try:
    for index in indices:
      yield shared.take(index, watch)
  finally:
    shared.close()


class _Shared:
  """What the threads and the one who waits for them have in common."""

  def __init__(self, make: Callable[[int], Any], indices: range, ahead: int):
    self._make = make
    self._todo = iter(indices)
    self._room = ahead  # how many more may be begun
    self._made: dict[int, tuple[Any, BaseException | None]] = {}
    self._changed = threading.Condition()
    self._closed = False
    self._threads: list[threading.Thread] = []

  def start(self, workers: int) -> None:
    """Starts the threads."""
    for _ in range(workers):
      thread = threading.Thread(target=self.work, daemon=True)
      self._threads.append(thread)
      thread.start()
    _LIVE.add(self)

  def work(self) -> None:
    """Makes one thing after the other; the body of a thread."""
    while (index := self._claim()) is not None:
      try:
        made: tuple[Any, BaseException | None] = (self._make(index), None)
      except BaseException as error:  # raised again where it is waited for
        made = (None, error)
      with self._changed:
        self._made[index] = made
        self._changed.notify_all()

  def take(self, index: int, watch: Watch) -> Any:
    """Waits for one thing."""
    with self._changed:
      while index not in self._made:
        self._changed.wait(min(LOOK, watch.limit))
        if index not in self._made:
          watch.check()
      found, error = self._made.pop(index)
      self._room += 1
      self._changed.notify_all()
    if error is not None:
      raise error
    return found

  def close(self) -> None:
    """Lets the threads end."""
    with self._changed:
      self._closed = True
      self._changed.notify_all()

  def join(self, seconds: float) -> None:
    """Waits for the threads to end."""
    end = time.monotonic() + seconds
    for thread in self._threads:
      thread.join(max(0.0, end - time.monotonic()))

  def _claim(self) -> int | None:
    with self._changed:
      while not self._room and not self._closed:
        self._changed.wait()
      if self._closed:
        return None
      self._room -= 1
      return next(self._todo, None)


_LIVE: weakref.WeakSet[_Shared] = weakref.WeakSet()


@atexit.register
def _end() -> None:
  """Lets threads end before Python does: within C++ they would abort it."""
  for shared in list(_LIVE):
    shared.close()
  for shared in list(_LIVE):
    shared.join(LAST)
