"""Networks as their class and the arguments that built it.

Every public network keeps each argument of its constructor as an attribute of
the same name, so that a few plain values are enough to build it again. Only
classes of `encoder4editing_jax.models` can be named.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

from encoder4editing_jax import models

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


def build(
  tree: Mapping[str, Any], shapes: Shapes, prefix: str = ""
) -> nnx.Module:
  """Constructs the module that `architecture` described.

  Args:
    tree: class and arguments.
    shapes: of the leaves, for the arguments that are arrays.
    prefix: path of this module within the whole.

  Meant to be traced, so that it costs nothing.

  Raises:
    KeyError, TypeError, ValueError: it describes no module.
  """
  cls = _find_class(tree["module"])
  arguments = _arguments(cls)
  if unknown := sorted(set(tree) - {"module"} - set(arguments)):
    raise ValueError(f"{cls.__name__} has no argument {unknown[0]!r}")
  values: dict[str, Any] = {}
  for name in arguments:
    if name == "rngs":
      values[name] = nnx.Rngs(0)
    elif isinstance(tree.get(name), Mapping):
      values[name] = build(tree[name], shapes, f"{prefix}{name}.")
    elif name in tree:
      values[name] = _tuples(tree[name])
    elif prefix + name in shapes:
      values[name] = jnp.zeros(shapes[prefix + name])
  return cls(**values)


def with_dtype(module: nnx.Module, dtype: str) -> nnx.Module:
  """The same network, which computes in another type.

  Args:
    module: is not changed, and shares its arrays.
    dtype: of the activations, "float32" or "bfloat16"; parameters, statistics
      and results stay float32.
  """
  tree = _in_dtype(architecture(module), dtype)
  state = nnx.state(module)
  flat = nnx.to_flat_state(state)
  shapes = {".".join(map(str, path)): leaf.shape for path, leaf in flat}
  other = nnx.eval_shape(lambda: build(tree, shapes))
  nnx.update(other, state)
  return other


def _in_dtype(tree: Mapping[str, Any], dtype: str) -> dict[str, Any]:
  parts = {
    k: _in_dtype(v, dtype) if isinstance(v, Mapping) else v
    for k, v in tree.items()
  }
  return parts | ({"dtype": dtype} if "dtype" in tree else {})


def _tuples(value: Any) -> Any:
  return tuple(map(_tuples, value)) if isinstance(value, list) else value
