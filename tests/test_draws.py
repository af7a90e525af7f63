"""First weights are drawn flat, and are those of JAX's own draws."""

import jax
import numpy as np
import pytest

from encoder4editing_jax.models.layers import normal, uniform_init


@pytest.mark.parametrize("shape", [(), (1,), (5, 7), (3, 3, 17, 33)])
def test_the_shape_of_a_draw_changes_no_number(shape):
  key = jax.random.key(3)
  np.testing.assert_array_equal(
    normal(key, shape), jax.random.normal(key, shape)
  )
  np.testing.assert_array_equal(
    uniform_init(16)(key, shape),
    jax.random.uniform(key, shape, minval=-0.25, maxval=0.25),
  )
