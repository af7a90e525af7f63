"""Networks as files that need none of their Python: StableHLO by `jax.export`.

`write` makes a folder: a program for each way of being served, one file of
weights for all of them, and a manifest that says how they are called. The
batch is a symbol, so programs take any number of examples. `serving.load` opens
such a folder; so do a few lines of plain JAX (docs/export.md).
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from encoder4editing_jax import (
  __version__,
  architectures,
  files,
  inference,
  programs,
  weights,
)
from encoder4editing_jax.directions import as_steps
from encoder4editing_jax.models.inverter import Inverter
from encoder4editing_jax.models.stylegan2 import Generator

FORMAT = 1
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
USUAL = ("cpu", "cuda", "tpu")
MANIFEST, WEIGHTS, SUFFIX = "manifest.json", "weights.safetensors", ".jaxexport"


class Written(NamedTuple):
  """The manifest of a folder, and what tracing each program took."""

  manifest: dict[str, Any]
  seconds: dict[str, float]


def sha256(path: Path) -> str:
  """The digest of a file, in hexadecimal."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def require_flatbuffers() -> None:
  """Raises ModuleNotFoundError where jax.export cannot read and write."""
  if not importlib.util.find_spec("flatbuffers"):
    raise ModuleNotFoundError(
      "flatbuffers is not installed, which jax.export needs; pip install "
      "'encoder4editing_jax[export]'."
    )


def _check(folder: Path, platforms: Sequence[str], overwrite: bool) -> None:
  if unknown := sorted(set(platforms) - set(PLATFORMS)):
    raise ValueError(
      f"platform {unknown[0]!r} is unknown; use {', '.join(PLATFORMS)}."
    )
  if not platforms:
    raise ValueError(f"no platforms are named; use {', '.join(PLATFORMS)}.")
  require_flatbuffers()
  if folder.exists() and not folder.is_dir():
    raise FileExistsError(f"{folder} is a file; name a folder.")
  if (there := _ours(folder)) and not overwrite:
    raise FileExistsError(
      f"{there[0]} is there already; name another folder, or add --overwrite."
    )


def _ours(folder: Path) -> list[Path]:
  """What another export left in a folder."""
  names = [f"{name}{SUFFIX}" for name in programs.NAMES]
  paths = [folder / name for name in (MANIFEST, WEIGHTS, *names)]
  return [path for path in paths if path.exists()]


def write(
  net: Inverter | Generator,
  folder: str | os.PathLike[str],
  *,
  parts: Sequence[str] = programs.PARTS,
  directions: Mapping[str, Any] | None = None,
  iterations: int = 1,
  platforms: Sequence[str] = USUAL,
  dtype: str = "float32",
  overwrite: bool = False,
) -> Written:
  """Exports a network into a folder.

  Args:
    net: an inverter, or a generator alone.
    folder: is made. Other files in it stay.
    parts: see `programs.programs`.
    directions: to edit along, by name: vectors, or as `directions.load` gives
      them.
    iterations: ReStyle steps; other encoders take one.
    platforms: on which the programs run; none has to be here.
    dtype: of the activations, "float32" or "bfloat16".
    overwrite: replace what another export left there.

  Raises:
    ValueError: parts, platforms or directions that do not fit.
    FileExistsError: there is an export already.
    ModuleNotFoundError: flatbuffers is not installed.
    OSError: the disk does not take it; what was there stays.
  """
  folder = Path(folder)
  generator = programs.generator_of(net)
  named = as_steps(directions or {}, generator.n_styles, generator.style_dim)
  chosen = programs.programs(net, parts, len(named), iterations)
  _check(folder, platforms, overwrite)
  folder.mkdir(parents=True, exist_ok=True)
  net = architectures.with_dtype(net, dtype)
  arrays = {k: np.asarray(v) for k, v in programs.needed(net, chosen).items()}
  if "edit" in parts:
    arrays[programs.DIRECTIONS] = np.stack(list(named.values()))
  exports, seconds = {}, {}
  for name, program in chosen.items():
    began = time.perf_counter()
    exports[name] = _export(net, program, arrays, platforms)
    seconds[name] = time.perf_counter() - began
  manifest: dict[str, Any] = {
    "format": FORMAT,
    "encoder4editing_jax": __version__,
    "jax": jax.__version__,
    "platforms": list(platforms),
    "dtype": dtype,
    "iterations": iterations,
    "directions": list(named) if "edit" in parts else [],
    "generator": inference.fingerprint(generator),
  }
  with tempfile.TemporaryDirectory(prefix=".unfinished", dir=folder) as made:
    _keep(Path(made), manifest, arrays, chosen, exports)
    _move(Path(made), folder)
  return Written(manifest, seconds)


def _move(made: Path, folder: Path) -> None:
  """Puts an export where another may be."""
  for path in _ours(folder):  # the manifest first: what is left is no export
    path.unlink()
  for path in reversed(_ours(made)):  # and last
    path.replace(folder / path.name)


def _keep(
  folder: Path,
  manifest: dict[str, Any],
  arrays: Mapping[str, np.ndarray],
  chosen: Mapping[str, programs.Program],
  exports: Mapping[str, export.Exported],
) -> None:
  """Writes all files of an export, and says of them in the manifest."""
  manifest["weights"] = _keep_weights(folder / WEIGHTS, arrays)
  manifest["programs"] = {
    name: _keep_program(folder / f"{name}{SUFFIX}", chosen[name], exported)
    for name, exported in exports.items()
  }
  files.replace_text(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")


@contextlib.contextmanager
def _without_places() -> Iterator[None]:
  """Programs do not say in which files of this machine their code stood."""
  name = "jax_traceback_in_locations_limit"
  before = getattr(jax.config, name)
  jax.config.update(name, 0)
  try:
    yield
  finally:
    jax.config.update(name, before)


def _export(
  net: Any,
  program: programs.Program,
  arrays: Mapping[str, np.ndarray],
  platforms: Sequence[str],
) -> export.Exported:
  (b,) = export.symbolic_shape("b")
  shapes = {
    k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in arrays.items()
  }
  inputs = [
    jax.ShapeDtypeStruct((b, *port.shape), jnp.float32)
    for port in program.inputs
  ]
  traced = jax.jit(programs.function(net, program))
  with _without_places():
    return export.export(traced, platforms=tuple(platforms))(shapes, *inputs)


def _keep_weights(
  path: Path, arrays: Mapping[str, np.ndarray]
) -> dict[str, Any]:
  weights.save_arrays(path, arrays)
  return {"file": path.name, "bytes": path.stat().st_size} | {
    "sha256": sha256(path)
  }


def _keep_program(
  path: Path, program: programs.Program, exported: export.Exported
) -> dict[str, Any]:
  with files.replacing(path) as unfinished:
    unfinished.write_bytes(exported.serialize())

  def said(ports: Sequence[programs.Port]) -> list[dict[str, Any]]:
    return [
      {
        "name": port.name,
        "shape": ["b", *port.shape],
        "dtype": "float32",
        "about": port.about,
      }
      for port in ports
    ]

  return {
    "file": path.name,
    "bytes": path.stat().st_size,
    "sha256": sha256(path),
    "calling_convention_version": exported.calling_convention_version,
    "inputs": said(program.inputs),
    "outputs": said(program.outputs),
  }
