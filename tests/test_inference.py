"""Many pictures to codes and back; small networks."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from test_inverter import inverter

from encoder4editing_jax import compiling, faceworld, inference, optimising


def drawn(*shape, seed=0):
  values = np.random.default_rng(seed).uniform(-1, 1, shape)
  return values.astype(np.float32)


def test_batches_are_filled_up_and_cut_off():
  sizes = []

  def double(x):
    sizes.append(len(x))
    return {"twice": 2 * x}

  out = compiling.in_batches(double, 3, drawn(7, 2))
  np.testing.assert_array_equal(out["twice"], 2 * drawn(7, 2))
  assert sizes == [3, 3, 3]
  with pytest.raises(ValueError, match="0 pictures"):
    compiling.in_batches(double, 3, drawn(0, 2))


def test_files_that_are_no_pictures_are_named(tmp_path):
  good, bad = tmp_path / "a.png", tmp_path / "b.png"
  Image.fromarray(np.full((9, 7, 3), 255, np.uint8)).save(good)
  bad.write_bytes(b"no picture")
  opened = inference.open_images([bad, good, tmp_path / "c.png"], (32, 32))
  assert opened.names == (str(good),)
  np.testing.assert_array_equal(opened.images, np.ones((1, 32, 32, 3)))
  assert set(opened.failed) == {str(bad), str(tmp_path / "c.png")}


def test_latents_give_the_same_pictures_to_the_bit(tmp_path):
  net = faceworld.load_generator()
  w_plus = drawn(3, net.n_styles, net.style_dim)
  for seed in (None, 5):
    path = tmp_path / f"{seed}.npz"
    before = inference.paint(net, w_plus, batch=2, noise_seed=seed)
    latents = inference.Latents(
      ("a/x.png", "b.png", "c"), w_plus, seed, inference.fingerprint(net), 2
    )
    inference.save_latents(path, latents)
    again = inference.load_latents(path, faceworld.load_generator())
    assert again.names == latents.names
    after = inference.paint(
      net, again.w_plus, batch=again.batch, noise_seed=again.noise_seed
    )
    np.testing.assert_array_equal(before, after)
  other = faceworld.load_generator()
  other.w_avg[...] += 1
  with pytest.raises(ValueError, match="another generator"):
    inference.load_latents(path, other)
  path.write_bytes(path.read_bytes()[:900])
  with pytest.raises(ValueError, match="no file of latents"):
    inference.load_latents(path)
  with pytest.raises(IsADirectoryError, match="name the file in it"):
    inference.load_latents(tmp_path)
  with pytest.raises(ValueError, match="occurs twice"):
    inference.save_latents(path, latents._replace(names=("a", "a", "b")))


@pytest.mark.slow
def test_batched_codes_are_those_of_the_network():
  images = drawn(3, 32, 32, 3)
  net, restyle = inverter(), inverter(restyle=True)
  codes = inference.invert(net, images, batch=2)
  np.testing.assert_allclose(codes, net.encode(jnp.asarray(images)), atol=1e-4)
  refined = inference.invert(restyle, images, 2, batch=2)
  direct = restyle.invert(jnp.asarray(images), 2).w_plus
  np.testing.assert_allclose(refined, direct, rtol=1e-3, atol=1e-3)
  booted = inference.invert(restyle, images, 1, batch=2, start=net)
  assert np.abs(booted - codes).max() > 0
  with pytest.raises(ValueError, match="only a ReStyle"):
    inference.invert(net, images, start=restyle)


@pytest.mark.slow  # 40 s with the quick compiler flags of the tests
def test_fitting_brings_codes_and_generator_nearer():
  net = faceworld.load_generator()
  images = faceworld.sample(seed=3, n=1)[0]
  start = jnp.tile(net.w_avg[...][None, None], (1, net.n_styles, 1))

  def error(generator, codes):
    return jnp.square(generator.synthesis(codes) - images).mean().item()

  codes = optimising.optimise(net, images, start, steps=20, lr=0.05)
  assert error(net, codes) < 0.6 * error(net, start)
  digest = inference.fingerprint(net)
  tuned = optimising.tune(net, images, codes, steps=8, lr=1e-3)
  assert error(tuned, codes) < 0.9 * error(net, codes)
  assert inference.fingerprint(net) == digest
  with pytest.raises(ValueError, match="0 steps"):
    optimising.optimise(net, images, start, steps=0)
