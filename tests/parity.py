"""Compares this library with reference outputs of the original PyTorch code.

`goldens/` holds outputs of the original networks, computed in float32 on CPU
with weights that `goldens/recipe.py` draws from the tensors' official names.
The same weights go through our converters into our networks. A case computes
some of the fields of one golden file; arrays here are in the originals'
layout (NCHW, OIHW, out x in). A field agrees if

    |ours - theirs| / |theirs|  <=  max(3 x noise floor, 2e-5)      (2-norms)

where the noise floor is the same distance between the original's float32 and
float64 results; where nothing amplifies rounding a case has a smaller number
than 2e-5. Of large fields every k-th value is stored, and the mean, the
standard deviation and the largest magnitude of all, which are compared too.
"""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from encoder4editing_jax.converters import transfer

FOLDER = Path(__file__).parent / "goldens"
FLOOR = 2e-5
FACTOR = 3
MOSTLY_NOISE = 0.5  # a tolerance that says nothing: the field is left out

CASES: dict[str, "Case"] = {}


@dataclasses.dataclass(frozen=True)
class Case:
  """Some fields of a golden, and the function that yields ours."""

  golden: str
  fields: tuple[str, ...]  # prefixes
  slow: bool
  network: str
  floor: float
  function: Callable[[], Iterator[tuple[str, np.ndarray]]]

  @property
  def name(self) -> str:
    return f"{self.golden}/{self.function.__name__}"


@dataclasses.dataclass(frozen=True)
class Result:
  field: str
  error: float
  tolerance: float

  @property
  def passed(self) -> bool:
    return self.error <= self.tolerance  # not so for NaN


def case(golden, *fields, network, slow=False, floor=FLOOR):
  """Registers a generator of (field, array) as a case."""

  def register(function):
    new = Case(golden, fields, slow, network, floor, function)
    CASES[new.name] = new
    return function

  return register


@contextlib.contextmanager
def full_precision():
  """Products of float32 in float32, on every device."""
  with jax.default_matmul_precision("highest"):
    yield


def load(golden: str) -> dict[str, np.ndarray]:
  with np.load(FOLDER / f"{golden}.npz") as file:
    return dict(file)


@functools.cache
def names(golden: str) -> set[str]:
  """The fields of a golden.

  But for PyTorch's counters of batches, which nothing reads where the
  momentum is constant; we have none.
  """
  ends = ("__stride", "__shape", "__stats", "num_batches_tracked")
  with np.load(FOLDER / f"{golden}.npz") as file:
    found = {name.removesuffix("__strided") for name in file.files}
  return {name for name in found if not name.endswith(ends)}


def expected_fields(case: Case) -> set[str]:
  found = names(case.golden)
  return {f for f in found if f.startswith(case.fields)}


def _distance(ours: np.ndarray, theirs: np.ndarray) -> float:
  ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
  norm = np.linalg.norm(theirs)
  difference = np.linalg.norm(ours - theirs)
  return float(difference / norm if norm else difference)


def _error(golden, field: str, ours: np.ndarray) -> float:
  if field in golden:
    theirs = golden[field]
    assert ours.shape == theirs.shape, (field, ours.shape, theirs.shape)
    return _distance(ours, theirs)
  shape = tuple(golden[f"{field}__shape"])
  assert ours.shape == shape, (field, ours.shape, shape)
  every = tuple(slice(None, None, int(k)) for k in golden[f"{field}__stride"])
  error = _distance(ours[every], golden[f"{field}__strided"])
  ours = ours.astype(np.float64)
  mean, std, biggest = golden[f"{field}__stats"]
  rms = np.hypot(mean, std) or 1.0  # a field of zeros has none
  return max(
    error,
    abs(ours.mean() - mean) / rms,
    abs(ours.std() - std) / rms,
    abs(np.abs(ours).max() - biggest) / (biggest or 1.0),
  )


def run(case: Case) -> list[Result]:
  """All results of a case; it has to yield exactly its fields."""
  golden = load(case.golden)
  floors = json.loads((FOLDER / "noise_floors.json").read_text())
  floors = floors.get(case.golden, {})  # what works on bytes has no noise
  results, found = [], []
  with full_precision():
    for field, ours in case.function():
      tolerance = max(FACTOR * floors.get(field, 0.0), case.floor)
      found.append(field)
      if tolerance < MOSTLY_NOISE:
        error = _error(golden, field, np.asarray(ours))
        results.append(Result(field, error, tolerance))
  assert sorted(found) == sorted(expected_fields(case)), case.name
  return results


def nhwc(x):
  return x.transpose(0, 2, 3, 1)


def nchw(x):
  return x.transpose(0, 3, 1, 2)


def convert(build, table, source, given=None):
  """A module of official tensors; `build` is traced and costs nothing."""
  return transfer.fill(transfer.abstract(build), table, source, given)


def call(module: nnx.Module, function, *inputs):
  """`function(module, *inputs)`, compiled, with the weights as arguments."""
  graph, state = nnx.split(module)
  compiled = jax.jit(lambda s, *x: function(nnx.merge(graph, s), *x))
  return compiled(state, *inputs)


def differentiable(module: nnx.Module, table):
  """A function from official tensors to the module that they make.

  `rebuild(source)` is traceable, so that gradients come out in the originals'
  names and layouts. Leaves that `source` does not fill keep their values.
  """
  graph, state = nnx.split(module)
  flat = dict(nnx.to_flat_state(state))

  def rebuild(source):
    leaves = {".".join(map(str, k)): (k, v) for k, v in flat.items()}
    new = dict(flat)
    for row in table.rows:
      if row.source in source:
        assert row.index is None
        key, leaf = leaves[row.target]
        value = row.layout.forward(jnp.asarray(source[row.source]))
        new[key] = leaf.replace(value)
    return nnx.merge(graph, nnx.from_flat_state(new))

  return rebuild
