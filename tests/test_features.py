"""Laws of the networks that losses and metrics look through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from random_weights import apply, randomised

import encoder4editing_jax as e4e
from encoder4editing_jax import architectures, weights
from encoder4editing_jax.models.arcface import face_crop
from encoder4editing_jax.models.layers import max_pool
from encoder4editing_jax.models.lpips import SCALE, SHIFT, unit_length
from encoder4editing_jax.models.trunks import Trunk

SMALL = {
  "alex": (8, 8, 8, 8, 8),
  "vgg": (4,) * 13,
  "squeeze": (8, 8, 8, 16, 16, 16, 16, 8, 8),
}
NETS = list(SMALL)


def images(*shape, seed=0):
  values = np.random.RandomState(seed).uniform(-1, 1, shape)
  return jnp.asarray(values.astype(np.float32))


def make_lpips(net="alex", **options):
  """Small, with random weights; those of the heads are positive."""
  options = {"channels": SMALL[net], **options}
  lpips = randomised(lambda: e4e.LPIPS(net, **options, rngs=nnx.Rngs(0)))
  for head in lpips.heads:
    head[...] = jnp.abs(head[...])
  return lpips


def make_moco(**options):
  options = {"channels": (4, 4, 6, 8), "input_size": 32, **options}
  depths = (1, 1, 1, 1)
  return randomised(lambda: e4e.MoCo(depths, **options, rngs=nnx.Rngs(0)))


def make_arcface():
  return randomised(
    lambda: e4e.ArcFace(
      10,
      input_size=24,
      channels=(4, 4, 4, 8),
      embedding_dim=6,
      rngs=nnx.Rngs(0),
    )
  )


# Architectures, at their published sizes.


def taps(net, size):
  graph, state = nnx.split(nnx.eval_shape(lambda: Trunk(net, rngs=nnx.Rngs(0))))
  call = lambda state, x: nnx.merge(graph, state)(x)  # noqa: E731
  maps = jax.eval_shape(call, state, images(1, size, size, 3))
  return [(x.shape[1], x.shape[3]) for x in maps]


@pytest.mark.slow
def test_taps_are_the_published_maps():
  assert taps("alex", 224) == [
    *((55, 64), (27, 192), (13, 384), (13, 256), (13, 256)),
  ]
  assert taps("vgg", 224) == [
    *((224, 64), (112, 128), (56, 256), (28, 512), (14, 512)),
  ]
  assert taps("squeeze", 224) == [
    *((111, 64), (55, 128), (27, 256)),
    *((13, 384), (13, 384), (13, 512), (13, 512)),
  ]
  assert taps("squeeze", 258)[1] == (64, 128)  # 128 -> 64, rounded up


def n_parameters(make):
  state = nnx.state(nnx.eval_shape(make), nnx.Param)
  return sum(leaf.size for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize(
  ("make", "n"),
  [
    # of the whole classifiers, without their last layers
    (lambda: Trunk("alex", rngs=nnx.Rngs(0)), 61_100_840 - 58_631_144),
    (lambda: Trunk("vgg", rngs=nnx.Rngs(0)), 138_357_544 - 123_642_856),
    (lambda: Trunk("squeeze", rngs=nnx.Rngs(0)), 1_235_496 - 513_000),
    (lambda: e4e.MoCo(rngs=nnx.Rngs(0)), 25_557_032 - 2_049_000),
  ],
)
def test_parameter_counts_are_the_published_ones(make, n):
  assert n_parameters(make) == n


@pytest.mark.parametrize("round_up", [False, True])
@pytest.mark.parametrize("size", [3, 4, 5, 6, 7, 8])
def test_max_pool_takes_the_largest_of_each_window(size, round_up):
  x = images(2, size, size + 1, 3)

  def slow(x, axis):
    n = x.shape[axis]
    ends = range(3, n + 1 + round_up, 2)  # one row outside at most
    parts = [x.take(range(e - 3, min(e, n)), axis).max(axis) for e in ends]
    return np.stack(parts, axis)

  pooled = max_pool(x, 3, 2, round_up=round_up)
  np.testing.assert_array_equal(pooled, slow(slow(np.asarray(x), 1), 2))


def test_max_pool_pads_with_less_than_anything():
  x = images(1, 4, 5, 2) - 10
  padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-np.inf)
  np.testing.assert_array_equal(
    max_pool(x, 3, 2, padding=1), max_pool(jnp.asarray(padded), 3, 2)
  )


# LPIPS.


def value_and_grad(net, x, y):
  graph, state = nnx.split(net)

  def total(x):
    distances = nnx.merge(graph, state)(x, y)
    return distances.sum(), distances

  (_, distances), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(x)
  return np.asarray(distances), np.asarray(gradient)


@pytest.mark.parametrize("net", NETS)
def test_lpips_is_a_symmetric_distance(net):
  lpips = make_lpips(net)
  x, y = images(2, 37, 40, 3), images(2, 37, 40, 3, seed=1)
  first = apply(lpips, jnp.concatenate([x, y, x]), jnp.concatenate([y, x, x]))
  assert first.shape == (6,) and first.dtype == jnp.float32
  assert (first[:4] > 1e-3).all()
  np.testing.assert_allclose(first[:2], first[2:4], rtol=1e-5)
  np.testing.assert_array_equal(first[4:], 0)


def test_equal_images_have_no_slope():
  x, other = images(1, 33, 33, 3), images(1, 33, 33, 3, seed=1)
  distances, gradient = value_and_grad(
    make_lpips(), jnp.concatenate([x, x]), jnp.concatenate([x, other])
  )
  np.testing.assert_allclose(distances[0], 0, atol=1e-9 * distances[1])
  steep = np.abs(gradient[1]).max()
  np.testing.assert_allclose(gradient[0], 0, atol=1e-4 * steep)


def test_maps_of_zeros_give_finite_slopes():
  lpips = make_lpips()
  x, y = images(2, 64, 64, 3), images(2, 64, 64, 3, seed=1)
  # The last ReLU lets one channel through, and that only here and there.
  last = lpips.trunk.layers[4]
  last.kernel[...] = jnp.zeros(last.kernel.shape).at[..., 0].set(1.0)
  last.bias[...] = jnp.full(last.bias.shape, -1.0).at[0].set(0.0)
  scaled = (np.asarray(x) - SHIFT) / SCALE
  channel = apply(lpips.trunk, jnp.float32(scaled))[-1][..., 0]
  assert channel.min() > 0  # so that its median is of what comes before ReLU
  last.bias[...] = last.bias[...].at[0].set(-jnp.median(channel))
  distances, gradient = value_and_grad(lpips, x, y)
  assert np.isfinite(distances).all()
  assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def apply_features(lpips, x):
  graph, state = nnx.split(lpips)
  return jax.jit(lambda s, x: nnx.merge(graph, s).features(x))(state, x)


def test_maps_have_unit_length_and_terms_add_up():
  lpips = make_lpips()
  x, y = images(1, 50, 41, 3), images(1, 50, 41, 3, seed=1)
  a, b = apply_features(lpips, x), apply_features(lpips, y)
  for m in a:
    length = np.linalg.norm(m, axis=-1)
    np.testing.assert_allclose(length[length > 0], 1, rtol=1e-5)
  want = sum(
    (np.square(np.asarray(p) - np.asarray(q)) @ np.asarray(h[...])).mean()
    for p, q, h in zip(a, b, lpips.heads, strict=True)
  )
  assert lpips.distances(a, b).shape == (1, 5)
  np.testing.assert_allclose(lpips.distances(a, b).sum(), want, rtol=1e-5)
  np.testing.assert_allclose(apply(lpips, x, y)[0], want, rtol=1e-5)


@pytest.mark.slow
def test_the_slope_of_unit_length_is_that_of_its_formula():
  x, weight = images(2, 3, 3, 4), np.asarray(images(2, 3, 3, 4, seed=1))
  x = x.at[0, 0].set(0)
  slope = jax.grad(lambda x: (unit_length(x) * weight).sum())(x)
  slope = np.asarray(slope)

  def formula(x):
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return (x / (length + 1e-10) * weight).sum()

  wide = np.asarray(x, np.float64)
  np.testing.assert_allclose(
    (unit_length(x) * weight).sum(), formula(wide), rtol=1e-5
  )
  for place in np.ndindex(2, 3, 3, 4):
    if place[:2] == (0, 0):  # where x is 0: with a constant norm
      want = weight[place] / 1e-10
    else:
      ends = [wide.copy(), wide.copy()]
      ends[0][place] -= 1e-6
      ends[1][place] += 1e-6
      want = (formula(ends[1]) - formula(ends[0])) / 2e-6
    np.testing.assert_allclose(slope[place], want, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_bfloat16_is_close_and_its_result_is_float32():
  x, y = images(2, 40, 40, 3), images(2, 40, 40, 3, seed=1)
  want = np.asarray(apply(make_lpips(), x, y))
  got = apply(make_lpips(dtype="bfloat16"), x, y)
  assert got.dtype == jnp.float32
  assert 0 < np.abs(got - want).max() < 0.05 * want.max()


def test_lpips_refuses_what_does_not_fit():
  with pytest.raises(ValueError, match=r"'alexnet'; choose one of \['alex'"):
    e4e.LPIPS("alexnet", rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match="channels has 2 numbers, alex takes 5"):
    e4e.LPIPS("alex", channels=(8, 8), rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match="3 channels"):
    make_lpips().features(images(1, 40, 40, 4))
  for net in NETS:
    with pytest.raises(ValueError, match="8 x 8 are too small"):
      jax.eval_shape(make_lpips(net).features, images(1, 8, 8, 3))


# Unit vectors.


def test_moco_gives_unit_vectors_whatever_the_batch():
  moco, x = make_moco(), images(3, 40, 24, 3)
  vectors = apply(moco, x)
  assert vectors.shape == (3, 32) and vectors.dtype == jnp.float32
  np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, rtol=1e-5)
  alone = apply(moco, x[:1])
  assert alone.shape == (1, 32)
  np.testing.assert_allclose(alone, vectors[:1], atol=1e-5)


@pytest.mark.slow
def test_moco_sees_the_nearest_pixels():
  moco, x = make_moco(), images(1, 32, 32, 3)
  larger = np.asarray(x).repeat(2, 1).repeat(3, 2)
  changed = larger.copy()
  changed[:, 1::2] = 7  # rows that are skipped
  got = apply(moco, jnp.asarray(np.concatenate([larger, changed])))
  want = np.repeat(apply(moco, x), 2, 0)
  np.testing.assert_allclose(got, want, atol=1e-6)


def test_moco_refuses_other_channels():
  with pytest.raises(ValueError, match="3 channels"):
    jax.eval_shape(make_moco(), images(1, 40, 40, 6))


@pytest.mark.slow
def test_a_dead_network_gives_no_nan():
  moco = make_moco()
  moco.blocks[-1].norm3.scale[...] = jnp.zeros(32)
  moco.blocks[-1].shortcut_norm.scale[...] = jnp.zeros(32)
  for norm in ("norm3", "shortcut_norm"):
    getattr(moco.blocks[-1], norm).bias[...] = jnp.full(32, -1.0)
  graph, state = nnx.split(moco)

  def total(x):
    return nnx.merge(graph, state)(x).sum()

  value, gradient = jax.jit(jax.value_and_grad(total))(images(1, 32, 32, 3))
  assert value == 0 and np.isfinite(gradient).all()


def test_the_face_is_the_same_part_of_every_size():
  rows, columns = np.meshgrid(range(256), range(256), indexing="ij")
  x = jnp.asarray(np.stack([rows, columns], -1)[None], jnp.float32)
  face = np.asarray(face_crop(x)[0])
  assert face.shape == (188, 188, 2)
  assert (face[0, 0] == (35, 32)).all() and (face[-1, -1] == (222, 219)).all()
  for size, side in ((1024, 752), (512, 376), (128, 94), (64, 47)):
    assert face_crop(images(1, size, size, 1)).shape[1:3] == (side, side)


def test_portraits_are_cropped_and_averaged():
  arcface, x = make_arcface(), images(2, 256, 256, 3)
  graph, state = nnx.split(arcface)
  embed = jax.jit(lambda s, x: nnx.merge(graph, s).embed_portrait(x))
  got = np.asarray(embed(state, x))
  np.testing.assert_allclose(np.linalg.norm(got, axis=-1), 1, rtol=1e-5)
  outside = np.array(x)
  outside[:, :35], outside[:, 223:], outside[:, :, :32] = 1, 1, 1
  np.testing.assert_array_equal(got, embed(state, outside))
  outside[:, 35:60] = 1
  assert np.abs(embed(state, outside) - got).max() > 1e-3


# Files.


@pytest.mark.parametrize(
  "make",
  [make_lpips, lambda: make_lpips("squeeze", dtype="bfloat16"), make_moco],
  ids=["alex", "squeeze", "moco"],
)
def test_a_file_is_enough_to_rebuild_them(make, tmp_path):
  network = make()
  weights.save(network, tmp_path / "n.safetensors")
  again = e4e.load(tmp_path / "n.safetensors")
  assert architectures.architecture(again) == architectures.architecture(
    network
  )
  for a, b in zip(
    jax.tree.leaves(nnx.state(network)),
    jax.tree.leaves(nnx.state(again)),
    strict=True,
  ):
    np.testing.assert_array_equal(a, b)
