"""What a traced function takes, counted from its operations alone.

No compiler is asked, so these hold for no device exactly. Fusion is modelled
after XLA's: what is computed number by number is computed within each operation
that reads it, from what lies in memory, unless keeping it moves fewer bytes, or
it is expensive and read several times.
"""

import math
from collections import Counter
from typing import Any, NamedTuple

from encoder4editing_jax.training import tiles
from encoder4editing_jax.training.flat import (
  LOOPS,
  MARK,
  PRODUCTS,
  Flat,
  Operation,
  Value,
  bodies,
  flatten,
  instead,
)

CHEAP = frozenset(
  (
    *("abs", "add", "add_any", "and", "bitcast_convert_type"),
    *("broadcast_in_dim", "clamp", "convert_element_type", "copy", "eq"),
    *("expand_dims", "floor", "ge", "gt", "integer_pow", "iota"),
    *("is_finite", "le", "lt", "max", "min", "mul", "ne", "neg", "not"),
    *("or", "random_unwrap", "random_wrap", "round", "select_n"),
    *("shift_left", "shift_right_logical", "sign", "square", "squeeze"),
    *("sub", "xor"),
  )
)
"""Computed within whatever takes the result."""
EXPENSIVE = frozenset(
  (
    *("div", "erf", "erf_inv", "exp", "expm1", "log", "log1p", "logistic"),
    *("pow", "random_bits", "random_fold_in", "random_split", "rem"),
    *("rsqrt", "sqrt", "tanh", "threefry2x32"),
  )
)
"""The same, unless several take it (XLA's InstructionFusion::IsExpensive)."""
MOVES = frozenset(
  (
    *("concatenate", "pad", "rev", "slice", "split", "stack", "transpose"),
    "unstack",
  )
)
"""What numbers are moved by. Computed like CHEAP on GPUs, where any thread
reads from anywhere; elsewhere on its own, and on TPUs, where tiles have to be
filled anew, a reshape too."""
LIBRARIES = ("cpu", "gpu")
"""Where products are calls of libraries, and take arrays that lie in memory."""


class Counts(NamedTuple):
  """Of one call."""

  operations: float
  """Multiplications and additions of products and convolutions."""
  bytes: float
  """Read and written, arguments and results too."""
  peak: float
  """Bytes that are alive at once, in the order of the trace, without the
  arguments and the results."""


Size = dict[Value, float]
"""Bytes in memory."""


class _Kernel(NamedTuple):
  """An operation with all that is computed within it."""

  reads: dict[Value, int]
  """How many numbers of what lies in memory."""
  writes: list[Value]
  inner: Counts = Counts(0, 0, 0)


def count(jaxpr: Any, platform: str = "", batch: int = MARK) -> Counts:
  """The counts of a jaxpr, with those of the functions that it calls.

  Scans count as often as they run, other loops once. Where a computation is
  written for several platforms, that of `platform` ("tpu", "gpu", "cpu")
  counts; of other branches the one with fewest products, and of equal ones the
  longest. On TPUs arrays take whole tiles. A function that was traced for MARK
  examples is counted for `batch` of them.
  """
  flat = flatten(jaxpr, platform, batch)
  values = [*flat.arguments, *(v for o in flat.operations for v in o.writes)]
  plain = {value: float(value.nbytes) for value in values}
  size = tiles.sizes(flat) if platform == "tpu" else plain
  kernels = _fuse(flat, size, platform, batch)
  work = sum((operation.work for operation in flat.operations), 0.0)
  work += sum(kernel.inner.operations for kernel in kernels)
  moved = sum(
    _read(kernel.reads, size)
    + sum(size[value] for value in kernel.writes)
    + kernel.inner.bytes
    for kernel in kernels
  )
  return Counts(work, moved, _peak(flat, kernels, size))


def _fuse(flat: Flat, size: Size, platform: str, batch: int) -> list[_Kernel]:
  """What is computed at once."""
  readers = Counter(v for o in flat.operations for v in set(o.reads))
  kept = flat.held | set(flat.results)
  if platform in LIBRARIES:
    products = (o for o in flat.operations if o.name in PRODUCTS)
    kept.update(v for o in products for v in o.reads)
  sources = {v: {v: v.numbers} for v in flat.arguments}
  kernels = []
  for operation in flat.operations:
    reads: dict[Value, int] = {}
    for value in operation.reads:
      for source, n in sources[value].items():
        reads[source] = max(n, reads.get(source, 0))
    if not _is_fused(operation, platform):
      inner = _inner(operation, platform, batch)
      if operation.name == "dynamic_slice":  # reads what it cuts out
        cut = operation.writes[0].numbers
        reads = {value: min(n, cut) for value, n in reads.items()}
      kernels.append(_Kernel(reads, operation.writes, inner))
      sources |= {v: {v: v.numbers} for v in operation.writes}
      continue
    for value in operation.writes:
      part = {s: min(n, value.numbers) for s, n in reads.items()}
      dear = operation.name in EXPENSIVE
      again = math.inf if dear else _read(part, size)
      times = readers[value]
      if value in kept or _pays(times, again, size[value]):
        kernels.append(_Kernel(part, [value]))
        part = {value: value.numbers}
      sources[value] = part
  return kernels


def _is_fused(operation: Operation, platform: str) -> bool:
  name = operation.name
  if name == "reshape":
    return platform != "tpu" or _keeps_tiles(operation)
  moves = platform == "gpu" and name in MOVES
  return moves or name in CHEAP or name in EXPENSIVE


def _keeps_tiles(operation: Operation) -> bool:
  before, after = operation.reads[0].shape, operation.writes[0].shape
  return before[-2:] == after[-2:]


def _pays(times: int, again: float, size: float) -> bool:
  """Whether to keep a value that is read several times: writing and reading it
  takes less than reading again what it is computed from."""
  return times > 1 and (times - 1) * again > (1 + times) * size


def _read(reads: dict[Value, int], size: Size) -> float:
  """Bytes of what is read, or of parts of it."""
  return sum((n * size[v] / v.numbers for v, n in reads.items() if n), 0.0)


def _inner(operation: Operation, platform: str, batch: int) -> Counts:
  """Counts of a loop, as often as it runs."""
  if operation.name not in LOOPS:
    return Counts(0, 0, 0)
  times = instead(operation.equation.params.get("length", 1), batch)
  found = [count(body, platform, batch) for body in bodies(operation.equation)]
  work, moved, peaks = zip(*found, strict=True)
  return Counts(times * sum(work), times * sum(moved), max(peaks))


def _peak(flat: Flat, kernels: list[_Kernel], size: Size) -> float:
  """Bytes alive at once, besides what comes from outside or goes there."""
  outside = {*flat.arguments, *flat.results}
  last = {v: place for place, k in enumerate(kernels) for v in k.reads}
  live = peak = 0.0
  for place, kernel in enumerate(kernels):
    made = [v for v in kernel.writes if v not in outside]
    live += sum(size[v] for v in made)
    peak = max(peak, live + kernel.inner.peak)
    done = [v for v in kernel.reads if last[v] == place and v not in outside]
    done += [v for v in made if v not in last]
    live -= sum(size[v] for v in done)
  return peak
