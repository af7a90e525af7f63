import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from random_weights import apply, randomised

from encoder4editing_jax.models.arcface import ArcFace
from encoder4editing_jax.models.irse import Backbone, Bottleneck, depths

SMALL = (4, 8, 12, 16)


def unit(i=8, o=8, stride=1, **options):
  return randomised(
    lambda: Bottleneck(i, o, stride, **options, rngs=nnx.Rngs(0))
  )


def maps(*shape):
  return np.random.RandomState(1).standard_normal(shape).astype(np.float32)


def count(make):
  state = nnx.state(nnx.eval_shape(make), nnx.Param)
  return sum(leaf.size for leaf in jax.tree.leaves(state))


def test_taps_are_the_last_units_of_the_stages():
  body = nnx.eval_shape(lambda: Backbone(50, rngs=nnx.Rngs(0)))
  assert body.taps == (2, 6, 20, 23)
  assert sum(depths(100)) == 49
  assert sum(depths(152)) == 50


@pytest.mark.slow
def test_parameter_counts_are_the_published_ones():
  input_layer = 3 * 64 * 9 + 3 * 64
  count_backbone = count(lambda: Backbone(50, rngs=nnx.Rngs(0)))
  assert count_backbone == 30_948_160 + input_layer
  assert count(lambda: ArcFace(50, rngs=nnx.Rngs(0))) == 43_797_696


def test_a_unit_without_residual_is_its_shortcut():
  network = unit(stride=2)
  network.norm2.scale[...] = np.zeros(8, np.float32)
  network.norm2.bias[...] = np.zeros(8, np.float32)
  x = maps(2, 9, 7, 8)
  np.testing.assert_array_equal(apply(network, x), x[:, ::2, ::2])


def test_the_gate_scales_the_residual():
  network = unit(squeeze_excite=False)
  gated = unit()
  assert network.se is None
  for name in ("norm1", "conv1", "act", "conv2", "norm2"):
    setattr(gated, name, getattr(network, name))
  x = maps(2, 5, 4, 8)
  residual = np.asarray(apply(network, x)) - x
  fc1, fc2 = (
    np.asarray(f.kernel[...])[0, 0] for f in (gated.se.fc1, gated.se.fc2)
  )
  gate = np.maximum(residual.mean((1, 2)) @ fc1, 0) @ fc2
  want = x + residual / (1 + np.exp(-gate[:, None, None]))
  np.testing.assert_allclose(apply(gated, x), want, atol=1e-5)


@pytest.mark.parametrize("channels", [3, 6])
@pytest.mark.slow
def test_stage_outputs_halve_rounding_up(channels):
  make = lambda: Backbone(  # noqa: E731
    10, input_channels=channels, channels=SMALL, rngs=nnx.Rngs(0)
  )
  graph, state = nnx.split(nnx.eval_shape(make))
  call = lambda state, x: nnx.merge(graph, state)(x)  # noqa: E731
  outputs = jax.eval_shape(call, state, maps(2, 33, 18, channels))
  assert [y.shape for y in outputs] == [
    (2, 17, 9, 4),
    (2, 9, 5, 8),
    (2, 5, 3, 12),
    (2, 3, 2, 16),
  ]


@pytest.mark.slow
def test_images_are_independent_in_evaluation_only():
  network, x = unit(), maps(3, 5, 4, 8)
  whole, changed = np.array(apply(network, x)), x.copy()
  changed[1:] *= 2
  np.testing.assert_allclose(apply(network, changed)[:1], whole[:1], atol=1e-5)
  network.train()
  whole = np.array(apply(network, x))
  assert (
    np.abs(np.asarray(apply(network, changed))[:1] - whole[:1]).max() > 0.01
  )


def updated(network, *inputs, axis_name=None):
  """Outputs and statistics after one call, over shards with `axis_name`."""
  graph, state = nnx.split(network)

  def call(state, *inputs):
    network = nnx.merge(graph, state)
    return network(*inputs), nnx.state(network, nnx.BatchStat)

  if axis_name:
    call = jax.vmap(call, (None, 0), (0, None), axis_name=axis_name)
  return jax.jit(call)(state, *inputs)


def test_running_statistics_follow_the_unbiased_variance():
  network, x = unit(4, 8, 2), maps(2, 3, 4, 4)
  network.train()
  norm1 = network.norm1
  before = np.asarray(norm1.mean[...]), np.asarray(norm1.var[...])
  _, after = updated(network, x)
  mean, var = np.mean(x, (0, 1, 2)), np.var(x, (0, 1, 2), ddof=1)
  norm1 = after["norm1"]
  want = 0.9 * before[0] + 0.1 * mean
  np.testing.assert_allclose(norm1["mean"][...], want, rtol=1e-5)
  want = 0.9 * before[1] + 0.1 * var
  np.testing.assert_allclose(norm1["var"][...], want, rtol=1e-5)


def test_synchronised_statistics_are_those_of_the_whole_batch():
  x = maps(4, 5, 6, 4)
  alone, spread = unit(4, 8, 2), unit(4, 8, 2, bn_axis="devices")
  alone.train()
  spread.train()
  want, want_state = updated(alone, x)
  shards = x.reshape(2, 2, 5, 6, 4)
  got, got_state = updated(spread, shards, axis_name="devices")
  np.testing.assert_allclose(got.reshape(want.shape), want, atol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    got_state,
    want_state,
  )


@pytest.mark.slow
def test_bfloat16_keeps_statistics_and_parameters_in_float32():
  x = maps(2, 5, 4, 4)
  want = np.asarray(apply(unit(4, 8, 2), x))
  network = unit(4, 8, 2, dtype="bfloat16")
  got = apply(network, x.astype(jnp.bfloat16))
  assert got.dtype == jnp.bfloat16
  got = np.asarray(got, np.float32)
  assert 0 < np.linalg.norm(got - want) < 0.05 * np.linalg.norm(want)
  network.train()
  _, after = updated(network, x.astype(jnp.bfloat16))
  leaves = jax.tree.leaves((after, nnx.state(network)))
  assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


def arcface(**options):
  options = {"input_size": 24, "channels": SMALL, "embedding_dim": 6, **options}
  return randomised(lambda: ArcFace(10, **options, rngs=nnx.Rngs(0)))


def test_arcface_gives_unit_vectors_of_flattened_maps():
  network, x = arcface(), maps(2, 24, 24, 3)
  got = apply(network, x)
  np.testing.assert_allclose(np.linalg.norm(got, axis=-1), 1, rtol=1e-5)
  feature = apply(network.norm_in, apply(network.backbone, x)[-1])
  assert feature.shape == (2, 2, 2, 16)
  rows = np.asarray(feature).reshape(2, -1) @ np.asarray(
    network.linear.kernel[...]
  )
  rows = rows + np.asarray(network.linear.bias[...])
  want = np.asarray(apply(network.norm_out, rows))
  want = want / np.linalg.norm(want, axis=-1, keepdims=True)
  np.testing.assert_allclose(got, want, atol=1e-5)


def test_arcface_without_affine_has_no_scale():
  network = arcface(affine=False)
  assert network.norm_out.scale is None
  assert network.norm_out.bias is None
  assert network.norm_in.scale is not None


@pytest.mark.slow
def test_refusals_name_the_fix():
  with pytest.raises(ValueError, match=r"choose one of .*50, 100, 152"):
    Backbone(51, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match="input_channels=6"):
    apply(arcface(), maps(1, 24, 24, 6))
  with pytest.raises(ValueError, match="24 x 24"):
    apply(arcface(), maps(1, 32, 32, 3))
