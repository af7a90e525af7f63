"""`e4e mix` and `e4e animate`, and clips as files."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from encoder4editing_jax import cli, clips, faceworld, inference

av = pytest.importorskip("av")


@pytest.fixture(scope="module")
def inverted(tmp_path_factory):
  """Codes of two faces, and their pictures."""
  root = tmp_path_factory.mktemp("inverted")
  generator = faceworld.load_generator()
  z = np.random.default_rng(3).normal(size=(2, generator.style_dim))
  w = np.asarray(generator.mapping(jnp.float32(z)))
  w_plus = np.repeat(w[:, None], generator.n_styles, 1)
  digest = inference.fingerprint(generator)
  inference.save_latents(
    root / "latents.npz",
    inference.Latents(("ann", "bob"), w_plus, None, digest, 2),
  )
  for name, grey in (("ann", 10), ("bob", 240)):
    pixels = np.full((64, 64, 3), grey, np.uint8)
    Image.fromarray(pixels).save(root / f"{name}.png")
  return root


def test_mixed_codes_have_the_layers_of_both(inverted, tmp_path, capsys):
  file, out = str(inverted / "latents.npz"), tmp_path / "mixed"
  words = ["mix", file, "--styles", file, "--layers", "6-9", "--demo"]
  assert cli.main([*words, "--out", str(out), "--json"]) == 0
  written = json.loads(capsys.readouterr().out)["written"]
  assert len(written) == 5
  before = inference.load_latents(file)
  after = inference.load_latents(out / "latents.npz")
  assert after.names == ("ann-ann", "ann-bob", "bob-ann", "bob-bob")
  np.testing.assert_array_equal(after.w_plus[1, :6], before.w_plus[0, :6])
  np.testing.assert_array_equal(after.w_plus[1, 6:], before.w_plus[1, 6:])
  np.testing.assert_array_equal(after.w_plus[0], before.w_plus[0])


def test_drawn_styles_are_those_of_the_seed(inverted, tmp_path):
  file = str(inverted / "latents.npz")
  codes = []
  for place, seed in (("a", "1"), ("b", "1"), ("c", "2")):
    words = ["mix", file, "--random", "2", "--demo", "--seed", seed]
    assert cli.main([*words, "--out", str(tmp_path / place)]) == 0
    codes.append(inference.load_latents(tmp_path / place / "latents.npz"))
  assert codes[0].names == ("ann-0", "ann-1", "bob-0", "bob-1")
  np.testing.assert_array_equal(codes[0].w_plus, codes[1].w_plus)
  assert (codes[0].w_plus != codes[2].w_plus).any()


def read(path):
  """All frames of a clip."""
  if path.suffix == ".mp4":
    with av.open(str(path)) as file:
      return [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
  with Image.open(path) as file:
    found = []
    for k in range(file.n_frames):
      file.seek(k)
      found.append(np.asarray(file.convert("RGB")))
    return found


@pytest.mark.parametrize("ending", clips.ENDINGS)
def test_clips_come_back(ending, tmp_path):
  frames = [np.full((20, 33, 3), level, np.uint8) for level in (0, 120, 240)]
  path = tmp_path / f"clip{ending}"
  assert clips.save_clip(path, iter(frames), fps=5) == 3
  found = read(path)
  assert len(found) == 3
  for wanted, frame in zip(frames, found, strict=True):
    assert abs(int(wanted[0, 0, 0]) - frame.mean()) < 6


def test_an_edit_goes_and_comes_back(inverted, tmp_path):
  out = tmp_path / "smile.webp"
  words = ["animate", str(inverted / "latents.npz"), "--demo", "--frames", "4"]
  assert cli.main([*words, "--edit", "smile=-2:2", "--out", str(out)]) == 0
  found = read(out)
  assert len(found) == 6 and found[0].shape == (64, 128, 3)
  far = [np.abs(np.int32(f) - found[0]).mean() for f in found]
  assert far[3] == max(far) > far[1] > 0
  assert far[5] == pytest.approx(far[1], rel=0.2)


def test_faces_turn_into_each_other_and_photos_give_way(inverted, tmp_path):
  words = ["animate", str(inverted / "latents.npz"), "--demo", "--frames", "3"]
  out = tmp_path / "turn.gif"
  assert cli.main([*words, "--out", str(out)]) == 0
  assert len(read(out)) == 6
  out = tmp_path / "wipe.webp"
  photos = str(inverted / "*.png")
  assert cli.main([*words, "--wipe", photos, "--out", str(out)]) == 0
  first, half, last = read(out)
  assert abs(first[:, :64].mean() - 10) < 3 and first[:, 64:].mean() > 235
  assert abs(half[:, 40:60].mean() - 10) < 3
  assert np.abs(np.int32(half[:, :28]) - last[:, :28]).mean() < 6


@pytest.mark.parametrize(
  ("words", "told"),
  [
    (["mix", "FILE", "--demo", "--out", "NEW"], "--styles FILE or --random N"),
    (
      ["mix", "FILE", "--random", "1", "--out", "NEW"],
      "--model FILE or --demo",
    ),
    (
      [
        "mix",
        "FILE",
        "--demo",
        "--out",
        "NEW",
        "--random",
        "1",
        "--layers",
        "99",
      ],
      "99",
    ),
    (["animate", "FILE", "--demo", "--out", "x.avi"], ".gif, .webp, .mp4"),
    (
      ["animate", "FILE", "--demo", "--out", "x.gif", "--edit", "smile=2"],
      "write it as smile=-2:2",
    ),
    (["animate", "FILE", "--demo"], "--out is missing; name the clip"),
    (
      ["animate", "FILE", "--demo", "--out", "x.gif", "--wipe", "TWINS"],
      "bob.png have the same name",
    ),
    (
      ["animate", "FILE", "--demo", "--out", "x.gif", "--wipe", "DAMAGED"],
      "bob.png: the file is empty",
    ),
    (
      ["animate", "FILE", "--demo", "--out", "x.gif", "--wipe", "nowhere"],
      "nowhere is not there",
    ),
  ],
)
def test_mistakes_leave_nothing(words, told, inverted, tmp_path, capsys):
  places = {"FILE": str(inverted / "latents.npz"), "NEW": str(tmp_path / "new")}
  for name, files in (("TWINS", ("bob.jpg", "bob.png")), ("DAMAGED", ())):
    folder = inverted.parent / name
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(folder / "ann.png")
    (folder / "bob.png").touch()
    for file in files:
      (folder / file).touch()
    places[name] = str(folder)
  places |= {f"x.{e}": str(tmp_path / f"x.{e}") for e in ("avi", "gif")}
  assert cli.main([places.get(word, word) for word in words]) == 2
  assert told in capsys.readouterr().err
  assert not list(tmp_path.iterdir())
