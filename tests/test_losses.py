"""The terms of the losses: values by hand, gradients at awkward places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from encoder4editing_jax import losses
from encoder4editing_jax.config import Loss

KEY = jax.random.key(0)


def codes(b=3, n=5, d=4):
  return jax.random.normal(KEY, (b, n, d))


def linear(weight):
  return lambda w: w @ weight


def test_l2_is_the_mean_over_all_values():
  x = jnp.zeros((2, 3, 4, 3))
  assert losses.l2(x, x + 0.5) == pytest.approx(0.25)


def test_active_styles_follow_the_stage():
  assert losses.active_styles(4, jnp.int32(0)).tolist() == [1, 0, 0, 0]
  assert losses.active_styles(4, jnp.int32(2)).tolist() == [1, 1, 1, 0]
  assert losses.active_styles(4, None).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("stage", [0, 2, 4])
def test_delta_sums_norms_of_awake_offsets(stage):
  w = codes()
  active = losses.active_styles(5, jnp.int32(stage))
  by_hand = sum(
    np.linalg.norm(w[:, i] - w[:, 0], axis=-1).mean()
    for i in range(1, stage + 1)
  )
  assert losses.delta(w, active) == pytest.approx(by_hand, rel=1e-5)


def test_delta_has_a_gradient_at_zero():
  w = jnp.ones((2, 4, 3))
  gradient = jax.grad(losses.delta)(w, jnp.ones(4))
  np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("p", [1.0, 3.0])
def test_delta_takes_other_norms(p):
  w = codes()
  offsets = np.asarray(w[:, 1:] - w[:, :1])
  by_hand = np.linalg.norm(offsets, ord=p, axis=-1).mean(0).sum()
  value = losses.delta(w, jnp.ones(5), p)
  assert value == pytest.approx(by_hand, rel=1e-5)


def test_lpips_is_the_mean_distance():
  def distance(x, y):
    return jnp.abs(x - y).sum((1, 2, 3))

  x = jnp.zeros((2, 1, 2, 3))
  y = jnp.array([1.0, 3.0])[:, None, None, None] + x
  assert losses.lpips(distance, x, y) == pytest.approx(12.0)


def test_dissimilarity_is_one_minus_the_cosine():
  x = jnp.array([[1.0, 0.0], [0.6, 0.8]])
  y = jnp.array([[0.0, 1.0], [0.6, 0.8]])
  assert losses.dissimilarity(x, x) == pytest.approx(0, abs=1e-6)
  assert losses.dissimilarity(x, y) == pytest.approx(0.5)


def test_w_norm_is_over_all_styles_together():
  w, mean = codes(), jnp.arange(20.0).reshape(5, 4)
  by_hand = np.linalg.norm((w - mean[None]).reshape(3, 20), axis=1).mean()
  assert losses.w_norm(w, mean) == pytest.approx(by_hand, rel=1e-5)
  same = jnp.tile(mean[None], (2, 1, 1))
  np.testing.assert_array_equal(jax.grad(losses.w_norm)(same, mean), 0)


def test_adversarial_term_averages_awake_styles_only():
  w, weight = codes(), jnp.arange(4.0)
  for stage in (0, 3):
    active = losses.active_styles(5, jnp.int32(stage))
    logits = np.asarray(w @ weight)[:, : stage + 1]
    by_hand = np.log1p(np.exp(-logits)).mean()
    value = losses.encoder_adversarial(linear(weight), w, active)
    assert value == pytest.approx(by_hand, rel=1e-5)


def test_critics_may_answer_with_a_last_axis_of_one():
  w, weight = codes(), jnp.arange(4.0)
  flat = losses.encoder_adversarial(linear(weight), w, jnp.ones(5))
  column = losses.encoder_adversarial(linear(weight[:, None]), w, jnp.ones(5))
  assert flat == pytest.approx(column)


def test_discriminator_losses_reward_the_right_answer():
  w, sure = codes()[:, 0], lambda w: jnp.full(len(w), 20.0)
  assert losses.discriminator_real(sure, w) < 1e-6
  assert losses.discriminator_fake(sure, w) == pytest.approx(20.0)
  unsure = lambda w: jnp.zeros(len(w))  # noqa: E731
  assert losses.discriminator_real(unsure, w) == pytest.approx(np.log(2))


def test_r1_is_the_squared_gradient():
  weight = jnp.arange(4.0)
  value = losses.r1(linear(weight), codes()[:, 0])
  assert value == pytest.approx(float(weight @ weight))


def test_weights_meet_the_terms_by_name():
  terms = {"l2": jnp.float32(2.0), "delta": jnp.float32(3.0)}
  total = losses.weighted_sum(terms, Loss(l2=0.5, delta=2.0))
  assert total == pytest.approx(7.0)
