"""Moves arrays as a table says, from a checkpoint to a module and back."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from encoder4editing_jax.converters import notes
from encoder4editing_jax.converters.sources import Source
from encoder4editing_jax.converters.table import (
  Array,
  Row,
  Shape,
  Table,
)
from encoder4editing_jax.weights import leaves


def source_shapes(module: nnx.Module, table: Table) -> dict[str, Shape]:
  """The names and shapes of the tensors that a table reads for a module.

  Raises:
    ValueError: the table names a leaf that the module has not, or one twice.
  """
  targets = leaves(module)
  out: dict[str, Shape] = {}
  filled: set[tuple[str, int | None]] = set()
  for row in table.rows:
    if row.target not in targets:
      raise ValueError(f"{row.source!r}: the module has no leaf {row.target}.")
    if row.source in out or (row.target, row.index) in filled:
      raise ValueError(f"{row.source!r} or leaf {row.target} is listed twice.")
    filled.add((row.target, row.index))
    inner = tuple(targets[row.target].shape)[row.index is not None :]
    dummy = np.broadcast_to(np.float32(0), inner)
    out[row.source] = row.layout.inverse(dummy).shape
  return out


def _check_coverage(
  module: nnx.Module, table: Table, given: Iterable[str]
) -> None:
  """Each leaf is given, or filled by one row or by one row per slice."""
  indices: dict[str, set[int | None]] = {}
  for row in table.rows:
    indices.setdefault(row.target, set()).add(row.index)
  for name, leaf in leaves(module).items():
    if name in given and name not in indices:
      continue
    every = set(range(leaf.shape[0])) if leaf.shape else {None}
    if indices.get(name) not in ({None}, every):
      raise ValueError(f"the table does not fill all of leaf {name}.")


def _refuse(names: Iterable[str], message: str) -> None:
  if names := sorted(names):
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    raise ValueError(message.format(f"{names[0]!r}{more}"))


def _check_names(table: Table, shapes: Iterable[str], source: Source) -> None:
  ignored = re.compile("|".join(table.ignored) or r"(?!)")
  fixed = {f.source for f in table.fixed}
  needed = set(shapes)
  extra = {
    k for k in set(source) - needed - fixed if not ignored.fullmatch(str(k))
  }
  _refuse(
    needed - set(source),
    "the checkpoint lacks {}; pass the whole state_dict of one network.",
  )
  _refuse(
    extra,
    "the checkpoint has {}, which this network does not; remove what does not "
    "belong to it, or convert it as the network that it is.",
  )
  notes.unused(sorted(map(str, set(source) - needed)))


def _check_fixed(table: Table, source: Source) -> None:
  for fixed in table.fixed:
    if fixed.source not in source:
      continue  # a constant need not be stored
    value = np.asarray(source[fixed.source])
    if value.shape != fixed.value.shape or not np.allclose(
      value.astype(np.float64), fixed.value, rtol=0, atol=1e-6
    ):
      raise ValueError(
        f"{fixed.source!r} is not the filter [1 3 3 1] that this library has "
        "built in; networks with other filters are not supported."
      )


def take(source: Source, row: Row, expected: Shape) -> Array:
  """A tensor in our layout; finite, float32, still a view where it can be.

  Raises:
    ValueError: it has another shape or type, or is not finite.
  """
  value = np.asarray(source[row.source])
  if value.shape != expected:
    raise ValueError(
      f"{row.source!r} has shape {value.shape}, expected {expected}; the "
      "checkpoint is of another architecture than its other tensors say."
    )
  if not jnp.issubdtype(value.dtype, jnp.floating):
    raise ValueError(
      f"{row.source!r} is {value.dtype}, expected floating point numbers."
    )
  with np.errstate(over="ignore"):
    value = value.astype(np.float32, copy=False)
  if not np.isfinite(value).all():
    raise ValueError(
      f"{row.source!r} holds NaN or infinity; take a sound checkpoint."
    )
  return row.layout.forward(value)


def fill(
  module: nnx.Module,
  table: Table,
  source: Source,
  given: Mapping[str, Array] | None = None,
) -> Any:
  """The module with the weights of a checkpoint.

  Args:
    module: made by `nnx.eval_shape`, it costs no memory.
    table: of that module.
    source: official name to array.
    given: further leaves by path, already in our layout.

  Returns:
    A module of its own arrays; later changes to `source` do not reach it.

  Raises:
    ValueError: naming the tensor that is missing, unknown, of another shape
      or type, not finite, or not the constant that it should be.
  """
  given = given or {}
  graph, state = nnx.split(module)
  shapes = source_shapes(module, table)
  _check_coverage(module, table, given)
  _check_names(table, shapes, source)
  _check_fixed(table, source)
  rows: dict[str, list[Row]] = {}
  for row in table.rows:
    rows.setdefault(row.target, []).append(row)
  filled = []
  for keys, leaf in nnx.to_flat_state(state):
    name = ".".join(map(str, keys))
    value = np.empty(leaf.shape, np.float32)
    for row in rows.get(name, ()):
      part = take(source, row, shapes[row.source])
      value[... if row.index is None else row.index] = part
    if name in given:
      value[...] = given[name]
    filled.append((keys, leaf.replace(jnp.asarray(value, leaf.dtype))))
  return nnx.merge(graph, nnx.from_flat_state(filled))


def extract(module: nnx.Module, table: Table) -> dict[str, Array]:
  """The way back: official names and layouts, constants included."""
  values = {k: np.asarray(v[...]) for k, v in leaves(module).items()}
  out = {}
  for row in table.rows:
    value = values[row.target]
    value = value if row.index is None else value[row.index]
    out[row.source] = np.array(row.layout.inverse(value), order="C")
  return out | {f.source: f.value.copy() for f in table.fixed}


def abstract(build: Callable[[], Any]) -> Any:
  """What `build` makes, with shapes in place of arrays: nothing is drawn."""
  return nnx.eval_shape(build)
