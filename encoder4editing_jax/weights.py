"""Networks as files: safetensors, with the architecture in the metadata.

A file is enough to rebuild its module: the metadata hold one JSON value,
`{"format": 1, "architecture": {"module": "Generator", "size": 64, ...}}`, with
the arguments of the constructor, which every public network keeps as
attributes of the same names. Arrays are named by the path of their leaf, for
example `synthesis.blocks.0.conv1.kernel`. Nothing in a file is executed.
"""

import importlib
import inspect
import json
import math
import os
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx

from encoder4editing_jax import files, models

FORMAT = 1
_KEY = "encoder4editing_jax"

Shapes = Mapping[str, tuple[int, ...]]


def _find_class(name: str) -> type[nnx.Module]:
  """The network class of that name in `encoder4editing_jax.models`."""
  for info in pkgutil.iter_modules(models.__path__, f"{models.__name__}."):
    found = getattr(importlib.import_module(info.name), name, None)
    if (
      inspect.isclass(found)
      and issubclass(found, nnx.Module)
      and found.__module__ == info.name
    ):
      return found
  raise ValueError(f"{name!r} is not a network of {models.__name__}")


def _arguments(cls: type[nnx.Module]) -> list[str]:
  return list(inspect.signature(cls.__init__).parameters)[1:]


def architecture(module: nnx.Module) -> dict[str, Any]:
  """The class of a network and the arguments that built it, fit for JSON.

  Arguments that are arrays are left out: they are leaves of the module.

  Raises:
    ValueError: the class is not one of `encoder4editing_jax.models`, or an
      argument is not kept as a plain attribute of the same name.
  """
  cls = type(module)
  if _find_class(cls.__name__) is not cls:
    raise ValueError(f"{cls} is not a network of {models.__name__}")
  out: dict[str, Any] = {"module": cls.__name__}
  for name in _arguments(cls):
    if name == "rngs":
      continue
    if not hasattr(module, name):
      raise ValueError(
        f"{cls.__name__} does not keep its argument {name!r}; store it as "
        "an attribute of the same name."
      )
    value = getattr(module, name)
    if isinstance(value, nnx.Module):
      out[name] = architecture(value)
    elif not isinstance(value, nnx.Variable):
      out[name] = _plain(value, f"{cls.__name__}.{name}")
  return out


def _plain(value: Any, name: str) -> Any:
  if value is None or isinstance(value, bool | int | float | str):
    return value
  if isinstance(value, tuple | list):
    return [_plain(v, name) for v in value]
  raise ValueError(
    f"{name} is {value!r}; only numbers, strings, tuples and None can be saved."
  )


def _build(tree: Mapping[str, Any], shapes: Shapes, prefix: str) -> nnx.Module:
  """Constructs a module; meant to be traced, so that it costs nothing."""
  cls = _find_class(tree["module"])
  arguments = _arguments(cls)
  if unknown := sorted(set(tree) - {"module"} - set(arguments)):
    raise ValueError(f"{cls.__name__} has no argument {unknown[0]!r}")
  values: dict[str, Any] = {}
  for name in arguments:
    if name == "rngs":
      values[name] = nnx.Rngs(0)
    elif isinstance(tree.get(name), Mapping):
      values[name] = _build(tree[name], shapes, f"{prefix}{name}.")
    elif name in tree:
      values[name] = _tuples(tree[name])
    elif prefix + name in shapes:
      values[name] = jnp.zeros(shapes[prefix + name])
  return cls(**values)


def _tuples(value: Any) -> Any:
  return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _abstract(tree: Mapping[str, Any], shapes: Shapes) -> nnx.Module:
  return nnx.eval_shape(lambda: _build(tree, shapes, ""))


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
  module: nnx.Module, path: str | os.PathLike[str], *, dtype: str | None = None
) -> None:
  """Writes a network to a file that `load` opens; replaces it atomically.

  Args:
    module: a network of `encoder4editing_jax.models`.
    path: the file, by custom `*.safetensors`.
    dtype: "float16" halves the file (11 bits of precision); `load` casts back.

  Raises:
    ValueError: the module could not be rebuilt from its attributes, or a
      value exceeds the range of `dtype`.
  """
  path = Path(path)
  if dtype not in (None, "float16"):
    raise ValueError(f"dtype={dtype!r} is unknown; use 'float16' or None.")
  tree = architecture(module)
  tensors = {k: np.asarray(v[...]) for k, v in leaves(module).items()}
  shapes = {name: value.shape for name, value in tensors.items()}
  _check(path, leaves(_abstract(tree, shapes)), shapes)
  header: dict[str, Any] = {"format": FORMAT, "architecture": tree}
  if dtype is not None:
    header["dtype"] = dtype
    tensors = {k: _narrow(v, dtype, k) for k, v in tensors.items()}
  _write(path, tensors, {_KEY: json.dumps(header, sort_keys=True)})


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


def _write(path: Path, tensors: dict[str, np.ndarray], metadata: dict) -> None:
  tensors = {k: np.asarray(v, order="C") for k, v in tensors.items()}
  with files.replacing(path) as unfinished:
    safetensors.numpy.save_file(tensors, unfinished, metadata)


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
      "files go through encoder4editing_jax.converters."
    ) from None
  header = _header(path, file.metadata())
  names = file.keys()
  return file, header, {k: tuple(file.get_slice(k).get_shape()) for k in names}


def _header(path: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
  try:
    header = json.loads((metadata or {})[_KEY])
    version, tree = header["format"], header["architecture"]
  except (KeyError, TypeError, ValueError):
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
    values) and `architecture`.

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
  }
