"""Decoding, folders and the pipeline."""

import io
import os
import struct
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoder4editing_jax.data import (
  checking,
  images,
  pipeline,
  readers,
  sources,
)


def encoded(image, kind="PNG", **options):
  buffer = io.BytesIO()
  image.save(buffer, kind, **options)
  return buffer.getvalue()


def gradient(h=5, w=7):
  y, x = np.mgrid[:h, :w]
  values = np.stack([20 * y, 30 * x, 255 - 20 * y], -1)
  return values.astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
  """Twelve files of four formats, in sub-folders, each of one grey level."""
  root = tmp_path / "images"
  kinds = ("png", "JPG", "jpeg", "webp")
  for i in range(12):
    path = root / f"part{i % 3}" / f"{i:02d}.{kinds[i % 4]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9 + i, 8), (20 * i,) * 3).save(path)
  (root / "notes.txt").write_text("not an image")
  (root / ".hidden.png").write_bytes(b"not an image")
  return root


def test_png_at_its_own_size_is_returned_to_the_bit():
  values = gradient()
  data = encoded(Image.fromarray(values))
  np.testing.assert_array_equal(images.decode(data, (5, 7)), values)


def test_flip_mirrors_columns():
  values = gradient()
  data = encoded(Image.fromarray(values))
  flipped = images.decode(data, (5, 7), flip=True)
  np.testing.assert_array_equal(flipped, values[:, ::-1])


def test_shrinking_averages():
  board = np.indices((64, 64)).sum(0) % 2 * 255
  data = encoded(Image.fromarray(board.astype(np.uint8)))
  small = images.decode(data, (8, 8))
  assert small.shape == (8, 8, 3)
  assert abs(small.astype(int) - 127).max() < 12


def test_exif_orientation_is_applied():
  image = Image.fromarray(gradient())
  exif = Image.Exif()
  exif[0x0112] = 6  # turn clockwise to show
  data = encoded(image, exif=exif)
  shown = images.decode(data, (7, 5))
  np.testing.assert_array_equal(shown, np.rot90(gradient(), -1))


def test_transparency_is_laid_on_white():
  rgba = np.zeros((4, 4, 4), np.uint8)
  rgba[:2, :, 3] = 255
  shown = images.decode(encoded(Image.fromarray(rgba)), (4, 4))
  assert (shown[:2] == 0).all() and (shown[2:] == 255).all()


def test_palette_gives_colours_and_its_transparent_entry_white():
  image = Image.new("P", (2, 2))
  image.putpalette([10, 20, 30, 200, 100, 50])
  image.putdata([0, 0, 1, 1])
  plain = images.decode(encoded(image), (2, 2))
  np.testing.assert_array_equal(plain[0, 0], [10, 20, 30])
  np.testing.assert_array_equal(plain[1, 0], [200, 100, 50])
  keyed = images.decode(encoded(image, transparency=1), (2, 2))
  np.testing.assert_array_equal(keyed[1, 0], [255, 255, 255])


def test_sixteen_bits_are_scaled():
  values = np.array([[0, 257 * 40, 65535]], np.uint16)
  shown = images.decode(encoded(Image.fromarray(values)), (1, 3))
  np.testing.assert_array_equal(shown[0, :, 0], [0, 40, 255])


def test_grey_of_sixteen_bits_with_a_hidden_value_is_laid_on_white():
  image = Image.fromarray(np.array([[0, 257 * 40, 65535]], np.uint16))
  data = encoded(image, transparency=257 * 40)
  assert Image.open(io.BytesIO(data)).info["transparency"] == 257 * 40
  shown = images.decode(data, (1, 3))
  np.testing.assert_array_equal(shown[0, :, 0], [0, 255, 255])


def test_colours_of_sixteen_bits_keep_their_upper_eight():
  def chunk(kind, content):
    body = kind + content
    return struct.pack(">I", len(content)) + body + zlib_crc(body)

  def zlib_crc(body):
    return struct.pack(">I", zlib.crc32(body))

  row = b"\0" + struct.pack(">6H", 0, 257 * 40, 65535, 257 * 9, 0, 257 * 200)
  header = struct.pack(">2I5B", 2, 1, 16, 2, 0, 0, 0)
  data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
  data += chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
  shown = images.decode(data, (1, 2))
  np.testing.assert_array_equal(shown[0], [[0, 40, 255], [9, 0, 200]])


@pytest.mark.parametrize("mode", ["L", "P", "1"])
def test_grey_palette_and_single_bits_keep_their_values(mode):
  grey = Image.new("L", (4, 2), 255)
  grey.paste(0, (0, 0, 2, 2))
  shown = images.decode(encoded(grey.convert(mode)), (2, 4))
  assert (shown[:, :2] == 0).all() and (shown[:, 2:] == 255).all()


def test_grey_with_transparency_is_laid_on_white():
  image = Image.new("LA", (2, 1), (0, 255))
  image.putpixel((1, 0), (0, 0))
  shown = images.decode(encoded(image), (1, 2))
  np.testing.assert_array_equal(shown[0, :, 0], [0, 255])


def test_numbers_of_no_known_range_are_refused():
  floats = encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF")
  with pytest.raises(images.UnreadableImage, match="floats"):
    images.decode(floats, (2, 2))
  large = encoded(Image.fromarray(np.full((2, 2), 70000, np.int32)), "TIFF")
  with pytest.raises(images.UnreadableImage, match="from 70000 to 70000"):
    images.decode(large, (2, 2))


@pytest.mark.parametrize("kind", ["GIF", "MPO", "TIFF", "WEBP"])
def test_of_several_pictures_the_first_is_taken(kind):
  first, second = (Image.new("RGB", (8, 8), c) for c in ("red", "blue"))
  options = {"lossless": True} if kind == "WEBP" else {}
  options |= {"save_all": True, "append_images": [second]}
  shown = images.decode(encoded(first, kind, **options), (8, 8))
  assert shown[0, 0, 0] > 240 and shown[0, 0, 2] < 15


def test_a_small_file_of_many_pixels_is_not_decoded():
  """Single bits that compress to nothing: Pillow would only warn."""
  data = encoded(Image.new("1", (13000, 13000)))
  assert len(data) < 50_000
  with pytest.raises(images.UnreadableImage, match="13000 x 13000 pixels"):
    images.decode(data, (8, 8), max_megapixels=100.0)


def test_our_limit_alone_counts(monkeypatch):
  """Pillow's, which is one for the whole process, does not stand in its way."""
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
  data = encoded(Image.new("RGB", (40, 30), "red"))
  assert images.decode(data, (8, 8), max_megapixels=0.002).shape == (8, 8, 3)
  with pytest.raises(images.UnreadableImage, match="40 x 30 pixels"):
    images.decode(data, (8, 8), max_megapixels=0.001)
  assert Image.MAX_IMAGE_PIXELS == 100


def test_more_pixels_than_pillow_opens_are_told_as_ours():
  """30,000 by 30,000: Pillow has an exception of its own for these."""
  data = bytearray(encoded(Image.new("1", (64, 64))))
  data[16:24] = struct.pack(">2I", 30000, 30000)
  data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
  with pytest.raises(Image.DecompressionBombError):
    Image.open(io.BytesIO(data))
  with pytest.raises(images.UnreadableImage, match="pixels"):
    images.decode(bytes(data), (8, 8))


def test_a_byte_that_flips_inside_a_jpeg_cannot_be_noticed():
  """It decodes, to another picture: digests of files are what finds it."""
  data = bytearray(encoded(Image.effect_noise((64, 64), 50), "JPEG"))
  whole = images.decode(bytes(data), (64, 64))
  data[len(data) // 2] ^= 1
  broken = images.decode(bytes(data), (64, 64))
  assert broken.shape == whole.shape and (broken != whole).any()


@pytest.mark.parametrize(
  "start", [b"8BPS\0\1" + bytes(6), b"SIMPLE  =                    T"]
)
def test_layers_and_telescopes_are_not_opened(start):
  """PSD and FITS, which Pillow reads and does not write."""
  with pytest.raises(images.UnreadableImage, match="not one of"):
    images.decode(start + bytes(4000), (8, 8))


@pytest.mark.parametrize("kind", ["ICO", "TGA", "PDF", "EPS"])
def test_formats_that_nobody_needs_are_not_opened(kind):
  data = encoded(Image.new("RGB", (64, 64), "red"), kind)
  with pytest.raises(images.UnreadableImage, match="not one of"):
    images.decode(data, (8, 8))


def test_plain_is_what_the_originals_do():
  exif = Image.Exif()
  exif[0x0112] = 6
  values = gradient()
  hidden = np.zeros((5, 7, 4), np.uint8)
  hidden[..., 0] = 200
  deep = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1800
  for image, options in (
    (Image.fromarray(values), {"exif": exif}),
    (Image.fromarray(hidden), {}),
    (Image.fromarray(deep), {}),
  ):
    data = encoded(image, **options)
    theirs = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    plain = images.decode(data, (5, 7), plain=True)
    np.testing.assert_array_equal(plain, theirs)
    assert (images.decode(data, (5, 7)) != theirs).any()
  data = encoded(Image.new("RGB", (2000, 1000)))
  with pytest.raises(images.UnreadableImage, match="2000 x 1000"):
    images.decode(data, (8, 8), max_megapixels=1.0, plain=True)


def test_cmyk_becomes_rgb():
  image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
  shown = images.decode(encoded(image, "JPEG", quality=95), (8, 8))
  assert shown[0, 0, 0] > 240 and shown[0, 0, 1] < 15


@pytest.mark.parametrize(
  ("data", "reason"),
  [
    (b"", "empty"),
    (b"<html>404</html>", "web page"),
    (encoded(Image.new("RGB", (64, 64), "red"), "ICO"), "not one of"),
    (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:900], "trunc"),
    (encoded(Image.effect_noise((64, 64), 50), "PNG")[:900], "trunc"),
  ],
)
def test_unreadable_bytes_say_why(data, reason):
  with pytest.raises(images.UnreadableImage, match=reason):
    images.decode(data, (8, 8))


def test_size_limit_is_read_from_the_header():
  data = encoded(Image.new("RGB", (2000, 1000)))[:200]
  with pytest.raises(images.UnreadableImage, match="2000 x 1000"):
    images.decode(data, (8, 8), max_megapixels=1.0)


def test_folder_is_listed_recursively_and_sorted(folder):
  source = sources.FolderSource(folder)
  names = [source.name(i) for i in range(len(source))]
  assert len(names) == 12
  assert names == sorted(names)
  assert all(isinstance(source[i], bytes) for i in range(12))


def test_folders_that_cannot_be_listed_are_named(folder, monkeypatch):
  def scandir(path):
    raise PermissionError(13, "Permission denied", str(path))

  monkeypatch.setattr(sources.os, "scandir", scandir)
  with pytest.raises(sources.DataError, match=r"cannot be listed \(Permission"):
    sources.FolderSource(folder)


def test_links_in_circles_end(folder):
  before = sources.FolderSource(folder).paths
  (folder / "again").symlink_to(folder, target_is_directory=True)
  assert sources.FolderSource(folder).paths == before


def test_missing_and_empty_folders_say_what_to_do(tmp_path):
  with pytest.raises(sources.DataError, match=r"nowhere does not exist"):
    sources.FolderSource(tmp_path / "nowhere")
  with pytest.raises(sources.DataError, match=r"holds no images; put"):
    sources.FolderSource(tmp_path)


def test_unreadable_files_are_found_by_name(folder):
  (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
  source = sources.FolderSource(folder)
  found = checking.find_unreadable(source)
  assert [f.name for f in found] == [str(folder / "broken.jpg")]
  assert source.name(found[0].position) == found[0].name


@pytest.mark.parametrize("n", [0, 1, 3, 100])
def test_held_out_images_are_not_trained_on(folder, n):
  source = sources.Subset(sources.FolderSource(folder), list(range(12)) * 5)
  train, held_out = sources.hold_out(source, n)
  assert len(held_out) == min(n, 6)
  assert sorted(train.indices + held_out.indices) == list(range(60))


def read(folder, steps, **options):
  settings = {"size": (8, 8), "batch_size": 4, "seed": 3} | options
  stream = pipeline.train_batches(sources.FolderSource(folder), **settings)
  return [next(stream)["image"] for _ in range(steps)]


def test_batches_are_uint8(folder):
  (batch,) = read(folder, 1, size=(8, 16))
  assert batch.shape == (4, 8, 16, 3) and batch.dtype == np.uint8


def test_a_batch_is_a_function_of_seed_and_step(folder):
  whole = read(folder, 7, workers=1)
  np.testing.assert_array_equal(whole, read(folder, 7, workers=4))
  np.testing.assert_array_equal(whole[5:], read(folder, 2, first_step=5))
  assert (np.array(whole) != np.array(read(folder, 7, seed=4))).any()


def test_the_images_of_a_step_have_names(folder):
  source = sources.FolderSource(folder)
  told = [
    pipeline.batch_names(source, batch_size=2, seed=3, step=i) for i in (0, 5)
  ]
  options = {"size": (8, 8), "batch_size": 2, "seed": 3, "flip": False}
  for first, names in zip((0, 5), told, strict=True):
    batch = next(pipeline.train_batches(source, first_step=first, **options))
    for image, name in zip(batch["image"], names, strict=True):
      expected = images.decode(Path(name).read_bytes(), (8, 8))
      np.testing.assert_array_equal(image, expected)


def test_an_epoch_shows_every_image_once_and_epochs_differ(folder):
  levels = np.array(read(folder, 6))[:, :, 0, 0, 0].reshape(2, 12)
  assert len(set(levels[0])) == len(set(levels[1])) == 12
  assert (levels[0] != levels[1]).any()


def test_hosts_share_every_batch_in_order(folder):
  whole = read(folder, 4, first_step=2)
  parts = [read(folder, 4, first_step=2, host=h, hosts=2) for h in (0, 1)]
  np.testing.assert_array_equal(whole, np.concatenate(parts, 1))


def test_half_of_the_images_are_flipped(tmp_path):
  values = np.zeros((8, 8, 3), np.uint8)
  values[:, 4:] = 255
  for i in range(40):
    Image.fromarray(values).save(tmp_path / f"{i}.png")
  flipped = np.array(read(tmp_path, 10))[..., 0, 0, 0].ravel() > 0
  assert 8 < flipped.sum() < 32
  assert not (np.array(read(tmp_path, 10, flip=False))[..., 0, 0] > 0).any()


def test_a_file_that_breaks_during_training_is_named(folder):
  stream = pipeline.train_batches(
    sources.FolderSource(folder), size=(8, 8), batch_size=12, seed=0
  )
  (folder / "part0" / "00.png").write_bytes(b"gone")
  with pytest.raises(Exception, match=r"00\.png cannot be decoded"):
    next(stream)


def test_a_file_that_vanishes_during_training_is_named(folder):
  source = sources.FolderSource(folder)
  (folder / "part0" / "00.png").unlink()
  stream = pipeline.train_batches(source, size=(8, 8), batch_size=12, seed=0)
  with pytest.raises(sources.DataError, match=r"00\.png cannot be decoded"):
    next(stream)


@pytest.mark.parametrize("reading", ["training", "evaluation", "checking"])
def test_a_file_that_hangs_is_named_in_time(folder, reading):
  os.mkfifo(folder / "part1" / "pipe.png")  # nobody ever writes to it
  source = sources.FolderSource(folder)
  options = {"size": (8, 8), "batch_size": 13, "read_timeout": 0.2}
  began = time.monotonic()
  with pytest.raises(
    sources.DataError, match=r"pipe\.png has not been read after 0\.2 seconds"
  ):
    if reading == "checking":
      checking.find_unreadable(source, read_timeout=0.2)
    elif reading == "training":
      next(pipeline.train_batches(source, seed=0, **options))
    else:
      list(pipeline.all_batches(source, **options))
  assert time.monotonic() - began < 5


def test_slow_files_are_waited_for():
  class Slow(list):
    def name(self, index):
      return f"file {index}"

    def __getitem__(self, index):
      time.sleep(0.05)
      return super().__getitem__(index)

  files = [bytes([i]) for i in range(20)]
  source, watch = Slow(files), readers.Watch(0.3)
  made = readers.in_threads(
    lambda i: watch.read(source, i), range(20), 2, watch
  )
  assert list(made) == files


def test_threads_end_with_the_stream(folder):
  before = threading.active_count()
  stream = pipeline.train_batches(
    sources.FolderSource(folder), size=(8, 8), batch_size=4, seed=0, workers=3
  )
  next(stream)
  assert threading.active_count() > before
  stream.close()
  end = time.monotonic() + 5
  while threading.active_count() > before and time.monotonic() < end:
    time.sleep(0.01)
  assert threading.active_count() <= before


def test_no_more_is_made_ahead_than_there_is_room_for():
  made = []
  stream = readers.in_threads(
    lambda i: made.append(i) or i, range(1000), 2, readers.Watch()
  )
  assert next(stream) == 0
  time.sleep(0.1)
  assert len(made) <= 1 + 2 + readers.AHEAD


def test_all_batches_is_every_image_once_in_order(folder):
  source = sources.FolderSource(folder)
  found = list(pipeline.all_batches(source, size=(8, 8), batch_size=5))
  assert [len(batch["image"]) for batch in found] == [5, 5, 2]
  wanted = [images.decode(source[i], (8, 8)) for i in range(12)]
  np.testing.assert_array_equal(
    np.concatenate([batch["image"] for batch in found]), wanted
  )
