"""Files made to harm: refused by name, and nothing of them has an effect."""

import io
import os
import pickle
import struct
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import torch_files as files
from test_reader import BASE, Evil

from encoder4editing_jax.converters import reader
from encoder4editing_jax.converters.limits import CheckpointError, Limits


@pytest.fixture
def refused(tmp_path):
  """Reads bytes as a file that is refused, and leaves nothing beside it."""

  def function(data, match, **options):
    (tmp_path / "file.pt").write_bytes(data)
    with pytest.raises(CheckpointError, match=match) as caught:
      found = reader.read(tmp_path / "file.pt", **options)
      found["a"]  # numbers are taken when they are asked for
    assert os.listdir(tmp_path) == ["file.pt"]
    assert len(str(caught.value)) <= 300 and "file.pt" in str(caught.value)

  return function


# Code.


def nested(value):
  """A pickle of NVIDIA's kind with a file of PyTorch inside."""
  inner = files.NAMES["torch.storage"]["_load_from_bytes"]
  return files.pickled({"a": files.Call(inner, value)}, 4)[0]


@pytest.mark.parametrize(
  "data",
  [
    files.tar_file({"a": BASE}, root=lambda _: Evil()),
    nested(files.stream_file(Evil())),
    nested(files.zip_file(Evil())),
    nested(nested(files.stream_file(Evil()))),
    nested(pickle.dumps(Evil())),
    pickle.dumps(Evil(), 4),
  ],
)
def test_no_container_runs_what_it_names(data, refused, monkeypatch):
  def system(_):
    raise AssertionError("it ran")

  monkeypatch.setattr(os, "system", system)
  refused(data, "refers to|unknown format|nothing inside|files inside")


def test_no_module_that_a_file_names_is_imported(
  refused, tmp_path, tmp_path_factory, monkeypatch
):
  folder = tmp_path_factory.mktemp("modules")
  (folder / "named_by_a_file.py").write_text("raise SystemExit('imported')")
  monkeypatch.syspath_prepend(folder)
  for code in (
    b"cnamed_by_a_file\nName\n",
    b"\x8c\x0fnamed_by_a_file\x8c\x04Name\x93",
  ):
    made = files.zip_file({}, **{"data.pkl": b"\x80\x04" + code + b")R."})
    refused(made, "refers to named_by_a_file.Name")
    made = files.zip_file({}, **{"data.pkl": b"\x80\x04" + code + b"."})
    (tmp_path / "file.pt").write_bytes(made)
    assert reader.read(tmp_path / "file.pt") == "named_by_a_file.Name"
  assert "named_by_a_file" not in sys.modules


def test_long_names_are_cut(refused):
  long = b"X" + struct.pack("<I", 5000) + b"x" * 5000
  for code, match in (
    (b"c" + b"x" * 5000 + b"\nName\n)R.", "a name that does not end"),
    (long + long + b"\x93)R.", "refers to x+, which"),
  ):
    refused(files.zip_file({}, **{"data.pkl": b"\x80\x04" + code}), match)


# Size.


def test_lists_of_lists_without_end(refused):
  many = b"\x80\x02" + b"]" * 300_000 + b"."
  few = Limits(instructions=200_000)
  data = files.zip_file({}, **{"data.pkl": many})
  refused(data, "too many pickle instructions", limits=few)


def test_compressed_numbers(refused):
  value = {"a": files.dense(BASE * 0, "0")}
  file = io.BytesIO(files.zip_file(value))
  deflated = io.BytesIO()
  with zipfile.ZipFile(file) as old, zipfile.ZipFile(deflated, "w") as new:
    for info in old.infolist():
      way = zipfile.ZIP_DEFLATED if "/data/" in info.filename else None
      new.writestr(info.filename, old.read(info), compress_type=way)
  refused(deflated.getvalue(), "'archive/data/0' is compressed")


def test_a_directory_without_end(refused):
  data = bytearray(files.zip_file({"a": 1}))
  struct.pack_into("<I", data, data.rindex(b"PK\x05\x06") + 12, 9 << 20)
  refused(bytes(data), "zip directory is too large")


# Places.


@pytest.mark.parametrize("kind", ["f8", "f2", "u1"])
def test_numbers_of_another_type_than_their_record(kind, refused):
  storage = files.Storage(BASE.astype(kind), "0")
  value = {"a": files.tensor(storage, (30,), (1,))}
  record = {"data/0": BASE.tobytes()}
  refused(files.zip_file(value, **record), "has another size than it says")


def overlapping():
  """A zip file, one member of which lies inside another one."""
  tensors = {"a": files.dense(BASE, "0"), "b": files.dense(BASE, "1")}
  plain, name = files.zip_file(tensors), b"archive/data/1"
  inner = plain[plain.index(name) - 30 :][: 30 + len(name) + BASE.nbytes]
  outer = files.dense(np.frombuffer(inner, np.uint8), "0")
  data = bytearray(files.zip_file({**tensors, "a": outer}))
  place = data.rindex(name) - 4  # in the directory
  struct.pack_into("<I", data, place, data.index(inner))
  return bytes(data)


def test_members_inside_members(refused):
  refused(overlapping(), "two members of it overlap")


@pytest.mark.parametrize(
  "key", ["../../etc/passwd", "/etc/passwd", "..", "\0", "0/../../x"]
)
def test_keys_are_no_paths(key, refused):
  value = {"a": files.tensor(files.Storage(BASE, key), (30,), (1,))}
  code, _ = files.pickled(value)
  refused(files.zip_file({}, **{"data.pkl": code}), "which is missing")


def test_names_of_members_are_no_paths(tmp_path):
  extra = [("../../../outside", b"x"), ("/outside", b"x")]
  data = files.zip_file({"a": files.dense(BASE, "0")}, extra=extra)
  (tmp_path / "inside").mkdir()
  path = tmp_path / "inside" / "file.pt"
  path.write_bytes(data)
  np.testing.assert_array_equal(reader.read(path)["a"], BASE)
  assert os.listdir(tmp_path) == ["inside"]
  assert os.listdir(tmp_path / "inside") == ["file.pt"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("name", ["pickle", "../../outside"])
def test_links_are_not_followed(kind, name, refused):
  file = io.BytesIO()
  source = io.BytesIO(files.tar_file({"a": BASE}))
  with (
    tarfile.open(fileobj=source) as old,
    tarfile.open(fileobj=file, mode="w") as new,
  ):
    for member in old:
      if member.name == "pickle":
        link = tarfile.TarInfo(name)
        link.type, link.linkname = kind, "/etc/passwd"
        new.addfile(link)
      else:
        new.addfile(member, old.extractfile(member))
  refused(file.getvalue(), "not one of torch.save")
