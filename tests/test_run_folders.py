"""Folders of runs: which are found, and whether one is at work."""

import fcntl
import json
import threading

import pytest

from encoder4editing_jax import cli, runs
from encoder4editing_jax.training import lock


def test_a_run_begins_though_somebody_looks_whether_it_is_at_work(tmp_path):
  with (tmp_path / ".lock").open("w") as file:
    fcntl.flock(file, fcntl.LOCK_SH)
    timer = threading.Timer(0.03, fcntl.flock, (file, fcntl.LOCK_UN))
    timer.start()
    with lock.only_run(tmp_path):
      assert lock.held(tmp_path)
    timer.join()
  assert not lock.held(tmp_path)


def make_run(folder, steps=5, metrics="", best=None):
  folder.mkdir(parents=True)
  (folder / "config.json").write_text(json.dumps({"run": {"steps": steps}}))
  (folder / "metrics.jsonl").write_text(metrics)
  return folder


def test_runs_are_found_below_and_other_folders_passed_over(tmp_path, capsys):
  entry = '{"step": 3, "train/loss": "nan"}\n{"step": 4, "train/lo'
  make_run(tmp_path / "a" / "x", metrics=entry)
  make_run(tmp_path / "b" / "x")
  make_run(tmp_path / "a" / "x" / "checkpoints" / "3")
  other = tmp_path / "c"
  other.mkdir()
  (other / "config.json").write_text('{"hidden_size": 3}')
  assert cli.main(["runs", "list", str(tmp_path)]) == 0
  head, first, second = capsys.readouterr().out.splitlines()
  assert head.startswith("run") and "stopped" in first and "3/5" in first
  assert "nan" in first and "0/5" in second
  found = runs.find_runs([tmp_path])
  assert runs.labels(found) == ["a/x", "b/x"]
  assert runs.labels(found[:1]) == ["x"]
  assert cli.main(["runs", "list", str(other)]) == 2
  assert "is no config of a run" in capsys.readouterr().err
  out = tmp_path / "x.png"
  assert cli.main(["runs", "plot", str(tmp_path / "b"), "--out", str(out)]) == 2
  assert "none of the runs has an entry" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("words", "told"),
  [
    ([], "a command is missing"),
    (["lists"], "did you mean list?"),
    (["list", "nowhere"], "there is no folder nowhere"),
    (["export", "nowhere", "--out", "x"], "nowhere has no checkpoints"),
  ],
)
def test_wrong_words_are_one_line(words, told, capsys):
  assert cli.main(["runs", *words]) == 2
  error = capsys.readouterr().err
  assert told in error and error.count("\n") == 1
