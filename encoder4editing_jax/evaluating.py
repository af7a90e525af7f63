"""How near pictures are to their targets: every number with its protocol.

Results are pictures of 8 bits, as they are published. Batches all have one
size, the last is filled up, so that each network is compiled once. The names
of the numbers say network, range and size: `lpips_alex_256x256`.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from encoder4editing_jax.compiling import call, compiled, in_batches
from encoder4editing_jax.data.pictures import name_of, names_of
from encoder4editing_jax.data.tasks import to_float
from encoder4editing_jax.metrics import fid
from encoder4editing_jax.metrics.measures import Wanted, measures, stated


class Batch(NamedTuple):
  """Pictures uint8 `[b h w 3]`, their targets, and what else is known."""

  names: tuple[str, ...]
  results: np.ndarray
  targets: np.ndarray
  extra: Mapping[str, np.ndarray] = MappingProxyType({})


class Evaluation(NamedTuple):
  """Numbers of all pictures, and of each in the order of `names`."""

  names: tuple[str, ...]
  columns: dict[str, np.ndarray]
  summary: dict[str, dict[str, Any]]


def evaluate(
  batches: Iterable[Batch],
  wanted: Wanted,
  batch: int = 8,
  reference: fid.Statistics | None = None,
) -> Evaluation:
  """Measures pictures, batch after batch; no more than one is kept.

  Args:
    batches: of any sizes; the columns of `extra` are taken over.
    wanted: what to measure.
    batch: how many are computed at once.
    reference: for FID, instead of the statistics of the targets.

  Raises:
    FileNotFoundError, ValueError: a network is missing, or is not the one of
      `reference`.
  """
  found = measures(wanted)
  pair = _Frechet(wanted, reference) if "fid" in wanted.metrics else None
  names: list[str] = []
  columns: dict[str, list[np.ndarray]] = {m.name: [] for m in found}
  for part in batches:
    if not part.names:
      continue
    x, y = to_float(part.results), to_float(part.targets)
    for measure in found:
      columns[measure.name].append(in_batches(measure.compute, batch, x, y))
    for name, values in part.extra.items():
      columns.setdefault(name, []).append(values)
    if pair is not None:
      pair.add(x, y, batch)
    names += part.names
  joined = {
    name: np.concatenate([np.zeros(0), *v]).astype(np.float64)
    for name, v in columns.items()
  }
  summary = {
    m.name: described(joined[m.name]) | {"protocol": m.protocol} for m in found
  }
  if pair is not None and names:
    summary[wanted.name("fid_inception2015")] = pair.summary()
  return Evaluation(tuple(names), joined, summary)


class _Frechet:
  """Features of results and targets, gathered."""

  def __init__(self, wanted: Wanted, reference: fid.Statistics | None):
    self.wanted = wanted
    net = wanted.network("inception_fid")
    self.features = compiled(call, net)
    self.side = net.input_size
    self.results, self.targets = fid.Accumulator(), fid.Accumulator()
    self.reference = reference
    if reference is not None and reference.mean.size != net.features:
      raise ValueError(
        f"the given statistics are of {reference.mean.size} features, the "
        f"network has {net.features}; take both with the same network."
      )

  def add(self, results: np.ndarray, targets: np.ndarray, batch: int) -> None:
    self.results.add(in_batches(self.features, batch, results))
    if self.reference is None:
      self.targets.add(in_batches(self.features, batch, targets))

  def summary(self) -> dict[str, Any]:
    facts = {
      "net": "Inception v3 of 2015-12-05",
      "resized_to": [self.side, self.side],
      "targets": "given statistics" if self.reference else "these targets",
      "note": "depends on the number of pictures; compare equal numbers only",
    }
    value = None
    if self.results.n > 1:  # files that cannot be read may leave one
      other = self.reference or self.targets.statistics()
      value = fid.distance(self.results.statistics(), other)
    facts |= {"range": "[-1, 1]"} | stated(self.wanted, False)
    return {"mean": value, "n": self.results.n, "protocol": facts}


def described(values: np.ndarray) -> dict[str, Any]:
  """Mean, deviation (with n), median, least and largest of numbers."""
  if not len(values):
    return {"mean": None, "n": 0}
  with np.errstate(invalid="ignore"):
    return {
      "mean": float(values.mean()),
      "std": float(values.std()),
      "median": float(np.median(values)),
      "min": float(values.min()),
      "max": float(values.max()),
      "n": len(values),
    }


def paired(
  results: Sequence[str], targets: Sequence[str]
) -> tuple[list[tuple[str, str, str]], dict[str, str]]:
  """Files of the same name but for the ending (`pictures.names_of`).

  Returns:
    (name, result, target) in the order of the targets, and for each file
    without a partner what is wrong.

  Raises:
    ValueError: two files of one side have the same name.
  """
  sides: list[dict[str, str]] = []
  for paths in (results, targets):
    names: dict[str, str] = {}
    for name, path in zip(names_of(paths), paths, strict=True):
      if (other := names.setdefault(name, path)) != path:
        raise _twins(other, path)
    sides.append(names)
  ours, theirs = sides
  for side, partners in (sides, sides[::-1]):
    for name, path in side.items():
      short = name_of(path)
      if name != short and name not in partners and short in partners:
        others = (p for p in side.values() if p != path and name_of(p) == short)
        raise _twins(path, next(others))
  both = [(k, ours[k], path) for k, path in theirs.items() if k in ours]
  alone = {
    p: "no target of this name" for k, p in ours.items() if k not in theirs
  }
  alone |= {
    p: "no result of this name" for k, p in theirs.items() if k not in ours
  }
  return both, alone


def _twins(one: str, other: str) -> ValueError:
  return ValueError(
    f"{one} and {other} have the same name, so partners cannot be found; "
    "rename one, or give fewer files."
  )


def reconstructed(
  images: np.ndarray,
  w_plus: np.ndarray,
  generator: Any,
  batch: int,
) -> np.ndarray:
  """Pictures of codes at the generator's size, cut to the shape of images."""
  from encoder4editing_jax.inference import paint
  from encoder4editing_jax.models.inverter import crop_and_pool

  painted = paint(generator, w_plus, batch=batch)
  (h, w), (rows, columns) = painted.shape[1:3], images.shape[1:3]
  shape = (min(h, round(w * rows / columns)), min(w, round(h * columns / rows)))
  if shape == (h, w):
    return painted
  return np.asarray(crop_and_pool(jnp.asarray(painted), shape))
