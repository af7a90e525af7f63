"""`e4e evaluate` on small folders, and with the drawn faces."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from encoder4editing_jax import cli, evaluating

RNG = np.random.default_rng(0)


def save(path, pixels):
  path.parent.mkdir(exist_ok=True)
  Image.fromarray(pixels).save(path)


@pytest.fixture
def folders(tmp_path):
  ours, theirs = tmp_path / "ours", tmp_path / "theirs"
  for k in range(5):
    pixels = RNG.integers(0, 256, (33, 37, 3), dtype=np.uint8)
    save(theirs / f"p{k}.png", pixels)
    save(ours / f"p{k}.png", pixels if k == 0 else np.roll(pixels, k, 0))
  return ours, theirs


def run(capsys, *words):
  status = cli.main(["evaluate", *map(str, words), "--json"])
  captured = capsys.readouterr()
  return status, json.loads(captured.out or "{}"), captured.err


def test_numbers_are_those_of_each_picture(folders, tmp_path, capsys):
  ours, theirs = folders
  out = tmp_path / "numbers"
  status, found, _ = run(capsys, ours, theirs, "--batch", 2, "--out", out)
  assert (status, found["images"], found["size"]) == (0, 5, [33, 37])
  assert json.loads((out / "metrics.json").read_text()) == found
  rows = list(csv.DictReader((out / "per_image.csv").open()))
  assert [row["name"] for row in rows] == [f"p{k}" for k in range(5)]
  a, b = (np.float64(np.asarray(Image.open(f / "p3.png"))) for f in folders)
  error = np.square(a - b).mean() / 255**2
  assert float(rows[3]["l2_0to1_33x37"]) == pytest.approx(error, rel=1e-5)
  assert float(rows[3]["l2_minus1to1_33x37"]) == pytest.approx(4 * error, 1e-5)
  psnr = float(rows[3]["psnr_33x37"])
  assert psnr == pytest.approx(-10 * np.log10(error), abs=1e-4)
  assert rows[0]["psnr_33x37"] == "inf"
  assert float(rows[0]["ssim_0to1_33x37"]) == pytest.approx(1, abs=1e-6)
  assert found["metrics"]["psnr_33x37"]["mean"] == "inf"
  status, _, error = run(capsys, ours, theirs, "--out", out)
  assert status == 2 and "there already" in error


def test_what_does_not_fit_is_named_and_the_rest_is_done(folders, capsys):
  ours, theirs = folders
  (ours / "p0.png").write_bytes(b"")
  (ours / "p1.png").rename(ours / "q.png")
  status, found, error = run(capsys, ours, theirs)
  assert (status, found["images"], len(found["failed"])) == (1, 3, 3)
  for name in ("ours/p0.png", "ours/q.png", "theirs/p1.png"):
    assert name in error


def test_sizes_are_refused_or_resized(folders, capsys):
  ours, theirs = folders
  save(ours / "p2.png", RNG.integers(0, 256, (9, 50), dtype=np.uint8))  # grey
  status, _, error = run(capsys, ours, theirs)
  assert status == 2 and "p2.png 9 x 50" in error and "--size" in error
  status, found, _ = run(capsys, ours, theirs, "--size", 16, 20)
  assert (status, found["images"], found["resized"]) == (0, 5, True)
  one = (ours / "p1.png", theirs / "p1.png")
  assert run(capsys, *one, "--metrics", "l2")[1]["images"] == 1


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["--metrics", "lpips"], "name the folder of networks with --weights"),
    (
      ["--metrics", "fid", "--weights", "."],
      "inception_fid.safetensors is not",
    ),
    (["--metrics", "ms_ssim"], "161 x 161"),
    (["--metrics", "mse"], "no metric 'mse'"),
    (["--metrics", "lec"], "needs --model"),
    (["--truncate"], "needs --model"),
    (["--size", "3"], "height and width"),
    (["--fid_targets", "x.npz"], "x.npz is not there"),
  ],
)
def test_mistakes_are_told_in_a_line(words, message, folders, tmp_path, capsys):
  out = tmp_path / "none"
  status, _, error = run(capsys, *folders, *words, "--out", out)
  assert status == 2 and message in error and error.count("\n") == 1
  assert not out.exists()


def test_nothing_to_pair_is_an_error(folders, tmp_path, capsys):
  (tmp_path / "empty").mkdir()
  save(tmp_path / "other" / "x.png", np.zeros((4, 4), np.uint8))
  for other, message in (("empty", "no images"), ("other", "has the name of")):
    status, _, error = run(capsys, folders[0], tmp_path / other)
    assert status == 2 and message in error


def test_twins_are_refused():
  with pytest.raises(ValueError, match="have the same name"):
    evaluating.paired(["a.png", "a.jpg"], ["a.png"])


def test_the_installed_command(folders):
  code = (
    "import sys; from encoder4editing_jax.cli import main; sys.exit(main())"
  )
  done = subprocess.run(
    [sys.executable, "-c", code, "evaluate", *folders, "--metrics", "l2"],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert "5 pictures, 0 files left out" in done.stdout


@pytest.mark.slow
def test_the_demo_with_lec(capsys):
  words = ("--demo", "--metrics", "psnr,lec")
  status, found, _ = run(capsys, *words, "--truncate")
  assert status == 0 and found["bytes"] == "truncated"
  assert {"psnr_64x64", "lec", "seconds_per_image"} == set(found["metrics"])
