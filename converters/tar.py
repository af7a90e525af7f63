"""PyTorch's first container, a tar file (until 0.1.9)."""

import struct
import tarfile
from typing import Any, BinaryIO

from encoder4editing_jax.converters import containers
from encoder4editing_jax.converters.limits import CheckpointError, Limits
from encoder4editing_jax.converters.objects import handlers
from encoder4editing_jax.converters.pickles import Machine
from encoder4editing_jax.converters.tensors import (
  Storage,
  Tensor,
  make_tensor,
  storage_type,
)


def read_tar(data: memoryview, file: BinaryIO, limits: Limits) -> Any:
  """The object of a file that PyTorch wrote before version 0.1.10."""
  records: dict[str, memoryview] = {}
  with tarfile.open(fileobj=file, mode="r:") as archive:
    for member in archive:
      if len(records) == 16 or member.name in records or member.issparse():
        raise CheckpointError("it is a tar file, but not one of torch.save")
      if member.isreg():
        end = member.offset_data + member.size
        if end > len(data):
          raise CheckpointError("it is cut off; download it again")
        records[member.name] = data[member.offset_data : end]
  if not {"sys_info", "pickle", "tensors", "storages"} <= set(records):
    raise CheckpointError("it is a tar file, but not one of torch.save")
  plain = handlers(limits, containers.refuse_nested, containers.refuse_nested)
  info = Machine(records["sys_info"], plain, limits).load()
  if info.get("little_endian") is not True:
    raise CheckpointError("its numbers are big-endian; convert it first")
  storages = _tar_storages(Machine(records["storages"], plain, limits))
  tensors = _tar_tensors(
    Machine(records["tensors"], plain, limits), storages, limits
  )

  def persistent(identity: Any) -> Any:
    if isinstance(identity, tuple):  # a class; the rest is its source
      return identity[0]
    return tensors[int(identity)]

  rules = handlers(limits, persistent, containers.refuse_nested)
  return Machine(records["pickle"], rules, limits).load()


def _tar_storages(machine: Machine) -> dict[int, Storage]:
  storages = containers.Storages()
  for _ in range(machine.load()):
    key, _location, kind = machine.load()
    size = machine.number("<q")
    storage = storages.add(str(key), storage_type(kind), size, None)
    if storage.source is not None:
      raise CheckpointError("its list of storages is damaged")
    record = machine.take(storage.nbytes)
    storage.source = lambda record=record: record
  for key, whole_key, offset, size in machine.load():
    whole = storages.found[str(whole_key)]
    view = storages.add(str(key), whole.dtype, size, None)
    view.source = containers.part(view, whole, offset)
  return {int(key): storage for key, storage in storages.found.items()}


def _tar_tensors(
  machine: Machine, storages: dict[int, Storage], limits: Limits
) -> dict[int, Tensor]:
  tensors = {}
  for _ in range(machine.load()):
    key, storage, _kind = machine.load()
    n = machine.number("<i")
    machine.take(4)
    if not 0 <= n <= 32:
      raise CheckpointError("the description of a tensor is damaged")
    numbers = struct.unpack(f"<{2 * n + 1}q", machine.take(16 * n + 8))
    shape, strides, offset = numbers[:n], numbers[n : 2 * n], numbers[-1]
    tensors[int(key)] = make_tensor(
      storages[int(storage)], offset, shape, strides, limits
    )
  return tensors
