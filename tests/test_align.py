"""The FFHQ crop and its way back: laws. Parity is in parity_align.py."""

import numpy as np
import pytest

from encoder4editing_jax import align

FIVE = np.array(
  [[78, 92], [140, 100], [104, 126], [80, 152], [126, 158]], float
)


def smooth(h, w):
  """A picture without fine detail, so that resampling changes little."""
  y, x = np.mgrid[:h, :w] / 40
  waves = [np.sin(x + 0.5 * c) * np.cos(y - 0.3 * c) for c in range(3)]
  return np.uint8(127.5 + 100 * np.stack(waves, -1))


def sixty_eight(five):
  """68 points with the same eyes and mouth corners as 5."""
  points = np.zeros((68, 2))
  points[36:42], points[42:48] = five[0], five[1]
  points[48], points[54] = five[3], five[4]
  return points


def test_five_points_and_sixty_eight_are_the_same_crop():
  image = smooth(260, 230)
  crop = align.align(image, FIVE, 64)
  np.testing.assert_array_equal(crop, align.align(image, sixty_eight(FIVE), 64))
  assert crop.shape == (64, 64, 3)
  assert crop.dtype == np.uint8


def test_the_quad_is_a_square_around_the_eyes():
  quad = align.crop_quad(FIVE)
  sides = np.diff(np.concatenate([quad, quad[:1]]), axis=0)
  np.testing.assert_allclose(np.hypot(*sides.T), np.hypot(*sides[0]))
  np.testing.assert_allclose(sides[0] @ sides[1], 0, atol=1e-9)
  inside = align.to_crop(FIVE, FIVE, 1)
  assert (inside > -0.5).all() and (inside < 0.5).all()


def test_a_crop_of_a_crop_is_the_crop():
  image = smooth(400, 380)
  crop = align.align(image, FIVE + 90, 200)
  again = align.align(crop, align.to_crop(FIVE + 90, FIVE + 90, 200), 200)
  middle = np.s_[40:160, 40:160]  # the rim is blurred: it is an edge now
  error = np.abs(np.int16(again) - crop)
  assert error[middle].max() <= 3
  assert np.abs(np.int16(crop[middle]) - 127).max() > 60  # there is something


def test_moving_the_picture_moves_nothing_in_the_crop():
  image = smooth(420, 420)
  moved = np.roll(image, (13, 7), (0, 1))
  ours = align.align(image, FIVE + 100, 96)
  np.testing.assert_array_equal(
    ours, align.align(moved, FIVE + 100 + [7, 13], 96)
  )


@pytest.mark.parametrize("size", [64, 160, 512])
@pytest.mark.parametrize("shift", [0, 90])
def test_pasting_back_restores_the_picture(size, shift):
  """Bytes outside of the crop, and nearly the values in it."""
  image, points = smooth(380, 340), FIVE + shift
  crop = align.align(image, points, size)
  back = align.unalign(image, crop, points)
  difference = np.abs(np.int16(back) - image)
  y, x = np.mgrid[:380, :340]
  place = align.to_crop(np.stack([x.ravel(), y.ravel()], 1), points, 1) + 0.5
  outside = ((place < 0) | (place > 1)).any(1).reshape(380, 340)
  assert 0 < outside.sum() < outside.size
  assert not difference[outside].any()
  if shift:  # otherwise the crop reaches over the edge and is blurred there
    assert difference.max() <= (12 if size == 64 else 4)


def test_an_edit_appears_in_the_picture_and_nowhere_else():
  image, points = smooth(380, 340), FIVE + 90
  white = np.full((128, 128, 3), 255, np.uint8)
  before = image.copy()
  back = align.unalign(image, white, points)
  np.testing.assert_array_equal(image, before)  # not changed in place
  eye = points[0].astype(int)
  assert (back[eye[1], eye[0]] == 255).all()
  hard = align.unalign(image, white, points, feather=0.0)
  assert (hard != image).sum() > (back != image).sum()
  partly = (back != image) & (back != 255)
  assert partly.any()
  assert not ((hard != image) & (hard != 255)).any()


def test_faces_whose_crops_overlap_keep_their_middles_in_any_order():
  """As edits of neighbours in a photo: neither face covers the other's."""
  image = smooth(380, 560)
  left, right = (FIVE + np.array(move) for move in ((80, 90), (230, 80)))
  grey = [np.full((128, 128, 3), value, np.uint8) for value in (0, 255)]
  both = align.unalign(image, grey[0], left)
  both = align.unalign(both, grey[1], right, others=[left])
  other = align.unalign(image, grey[1], right)
  other = align.unalign(other, grey[0], left, others=[right])
  for points, value in ((left, 0), (right, 255)):
    at = tuple(np.int64(points).T[::-1])
    assert (both[at] == value).all()
  assert (align.unalign(other, grey[1], right)[at] == 255).all()
  assert np.abs(np.int16(both) - other).mean() < 1
  alone = align.unalign(image, grey[0], left, others=[right + 900])
  np.testing.assert_array_equal(alone, align.unalign(image, grey[0], left))


@pytest.mark.parametrize(
  ("landmarks", "message"),
  [
    (np.zeros((7, 2)), "shape"),
    (FIVE[:, :1], "shape"),
    (FIVE * np.nan, "NaN"),
    (np.ones((5, 2)), "no square"),
    (FIVE + 5000, "outside of the picture"),
  ],
)
def test_landmarks_that_are_none_are_refused(landmarks, message):
  image = smooth(100, 100)
  with pytest.raises(ValueError, match=message):
    align.align(image, landmarks)
  with pytest.raises(ValueError, match=message):
    align.unalign(image, image[:64, :64], landmarks)


def test_a_feather_that_is_none_is_refused():
  image = smooth(300, 300)
  with pytest.raises(ValueError, match=r"feather is 0\.7"):
    align.unalign(image, image[:64, :64], FIVE, feather=0.7)


def test_a_narrow_picture_is_made_smaller_without_vanishing():
  image = np.zeros((4000, 6, 3), np.uint8)
  points = (np.array(FIVE) + 1) / 2 * [6, 4000]
  assert align.align(image, points, 16).shape == (16, 16, 3)


def test_large_faces_are_pasted_in_bands(monkeypatch):
  image, other = smooth(260, 230), FIVE + np.array([30, 10])
  face = 255 - align.align(image, FIVE, 64)
  whole = align.unalign(image, face, FIVE, others=[other])
  monkeypatch.setattr(align, "BAND", 1000)
  again = align.unalign(image, face, FIVE, others=[other])
  np.testing.assert_array_equal(again, whole)
