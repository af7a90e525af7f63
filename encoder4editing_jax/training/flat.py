"""A traced function as one list of operations, with its calls written out.

Of a computation that is written for several platforms the form of one is
taken. Loops stay whole: who reads the list asks for their bodies.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from encoder4editing_jax import winograd

PRODUCTS = ("conv_general_dilated", "dot_general")
LOOPS = ("scan", "while")
_SAME = ("copy_p", "name", "optimization_barrier", "pvary", "stop_gradient")
_NAMES = {"gpu": "cuda"}
MARK, BESIDE = 10007, 256
"""Examples of a batch that is traced: a prime, found again in all shapes that
depend on it, with up to so many others beside them (of pools). A length from
elsewhere that looks alike, such as 2 * MARK + 3, would be taken for one."""


class Value:
  """An array of one call; two are equal if they are the same."""

  def __init__(self, aval: Any, batch: int):
    """`aval` is as traced, None for a literal; `batch` takes MARK's place."""
    shape = getattr(aval, "shape", ())
    if max(shape, default=0) >= MARK:
      shape = tuple(instead(n, batch) for n in shape)
    self.shape: tuple[int, ...] = shape
    self.numbers = math.prod(self.shape)
    dtype = getattr(aval, "dtype", None)
    self.nbytes = self.numbers * dtype.itemsize if dtype is not None else 0
    self.is_literal = aval is None


def instead(n: int, batch: int) -> int:
  """A length of a trace, for so many examples in the place of MARK."""
  times, others = divmod(n, MARK)
  return times * batch + others if times and others < BESIDE else n


class Operation(NamedTuple):
  """A primitive on arrays."""

  equation: Any
  reads: list[Value]
  """Without literals."""
  writes: list[Value]
  work: float
  """Multiplications and additions of a product or a convolution; else 0."""

  @property
  def name(self) -> str:
    """Of the primitive."""
    return self.equation.primitive.name


class Flat(NamedTuple):
  """What a function does, in the order of its trace."""

  operations: list[Operation]
  arguments: list[Value]
  results: list[Value]
  held: set[Value]
  """What has to be in memory at some time: it passes a barrier."""


def flatten(jaxpr: Any, platform: str = "", batch: int = MARK) -> Flat:
  """The operations of a jaxpr that its results depend on.

  Args:
    jaxpr: with calls and branches, which are written out.
    platform: "tpu", "gpu" or "cpu": whose form of a computation is taken.
      Without one, and of other branches, that with fewest products, and of
      equal ones the longest.
    batch: of a function that was traced for MARK examples.
  """
  inputs = [*jaxpr.constvars, *jaxpr.invars]
  arguments = [Value(v.aval, batch) for v in inputs]
  walk = _Walk(_NAMES.get(platform, platform), batch)
  results = walk.through(jaxpr, arguments)
  results = [value for value in results if not value.is_literal]
  return Flat(_needed(walk.found, results), arguments, results, walk.held)


def nbytes(leaf: Any) -> int:
  """Bytes of an array, of its shape, or of a random key."""
  return math.prod(leaf.shape) * leaf.dtype.itemsize


def bodies(equation: Any) -> Iterator[Any]:
  """The jaxprs that a primitive calls."""
  for value in equation.params.values():
    for one in value if isinstance(value, tuple | list) else (value,):
      inner = getattr(one, "jaxpr", one)  # closed ones too
      if hasattr(inner, "eqns"):
        yield inner


class _Walk:
  def __init__(self, platform: str, batch: int):
    self.platform, self.batch = platform, batch
    self.found: list[Operation] = []
    self.held: set[Value] = set()

  def through(self, jaxpr: Any, inputs: list[Value]) -> list[Value]:
    """Adds what a jaxpr does, and returns its results."""
    names = [*jaxpr.constvars, *jaxpr.invars]
    known = dict(zip(names, inputs, strict=True))

    def value(variable: Any) -> Value:
      literal = hasattr(variable, "val")
      return Value(None, 1) if literal else known[variable]

    for equation in jaxpr.eqns:
      reads = [value(v) for v in equation.invars]
      results = self._results(equation, reads)
      known.update(zip(equation.outvars, results, strict=True))
    return [value(v) for v in jaxpr.outvars]

  def _results(self, equation: Any, reads: list[Value]) -> list[Value]:
    name = equation.primitive.name
    if name in _SAME:
      if name == "optimization_barrier":
        self.held |= set(reads)
      return reads
    if name == "cond":
      return self.through(self._branch(equation), reads[1:])
    if equation.primitive is winograd.conv3x3:
      form = winograd.written_out(equation, self.platform)
      constants = [Value(v.aval, self.batch) for v in form.constvars]
      return self.through(form, constants + reads)
    called = list(bodies(equation))
    if name not in LOOPS and len(called) == 1:
      return self.through(called[0], reads)
    writes = [Value(v.aval, self.batch) for v in equation.outvars]
    work = _work(equation, [v.shape for v in reads], [v.shape for v in writes])
    reads = [value for value in reads if not value.is_literal]
    self.found.append(Operation(equation, reads, writes, work))
    return writes

  def _branch(self, equation: Any) -> Any:
    branches = [branch.jaxpr for branch in equation.params["branches"]]
    forms = equation.params.get("branches_platforms")
    if forms and self.platform:
      named = (place for place, names in enumerate(forms) if names)
      own = [i for i in named if self.platform in forms[i]]
      return branches[own[0] if own else -1]
    return min(branches, key=self._length)

  def _length(self, jaxpr: Any) -> tuple[float, int]:
    """Fewest products first; of equals what does most: no step is skipped."""
    inside = flatten(jaxpr, self.platform).operations
    return sum((operation.work for operation in inside), 0.0), -len(inside)


def _work(equation: Any, reads: list[Any], writes: list[Any]) -> float:
  """Operations of a product or a convolution of such shapes."""
  name, parameters = equation.primitive.name, equation.params
  if name not in PRODUCTS:
    return 0.0
  out = math.prod(writes[0])
  if name == "dot_general":
    (contracted, _), _ = parameters["dimension_numbers"]
    return 2.0 * out * math.prod(reads[0][axis] for axis in contracted)
  _, inputs, *window = parameters["dimension_numbers"].rhs_spec
  taps = reads[1][inputs] * math.prod(reads[1][axis] for axis in window)
  zeros = math.prod(parameters["lhs_dilation"])  # between samples
  return 2.0 * out * taps / zeros


def _needed(found: list[Operation], results: list[Value]) -> list[Operation]:
  """Without what nothing reads: compilers drop it."""
  wanted, kept = set(results), []
  for operation in reversed(found):
    if not wanted.isdisjoint(operation.writes):
      wanted.update(operation.reads)
      kept.append(operation)
  return kept[::-1]
