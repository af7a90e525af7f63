"""What is done to pictures to make the sources of the tasks."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from encoder4editing_jax.data import images, transforms
from encoder4editing_jax.data.tasks import Task, to_float, to_source
from encoder4editing_jax.training import pictures


def encoded(image, kind="PNG", **options):
  buffer = io.BytesIO()
  image.save(buffer, kind, **options)
  return buffer.getvalue()


def noise(h, w, seed=0):
  random = np.random.default_rng(seed)
  return random.integers(0, 256, (h, w, 3), dtype=np.uint8)


@pytest.mark.parametrize("factor", [1, 2, 3, 7, 32])
def test_cubic_taps_are_a_symmetric_average(factor):
  taps = transforms.cubic_taps(factor)
  assert len(taps) == 4 * factor
  assert taps.sum() == pytest.approx(1)
  np.testing.assert_allclose(taps, taps[::-1], atol=1e-7)


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_shrinking_keeps_constants_and_ramps(factor):
  """Keys' kernel reproduces straight lines, away from the border."""
  ramp = np.tile(np.arange(61.0)[:, None, None], (1, 47, 1))
  small = transforms.shrink(ramp, factor)
  assert small.shape == (61 // factor, 47 // factor, 1)
  np.testing.assert_allclose(small, np.tile(small[:, :1], (1, 47 // factor, 1)))
  # a kernel of an even number of taps cannot be centred in an odd block
  centre = (np.arange(61 // factor) + 0.5) * factor - 0.5 + factor % 2 / 2
  inner = slice(2, -2)
  np.testing.assert_allclose(small[inner, 0, 0], centre[inner], rtol=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (37, 53)])
@pytest.mark.parametrize("factor", [1, 2, 8, 24])
def test_degraded_pictures_keep_their_size_and_lose_detail(size, factor):
  picture = noise(*size)
  shown = transforms.degrade(picture, factor)
  assert shown.shape == picture.shape and shown.dtype == np.uint8
  assert shown.std() < picture.std() / min(factor, 2)


def test_degrading_a_plain_picture_costs_at_most_the_cut_off_fraction():
  plain = np.full((32, 32, 3), 200, np.uint8)
  difference = transforms.degrade(plain, 4).astype(int) - 200
  assert set(np.unique(difference)) <= {-1, 0}


def test_too_large_factors_are_refused():
  assert transforms.largest_factor(64) == 42
  transforms.degrade(noise(64, 64), 42)
  with pytest.raises(ValueError, match="64 pixels cannot be shrunk by 43"):
    transforms.degrade(noise(64, 70), 43)


def test_holes_hide_some_and_leave_the_rest_alone():
  picture = noise(48, 64)
  for seed in range(50):
    covered = transforms.cover(picture, np.random.default_rng(seed))
    hidden = (covered == transforms.HOLE).all(-1)
    assert 0.02 < hidden.mean() < 0.7
    np.testing.assert_array_equal(covered[~hidden], picture[~hidden])


def test_holes_are_a_function_of_the_generator():
  one, same, other = (
    transforms.cover(noise(32, 32), np.random.default_rng(seed))
    for seed in (1, 1, 2)
  )
  np.testing.assert_array_equal(one, same)
  assert (one != other).any()


def test_resized_labels_are_labels():
  """Mixing ids would invent classes between those of two neighbours."""
  ids = np.zeros((30, 40), np.uint8)
  ids[:, 20:] = 7
  data = encoded(Image.fromarray(ids))
  shown = Task("segmentation", labels=8).decode(data, (64, 64))
  assert shown.shape == (64, 64, 1) and shown.dtype == np.uint8
  assert set(np.unique(shown)) == {0, 7}
  mixed = images.fit(images.open_labels(data, 8), (64, 64))
  assert set(np.unique(mixed)) > {0, 7}


def test_labels_of_a_palette_are_its_indices():
  image = Image.new("P", (2, 1))
  image.putpalette([9, 9, 9, 8, 8, 8, 200, 0, 0])
  image.putdata([2, 1])
  shown = Task("segmentation", labels=3).decode(encoded(image), (1, 2))
  np.testing.assert_array_equal(shown[0, :, 0], [2, 1])


@pytest.mark.parametrize(
  ("data", "reason"),
  [
    (encoded(Image.new("L", (2, 2), 19)), "class 19, allowed are 0 to 18"),
    (encoded(Image.new("RGB", (2, 2))), "mode is RGB; class ids need"),
    (encoded(Image.new("1", (2, 2))), "mode is 1"),
    (encoded(Image.new("I;16", (2, 2))), "mode is I;16"),
    (encoded(Image.new("L", (2, 2)), "JPEG"), "JPEG; save them as PNG"),
    (b"", "empty"),
  ],
)
def test_what_cannot_be_labels_says_why(data, reason):
  with pytest.raises(images.UnreadableImage, match=reason):
    Task("segmentation", labels=19).open(data)


def test_sketches_have_one_channel_from_0_to_1():
  task = Task("sketch")
  source = task.decode(encoded(Image.new("RGB", (8, 8), "white")), (4, 6))
  assert source.shape == (4, 6, 1)
  batch = {"image": jnp.zeros((1, 4, 6, 3), "u1")} | as_batch(source)
  shown = to_source(batch, task)
  assert shown.shape == (1, 4, 6, 1) and (shown == 1).all()


def as_batch(source):
  return {"source": jnp.asarray(source)[None]}


def test_labels_become_one_channel_each():
  ids = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
  batch = {"image": jnp.zeros((1, 2, 3, 3), "u1")} | as_batch(ids)
  shown = to_source(batch, Task("segmentation", labels=6))
  assert shown.shape == (1, 2, 3, 6)
  np.testing.assert_array_equal(shown.sum(-1), np.ones((1, 2, 3)))
  np.testing.assert_array_equal(shown.argmax(-1), ids[None, ..., 0])


def test_the_source_of_an_inversion_is_the_image():
  batch = {"image": jnp.asarray(noise(4, 4))[None]}
  shown = to_source(batch, Task())
  np.testing.assert_array_equal(shown, to_float(batch["image"]))
  assert Task().channels == 3


@pytest.mark.parametrize(
  ("task", "channels"), [(Task("sketch"), 1), (Task("segmentation", 5), 5)]
)
def test_every_source_can_be_shown(task, channels):
  assert task.channels == channels
  source = np.arange(5, dtype=np.uint8).reshape(1, 1, 5, 1)
  shown = pictures.show_source(source, task)
  assert shown.shape == (1, 1, 5, 3)
  assert np.abs(shown).max() <= 1
  assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 5


def test_bytes_are_rounded_unless_told_otherwise():
  values = np.array([-2, -1, 0.99 / 127.5 - 1, 1, 3], np.float32)
  image = np.tile(values[None, None, :, None], (1, 1, 1, 3))
  rounded, cut = (
    pictures.to_bytes(image, truncate=truncate)[0, 0, :, 0]
    for truncate in (False, True)
  )
  np.testing.assert_array_equal(rounded, [0, 0, 1, 255, 255])
  np.testing.assert_array_equal(cut, [0, 0, 0, 255, 255])
