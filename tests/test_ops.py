"""Laws of the array operations, against NumPy written from the definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from encoder4editing_jax import ops, phases

RNG = np.random.default_rng(0)


def normal(*shape):
  return jnp.asarray(RNG.standard_normal(shape), jnp.float32)


def upfirdn2d_by_definition(x, kernel, up, down, pad):
  x = np.asarray(x)
  b, h, w, c = x.shape
  zeros = np.zeros((b, h * up, w * up, c))
  zeros[:, ::up, ::up] = x
  low, high = (max(p, 0) for p in pad)
  zeros = np.pad(zeros, ((0, 0), (low, high), (low, high), (0, 0)))
  crop = [slice(max(-pad[0], 0), n - max(-pad[1], 0)) for n in zeros.shape[1:3]]
  zeros = zeros[:, crop[0], crop[1]]
  kh, kw = kernel.shape
  h, w = zeros.shape[1] - kh + 1, zeros.shape[2] - kw + 1
  out = sum(
    kernel[kh - 1 - i, kw - 1 - j] * zeros[:, i : i + h, j : j + w]
    for i in range(kh)
    for j in range(kw)
  )
  return out[:, ::down, ::down]


@pytest.mark.parametrize(
  ("up", "down", "pad"),
  [
    (1, 1, (0, 0)),
    (2, 1, (2, 1)),
    (1, 2, (1, 1)),
    (3, 2, (5, 2)),
    (2, 3, (-1, 4)),
  ],
)
def test_upfirdn2d_follows_its_definition(up, down, pad):
  x = normal(1, 7, 6, 2)
  separable = normal(4)
  for kernel in (normal(4, 3), separable):
    full = kernel if kernel.ndim == 2 else np.outer(kernel, kernel)
    expected = upfirdn2d_by_definition(x, full, up, down, pad)
    actual = ops.upfirdn2d(x, kernel, up, down, pad)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_upfirdn2d_refuses_a_map_smaller_than_the_filter():
  with pytest.raises(ValueError, match="4 filter taps do not fit 2"):
    ops.upfirdn2d(normal(1, 2, 8, 1), np.ones(4))


def test_upsample2d_is_the_filter_after_zero_insertion():
  x = normal(1, 3, 5, 2)
  fir = np.outer(phases.FIR, phases.FIR) * 4.0
  expected = upfirdn2d_by_definition(x, fir, 2, 1, (2, 1))
  np.testing.assert_allclose(ops.upsample2d(x), expected, atol=1e-6)
  np.testing.assert_allclose(
    ops.downsample2d(x),
    upfirdn2d_by_definition(x, fir / 4, 1, 2, (1, 1)),
    atol=1e-6,
  )


modulated_conv2d = jax.jit(
  ops.modulated_conv2d, static_argnames=("demodulate", "up", "down")
)


def per_sample(x, kernel, style, demodulate, up, down):
  """One kernel per sample (StyleGAN2, equations 1 and 3): the oracle."""
  k, _, i, _ = kernel.shape
  out = []
  for sample, s in zip(x, style, strict=True):
    w = kernel / np.sqrt(k * k * i) * s[None, None, :, None]
    if demodulate:
      w = w / np.sqrt((w**2).sum((0, 1, 2), keepdims=True) + 1e-8)
    y = sample[None]
    if down == 2:
      y = ops.blur(y, ((k + 2) // 2, (k + 1) // 2))
    padding = (
      (k - 1,) * 2 if up == 2 else (0, 0) if down == 2 else (k // 2,) * 2
    )
    y = jax.lax.conv_general_dilated(
      y,
      w,
      (down, down),
      [padding] * 2,
      lhs_dilation=(up, up),
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    out.append(ops.blur(y, ((6 - k) // 2, (5 - k) // 2), 4.0) if up == 2 else y)
  return np.concatenate(out)


@pytest.mark.parametrize(
  ("k", "up", "down", "demodulate"),
  [(3, 1, 1, True), (3, 2, 1, True), (3, 1, 2, True), (1, 1, 1, False)],
)
def test_shared_weights_equal_one_kernel_per_sample(k, up, down, demodulate):
  x, kernel, style = normal(2, 6, 5, 4), normal(k, k, 4, 3), 1 + normal(2, 4)
  actual = modulated_conv2d(
    x, kernel, style, demodulate=demodulate, up=up, down=down
  )
  expected = per_sample(x, kernel, style, demodulate, up, down)
  assert actual.shape == (2, 6 * up // down, 5 * up // down, 3)
  np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_demodulated_output_does_not_depend_on_the_size_of_the_style():
  x, kernel, style = normal(1, 4, 4, 3), normal(3, 3, 3, 2), 1 + normal(1, 3)
  one = modulated_conv2d(x, kernel, style)
  many = modulated_conv2d(x, kernel, 100 * style)
  np.testing.assert_allclose(one, many, rtol=1e-4, atol=1e-5)


def test_bfloat16_activations_stay_close_and_keep_their_type():
  x, kernel, style = normal(2, 6, 6, 8), normal(3, 3, 8, 8), 1 + normal(2, 8)
  exact = modulated_conv2d(x, kernel, style, up=2)
  low = modulated_conv2d(jnp.bfloat16(x), kernel, style, up=2)
  assert low.dtype == jnp.bfloat16
  np.testing.assert_allclose(exact, jnp.float32(low), atol=0.1)


def test_adaptive_pooling_averages_the_windows_of_its_definition():
  x = normal(1, 5, 7, 1)
  pooled = ops.adaptive_avg_pool(x, (3, 2))
  for i, (top, bottom) in enumerate([(0, 2), (1, 4), (3, 5)]):
    for j, (left, right) in enumerate([(0, 4), (3, 7)]):
      window = x[0, top:bottom, left:right, 0].mean()
      np.testing.assert_allclose(pooled[0, i, j, 0], window, atol=1e-6)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_equal_windows_are_averaged_without_products_but_on_tpus(platform):
  x = normal(2, 8, 6, 3)
  pool = jax.jit(lambda x: ops.adaptive_avg_pool(x, (4, 2)))
  text = pool.trace(x).lower(lowering_platforms=(platform,)).as_text()
  assert ("dot_general" in text) == (platform == "tpu")
  windows = np.asarray(x).reshape(2, 4, 2, 2, 3, 3).mean((2, 4))
  np.testing.assert_allclose(pool(x), windows, atol=1e-6)


def test_adaptive_pooling_to_a_multiple_repeats_pixels():
  x = normal(1, 2, 3, 1)
  big = ops.adaptive_avg_pool(x, (4, 6))
  np.testing.assert_allclose(big, x.repeat(2, 1).repeat(2, 2), atol=1e-6)


def test_align_corners_keeps_corners_and_is_linear_between():
  x = normal(1, 3, 2, 1)
  big = np.asarray(ops.resize_align_corners(x, (5, 4)))
  np.testing.assert_allclose(big[:, ::4, ::3], x[:, ::2], atol=1e-6)
  np.testing.assert_allclose(big[:, ::2, 0], x[:, :, 0], atol=1e-6)
  np.testing.assert_allclose(big[0, 1, 0], x[0, :2, 0].mean(0), atol=1e-6)


def test_nearest_takes_the_floor():
  assert list(ops.nearest_index(3, 7)) == [0, 0, 0, 1, 1, 2, 2]
  assert list(ops.nearest_index(7, 3)) == [0, 2, 4]
  x = normal(1, 3, 7, 1)
  y = ops.resize_nearest(x, (7, 3))
  np.testing.assert_array_equal(y[0, 3, 1], x[0, 1, 2])


def test_pixel_norm_and_activation_keep_unit_variance():
  z = normal(4, 4096) * 5
  np.testing.assert_allclose(
    (ops.pixel_norm(z) ** 2).mean(-1), np.ones(4), rtol=1e-5
  )
  assert (
    abs(np.square(ops.fused_leaky_relu(ops.pixel_norm(z))).mean() - 1) < 0.1
  )
