"""Faceworld's label maps and line drawings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from encoder4editing_jax import faceworld

ATTRIBUTES, LABELS = faceworld.ATTRIBUTES, faceworld.LABELS


def faces(n=8, **given):
  """Attributes of random faces, some of them set for all."""
  z = jax.random.normal(jax.random.key(2), (n, faceworld.STYLE_DIM))
  truth = np.array(faceworld.attributes(z))
  for name, value in given.items():
    truth[:, ATTRIBUTES.index(name)] = value
  return jnp.asarray(truth)


def shares(truth):
  """Share of each class in label maps `[b k]`."""
  maps = np.asarray(faceworld.render_labels(truth))
  counts = [np.bincount(m.ravel(), minlength=len(LABELS)) for m in maps]
  return dict(zip(LABELS, np.transpose(counts) / maps[0].size, strict=True))


def test_maps_hold_every_class_and_no_other():
  maps = faceworld.render_labels(faces(beard=0.8, glasses=0.8, smile=0.8))
  assert maps.shape == (8, 64, 64) and maps.dtype == jnp.uint8
  assert set(np.unique(maps)) == set(range(len(LABELS)))


@pytest.mark.parametrize(
  ("name", "label"),
  [("glasses", "glasses"), ("beard", "beard"), ("smile", "teeth")],
)
def test_a_class_is_there_if_its_attribute_is(name, label):
  assert (shares(faces(**{name: -0.9}))[label] == 0).all()
  assert (shares(faces(**{name: 0.9}))[label] > 0).all()


def test_attributes_of_shape_change_the_map():
  longer, shorter = (shares(faces(hair_length=x))["hair"] for x in (1.0, -1.0))
  assert (longer > shorter + 0.02).all()
  open_, closed = (
    shares(faces(eye_openness=x, glasses=-1))["eyes"] for x in (1.0, -1.0)
  )
  assert (open_ > closed).all()


def test_colours_and_light_do_not_show():
  """What a map or a drawing leaves open is for the encoder to choose."""
  colours = ("skin_tone", "hair_colour", "background", "light_direction")
  one, other = (faces(**dict.fromkeys(colours, x)) for x in (-0.7, 0.7))
  for draw in (faceworld.render_labels, faceworld.render_contours):
    np.testing.assert_array_equal(draw(one), draw(other))


def test_maps_fit_the_pictures():
  """In the unlit parts of one colour the picture hardly varies."""
  truth = faces(light_direction=0.0)
  picture = np.asarray(faceworld.render(truth))
  maps = np.asarray(faceworld.render_labels(truth))
  for image, seen in zip(picture, maps, strict=True):
    clothes = image[seen == LABELS.index("clothes")]
    assert len(clothes) > 100
    within = np.abs(clothes - np.median(clothes, 0)).max(-1)
    assert (within < 0.05).mean() > 0.8  # edges are blended


def test_drawings_are_dark_lines_where_classes_meet():
  truth = faces(beard=-1.0)
  paper = np.asarray(faceworld.render_contours(truth)).astype(int)
  assert paper.shape == (8, 64, 64)
  maps = np.asarray(faceworld.render_labels(truth))
  border = np.zeros(maps.shape, bool)
  for axis in (1, 2):
    for step in (-1, 1):
      border |= maps != np.roll(maps, step, axis)
  assert paper[~border].mean() > 230
  assert paper[border].mean() < paper[~border].mean() - 60
  assert (paper[:, 0] == 255).all()  # nothing but background up there


@pytest.mark.slow
def test_sources_have_the_names_and_faces_of_the_images(tmp_path):
  images = faceworld.write_images(tmp_path / "images", 3, seed=9)
  truth = faceworld.sample(seed=9, n=3)[1]
  for task, draw in (
    ("segmentation", faceworld.render_labels),
    ("sketch", faceworld.render_contours),
  ):
    paths = faceworld.write_sources(tmp_path / task, task, 3, seed=9)
    assert [p.name for p in paths] == [p.name for p in images]
    drawn = np.asarray(draw(jnp.tile(truth, (3, 1))[:8]))
    for i, path in enumerate(paths):
      np.testing.assert_array_equal(np.asarray(Image.open(path)), drawn[i])
  with pytest.raises(ValueError, match="use segmentation, sketch"):
    faceworld.write_sources(tmp_path, "inpainting", 3)
