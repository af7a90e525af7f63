"""Layers that compute a convolution in a form of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from encoder4editing_jax import phases
from encoder4editing_jax.models.layers import conv


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("side", [1, 3])
def test_a_convolution_of_one_tap_is_a_product_or_a_sum(side, dtype):
  layer = conv(3, 5, 1, use_bias=True, dtype=dtype, rngs=nnx.Rngs(0))
  x = jax.random.normal(jax.random.key(0), (2, side, side, 3))
  graph, state = nnx.split(layer)
  call = jax.jit(lambda state, x: nnx.merge(graph, state)(x))
  text = call.lower(state, x).as_text()
  assert ("dot_general" in text) == (side > 1)
  assert "convolution" not in text
  y = call(state, x)
  assert y.dtype == dtype
  expected = phases.conv(x, layer.kernel[...], 0) + layer.bias[...].reshape(
    1, 1, 1, -1
  )
  tolerance = 1e-6 if dtype == "float32" else 2e-2
  np.testing.assert_allclose(y.astype(jnp.float32), expected, atol=tolerance)
