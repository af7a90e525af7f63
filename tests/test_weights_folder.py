"""`e4e weights` fills the folder in which losses find their networks."""

import dataclasses
import json

import inventories
import numpy as np
import pytest
from flax import nnx

import encoder4editing_jax as e4e
from encoder4editing_jax import cli, converters, weights, weights_folder
from encoder4editing_jax.converters import collecting, kinds

IR_SE50, IR_101 = "model_ir_se50.pth", "CurricularFace_Backbone.pth"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """Files with the entries that tell what they are, and no others."""
  folder = tmp_path_factory.mktemp("published")
  for name, kind in {
    IR_SE50: "arcface-ir-se50",
    IR_101: "curricularface-ir101",
    "alexnet.pth": "torchvision-alexnet",
    "g.pt": "rosinality-generator",
  }.items():
    (row,) = (row for row in kinds.KINDS if row.name == kind)
    mark = row.marks[0]
    state = {entry: np.ones(1, np.float32) for entry in mark.has}
    whole = {mark.place: state} if mark.place else state
    converters.write(whole, folder / name)
  converters.write(inventories.lpips("alex"), folder / "alex.pth")
  converters.write({"a": 1}, folder / "other.pt")
  return folder


@pytest.fixture
def out(tmp_path):
  return tmp_path / "weights"


@pytest.fixture(autouse=True)
def given(monkeypatch):
  """What converters were given; they make small networks of another kind."""
  seen = []

  def convert(*checkpoints):
    seen.append([list(c) for c in checkpoints])
    return e4e.LatentDiscriminator(3, 4, 1, rngs=nnx.Rngs(0))

  rows = [dataclasses.replace(r, convert=convert) for r in collecting.NETWORKS]
  monkeypatch.setattr(collecting, "NETWORKS", tuple(rows))
  return seen


def run(out, *words):
  return cli.main(["weights", *map(str, words), "--dir", str(out)])


def test_the_table_and_the_folder_have_the_same_networks(monkeypatch):
  monkeypatch.undo()
  names = [row.name for row in collecting.NETWORKS]
  assert names == list(weights_folder.NETWORKS)
  known = {kind.name for kind in kinds.KINDS}
  for row in collecting.NETWORKS:
    assert row.kinds and set(row.kinds) <= known


def test_files_find_their_place(files, out, capsys):
  assert run(out, files / IR_SE50, files / IR_101, "--json") == 0
  rows = json.loads(capsys.readouterr().out)["networks"]
  names = ["arcface_ir_se50", "curricularface_ir101"]
  assert [row["name"] for row in rows] == names
  for row, name, source in zip(rows, names, (IR_SE50, IR_101), strict=True):
    path = weights_folder.path_of(out, name)
    assert row["file"] == str(path)
    provenance = weights.describe(path)["provenance"]
    assert provenance["source"] == source
    assert provenance["sha256"] == row["sources"][0]["sha256"]
    assert isinstance(weights_folder.load(out, name), e4e.LatentDiscriminator)


def test_two_files_make_one_network_in_any_order(files, out, given, capsys):
  pair = [files / "alex.pth", files / "alexnet.pth"]
  assert run(out, *pair) == 0
  said = capsys.readouterr().out
  assert "lpips_alex.safetensors: written" in said
  assert all(f"from {path}: " in said for path in pair)
  assert run(out, *pair[::-1]) == 0
  assert "was the same already" in capsys.readouterr().out
  assert len(given) == 2 and given[0] == given[1]
  trunk, linear = given[0]
  assert "features.3.bias" in trunk and "lin0.model.1.weight" in linear
  path = weights_folder.path_of(out, "lpips_alex")
  provenance = weights.describe(path)["provenance"]
  assert provenance["source"] == "alexnet.pth, alex.pth"
  assert len(provenance["sha256"]) == 64 + 2 + 64


def test_an_empty_folder_says_what_it_lacks(out, capsys):
  assert run(out) == 0
  said = capsys.readouterr().out
  assert said.count("missing") == len(weights_folder.NETWORKS)
  assert "torchvision's AlexNet and the linear layers of LPIPS" in said
  out.mkdir()
  weights_folder.path_of(out, "moco").touch()
  assert run(out, "--json") == 0
  rows = json.loads(capsys.readouterr().out)["networks"]
  assert [row["name"] for row in rows if row["there"]] == ["moco"]


def test_mistakes_are_told_in_one_line_before_anything_is_written(
  files, out, capsys
):
  arcface = files / IR_SE50
  for words, said in (
    ([arcface, files / "alex.pth"], "give the other one too: torchvision's Al"),
    ([arcface, files / "g.pt"], "which no loss looks; leave it out. `e4e con"),
    ([arcface, files / "other.pt"], "other.pt: this is of no known kind"),
    ([arcface, files / "absent.pt"], "absent.pt is not there"),
    ([arcface, arcface], "are both ArcFace's IR-SE50"),
  ):
    assert run(out, *words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not out.exists()


def test_a_network_of_one_file_is_converted_as_its_kind(
  files, out, monkeypatch, capsys
):
  monkeypatch.undo()
  assert run(out, files / IR_SE50) == 2
  said = capsys.readouterr().err
  assert f"{IR_SE50}: 'output_layer.3.weight' has shape (1,)" in said
  assert not out.exists()


def test_another_file_of_that_name_is_kept(files, out, capsys):
  out.mkdir()
  path = weights_folder.path_of(out, "arcface_ir_se50")
  path.write_bytes(b"precious")
  assert run(out, files / IR_SE50) == 2
  assert "add --force" in capsys.readouterr().err
  assert path.read_bytes() == b"precious"
  assert run(out, files / IR_SE50, "--force") == 0
  assert weights.is_native(path)


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_folder_gets_all_networks_or_none(
  files, out, force, monkeypatch, capsys
):
  both = (files / IR_SE50, files / IR_101)
  second = weights_folder.path_of(out, "curricularface_ir101")
  save, saved = weights.save, []

  def failing(module, path, provenance):
    saved.append(path)
    if len(saved) == 2:
      path.write_bytes(b"half")
      raise OSError("disk full")
    save(module, path, provenance=provenance)

  out.mkdir()
  second.write_bytes(b"precious")
  monkeypatch.setattr(weights, "save", failing)
  assert run(out, *both, *force) == 2
  assert "disk full" in capsys.readouterr().err
  assert [p.name for p in out.iterdir()] == [second.name]
  monkeypatch.setattr(weights, "save", save)
  assert (run(out, *both, *force) == 0) == bool(force)
  assert len(list(out.iterdir())) == (2 if force else 1)
  assert weights.is_native(second) == bool(force)


def test_a_missing_network_says_how_to_get_it(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"LPIPS with VGG-16.*--dir"):
    weights_folder.load(tmp_path, "lpips_vgg")
  with pytest.raises(ValueError, match="no network is named lpips; use lpips_"):
    weights_folder.load(tmp_path, "lpips")
