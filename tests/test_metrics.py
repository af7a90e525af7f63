"""What metrics are equal to where the answer is known."""

import jax.numpy as jnp
import numpy as np
import pytest

from encoder4editing_jax.metrics import pixels, structure


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


# Structure. Pictures of the recipe, and what scikit-image 0.26 says of them.

SSIM_OF = {(11, 11): 0.838334, (37, 53): 0.787551, (64, 64): 0.783213}


def drawn(h, w):
  rng = np.random.default_rng(h * w)
  rows, columns = (x[..., None] for x in np.mgrid[:h, :w])
  wave = np.sin(rows / 5 + np.arange(3)) * np.cos(columns / 7)
  a = np.round(127.5 + 100 * wave)
  b = np.clip(np.round(0.9 * a + rng.normal(5, 12, a.shape)), 0, 255)
  return a, b


def floats(x):
  return jnp.asarray(x[None] / 127.5 - 1, jnp.float32)


@pytest.mark.parametrize("shape", list(SSIM_OF))
def test_ssim_is_that_of_scikit_image(shape):
  a, b = drawn(*shape)
  found = float(structure.ssim(floats(a), floats(b))[0])
  assert found == pytest.approx(SSIM_OF[shape], abs=2e-6)
  theirs = pytest.importorskip("skimage.metrics").structural_similarity(
    *(a, b),
    channel_axis=-1,
    gaussian_weights=True,
    sigma=1.5,
    use_sample_covariance=False,
    data_range=255,
  )
  assert found == pytest.approx(theirs, abs=2e-6)


@pytest.mark.parametrize("shape", [(161, 175), (176, 176)])
def test_ms_ssim_of_equal_and_less_equal_pictures(shape):
  a, b = map(floats, drawn(*shape))
  same, other = structure.ms_ssim(a, a)[0], structure.ms_ssim(a, b)[0]
  assert float(same) == pytest.approx(1, abs=1e-5)
  assert 0.3 < float(other) < 0.999
  worse = structure.ms_ssim(a, 2 * b - a)[0]
  assert float(worse) < float(other)
  assert float(structure.ms_ssim(a, -a)[0]) >= 0  # no NaN


def terms_of_scikit_image(metrics, x, y):
  """SSIM, and contrast times structure: SSIM whose luminance counts nothing.

  With a boundless constant the luminance term is 1 everywhere.
  """
  for constant in (0.01, 1e6):
    whole = metrics.structural_similarity(
      *(x, y),
      gaussian_weights=True,
      sigma=1.5,
      use_sample_covariance=False,
      data_range=255,
      K1=constant,
    )
    yield whole


def halved(x):
  x = np.pad(x, [(0, n % 2) for n in x.shape], mode="edge")
  return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4


MS_SSIM_OF = {(161, 175): 0.977035, (176, 176): 0.977330}


@pytest.mark.parametrize("shape", list(MS_SSIM_OF))
def test_ms_ssim_is_made_of_the_terms_of_scikit_image(shape):
  """Wang 2003, equation 7: luminance of the last scale, the rest of all."""
  a, b = drawn(*shape)
  found = float(structure.ms_ssim(floats(a), floats(b))[0])
  assert found == pytest.approx(MS_SSIM_OF[shape], abs=2e-6)
  metrics = pytest.importorskip("skimage.metrics")
  published = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
  colours = []
  for x, y in zip(a.transpose(2, 0, 1), b.transpose(2, 0, 1), strict=True):
    product = 1.0
    for scale, weight in enumerate(published):
      whole, shape_term = terms_of_scikit_image(metrics, x, y)
      product *= (whole if scale == 4 else shape_term) ** weight
      x, y = halved(x), halved(y)
    colours.append(product)
  assert found == pytest.approx(np.mean(colours), abs=2e-6)


def test_small_pictures_are_refused():
  with pytest.raises(ValueError, match="161 x 161 or more"):
    structure.ms_ssim(noise(0, 1, 160, 200, 3), noise(1, 1, 160, 200, 3))
  with pytest.raises(ValueError, match="10 x 40 are too small for SSIM"):
    structure.ssim(noise(0, 1, 10, 40, 3), noise(1, 1, 10, 40, 3))


def test_ranges_of_l2():
  a, b = noise(1, 2, 4, 6, 3), noise(2, 2, 4, 6, 3)
  np.testing.assert_allclose(pixels.l2(a, b), 4 * pixels.l2_unit(a, b))
  assert np.isinf(pixels.psnr(a, a, least=0.0)).all()
