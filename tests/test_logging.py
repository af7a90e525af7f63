"""Numbers of a run: what is kept, dropped and shown."""

import contextlib
import json
import os
import pty
import re
import termios
import time

import pytest

from encoder4editing_jax.training.logging import Logger


def logger(workdir, first_step=0, log_every=1):
  return contextlib.closing(
    Logger(
      workdir,
      first_step=first_step,
      steps=10,
      batch_size=4,
      log_every=log_every,
    )
  )


def entries(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_a_line_says_how_fast_and_how_long_still(tmp_path, capsys):
  with logger(tmp_path) as log:
    time.sleep(0.1)
    log.step(1, {"loss": 0.5})
  line = capsys.readouterr().out
  rate = float(re.search(r"images_per_second ([\d.]+)", line)[1])
  assert 0 < rate < 40
  left = re.search(r"left (\d+):(\d\d):(\d\d)$", line.strip())
  seconds = sum(
    int(x) * u for x, u in zip(left.groups(), (3600, 60, 1), strict=True)
  )
  assert seconds == pytest.approx(9 * 4 / rate, abs=1)


def test_a_rate_is_of_when_steps_are_given_not_read(tmp_path):
  """The last step is read at once, the others a step late."""
  with logger(tmp_path) as log:
    times = [log.clock() + k for k in range(4)]
    for step, at in enumerate(times[1:], 1):
      log.step(step, {"loss": 0.5}, at)
  rates = [row["train/images_per_second"] for row in entries(tmp_path)]
  assert rates == pytest.approx([4, 4, 4], rel=0.05)


def test_pauses_do_not_count(tmp_path):
  with logger(tmp_path) as log:
    with log.paused():
      time.sleep(1)
    log.step(1, {"loss": 0.5})
  assert entries(tmp_path)[0]["train/images_per_second"] > 8


def test_what_lies_beyond_the_start_or_is_cut_off_is_dropped(tmp_path):
  with logger(tmp_path) as log:
    for step in (1, 2, 3):
      log.write(step, {"loss": float(step)}, "train")
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('3\n"step"\n{"loss": 1}\n{"step": 2, "train/lo')
    file.buffer.write(b"\xff\x00")
  with logger(tmp_path, first_step=2) as log:
    log.write(3, {"loss": 9.0}, "train")
  kept = [(x["step"], x["train/loss"]) for x in entries(tmp_path)]
  assert kept == [(1, 1.0), (2, 2.0), (3, 9.0)]


def test_numbers_that_are_none_are_texts(tmp_path):
  with logger(tmp_path) as log:
    log.write(1, {"loss": float("nan")}, "train")
  assert entries(tmp_path) == [{"step": 1, "train/loss": "nan"}]


def test_a_terminal_gets_a_bar_and_no_lines(tmp_path, capsys, monkeypatch):
  ours, theirs = pty.openpty()
  termios.tcsetwinsize(theirs, (24, 120))
  with open(theirs, "w") as terminal:
    monkeypatch.setattr("sys.stderr", terminal)
    with logger(tmp_path) as log:
      for step in (1, 2, 3):
        time.sleep(0.15)  # the bar is drawn ten times a second at most
        log.step(step, {"loss": 0.5})
      log.say("step 3 evaluated")
  seen = b""
  with contextlib.suppress(OSError):  # the other end is closed
    while part := os.read(ours, 4096):
      seen += part
  os.close(ours)
  bar = seen.decode().split("\r")
  assert any(
    re.search(r"3/10 \[\d\d:\d\d<\d\d:\d\d, .*step/s, loss 0.5 img/s \d", x)
    for x in bar
  ), bar
  assert capsys.readouterr().out.strip() == "step 3 evaluated"


@pytest.mark.parametrize("size", [(0, 0), (0, 120), (24, 0)])
def test_a_terminal_without_a_size_gets_lines(
  tmp_path, capsys, monkeypatch, size
):
  ours, theirs = pty.openpty()
  termios.tcsetwinsize(theirs, size)
  with open(theirs, "w") as terminal:
    monkeypatch.setattr("sys.stderr", terminal)
    with logger(tmp_path) as log:
      log.step(1, {"loss": 0.5})
  os.close(ours)
  assert capsys.readouterr().out.startswith("step 1/10 loss 0.5")
