"""`e4e convert`: a right file, or one line that says why not and no file."""

import hashlib
import json
import os
import resource
import subprocess
import sys

import inventories
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_checkpoints as tiny
import torch_files as files
from flax import nnx
from PIL import Image
from random_weights import randomised
from test_architecture import ROOT

import encoder4editing_jax as e4e
from encoder4editing_jax import cli, converters, weights
from encoder4editing_jax.converters import report, verify


@pytest.fixture(scope="module")
def checkpoint():
  return tiny.rosinality_checkpoint()


@pytest.fixture
def source(checkpoint, tmp_path):
  path = tmp_path / "stylegan2.pt"
  converters.write(checkpoint | {"latent_avg": np.zeros(tiny.DIM)}, path)
  return path


@pytest.fixture
def discriminator(tmp_path):
  path = tmp_path / "d.pt"
  converters.write({"d": tiny.discriminator_state()}, path)
  return path


def run(*words):
  return cli.main(["convert", *map(str, words)])


def refused(capsys, *words):
  """What is said about a command that fails and leaves no file."""
  capsys.readouterr()
  assert run(*words) == 2
  said = capsys.readouterr()
  assert said.out == ""
  assert said.err.startswith("error: ") and said.err.count("\n") == 1, said.err
  return said.err


def digest(path):
  return hashlib.sha256(path.read_bytes()).hexdigest()


def names(path):
  return sorted(p.name for p in path.iterdir())


# What is written.


def test_a_converted_file_holds_the_network_and_where_it_is_from(
  source, tmp_path, capsys
):
  assert run(source) == 0
  said = capsys.readouterr().out
  out = tmp_path / "stylegan2.safetensors"
  assert names(tmp_path) == ["stylegan2.pt", "stylegan2.safetensors"]
  expected = converters.to_generator(converters.read(source))
  assert tiny.equal(e4e.load(out), expected)
  assert weights.describe(out)["provenance"] == {
    "source": "stylegan2.pt",
    "sha256": digest(source),
    "kind": "rosinality-generator",
    "converter": f"encoder4editing_jax {e4e.__version__}",
  }
  for words in (
    "a StyleGAN2 generator of rosinality",
    digest(source),
    "size        8",
    "styles      4",
    f"{sum(p.size for p in parameters(expected)):,}",
    "discriminator of rosinality/stylegan2-pytorch (--part discriminator)",
    "convs.0.conv.blur.kernel and 1 more: ",
    "a filter, equal to the built-in one",
    "g_optim: state of an optimizer",
    f"{out}: written",
  ):
    assert words in said, said
  assert "note" not in said


def parameters(net):
  return [leaf for _, leaf in nnx.to_flat_state(nnx.state(net, nnx.Param))]


def test_the_same_file_gives_the_same_bytes(source, tmp_path, capsys):
  one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
  assert run(source, one) == run(source, other) == 0
  assert one.read_bytes() == other.read_bytes()
  before = one.stat()
  assert run(source, one) == 0
  assert "was the same already" in capsys.readouterr().out
  assert one.stat().st_mtime_ns == before.st_mtime_ns


def test_each_network_of_a_file_can_be_taken(source, tmp_path, capsys):
  out = tmp_path / "d.safetensors"
  assert run(source, out, "--part", "discriminator", "--json") == 0
  found = json.loads(capsys.readouterr().out)
  assert found["module"] == "Discriminator" and found["out"] == str(out)
  assert found["unused"]["another network"] == ["g_ema"]
  expected = converters.to_discriminator(converters.read(source))
  assert tiny.equal(e4e.load(out), expected)
  assert "no arcface in it" in refused(capsys, source, "--part", "arcface")


@pytest.mark.slow
def test_a_mean_code_that_was_computed_is_told(checkpoint, tmp_path, capsys):
  converters.write(checkpoint, tmp_path / "g.pt")
  assert run(tmp_path / "g.pt") == 0
  said = capsys.readouterr()
  assert "note        the checkpoint has no latent_avg" in said.out
  assert said.err == ""
  provenance = weights.describe(tmp_path / "g.safetensors")["provenance"]
  assert provenance["w_avg"] == "mean of 10000 random codes (seed 0)"
  assert cli.main(["info", str(tmp_path / "g.safetensors")]) == 0
  assert "seed 0" in capsys.readouterr().out


def test_files_without_checksums_are_told_apart(tmp_path, capsys):
  state = tiny.discriminator_state()
  for make, noted in ((files.zip_file, False), (files.stream_file, True)):
    (tmp_path / "d.pt").write_bytes(tiny.packed(make, state))
    assert run(tmp_path / "d.pt", "--dry-run") == 0
    assert ("have no checksums" in capsys.readouterr().out) == noted
  known = ("--sha256", digest(tmp_path / "d.pt").upper())
  assert run(tmp_path / "d.pt", "--dry-run", *known) == 0
  assert "have no checksums" not in capsys.readouterr().out


# What is not.


def test_a_dry_run_writes_nothing(discriminator, tmp_path, capsys):
  assert run(discriminator, "--dry-run") == 0
  assert "nothing written, as --dry-run asks" in capsys.readouterr().out
  assert names(tmp_path) == ["d.pt"]


def test_another_file_is_replaced_only_by_force(
  discriminator, tmp_path, capsys
):
  out = tmp_path / "d.safetensors"
  out.write_bytes(b"precious")
  assert "add --force" in refused(capsys, discriminator)
  assert out.read_bytes() == b"precious"
  assert names(tmp_path) == ["d.pt", "d.safetensors"]
  assert run(discriminator, "--force") == 0
  assert weights.is_native(out)


def test_a_failed_write_leaves_nothing(
  discriminator, tmp_path, monkeypatch, capsys
):
  def full(module, path, provenance):
    path.write_bytes(b"half")
    raise OSError("disk full")

  monkeypatch.setattr(weights, "save", full)
  said = refused(capsys, discriminator)
  assert "d.safetensors cannot be written: disk full. Nothing was" in said
  assert names(tmp_path) == ["d.pt"]


def test_a_disk_that_is_full_is_told(discriminator, tmp_path, capsys):
  own = tmp_path / "own.safetensors"
  assert run(discriminator, own) == 0
  usual = resource.getrlimit(resource.RLIMIT_FSIZE)
  for words in ((discriminator,), (own, "--to", "torch")):
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, usual[1]))
    try:
      said = refused(capsys, *words)
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert "cannot be written: " in said and "File too large" in said
    assert names(tmp_path) == ["d.pt", "own.safetensors"]


def test_interrupting_leaves_nothing(
  discriminator, tmp_path, monkeypatch, capsys
):
  def interrupted(module, path, provenance):
    path.write_bytes(b"half")
    raise KeyboardInterrupt

  monkeypatch.setattr(weights, "save", interrupted)
  assert run(discriminator) == 130
  assert capsys.readouterr().err.startswith("error: interrupted")
  assert names(tmp_path) == ["d.pt"]


def test_mistakes_are_told_in_one_line_and_leave_no_file(
  discriminator, tmp_path, capsys
):
  native = tmp_path / "own.safetensors"
  assert run(discriminator, native) == 0
  converters.write(inventories.lpips("vgg"), tmp_path / "lin.pth")
  converters.write({"model": {"a": 1}}, tmp_path / "other.pt")
  os.mkfifo(tmp_path / "pipe")
  before = names(tmp_path)
  for words, said in (
    ([tmp_path / "absent.pt"], "absent.pt is not there"),
    ([tmp_path], "is a folder; give one of its files"),
    ([tmp_path / "pipe"], "is a pipe or a device; save it as a file"),
    ([tmp_path / "lin.pth"], "layers of LPIPS for VGG-16; give it to `e4e we"),
    ([tmp_path / "other.pt"], "of no known kind; at its top are 'model'"),
    ([native], "a file of this library already"),
    ([native, "--to", "torch", "--part", "generator"], "leave out --part"),
    ([discriminator, tmp_path / "x.pt"], "it ends in .safetensors"),
    ([discriminator, tmp_path / "no" / "x.safetensors"], "that exists"),
    ([discriminator, discriminator, "--to", "torch"], "is the file to convert"),
    ([discriminator, "--sha256", "0" * 64], "not the one of --sha256"),
    ([discriminator, "--sha256", "abc"], "is not 64 hexadecimal digits"),
    ([discriminator, "--encoder-type", "X"], "leave encoder_type out"),
    ([discriminator, "--verify", "x.jpg"], "needs an encoder; this is a Disc"),
    ([discriminator, "--too", "torch"], "--too"),
    ([], "FILE"),
  ):
    assert said in refused(capsys, *words)
    assert names(tmp_path) == before


# The way back.


def test_without_a_way_back_it_is_said(tmp_path, capsys):
  net = randomised(lambda: e4e.LPIPS(channels=(4,) * 5, rngs=nnx.Rngs(0)))
  weights.save(net, tmp_path / "own.safetensors")
  said = refused(capsys, tmp_path / "own.safetensors", "--to", "torch")
  assert "no way back for a LPIPS" in said and "leave out --to" in said


def test_networks_go_back_to_torch(tmp_path, capsys):
  net = randomised(tiny.make_inverter)
  for name, module, convert in (
    ("inverter", net, converters.to_inverter),
    ("generator", net.generator, converters.to_generator),
  ):
    path = tmp_path / f"{name}.safetensors"
    weights.save(module, path)
    assert run(path, "--to", "torch") == 0
    assert f"{name}.pt: written" in capsys.readouterr().out
    back = convert(converters.read(tmp_path / f"{name}.pt"))
    ours, theirs = weights.leaves(module), weights.leaves(back)
    assert ours.keys() == theirs.keys()
    for leaf in ours.keys() - {"generator.w_avg"}:  # one mean code per file
      value = ours[leaf]
      np.testing.assert_array_equal(theirs[leaf][...], value[...], leaf)


# Looking at a picture.


@pytest.fixture(scope="module")
def example(tmp_path_factory):
  """A model that finds the same code in every picture, and its picture."""
  net = randomised(tiny.make_inverter)
  for name in ("heads_coarse", "heads_middle", "heads_fine"):
    if (head := getattr(net.encoder, name)) is not None:
      head.linear_kernel[...] = jnp.zeros(head.linear_kernel.shape)
  image = verify._run(net, np.zeros((1, 32, 32, 3), np.float32))[1][0]
  scale = 0.9 / np.abs(image).max()
  synthesis = net.generator.synthesis
  for rgb in (synthesis.to_rgb, *(b.to_rgb for b in synthesis.blocks)):
    rgb.kernel[...] *= scale
    rgb.bias[...] *= scale
  folder = tmp_path_factory.mktemp("example")
  converters.write(tiny.framework(net), folder / "e4e.pt")
  pixels = np.uint8(np.round(127.5 * (scale * image + 1)))
  Image.fromarray(pixels).save(folder / "right.png")
  noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
  Image.fromarray(noise).save(folder / "wrong.png")
  return folder


def test_a_right_picture_is_told_and_the_file_written(
  example, tmp_path, capsys
):
  out = tmp_path / "e4e.safetensors"
  picture = ("--verify", example / "right.png")
  assert run(example / "e4e.pt", out, *picture, "--json") == 0
  found = json.loads(capsys.readouterr().out)
  seen = found["verification"]
  assert seen["ok"] and seen["verdict"].startswith("sound: ")
  assert seen["psnr_db"] > 45 > seen["mean_code_psnr_db"]
  assert -1 < seen["image_min"] < seen["image_max"] < 1
  assert seen["l2"] == pytest.approx(4 / 10 ** (seen["psnr_db"] / 10), rel=0.3)
  assert seen["distance"] > 0 and out.is_file()


@pytest.fixture
def found(monkeypatch):
  """What the model is made to find, in place of what it finds."""
  shapes = (1, 8, 8, 3), (1, 32, 32, 3), (1, 32, 32, 3), (), ()
  arrays = [np.full(shape, 0.1, np.float32) for shape in shapes]
  monkeypatch.setattr(verify, "_run", lambda inverter, picture: arrays)
  return arrays


def test_a_wrong_picture_is_told_and_no_file_written(
  example, found, tmp_path, capsys
):
  found[1][:, ::2] = 1
  out = tmp_path / "e4e.safetensors"
  assert run(example / "e4e.pt", out, "--verify", example / "wrong.png") == 1
  said = capsys.readouterr().out
  assert "values 0.10 to 0.10; codes 0.1 from the mean code" in said
  assert "picture     suspect: " in said
  assert "nothing written, since the picture came back wrong" in said
  assert not out.exists()


def test_outputs_that_are_not_finite_are_broken(found):
  net = randomised(tiny.make_inverter)
  picture = np.zeros((1, 32, 32, 3), np.float32)
  for array in found:
    for bad in (np.nan, np.inf):
      array[...] = bad
      seen = verify.verify(net, picture)
      assert not seen["ok"] and not seen["finite"]
      assert seen["verdict"].startswith("broken")
      json.dumps(seen, allow_nan=False)
    array[...] = 0.1
  assert verify.verify(net, picture)["finite"]


def test_what_is_no_picture_is_told(example, tmp_path, capsys):
  said = refused(
    capsys, example / "e4e.pt", tmp_path / "o.safetensors", "--verify", __file__
  )
  assert "give --verify a picture" in said


def test_encoders_of_maps_take_no_pictures(example):
  net = randomised(tiny.make_inverter)
  net.encoder.input_channels = 19
  with pytest.raises(ValueError, match="maps of 19 channels and no pictures"):
    verify.open_picture(example / "right.png", net)


def test_the_verdict_needs_both_comparisons():
  numbers = {"psnr_db": 12.0, "mean_code_psnr_db": 9.0, "flat_psnr_db": 11.0}
  assert verify.judge(numbers)[0]
  for name in ("mean_code_psnr_db", "flat_psnr_db"):
    assert not verify.judge(numbers | {name: 12.5})[0]


# The report.


def test_reasons_go_to_what_they_belong_to():
  tensors = [
    "encoder.body.0.res_layer.0.num_batches_tracked",
    "convs.0.conv.blur.kernel",
    "encoder.latlayer2.bias",
    "something.d",
  ]
  groups = report.grouped(tensors, ["d", "d_optim", "optimizer", "args", "x"])
  assert groups == {
    "counts the batches of a training run": tensors[:1],
    "a filter, equal to the built-in one": tensors[1:2],
    "of a layer that this encoder does not use": tensors[2:3],
    "of no use here": ["something.d", "x"],
    "another network": ["d"],
    "state of an optimizer": ["d_optim", "optimizer"],
    "about a training run": ["args"],
  }


# As a program.


def test_the_module_is_the_command(discriminator, tmp_path):
  out = str(tmp_path / "out.safetensors")
  program = [sys.executable, "-m", "encoder4editing_jax.converters"]
  done = subprocess.run(
    [*program, str(discriminator), out],
    cwd=ROOT,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert "written" in done.stdout and done.stderr == ""
  expected = converters.to_discriminator(converters.read(discriminator))
  assert tiny.equal(e4e.load(out), expected)
