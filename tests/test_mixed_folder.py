"""The commands on a folder of 100 files such as people have."""

import json
from pathlib import Path

import mixed_folder
import numpy as np
import pytest
from PIL import Image

from encoder4editing_jax import cli
from encoder4editing_jax.data import images, sources


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return mixed_folder.write(tmp_path_factory.mktemp("user") / "mixed")


def stems(names):
  return {Path(name).stem for name in names}


def test_it_has_100_files_of_different_names(folder):
  files = [p for p in folder.rglob("*") if p.is_file() or p.is_symlink()]
  assert len(files) == mixed_folder.N
  found = sources.FolderSource(folder).paths
  assert len({path.stem for path in found}) == len(found)
  known = {*mixed_folder.READABLE, *mixed_folder.UNREADABLE}
  names = {path.relative_to(folder).as_posix() for path in found}
  assert known <= names
  assert all(name.startswith("photo ") for name in names - known)


@pytest.mark.parametrize("name", mixed_folder.READABLE)
def test_good_pictures_are_opened(name, folder):
  pixels = images.decode((folder / name).read_bytes(), (16, 16))
  assert pixels.shape == (16, 16, 3)
  if name not in ("one pixel.png",):
    assert pixels.std() > 5


@pytest.mark.parametrize("name", mixed_folder.UNREADABLE)
def test_others_say_why_not(name, folder):
  with pytest.raises((images.UnreadableImage, FileNotFoundError)) as caught:
    images.decode((folder / name).read_bytes(), (16, 16))
  assert "\n" not in str(caught.value)


def test_turned_photos_are_shown_upright(folder):
  for k in range(1, 9):
    shown = images.decode((folder / f"turned {k}.jpg").read_bytes(), (96, 96))
    upright = np.asarray(mixed_folder.face(k), np.float32)
    assert np.abs(shown - upright).mean() < 4


def test_invert_and_what_follows_name_all_that_is_left_out(
  folder, tmp_path, capsys
):
  out = tmp_path / "inverted"
  argv = ["invert", str(folder), "--demo", "--out", str(out), "--json"]
  assert cli.main(argv) == 1
  told = json.loads(capsys.readouterr().out)
  assert stems(told["failed"]) == stems(mixed_folder.UNREADABLE)
  kept = {path.stem for path in sources.FolderSource(folder).paths}
  kept -= stems(mixed_folder.UNREADABLE)
  assert {path.stem for path in out.glob("*.png")} == kept
  for path in out.glob("*.png"):
    assert Image.open(path).size == (64, 64)
  argv = ["evaluate", str(out), str(folder), "--size", "64", "64", "--json"]
  assert cli.main(argv) == 1
  found = json.loads(capsys.readouterr().out)
  assert found["images"] == len(kept)
  assert stems(found["failed"]) == stems(mixed_folder.UNREADABLE)


def test_data_sets_leave_out_what_is_no_picture(folder, tmp_path, capsys):
  out = str(tmp_path / "set")
  argv = ["data", "build", str(folder), "--size", "16", "--out", out, "--json"]
  assert cli.main([*argv, "--max_megapixels", "200"]) == 0
  manifest = json.loads(capsys.readouterr().out)
  names = [reject["name"] for reject in manifest["rejects"]]
  assert stems(names) == stems(mixed_folder.UNREADABLE)
  sheet = tmp_path / "sheet.png"
  assert cli.main(["data", "info", str(folder), "--sheet", str(sheet)]) == 0
  assert "not on it" in capsys.readouterr().out
  assert Image.open(sheet).size[0] > 500
