"""Directions of editing: InterFaceGAN's boundaries, GANSpace's components.

Files that e4e and its kin ship. What comes out is named arrays of float32 for
`encoder4editing_jax.editing`.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from encoder4editing_jax.converters import recognition

GANSPACE = {"mean": 2, "comp": 3, "std": 1}  # axes in e4e's files
# The same in files of GANSpace's own program, among others.
DUMPED = {"mean": "lat_mean", "comp": "lat_comp", "std": "lat_stdev"}


def _finite(value: Any, name: str) -> np.ndarray:
  try:
    array = np.asarray(value)
  except ValueError:
    array = np.empty(0, object)
  if not jnp.issubdtype(array.dtype, jnp.floating):
    raise ValueError(
      f"{name!r} is {array.dtype}, not floating point numbers; pass an array, "
      "a mapping of arrays, or the mean, comp and std of GANSpace."
    )
  array = np.array(array, np.float32, order="C")
  if not np.isfinite(array).all():
    raise ValueError(f"{name!r} holds NaN or infinity; take a sound file.")
  return array


def _direction(value: Any, name: str) -> np.ndarray:
  """One direction, `[d]`, or `[n d]` if it is not the same in all layers."""
  rows = _finite(value, name)
  shape = rows.shape
  if rows.ndim == 3 and shape[0] == 1:
    rows = rows[0]
  rows = np.atleast_2d(rows)
  if rows.ndim != 2 or not rows.any():
    what = "holds only zeros" if rows.ndim == 2 else f"has shape {shape}"
    raise ValueError(
      f"{name!r} {what}; a direction is (d,), (1, d), (n, d) or (1, n, d), "
      "and not zero."
    )
  return rows[0] if (rows == rows[:1]).all() else rows


def _ganspace(checkpoint: Mapping[str, Any]) -> dict[str, np.ndarray]:
  if unlike := sorted(set(checkpoint) ^ set(GANSPACE)):
    has = "has" if unlike[0] in checkpoint else "lacks"
    raise ValueError(
      f"the GANSpace file {has} {unlike[0]!r}; it consists of 'mean' (1, d), "
      "'comp' (k, 1, d) and 'std' (k,)."
    )
  mean, comp, std = (_finite(checkpoint[k], k) for k in GANSPACE)
  k, d = len(std), mean.shape[-1]
  expected = {"mean": (1, d), "comp": (k, 1, d), "std": (k,)}
  for (name, shape), array in zip(
    expected.items(), (mean, comp, std), strict=True
  ):
    if array.shape != shape:
      raise ValueError(
        f"{name!r} has shape {array.shape}, expected {shape} beside the "
        "others; they are of different files, or damaged."
      )
  if (std <= 0).any():
    raise ValueError("'std' has values that are not positive; it is damaged.")
  return {"mean": mean[0], "components": comp[:, 0], "std": std}


def _dumped(checkpoint: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Components of styles as GANSpace's own program writes them."""
  if lost := [key for key in DUMPED.values() if key not in checkpoint]:
    raise ValueError(f"the GANSpace file lacks {lost[0]!r}; it is damaged.")
  found = {k: _finite(checkpoint[key], key) for k, key in DUMPED.items()}
  if (found["std"] == 1).all():
    raise ValueError(
      "its components are of z, not of W; run GANSpace with --use_w."
    )
  k, d = len(found["std"]), found["mean"].size
  if found["comp"].size != k * d:
    raise ValueError(
      f"'lat_comp' has shape {found['comp'].shape}, not ({k}, 1, {d}); the "
      "file is damaged."
    )
  shapes = {"mean": (1, d), "comp": (k, 1, d), "std": (k,)}
  return _ganspace({name: found[name].reshape(shapes[name]) for name in shapes})


def to_directions(checkpoint: Any, name: str = "direction") -> dict[str, Array]:
  """Directions by name, or the principal components of GANSpace.

  Args:
    checkpoint: one of
      - an array (InterFaceGAN, arXiv 1907.10786: `age.pt`, `pose.pt`, a
        boundary of .npy), `(d,)`, `(1, d)`, `(n, d)` or `(1, n, d)`;
      - a mapping of names to such arrays;
      - `{"mean": (1, d), "comp": (k, 1, d), "std": (k,)}` (GANSpace, arXiv
        2004.02546: `ffhq_pca.pt`), or "lat_mean", "lat_comp", "lat_stdev" in
        an .npz of GANSpace's own program.
    name: of a direction that comes as an array.

  Returns:
    Directions `[d]`, of the length that they have in the file, or `[n d]` if
    the layers differ: `editing.move` takes both. Of GANSpace: "mean" `[d]`,
    "components" `[k d]` and "std" `[k]`; moving codes by `std[k]` along
    `components[k]` changes coordinate k by 1.

  Raises:
    ValueError: anything else, named.
  """
  if not isinstance(checkpoint, Mapping):
    return {name: jnp.asarray(_direction(checkpoint, name))}
  if "lat_comp" in checkpoint:
    return {k: jnp.asarray(v) for k, v in _dumped(checkpoint).items()}
  if "comp" in checkpoint or "std" in checkpoint:
    return {k: jnp.asarray(v) for k, v in _ganspace(checkpoint).items()}
  if advice := recognition.advice(checkpoint):
    raise ValueError(f"these are no directions: {advice}.")
  if not checkpoint:
    raise ValueError("there are no directions in it; pass the whole file.")
  return {
    str(k): jnp.asarray(_direction(v, str(k))) for k, v in checkpoint.items()
  }
