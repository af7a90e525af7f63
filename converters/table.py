"""Tables that carry weights between names and layouts, and refuse surprises.

A table lists, for one network, which tensor of an official checkpoint is which
leaf of our module. Layouts are pairs of inverse functions, so that a table can
be read in both directions; `transfer` does. Arrays are permuted and never
computed with: a round trip is exact.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable

import numpy as np

from encoder4editing_jax.converters import recognition
from encoder4editing_jax.converters.sources import Source

Array = np.ndarray
Shape = tuple[int, ...]
MOST_LAYERS = 4096  # also the largest side of a map


@dataclasses.dataclass(frozen=True)
class Layout:
  """How an official tensor becomes a leaf (`forward`), and back."""

  forward: Callable[[Array], Array]
  inverse: Callable[[Array], Array]


SAME = Layout(lambda x: x, lambda x: x)
LINEAR = Layout(lambda x: x.T, lambda x: x.T)
CONV = Layout(
  lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)
)


def flattened(height: int, width: int) -> Layout:
  """Weights of a linear layer on a flattened map: CHW columns, HWC rows."""

  def forward(x: Array) -> Array:
    x = x.reshape(x.shape[0], -1, height, width)
    return x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0])

  def inverse(x: Array) -> Array:
    x = x.reshape(height, width, -1, x.shape[1])
    return x.transpose(3, 2, 0, 1).reshape(x.shape[3], -1)

  return Layout(forward, inverse)


@dataclasses.dataclass(frozen=True)
class Row:
  """One tensor and its leaf; with `index`, one slice of a stacked leaf."""

  source: str
  target: str
  layout: Layout = SAME
  index: int | None = None


@dataclasses.dataclass(frozen=True)
class Fixed:
  """A tensor that our code holds as a constant: checked, not loaded."""

  source: str
  value: Array


@dataclasses.dataclass(frozen=True)
class Table:
  """All rows of a network; `ignored` are patterns of names without a use."""

  rows: tuple[Row, ...] = ()
  fixed: tuple[Fixed, ...] = ()
  ignored: tuple[str, ...] = ()

  def __add__(self, other: "Table") -> "Table":
    return Table(
      self.rows + other.rows,
      self.fixed + other.fixed,
      self.ignored + other.ignored,
    )

  def under(self, source: str, target: str) -> "Table":
    """The same table with prefixes before the names of both sides."""
    rows = (
      dataclasses.replace(r, source=source + r.source, target=target + r.target)
      for r in self.rows
    )
    fixed = (
      dataclasses.replace(f, source=source + f.source) for f in self.fixed
    )
    ignored = (re.escape(source) + pattern for pattern in self.ignored)
    return Table(tuple(rows), tuple(fixed), tuple(ignored))


def norm(source: str, target: str) -> Table:
  """Batch normalisation; the count of batches, if stored, has no use here."""
  names = {"weight": "scale", "bias": "bias"}
  names |= {"running_mean": "mean", "running_var": "var"}
  rows = (Row(f"{source}.{a}", f"{target}.{b}") for a, b in names.items())
  counter = re.escape(source) + r"\.num_batches_tracked"
  return Table(tuple(rows), ignored=(counter,))


def linear(source: str, target: str, layout: Layout = LINEAR) -> Table:
  """Weight and bias of a linear layer (or of a convolution, `CONV`)."""
  return Table(
    (
      Row(f"{source}.weight", f"{target}.kernel", layout),
      Row(f"{source}.bias", f"{target}.bias"),
    )
  )


def kernel(source: str, target: str) -> Table:
  """A convolution without bias."""
  return Table((Row(f"{source}.weight", f"{target}.kernel", CONV),))


def join(tables: Iterable[Table]) -> Table:
  """One table of several."""
  return sum(tables, Table())


def has(source: Source, prefix: str) -> bool:
  """Whether any name starts so."""
  return any(str(name).startswith(prefix) for name in source)


def largest(source: Source, pattern: str) -> int:
  """The largest number in the names that start with a pattern, -1 if none do.

  One tensor of a layer is enough for it to count, so that one that is missing
  is noticed by its name.

  Raises:
    ValueError: the number is larger than that of any layer of a network.
  """
  starts = map(re.compile(pattern).match, map(str, source))
  found = max((int(match[1]) for match in starts if match), default=-1)
  if found > MOST_LAYERS:
    raise ValueError(
      f"a name that starts with {pattern!r} has the number {found}; the "
      "checkpoint is damaged or of another network."
    )
  return found


def numbered(source: Source, prefix: str) -> int:
  """How many different numbers follow `prefix` in names, as in `prefix3.x`."""
  pattern = re.compile(rf"{re.escape(prefix)}(\d+)\.")
  found = (pattern.match(str(name)) for name in source)
  return len({match[1] for match in found if match})


def sides(source: Source, pattern: str) -> list[int]:
  """The sides 8, 16, ... up to the largest number in names, see `largest`."""
  last = largest(source, pattern)
  return [8 << i for i in range((last // 8).bit_length())]


def shape(source: Source, name: str, ndim: int, what: str) -> Shape:
  """The shape of a tensor from which an architecture is read."""
  if name not in source:
    some = ", ".join(sorted(map(str, source))[:3]) or "nothing"
    usual = "pass its whole state_dict to the converter of its kind"
    raise ValueError(
      f"{name!r} is missing, so this is not {what} (it holds {some}, ...); "
      f"{recognition.advice(source) or usual}."
    )
  found = tuple(np.shape(source[name]))
  if len(found) != ndim:
    raise ValueError(
      f"{name!r} has shape {found}; {what} has {ndim} axes there. The file is "
      "damaged or of another network."
    )
  return found
