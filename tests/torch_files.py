"""Files as PyTorch writes them, made without PyTorch.

Pickles are made by Python's own pickler, from stand-ins for PyTorch's classes
that have their names.
"""

import collections
import contextlib
import io
import pickle
import struct
import sys
import tarfile
import types
import zipfile
from unittest import mock

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
KINDS = {
  "f4": "FloatStorage",
  "f8": "DoubleStorage",
  "f2": "HalfStorage",
  "i8": "LongStorage",
  "i4": "IntStorage",
  "u1": "ByteStorage",
  "b1": "BoolStorage",
}


def _function(module, name):
  def stand_in(*_):
    raise AssertionError("a reader called it")

  stand_in.__module__, stand_in.__qualname__ = module, name
  return stand_in


def _class(module, name, *bases):
  return type(name, bases, {"__module__": module})


NAMES = {
  "torch": {k: _class("torch", k) for k in KINDS.values()},
  "torch._utils": {
    name: _function("torch._utils", name)
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter")
  },
  "torch.storage": {
    "_load_from_bytes": _function("torch.storage", "_load_from_bytes")
  },
  "dnnlib": {},
  "dnnlib.util": {"EasyDict": _class("dnnlib.util", "EasyDict", dict)},
  "dnnlib.tflib": {},
  "dnnlib.tflib.network": {
    "Network": _class("dnnlib.tflib.network", "Network")
  },
  "torch_utils": {},
  "torch_utils.persistence": {
    "_reconstruct_persistent_obj": _function(
      "torch_utils.persistence", "_reconstruct_persistent_obj"
    )
  },
}


@contextlib.contextmanager
def stand_ins():
  """Python's pickler finds the names of `NAMES`."""
  modules = {}
  for module, members in NAMES.items():
    modules[module] = types.ModuleType(module)
    vars(modules[module]).update(members)
  with mock.patch.dict(sys.modules, modules):
    yield


class Call:
  """Is pickled as the call of a function."""

  def __init__(self, function, *arguments):
    self.call = (function, arguments)

  def __reduce__(self):
    return self.call


class Storage:
  """A storage of PyTorch; `view` is (key, offset, size) of a part of it."""

  def __init__(self, array, key, view=None):
    self.array, self.key, self.view = np.ascontiguousarray(array), key, view

  @property
  def identity(self):
    kind = NAMES["torch"][KINDS[self.array.dtype.str[1:]]]
    return ("storage", kind, self.key, "cuda:0", self.array.size)


def tensor(storage, shape, strides, offset=0):
  """A tensor over a storage, strides in elements."""
  hooks = collections.OrderedDict()
  rebuild = NAMES["torch._utils"]["_rebuild_tensor_v2"]
  return Call(rebuild, storage, offset, shape, strides, False, hooks)


def dense(array, key):
  """A contiguous tensor with a storage of its own."""
  array = np.array(array, order="C")
  steps = tuple(s // array.itemsize for s in array.strides)
  return tensor(Storage(array, key), array.shape, steps)


class _Pickler(pickle.Pickler):
  def __init__(self, file, protocol, legacy):
    super().__init__(file, protocol)
    self.legacy, self.storages = legacy, {}

  def persistent_id(self, obj):
    if not isinstance(obj, Storage):
      return None
    self.storages[obj.key] = obj
    return (*obj.identity, obj.view) if self.legacy else obj.identity


def pickled(value, protocol=2, legacy=False):
  """The pickle of a value, and its storages by key."""
  file = io.BytesIO()
  with stand_ins():
    pickler = _Pickler(file, protocol, legacy)
    pickler.dump(value)
  return file.getvalue(), pickler.storages


def zip_file(value, protocol=2, root="archive", extra=(), **changes):
  """A file of PyTorch 1.6 or later; `changes` replace members."""
  code, storages = pickled(value, protocol)
  members = {"data.pkl": code, "version": b"3\n"}
  members |= {f"data/{k}": s.array.tobytes() for k, s in storages.items()}
  members |= changes
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w") as archive:
    for name, data in (*members.items(), *extra):
      archive.writestr(zipfile.ZipInfo(f"{root}/{name}"), data)
  return file.getvalue()


def stream_file(value, protocol=2, little_endian=True):
  """A file of PyTorch 0.1.10 to 1.5."""
  code, storages = pickled(value, protocol, legacy=True)
  info = {"protocol_version": 1001, "little_endian": little_endian}
  parts = [pickle.dumps(x, 2) for x in (MAGIC, 1001, info)]
  parts += [code, pickle.dumps(sorted(storages), 2)]
  for key in sorted(storages):
    array = storages[key].array
    parts += [struct.pack("<q", array.size), array.tobytes()]
  return b"".join(parts)


def tar_file(arrays, root=lambda tensors: tensors):
  """A file of PyTorch 0.1.9 or earlier: a dictionary of arrays."""
  storages = [pickle.dumps(len(arrays), 2)]
  tensors = [pickle.dumps(len(arrays), 2)]
  with stand_ins():
    for key, array in enumerate(arrays.values()):
      kind = NAMES["torch"][KINDS[array.dtype.str[1:]]]
      storages.append(pickle.dumps((key, "cpu", kind), 2))
      storages.append(struct.pack("<q", array.size) + array.tobytes())
      tensors.append(pickle.dumps((100 + key, key, kind), 2))
      n, steps = array.ndim, [s // array.itemsize for s in array.strides]
      numbers = (*array.shape, *steps, 0)
      tensors.append(struct.pack(f"<i4x{2 * n + 1}q", n, *numbers))
  storages.append(pickle.dumps([], 2))

  class Reference(pickle.Pickler):
    def persistent_id(self, obj):
      return obj.start if isinstance(obj, slice) else None

  code = io.BytesIO()
  references = {k: slice(100 + i, None) for i, k in enumerate(arrays)}
  Reference(code, 2).dump(root(references))
  members = {
    "sys_info": pickle.dumps({"little_endian": True}, 2),
    "pickle": code.getvalue(),
    "tensors": b"".join(tensors),
    "storages": b"".join(storages),
  }
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode="w") as archive:
    for name, data in members.items():
      info = tarfile.TarInfo(name)
      info.size = len(data)
      archive.addfile(info, io.BytesIO(data))
  return file.getvalue()


def nvidia_file(parameters, protocol=4):
  """A network of StyleGAN2-ADA-PyTorch with these parameters."""
  names = NAMES["torch._utils"]

  def parameter(array):
    whole = stream_file(Storage(array, "0"))
    storage = Call(NAMES["torch.storage"]["_load_from_bytes"], whole)
    steps = tuple(s // array.itemsize for s in array.strides)
    hooks = collections.OrderedDict()
    made = Call(
      names["_rebuild_tensor_v2"], storage, 0, array.shape, steps, False, hooks
    )
    return Call(names["_rebuild_parameter"], made, True, hooks)

  meta = {
    "type": "class",
    "version": 6,
    "module_src": "import os\nos.abort()",
    "class_name": "Generator",
    "state": {"_parameters": {k: parameter(v) for k, v in parameters.items()}},
  }
  rebuild = NAMES["torch_utils.persistence"]["_reconstruct_persistent_obj"]
  return pickled({"G_ema": Call(rebuild, meta), "D": None}, protocol)[0]
