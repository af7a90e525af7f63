"""All forms of StyleGAN2's upsampling convolution, and which one is taken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from encoder4editing_jax import ops, phases

RNG = np.random.default_rng(0)


def blurred(transposed):
  return lambda x, kernel: ops.blur(transposed(x, kernel), (1, 1), gain=4.0)


FORMS = {
  "apart": blurred(phases.transposed_conv),
  "at once": blurred(phases.transposed_conv_at_once),
  "blurred": phases.transposed_conv_blurred,
  "folded": phases.transposed_conv_folded,
}


def normal(*shape):
  return jnp.asarray(RNG.standard_normal(shape), jnp.float32)


def by_definition(x, kernel):
  y = jax.lax.conv_general_dilated(
    x,
    kernel,
    (1, 1),
    [(2, 2)] * 2,
    lhs_dilation=(2, 2),
    dimension_numbers=phases.NHWC,
  )
  return ops.blur(y, (1, 1), gain=4.0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("h", "w"), [(4, 4), (5, 3), (1, 2)])
def test_zeros_are_inserted_convolved_and_filtered(form, h, w):
  x, kernel = normal(2, h, w, 3), normal(3, 3, 3, 5)
  expected = by_definition(x, kernel)
  y = FORMS[form](x, kernel)
  assert y.shape == (2, 2 * h, 2 * w, 5)
  np.testing.assert_allclose(y, expected, atol=1e-5)
  seen = normal(*y.shape)
  for ours, theirs in zip(
    jax.vjp(FORMS[form], x, kernel)[1](seen),
    jax.vjp(by_definition, x, kernel)[1](seen),
    strict=True,
  ):
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(
  ("platform", "channels", "convolutions"),
  [("cuda", 128, 1), ("cuda", 256, 1), ("tpu", 128, 4), ("rocm", 128, 4)],
)
def test_gpus_take_one_convolution(platform, channels, convolutions):
  x = jax.ShapeDtypeStruct((1, 8, 8, channels), jnp.float32)
  kernel = jax.ShapeDtypeStruct((3, 3, channels, 8), jnp.float32)
  style = jax.ShapeDtypeStruct((1, channels), jnp.float32)

  def upsampled(x, kernel, style):
    return ops.modulated_conv2d(x, kernel, style, up=2)

  traced = jax.jit(upsampled).trace(x, kernel, style)
  text = traced.lower(lowering_platforms=(platform,)).as_text()
  assert text.count("stablehlo.convolution") == convolutions
  assert ("lhs_dilate = [2, 2]" in text) == (channels > ops.NARROW)


def test_rounding_comes_once_where_the_filter_is_folded():
  x, kernel = normal(1, 8, 8, 16), normal(3, 3, 16, 4)
  exact = by_definition(x, kernel)

  def error(form):
    low = FORMS[form](x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    assert low.dtype == jnp.bfloat16
    return float(jnp.abs(low.astype(jnp.float32) - exact).mean())

  assert error("folded") < error("apart")
