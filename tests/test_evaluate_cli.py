"""`e4e evaluate` on small folders, and with the drawn faces."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from flax import nnx
from PIL import Image
from random_weights import apply, randomised

from encoder4editing_jax import cli, evaluating, faceworld, inference, weights
from encoder4editing_jax.data import images
from encoder4editing_jax.data.tasks import to_float
from encoder4editing_jax.metrics import fid
from encoder4editing_jax.models.arcface import ArcFace
from encoder4editing_jax.models.inception import Inception
from encoder4editing_jax.models.lpips import LPIPS

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
    (["--fid_targets", "x.npz"], "is for fid"),
    (
      ["--fid_targets", "x.npz", "--metrics", "fid"],
      "x.npz is not there",
    ),
    (["--edit", "smile=1"], "--edit is for lec"),
    (["--legacy_batch", "8"], "--legacy_batch is for lec"),
    (["--iterations", "0"], "1 or more"),
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


def test_the_report_says_which_model_and_which_edit(capsys, monkeypatch):
  columns = {"lec": np.arange(8.0)}
  done = evaluating.Evaluation(tuple("abcdefgh"), columns, {})
  monkeypatch.setattr(evaluating, "evaluate", lambda *_: done)
  words = ("--demo", "--metrics", "lec", "--edit", "age=-2@0-3")
  status, found, _ = run(capsys, *words, "--legacy_batch", 8)
  assert status == 0
  model = found["model"]
  generator = inference.fingerprint(faceworld.load_generator())
  assert model["generator"] == generator != model["encoder"]
  assert model["iterations"] == 1 and len(model["encoder"]) == 64
  assert found["metrics"]["lec"]["mean"] == 3.5
  facts = found["metrics"]["lec"]["protocol"]
  assert (facts["edit"], facts["strength"]) == ("age", -2)
  assert facts["layers"] == [0, 1, 2, 3] and facts["batches"] == 8


@pytest.mark.slow
def test_the_demo_with_lec(capsys):
  words = ("--demo", "--metrics", "psnr,lec", "--edit", "age=-2@0-3")
  status, found, _ = run(capsys, *words, "--truncate")
  assert status == 0 and found["bytes"] == "truncated"
  assert {"psnr_64x64", "lec", "seconds_per_image"} == set(found["metrics"])
  facts = found["metrics"]["lec"]["protocol"]
  assert (facts["edit"], facts["strength"]) == ("age", -2)


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["--legacy_batch", "9"], "as many pictures or more, not 8"),
    (["--edit", "joy=1"], "no direction 'joy'"),
    (["--edit", "smile=1@99"], "99"),
  ],
)
def test_an_edit_that_cannot_be_is_told_before_the_work(
  words, message, capsys, monkeypatch
):
  monkeypatch.setattr(evaluating, "evaluate", None)
  argv = ["--demo", "--metrics", "lec", *words]
  status, _, error = run(capsys, *argv)
  assert status == 2 and message in error


# Networks of recipe weights, by the names that the folder has for them.

NETWORKS = {
  "lpips_alex": lambda rngs: LPIPS("alex", channels=(4, 6, 8, 6, 6), rngs=rngs),
  "curricularface_ir101": lambda rngs: ArcFace(
    10, embedding_dim=6, channels=(4, 4, 8, 8), rngs=rngs
  ),
  "inception_fid": lambda rngs: Inception(16, 75, rngs=rngs),
}


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
  folder = tmp_path_factory.mktemp("networks")
  nets = {}
  for name, make in NETWORKS.items():
    nets[name] = randomised(lambda make=make: make(nnx.Rngs(0)))
    weights.save(nets[name], folder / f"{name}.safetensors")
  return folder, nets


def test_numbers_of_networks_are_those_of_the_networks(
  networks, folders, capsys, tmp_path
):
  folder, nets = networks
  words = (*folders, "--size", 64, 48, "--metrics", "lpips,id,fid")
  argv = (*words, "--weights", folder, "--batch", 2, "--out", tmp_path / "n")
  status, found, error = run(capsys, *argv)
  assert status == 0, error
  x, y = (
    to_float(
      np.stack(
        [
          images.decode((f / f"p{k}.png").read_bytes(), (64, 48))
          for k in range(5)
        ]
      )
    )
    for f in folders
  )
  rows = list(csv.DictReader((tmp_path / "n" / "per_image.csv").open()))
  ours = [float(row["lpips_alex_64x48"]) for row in rows]
  theirs = apply(nets["lpips_alex"], x, y)
  np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-6)
  assert ours[0] == 0 and min(ours[1:]) > 0
  face = nets["curricularface_ir101"]
  a, b = (np.asarray(nnx.jit(ArcFace.embed_portrait)(face, z)) for z in (x, y))
  cosines = (
    (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
  )
  ours = [float(row["id_curricularface_ir101_64x48"]) for row in rows]
  np.testing.assert_allclose(ours, cosines, atol=1e-5)
  a, b = (
    np.asarray(apply(nets["inception_fid"], z), np.float64) for z in (x, y)
  )
  known = [fid.Statistics(z.mean(0), np.cov(z, rowvar=False)) for z in (a, b)]
  metric = found["metrics"]["fid_inception2015_64x48"]
  assert metric["mean"] == pytest.approx(fid.distance(*known), rel=1e-3)
  assert metric["n"] == 5


def test_fid_of_too_few_or_of_other_statistics_is_told_before_the_work(
  networks, folders, capsys, tmp_path
):
  words = ("--metrics", "fid", "--weights", networks[0])
  one = [folder / "p1.png" for folder in folders]
  status, _, error = run(capsys, *one, *words)
  assert status == 2 and "fid needs 2 pictures or more, not 1" in error
  other = tmp_path / "other.npz"
  fid.save_statistics(other, fid.Statistics(np.zeros(3), np.eye(3)))
  status, _, error = run(capsys, *folders, *words, "--fid_targets", other)
  assert status == 2 and "are of 3 features" in error
  np.savez(other, mu=np.full(3, np.nan), sigma=np.eye(3))
  status, _, error = run(capsys, *folders, *words, "--fid_targets", other)
  assert status == 2 and "NaN" in error


@pytest.mark.slow
def test_fid_that_loses_its_pictures_leaves_the_rest(networks, folders, capsys):
  for k in range(1, 5):
    (folders[0] / f"p{k}.png").write_bytes(b"no picture")
  words = ("--metrics", "l2,fid", "--weights", networks[0], "--size", 64, 64)
  status, found, _ = run(capsys, *folders, *words)
  assert status == 1 and found["images"] == 1
  assert found["metrics"]["fid_inception2015_64x64"]["mean"] is None
  assert found["metrics"]["l2_0to1_64x64"]["mean"] == 0
