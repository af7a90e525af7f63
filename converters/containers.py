"""The containers of PyTorch: zip (1.6 and later) and stream.

Nothing is extracted, and no name in a file becomes a path. Positions and
lengths are checked against the file before anything is read.
"""

import itertools
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

from encoder4editing_jax.converters.limits import CheckpointError, Limits
from encoder4editing_jax.converters.objects import handlers
from encoder4editing_jax.converters.pickles import Machine
from encoder4editing_jax.converters.tensors import Storage, storage_type

STREAM = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")
_MAGIC = 0x1950A86A20F9469CFC6C
_LARGEST_DIRECTORY = 8 << 20
_END, _END_SIZE, _END_64 = b"PK\x05\x06", 22, b"PK\x06\x06"
_LOCAL, _LOCAL_SIZE = b"PK\x03\x04", 30


def refuse_nested(_: Any) -> Any:
  """For files inside a file that may have none of their own."""
  raise CheckpointError("it has files inside files inside files")


class Storages:
  """The storages of one file by their keys."""

  def __init__(self) -> None:
    self.found: dict[str, Storage] = {}

  def declare(self, identity: Any) -> Storage:
    """The storage of a persistent id, the same for the same key."""
    if not isinstance(identity, tuple) or identity[:1] != ("storage",):
      raise CheckpointError("it refers to something that is no storage")
    _, kind, key, _location, size, *_ = identity
    return self.add(str(key), storage_type(kind), size, None)

  def add(self, key: str, dtype: Any, size: Any, source: Any) -> Storage:
    """A storage; a known one has to be the same again."""
    if type(size) is not int or not 0 <= size < 1 << 62:
      raise CheckpointError(f"storage {key[:40]} has a damaged size")
    if key not in self.found:
      self.found[key] = Storage(dtype, size, source)
    known = self.found[key]
    if (known.dtype, known.size) != (dtype, size):
      raise CheckpointError(f"storage {key[:40]} is declared in two ways")
    return known


# Zip.


def zip_members(data: memoryview, file: BinaryIO) -> dict[str, zipfile.ZipInfo]:
  """The members of a zip file by name: stored, unique, not overlapping.

  Raises:
    CheckpointError: they are not, or the file is cut off.
  """
  tail = bytes(data[-(_END_SIZE + (1 << 16)) :])
  at = tail.rfind(_END)
  if at < 0 or len(tail) - at < _END_SIZE:
    raise CheckpointError("it is a zip file without its end; download it again")
  directory = struct.unpack_from("<I", tail, at + 12)[0]
  large = tail.rfind(_END_64, 0, at)
  if directory == 0xFFFFFFFF and 0 <= large <= at - 56:
    directory = struct.unpack_from("<Q", tail, large + 40)[0]
  if directory > _LARGEST_DIRECTORY:
    raise CheckpointError("its zip directory is too large")
  members: dict[str, zipfile.ZipInfo] = {}
  with zipfile.ZipFile(file) as archive:
    for info in archive.infolist():
      if info.orig_filename in members:
        raise CheckpointError(f"it has {info.orig_filename[:60]!r} twice")
      members[info.orig_filename] = info
  return members


def zip_records(
  data: memoryview, members: dict[str, zipfile.ZipInfo]
) -> dict[str, memoryview]:
  """The bytes of the members of a zip file.

  Raises:
    CheckpointError: a member is compressed, encrypted, or not where it
      should be.
  """
  records, spans = {}, []
  for name, info in members.items():
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
      raise CheckpointError(f"{name[:60]!r} is compressed or encrypted in it")
    start = info.header_offset
    header = bytes(data[start : start + _LOCAL_SIZE])
    if header[:4] != _LOCAL or len(header) != _LOCAL_SIZE:
      raise CheckpointError(f"{name[:60]!r} is not where its directory says")
    n_name, n_extra = struct.unpack_from("<HH", header, 26)
    here = bytes(data[start + _LOCAL_SIZE :][:n_name])
    if here != name.encode("utf-8" if info.flag_bits & 0x800 else "cp437"):
      raise CheckpointError(f"{name[:60]!r} has two names in it")
    begin = start + _LOCAL_SIZE + n_name + n_extra
    end = begin + info.file_size
    if end > len(data) or info.compress_size != info.file_size:
      raise CheckpointError(f"{name[:60]!r} leaves the file")
    spans.append((start, end))
    records[name] = data[begin:end]
  spans.sort()
  for (_, end), (start, _) in itertools.pairwise(spans):
    if start < end:
      raise CheckpointError("two members of it overlap")
  return records


def _checked(
  record: memoryview, info: zipfile.ZipInfo, verify: bool
) -> Callable[[], memoryview]:
  """The record, compared with its checksum once; 0 means none was kept."""
  todo = [verify and info.CRC != 0]

  def source() -> memoryview:
    if todo[0] and zlib.crc32(record) != info.CRC:
      raise CheckpointError(
        f"{info.orig_filename[:60]!r} differs from its checksum; download it "
        "again"
      )
    todo[0] = False
    return record

  return source


def read_zip(
  data: memoryview,
  members: dict[str, zipfile.ZipInfo],
  limits: Limits,
  verify: bool,
) -> Any:
  """The object of a file that `torch.save` wrote as a zip."""
  pickles = [n for n in members if n.count("/") == 1 and n[-9:] == "/data.pkl"]
  if any(n.split("/")[-1] == "constants.pkl" for n in members):
    raise CheckpointError(
      "it is a TorchScript program, not weights; load it in PyTorch with "
      "torch.jit.load and save its state_dict()"
    )
  if len(pickles) != 1:
    raise CheckpointError("it is a zip file, but not one of torch.save")
  root = pickles[0].removesuffix("data.pkl")
  records = zip_records(data, members)
  if bytes(records.get(f"{root}byteorder", b"")) == b"big":
    raise CheckpointError("its numbers are big-endian; convert it first")
  storages = Storages()

  def persistent(identity: Any) -> Storage:
    storage = storages.declare(identity)
    name = f"{root}data/{identity[2]}"
    if name not in records:
      raise CheckpointError(f"its tensors need {name[:60]!r}, which is missing")
    if storage.source is None:
      storage.source = _checked(records[name], members[name], verify)
    if len(records[name]) != storage.nbytes:
      raise CheckpointError(f"{name[:60]!r} has another size than it says")
    return storage

  rules = handlers(limits, persistent, refuse_nested)
  code = _checked(records[pickles[0]], members[pickles[0]], verify)()
  return Machine(code, rules, limits).load()


# Stream.


def read_stream(data: memoryview, limits: Limits) -> Any:
  """The object of a file that `torch.save` wrote as a stream."""
  storages = Storages()
  views: list[tuple[Storage, Storage, Any]] = []

  def persistent(identity: Any) -> Storage:
    whole = storages.declare(identity)
    if len(identity) < 6 or identity[5] is None:
      return whole
    key, offset, size = identity[5]
    view = storages.add(f"view {key}", whole.dtype, size, None)
    views.append((view, whole, offset))
    return view

  machine = Machine(data, handlers(limits, persistent, refuse_nested), limits)
  if machine.load() != _MAGIC or machine.load() != 1001:
    raise CheckpointError("it is of an unknown version of torch.save")
  if machine.load().get("little_endian") is not True:
    raise CheckpointError("its numbers are big-endian; convert it first")
  found, keys = machine.load(), machine.load()
  for key in keys:
    storage = storages.found.get(str(key))
    if storage is None or storage.source is not None:
      raise CheckpointError("its list of storages is damaged")
    storage.source = _following(machine, storage)
  if any(
    s.source is None for k, s in storages.found.items() if k[:5] != "view "
  ):
    raise CheckpointError("some of its storages are missing")
  for view, whole, offset in views:
    view.source = part(view, whole, offset)
  return found


def _following(machine: Machine, storage: Storage) -> Callable[[], memoryview]:
  """The numbers of a storage, after their count."""
  if machine.number("<q") != storage.size:
    raise CheckpointError("a storage has another size than it says")
  record = machine.take(storage.nbytes)
  return lambda: record


def part(view: Storage, whole: Storage, offset: Any) -> Any:
  """The source of a storage that is a part of another one."""
  if type(offset) is not int or not 0 <= offset <= whole.size - view.size:
    raise CheckpointError("a view leaves its storage")
  start = offset * view.dtype.itemsize
  return lambda: whole.data()[start : start + view.nbytes]


# Plain pickles of NVIDIA's StyleGAN2, with streams inside.


def read_pickle(data: memoryview, limits: Limits) -> Any:
  """The object of a pickle whose tensors are streams of their own."""

  def nested(raw: Any) -> Any:
    view = memoryview(raw)
    if bytes(view[: len(STREAM)]) != STREAM:
      raise CheckpointError("a tensor inside it is of an unknown format")
    return read_stream(view, limits)

  def persistent(_: Any) -> Any:
    raise CheckpointError("it refers to data that are not in it")

  return Machine(data, handlers(limits, persistent, nested), limits).load()
