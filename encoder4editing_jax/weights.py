"""Networks as files: safetensors, with the architecture in the metadata.

A file is enough to rebuild its module: the metadata hold one JSON value,
`{"format": 1, "architecture": {"module": "Generator", "size": 64, ...}}`, with
the arguments of the constructor, which every public network keeps as
attributes of the same names. Arrays are named by the path of their leaf, for
example `synthesis.blocks.0.conv1.kernel`. Nothing in a file is executed. An
optional entry `provenance` says where the weights are from; nothing depends on
it.
"""

import errno
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx

from encoder4editing_jax import architectures, files
from encoder4editing_jax.architectures import Shapes

FORMAT = 1
_KEY = "encoder4editing_jax"
_ENTRIES = {"format", "architecture", "dtype", "provenance"}


def _abstract(tree: Mapping[str, Any], shapes: Shapes) -> nnx.Module:
  return nnx.eval_shape(lambda: architectures.build(tree, shapes))


def leaves(module: nnx.Module) -> dict[str, nnx.Variable]:
  """The variables of a network by path, e.g. `blocks.0.conv1.kernel`."""
  flat = nnx.to_flat_state(nnx.state(module))
  return {".".join(map(str, path)): leaf for path, leaf in flat}


def _check(
  path: Path, wanted: Mapping[str, nnx.Variable], shapes: Shapes
) -> None:
  """The file and the module have the same leaves, of the same shapes."""
  if lone := sorted(set(wanted) ^ set(shapes)):
    which = "not in the file" if lone[0] in wanted else "not in the module"
    more = f"; {len(lone)} leaves differ" if len(lone) > 1 else ""
    raise ValueError(f"{path}: leaf {lone[0]} is {which}{more}.")
  for name, leaf in wanted.items():
    if tuple(leaf.shape) != shapes[name]:
      raise ValueError(
        f"{path}: leaf {name} has shape {shapes[name]}, the module takes "
        f"{tuple(leaf.shape)}."
      )


def save(
  module: nnx.Module,
  path: str | os.PathLike[str],
  *,
  dtype: str | None = None,
  provenance: Mapping[str, Any] | None = None,
) -> None:
  """Writes a network to a file that `load` opens; replaces it atomically.

  Args:
    module: a network of `encoder4editing_jax.models`.
    path: the file, by custom `*.safetensors`.
    dtype: "float16" halves the file (11 bits of precision); `load` casts back.
    provenance: where the weights are from, as texts and whole numbers by name;
      `describe` shows it.

  Raises:
    ValueError: the module could not be rebuilt from its attributes, a value
      exceeds the range of `dtype`, or `provenance` holds something else.
    OSError: the file cannot be written; what was there stays.
  """
  path = Path(path)
  if dtype not in (None, "float16"):
    raise ValueError(f"dtype={dtype!r} is unknown; use 'float16' or None.")
  tree = architectures.architecture(module)
  tensors = {k: np.asarray(v[...]) for k, v in leaves(module).items()}
  shapes = {name: value.shape for name, value in tensors.items()}
  _check(path, leaves(_abstract(tree, shapes)), shapes)
  header: dict[str, Any] = {"format": FORMAT, "architecture": tree}
  if dtype is not None:
    header["dtype"] = dtype
    tensors = {k: _narrow(v, dtype, k) for k, v in tensors.items()}
  if provenance:
    header["provenance"] = _check_provenance(provenance)
  save_arrays(path, tensors, header)


def _check_provenance(provenance: Any) -> dict[str, str | int]:
  good = isinstance(provenance, Mapping) and all(
    isinstance(k, str) and type(v) in (str, int) for k, v in provenance.items()
  )
  if not good:
    raise ValueError(
      f"provenance is {provenance!r}; give texts and whole numbers by name."
    )
  return dict(provenance)


def _narrow(value: np.ndarray, dtype: str, name: str) -> np.ndarray:
  if value.dtype != np.float32:
    return value
  largest = np.finfo(dtype).max
  if np.any(np.abs(value) > largest):
    raise ValueError(
      f"leaf {name} reaches {np.abs(value).max():.3g}, above the largest "
      f"{dtype} {largest}; save it without dtype=."
    )
  return value.astype(dtype)


def save_arrays(
  path: str | os.PathLike[str],
  arrays: Mapping[str, np.ndarray],
  header: Mapping[str, Any] | None = None,
) -> None:
  """Writes arrays that need be no network's, and a JSON value about them.

  Raises:
    OSError: the file cannot be written; what was there stays.
  """
  tensors = {k: np.asarray(v, order="C") for k, v in arrays.items()}
  about = {_KEY: json.dumps(header, sort_keys=True)} if header else {}
  try:
    with files.replacing(path) as unfinished:
      safetensors.numpy.save_file(tensors, unfinished, about)
  except safetensors.SafetensorError as error:  # a full disk, for example
    raise OSError(errno.EIO, str(error), str(path)) from error


def read_header(path: str | os.PathLike[str]) -> Any:
  """The JSON value of a safetensors file of this library, unchecked.

  Returns:
    None for every other file, and for what is damaged.
  """
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      return json.loads((file.metadata() or {})[_KEY])
  except (OSError, KeyError, ValueError, safetensors.SafetensorError):
    return None


def load_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Reads the arrays of any safetensors file by name.

  Raises:
    FileNotFoundError: no such file.
    ValueError: it is damaged, or another file.
  """
  try:
    return safetensors.numpy.load_file(path)
  except FileNotFoundError:
    raise FileNotFoundError(f"{path} is not there; check the path.") from None
  except safetensors.SafetensorError as error:
    raise ValueError(f"{path}: no whole safetensors file ({error}).") from None


def _open(path: Path) -> tuple[Any, dict[str, Any], Shapes]:
  """The open file, its header, and the shapes of its leaves."""
  if path.is_dir() or not path.exists():
    kind = "a folder" if path.is_dir() else "not there"
    raise FileNotFoundError(f"{path} is {kind}; give a .safetensors file.")
  try:
    file = safetensors.safe_open(path, framework="numpy")
  except safetensors.SafetensorError as error:
    raise ValueError(
      f"{path}: not a whole safetensors file ({error}); official .pt and .pkl "
      "files are converted by `e4e convert`."
    ) from None
  header = _header(path, file.metadata())
  names = file.keys()
  return file, header, {k: tuple(file.get_slice(k).get_shape()) for k in names}


def _header(path: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
  try:
    header = json.loads((metadata or {})[_KEY])
    if "directions" in header:
      raise ValueError(
        f"{path} holds directions of edits, no network; `e4e directions list` "
        "shows them."
      )
    version, tree = header["format"], header["architecture"]
  except (KeyError, TypeError, json.JSONDecodeError):
    raise ValueError(
      f"{path}: a safetensors file of another program: it does not say which "
      "network it holds. Write files with encoder4editing_jax.save."
    ) from None
  if version != FORMAT:
    raise ValueError(
      f"{path}: format {version}, this version reads {FORMAT}; install a "
      "newer encoder4editing_jax."
    )
  if not isinstance(tree, dict) or not isinstance(tree.get("module"), str):
    raise ValueError(f"{path}: the architecture names no module.")
  if unknown := sorted(set(header) - _ENTRIES):
    raise ValueError(f"{path}: its header has an unknown entry {unknown[0]!r}.")
  try:
    _check_provenance(header.get("provenance", {}))
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from None
  return header


def _rebuild(
  path: Path, header: Mapping[str, Any], shapes: Shapes
) -> nnx.Module:
  try:
    module = _abstract(header["architecture"], shapes)
  except Exception as error:  # whatever a damaged header makes constructors do
    raise ValueError(f"{path}: architecture: {error}") from error
  _check(path, leaves(module), shapes)
  return module


def is_native(path: str | os.PathLike[str]) -> bool:
  """Whether a file is one of `save`, whole; by its content, not its name."""
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      return _KEY in (file.metadata() or {})
  except (OSError, safetensors.SafetensorError):
    return False


def load(path: str | os.PathLike[str]) -> Any:
  """Rebuilds the network that `save` wrote; it is ready for inference.

  Args:
    path: a native `.safetensors` file.

  Returns:
    A module of the class that was saved, with bit-identical leaves (float32
    values of float16 ones where the file was saved with `dtype="float16"`).

  Raises:
    FileNotFoundError: no such file.
    ValueError: the file is damaged or foreign, or its leaves are not exactly
      those of its architecture; the message names the first that differs.
  """
  path = Path(path)
  file, header, shapes = _open(path)
  module = _rebuild(path, header, shapes)
  graph, state = nnx.split(module)
  filled = {}
  for keys, leaf in nnx.to_flat_state(state):
    name = ".".join(map(str, keys))
    value = file.get_tensor(name)
    narrow = header.get("dtype") == str(value.dtype)
    if value.dtype != leaf.dtype and not narrow:
      raise ValueError(
        f"{path}: leaf {name} is {value.dtype}, the module takes {leaf.dtype}."
      )
    filled[keys] = leaf.replace(jnp.asarray(value, leaf.dtype))
  return nnx.merge(graph, nnx.from_flat_state(filled))


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
  """What a native file holds, from its header alone.

  Returns:
    `file`, `bytes`, `module`, `n_styles` (or None), `parameters` (how many
    trained numbers), `buffers` (how many others), `dtype` (of the stored
    values), `architecture` and `provenance` (where they are from; may be
    empty).

  Raises:
    FileNotFoundError, ValueError: as `load`.
  """
  path = Path(path)
  _, header, shapes = _open(path)
  module = _rebuild(path, header, shapes)
  parameters = sum(
    math.prod(leaf.shape)
    for leaf in leaves(module).values()
    if isinstance(leaf, nnx.Param)
  )
  return {
    "file": str(path),
    "bytes": path.stat().st_size,
    "module": header["architecture"]["module"],
    "n_styles": getattr(getattr(module, "generator", module), "n_styles", None),
    "parameters": parameters,
    "buffers": sum(map(math.prod, shapes.values())) - parameters,
    "dtype": header.get("dtype", "float32"),
    "architecture": header["architecture"],
    "provenance": header.get("provenance", {}),
  }
