"""Faceworld: the renderer, the shipped generator, directions and the probe."""

import json
from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from encoder4editing_jax import editing, faceworld
from encoder4editing_jax.faceworld import fit
from encoder4editing_jax.metrics.pixels import psnr

ATTRIBUTES = faceworld.ATTRIBUTES
SMILE = ATTRIBUTES.index("smile")

FOLDER = resources.files("encoder4editing_jax.faceworld")


@pytest.fixture(scope="module")
def generator():
  return faceworld.load_generator()


@pytest.fixture(scope="module")
def faces():
  """Eight faces: images, attributes, codes."""
  return faceworld.sample(seed=5, n=8)


def test_attributes_are_bounded_uniform_and_independent():
  z = jax.random.normal(jax.random.key(0), (4000, faceworld.STYLE_DIM))
  a = np.asarray(faceworld.attributes(z))
  assert a.shape == (4000, len(ATTRIBUTES)) and len(ATTRIBUTES) >= 12
  assert np.abs(a).max() <= 1
  np.testing.assert_allclose(a.mean(0), 0, atol=0.05)
  np.testing.assert_allclose(a.std(0), 3**-0.5, atol=0.03)
  others = np.corrcoef(a.T) - np.eye(len(ATTRIBUTES))
  assert np.abs(others).max() < 0.1


def test_attributes_ignore_the_length_of_z_as_the_mapping_does():
  z = jax.random.normal(jax.random.key(1), (3, faceworld.STYLE_DIM))
  a = faceworld.attributes(z)
  np.testing.assert_allclose(faceworld.attributes(7 * z), a, atol=1e-5)


def test_wrong_shapes_are_refused():
  with pytest.raises(ValueError, match="14 or more"):
    faceworld.attributes(jnp.zeros((1, 3)))
  with pytest.raises(ValueError, match="ATTRIBUTES"):
    faceworld.render(jnp.zeros((1, 3)))


def test_renders_are_deterministic_and_bounded(faces):
  images, truth, z = faces
  assert images.shape == (8, 64, 64, 3) and images.dtype == jnp.float32
  assert float(images.min()) >= -1 and float(images.max()) <= 1
  again, _, z_again = faceworld.sample(seed=5, n=8)
  np.testing.assert_array_equal(images, again)
  np.testing.assert_array_equal(z, z_again)
  np.testing.assert_array_equal(truth, faceworld.attributes(z))


def test_every_attribute_changes_the_picture():
  n = len(ATTRIBUTES)
  middle = jnp.zeros((1, n)).at[0, ATTRIBUTES.index("glasses")].set(0.3)
  moved = middle + 0.7 * jnp.eye(n)
  both = jnp.concatenate([moved, middle, middle])  # a multiple of the chunk
  images = np.concatenate(
    [faceworld.render(both[i : i + 8]) for i in range(0, len(both), 8)]
  )
  change = np.abs(images[:n] - images[n]).max((1, 2, 3))
  assert change.min() > 0.1, dict(zip(ATTRIBUTES, change, strict=True))


def test_a_larger_render_is_the_same_picture():
  truth = faceworld.attributes(
    jax.random.normal(jax.random.key(2), (8, faceworld.STYLE_DIM))
  )
  small, large = faceworld.render(truth), faceworld.render(truth, size=128)
  pooled = large.reshape(8, 64, 2, 64, 2, 3).mean((2, 4))
  assert float(jnp.mean((pooled - small) ** 2)) < 4e-3


@pytest.mark.parametrize("n", [250, pytest.param(1000, marks=pytest.mark.slow)])
def test_generator_reaches_30_db_on_unseen_codes(generator, n):
  mean, overall = fit.psnr(generator, n)
  assert mean >= 30, (mean, overall)


def test_generator_carries_its_mean_latent(generator):
  w_avg = generator.mean_latent(2000, jax.random.key(3))
  spread = float(jnp.abs(generator.w_avg[...]).mean())
  assert spread > 0
  np.testing.assert_allclose(generator.w_avg[...], w_avg, atol=0.1 * spread)


def test_generator_is_small(generator):
  with resources.as_file(FOLDER / "generator.safetensors") as path:
    assert path.stat().st_size < 6e6
  assert generator.size == 64


def test_the_probe_reads_smiles(faces):
  assert faceworld.probe_accuracy()["smile"] >= 0.9
  images, truth, _ = faces
  guess = faceworld.measure(images)[:, SMILE]
  assert np.corrcoef(guess, truth[:, SMILE])[0, 1] > 0.8


@pytest.fixture(scope="module")
def measured(generator):
  """Attributes, as the probe reads them in the pictures of codes `[b n d]`."""
  graph, state = nnx.split(generator)

  def measure(state, w_plus):
    images = nnx.merge(graph, state).synthesis(w_plus, noise="none")
    return faceworld.measure(images)

  compiled = jax.jit(measure)
  return lambda w_plus: np.asarray(compiled(state, w_plus))


@pytest.mark.parametrize("name", ["smile", "yaw", "hair_colour", "beard"])
def test_a_direction_raises_its_attribute(generator, measured, name):
  directions = faceworld.load_directions()
  assert set(directions) == set(ATTRIBUTES)
  z = jax.random.normal(jax.random.key(4), (8, generator.style_dim))
  w_plus = generator.to_w_plus([generator.mapping(z)])
  k = ATTRIBUTES.index(name)
  more, less = (editing.move(w_plus, directions[name], s) for s in (1.0, -1.0))
  change = (measured(more) - measured(less)).mean(0)
  assert change[k] > 0.4
  assert change[k] == max(change)


def test_write_images_makes_a_folder_that_tells_the_truth(tmp_path):
  paths = faceworld.write_images(tmp_path / "a", 3, seed=9)
  assert [path.name for path in paths] == [
    f"face_{i:05d}.png" for i in range(3)
  ]
  table = json.loads((tmp_path / "a" / "attributes.json").read_text())
  images, truth, _ = faceworld.sample(seed=9, n=3)
  for i, path in enumerate(paths):
    pixels = np.asarray(Image.open(path), np.float32) / 127.5 - 1
    np.testing.assert_allclose(pixels, images[i], atol=1.1 / 127.5)
    values = [table[path.name][name] for name in ATTRIBUTES]
    np.testing.assert_allclose(values, truth[i], atol=1e-5)
  again = faceworld.write_images(tmp_path / "b", 2, seed=9)
  assert again[1].read_bytes() == paths[1].read_bytes()


@pytest.mark.slow
def test_fit_learns_and_continues_where_it_stopped(tmp_path, monkeypatch):
  monkeypatch.setattr(fit, "STAGES", ((8, 1.0),))
  before = fit.psnr(fit.create_generator(8), 8)[0]
  whole = fit.fit(40, None, log_every=40)
  assert fit.psnr(whole, 8)[0] > before + 3
  interrupted = fit.create_generator(8)
  fit._stage(interrupted, (0, 25, 40), tmp_path / "state.8", 25)
  resumed = fit.fit(40, tmp_path / "state", log_every=40)
  kernel = whole.synthesis.conv.kernel[...]
  np.testing.assert_array_equal(resumed.synthesis.conv.kernel[...], kernel)


def test_the_shipped_inverter_reconstructs_faces_it_has_not_seen():
  net = faceworld.load_inverter()
  faces, _, _ = faceworld.sample(seed=5_000_011, n=32)
  again = nnx.jit(lambda net, x: net.invert(x).images)(net, faces)
  assert psnr(again, faces).mean() > 30
  same = faceworld.load_generator().synthesis
  ours = nnx.state(net.generator.synthesis)
  for mine, theirs in zip(
    jax.tree.leaves(ours), jax.tree.leaves(nnx.state(same)), strict=True
  ):
    np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4)
