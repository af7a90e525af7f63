"""The few objects that pickles of weights may build, and how."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from encoder4editing_jax.converters.limits import CheckpointError, Limits
from encoder4editing_jax.converters.pickles import (
  Handlers,
  Name,
  Object,
  add_item,
)
from encoder4editing_jax.converters.tensors import ARRAY, Tensor, make_tensor

_PLAIN = re.compile(r"[<>|=]?[biufc]\d{1,2}")


class _Attributes(dict[str, Any]):
  """A namespace, as the dictionary of its attributes."""


def handlers(
  limits: Limits,
  persistent: Callable[[Any], Any],
  load_bytes: Callable[[memoryview], Any],
) -> Handlers:
  """What files of weights may build.

  Args:
    limits: elements are used up.
    persistent: resolves persistent ids.
    load_bytes: reads a file inside a file.
  """

  def tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, *_: Any
  ) -> Tensor:
    return make_tensor(storage, offset, shape, strides, limits)

  call: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": tensor,
    "torch._utils._rebuild_tensor_v2": tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda tensor, *_: tensor,
    "torch.Size": lambda sizes=(): tuple(sizes),
    "torch.device": lambda *names: ":".join(str(n)[:20] for n in names),
    "torch.storage._load_from_bytes": load_bytes,
    "collections.OrderedDict": _ordered,
    "argparse.Namespace": _Attributes,
    "dnnlib.util.EasyDict": _ordered,
    "_codecs.encode": _encode,
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent_object,
    "dnnlib.tflib.network.Network": lambda: Object(Name("tf", "Network")),
  }
  for module in ("builtins", "__builtin__"):
    call[f"{module}.set"] = _set
  for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    call[f"{module}.scalar"] = _scalar
    call[f"{module}._reconstruct"] = lambda kind, *_: Object(ARRAY)
  call["numpy.dtype"] = _dtype
  return Handlers(call, _build, persistent)


def _ordered(items: Any = ()) -> dict[Any, Any]:
  made: dict[Any, Any] = {}
  for key, value in items.items() if isinstance(items, dict) else items:
    add_item(made, key, value)
  return made


def _set(items: Any = ()) -> set[Any]:
  made: dict[Any, Any] = {}
  for item in items:
    add_item(made, item, None)
  return set(made)


def _encode(text: Any, encoding: Any) -> bytes:
  if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
    raise CheckpointError("its pickle has bytes in an unknown encoding")
  return text.encode("latin-1")


def _persistent_object(meta: Any) -> Object:
  if not isinstance(meta, dict) or meta.get("type") != "class":
    raise CheckpointError("it has an object of an unknown kind")
  return Object(Name("nvidia", str(meta.get("class_name"))), meta.get("state"))


def _dtype(code: Any, *_: Any) -> np.dtype:
  if not isinstance(code, str) or not _PLAIN.fullmatch(code):
    raise CheckpointError(f"it has arrays of {str(code)[:40]!r}")
  return np.dtype(code)


def _scalar(dtype: Any, raw: Any) -> Any:
  return _numbers(dtype, raw, 1)[0].item()


def _numbers(dtype: Any, raw: Any, size: int) -> np.ndarray:
  if isinstance(raw, str):  # Python 2
    raw = raw.encode("latin-1")
  if (
    not isinstance(dtype, np.dtype)
    or not isinstance(raw, (bytes, memoryview))
    or len(raw) != size * dtype.itemsize
  ):
    raise CheckpointError("it has an array that is damaged")
  return np.frombuffer(raw, dtype)


def _build(target: Any, state: Any) -> Any:
  if isinstance(target, _Attributes) and isinstance(state, dict):
    for key, value in state.items():
      add_item(target, key, value)
    return target
  if isinstance(target, np.dtype):
    if not isinstance(state, tuple) or state[1] not in ("<", "|", "="):
      raise CheckpointError("its numbers are big-endian; convert it first")
    return target
  if isinstance(target, Object):
    _set_state(target, state)
    return target
  # attributes of a dictionary, such as the `_metadata` of a state_dict
  return target if isinstance(target, dict) else None


def _set_state(target: Object, state: Any) -> None:
  if target.kind != ARRAY:
    if not isinstance(state, dict):
      raise CheckpointError("it has an object of an unknown kind")
    target.state = state
    return
  _, shape, dtype, fortran, raw = state
  if not isinstance(shape, tuple) or not all(type(n) is int for n in shape):
    raise CheckpointError("it has an array that is damaged")
  numbers = _numbers(dtype, raw, math.prod(shape))
  order: Any = "F" if fortran else "C"
  target.state = numbers.reshape(shape, order=order).copy()
