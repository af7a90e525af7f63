"""What metrics are equal to where the answer is known."""

import jax.numpy as jnp
import numpy as np
import pytest

from encoder4editing_jax.metrics import pixels


def noise(seed, *shape):
  drawn = np.random.default_rng(seed).uniform(-1, 1, shape)
  return jnp.asarray(drawn, jnp.float32)


def test_psnr_of_known_errors():
  target = noise(0, 3, 5, 7, 3) * 0.5
  errors = jnp.array([0.2, 0.02, 0.0]).reshape(3, 1, 1, 1)
  found = pixels.psnr(target + errors, target)
  assert found == pytest.approx([20.0, 40.0, 106.02], abs=0.01)


def test_psnr_is_of_each_picture_and_symmetric():
  a, b = noise(1, 2, 4, 6, 3), noise(2, 2, 4, 6, 3)
  found = pixels.psnr(a, b)
  np.testing.assert_allclose(found, pixels.psnr(b, a), rtol=1e-6)
  np.testing.assert_allclose(found[1:], pixels.psnr(a[1:], b[1:]), rtol=1e-6)


def test_psnr_sees_what_people_see():
  white = jnp.ones((1, 4, 4, 3))
  assert pixels.psnr(3 * white, white) == pixels.psnr(white, white)
  assert pixels.psnr(-3 * white, white) == pytest.approx([0.0], abs=1e-5)
