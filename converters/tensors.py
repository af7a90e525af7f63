"""Tensors of a file: where they lie in it, and the arrays that they hold.

Only positions are kept while a file is read. An array is copied out when it is
asked for, so that what is handed out is independent of the file.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from encoder4editing_jax.converters.limits import CheckpointError, Limits
from encoder4editing_jax.converters.pickles import Name, Object

STORAGES = {
  "FloatStorage": np.dtype("<f4"),
  "DoubleStorage": np.dtype("<f8"),
  "HalfStorage": np.dtype("<f2"),
  "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
  "LongStorage": np.dtype("<i8"),
  "IntStorage": np.dtype("<i4"),
  "ShortStorage": np.dtype("<i2"),
  "CharStorage": np.dtype("i1"),
  "ByteStorage": np.dtype("u1"),
  "BoolStorage": np.dtype("?"),
  "ComplexFloatStorage": np.dtype("<c8"),
  "ComplexDoubleStorage": np.dtype("<c16"),
}
MOST_DIMENSIONS = 32


@dataclass
class Storage:
  """A run of numbers of one type; `source` finds its bytes."""

  dtype: np.dtype
  size: int
  source: Callable[[], memoryview] | None = None

  @property
  def nbytes(self) -> int:
    """Its length in bytes."""
    return self.size * self.dtype.itemsize

  def data(self) -> memoryview:
    """Its bytes."""
    found = memoryview(b"") if self.source is None else self.source()
    if len(found) != self.nbytes:
      raise CheckpointError("a tensor has no data, or less than it says")
    return found


@dataclass(frozen=True)
class Tensor:
  """A strided view of a storage; lies inside it, and is not larger."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]  # in elements

  def array(self) -> np.ndarray:
    """A contiguous copy."""
    if not math.prod(self.shape):
      return np.zeros(self.shape, self.storage.dtype)
    flat = np.frombuffer(self.storage.data(), self.storage.dtype)
    strides = [k * flat.itemsize for k in self.strides]
    start = flat[self.offset :]
    view = np.lib.stride_tricks.as_strided(
      start, self.shape, strides, writeable=False
    )
    return np.array(view, order="C")


class Tree(Mapping[Any, Any]):
  """A dictionary of a file; its tensors become arrays when they are read."""

  def __init__(self, items: dict[Any, Any], file: str):
    self._items = items
    self._file = file

  def __getitem__(self, key: Any) -> Any:
    value = self._items[key]
    if not isinstance(value, Tensor):
      return value
    try:
      return value.array()
    except CheckpointError as error:
      raise CheckpointError(f"{self._file}: {error}") from None

  def __contains__(self, key: Any) -> bool:
    return key in self._items  # without making the array

  def __iter__(self) -> Iterator[Any]:
    return iter(self._items)

  def __len__(self) -> int:
    return len(self._items)

  def __repr__(self) -> str:
    return f"Tree({', '.join(map(repr, list(self)[:8]))}, ...)"


class Presenter:
  """Turns objects of a pickle into what a reader hands out.

  Dictionaries become trees, tensors outside of dictionaries arrays. An object
  that occurs several times is treated once.

  Args:
    file: how errors name the file.
  """

  def __init__(self, file: str):
    self.file = file
    self._seen: dict[int, Any] = {}
    self._kept: list[Any] = []  # what stays alive keeps its id

  def __call__(self, value: Any) -> Any:
    """The object as trees, lists, plain values and arrays."""
    if id(value) not in self._seen:
      self._kept.append(value)
      self._seen[id(value)] = self._make(value)
    return self._seen[id(value)]

  def _make(self, value: Any) -> Any:
    if isinstance(value, Tensor):
      return value.array()
    if isinstance(value, Storage):
      return np.frombuffer(value.data(), value.dtype).copy()
    if isinstance(value, memoryview):
      return bytes(value)
    if isinstance(value, Object):
      if value.kind == ARRAY:
        return value.state
      return self({"class": value.kind.name, "state": value.state})
    if isinstance(value, dict):
      items: dict[Any, Any] = {}
      tree = self._seen[id(value)] = Tree(items, self.file)
      for key, item in value.items():
        items[key] = item if isinstance(item, Tensor) else self(item)
      return tree
    if isinstance(value, list):
      made = self._seen[id(value)] = []
      made.extend(map(self, value))
      return made
    if isinstance(value, (tuple, set)) and not isinstance(value, Name):
      return type(value)(map(self, value))
    return str(value) if isinstance(value, Name) else value


ARRAY = Name("numpy", "ndarray")


def make_tensor(
  storage: Any, offset: Any, shape: Any, strides: Any, limits: Limits
) -> Tensor:
  """A checked view of a storage.

  Raises:
    CheckpointError: it does not lie in its storage, or is larger.
  """
  shape, strides = tuple(shape), tuple(strides)
  numbers = (offset, *shape, *strides)
  good = (
    isinstance(storage, Storage)
    and len(shape) == len(strides) <= MOST_DIMENSIONS
    and all(type(n) is int and 0 <= n < 1 << 62 for n in numbers)
  )
  if not good:
    raise CheckpointError("the description of a tensor is damaged")
  size = math.prod(shape)
  last = offset + sum(
    (n - 1) * k for n, k in zip(shape, strides, strict=True) if n
  )
  if size and (last >= storage.size or size > storage.size):
    raise CheckpointError(f"a tensor of shape {shape} leaves its storage")
  limits.elements -= size
  if limits.elements < 0:
    raise CheckpointError("its tensors are too large together")
  return Tensor(storage, offset, shape, strides)


def storage_type(kind: Any) -> np.dtype:
  """The type of the numbers in a storage of PyTorch.

  Raises:
    CheckpointError: an unknown one.
  """
  known = isinstance(kind, Name) and kind.module in ("torch", "torch.cuda")
  if known and kind.name in STORAGES:
    return STORAGES[kind.name]
  raise CheckpointError(f"it has numbers of an unknown kind, {str(kind)[:60]}")
