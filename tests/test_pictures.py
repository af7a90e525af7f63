"""Picture files: names, and opening many of them."""

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoder4editing_jax.data import pictures


@pytest.mark.parametrize(
  ("path", "name"),
  [
    ("a/b.png", "b"),
    ("a/b.c.JPEG", "b.c"),
    ("b.c", "b.c"),
    ("b", "b"),
    ("../b", "b"),
    ("x.png.png", "x.png"),
    (".png", ".png"),
  ],
)
def test_names_lose_the_folder_and_the_ending_of_a_picture(path, name):
  assert pictures.name_of(path) == name


def test_files_that_share_a_name_keep_their_endings():
  paths = ["a/x.jpg", Path("b/x.png"), "y.png", "y.png", "x.jpg.png"]
  names = ["x.jpg", "x.png", "y", "y", "x.jpg"]
  assert pictures.names_of(iter(paths)) == names


def test_batches_are_full_and_name_what_is_left_out(tmp_path):
  paths = []
  for k in range(9):
    paths.append(tmp_path / f"{k}.png")
    Image.fromarray(np.full((4, 4, 3), 10 * k, np.uint8)).save(paths[-1])
  for k in (1, 4, 8):
    paths[k].write_bytes(b"x")
  found = list(pictures.open_batches(paths, (4, 4), 4))
  assert [len(part.names) for part in found] == [4, 2]
  names = [pictures.name_of(name) for part in found for name in part.names]
  assert names == ["0", "2", "3", "5", "6", "7"]
  levels = np.concatenate([part.images[:, 0, 0, 0] for part in found])
  np.testing.assert_allclose(127.5 * (levels + 1), [0, 20, 30, 50, 60, 70])
  failed = [path for part in found for path in part.failed]
  assert failed == [str(paths[k]) for k in (1, 4, 8)]
  (alone,) = pictures.open_batches([paths[1]], (4, 4), 4)
  assert alone.names == () and alone.images.shape == (0, 4, 4, 3)
  assert list(pictures.open_batches([], (4, 4), 4)) == []
  with pytest.raises(ValueError, match="pass 1 or more"):
    next(pictures.open_batches(paths, (4, 4), 0))


def test_a_thread_is_ahead_but_not_far():
  begun, threads = [], set()

  def work(k):
    begun.append(k)
    threads.add(threading.current_thread())
    return 2 * k

  stream = pictures.ahead(work, range(100), 3)
  assert [next(stream) for _ in range(5)] == [0, 2, 4, 6, 8]
  stream.close()
  assert 5 <= len(begun) <= 9 and len(threads) == 1
  assert threading.main_thread() not in threads
  assert list(pictures.ahead(work, range(4), 10)) == [0, 2, 4, 6]


def test_an_error_comes_at_its_place():
  def work(k):
    if k == 2:
      raise RuntimeError("two")
    return k

  stream = pictures.ahead(work, range(5), 4)
  assert [next(stream), next(stream)] == [0, 1]
  with pytest.raises(RuntimeError, match="two"):
    next(stream)
