"""Structural similarity: SSIM and MS-SSIM.

Wang et al. 2004, "Image quality assessment: from error visibility to
structural similarity" (equations 12 to 17), and Wang et al. 2003, "Multiscale
structural similarity for image quality assessment" (equation 7). Each colour
is compared on its own, and the three are averaged.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03
EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # fine to coarse


def _weights() -> np.ndarray:
  x: np.ndarray = np.arange(WINDOW) - WINDOW // 2
  bell = np.exp(-(x**2) / (2 * SIGMA**2))
  return (bell / bell.sum()).astype(np.float32)


def _blur(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
  """Means under the Gaussian window where all of it is inside."""
  b, h, w, c = x.shape
  planes = x.transpose(0, 3, 1, 2).reshape(b * c, h, w, 1)
  for shape in ((WINDOW, 1, 1, 1), (1, WINDOW, 1, 1)):
    planes = jax.lax.conv_general_dilated(
      planes,
      jnp.asarray(_weights()).reshape(shape),
      (1, 1),
      "VALID",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      precision="highest",
    )
  h, w = planes.shape[1:3]
  return planes.reshape(b, c, h, w).transpose(0, 2, 3, 1)


def _terms(x: Array, y: Array) -> tuple[Array, Array]:
  """Luminance and contrast times structure, at every place; for [0, 1]."""
  c1, c2 = K1**2, K2**2
  mean_x, mean_y = _blur(x), _blur(y)
  # About the middle of the range squares are smaller, and so is rounding.
  u, v = x - 0.5, y - 0.5
  mu, nu = mean_x - 0.5, mean_y - 0.5
  variances = _blur(u * u + v * v) - mu * mu - nu * nu
  covariance = _blur(u * v) - mu * nu
  light = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
  return light, (2 * covariance + c2) / (variances + c2)


def _halve(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
  """Means of 2 x 2; an odd last row or column counts twice."""
  b, h, w, c = x.shape
  edges = ((0, 0), (0, h % 2), (0, w % 2), (0, 0))
  x = jnp.pad(x, edges, mode="edge")
  h, w = x.shape[1:3]
  return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


def _check(x: Array, least: int, name: str) -> None:
  h, w = x.shape[1:3]
  if min(h, w) < least:
    raise ValueError(
      f"pictures of {h} x {w} are too small for {name}; it takes {least} x "
      f"{least} or more."
    )


def ssim(
  prediction: Float[Array, "b h w c"], target: Float[Array, "b h w c"]
) -> Float[Array, " b"]:
  """SSIM of each picture: 1 for equal ones, more is better.

  The published window (11 x 11, Gaussian, sigma 1.5), where all of it is
  inside the picture; no shrinking beforehand.

  Args:
    prediction, target: in [-1, 1]; constants are those for values in [0, 1].

  Raises:
    ValueError: pictures smaller than the window.
  """
  _check(prediction, WINDOW, "SSIM")
  light, shape = _terms((prediction + 1) / 2, (target + 1) / 2)
  return (light * shape).mean((1, 2, 3))


def least_side(scales: int = len(EXPONENTS)) -> int:
  """The smallest side of a picture that MS-SSIM takes: 161."""
  return (WINDOW - 1) * 2 ** (scales - 1) + 1


def ms_ssim(
  prediction: Float[Array, "b h w c"], target: Float[Array, "b h w c"]
) -> Float[Array, " b"]:
  """MS-SSIM of each picture, over five scales: 1 for equal ones.

  Where contrast and structure of a scale are negative on the whole they count
  as 0, since their power is no number.

  Args:
    prediction, target: in [-1, 1].

  Raises:
    ValueError: a side is less than 161: the coarsest scale would not hold the
      window.
  """
  _check(prediction, least_side(), "MS-SSIM")
  x, y = (prediction + 1) / 2, (target + 1) / 2
  product = jnp.ones((x.shape[0], x.shape[3]))
  for exponent in EXPONENTS[:-1]:
    shape = _terms(x, y)[1].mean((1, 2))
    product = product * jnp.maximum(shape, 0) ** exponent
    x, y = _halve(x), _halve(y)
  light, shape = _terms(x, y)
  last = (light * shape).mean((1, 2))
  return (product * jnp.maximum(last, 0) ** EXPONENTS[-1]).mean(1)
