"""e4e.load opens every file for which there is a network, by its content."""

import inventories
import numpy as np
import pytest
import tiny_checkpoints as tiny
import torch_files as files

import encoder4editing_jax as e4e
from encoder4editing_jax import converters


@pytest.fixture(scope="module")
def state():
  return tiny.discriminator_state()


@pytest.fixture(scope="module")
def net(state):
  return converters.to_discriminator(state)


@pytest.mark.parametrize("make", [files.zip_file, files.stream_file])
@pytest.mark.parametrize("name", ["d.pt", "d.safetensors", "d"])
def test_official_files_load_whatever_their_name(
  state, net, make, name, tmp_path
):
  (tmp_path / name).write_bytes(tiny.packed(make, {"d": state}))
  assert tiny.equal(e4e.load(tmp_path / name), net)


def test_the_first_format_of_torch_and_npz_load(state, net, tmp_path):
  (tmp_path / "d.pth.tar").write_bytes(files.tar_file(state))
  assert tiny.equal(e4e.load(tmp_path / "d.pth.tar"), net)
  np.savez(tmp_path / "d.npz", **state)
  assert tiny.equal(e4e.load(tmp_path / "d.npz"), net)


def test_own_files_load_whatever_their_name(net, tmp_path):
  for name in ("own.safetensors", "own.pt"):
    e4e.save(net, tmp_path / name)
    assert tiny.equal(e4e.load(str(tmp_path / name)), net)
  with pytest.raises(ValueError, match=r"own\.pt: .* leave out encoder_type"):
    e4e.load(tmp_path / "own.pt", encoder_type="Encoder4Editing")


def test_an_encoder_of_two_kinds_has_to_be_named(tmp_path):
  checkpoint = tiny.e4e_checkpoint() | {"opts": {}}
  converters.write(checkpoint, tmp_path / "e4e.pt")
  with pytest.raises(ValueError, match=r"e4e\.pt: .* pass encoder_type="):
    e4e.load(tmp_path / "e4e.pt")
  loaded = e4e.load(tmp_path / "e4e.pt", encoder_type="GradualStyleEncoder")
  assert isinstance(loaded.encoder, e4e.GradualStyleEncoder)


@pytest.mark.parametrize(
  ("checkpoint", "words"),
  [
    (inventories.lpips("alex"), "this is the linear layers of LPIPS for Alex"),
    ({"layers": 3}, "of no known kind; at its top are 'layers'"),
  ],
)
def test_other_files_are_told_what_they_are(checkpoint, words, tmp_path):
  converters.write(checkpoint, tmp_path / "other.pt")
  with pytest.raises(ValueError, match=rf"other\.pt: .*{words}"):
    e4e.load(tmp_path / "other.pt")


def test_what_is_no_checkpoint_is_told_so(net, tmp_path):
  with pytest.raises(FileNotFoundError, match="is a folder; give a file"):
    e4e.load(tmp_path)
  with pytest.raises(FileNotFoundError, match=r"absent\.pt is not there"):
    e4e.load(tmp_path / "absent.pt")
  path = tmp_path / "cut.safetensors"
  e4e.save(net, path)
  with pytest.raises(FileNotFoundError, match=r"of its files: .*cut\.safe"):
    e4e.load(tmp_path)
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(ValueError, match=r"cut\.safetensors: .*download it ag"):
    e4e.load(path)
  path.write_bytes(b"<html>")
  with pytest.raises(ValueError, match="web page"):
    e4e.load(path)
