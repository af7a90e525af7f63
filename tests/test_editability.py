"""Codes that bear editing, codes that do not, and how it is told."""

import jax.numpy as jnp
import numpy as np
import pytest

from encoder4editing_jax import editing
from encoder4editing_jax.metrics import editability

B, N, D = 3, 4, 6


def noise(seed, *shape):
  drawn = np.random.default_rng(seed).normal(size=shape)
  return jnp.asarray(drawn, jnp.float32)


def edit(w_plus, sign):
  return editing.move(w_plus, noise(1, N, D), 3 * sign)


def distances(images, encode, decode):
  return editability.lec_distances(encode, edit, decode, images)


def as_codes(images):
  return images.reshape(-1, N, D)


def as_images(codes):
  return codes.reshape(-1, 2, 4, 3)


def test_nothing_is_lost_where_decoder_and_encoder_are_inverse():
  found = distances(noise(0, B, 2, 4, 3), as_codes, as_images)
  np.testing.assert_allclose(found, np.zeros(B), atol=1e-5)


def test_what_a_decoder_adds_is_the_distance():
  added = jnp.arange(B, dtype=jnp.float32).reshape(-1, 1, 1, 1)
  found = distances(
    noise(0, B, 2, 4, 3), as_codes, lambda w: as_images(w) + added
  )
  np.testing.assert_allclose(found, np.arange(B) * (N * D) ** 0.5, 1e-4, 1e-5)


def test_an_encoder_that_overlooks_the_edit_is_as_far_off_as_the_edit():
  found = distances(
    noise(0, B, 2, 4, 3), lambda x: jnp.zeros((len(x), N, D)), as_images
  )
  length = 3 * jnp.linalg.norm(noise(1, N, D))
  np.testing.assert_allclose(found, np.full(B, length), rtol=1e-6)


def test_the_farthest_pictures_do_not_count():
  drawn = np.abs(np.random.default_rng(0).normal(size=500))
  drawn[100] = 1e6
  kept = np.sort(drawn)[4:-3]  # the values next to 4.99 and 494.01, and between
  assert editability.lec(drawn) == pytest.approx(kept[: 496 - 4].mean())


def test_all_of_a_few_values_count():
  assert editability.lec(np.array([3.0, 1.0, 8.0])) == pytest.approx(4.0)


def test_the_published_mode_judges_full_batches():
  drawn = np.array([1.0, 3.0, 5.0, 7.0, 99.0])
  assert editability.lec(drawn, legacy_batch=2) == pytest.approx(4.0)
  many = np.zeros(2 * 300)
  many[0] = 600.0  # one batch of 300 is farther off than the others, and goes
  assert editability.lec(many, legacy_batch=2) == 0
  assert editability.lec(many[:200], legacy_batch=2) == pytest.approx(3.0)


@pytest.mark.parametrize(("n", "batch"), [(0, None), (7, 8)])
def test_too_few_distances_are_refused(n, batch):
  with pytest.raises(ValueError, match=f"{n} distances are too few; pass"):
    editability.lec(np.ones(n), legacy_batch=batch)


def test_batches_of_nothing_are_refused():
  with pytest.raises(ValueError, match="legacy_batch is 0; pass 1 or more"):
    editability.lec(np.ones(4), legacy_batch=0)


def test_an_effect_has_a_sign_and_a_disturbance_has_none():
  before = jnp.zeros((2, 3))
  after = jnp.array([[0.5, -0.2, 0.4], [-0.5, 0.0, 0.1]])
  moved, disturbed = editability.effect(before, after, 0)
  np.testing.assert_allclose(moved, [0.5, -0.5])
  np.testing.assert_allclose(disturbed, [0.3, 0.05], rtol=1e-6)


def test_only_what_grows_at_every_step_rises():
  series = jnp.array([[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [2.0, 0.9, 1.0]])
  np.testing.assert_array_equal(editability.rises(series), [1, 0, 0])


def test_codes_of_w_have_no_spread():
  w = jnp.repeat(noise(0, B, 1, D), N, 1)
  np.testing.assert_allclose(editability.spread(w), np.zeros(B), atol=1e-6)
  apart = w + jnp.array([1.0, -1.0, 1.0, -1.0]).reshape(1, N, 1)
  found = editability.spread(apart)
  np.testing.assert_allclose(found, np.full(B, D**0.5), rtol=1e-5)
