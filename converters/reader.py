"""Reads checkpoints; runs, imports and extracts nothing of what is in them.

`read` knows PyTorch's files (zip, stream, tar), NVIDIA's and TensorFlow's
StyleGAN2 pickles, safetensors, .npz and .npy. Files come from strangers: a file
can name what it likes, nothing but numbers, texts and their containers comes
out.
"""

import json
import math
import mmap as memory_map
import struct
import tarfile
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from encoder4editing_jax.converters import containers, tar
from encoder4editing_jax.converters.limits import CheckpointError, Limits
from encoder4editing_jax.converters.tensors import (
  Presenter,
  Storage,
  Tensor,
  make_tensor,
)

# How other things begin, and what to say of them.
KNOWN = (
  (b"version https://git-lfs", "is a Git LFS pointer; run `git lfs pull`"),
  (b"<", "is a web page, not a checkpoint; download the file itself"),
  (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
  (b"7z\xbc\xaf", "is a 7z archive; unpack it first"),
  (b"Rar!", "is a RAR archive; unpack it first"),
  (b"\x89HDF", "is an HDF5 file, which no method here uses"),
  (b"\xff\xd8\xff", "is a JPEG picture, not a checkpoint"),
  (b"\x89PNG", "is a PNG picture, not a checkpoint"),
)


def read(
  path: str | Path,
  *,
  verify: bool = True,
  limits: Limits | None = None,
  mmap: bool = True,
) -> Any:
  """The content of a checkpoint.

  Args:
    path: the file.
    verify: compare zip members with their checksums when they are read; other
      containers have none.
    limits: what the file may ask for.
    mmap: map the file into memory; False reads all of it, for file systems
      where it may change meanwhile.

  Returns:
    Nested mappings, lists and plain values, numpy arrays for tensors. A
    tensor in a mapping is copied out of the file each time it is asked for.

  Raises:
    CheckpointError: it cannot be read, or asks for something that weights do
      not need.
    OSError: the file cannot be opened.
  """
  limits = Limits(**vars(limits)) if limits else Limits()
  name = str(path)[-120:]
  with open(path, "rb") as file:
    try:
      return Presenter(name)(_read(file, limits, verify, mmap))
    except CheckpointError as error:
      raise CheckpointError(f"{name}: {error}") from None
    except (
      ArithmeticError,
      AttributeError,
      EOFError,
      LookupError,
      MemoryError,
      NotImplementedError,
      RecursionError,
      RuntimeError,
      SyntaxError,
      TypeError,
      ValueError,
      struct.error,
      tarfile.TarError,
      tokenize.TokenError,
      zipfile.BadZipFile,
      zlib.error,
    ) as error:
      raise CheckpointError(
        f"{name}: it is damaged ({type(error).__name__}); download it again"
      ) from None


def _read(file: BinaryIO, limits: Limits, verify: bool, mmap: bool) -> Any:
  size = file.seek(0, 2)
  file.seek(0)
  if not size:
    raise CheckpointError("it is empty; download it again")
  if mmap:
    read_only = memory_map.ACCESS_READ
    data = memoryview(memory_map.mmap(file.fileno(), 0, access=read_only))
  else:
    data = memoryview(file.read())
  start = bytes(data[:512])
  if start[:4] == b"PK\x03\x04":
    members = containers.zip_members(data, file)
    if all(name.endswith(".npy") for name in members):
      return _numpy_archive(file, members, limits)
    return containers.read_zip(data, members, limits, verify)
  if start.startswith(containers.STREAM):
    return containers.read_stream(data, limits)
  if start[257:262] == b"ustar":
    return tar.read_tar(data, file, limits)
  if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05":
    return containers.read_pickle(data, limits)
  if start.startswith(b"\x93NUMPY"):
    return _numpy_array(file, limits)
  if start[8:9] == b"{":
    return _safetensors(data, limits)
  for begin, what in KNOWN:
    if start.lstrip().startswith(begin):
      raise CheckpointError(f"it {what}")
  raise CheckpointError(
    "it is of no known format; give a .pt, .pth, .pkl, .safetensors, .npz or "
    ".npy"
  )


_TYPES = {
  f"{letter}{8 * n}": np.dtype(f"<{letter.lower()}{n}")
  for letter, sizes in (("F", (2, 4, 8)), ("I", (1, 2, 4, 8)))
  for n in sizes
}
_TYPES |= {f"U{8 * n}": np.dtype(f"<u{n}") for n in (1, 2, 4, 8)}
_TYPES |= {"BOOL": np.dtype("?"), "BF16": np.dtype(ml_dtypes.bfloat16)}


def _safetensors(data: memoryview, limits: Limits) -> dict[str, Tensor]:
  """The tensors of a safetensors file by name."""
  (n,) = struct.unpack("<Q", data[:8])
  header, body = json.loads(bytes(data[8 : 8 + n])), data[8 + n :]
  found = {}
  for name, entry in header.items():
    if name == "__metadata__":
      continue
    dtype, shape = _TYPES[entry["dtype"]], tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    if not 0 <= begin <= end <= len(body):
      raise CheckpointError(
        f"tensor {name[:60]!r} leaves the file; download it again"
      )
    storage = Storage(dtype, math.prod(shape), _constant(body[begin:end]))
    strides = [math.prod(shape[k + 1 :]) for k in range(len(shape))]
    found[name] = make_tensor(storage, 0, shape, strides, limits)
  return found


def _constant(record: memoryview) -> Any:
  return lambda: record


def _numpy_archive(
  file: BinaryIO, members: dict[str, zipfile.ZipInfo], limits: Limits
) -> dict[str, np.ndarray]:
  """The arrays of an .npz file, compressed or not."""
  if sum(info.file_size for info in members.values()) > limits.elements:
    raise CheckpointError("its arrays are too large together")
  file.seek(0)
  try:
    with np.load(file, allow_pickle=False) as arrays:
      return {name: arrays[name] for name in arrays.files}
  except OSError as error:  # a damaged directory leads nowhere
    raise CheckpointError(f"it is damaged ({error}); make it again") from None


def _numpy_array(file: BinaryIO, limits: Limits) -> np.ndarray:
  """The array of an .npy file; the header cannot ask for more than is there."""
  file.seek(0)
  version = np.lib.format.read_magic(file)
  read = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
  }
  shape, _, dtype = read[version](file)
  if dtype.hasobject:
    raise CheckpointError("it holds pickled objects, not numbers; save arrays")
  begin, size = file.tell(), math.prod(shape)
  if size > limits.elements:
    raise CheckpointError("its array is too large")
  if size * dtype.itemsize > file.seek(0, 2) - begin:
    raise CheckpointError("it ends too early; download it again")
  file.seek(0)
  return np.load(file, allow_pickle=False)
