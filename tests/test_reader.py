"""The reader: files of every kind come back equal, hostile ones do nothing."""

import argparse
import collections
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch_files as files
from goldens.recipe import recipe_state_dict

from encoder4editing_jax.converters import export, reader
from encoder4editing_jax.converters.limits import CheckpointError, Limits

BASE = np.random.RandomState(0).standard_normal((6, 5)).astype(np.float32)
ARRAYS = {
  "f4": BASE,
  "f8": BASE.astype(np.float64),
  "f2": BASE.astype(np.float16),
  "i8": np.arange(7),
  "i4": np.arange(7, dtype=np.int32),
  "u1": np.arange(7, dtype=np.uint8),
  "b1": np.array([True, False, True]),
  "scalar": np.array(3.5, np.float32),
  "empty": np.zeros((0, 4), np.float32),
}
OPTS = {
  "encoder_type": "Encoder4Editing",
  "none": None,
  "numbers": (1, -2, 2**40, 1.5, float("inf"), True),
  "texts": ["", "ü", "\N{SNOWMAN}"],
}


@pytest.fixture
def read(tmp_path):
  """Reads bytes as a file."""

  def function(data, **options):
    path = tmp_path / "file.pt"
    path.write_bytes(data)
    return reader.read(path, **options)

  return function


def checkpoint():
  shared = files.Storage(BASE, "94908643094352")
  state = collections.OrderedDict(
    (name, files.dense(array, f"k{name}")) for name, array in ARRAYS.items()
  )
  state["transposed"] = files.tensor(shared, (5, 6), (1, 5))
  state["strided"] = files.tensor(shared, (3, 3), (5, 2), offset=5)
  state._metadata = {"version": 1}
  return {"state_dict": state, "opts": OPTS, 5: "five"}


EXPECTED = ARRAYS | {"transposed": BASE.T, "strided": BASE[1:4, ::2]}


def assert_same(found, expected):
  assert list(found) == list(expected)
  for name, array in expected.items():
    assert isinstance(found[name], np.ndarray)
    assert found[name].dtype == array.dtype, name
    np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize("make", [files.zip_file, files.stream_file])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("mmap", [True, False])
def test_what_torch_saves_comes_back_equal(read, make, protocol, mmap):
  found = read(make(checkpoint(), protocol), mmap=mmap)
  assert_same(found["state_dict"], EXPECTED)
  assert dict(found["opts"]) == OPTS
  assert found[5] == "five"


def test_arrays_are_copies(read):
  found = read(files.zip_file({"a": files.dense(BASE, "0")}))
  found["a"][:] = 0
  np.testing.assert_array_equal(found["a"], BASE)


def test_a_tensor_alone_and_tensors_in_lists(read):
  alone = read(files.zip_file(files.dense(BASE, "0")))
  np.testing.assert_array_equal(alone, BASE)
  both = read(files.stream_file([files.dense(BASE, "0"), (1, None)]))
  np.testing.assert_array_equal(both[0], BASE)
  assert both[1] == (1, None)


def test_the_first_format_of_torch(read):
  arrays = {"weight": BASE, "steps": np.arange(3)}
  assert_same(read(files.tar_file(arrays)), arrays)


def test_nvidias_networks_are_read_and_their_source_is_not_run(read):
  arrays = {"weight": BASE, "bias": BASE[0]}
  for protocol in (3, 4):
    found = read(files.nvidia_file(arrays, protocol))
    assert found["D"] is None and found["G_ema"]["class"] == "Generator"
    assert_same(found["G_ema"]["state"]["_parameters"], arrays)


def test_namespaces_numpy_values_and_views(read):
  value = {"args": argparse.Namespace(size=256, path="/x"), "a": BASE}
  value |= {"f": np.float64(1.5), "step": np.int64(3)}
  for protocol in (2, 4):
    found = read(files.zip_file(value, protocol))
    assert dict(found["args"]) == {"size": 256, "path": "/x"}
    np.testing.assert_array_equal(found["a"], BASE)
    assert (found["f"], found["step"]) == (1.5, 3)
  part = files.Storage(BASE, "0", view=("9", 5, 10))
  view = read(files.stream_file({"v": files.tensor(part, (10,), (1,))}))
  np.testing.assert_array_equal(view["v"], BASE.ravel()[5:15])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_sets(read, protocol):
  value = {"empty": set(), "some": {1, "two", None}}
  assert dict(read(files.zip_file(value, protocol))) == value
  nested = b"\x80\x04\x8f()" + b"2\x86" * 60 + b"\x90."
  with pytest.raises(CheckpointError, match="a tuple as a key"):
    read(files.zip_file({}, **{"data.pkl": nested}))


def test_safetensors_and_npz(tmp_path):
  from safetensors.numpy import save_file

  arrays = {k: v for k, v in ARRAYS.items() if k != "empty"}
  save_file(arrays, tmp_path / "a.safetensors")
  found = reader.read(tmp_path / "a.safetensors")
  assert_same({k: found[k] for k in arrays}, arrays)
  for save in (np.savez, np.savez_compressed):
    save(tmp_path / "a.npz", **ARRAYS)
    assert_same(reader.read(tmp_path / "a.npz"), ARRAYS)


def test_what_we_write_we_read_and_it_is_always_the_same(tmp_path):
  tree = {"state_dict": EXPECTED, "opts": OPTS, 5: "five"}
  for name in ("a.pt", "b.pt"):
    export.write(tree, tmp_path / name)
  found = reader.read(tmp_path / "a.pt")
  assert_same(found["state_dict"], EXPECTED)
  assert dict(found["opts"]) == OPTS
  assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
  with zipfile.ZipFile(tmp_path / "a.pt") as archive:
    assert archive.testzip() is None


def test_what_has_no_place_in_a_file_leaves_none(tmp_path):
  for value in (object(), np.array(["text"])):
    with pytest.raises(TypeError, match=r"\['x'\].* convert it|\['x'\].*turn"):
      export.write({"x": value}, tmp_path / "a.pt")
  assert not list(tmp_path.iterdir())


# Hostile files.


class Evil:
  def __reduce__(self):
    return os.system, ("exit 1",)


@pytest.mark.parametrize("make", [files.zip_file, files.stream_file])
def test_nothing_that_a_file_names_is_run(read, make):
  with pytest.raises(
    CheckpointError, match=r"refers to \w+.system.*state_dict"
  ):
    read(make({"state_dict": Evil()}))


@pytest.mark.parametrize(
  "code",
  [
    b"(S'x'\nios\nsystem\n.",  # INST
    b"cos\nsystem\n(X\x01\x00\x00\x00xo.",  # OBJ
    b"\x80\x04\x8c\x02os\x8c\x06system\x93)R.",
    b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.",
    b"\x80\x02cbuiltins\ngetattr\n)R.",
    b"\x80\x02ctorch.storage\n_load_from_bytes\nC\x01x\x85R.",
    b"\x80\x02ccollections\nOrderedDict\n}b.",  # BUILD of a name
  ],
)
def test_no_way_of_calling_works(read, code):
  with pytest.raises(CheckpointError):
    read(files.zip_file({}, **{"data.pkl": code}))


def test_small_files_cannot_ask_for_much(read):
  far = b"\x80\x02K\x07r\xff\xff\xff\x7f."  # LONG_BINPUT
  assert read(files.zip_file({}, **{"data.pkl": far})) == 7
  many = b"\x80\x02" + b"}" * 300_000 + b"."
  few = Limits(instructions=200_000)
  with pytest.raises(CheckpointError, match="too many pickle instructions"):
    read(files.zip_file({}, **{"data.pkl": many}), limits=few)
  assert Limits().instructions <= 10 * few.instructions  # in seconds, not hours
  nested = b"\x80\x02)" + b"2\x86" * 60
  with pytest.raises(CheckpointError, match="a tuple as a key"):
    code = b"\x80\x02}" + nested[2:] + b"K\x01s."
    read(files.zip_file({}, **{"data.pkl": code}))
  read(files.zip_file({}, **{"data.pkl": nested + b"."}))


@pytest.mark.parametrize(
  ("size", "shape", "strides", "offset"),
  [
    (30, (31,), (1,), 0),
    (30, (30,), (1,), 1),
    (30, (30,), (1,), -1),
    (30, (2,), (-1,), 5),
    (30, (10**12,), (0,), 0),
    (30, (2**40, 2**40), (0, 0), 0),
    (2**40, (4,), (1,), 0),
    (29, (4,), (1,), 0),
  ],
)
def test_tensors_stay_in_their_storages(read, size, shape, strides, offset):
  storage = files.Storage(BASE, "0")
  storage.array = type("Claim", (), {})()
  claim = storage.array
  claim.dtype, claim.size, claim.tobytes = BASE.dtype, size, BASE.tobytes
  value = {"a": files.tensor(storage, shape, strides, offset)}
  for make in (files.zip_file, files.stream_file):
    if (size, make) == (29, files.stream_file):
      continue  # streams say a size once
    with pytest.raises(CheckpointError):
      read(make(value))["a"]


def test_zip_files_with_two_meanings_are_refused(read):
  value = {"a": files.dense(BASE, "0")}
  twice = pytest.warns(UserWarning, match="Duplicate")
  with twice:
    data = files.zip_file(value, extra=[("data.pkl", b"\x80\x02}.")])
  with pytest.raises(CheckpointError, match="twice"):
    read(data)
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("archive/data.pkl", b"\x80\x02}.")
  with pytest.raises(CheckpointError, match="compressed"):
    read(file.getvalue())
  data = bytearray(files.zip_file(value))
  data[data.index(b"archive/data.pkl")] ^= 1  # in its local header only
  with pytest.raises(CheckpointError, match="two names"):
    read(bytes(data))


def test_damage_is_noticed_by_the_checksum(read):
  data = bytearray(files.zip_file({"a": files.dense(BASE, "0")}))
  data[data.index(BASE.tobytes())] ^= 1
  with pytest.raises(CheckpointError, match=r"file\.pt: .*checksum; download"):
    read(bytes(data))["a"]
  assert read(bytes(data), verify=False)["a"].shape == BASE.shape


def test_storages_have_one_type_and_keys_are_unique(read):
  one, other = files.Storage(BASE, "0"), files.Storage(BASE.view("i4"), "0")
  value = [files.tensor(s, (30,), (1,)) for s in (one, other)]
  with pytest.raises(CheckpointError, match="in two ways"):
    read(files.zip_file(value))
  twice = b"\x80\x02}(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00aK\x02u."
  with pytest.raises(CheckpointError, match="key 'a' twice"):
    read(files.zip_file({}, **{"data.pkl": twice}))


@pytest.mark.parametrize(
  ("data", "words"),
  [
    (b"", "is empty; download"),
    (b"\n<!DOCTYPE html><html>", "web page"),
    (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    (b"\x89PNG\r\n", "PNG picture"),
    (b"hello, world", "no known format; give a .pt"),
    (files.zip_file({"a": 1})[:-30], "without its end"),
    (files.zip_file({"a": 1}, **{"constants.pkl": b""}), "TorchScript"),
    (files.zip_file({"a": 1}, byteorder=b"big"), "big-endian"),
    (files.stream_file({"a": 1}, little_endian=False), "big-endian"),
    (files.stream_file({"a": files.dense(BASE, "0")})[:-9], "ends in the mid"),
    (pickle.dumps({"a": Limits()}), "refers to .*Limits.*whole model"),
  ],
)
def test_wrong_files_are_told_what_they_are(read, data, words):
  with pytest.raises(CheckpointError, match=words) as caught:
    read(data)
  assert len(str(caught.value)) <= 300 and "file.pt" in str(caught.value)


KINDS = sorted(
  p.stem for p in (Path(__file__).parent / "goldens/keys").iterdir()
)


@pytest.mark.parametrize(
  "kind",
  [
    pytest.param(kind, marks=[pytest.mark.slow] * (kind != "lpips_lin_alex"))
    for kind in KINDS
  ],
)
def test_official_weights_go_through_files_unchanged(tmp_path, kind):
  """So what agrees with the originals from a mapping agrees from a file."""
  state, path = recipe_state_dict(kind), tmp_path / "file.pt"
  export.write(state, path)
  stream = tmp_path / "stream.pt"
  dense = {k: files.dense(v, str(i)) for i, (k, v) in enumerate(state.items())}
  stream.write_bytes(files.stream_file(collections.OrderedDict(dense)))
  for found in map(reader.read, (path, stream)):
    assert list(found) == list(state)
    for name, value in state.items():
      np.testing.assert_array_equal(found[name], value, name, strict=True)


def test_mutated_files_raise_nothing_else():
  # by itself: checking every shape of every call would take minutes
  script = Path(__file__).parent / "fuzz_reader.py"
  done = subprocess.run(
    [sys.executable, script, "10000"],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  assert int(done.stdout) > 1000
