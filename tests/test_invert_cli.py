"""`e4e invert` and `e4e edit` with the generator of drawn faces."""

import json

import numpy as np
import pytest
from PIL import Image

from encoder4editing_jax import cli


@pytest.fixture(scope="module")
def inverted(tmp_path_factory):
  folder = tmp_path_factory.mktemp("photos")
  for name, grey in (("dark", 40), ("light", 200)):
    pixels = np.full((64, 64, 3), grey, np.uint8)
    Image.fromarray(pixels).save(folder / f"{name}.png")
  (folder / "broken.jpg").write_bytes(b"no picture")
  out = folder.parent / "inverted"
  argv = ["invert", str(folder), "--demo", "--out", str(out), "--json"]
  return folder, out, cli.main(argv)


def test_what_cannot_be_read_is_named_and_the_rest_is_done(inverted, capsys):
  folder, out, status = inverted
  assert status == 1
  names = {path.name for path in out.iterdir()}
  assert names == {"dark.png", "light.png", "latents.npz"}
  argv = ["invert", str(folder / "broken.jpg"), "--demo", "--json"]
  assert cli.main([*argv, "--out", str(out / "none")]) == 1
  captured = capsys.readouterr()
  found = json.loads(captured.out)
  assert found["written"] == []
  assert "broken.jpg" in next(iter(found["failed"]))
  assert "broken.jpg" in captured.err


def test_an_edit_of_nothing_gives_the_same_bytes(inverted, tmp_path):
  _, out, _ = inverted
  latents = str(out / "latents.npz")
  edit = ["edit", latents, "--demo", "--out"]
  assert cli.main([*edit, str(tmp_path / "same")]) == 0
  smile = ["--edit", "smile=1.5@0-3"]
  assert cli.main([*edit, str(tmp_path / "happy"), *smile]) == 0
  for name in ("dark.png", "light.png"):
    before = (out / name).read_bytes()
    assert (tmp_path / "same" / name).read_bytes() == before
    assert (tmp_path / "happy" / name).read_bytes() != before


@pytest.mark.parametrize(
  ("argv", "message"),
  [
    (["invert", "--demo", "--out", "OUT"], "there already"),
    (["invert", "x.png", "--out", "NEW"], "--model FILE or --demo"),
    (["invert", "--demo"], "--out is missing"),
    (["invert", "x.png", "--demo", "--out", "NEW"], "x.png is not there"),
    (["edit", "LATENTS", "--demo", "--out", "OUT"], "there already"),
    (["edit", "x.npz", "--demo", "--out", "NEW"], "x.npz is not there"),
    (["edit", "LATENTS", "--demo", "--out", "NEW", "--edit", "smile"], "write"),
    (
      ["edit", "LATENTS", "--demo", "--out", "NEW", "--edit", "joy=1"],
      "no direction 'joy'",
    ),
  ],
)
def test_mistakes_write_nothing(argv, message, inverted, tmp_path, capsys):
  _, out, _ = inverted
  if argv[:2] == ["invert", "--demo"] and "OUT" in argv:
    argv = ["invert", str(out / "dark.png"), *argv[1:]]
  paths = {"OUT": out, "NEW": tmp_path / "new", "LATENTS": out / "latents.npz"}
  assert cli.main([str(paths.get(word, word)) for word in argv]) == 2
  assert message in capsys.readouterr().err
  assert not (tmp_path / "new").exists()
