"""Looks at one picture through a converted model, so that a broken one shows.

A conversion can be right in every shape and wrong in every number. A picture
of the kind that the encoder was trained on tells: its reconstruction is nearer
to it than the picture of the mean code is, and than one flat colour.
"""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax.data import images
from encoder4editing_jax.data.tasks import to_float
from encoder4editing_jax.metrics import pixels
from encoder4editing_jax.models.inverter import Inverter, crop_and_pool

RESTYLE_STEPS = 5  # as published
RANDOM_CODES = 256
NOT_FINITE = "broken: the output is not finite"


def open_picture(
  path: str | Path, inverter: Inverter
) -> Float[np.ndarray, "1 h w 3"]:
  """A picture file at the encoder's input size, in [-1, 1].

  Raises:
    OSError: the file cannot be opened.
    ValueError: it is no picture, or the encoder takes something else.
  """
  channels = inverter.encoder.input_channels
  if channels != (6 if inverter.restyle else 3):
    raise ValueError(
      f"the encoder takes maps of {channels} channels and no pictures; leave "
      "--verify out."
    )
  try:
    shape = inverter.encoder.input_shape
    pixels = images.decode(Path(path).read_bytes(), shape)
  except images.UnreadableImage as error:
    raise ValueError(f"{path}: {error}; give --verify a picture.") from error
  return np.asarray(to_float(pixels[None]))


def verify(
  inverter: Inverter, picture: Float[np.ndarray, "1 h w 3"]
) -> dict[str, Any]:
  """Reconstructs a picture and judges the result.

  Args:
    inverter: what was converted.
    picture: of its encoder's input size, in [-1, 1].

  Returns:
    `ok` and `verdict`; `finite`; `image_min` and `image_max` of the
    reconstruction; `distance` of the codes from the mean code and
    `random_distance`, that of random ones (both the mean over styles of the
    norm); `l2`, `psnr_db`, and for comparison `mean_code_psnr_db` and
    `flat_psnr_db`. Numbers that are not finite are None.
  """
  image, again, start, far, usual = found = _run(inverter, picture)
  flat = picture.mean((1, 2), keepdims=True)
  numbers = {
    "image_min": float(image.min()),
    "image_max": float(image.max()),
    "distance": float(far),
    "random_distance": float(usual),
    "l2": float(np.mean((again - picture) ** 2)),
    "psnr_db": _decibel(again, picture),
    "mean_code_psnr_db": _decibel(start, picture),
    "flat_psnr_db": _decibel(np.broadcast_to(flat, picture.shape), picture),
  }
  finite = all(np.isfinite(x).all() for x in found)
  ok, verdict = judge(numbers) if finite else (False, NOT_FINITE)
  return {"ok": ok, "verdict": verdict, "finite": finite} | {
    k: float(f"{v:.4g}") if math.isfinite(v) else None
    for k, v in numbers.items()
  }


def _run(inverter: Inverter, picture: np.ndarray) -> list[np.ndarray]:
  """Reconstruction, also at the picture's size, the mean picture, distances."""
  graph, state = nnx.split(inverter)
  steps = RESTYLE_STEPS if inverter.restyle else 1
  shape = (RANDOM_CODES, inverter.generator.style_dim)

  @jax.jit
  def run(state: Any, picture: Array, z: Array) -> tuple[Array, ...]:
    net = nnx.merge(graph, state)
    found = net.invert(picture, steps)
    w_avg = net.generator.w_avg[...]
    again = crop_and_pool(found.images, picture.shape[1:3])
    start = net.average_image(picture.shape[1:3])
    far = jnp.linalg.norm(found.w_plus - w_avg[None, None], axis=-1)
    usual = jnp.linalg.norm(net.generator.mapping(z) - w_avg[None], axis=-1)
    return found.images, again, start, far.mean(), usual.mean()

  z = jax.random.normal(jax.random.key(0), shape)
  return [np.asarray(x) for x in run(state, jnp.asarray(picture), z)]


def _decibel(image: np.ndarray, picture: np.ndarray) -> float:
  return pixels.psnr(jnp.asarray(image), jnp.asarray(picture)).item()


def judge(numbers: dict[str, float]) -> tuple[bool, str]:
  """Whether the numbers of `verify` are those of a sound model, in words."""
  others = {
    "the picture of the mean code": numbers["mean_code_psnr_db"],
    "one flat colour": numbers["flat_psnr_db"],
  }
  best = max(others, key=lambda name: others[name])
  gain = numbers["psnr_db"] - others[best]
  if gain > 0:
    return True, (
      f"sound: the reconstruction is {gain:.1f} dB nearer to the picture than "
      f"{best}"
    )
  return False, (
    f"suspect: {best} is nearer to the picture than the reconstruction; the "
    "encoder_type is another, the picture is not aligned as the encoder's "
    "training pictures were, or the file is damaged"
  )
