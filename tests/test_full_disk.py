"""Numbers and pictures of a run whose disk is full."""

import contextlib
import resource

import numpy as np

from encoder4editing_jax import runs
from encoder4editing_jax.training import boards
from encoder4editing_jax.training.logging import Logger


@contextlib.contextmanager
def full_disk():
  """No file may grow over 64 bytes, as on a disk that is full."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_once(tmp_path, capsys):
  class Full:
    def scalars(self, step, values):
      raise OSError(28, "No space left on device")

    def picture(self, step, name, pixels):
      raise OSError(28, "No space left on device")

    def close(self):
      raise OSError(28, "No space left on device")

  log = Logger(
    tmp_path, first_step=0, steps=9, batch_size=1, log_every=1, boards=[Full()]
  )
  for step in (1, 2):
    log.write(step, {"loss": 1.0}, "train")
  log.picture(2, "x", np.zeros((2, 2, 3), np.uint8))
  log.close()
  out = capsys.readouterr().out
  assert out.count("warning") == 1 and "No space left on device" in out


def test_a_disk_that_is_full_for_a_while_costs_what_did_not_fit(
  tmp_path, capsys
):
  log = Logger(
    tmp_path,
    first_step=0,
    steps=9,
    batch_size=1,
    log_every=1,
    boards=[boards.TensorBoard(tmp_path, 0)],
  )
  pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
  log.write(1, {"loss": 1.0}, "train")
  with full_disk():
    for step in range(2, 40):  # more than any queue would hold
      log.write(step, {"loss": 1.0, "l2": 2.0}, "train")
      log.picture(step, "x", pixels)
  log.write(40, {"loss": 40.0}, "train")
  log.close()
  said = capsys.readouterr().out.splitlines()
  assert sorted(line.split()[1] for line in said) == [
    "TensorBoard",
    "metrics.jsonl",
  ]
  kept = runs._entries(tmp_path)
  assert [kept[0]["step"], kept[-1]["step"]] == [1, 40]
  files = sorted((tmp_path / "tensorboard").iterdir())
  assert b"train/loss" in files[0].read_bytes()
  assert b"train/loss" in files[-1].read_bytes()
  assert len(files) == 2  # none for what failed in between
