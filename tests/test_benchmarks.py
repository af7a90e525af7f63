"""The benchmarks run, and what they measure against is the same mathematics."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from random_weights import randomised

from encoder4editing_jax import converters
from encoder4editing_jax.converters import features, transfer
from encoder4editing_jax.models.encoders import Encoder4Editing
from encoder4editing_jax.models.inverter import Inverter
from encoder4editing_jax.models.stylegan2 import Generator

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))
import bounds  # noqa: E402

SMALL = {"num_layers": 10, "channels": (4, 4, 8, 8), "style_dim": 8}
RUNS = {
  "networks": ["--only", "synthesis", "gradient", "--sizes", "8"],
  "training_step": ["--tiny", "--size", "32", "--image", "32"],
  "pipeline": ["--images", "16", "--batches", "1", "--workers", "1"],
  "startup": [],
}


def make_inverter():
  return randomised(
    lambda: Inverter(
      Encoder4Editing(8, input_size=32, **SMALL, rngs=nnx.Rngs(0)),
      Generator(
        32,
        channel_base=256,
        channel_max=8,
        style_dim=8,
        n_mlp=2,
        rngs=nnx.Rngs(1),
      ),
    )
  )


def tensors(state):
  torch = pytest.importorskip("torch", reason="PyTorch is not installed")
  return {k: torch.from_numpy(np.array(v)) for k, v in state.items()}


def load(module, state, prefix=""):
  part = {
    k.removeprefix(prefix): v
    for k, v in tensors(state).items()
    if k.startswith(prefix)
  }
  module.load_state_dict(part, strict=True)
  return module


def make_baseline(inverter):
  torch = pytest.importorskip("torch", reason="PyTorch is not installed")
  import baseline
  import baseline_encoder

  torch.set_num_threads(1)
  state = converters.from_inverter(inverter)["state_dict"]
  encoder = baseline_encoder.Encoder(8, 32, 8, 10, SMALL["channels"])
  return (
    load(encoder, state, "encoder.").eval(),
    load(baseline.Generator(32, 256, 8, 8, 2), state, "decoder.").eval(),
  )


def close(found, expected):
  found, expected = np.asarray(found), np.asarray(expected)
  scale = np.abs(expected).max()
  np.testing.assert_allclose(found / scale, expected / scale, atol=1e-4)


@pytest.mark.parametrize("depthwise", [False, True])
def test_the_baseline_is_the_same_network(monkeypatch, depthwise):
  torch = pytest.importorskip("torch", reason="PyTorch is not installed")
  import baseline

  monkeypatch.setattr(baseline, "DEPTHWISE", depthwise)
  inverter = make_inverter()
  encoder, generator = make_baseline(inverter)
  x = np.random.RandomState(2).randn(2, 32, 32, 3).astype(np.float32)
  codes = jax.jit(inverter.encoder)(x)
  w = torch.from_numpy(np.array(codes)).requires_grad_(True)
  theirs = encoder(torch.from_numpy(x.transpose(0, 3, 1, 2)))
  close(codes, theirs.detach())

  def energy(w):
    picture = inverter.generator.synthesis(w)
    return jnp.square(picture).sum(), picture

  (_, picture), slope = jax.jit(jax.value_and_grad(energy, has_aux=True))(codes)
  again = generator(w)
  again.square().sum().backward()
  close(picture, again.detach().permute(0, 2, 3, 1))
  close(slope, w.grad)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 3, None])
def test_the_baseline_takes_the_same_step(stage):
  torch = pytest.importorskip("torch", reason="PyTorch is not installed")
  import baseline_training
  import training_step

  from encoder4editing_jax.config import Progressive
  from encoder4editing_jax.training import state as states
  from encoder4editing_jax.training.parallel import shard_map_step
  from encoder4editing_jax.training.step import make_train_step

  config = training_step.card(2, "float32", 32, True)
  last = 7 if stage is None else stage
  progressive = Progressive(steps=tuple(10 * (k > last) for k in range(8)))
  critic = dataclasses.replace(config.discriminator, pool=0)
  config = dataclasses.replace(
    config, progressive=progressive, discriminator=critic
  )
  nets = training_step.build(config, 32, True)
  for layer in nets.generator.synthesis._layers():
    layer.noise_strength[...] = jnp.zeros(())
  rng = np.random.RandomState(3)
  z = rng.randn(2, 8).astype(np.float32)
  pixels = rng.randint(0, 256, (2, 32, 32, 3), np.uint8)

  inverter = Inverter(nets.encoder, nets.generator)
  official = converters.from_inverter(inverter)["state_dict"]
  encoder, generator = make_baseline(inverter)
  face = baseline_training.ArcFace(10, SMALL["channels"], side=16)
  trainer = baseline_training.Trainer(
    encoder,
    generator,
    {k: getattr(config.loss, k) for k in ("l2", "lpips", "identity")}
    | {"adversarial": config.loss.adversarial, "delta": config.loss.delta},
    arcface=load(face, converters.from_arcface(nets.features["arcface"])),
    pool=0,
    stage=stage,
  )
  trainer.w_avg += torch.from_numpy(np.array(inverter.w_avg[...]))
  lpips = nets.features["lpips"]
  load(trainer.lpips, transfer.extract(lpips, features.lpips_table(lpips)))
  critic = converters.from_latent_discriminator(nets.discriminator)
  load(trainer.critic, critic["discriminator_state_dict"])
  x = torch.from_numpy(pixels.transpose(0, 3, 1, 2) / np.float32(127.5) - 1)
  theirs = trainer.step(x, torch.from_numpy(z))

  step = make_train_step(config, nets, draw=lambda keys, d: jnp.asarray(z))
  step = shard_map_step(step, jax.devices()[:1])
  state = states.create_state(config, nets)
  state, ours = step(
    state, states.create_frozen(nets), {"image": jnp.asarray(pixels)}
  )
  for name, value in theirs.items():
    np.testing.assert_allclose(ours[name], value, rtol=2e-4, err_msg=name)
  trained = nnx.merge(
    nnx.graphdef(nets.encoder), state.encoder, state.statistics
  )
  after = converters.from_inverter(Inverter(trained, nets.generator))
  after = after["state_dict"]
  moved = trainer.encoder.state_dict()
  for name, value in moved.items():
    if "num_batches" in name:
      continue
    before = official[f"encoder.{name}"]
    ours, theirs = after[f"encoder.{name}"] - before, value.numpy() - before
    scale = np.abs(theirs).max() + 1e-9
    np.testing.assert_allclose(ours / scale, theirs / scale, atol=0.02)


def test_bounds_count_products_and_not_what_moves_arrays():
  def function(x, kernel, m):
    y = jax.lax.conv_general_dilated(
      jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))),
      kernel,
      (1, 1),
      "VALID",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    y = jax.lax.platform_dependent(
      y, m, cpu=lambda y, m: (y @ m) @ m, default=lambda y, m: y @ m
    )
    return jax.jit(lambda y: y * 2)(y)

  x, kernel, m = (
    jnp.ones((1, 8, 8, 4)),
    jnp.ones((3, 3, 4, 6)),
    jnp.ones((6, 6)),
  )
  found = bounds.count(function, x, kernel, m)
  assert found.operations == 2 * 64 * (9 * 4 * 6 + 6 * 6)
  arrays = x.size + kernel.size + m.size + 2 * 64 * 6
  assert found.bytes == 4 * arrays


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_the_command_runs(tmp_path, name):
  pytest.importorskip("torch", reason="PyTorch is not installed")
  out = tmp_path / "numbers.json"
  command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *RUNS[name]]
  command += ["--rounds", "1", "--json", str(out)]
  if name in ("networks", "training_step"):
    command.append("--baseline")
  if name == "networks":
    command.append("--no-check")
  done = subprocess.run(
    command, capture_output=True, text=True, check=False, cwd=tmp_path
  )
  assert done.returncode == 0, done.stderr
  assert "|---|" in done.stdout
  assert out.exists()
