"""Checkpoints: what comes back, and what is refused."""

import contextlib
import dataclasses
import json
import os
import resource
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from encoder4editing_jax.config import Config, ConfigError, Run
from encoder4editing_jax.training import pool
from encoder4editing_jax.training.checkpoint import (
  FOLDER,
  Checkpoints,
  Damaged,
  NotSaved,
  save_config,
)
from encoder4editing_jax.training.lock import only_run
from encoder4editing_jax.training.ranger import ranger
from encoder4editing_jax.training.resuming import check_room, from_newest
from encoder4editing_jax.training.state import TrainState

CONFIG = Config(run=Run(steps=7, batch_size=4))


def state(step=3, width=5, pool_size=2, averaged=False):
  ramp = jnp.arange(width, dtype=jnp.float32) + step
  encoder = {"body": {0: {"kernel": ramp}, 1: {"kernel": ramp + 1}}}
  return TrainState(
    step=jnp.int32(step),
    encoder=encoder,
    statistics={"norm": {"mean": ramp * 2}},
    optimizer=ranger(1e-3).init(encoder),
    discriminator={"layers": {0: {"bias": ramp * 3}}},
    discriminator_optimizer=({"count": jnp.int32(9)},),
    real_pool=pool.Pool(jnp.ones((pool_size, 2)) * step, jnp.int32(1)),
    fake_pool=pool.empty(pool_size, 2),
    skipped=jnp.int32(1),
    key=jax.random.key(11),
    average={"encoder": {"body": ramp * 4}} if averaged else {},
  )


def plain(state):
  key = jax.random.key_data(state.key)
  return jax.device_get(dataclasses.replace(state, key=key))


def saved(folder, *states, keep=2):
  checkpoints = Checkpoints(folder, keep)
  for one in states:
    checkpoints.save(one, CONFIG)
  checkpoints.wait()
  checkpoints.close()
  return Checkpoints(folder, keep)


@pytest.mark.parametrize("pool_size", [2, 0])
@pytest.mark.parametrize("averaged", [True, False])
def test_everything_comes_back_to_the_bit(tmp_path, pool_size, averaged):
  written = state(pool_size=pool_size, averaged=averaged)
  checkpoints = saved(tmp_path, written)
  assert checkpoints.latest_step() == 3
  template = jax.tree.map(
    jnp.zeros_like, plain(state(0, 5, pool_size, averaged))
  )
  template = dataclasses.replace(template, key=jax.random.key(0))
  restored = checkpoints.restore(3, template)
  assert jax.tree.structure(restored) == jax.tree.structure(written)
  jax.tree.map(np.testing.assert_array_equal, plain(restored), plain(written))
  draw = jax.random.normal
  assert draw(restored.key) == draw(written.key)
  checkpoints.close()


def test_the_newest_are_kept(tmp_path):
  checkpoints = saved(tmp_path, *(state(i) for i in (1, 2, 5)))
  assert checkpoints.latest_step() == 5
  found = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
  assert found == ["2", "5"]
  checkpoints.close()


def test_the_config_is_inside_and_beside(tmp_path):
  checkpoints = saved(tmp_path, state())
  assert checkpoints.config(3) == CONFIG
  checkpoints.close()
  save_config(CONFIG, tmp_path)
  text = (tmp_path / "config.json").read_text()
  assert Config.from_dict(json.loads(text)) == CONFIG


def test_another_architecture_is_refused(tmp_path):
  checkpoints = saved(tmp_path, state(width=5))
  told = r"does not fit .* \(discriminator/layers/0/bias: \[5\] there, \[6\]"
  with pytest.raises(ConfigError, match=told):
    checkpoints.restore(3, state(width=6))
  with pytest.raises(ConfigError, match=r"fake_pool/codes: \[2, 2\] there"):
    checkpoints.restore(3, state(pool_size=4))
  checkpoints.close()


def test_another_type_of_number_is_refused(tmp_path):
  checkpoints = saved(tmp_path, state())
  half = {"norm": {"mean": jnp.zeros(5, jnp.bfloat16)}}
  with pytest.raises(ConfigError, match="statistics/norm/mean"):
    checkpoints.restore(3, dataclasses.replace(state(), statistics=half))
  checkpoints.close()


# Faults.


def noisy(step, seed=0):
  """A state whose numbers do not compress."""
  noise = np.random.default_rng([step, seed]).standard_normal(100)
  noise = jnp.asarray(noise, jnp.float32)
  return dataclasses.replace(state(step), statistics={"mean": noise})


def large(step):
  """A state with numbers enough that most bytes of its files are theirs."""
  noise = np.random.default_rng(step).standard_normal(3000)
  statistics = {"mean": jnp.asarray(noise, jnp.float32)}
  return dataclasses.replace(state(step), statistics=statistics)


@contextlib.contextmanager
def holding(path, content):
  """A file that holds something else, or is gone (None); then mended."""
  kept = path.read_bytes()
  path.unlink() if content is None else path.write_bytes(content)
  yield
  path.write_bytes(kept)


def is_noticed(checkpoints, what):
  """Whether a fault is; if not, every bit is to be what was saved."""
  try:
    found = plain(checkpoints.restore(3, large(0)))
  except Damaged:
    return True
  for x, y in zip(*map(jax.tree.leaves, (found, plain(large(3)))), strict=True):
    np.testing.assert_array_equal(x, y, err_msg=what)
  return False


def flipped(data, random):
  position = random.integers(len(data))
  changed = bytes([data[position] ^ 1 << int(random.integers(8))])
  return data[:position] + changed + data[position + 1 :]


def test_a_hundred_faults_of_a_hundred_are_noticed(tmp_path):
  """Missing files, files cut off, flipped bits.

  Orbax writes files that it never reads. A fault in these is none of the
  hundred, and does no harm.
  """
  checkpoints = saved(tmp_path, large(3))
  folder, random = tmp_path / FOLDER / "3", np.random.default_rng(0)
  read = []
  for path in sorted(p for p in folder.rglob("*") if p.is_file()):
    with holding(path, None):
      if is_noticed(checkpoints, f"{path} is gone"):
        read.append(path)
  items = {p.name for p in folder.iterdir() if p.is_dir()}
  assert {p.relative_to(folder).parts[0] for p in read} == items
  missed = []
  for i in range(100 - len(read)):
    path = read[random.integers(len(read))]
    data, kind = path.read_bytes(), ("flip", "cut")[i % 2]
    cut = data[: random.integers(len(data))]
    with holding(path, cut if kind == "cut" else flipped(data, random)):
      if not is_noticed(checkpoints, f"{kind} {path}"):
        missed.append(f"{kind} {path}")
  assert not missed
  assert not is_noticed(checkpoints, "mended")
  checkpoints.close()


def test_a_damaged_step_is_set_aside_and_saved_again(tmp_path, capsys):
  checkpoints = saved(tmp_path, noisy(2), noisy(3))
  shutil.rmtree(tmp_path / FOLDER / "3" / "statistics")
  found = from_newest(CONFIG, noisy(0), checkpoints)
  assert int(found.step) == 2
  captured = capsys.readouterr()
  assert "3 is damaged (" in captured.err and "damaged-3" in captured.err
  assert "continuing from the checkpoint of step 2" in captured.out
  checkpoints.save(noisy(3), CONFIG)
  checkpoints.wait()
  assert int(from_newest(CONFIG, noisy(0), checkpoints).step) == 3
  checkpoints.close()


def test_without_a_whole_one_nothing_begins_anew(tmp_path):
  checkpoints = saved(tmp_path, state(3))
  shutil.rmtree(tmp_path / FOLDER / "3" / "statistics")
  with pytest.raises(ConfigError, match=r"no checkpoint .* is whole"):
    from_newest(CONFIG, state(), checkpoints)
  assert (tmp_path / FOLDER / "3").is_dir()
  checkpoints.close()


def test_the_best_are_kept_besides_the_newest(tmp_path):
  checkpoints = Checkpoints(tmp_path, keep=2, keep_best=2)
  scores = {1: 5.0, 2: 1.0, 3: 4.0, 4: None, 5: 9.0, 6: 8.0}
  for step, score in scores.items():
    checkpoints.save(state(step), CONFIG, score)
  checkpoints.wait()
  assert checkpoints.steps() == [6, 5, 3, 2]
  checkpoints.close()


def test_a_score_that_is_no_number_is_never_among_the_best(tmp_path):
  checkpoints = Checkpoints(tmp_path, keep=1, keep_best=2)
  scores = {1: 1.0, 2: np.nan, 3: 4.0, 4: 2.0, 5: -np.inf, 6: None}
  for step, score in scores.items():
    checkpoints.save(state(step), CONFIG, score)
  checkpoints.wait()
  assert checkpoints.steps() == [6, 4, 1]
  checkpoints.close()


def test_half_a_save_is_never_chosen_and_goes_at_the_next_start(tmp_path):
  """As a kill leaves it; who only reads changes nothing."""
  saved(tmp_path, noisy(3)).close()
  left = tmp_path / FOLDER / "5.orbax-checkpoint-tmp"
  shutil.copytree(tmp_path / FOLDER / "3", left)
  reader = Checkpoints(tmp_path, read_only=True)
  assert reader.steps() == [3] and left.is_dir()
  reader.close()
  checkpoints = Checkpoints(tmp_path)
  assert checkpoints.steps() == [3] and not left.exists()
  assert int(from_newest(CONFIG, noisy(0), checkpoints).step) == 3
  checkpoints.close()


@pytest.fixture
def full_disk():
  """A function after which files take no more than some bytes."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)

  def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

  yield limit
  resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, full_disk, capsys):
  checkpoints = saved(tmp_path, noisy(1))
  full_disk(300)
  checkpoints.save(noisy(2), CONFIG)
  checkpoints.wait()
  assert "no checkpoint could be written" in capsys.readouterr().err
  full_disk(resource.RLIM_INFINITY)
  assert [p.name for p in (tmp_path / FOLDER).iterdir()] == ["1"]
  checkpoints.save(noisy(3), CONFIG)
  checkpoints.wait()
  assert checkpoints.steps() == [3, 1]
  assert int(from_newest(CONFIG, noisy(0), checkpoints).step) == 3
  checkpoints.close()


def test_a_disk_that_stays_full_ends_the_run(tmp_path, full_disk):
  checkpoints = saved(tmp_path, noisy(1))
  full_disk(300)
  with pytest.raises(NotSaved, match=r"3 times in a row.*goes on from step 1"):
    for step in range(2, 6):
      checkpoints.save(noisy(step), CONFIG)
      checkpoints.wait()
  assert step == 4
  full_disk(resource.RLIM_INFINITY)
  assert checkpoints.steps() == [1]
  checkpoints.close()


def test_a_disk_without_room_is_refused(tmp_path, monkeypatch):
  checkpoints = Checkpoints(tmp_path)
  check_room(state(), checkpoints)
  room = shutil.disk_usage(tmp_path)._replace(free=100)
  monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
  with pytest.raises(ConfigError, match=r"0.00 GB free.*; make room"):
    check_room(state(), checkpoints)
  checkpoints.close()


# One run per folder.


def test_a_second_run_in_a_folder_is_refused(tmp_path):
  with only_run(tmp_path):
    told = rf"another run is at work there \(process {os.getpid()} on"
    with pytest.raises(ConfigError, match=told), only_run(tmp_path):
      pass
  with only_run(tmp_path):
    pass


def test_a_killed_run_lets_go_of_its_folder(tmp_path):
  code = (
    "import pathlib, sys, time\n"
    "from encoder4editing_jax.training.lock import only_run\n"
    f"with only_run(pathlib.Path({str(tmp_path)!r})):\n"
    "  print('held', flush=True); time.sleep(600)\n"
  )
  with subprocess.Popen(
    [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
  ) as other:
    assert other.stdout.readline() == "held\n"
    told = f"process {other.pid} on"
    with pytest.raises(ConfigError, match=told), only_run(tmp_path):
      pass
    other.kill()
  with only_run(tmp_path):
    pass
