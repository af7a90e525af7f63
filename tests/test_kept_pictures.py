"""Pictures of evaluations as files, and what is written above them."""

import numpy as np
from PIL import Image

from encoder4editing_jax.training.evaluation import caption
from encoder4editing_jax.training.pictures import grid, keep


def test_pictures_are_few(tmp_path):
  sheet = Image.new("RGB", (4, 4))
  for step in (10, 20, 100, 30, 40):
    keep(tmp_path / "p", step, sheet, newest=2, best=20)
  (tmp_path / "p" / "mine.jpg").touch()
  keep(tmp_path / "p", 200, sheet, newest=2, best=20)
  names = {p.name for p in (tmp_path / "p").iterdir()}
  assert names == {"20.jpg", "40.jpg", "200.jpg", "mine.jpg"}
  keep(tmp_path / "none", 1, sheet, newest=0)
  assert not (tmp_path / "none").exists()


def test_pictures_of_a_course_that_was_left_go(tmp_path):
  """A run that is taken up before them comes to other pictures."""
  sheet = Image.new("RGB", (4, 4))
  for step in (10, 20, 30, 40):
    keep(tmp_path, step, sheet, newest=3, best=40)
  keep(tmp_path, 15, sheet, newest=3, best=40)
  names = {p.name for p in tmp_path.iterdir()}
  assert names == {"10.jpg", "15.jpg", "40.jpg"}


def test_captions_tell_what_was_measured():
  assert caption({"psnr": 20.04}) == "PSNR 20.0 dB"
  numbers = {"psnr": 20.0, "lpips": 0.1234, "identity": 0.25}
  assert caption(numbers) == "PSNR 20.0 dB, LPIPS 0.123, similarity 0.75"


def test_captions_take_room_above_their_rows():
  columns = {"a": np.zeros((2, 8, 8, 3)), "b": np.ones((2, 8, 8, 3))}
  plain, told = grid(columns), grid(columns, ["one", "two"])
  assert told.width == plain.width and told.height > plain.height
  assert np.asarray(told)[-20, 20].tolist() == [128, 128, 128]
