"""Checkpoints: what comes back, and what is refused."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from encoder4editing_jax.config import Config, ConfigError, Run
from encoder4editing_jax.training import pool
from encoder4editing_jax.training.checkpoint import Checkpoints, save_config
from encoder4editing_jax.training.ranger import ranger
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
  restored = checkpoints.restore(template)
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
  assert checkpoints.config() == CONFIG
  checkpoints.close()
  save_config(CONFIG, tmp_path)
  text = (tmp_path / "config.json").read_text()
  assert Config.from_dict(json.loads(text)) == CONFIG


def test_another_architecture_is_refused(tmp_path):
  checkpoints = saved(tmp_path, state(width=5))
  told = r"does not fit .* \(discriminator/layers/0/bias: \[5\] there, \[6\]"
  with pytest.raises(ConfigError, match=told):
    checkpoints.restore(state(width=6))
  with pytest.raises(ConfigError, match=r"fake_pool/codes: \[2, 2\] there"):
    checkpoints.restore(state(pool_size=4))
  checkpoints.close()


def test_another_type_of_number_is_refused(tmp_path):
  checkpoints = saved(tmp_path, state())
  half = {"norm": {"mean": jnp.zeros(5, jnp.bfloat16)}}
  with pytest.raises(ConfigError, match="statistics/norm/mean"):
    checkpoints.restore(dataclasses.replace(state(), statistics=half))
  checkpoints.close()


def test_a_flipped_bit_is_noticed(tmp_path):
  noise = np.random.default_rng(0).standard_normal(100)  # does not compress
  noise = jnp.asarray(noise, jnp.float32)
  noisy = dataclasses.replace(state(3), statistics={"mean": noise})
  saved(tmp_path, state(2), noisy).close()
  needle, flipped = np.asarray(noise).tobytes()[40:60], 0
  for path in (tmp_path / "checkpoints" / "3" / "statistics").rglob("*"):
    data = bytearray(path.read_bytes()) if path.is_file() else b""
    if (at := data.find(needle)) >= 0:
      data[at] ^= 1
      path.write_bytes(data)
      flipped += 1
  assert flipped
  checkpoints = Checkpoints(tmp_path)
  with pytest.raises(ConfigError, match=r"3 is damaged .* from step 2"):
    checkpoints.restore(noisy)
  checkpoints.close()


def test_a_missing_file_is_told(tmp_path):
  checkpoints = saved(tmp_path, state())
  shutil.rmtree(tmp_path / "checkpoints" / "3" / "statistics")
  with pytest.raises(ConfigError, match=r"3 is damaged .* from the start"):
    checkpoints.restore(state())
  checkpoints.close()
