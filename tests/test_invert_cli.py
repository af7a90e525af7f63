"""`e4e invert` and `e4e edit` with the generator of drawn faces."""

import json
import os

import numpy as np
import pytest
from flax import nnx
from PIL import Image
from test_compiling import compilations

from encoder4editing_jax import cli, faceworld, inference, weights
from encoder4editing_jax.cli import results
from encoder4editing_jax.config import ConfigError
from encoder4editing_jax.data import pictures
from encoder4editing_jax.models.lpips import LPIPS

GREYS = {"a.b.png": 90, "a.c.png": 120, "dark.png": 40, "light.JPG": 200}
GOOD = ["a.b", "a.c", "dark", "grey", "light"]


@pytest.fixture(scope="module")
def inverted(tmp_path_factory):
  """A folder with damaged files, inverted in batches of 2."""
  folder = tmp_path_factory.mktemp("photos")
  for name, grey in GREYS.items():
    pixels = np.full((64, 64, 3), grey, np.uint8)
    Image.fromarray(pixels).save(folder / name)
  Image.fromarray(np.full((9, 70), 7, np.uint8)).save(folder / "grey.png")
  (folder / "broken.jpg").write_bytes(b"no picture")
  (folder / "cut.png").write_bytes((folder / "dark.png").read_bytes()[:80])
  (folder / "zero.png").touch()
  out = folder.parent / "inverted"
  return folder, out, invert(folder, out, "--json")


def invert(folder, out, *words):
  argv = ["invert", folder, "--demo", "--out", out, "--batch", "2", *words]
  return cli.main(list(map(str, argv)))


def names_in(folder):
  return sorted(path.name for path in folder.iterdir())


def test_what_cannot_be_read_is_named_and_the_rest_is_done(inverted, capsys):
  folder, out, status = inverted
  assert status == 1
  assert names_in(out) == sorted([*(f"{n}.png" for n in GOOD), "latents.npz"])
  bad = [folder / name for name in ("broken.jpg", "cut.png", "zero.png")]
  argv = ["invert", *bad, "--demo", "--json", "--out", out / "none"]
  assert cli.main(list(map(str, argv))) == 1
  captured = capsys.readouterr()
  found = json.loads(captured.out)
  assert found["written"] == [] and list(found["failed"]) == list(map(str, bad))
  assert captured.err.count("left out") == 3
  assert not (out / "none").exists()


def test_codes_are_those_of_each_file(inverted):
  folder, out, _ = inverted
  latents = inference.load_latents(out / "latents.npz")
  assert list(latents.names) == GOOD
  paths = sorted(p for p in folder.iterdir() if pictures.name_of(p) in GOOD)
  net = faceworld.load_inverter()
  codes = inference.invert(net, paths, batch=2)
  np.testing.assert_array_equal(latents.w_plus, codes)
  opened = inference.open_images(paths, (64, 64))
  alone = inference.invert(net, opened.images[3:4], batch=2)
  np.testing.assert_allclose(alone[0], codes[3], rtol=1e-4, atol=1e-4)
  with pytest.raises(ValueError, match=r"cut.png: .*; leave it out"):
    inference.invert(net, [*paths, folder / "cut.png"], batch=2)


def test_nothing_is_compiled_for_more_batches(inverted, tmp_path, capsys):
  folder, _, _ = inverted
  with compilations() as found:
    assert invert(folder, tmp_path / "again", "--json") == 1
  told = json.loads(capsys.readouterr().out)
  assert not found and told["compiling_seconds"] < 0.5
  assert told["images_per_second"] > 0


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
def test_what_is_done_before_an_end_is_whole(
  failure, inverted, tmp_path, monkeypatch, capsys
):
  folder, out, _ = inverted
  paint, calls = inference.paint, []

  def stop(*args, **options):
    calls.append(args)
    if len(calls) == 2:
      raise failure("the disk is full")
    return paint(*args, **options)

  monkeypatch.setattr(inference, "paint", stop)
  status = invert(folder, tmp_path / "cut")
  assert status == (130 if failure is KeyboardInterrupt else 2)
  assert names_in(tmp_path / "cut") == ["a.b.png", "a.c.png", "latents.npz"]
  latents = inference.load_latents(tmp_path / "cut" / "latents.npz")
  whole = inference.load_latents(out / "latents.npz")
  np.testing.assert_array_equal(latents.w_plus, whole.w_plus[:2])
  assert latents.names == whole.names[:2]


def test_a_picture_that_cannot_be_written_has_no_code(
  inverted, tmp_path, monkeypatch, capsys
):
  save = results._save

  def refuse(path, image):
    if path.name == "a.c.png":
      raise OSError("the disk is full")
    save(path, image)

  monkeypatch.setattr(results, "_save", refuse)
  assert invert(inverted[0], tmp_path / "out") == 2
  assert "the disk is full" in capsys.readouterr().err
  latents = inference.load_latents(tmp_path / "out" / "latents.npz")
  written = [n for n in names_in(tmp_path / "out") if n.endswith("png")]
  assert sorted(f"{name}.png" for name in latents.names) == written
  assert "a.c" not in latents.names


def test_an_edit_of_nothing_gives_the_same_bytes(inverted, tmp_path):
  _, out, _ = inverted
  latents = str(out / "latents.npz")
  edit = ["edit", latents, "--demo", "--out"]
  assert cli.main([*edit, str(tmp_path / "same")]) == 0
  smile = ["--edit", "smile=1.5@0-3"]
  assert cli.main([*edit, str(tmp_path / "happy"), *smile]) == 0
  assert names_in(tmp_path / "happy") == names_in(out)
  for name in GOOD:
    before = (out / f"{name}.png").read_bytes()
    assert (tmp_path / "same" / f"{name}.png").read_bytes() == before
    assert (tmp_path / "happy" / f"{name}.png").read_bytes() != before


def test_files_that_are_read_are_never_replaced(inverted, tmp_path, capsys):
  folder, out, _ = inverted
  before = (folder / "dark.png").read_bytes()
  assert invert(folder / "dark.png", folder, "--overwrite") == 2
  assert "is read, and would be replaced" in capsys.readouterr().err
  assert (folder / "dark.png").read_bytes() == before
  argv = ["edit", out / "latents.npz", "--demo", "--out", out, "--overwrite"]
  assert cli.main(list(map(str, argv))) == 2
  assert "latents.npz is read" in capsys.readouterr().err


def test_names_that_two_files_share_keep_their_endings(tmp_path, capsys):
  photos, out, happy = (tmp_path / x for x in ("photos", "out", "happy"))
  faceworld.write_images(photos, 3, seed=7)
  ann, ben, ced = sorted(photos.glob("*.png"))
  ben.rename(ann.with_suffix(".jpg"))  # what a file is called is not what it is
  assert invert(photos, out) == 0
  names = (f"{ann.stem}.jpg", f"{ann.stem}.png", ced.stem)
  assert inference.load_latents(out / "latents.npz").names == names
  argv = ["edit", out / "latents.npz", "--demo", "--out", happy]
  assert cli.main(list(map(str, argv))) == 0
  for folder in (out, happy):
    made = sorted(path.name for path in folder.glob("*.png"))
    assert made == sorted(f"{name}.png" for name in names)
    argv = ["evaluate", folder, photos, "--metrics", "psnr"]
    assert cli.main(list(map(str, argv))) == 0
    assert "3 pictures, 0 files left out" in capsys.readouterr().out
  argv = ["animate", out / "latents.npz", "--wipe", photos, "--demo"]
  argv += ["--frames", "2", "--out", tmp_path / "wipe.gif"]
  assert cli.main(list(map(str, argv))) == 0


def test_two_files_of_one_name_are_both_named(inverted, tmp_path, capsys):
  folder, _, _ = inverted
  other = tmp_path / "dark.png"
  Image.new("RGB", (8, 8)).save(other)
  argv = ["invert", folder / "*.png", other, "--demo", "--out", tmp_path / "x"]
  assert cli.main(list(map(str, argv))) == 2
  error = capsys.readouterr().err
  assert f"{folder / 'dark.png'} and {other} would both become" in error
  assert "rename one" in error and not (tmp_path / "x").exists()


def test_one_name_twice_is_two_files():
  with pytest.raises(ConfigError, match="a-b and a-b would both become"):
    results.places("nowhere", ["a-b", "a-b"], False)


def test_names_that_no_archive_takes_are_met_before_work(tmp_path, capsys):
  path = tmp_path / os.fsdecode(b"caf\xe9.png")
  Image.new("RGB", (8, 8)).save(path)
  assert invert(path, tmp_path / "x") == 2
  assert "is not written in UTF-8; rename" in capsys.readouterr().err
  assert not (tmp_path / "x").exists()


@pytest.mark.slow  # compiles gradients
def test_every_picture_gets_a_generator_of_its_own(inverted, tmp_path, capsys):
  folder, out, _ = inverted
  nets = tmp_path / "nets"
  nets.mkdir()
  net = LPIPS(channels=(4,) * 5, rngs=nnx.Rngs(0))
  weights.save(net, nets / "lpips_alex.safetensors")
  photo = folder / "dark.png"
  fitted = {}
  for steps in (["--optimise", "5"], ["--tune", "5", "--tune_lr", "1e-3"]):
    for more in ([], ["--weights", nets]):
      place = tmp_path / f"{steps[0]}{len(more)}"
      assert invert(photo, place, *steps, *more) == 0
      told = capsys.readouterr().err
      assert told.count("L2 alone") == (not more)
      fitted[place.name] = np.asarray(Image.open(place / "dark.png"))
  target = np.asarray(Image.open(photo), float)

  def error(pixels):
    return np.square(pixels - target).mean()

  before = error(np.asarray(Image.open(out / "dark.png")))
  assert all(error(pixels) < before for pixels in fitted.values())
  assert (fitted["--tune0"] != fitted["--tune2"]).any()
  tuned = tmp_path / "--tune2"
  assert names_in(tuned) == ["dark.npz", "dark.png", "dark.safetensors"]
  edit = ["edit", tuned / "dark.npz", "--model", tuned / "dark.safetensors"]
  assert cli.main([*map(str, edit), "--out", str(tmp_path / "e")]) == 0
  again = (tmp_path / "e" / "dark.png").read_bytes()
  assert again == (tuned / "dark.png").read_bytes()


@pytest.mark.parametrize(
  ("argv", "message"),
  [
    (["invert", "--demo", "--out", "OUT"], "there already"),
    (["invert", "x.png", "--out", "NEW"], "--model FILE or --demo"),
    (["invert", "--demo"], "--out is missing"),
    (["invert", "x.png", "--demo", "--out", "NEW"], "x.png is not there"),
    (["edit", "LATENTS", "--demo", "--out", "OUT"], "there already"),
    (["invert", "--demo", "--out", "LATENTS"], "is a file; name a folder"),
    (["invert", "--demo", "--out", "NEW", "--batch", "0"], "1 or more"),
    (["invert", "--demo", "--out", "NEW", "--tune", "-1"], "--tune takes"),
    (
      ["invert", "--demo", "--out", "NEW", "--tune_lr", "0"],
      "--tune_lr takes a number above 0",
    ),
    (
      ["invert", "--demo", "--out", "NEW", "--weights", "OUT"],
      "--weights is for --optimise and --tune",
    ),
    (
      ["invert", "--demo", "--out", "NEW", "--tune", "1", "--weights", "OUT"],
      "lpips_alex.safetensors is not there",
    ),
    (["edit", "x.npz", "--demo", "--out", "NEW"], "x.npz is not there"),
    (["edit", "LATENTS", "--demo", "--out", "NEW", "--edit", "smile"], "write"),
    (
      ["edit", "LATENTS", "--demo", "--out", "NEW", "--edit", "joy=1"],
      "no direction 'joy'",
    ),
  ],
)
def test_mistakes_write_nothing(argv, message, inverted, tmp_path, capsys):
  folder, out, _ = inverted
  if argv[:2] == ["invert", "--demo"] and "OUT" in argv:
    argv = ["invert", str(folder / "dark.png"), *argv[1:]]
  paths = {"OUT": out, "NEW": tmp_path / "new", "LATENTS": out / "latents.npz"}
  assert cli.main([str(paths.get(word, word)) for word in argv]) == 2
  assert message in capsys.readouterr().err
  assert not (tmp_path / "new").exists()
