"""Programs of tiny networks: written, opened, held against the networks."""

import dataclasses
import json
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_architecture import PACKAGE, ROOT
from test_inference import drawn
from test_inverter import inverter

import encoder4editing_jax as e4e
from encoder4editing_jax import exporting, programs, serving, weights

DIRECTIONS = {"smile": drawn(8), "age": drawn(4, 8, seed=1)}


@nnx.jit
def moved(net, images, direction):
  return net.decode(e4e.editing.move(net.encode(images), direction, 1.5))


def by_hand(net, images, name):
  """Pictures moved 1.5 along a direction."""
  return moved(net, jnp.asarray(images), jnp.asarray(DIRECTIONS[name]))


@pytest.fixture(scope="module")
def net():
  return inverter()


@pytest.fixture(scope="module")
def folder(net, tmp_path_factory):
  path = tmp_path_factory.mktemp("served") / "a"
  exporting.write(net, path, directions=DIRECTIONS)
  return path


@pytest.fixture(scope="module")
def served(folder):
  return serving.load(folder)


def test_programs_give_what_the_network_gives(net, served):
  found = dict(serving.compare(net, served, DIRECTIONS, (3,)))
  assert list(found) == ["encoder", "generator", "edit", "edit_codes"]
  assert all(errors[3] < 1e-5 for errors in found.values())
  images = drawn(3, 32, 32, 3)
  strengths = served.strengths({"age": 1.5}, batch=3)
  np.testing.assert_array_equal(strengths, [[0, 1.5]] * 3)
  edited = served["edit"](images, strengths)
  np.testing.assert_allclose(edited, by_hand(net, images, "age"), atol=1e-4)


def test_other_weights_are_seen_to_differ(net, served):
  one = dataclasses.replace(
    served, functions={"generator": served["generator"]}
  )
  other = nnx.clone(net)
  other.generator.synthesis.to_rgb.bias[...] += 0.1
  ((name, errors),) = serving.compare(other, one, batches=(3,))
  assert name == "generator"
  assert errors[3] > 1e-3


@pytest.mark.parametrize("place", [0, 1])
def test_nan_in_any_result_is_a_difference(place):
  results = [jnp.ones((1, 2)), jnp.ones((1, 3))]
  results[place] = results[place].at[0, 0].set(jnp.nan)
  good = jnp.ones((1, 2)), jnp.ones((1, 3))
  assert np.isnan(serving._distance(results, good))
  assert serving._distance(good, good) == 0


def test_the_manifest_says_how_programs_are_called(net, folder):
  manifest = json.loads((folder / "manifest.json").read_text())
  assert manifest["platforms"] == ["cpu", "cuda", "tpu"]
  assert manifest["directions"] == ["smile", "age"]
  assert manifest["generator"] == e4e.inference.fingerprint(net.generator)
  edit = manifest["programs"]["edit"]
  shapes = {port["name"]: port["shape"] for port in edit["inputs"]}
  assert shapes == {"images": ["b", 32, 32, 3], "strengths": ["b", 2]}
  assert [port["shape"] for port in edit["outputs"]] == [["b", 8, 8, 3]]
  assert (folder / edit["file"]).stat().st_size == edit["bytes"]
  for name, entry in manifest["programs"].items():
    exported = jax.export.deserialize(
      bytearray((folder / entry["file"]).read_bytes())
    )
    version = exported.calling_convention_version
    assert entry["calling_convention_version"] == version
    sides = zip(
      entry["outputs"], jax.tree.leaves(exported.out_avals), strict=True
    )
    for port, aval in sides:
      assert [str(n) for n in aval.shape] == [str(n) for n in port["shape"]]
      assert aval.dtype == port["dtype"], name


def test_programs_hold_no_weights_and_no_places(folder):
  manifest = json.loads((folder / "manifest.json").read_text())
  for entry in manifest["programs"].values():
    text = (folder / entry["file"]).read_bytes()
    assert b".py" not in text
    assert PACKAGE.encode() not in text
    assert len(text) < 100_000
  arrays = weights.load_arrays(folder / "weights.safetensors")
  assert not any("mapping" in name for name in arrays)
  assert arrays["directions"].shape == (2, 4, 8)


def snippet():
  text = (ROOT / "docs" / "export.md").read_text()
  found = re.findall(r"<!-- plain -->\n```python\n(.*?)```", text, re.DOTALL)
  assert len(found) == 1
  return found[0]


def test_plain_jax_runs_them_without_this_library(net, folder, tmp_path):
  """The lines of docs/export.md, where this library cannot be imported."""
  faces = drawn(3, 32, 32, 3)
  np.save(tmp_path / "faces.npy", faces)
  code = f"""
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
  def find_spec(self, name, path=None, target=None):
    if name.split(".")[0] in {(PACKAGE, "flax", "optax", "jaxtyping")}:
      raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import numpy as np
faces = np.load({str(tmp_path / "faces.npy")!r})
{snippet().replace('"served"', repr(str(folder)))}
np.save({str(tmp_path / "edited.npy")!r}, edited)
assert {PACKAGE!r} not in sys.modules
"""
  done = subprocess.run(
    [sys.executable, "-c", code],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  edited = np.load(tmp_path / "edited.npy")
  np.testing.assert_allclose(edited, by_hand(net, faces, "smile"), atol=1e-4)


def test_the_example_is_short():
  assert len(snippet().splitlines()) <= 18


@pytest.mark.slow
def test_a_restyle_encoder_gives_one_step_and_all(tmp_path):
  net = inverter(restyle=True)
  exporting.write(
    net, tmp_path, parts=["encoder"], iterations=2, platforms=["cpu"]
  )
  served = serving.load(tmp_path)
  found = dict(serving.compare(net, served, batches=(2,)))
  assert list(found) == ["encoder", "refine"]
  assert all(errors[2] < 1e-5 for errors in found.values())
  images = drawn(2, 32, 32, 3)
  w_plus = jnp.tile(net.w_avg[...], (2, 1, 1))
  current = (nnx.jit(e4e.Inverter.decode)(net, w_plus), w_plus)
  for _ in range(2):
    current = served["refine"](images, *current)
  np.testing.assert_allclose(
    served["encoder"](images), current[1], rtol=1e-4, atol=1e-5
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  "cls",
  [
    e4e.GradualStyleEncoder,
    e4e.SingleStyleEncoder,
    e4e.WPlusEncoder,
    e4e.ResNetGradualStyleEncoder,
    e4e.ResNetProgressiveBackboneEncoder,
  ],
)
def test_every_kind_of_encoder_takes_any_batch(cls, net, tmp_path):
  encoder = cls(
    4,
    input_size=(32, 48),
    input_channels=5,
    style_dim=8,
    num_layers=18,
    channels=(4, 4, 4, 4),
    rngs=nnx.Rngs(0),
  )
  other = e4e.Inverter(encoder, net.generator)
  exporting.write(other, tmp_path, parts=["encoder"])
  served = serving.load(tmp_path)
  assert served["encoder"](drawn(2, 32, 48, 5)).shape == (2, 4, 8)


@pytest.mark.slow
def test_a_generator_goes_without_an_encoder(net, tmp_path):
  generator = net.generator
  written = exporting.write(
    generator,
    tmp_path,
    parts=["generator", "edit"],
    directions=DIRECTIONS,
    platforms=["cpu"],
    dtype="bfloat16",
  )
  assert list(written.manifest["programs"]) == ["generator", "edit_codes"]
  served = serving.load(tmp_path)
  for _, errors in serving.compare(generator, served, DIRECTIONS, (2,)):
    assert errors[2] < serving.TOLERANCE["bfloat16"]


def test_a_folder_keeps_what_is_not_ours(net, folder, tmp_path):
  (tmp_path / "mine.txt").write_text("mine")
  options = {"directions": DIRECTIONS, "platforms": ["cpu"]}
  exporting.write(net, tmp_path, parts=["generator", "edit"], **options)
  with pytest.raises(FileExistsError, match="there already"):
    exporting.write(net, tmp_path, **options)
  exporting.write(net, tmp_path, parts=["generator"], overwrite=True, **options)
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {
    "mine.txt",
    "manifest.json",
    "weights.safetensors",
    "generator.jaxexport",
  }


def test_an_export_that_fails_leaves_the_one_before(net, tmp_path, monkeypatch):
  options = {"parts": ["generator"], "platforms": ["cpu"]}
  exporting.write(net, tmp_path, **options)
  before = {path: path.read_bytes() for path in tmp_path.iterdir()}

  def full(*_):
    raise OSError("no space left on device")

  monkeypatch.setattr(exporting.files, "replace_text", full)
  with pytest.raises(OSError, match="no space"):
    exporting.write(net, tmp_path, overwrite=True, **options)
  assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"parts": ["decoder"]}, "'decoder' is unknown"),
    ({"parts": []}, "no parts"),
    ({"parts": ["edit"]}, "need directions"),
    ({"parts": ["encoder"], "platforms": ["gpu"]}, "'gpu' is unknown; use cpu"),
    ({"parts": ["encoder"], "platforms": []}, "no platforms"),
    ({"parts": ["encoder"], "iterations": 2}, "ReStyle"),
    ({"directions": {"smile": np.zeros(7)}}, "'smile' has shape"),
  ],
)
def test_mistakes_write_nothing(options, message, net, tmp_path):
  with pytest.raises(ValueError, match=message):
    exporting.write(net, tmp_path / "new", **options)
  assert not (tmp_path / "new").exists()


def test_a_generator_alone_has_no_encoder(net):
  with pytest.raises(ValueError, match="no encoder"):
    programs.programs(net.generator, ["encoder"])


def test_without_flatbuffers_the_fix_is_named(net, tmp_path, monkeypatch):
  monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
  for call in (
    lambda: exporting.write(net, tmp_path / "new", parts=["generator"]),
    lambda: serving.load(tmp_path),
  ):
    with pytest.raises(ModuleNotFoundError, match=r"\[export\]"):
      call()


def test_wrong_inputs_are_named(served):
  for inputs, message in [
    ((drawn(1, 32, 32, 3),), "edit takes images, strengths; 1"),
    ((drawn(1, 16, 16, 3), drawn(1, 2)), r"pass \(b, 32, 32, 3\)"),
    ((drawn(32, 32, 3), drawn(1, 2)), r"pass \(b, 32, 32, 3\)"),
    ((np.zeros((1, 32, 32, 3), np.uint8), drawn(1, 2)), "uint8; pass floats"),
    ((drawn(2, 32, 32, 3), drawn(1, 2)), "strengths has 1 examples"),
    ((drawn(0, 32, 32, 3), drawn(0, 2)), "images has 0 examples"),
  ]:
    with pytest.raises(ValueError, match=message):
      served["edit"](*inputs)
  with pytest.raises(KeyError, match="'refine' was not exported"):
    served["refine"]
  with pytest.raises(ValueError, match="no direction 'joy'"):
    served.strengths({"joy": 1.0})


def damage(path):
  path.write_bytes(path.read_bytes()[:-1] + b"!")


@pytest.mark.parametrize(
  ("harm", "message"),
  [
    (lambda f: damage(f / "edit.jaxexport"), "not what was exported"),
    (lambda f: damage(f / "weights.safetensors"), "not what was exported"),
    (lambda f: (f / "generator.jaxexport").unlink(), "is not there"),
    (lambda f: (f / "manifest.json").unlink(), "holds no export"),
    (lambda f: (f / "manifest.json").write_text("{}"), "no manifest"),
    (lambda f: (f / "manifest.json").write_text("[1]"), "no manifest"),
    (lambda f: (f / "manifest.json").write_text('{"format": 2}'), "format 2"),
  ],
)
def test_what_is_damaged_is_not_opened(harm, message, folder, tmp_path):
  for path in folder.iterdir():
    (tmp_path / path.name).write_bytes(path.read_bytes())
  harm(tmp_path)
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    serving.load(tmp_path)
