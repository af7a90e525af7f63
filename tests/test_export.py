"""What a run leaves behind: the best inverter, and its record."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
from test_step import CONFIG, build

from encoder4editing_jax import losses, weights
from encoder4editing_jax.config import Loss
from encoder4editing_jax.training import state as states
from encoder4editing_jax.training.evaluation import Evaluator
from encoder4editing_jax.training.export import Best


def at(state, step):
  moved = jax.tree.map(lambda x: x + step, state.encoder)
  return dataclasses.replace(state, step=jnp.int32(step), encoder=moved)


def test_the_best_inverter_is_kept_over_restarts(tmp_path):
  networks = build(CONFIG)
  state = states.create_state(CONFIG, networks)
  best = Best(CONFIG, networks, tmp_path, goes_on=False)
  assert best.offer(state, {}) == {}
  assert not list(tmp_path.iterdir())
  best.offer(at(state, 1), {"score": 0.5})
  first = (tmp_path / "best.safetensors").read_bytes()
  assert best.offer(at(state, 2), {"score": 0.7})["best_step"] == 1
  assert (tmp_path / "best.safetensors").read_bytes() == first
  again = Best(CONFIG, networks, tmp_path, goes_on=True)
  assert again.offer(at(state, 3), {"score": float("nan")})["best_step"] == 1
  found = again.offer(at(state, 4), {"score": 0.25})
  assert found == {"best_step": 4, "best_score": 0.25}
  assert json.loads((tmp_path / "best.json").read_text())["step"] == 4
  heavier = dataclasses.replace(CONFIG, loss=Loss(l2=2.0))
  for config, goes_on in ((heavier, True), (CONFIG, False)):
    fresh = Best(config, networks, tmp_path, goes_on)
    assert fresh.offer(state, {}) == {}
  saved = weights.load(tmp_path / "best.safetensors").encoder
  np.testing.assert_array_equal(
    saved.body.input_conv.kernel[...],
    state.encoder["body"]["input_conv"]["kernel"] + 4,
  )


def test_evaluations_average_each_image_once():
  """The last batch is smaller, and its filling has no part in the means."""
  model = dataclasses.replace(CONFIG.model, generator="tiny.safetensors")
  config = dataclasses.replace(CONFIG, loss=Loss(l2=2.0), model=model)
  networks = build(config)
  state = states.create_state(config, networks)
  frozen = states.create_frozen(networks)
  random = np.random.default_rng(0)
  images = random.integers(0, 256, (11, 16, 16, 3), dtype=np.uint8)
  mean = np.zeros((1, 16, 16, 3), np.float32)
  evaluator = Evaluator(config, networks)
  batches = [{"image": images[:8]}, {"image": images[8:]}]
  numbers, _ = evaluator(state, frozen, batches, mean)
  assert numbers["images"] == 11
  shown = jnp.asarray(images / np.float32(127.5) - 1)
  stage = jnp.int32(0)
  _, output = evaluator._invert(state, frozen, shown, stage)
  l2 = float(losses.l2(output, shown))
  np.testing.assert_allclose(numbers["l2"], l2, rtol=1e-5)
  np.testing.assert_allclose(numbers["score"], 2 * l2, rtol=1e-5)
  assert "adversarial" not in numbers and "delta" not in numbers
