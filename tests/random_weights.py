"""Networks with random weights in every leaf, made without compiling."""

import jax
import numpy as np
from flax import nnx


def randomised(make, seed=0):
  """`make()` with weights of unit gain and unlike statistics in each channel.

  The usual initial weights hide errors: shifts are 0, scales and variances 1.
  """
  graph, state = nnx.split(nnx.eval_shape(make))
  rng = np.random.RandomState(seed)

  def fill(path, leaf):
    name, shape = str(path[-2].key), leaf.shape
    noise = rng.standard_normal(shape).astype(np.float32)
    if name == "var":
      return jax.device_put(rng.uniform(0.5, 1.5, shape).astype(np.float32))
    if name == "scale":
      return jax.device_put(1 + np.float32(0.2) * noise)
    if name in ("bias", "mean", "slope", "linear_bias"):
      return jax.device_put(np.float32(0.2) * noise)
    if name == "linear_kernel":
      return jax.device_put(noise)
    return jax.device_put(noise / np.float32(np.sqrt(np.prod(shape[-4:-1]))))

  return nnx.merge(graph, jax.tree_util.tree_map_with_path(fill, state))


def apply(network, *inputs, **options):
  """The jitted call of a network."""
  graph, state = nnx.split(network)
  call = jax.jit(lambda state, *x: nnx.merge(graph, state)(*x, **options))
  return call(state, *inputs)
