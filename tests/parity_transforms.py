"""Parity of what happens to pictures before a network sees them.

The originals resize by Pillow as well, so bytes agree to the last one; one
byte that is off by one exceeds the tolerance.
"""

import io

import jax.numpy as jnp
import numpy as np
from goldens.recipe import recipe_images, recipe_labels, recipe_uint8
from parity import case
from PIL import Image

from encoder4editing_jax.data import images, transforms
from encoder4editing_jax.data.tasks import Task, to_float, to_source
from encoder4editing_jax.training import pictures

SIDE = 256
SIZES = ((300, 200), (512, 384), (180, 320))
SALT = "transforms/"


def encoded(pixels):
  buffer = io.BytesIO()
  Image.fromarray(pixels).save(buffer, "PNG")
  return buffer.getvalue()


def picture(h=300, w=200):
  return encoded(recipe_uint8(h, w, SALT))


def chw(batch):
  return np.moveaxis(np.asarray(batch[0]), -1, 0)


def shown(image, task):
  """What the encoder is shown of one source, C x H x W."""
  batch = jnp.asarray(image)[None]
  return chw(to_source({"image": batch, "source": batch}, task))


@case("transforms_e4e", "encode/", "cars/", "resize_uint8", network="images")
def resized():
  for h, w in SIZES:
    for name, size in (("encode", (SIDE, SIDE)), ("cars", (192, SIDE))):
      pixels = images.decode(picture(h, w), size)
      yield f"{name}/{h}x{w}/test", chw(to_float(jnp.asarray(pixels)[None]))
  yield "resize_uint8", images.decode(picture(), (SIDE, SIDE))


@case("transforms_e4e", "tensor2im", network="images")
def truncated():
  image = 1.3 * recipe_images(1, 64, f"{SALT}tensor2im")
  image = np.moveaxis(image, 1, -1)
  yield "tensor2im", pictures.to_bytes(image, truncate=True)[0]


@case("transforms_psp", "superres/", network="super-resolution")
def super_resolution():
  task = Task("super_resolution")
  target = images.decode(picture(), (SIDE, SIDE))
  yield "superres/gt", shown(target, task)
  for factor in (2, 4, 8, 32):
    low = transforms.low_resolution(target, factor)
    yield f"superres/factor{factor}_low_uint8", low
    source = transforms.degrade(target, factor)
    yield f"superres/factor{factor}", shown(source, task)


@case("transforms_psp", "bicubic/", network="super-resolution")
def bicubic():
  image = 0.5 * recipe_images(1, (72, 96), f"{SALT}bicubic") + 0.5
  for factor in (2, 4, 8):
    small = transforms.shrink(np.moveaxis(image[0], 0, -1), factor)
    yield f"bicubic/factor{factor}", np.moveaxis(small, -1, 0)[None]
    yield f"bicubic/factor{factor}_kernel", transforms.cubic_taps(factor)


@case("transforms_psp", "sketch/", network="sketch")
def sketch():
  task = Task("sketch")
  source = task.decode(picture(), (SIDE, SIDE))
  yield "sketch/source", shown(source, task)


@case("transforms_psp", "segmentation/", network="segmentation")
def segmentation():
  """Resized by mixing class ids, as the original does; we take the nearest."""
  task = Task("segmentation", labels=19)
  labels = recipe_labels(300, 200, 19, SALT)
  opened = task.open(encoded(labels))
  source = images.fit(opened, (SIDE, SIDE), interpolate=True)
  hot = shown(source, task)
  yield "segmentation/source", hot
  yield "segmentation/label_index", hot.argmax(0)


@case("transforms_psp", "frontalize/", network="frontalization")
def frontalization():
  task = Task("frontalization")
  source = task.decode(picture(), (SIDE, SIDE))
  yield "frontalize/source", shown(source, task)
