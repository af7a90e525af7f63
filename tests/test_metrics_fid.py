"""FID: distances of known Gaussians, its network, and the way to that."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from random_weights import apply, randomised
from test_converters import assert_equal_leaves

from encoder4editing_jax import converters, weights
from encoder4editing_jax.converters import inception as converter, transfer
from encoder4editing_jax.metrics import fid
from encoder4editing_jax.models import inception
from encoder4editing_jax.models.inception import Inception

RNG = np.random.default_rng(0)


def gaussian(d, seed):
  rng = np.random.default_rng(seed)
  x = rng.standard_normal((d, d))
  return fid.Statistics(rng.standard_normal(d), x @ x.T / d)


# The distance.


def test_equal_sets_have_distance_zero():
  a = gaussian(7, 1)
  assert fid.distance(a, a) == pytest.approx(0, abs=1e-9)
  few = fid.Accumulator()
  few.add(RNG.standard_normal((3, 9)))  # a covariance of rank 2
  assert fid.distance(few.statistics(), few.statistics()) < 1e-6


def test_distance_of_gaussians_with_a_closed_form():
  """Covariances that commute: |m-n|^2 + sum (sqrt a - sqrt b)^2."""
  a, b = RNG.uniform(0, 3, (2, 6))
  m, n = RNG.standard_normal((2, 6))
  turn = np.linalg.qr(RNG.standard_normal((6, 6)))[0]
  ours = [fid.Statistics(x, turn * y @ turn.T) for x, y in ((m, a), (n, b))]
  expected = np.square(m - n).sum() + np.square(np.sqrt(a) - np.sqrt(b)).sum()
  assert fid.distance(*ours) == pytest.approx(expected, rel=1e-9)
  assert fid.distance(*ours[::-1]) == pytest.approx(expected, rel=1e-9)


def test_distance_is_that_of_the_square_root_of_the_product():
  """As pytorch-fid computes it, by the root of a matrix without symmetry."""
  import scipy.linalg

  a, b = gaussian(8, 2), gaussian(8, 3)
  root = scipy.linalg.sqrtm(a.covariance @ b.covariance).real
  expected = np.square(a.mean - b.mean).sum()
  expected += np.trace(a.covariance + b.covariance - 2 * root)
  assert fid.distance(a, b) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("batch", [1, 2, 5, 23])
def test_batches_do_not_matter(batch):
  x = RNG.standard_normal((23, 4)) + 1e4  # far from 0: digits could be lost
  found = fid.Accumulator()
  for i in range(0, 23, batch):
    found.add(x[i : i + batch])
  found.add(x[:0])
  assert found.n == 23
  mean, covariance = found.statistics()
  np.testing.assert_allclose(mean, x.mean(0), rtol=1e-13)
  np.testing.assert_allclose(covariance, np.cov(x, rowvar=False), rtol=1e-9)


def test_statistics_of_less_than_two_are_refused():
  one = fid.Accumulator()
  with pytest.raises(ValueError, match="FID needs 2 pictures or more, not 0"):
    one.statistics()
  one.add(np.zeros((1, 3)))
  with pytest.raises(ValueError, match="2 pictures or more"):
    one.statistics()


def test_statistics_on_disk(tmp_path):
  a = gaussian(5, 4)
  fid.save_statistics(tmp_path / "a.npz", a)
  again = fid.load_statistics(tmp_path / "a.npz")
  np.testing.assert_array_equal(again.mean, a.mean)
  np.testing.assert_array_equal(again.covariance, a.covariance)
  np.savez(tmp_path / "theirs.npz", mu=a.mean, sigma=a.covariance)
  assert fid.distance(a, fid.load_statistics(tmp_path / "theirs.npz")) < 1e-9


@pytest.mark.parametrize(
  ("arrays", "words"),
  [
    ({"mu": np.zeros(3)}, "no statistics"),
    ({"mu": np.zeros(3), "sigma": np.eye(4)}, r"mu has shape \(3,\)"),
    ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, "are needed"),
    ({"mu": np.array({}), "sigma": np.eye(1)}, "no statistics"),
  ],
)
def test_other_files_are_no_statistics(arrays, words, tmp_path):
  np.savez(tmp_path / "x.npz", **arrays)
  with pytest.raises(ValueError, match=words):
    fid.load_statistics(tmp_path / "x.npz")
  (tmp_path / "y.npz").write_bytes(b"text")
  np.save(tmp_path / "z.npy", np.zeros(3))
  for name in ("y.npz", "z.npy"):
    with pytest.raises(ValueError, match="no statistics"):
      fid.load_statistics(tmp_path / name)
  with pytest.raises(FileNotFoundError, match="is not there"):
    fid.load_statistics(tmp_path / "w.npz")


def test_statistics_that_do_not_fit_are_refused():
  a, b = gaussian(3, 0), gaussian(4, 0)
  with pytest.raises(ValueError, match="of 3 and 4 features"):
    fid.distance(a, b)
  with pytest.raises(ValueError, match="NaN"):
    fid.distance(a, a._replace(mean=a.mean * np.nan))


# The network.


@pytest.fixture(scope="module")
def small():
  return randomised(lambda: Inception(16, 75, rngs=nnx.Rngs(0)))


def test_the_published_network_has_its_shapes():
  net = nnx.eval_shape(lambda: Inception(rngs=nnx.Rngs(0)))
  assert (net.features, len(net.convs)) == (2048, 94)
  names = list(inception.conv_names())
  assert len(set(names)) == 94
  params = nnx.state(net, nnx.Param)
  n = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert n == 21_785_568  # torchvision's, without classifiers
  shapes = transfer.source_shapes(net, converter.inception_table(net))
  for name, shape in {
    "Conv2d_4a_3x3.conv.weight": (192, 80, 3, 3),
    "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
    "Mixed_5c.branch_pool.conv.weight": (64, 256, 1, 1),
    "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
    "Mixed_6c.branch7x7dbl_4.conv.weight": (160, 160, 7, 1),
    "Mixed_6e.branch7x7_2.conv.weight": (192, 192, 1, 7),
    "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
    "Mixed_7b.branch1x1.bn.running_mean": (320,),
    "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
    "Mixed_7c.branch_pool.conv.weight": (192, 2048, 1, 1),
  }.items():
    assert shapes[name] == shape, name
  out = jax.eval_shape(lambda net, x: net(x), net, jnp.zeros((2, 64, 48, 3)))
  assert out.shape == (2, 2048)


def test_maps_have_the_published_sizes(monkeypatch):
  seen, run = [], Inception._run

  def watched(self, path, x, convs):
    if len(path) == len(inception.NET):
      for step in path:
        x = run(self, (step,), x, convs)
        seen.append(x.shape[1])
      return x
    return run(self, path, x, convs)

  monkeypatch.setattr(Inception, "_run", watched)
  net = nnx.eval_shape(lambda: Inception(16, rngs=nnx.Rngs(0)))
  jax.eval_shape(lambda net, x: net(x), net, jnp.zeros((1, 9, 9, 3)))
  stem = [149, 147, 147, 73, 73, 71, 35]
  assert seen == [*stem, 35, 35, 35, *[17] * 5, 8, 8, 8]


def test_features_are_of_each_picture(small):
  images = jnp.asarray(RNG.uniform(-1, 1, (3, 20, 33, 3)), jnp.float32)
  found = apply(small, images)
  assert found.shape == (3, 128) and (found >= 0).all()
  assert np.std(np.asarray(found), 0).max() > 1e-6
  np.testing.assert_allclose(found[1:], apply(small, images[1:]), atol=1e-6)


def test_means_at_the_edge_leave_out_what_is_beyond():
  x = jnp.arange(6.0).reshape(1, 2, 3, 1)
  found = inception.neighbour_mean(x)
  np.testing.assert_allclose(found[0, :, :, 0], [[2, 2.5, 3]] * 2, rtol=1e-6)


def test_resizing_has_no_antialiasing():
  """`interpolate(mode="bilinear", align_corners=False)`, by its definition."""
  net = nnx.eval_shape(lambda: Inception(16, 75, rngs=nnx.Rngs(0)))
  for n in (20, 75, 200):
    seen = []
    net._run = lambda path, x, convs, seen=seen: seen.append(x) or x
    x = jnp.asarray(RNG.uniform(-1, 1, (1, n, n, 3)), jnp.float32)
    net(x)
    at = np.maximum((np.arange(75) + 0.5) * n / 75 - 0.5, 0)
    low = at.astype(int)
    high, part = np.minimum(low + 1, n - 1), (at - low)[:, None]
    rows = np.eye(n)[low] * (1 - part) + np.eye(n)[high] * part
    expected = np.einsum("ih,bhwc,jw->bijc", rows, x, rows)
    np.testing.assert_allclose(seen[0], expected, atol=1e-4)


@pytest.mark.parametrize("arguments", [(3,), (1, 74)])
def test_other_sizes_are_refused(arguments):
  with pytest.raises(ValueError, match="input_size"):
    Inception(*arguments, rngs=nnx.Rngs(0))


# The converter.


@pytest.fixture(scope="module")
def official(small):
  state = transfer.extract(small, converter.inception_table(small))
  state["Mixed_5b.branch1x1.bn.num_batches_tracked"] = np.array(0)
  fc = {"fc.weight": np.zeros((1008, 128)), "fc.bias": np.zeros(1008)}
  return state | fc


def test_the_network_comes_back(small, official, tmp_path):
  for checkpoint in (official, {"state_dict": official}):
    again = converters.to_inception(checkpoint)
    assert (again.divisor, again.input_size) == (16, 299)
    assert_equal_leaves(again, small)
  assert converters.identify(official)[0].kind.part == "inception"
  weights.save(small, tmp_path / "net.safetensors")
  assert weights.load(tmp_path / "net.safetensors").input_size == 75


@pytest.mark.parametrize(
  "name",
  [
    "Conv2d_1a_3x3.conv.weight",
    "Mixed_6b.branch7x7_2.conv.weight",
    "Mixed_7c.branch3x3dbl_3b.bn.running_var",
  ],
)
def test_what_lacks_or_has_too_much_is_refused(name, official):
  lacking = {k: v for k, v in official.items() if k != name}
  with pytest.raises(ValueError, match=name):
    converters.to_inception(lacking)
  with pytest.raises(ValueError, match="more"):
    converters.to_inception(official | {f"{name}.more": np.zeros(3)})
  wrong = np.zeros((3, *official[name].shape[1:]), np.float32)
  with pytest.raises(ValueError, match=r"Inception|input_size|shape"):
    converters.to_inception(official | {name: wrong})


def test_torchvisions_own_weights_are_refused(official):
  later = official | {"fc.bias": np.zeros(1000)}
  for other in (later, later | {"AuxLogits.fc.weight": np.zeros((1000, 768))}):
    with pytest.raises(ValueError, match=r"other weights .* pt_inception-2015"):
      converters.to_inception(other)
