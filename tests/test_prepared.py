"""Prepared data sets: building, going on, reading, describing."""

import contextlib
import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from test_data import encoded

from encoder4editing_jax import cli
from encoder4editing_jax.data import (
  building,
  checking,
  datasets,
  describing,
  images,
  opening,
  pipeline,
)
from encoder4editing_jax.data.shards import Recipe, write_shard
from encoder4editing_jax.data.sources import DataError, partners_of
from encoder4editing_jax.data.tasks import Task

N, SHARD = 14, 4


@pytest.fixture
def folder(tmp_path):
  """Fourteen pictures of random pixels and sizes, in sub-folders."""
  random = np.random.default_rng(0)
  root = tmp_path / "images"
  for i in range(N):
    path = root / f"part{i % 2}" / f"{i:02d}.{('png', 'jpg')[i % 2]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = random.integers(0, 256, (20 + i, 25, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
  return root


@pytest.fixture
def pairs_of(tmp_path):
  """Ten pictures of even colours, and maps of four classes, twice as large."""
  random = np.random.default_rng(0)
  for i in range(10):
    ids = random.integers(0, 4, (16, 16), dtype=np.uint8)
    picture = Image.new("RGB", (8, 8), (20 * i,) * 3)
    for name, image in (("x", picture), ("ids", Image.fromarray(ids))):
      (tmp_path / name).mkdir(exist_ok=True)
      image.save(tmp_path / name / f"{i}.png")
  return tmp_path / "x", tmp_path / "ids"


def build(folder, out, **options):
  settings = {"size": (16, 12), "shard": SHARD} | options
  names = {"workers", "read_timeout", "strict"} & set(settings)
  rest = {name: settings.pop(name) for name in names}
  recipe = Recipe(str(folder), **settings)
  return building.build(recipe, out, say=lambda text: None, **rest)


def content(folder):
  return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def shards(folder):
  return {k: v for k, v in content(folder).items() if "array_record" in k}


def batches(place, steps, **options):
  settings = {"size": (16, 12), "batch_size": 4, "seed": 3} | options
  stream = pipeline.train_batches(opening.open_source(str(place)), **settings)
  return [next(stream)["image"] for _ in range(steps)]


def test_batches_are_those_of_the_folder(folder, tmp_path):
  build(folder, tmp_path / "out")
  whole = batches(folder, 9)
  np.testing.assert_array_equal(whole, batches(tmp_path / "out", 9))
  many = batches(tmp_path / "out", 9, workers=4)
  np.testing.assert_array_equal(whole, many)
  restarted = batches(tmp_path / "out", 2, first_step=7)
  np.testing.assert_array_equal(whole[7:], restarted)


def test_tensorflow_datasets_opens_it_without_tensorflow(folder, tmp_path):
  build(folder, tmp_path / "out")
  builder = tfds.builder_from_directory(str(tmp_path / "out"))
  assert builder.info.splits["train"].num_examples == N
  assert builder.info.features["image"].shape == (16, 12, 3)
  found = list(builder.as_data_source("train"))
  names = sorted(p.relative_to(folder) for p in folder.rglob("*.*"))
  for example, name in zip(found, names, strict=True):
    assert example["name"].decode() == name.as_posix()
    wanted = images.decode((folder / name).read_bytes(), (16, 12))
    np.testing.assert_array_equal(example["image"], wanted)
  assert "tensorflow" not in sys.modules


def test_any_number_of_processes_makes_the_same_bytes(pairs_of, tmp_path):
  x, ids = pairs_of
  options = {"source": str(ids), "labels": 4}
  build(x, tmp_path / "one", **options)
  build(x, tmp_path / "two", workers=2, **options)
  assert content(tmp_path / "one") == content(tmp_path / "two")
  assert not list(tmp_path.glob("*.unfinished"))


def test_a_build_that_was_cut_off_goes_on(folder, tmp_path, monkeypatch):
  made = []

  def cut_off(recipe, files, path, timeout):
    if len(made) == 2:
      raise KeyboardInterrupt
    made.append(path.name)
    return write_shard(recipe, files, path, timeout)

  build(folder, tmp_path / "whole")
  monkeypatch.setattr(building, "write_shard", cut_off)
  with pytest.raises(KeyboardInterrupt):
    build(folder, tmp_path / "out")
  assert not (tmp_path / "out").exists()
  with pytest.raises(DataError, match="is not finished"):
    opening.open_source(str(tmp_path / "out"))
  (tmp_path / "out.unfinished/work/.00002.77.part.array_record").touch()
  made.clear()
  build(folder, tmp_path / "out")
  assert made == ["00002.array_record", "00003.array_record"]
  assert content(tmp_path / "whole") == content(tmp_path / "out")


def test_the_end_of_a_build_may_be_cut_off_anywhere(
  folder, tmp_path, monkeypatch
):
  build(folder, tmp_path / "whole")
  for step in ("_write_metadata", "_sync", "os.replace", "shutil.rmtree"):
    out = tmp_path / step
    with monkeypatch.context() as patch:

      def stop(*_, **__):
        raise KeyboardInterrupt

      patch.setattr(f"encoder4editing_jax.data.finishing.{step}", stop)
      with pytest.raises(KeyboardInterrupt):
        build(folder, out)
    build(folder, out)
    assert content(tmp_path / "whole") == content(out)
    assert not Path(f"{out}.unfinished").exists()


@pytest.mark.slow
def test_a_killed_build_goes_on(folder, tmp_path):
  """SIGKILL at several moments, with processes; nothing half is ever taken."""
  words = ["data", "build", str(folder), "--out", str(tmp_path / "out")]
  words += ["--size", "512", "--shard", "1", "--workers", "2"]
  code = f"from encoder4editing_jax import cli; cli.main({words!r})"
  for delay in np.linspace(0.5, 4, 8):
    process = subprocess.Popen([sys.executable, "-c", code])
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
  assert cli.main(words) == 0
  assert cli.main([*words[:3], "--out", str(tmp_path / "b"), *words[5:]]) == 0
  assert content(tmp_path / "out") == content(tmp_path / "b")


def begun(folder, out, monkeypatch):
  with monkeypatch.context() as patch:
    patch.setattr(building, "finish", lambda *_: {"images": 0, "inputs": 0})
    build(folder, out)


@pytest.mark.parametrize("complete", [False, True])
def test_other_arguments_are_refused(folder, tmp_path, monkeypatch, complete):
  out = tmp_path / "out"
  build(folder, out) if complete else begun(folder, out, monkeypatch)
  with pytest.raises(DataError, match=r"size was \[16, 12\] and is \[8, 8\]"):
    build(folder, out, size=(8, 8))
  with pytest.raises(DataError, match="format was png and is jpeg"):
    build(folder, out, format="jpeg")
  assert build(folder, out)["images"] == N


@pytest.mark.parametrize("complete", [False, True])
def test_other_inputs_are_refused(folder, tmp_path, monkeypatch, complete):
  out = tmp_path / "out"
  build(folder, out) if complete else begun(folder, out, monkeypatch)
  os.utime(folder / "part0" / "00.png", (1, 1))
  match = "gone or changed" if complete else r"part0/00\.png is not as it was"
  with pytest.raises(DataError, match=match):
    build(folder, out)
  (folder / "part0" / "00.png").unlink()
  with pytest.raises(DataError, match=match):
    build(folder, out)


def test_no_other_directory_is_touched(folder, tmp_path):
  (tmp_path / "out").mkdir()
  build(folder, tmp_path / "out")  # empty: taken
  with pytest.raises(DataError, match="is no prepared data set"):
    build(folder, folder)


def test_two_processes_do_not_share_a_build(folder, tmp_path):
  (tmp_path / "out.unfinished").mkdir()
  work = tmp_path / "out.unfinished" / "work"
  with (
    building._alone(work, tmp_path / "out"),
    pytest.raises(DataError, match="built by another process"),
  ):
    build(folder, tmp_path / "out")


def test_files_that_cannot_be_used_are_named(folder, tmp_path):
  (folder / "broken.png").write_bytes(b"<html>")
  (folder / "part0" / "00.png").write_bytes(b"")
  manifest = build(folder, tmp_path / "out", shard=1)
  assert manifest["images"] == N - 1 and manifest["inputs"] == N + 1
  reasons = {Path(r["name"]).name: r["reason"] for r in manifest["rejects"]}
  assert reasons["00.png"] == "the file is empty"
  assert reasons["broken.png"].startswith("it is a web page")
  source = opening.open_source(str(tmp_path / "out"))
  assert len(source) == N - 1 and datasets.is_verified(source)
  assert not checking.find_unreadable(source)
  for out in ("strict", "out"):
    with pytest.raises(DataError, match=r"2 of 15 images.*broken\.png: it is"):
      build(folder, tmp_path / out, strict=True, shard=1)
  (tmp_path / "link").symlink_to(folder)
  with pytest.raises(DataError, match="it is a link"):
    build(folder, tmp_path / "link")
  assert not (tmp_path / "strict").exists()
  only = tmp_path / "only"
  only.mkdir()
  (only / "1.png").write_bytes(b"")
  with pytest.raises(DataError, match="name a folder with readable images"):
    build(only, tmp_path / "none")


def test_a_file_that_hangs_ends_a_build_in_time(folder, tmp_path):
  os.mkfifo(folder / "pipe.png")
  with pytest.raises(DataError, match=r"pipe\.png has not been read after 0"):
    build(folder, tmp_path / "out", read_timeout=0.2)


def test_a_file_that_vanishes_ends_a_build(folder, tmp_path, monkeypatch):
  files = building.list_files(Recipe(str(folder)))
  (folder / "part0" / "00.png").unlink()
  with pytest.raises(DataError, match=r"00\.png has vanished"):
    write_shard(Recipe(str(folder)), files, tmp_path / "s.array_record", 9.0)
  assert not list(tmp_path.glob("*array_record*"))


def test_a_full_disk_is_noticed(folder, tmp_path):
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
  try:
    with pytest.raises(OSError, match="make room"):
      build(folder, tmp_path / "out", size=(256, 256))
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  build(folder, tmp_path / "out", size=(256, 256))
  assert len(opening.open_source(str(tmp_path / "out"))) == N


def test_odd_names_are_kept(folder, tmp_path):
  odd = os.fsdecode(b"odd \xff \xc3\xbc.png")
  Image.new("RGB", (20, 20)).save(folder / odd)
  build(folder, tmp_path / "out")
  source = opening.open_source(str(tmp_path / "out"))
  assert odd in source.name(0)


def test_jpeg_is_near_and_smaller(tmp_path):
  y, x = np.mgrid[:64, :64]
  smooth = np.stack([2 * x + y, 255 - 3 * y, x + 2 * y], -1).astype(np.uint8)
  (tmp_path / "in").mkdir()
  Image.fromarray(smooth).save(tmp_path / "in" / "1.png")
  build(tmp_path / "in", tmp_path / "out", size=(64, 64), format="jpeg")
  (data,) = opening.open_source(str(tmp_path / "out"))
  assert data.startswith(b"\xff\xd8")
  difference = images.decode(data, (64, 64)).astype(int) - smooth
  assert np.abs(difference).mean() < 2


def test_plain_decoding_is_kept(tmp_path):
  hidden = np.zeros((4, 4, 4), np.uint8)
  (tmp_path / "in").mkdir()
  Image.fromarray(hidden).save(tmp_path / "in" / "1.png")
  for decode, value in (("shown", 255), ("plain", 0)):
    build(tmp_path / "in", tmp_path / decode, size=(4, 4), decode=decode)
    (data,) = opening.open_source(str(tmp_path / decode))
    assert (images.decode(data, (4, 4)) == value).all()


def test_pairs_with_ids_are_those_of_the_folders(pairs_of, tmp_path):
  x, ids = map(str, pairs_of)
  out = str(tmp_path / "out")
  build(x, out, source=ids, labels=4, size=(8, 8))
  task = Task("segmentation", labels=4)
  both = (opening.open_source(x, ids), opening.open_source(out, out))
  options = {"size": (8, 8), "batch_size": 5, "seed": 1, "task": task}
  streams = [pipeline.train_batches(source, **options) for source in both]
  for _ in range(4):
    folders, prepared = map(next, streams)
    np.testing.assert_array_equal(folders["image"], prepared["image"])
    np.testing.assert_array_equal(folders["source"], prepared["source"])
  assert datasets.is_verified(both[1], 4) and datasets.is_verified(both[1], 9)
  assert not datasets.is_verified(both[1], 3)
  assert not datasets.is_verified(both[0])
  assert partners_of(opening.open_source(out)) is None
  with pytest.raises(DataError, match="build a data set of both"):
    opening.open_source(out, ids)


def test_pairs_that_do_not_fit_are_named(pairs_of, tmp_path):
  x, ids = pairs_of
  (ids / "3.png").write_bytes(encoded(Image.new("L", (16, 8))))
  (ids / "4.png").write_bytes(encoded(Image.new("L", (16, 16), 4)))
  (ids / "5.png").write_bytes(encoded(Image.new("RGB", (16, 16))))
  options = {"source": str(ids), "labels": 4, "size": (8, 8)}
  manifest = build(x, tmp_path / "out", **options)
  reasons = {Path(r["name"]).name: r["reason"] for r in manifest["rejects"]}
  assert set(reasons) == {"3.png", "4.png", "5.png"}
  assert "another shape" in reasons["3.png"]
  assert "it holds class 4, allowed are 0 to 3" in reasons["4.png"]
  assert "its mode is RGB" in reasons["5.png"]
  (ids / "7.png").rename(ids / "seven.png")
  with pytest.raises(DataError, match=r"7\.png.*seven\.png"):
    build(x, tmp_path / "other", **options)


def test_sketches_have_one_channel(pairs_of, tmp_path):
  x, sketches = pairs_of
  out = str(tmp_path / "out")
  build(x, out, source=str(sketches), grey=True, size=(16, 16))
  source = opening.open_source(out, out)
  partners = partners_of(source)
  task = Task("sketch")
  for i in range(10):
    wanted = task.decode((sketches / f"{i}.png").read_bytes(), (16, 16))
    np.testing.assert_array_equal(task.decode(partners[i], (16, 16)), wanted)


def test_a_damaged_data_set_is_noticed(folder, tmp_path):
  out = tmp_path / "out"
  build(folder, out)
  assert describing.describe(str(out), verify=True)["verified"]
  path = sorted(out.glob("*array_record*"))[1]
  data = bytearray(path.read_bytes())
  data[len(data) // 3] ^= 1
  path.write_bytes(data)
  with pytest.raises(DataError, match=r"00001-of-00004 is not what was built"):
    describing.describe(str(out), verify=True)
  path.write_bytes(data[:-1])
  with pytest.raises(DataError, match=r"00001-of-00004 has \d+ bytes"):
    opening.open_source(str(out))
  path.unlink()
  with pytest.raises(DataError, match=r"00001-of-00004 is missing"):
    opening.open_source(str(out))
  (out / "manifest.json").write_text("{")
  with pytest.raises(DataError, match=r"manifest\.json is damaged"):
    opening.open_source(str(out))


class Foreign(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A data set of the usual kind, with more than pictures in it."""

  VERSION = tfds.core.Version("1.0.0")
  NAMES = ("photo", "mask")

  def _info(self):
    image = tfds.features.Image
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {name: image() for name in self.NAMES}
        | {
          "label": tfds.features.ClassLabel(num_classes=3),
          "boxes": tfds.features.Sequence({"box": tfds.features.BBoxFeature()}),
        }
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    return {
      "test": self._generate_examples(3),
      "training": self._generate_examples(7),
    }

  def _generate_examples(self, n):
    for i in range(n):
      files = {name: self.file(name, i) for name in self.NAMES}
      yield i, files | {"label": i % 3, "boxes": []}

  def file(self, name, i):
    colour = (10 * i, 0, len(name))
    path = Path(self.data_dir).parent / f"{name}{i}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)
    return str(path)


def test_other_data_sets_are_read(tmp_path):
  builder = Foreign(data_dir=str(tmp_path / "made"), file_format="array_record")
  builder.download_and_prepare()
  place = str(builder.data_dir)
  with pytest.raises(DataError, match=r"test, training; .*data\.split"):
    opening.open_source(place, feature="photo")
  with pytest.raises(DataError, match=r"photo.*choose one by data\.feature"):
    opening.open_source(place, split="test")
  with pytest.raises(DataError, match="no image feature label"):
    opening.open_source(place, split="test", feature="label")
  with pytest.raises(DataError, match="split night cannot be opened"):
    opening.open_source(place, split="night", feature="photo")
  part = opening.open_source(place, split="training[2:]", feature="photo")
  found = [images.decode(part[i], (8, 8))[0, 0, 0] for i in range(len(part))]
  assert found == [20, 30, 40, 50, 60]
  assert "training[2:][0]" in part.name(0)
  assert not datasets.is_verified(part)
  assert not checking.find_unreadable(part)
  described = describing.describe(place)
  assert described["images"] == {"test": 3, "training": 7}
  info = Path(place, "dataset_info.json")
  info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
  with pytest.raises(DataError, match="stored as tfrecord"):
    opening.open_source(place, split="test", feature="photo")


def test_folders_have_no_splits(folder):
  with pytest.raises(DataError, match="split train is asked for"):
    opening.open_source(str(folder), split="train")


def test_the_commands(pairs_of, tmp_path, capsys):
  x, ids = map(str, pairs_of)
  Path(x, "3.png").write_bytes(b"")
  out, sheet = str(tmp_path / "out"), tmp_path / "sheet.png"
  words = ["data", "build", x, "--source", ids, "--labels", "4"]
  words += ["--size", "8", "16", "--out", out]
  assert cli.main(words) == 0
  told = capsys.readouterr().out
  assert "9 images of 10 files" in told and "3.png: the file is empty" in told
  assert cli.main([*words, "--json"]) == 0
  assert json.loads(capsys.readouterr().out)["images"] == 9
  assert cli.main(["data", "info", out, "--sheet", str(sheet), "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["images"] == {"train": 9} and len(found["rejects"]) == 1
  assert found["features"] == {"image": [8, 16, 3], "source": [8, 16, 1]}
  assert Image.open(sheet).size == (3 * 32, 3 * 8)
  assert cli.main(["data", "info", out, "--verify"]) == 0
  assert "3.png: the file is empty" in capsys.readouterr().out
  assert cli.main(["data", "info", ids]) == 0
  assert "folder" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ([], "build, info"),
    (["biuld"], "did you mean build?"),
    (["info", "nowhere"], "nowhere does not exist"),
    (["build", "nowhere", "--out", "o"], "nowhere does not exist"),
    (["build", "x"], "--out"),
    (["build", "x", "--out", "o", "--size", "1", "2", "3"], "--size is 1 2 3"),
    (["build", "x", "--out", "o", "--labels", "3"], "name its folder too"),
    (["build", "x", "--out", "o", "--quality", "0"], "--quality is 0"),
    (["build", "x", "--out", "o", "--workers", "0"], "--workers is 0"),
  ],
)
def test_mistakes_end_with_one_line(words, message, capsys):
  assert cli.main(["data", *words]) == 2
  error = capsys.readouterr().err
  assert len(error.splitlines()) == 1 and message in error
  assert not Path("o.unfinished").exists()


def test_a_recipe_names_everything_that_a_flag_may_change():
  """What is no part of the recipe does not change the content."""
  from encoder4editing_jax.cli.data import BuildArguments

  flags = {field.name for field in dataclasses.fields(BuildArguments)}
  recipe = {field.name for field in dataclasses.fields(Recipe)}
  apart = {"out", "workers", "read_timeout", "strict", "json"}
  assert flags - recipe == apart and not recipe - flags


def test_a_moved_data_set_is_still_one(folder, tmp_path):
  build(folder, tmp_path / "out")
  shutil.move(tmp_path / "out", tmp_path / "elsewhere")
  assert len(opening.open_source(str(tmp_path / "elsewhere"))) == N


@pytest.mark.parametrize("moment", ["mkdir", "open"])
def test_a_build_that_begins_as_another_ends_says_so(
  moment, tmp_path, monkeypatch
):
  """The other one removes the folder in between."""
  folder, out = tmp_path / "images", tmp_path / "out"
  folder.mkdir()
  Image.new("RGB", (8, 8)).save(folder / "a.png")
  real = getattr(Path, moment)

  def gone(self, *rest, **options):
    found = real(self, *rest, **options)
    if self.name == {"mkdir": "work", "open": "lock"}[moment]:
      shutil.rmtree(f"{out}.unfinished")
    return found

  monkeypatch.setattr(Path, moment, gone)
  with pytest.raises(DataError, match="being built by another process"):
    building.build(Recipe(str(folder), size=(8, 8)), out)


def test_what_another_process_has_made_meanwhile_is_taken(
  folder, tmp_path, monkeypatch
):
  """It ends, and lets go of its folder, after this one has looked."""
  out, alone = tmp_path / "out", building._alone

  @contextlib.contextmanager
  def late(work, out):
    monkeypatch.setattr(building, "_alone", alone)
    build(folder, out)
    with alone(work, out):
      yield

  monkeypatch.setattr(building, "_alone", late)
  manifest = build(folder, out)
  assert manifest == json.loads((out / "manifest.json").read_text())
  assert not out.with_name("out.unfinished").exists()
