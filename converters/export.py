"""Writes checkpoints that PyTorch loads, without PyTorch.

The file is what `torch.save` makes since PyTorch 1.6: a zip of stored members,
`data.pkl` with the structure and `data/KEY` with the numbers of each array,
aligned to 64 bytes. The same content gives the same bytes.
"""

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from encoder4editing_jax import files
from encoder4editing_jax.converters.tensors import STORAGES

ALIGNMENT = 64
_KINDS = {dtype: name for name, dtype in STORAGES.items()}
_DATE = (1980, 1, 1, 0, 0, 0)


def write(checkpoint: Any, path: str | Path) -> None:
  """Writes a file that `torch.load(path, weights_only=True)` reads.

  Args:
    checkpoint: nested mappings, lists, tuples, texts, numbers, None, and
      numpy arrays, which become tensors.
    path: the file; appears when it is complete.

  Raises:
    TypeError: something that has no place in such a file; nothing is written.
  """
  pickler = _Pickler()
  code = pickler.pickle(checkpoint)
  with (
    files.replacing(path) as unfinished,
    unfinished.open("wb") as file,
    zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
  ):
    _add(archive, file, "data.pkl", code)
    _add(archive, file, "byteorder", b"little")
    for key, array in enumerate(pickler.arrays):
      flat = np.ascontiguousarray(array).reshape(-1)
      _add(archive, file, f"data/{key}", flat.view(np.uint8).data)
    _add(archive, file, "version", b"3\n")


def _add(
  archive: zipfile.ZipFile, file: BinaryIO, name: str, data: Any
) -> None:
  """A member whose data start at a multiple of `ALIGNMENT`."""
  info = zipfile.ZipInfo(f"archive/{name}", _DATE)
  raw = memoryview(data)
  size = raw.nbytes
  # zipfile adds 20 bytes of zip64 sizes to the header of a large member
  large = 20 if size * 1.05 > zipfile.ZIP64_LIMIT else 0
  begin = file.tell() + 30 + len(info.filename) + 4 + large
  padding = -begin % ALIGNMENT
  info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
  info.file_size = size
  with archive.open(info, "w") as member:
    if size:
      member.write(raw)


class _Pickler:
  """Writes pickle protocol 2; collects the arrays on the way."""

  def __init__(self) -> None:
    self.arrays: list[np.ndarray] = []

  def pickle(self, value: Any) -> bytes:
    """The instructions that make a value."""
    return b"\x80\x02" + self._value(value, "the checkpoint") + b"."

  def _value(self, value: Any, where: str) -> bytes:
    if value is None:
      return b"N"
    if isinstance(value, (bool, np.bool_)):
      return b"\x88" if value else b"\x89"
    if isinstance(value, np.ndarray):
      return self._array(value, where)
    if isinstance(value, (int, np.integer)):
      return _integer(int(value))
    if isinstance(value, (float, np.floating)):
      return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
      raw = value.encode("utf-8", "surrogatepass")
      return b"X" + struct.pack("<I", len(raw)) + raw
    if isinstance(value, Mapping):
      items = [
        self._value(key, where) + self._value(item, f"{where}[{key!r}]")
        for key, item in value.items()
      ]
      return b"}(" + b"".join(items) + b"u"
    if isinstance(value, (list, tuple)):
      inside = [
        self._value(item, f"{where}[{i}]") for i, item in enumerate(value)
      ]
      opening, end = (b"](", b"e") if isinstance(value, list) else (b"(", b"t")
      return opening + b"".join(inside) + end
    raise TypeError(
      f"{where} is a {type(value).__name__}, which has no place in a file of "
      "weights; turn it into numbers, text or a numpy array."
    )

  def _array(self, array: np.ndarray, where: str) -> bytes:
    kind = _KINDS.get(array.dtype.newbyteorder("="))
    if kind is None:
      raise TypeError(
        f"{where} is an array of {array.dtype}, which PyTorch has no storage "
        "for; convert it first."
      )
    shape = array.shape
    strides = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
    storage = (
      b"("
      + self._value("storage", where)
      + _name("torch", kind)
      + self._value(str(len(self.arrays)), where)
      + self._value("cpu", where)
      + _integer(array.size)
      + b"tQ"
    )
    little = array.dtype.newbyteorder("<")
    self.arrays.append(array.astype(little, copy=False))
    return (
      _name("torch._utils", "_rebuild_tensor_v2")
      + b"("
      + storage
      + _integer(0)
      + self._value(tuple(shape), where)
      + self._value(tuple(strides), where)
      + b"\x89"
      + _name("collections", "OrderedDict")
      + b")R"
      + b"tR"
    )


def _name(module: str, name: str) -> bytes:
  return f"c{module}\n{name}\n".encode()


def _integer(value: int) -> bytes:
  if 0 <= value < 256:
    return b"K" + struct.pack("<B", value)
  if -(1 << 31) <= value < 1 << 31:
    return b"J" + struct.pack("<i", value)
  raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
  return b"\x8a" + struct.pack("<B", len(raw)) + raw
