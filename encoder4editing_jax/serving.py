"""Opens what `exporting` wrote, and holds it against the network it is of."""

import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export
from jaxtyping import Array, Float

from encoder4editing_jax import (
  architectures,
  editing,
  exporting,
  programs,
  weights,
)
from encoder4editing_jax.directions import as_steps
from encoder4editing_jax.models.inverter import Inversion, Inverter
from encoder4editing_jax.models.stylegan2 import Generator

# What may lie between a program and its network, by the type of activations.
# They are compiled apart, and accelerators choose how to convolve by timing.
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}


@dataclass(frozen=True)
class Served:
  """Programs of a folder, ready to be called.

  `functions` by name take and give arrays `[b ...]` as `manifest["programs"]`
  says. Each is compiled once for every number of examples it meets.
  """

  manifest: dict[str, Any]
  functions: dict[str, Callable[..., Any]]

  def __getitem__(self, name: str) -> Callable[..., Any]:
    if name not in self.functions:
      raise KeyError(
        f"{name!r} was not exported; there are {', '.join(self.functions)}."
      )
    return self.functions[name]

  def strengths(
    self, edits: Mapping[str, float], batch: int = 1
  ) -> Float[np.ndarray, "b k"]:
    """The input `strengths` of edits by name, alike for all examples.

    Raises:
      ValueError: a direction that was not exported.
    """
    names = self.manifest["directions"]
    if unknown := sorted(set(edits) - set(names)):
      fix = f"use {', '.join(names)}" if names else "none were exported"
      raise ValueError(f"there is no direction {unknown[0]!r}; {fix}.")
    row = np.array([edits.get(name, 0.0) for name in names], np.float32)
    return np.tile(row, (batch, 1))


class Comparison(NamedTuple):
  """The largest difference of a program, as a part of the largest number.

  `errors` by the number of examples.
  """

  program: str
  errors: dict[int, float]


def _manifest(folder: Path) -> dict[str, Any]:
  path = folder / exporting.MANIFEST
  try:
    found = json.loads(path.read_text())
    version = found["format"]
  except (FileNotFoundError, NotADirectoryError):
    raise FileNotFoundError(
      f"{folder} holds no export: there is no {path.name}; make one by e4e "
      "export."
    ) from None
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(f"{path}: no manifest of an export ({error}).") from None
  if version != exporting.FORMAT:
    raise ValueError(
      f"{path}: format {version}, this version reads {exporting.FORMAT}; "
      "install a newer encoder4editing_jax."
    )
  return found


def _whole(folder: Path, entry: Mapping[str, Any]) -> Path:
  """A file of the manifest; damaged programs would end the process."""
  path = folder / Path(entry["file"]).name
  if not path.exists():
    raise FileNotFoundError(f"{path} is not there; export again.")
  if exporting.sha256(path) != entry["sha256"]:
    raise ValueError(f"{path}: not what was exported; export again.")
  return path


def load(folder: str | os.PathLike[str]) -> Served:
  """Opens a folder of `exporting.write`; nothing is compiled yet.

  Raises:
    FileNotFoundError: it is not there, or not whole.
    ValueError: files were changed, or are another version's.
    ModuleNotFoundError: flatbuffers is not installed.
  """
  exporting.require_flatbuffers()
  folder = Path(folder)
  manifest = _manifest(folder)
  path = _whole(folder, manifest["weights"])
  arrays = jax.device_put(weights.load_arrays(path))
  functions: dict[str, Callable[..., Any]] = {}
  for name, entry in manifest["programs"].items():
    path = _whole(folder, entry)
    exported = export.deserialize(bytearray(path.read_bytes()))
    run = functools.partial(jax.jit(exported.call), arrays)
    functions[name] = functools.partial(_call, name, run, entry["inputs"])
  return Served(manifest, functions)


def _call(
  name: str,
  run: Callable[..., Any],
  ports: Sequence[Mapping[str, Any]],
  *inputs: Any,
) -> Any:
  """Calls a program with what it takes.

  Raises:
    ValueError: other inputs.
  """
  if len(inputs) != len(ports):
    wanted = ", ".join(port["name"] for port in ports)
    raise ValueError(f"{name} takes {wanted}; {len(inputs)} inputs were given.")
  arrays = list(map(jnp.asarray, inputs))
  for port, array in zip(ports, arrays, strict=True):
    shape = tuple(port["shape"][1:])
    if array.shape[1:] != shape or array.ndim != len(shape) + 1:
      wanted = ", ".join(map(str, ("b", *shape)))
      raise ValueError(
        f"{name}: {port['name']} has shape {array.shape}; pass ({wanted})."
      )
    if not jnp.issubdtype(array.dtype, jnp.floating):
      raise ValueError(
        f"{name}: {port['name']} is {array.dtype}; pass floats "
        f"({port['about']})."
      )
    if len(array) != len(arrays[0]) or not len(array):
      raise ValueError(
        f"{name}: {port['name']} has {len(array)} examples; pass as many of "
        "each, and one or more."
      )
  return run(*(array.astype(jnp.float32) for array in arrays))


def runs_here(manifest: Mapping[str, Any]) -> bool:
  """Whether the programs are for the device that JAX takes by default."""
  return export.default_export_platform() in manifest["platforms"]


def _distance(ours: Any, theirs: Any) -> float:
  """The largest over all outputs; NaN if there is one in either."""
  pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
  # not Python's max, which goes by the order of what is no number
  return float(
    np.max([jnp.abs(a - b).max() / jnp.abs(b).max() for a, b in pairs])
  )


def _results(
  net: Any, manifest: Mapping[str, Any], directions: Mapping[str, Any]
) -> dict[str, Callable[..., Any]]:
  """What the programs should give, by the network's own methods."""
  steps = manifest["iterations"]
  decode = nnx.jit(lambda net, w: programs.generator_of(net).synthesis(w))
  encode = nnx.jit(lambda net, x: net.invert(x, steps).w_plus)
  refine = nnx.jit(lambda net, x, y, w: net.refine(x, Inversion(y, w)))

  def edited(w_plus: Array, strengths: Array) -> Array:
    edits = [
      (name, strengths[:, k]) for k, name in enumerate(manifest["directions"])
    ]
    return decode(net, editing.apply(w_plus, edits, directions))

  return {
    "encoder": functools.partial(encode, net),
    "refine": functools.partial(refine, net),
    "generator": functools.partial(decode, net),
    "edit": lambda x, strengths: edited(encode(net, x), strengths),
    "edit_codes": edited,
  }


def _examples(
  net: Any, entry: Mapping[str, Any], batch: int, generated: Callable[..., Any]
) -> list[Array]:
  """Drawn inputs of a program: codes of W, and whatever else at random."""
  generator = programs.generator_of(net)
  keys = jax.random.split(jax.random.key(batch), 3)
  z = jax.random.normal(keys[0], (batch, generator.style_dim))
  codes = generator.to_w_plus([generator.mapping(z)])

  def draw(port: Mapping[str, Any]) -> Array:
    if port["name"] == "w_plus":
      return codes
    if port["name"] == "current":
      return generated(codes)
    shape = (batch, *port["shape"][1:])
    return jax.random.uniform(keys[1], shape, minval=-1, maxval=1)

  return [draw(port) for port in entry["inputs"]]


def compare(
  net: Inverter | Generator,
  served: Served,
  directions: Mapping[str, Any] | None = None,
  batches: Sequence[int] = (1, 3),
) -> Iterator[Comparison]:
  """Holds programs against the network that they were made of, one by one.

  Args:
    net: as it was exported; may compute in another type.
    served: its programs, of this machine's platform.
    directions: as they were exported.
    batches: numbers of examples.
  """
  net = architectures.with_dtype(net, served.manifest["dtype"])
  generator = programs.generator_of(net)
  named = as_steps(directions or {}, generator.n_styles, generator.style_dim)
  wanted = _results(net, served.manifest, named)
  for name, run in served.functions.items():
    entry = served.manifest["programs"][name]
    errors = {}
    for batch in batches:
      inputs = _examples(net, entry, batch, wanted["generator"])
      errors[batch] = _distance(run(*inputs), wanted[name](*inputs))
    yield Comparison(name, errors)
