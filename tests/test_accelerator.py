"""An accelerator computes what the CPU beside it does: `pytest -m gpu`.

For any machine with a GPU or TPU; `JAX_PLATFORMS`, if it is set, has to name
the CPU too. Elsewhere these tests are skipped.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from random_weights import randomised
from test_step import CONFIG, assert_same, build, train

from encoder4editing_jax.architectures import with_dtype
from encoder4editing_jax.models.encoders import Encoder4Editing
from encoder4editing_jax.models.stylegan2 import Generator
from encoder4editing_jax.training import parallel
from encoder4editing_jax.training.step import make_train_step

pytestmark = pytest.mark.gpu
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def devices():
  """A CPU and an accelerator."""
  found = jax.devices()[0]
  if found.platform == "cpu":
    pytest.skip("there is no accelerator")
  return jax.devices("cpu")[0], found


def generator(size=256):
  return randomised(lambda: Generator(size, rngs=nnx.Rngs(0)))


def encoder():
  return randomised(lambda: Encoder4Editing(14, rngs=nnx.Rngs(1)))


def drawn(*shape):
  return np.random.RandomState(0).randn(*shape).astype(np.float32)


def on(device, net, function, *arrays):
  """`function(net, *arrays)`, compiled for a device."""
  graph, state = nnx.split(net)
  state, arrays = jax.device_put((state, arrays), device)
  run = jax.jit(lambda state, *rest: function(nnx.merge(graph, state), *rest))
  found = run(state, *arrays)
  assert {d.platform for x in jax.tree.leaves(found) for d in x.devices()} == {
    device.platform
  }
  return jax.device_get(found)


def error(found, expected):
  """The largest relative error of any array."""
  pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
  return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs)


def paint(net, w_plus):
  return net.synthesis(w_plus)


def encode(net, images):
  return net(images)


def pulled(net, w_plus):
  """The gradient of a loss of the picture."""
  return jax.grad(lambda w: (net.synthesis(w) ** 2).mean())(w_plus)


CASES = {
  "synthesis": (generator, paint, (2, 14, 512)),
  "gradient": (generator, pulled, (2, 14, 512)),
  "encoder": (encoder, encode, (2, 256, 256, 3)),
}


@pytest.mark.parametrize("case", CASES)
def test_it_computes_what_a_cpu_does(devices, case):
  make, function, shape = CASES[case]
  cpu, accelerator = (on(d, make(), function, drawn(*shape)) for d in devices)
  assert error(accelerator, cpu) < 1e-4


@pytest.mark.parametrize("case", ["synthesis", "encoder"])
def test_bfloat16_is_near(devices, case):
  make, function, shape = CASES[case]
  _, device = devices
  full = on(device, make(), function, drawn(*shape))
  half = on(device, with_dtype(make(), "bfloat16"), function, drawn(*shape))
  assert 0 < error(half, full) < 0.1


def test_the_largest_picture(devices):
  """1024 pixels: larger blocks have forms of their own on some devices."""
  codes = drawn(1, 18, 512)
  cpu, accelerator = (on(d, generator(1024), paint, codes) for d in devices)
  assert accelerator.shape == (1, 1024, 1024, 3)
  assert error(accelerator, cpu) < 1e-4


def test_steps_of_training_are_the_same(devices):
  networks = build(CONFIG)
  step = make_train_step(CONFIG, networks)
  cpu, accelerator = (
    train(parallel.pmap_step(step, [device]), networks, [device])
    for device in devices
  )
  assert_same(accelerator, cpu)


@pytest.mark.usefixtures("devices")
def test_a_run_learns(tmp_path):
  """The toy card by the command, stopped and continued."""
  command = [sys.executable, "train.py", "--config", "configs/toy.py"]
  command += ["--workdir", str(tmp_path), "--run.save_every", "20"]
  command += ["--run.log_every", "1"]
  for steps in ("20", "60"):
    subprocess.run(
      [*command, "--run.steps", steps],
      cwd=ROOT,
      env={k: v for k, v in os.environ.items() if k != "XLA_FLAGS"},
      check=True,
    )
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  rows = map(json.loads, lines)
  losses = [row["train/loss"] for row in rows if "train/loss" in row]
  assert len(losses) == 60
  assert np.isfinite(losses).all()
  assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
