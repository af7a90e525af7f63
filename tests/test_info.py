"""`e4e info` says of every kind of file what it is, and what takes it."""

import json
from importlib import resources

import mixed_folder
import numpy as np
import pytest
import test_identify
import tiny_checkpoints
from PIL import Image

from encoder4editing_jax import (
  cli,
  clips,
  converters,
  directions,
  faceworld,
  identifying,
  inference,
  weights,
)
from encoder4editing_jax.config import Config
from encoder4editing_jax.converters import kinds
from encoder4editing_jax.data.building import build
from encoder4editing_jax.data.shards import Recipe
from encoder4editing_jax.editing import Direction
from encoder4editing_jax.identifying import checkpoints
from encoder4editing_jax.metrics import fid
from encoder4editing_jax.training.checkpoint import save_config

PIXELS = np.zeros((8, 6, 3), np.uint8)


def tell(path, capsys):
  """What the command says, as JSON and as text."""
  assert cli.main(["info", str(path), "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert cli.main(["info", str(path)]) == 0
  text = capsys.readouterr().out
  assert found["file"] == str(path)
  for command in found["commands"]:
    assert command.startswith("e4e ") and command in text
  return found


def picture(path):
  Image.fromarray(PIXELS).save(path)


def latents(path):
  codes = np.zeros((2, 4, 8), np.float32)
  held = inference.Latents(("a", "b"), codes, None, "f" * 64, 8)
  inference.save_latents(path, held)


def write_json(held):
  return lambda path: path.write_text(json.dumps(held))


FILES = {
  "picture": ("p.jpg", picture, "a picture (JPEG), 6 x 8", "e4e invert"),
  "clip": (
    "c.gif",
    lambda path: clips.save_clip(path, [PIXELS, PIXELS + 255]),
    "2 frames of 6 x 8",
    "e4e invert",
  ),
  "latents": ("x", latents, "codes of 2 pictures, each 4 x 8", "e4e edit"),
  "fid": (
    "s.npz",
    lambda path: fid.save_statistics(
      path, fid.Statistics(np.zeros(5), np.eye(5))
    ),
    "of 5 features",
    "--fid_targets",
  ),
  "directions": (
    "d.npz",
    lambda path: np.savez(path, smile=np.ones(8), age=np.ones((4, 8))),
    "smile, age",
    "--directions",
  ),
  "pca": (
    "pca.npz",
    lambda path: np.savez(
      path, mean=np.ones((1, 4)), comp=np.ones((2, 1, 4)), std=np.ones(2)
    ),
    "principal components of styles (GANSpace): pc0, pc1",
    "--directions",
  ),
  "config": (
    "config.json",
    write_json(Config().to_dict()),
    "settings of a training run",
    "e4e runs list",
  ),
  "metrics of a run": (
    "metrics.jsonl",
    lambda path: path.write_text('{"step": 3, "train/loss": 1}\n{"st'),
    "1 entries to step 3",
    "e4e runs plot",
  ),
  "evaluation": (
    "metrics.json",
    write_json({"version": "1", "images": 3, "metrics": {"l2_8x8": {}}}),
    "over 3 pictures: l2_8x8",
    None,
  ),
  "per_image": (
    "per_image.csv",
    lambda path: path.write_text("name,l2,problem\na,1,\n"),
    "1 rows",
    None,
  ),
  "eval": ("e.json", write_json({"step": 4, "psnr": 9}), "step 4", "e4e runs"),
  "best": (
    "b.json",
    write_json({"step": 4, "score": 9}),
    "step 4",
    "e4e runs export DIR --best",
  ),
  "run card": (
    "card.py",
    lambda path: path.write_text("def get_config():\n  return None\n"),
    "run card",
    "e4e train --config",
  ),
  "program": (
    "edit.jaxexport",
    lambda path: path.write_bytes(b"\x18\0\0\0\xff\xfe" * 200),
    "jax.export",
    None,
  ),
}


@pytest.mark.parametrize("kind", list(FILES))
def test_files(kind, tmp_path, capsys):
  name, write, words, command = FILES[kind]
  path = tmp_path / name
  write(path)
  found = tell(path, capsys)
  assert found["kind"] == kind and words in found["what"]
  if command is None:
    assert not found["commands"]
  else:
    assert any(command in text for text in found["commands"])


def test_a_clip_of_video(tmp_path, capsys):
  pytest.importorskip("av")
  clips.save_clip(tmp_path / "a.mp4", [np.zeros((16, 16, 3), np.uint8)] * 3)
  assert "MP4" in tell(tmp_path / "a.mp4", capsys)["what"]


@pytest.mark.parametrize("suffix", directions.SUFFIXES)
def test_directions_of_this_library(suffix, tmp_path, capsys):
  path, mean = tmp_path / f"mine{suffix}", np.zeros(8)
  smile = Direction(np.ones(8), (0, 1))
  directions.save(
    path, {"smile": smile, "pc0": Direction(np.ones(8), mean=mean)}
  )
  found = tell(path, capsys)
  assert found["kind"] == "directions" and "smile, pc0" in found["what"]
  assert found["shapes"] == {"smile": [8], "pc0": [8]}


def test_directions_of_sefa(tmp_path, capsys):
  np.savez(tmp_path / "s.npz", boundaries=np.eye(2, 8), values=np.ones(2))
  assert "sefa0, sefa1" in tell(tmp_path / "s.npz", capsys)["what"]


@pytest.mark.parametrize("kind", ["heic", "avif"])
def test_pictures_that_no_command_opens(kind, tmp_path, capsys):
  path = tmp_path / f"photo.{kind}"
  path.write_bytes(b"\0\0\0\x20ftyp" + kind.encode() + bytes(600))
  assert cli.main(["info", str(path)]) == 2
  assert f"no command opens {kind.upper()}; save" in capsys.readouterr().err


def test_networks_of_this_library(tmp_path, capsys):
  inverter = tiny_checkpoints.make_inverter()
  parts = {"i": inverter, "g": inverter.generator, "e": inverter.encoder}
  for name, net in parts.items():
    weights.save(net, tmp_path / f"{name}.safetensors")
  found = {n: tell(tmp_path / f"{n}.safetensors", capsys) for n in parts}
  assert {found[n]["kind"] for n in parts} == {"network"}
  assert any("e4e invert" in text for text in found["i"]["commands"])
  assert any("--model.generator" in text for text in found["g"]["commands"])
  assert found["e"]["module"] == type(inverter.encoder).__name__


def test_published_files(tmp_path, capsys):
  path = tmp_path / "it's e4e.pt"  # the shell has to be told
  inverter = tiny_checkpoints.make_inverter()
  converters.write(converters.from_inverter(inverter), path)
  found = tell(path, capsys)
  assert found["kind"] == "framework"
  assert any(text.startswith("e4e convert '") for text in found["commands"])
  converters.write({"smile": np.ones(8, np.float32)}, tmp_path / "smile.pt")
  assert tell(tmp_path / "smile.pt", capsys)["kind"] == "directions"


@pytest.mark.parametrize("name", [kind.name for kind in kinds.KINDS])
def test_every_kind_of_checkpoint_has_a_way(name, tmp_path, monkeypatch):
  made = {n: (make, a) for n, make, *a in test_identify.EXPECTED}
  if name not in made or name in ("pca", "direction"):
    pytest.skip("tested elsewhere")
  make, arguments = made[name]
  monkeypatch.setattr(converters, "read", lambda _: make(*arguments))
  found = checkpoints.look(tmp_path / "x.pt")
  assert found.kind == name
  assert found.commands or found.facts["advice"]


def test_the_files_of_this_package(capsys):
  folder = resources.files("encoder4editing_jax.faceworld")
  assert tell(folder / "directions.npz", capsys)["kind"] == "directions"
  found = tell(folder / "encoder.safetensors", capsys)
  assert found["module"] == "Encoder4Editing"


# Folders.


def test_a_run_and_what_lies_in_it(tmp_path, capsys):
  run = tmp_path / "my run"
  (run / "checkpoints" / "20").mkdir(parents=True)
  (run / "checkpoints" / "10").mkdir()
  save_config(Config(), run)
  (run / "metrics.jsonl").write_text('{"step": 7, "train/loss": 1}\n')
  found = tell(run, capsys)
  assert found["kind"] == "run" and "step 7 of" in found["what"]
  found = tell(run / "checkpoints", capsys)
  assert found["kind"] == "checkpoint" and "10, 20" in found["what"]
  found = tell(run / "checkpoints" / "20", capsys)
  assert found["kind"] == "checkpoint"
  assert found["commands"][0].endswith("--step 20")


def test_data_sets_and_pictures(tmp_path, capsys):
  faceworld.write_images(tmp_path / "faces", 3)
  out = tmp_path / "set"
  recipe = Recipe(str(tmp_path / "faces"), size=(16, 16))
  build(recipe, out, say=lambda _: None)
  found = tell(tmp_path / "faces", capsys)
  assert found["kind"] == "pictures" and found["images"] == 3
  found = tell(out, capsys)
  assert found["kind"] == "data set" and "3 images" in found["what"]
  shard = next(out.glob("*.array_record*"))
  found = tell(shard, capsys)
  assert found["kind"] == "shard" and str(out) in found["commands"][0]


def test_networks_programs_and_the_rest(tmp_path, capsys):
  nets, programs = tmp_path / "nets", tmp_path / "served"
  for folder, name in ((nets, "moco.safetensors"), (programs, "a.jaxexport")):
    folder.mkdir()
    (folder / name).write_bytes(b"x")
  assert tell(nets, capsys)["networks"] == ["moco"]
  assert tell(programs, capsys)["programs"] == ["a"]
  (tmp_path / "empty").mkdir()
  assert cli.main(["info", str(tmp_path / "empty")]) == 2
  assert "nothing that a command takes" in capsys.readouterr().err


# Files that are damaged, or unknown.


@pytest.mark.parametrize(
  ("name", "data", "words"),
  [
    ("a.pt", b"", "is empty"),
    ("a.bin", b"\0\1\2\3" * 99, "none of what this library"),
    ("notes.txt", b"to do\n", "none of what this library"),
    ("a.json", b'{"a": 1}', "none of what this library"),
    ("a.html", b"<html>", "is a web page"),
    ("a.jpg", b"no picture\n", "not one of"),
    ("a.safetensors", b"\xff\0\0\0\0\0\0\0{}", "no known kind"),
    ("a.npz", b"PK\3\4" + b"\0" * 99, "damaged|zip"),
    ("a.npz", None, "no known kind"),
  ],
)
def test_other_files_get_a_line(name, data, words, tmp_path, capsys):
  path = tmp_path / name
  if data is None:
    np.savez(path, a=np.zeros((2, 3, 4, 5)))
  else:
    path.write_bytes(data)
  assert cli.main(["info", str(path)]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and name in error
  assert any(word in error for word in words.split("|")), error


@pytest.mark.parametrize(
  "name", [*mixed_folder.READABLE, *mixed_folder.UNREADABLE]
)
def test_the_mixed_folder(name, mixed, capsys):
  status = cli.main(["info", str(mixed / name), "--json"])
  captured = capsys.readouterr()
  if name in mixed_folder.READABLE or name == "truncated.jpg":
    assert status == 0
    assert json.loads(captured.out)["kind"] in ("picture", "clip")
  else:
    assert status in (0, 2) and captured.err.count("\n") == (status == 2)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
  return mixed_folder.write(tmp_path_factory.mktemp("mixed"))


def test_nothing_else_is_said_of_networks_than_before(tmp_path):
  net = tiny_checkpoints.make_generator()
  path = str(tmp_path / "g.safetensors")
  weights.save(net, path)
  found = identifying.describe(path)
  assert weights.describe(path).items() <= found.items()
