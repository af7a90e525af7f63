"""Files of directions: this library's own, and published ones.

A native file is .safetensors or .npz: an array for each vector, by the name of
its direction, and one JSON value that says which layers it moves, whether its
strengths are coordinates, and what is known of it. `load` opens every kind,
and runs nothing of what is in a file.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from encoder4editing_jax import converters, files, weights
from encoder4editing_jax.converters.edits import to_edits
from encoder4editing_jax.converters.loading import check_file
from encoder4editing_jax.editing import Direction

FORMAT = 1
SUFFIXES = (".safetensors", ".npz")
PUBLISHED_SUFFIXES = (".pt", ".npy")
_HEADER = "encoder4editing_jax"  # where an .npz keeps the JSON value
_MEAN = "mean/"  # before the number of an array that is a mean
_TAKEN = (_HEADER, "file", "allow_pickle")  # the last two by numpy.savez


def load(path: str | os.PathLike[str]) -> dict[str, Direction]:
  """Directions by name, from a file of any kind.

  Args:
    path: a file of `save`; an .npz or .safetensors of arrays by name; a
      published .pt, .npy or .npz of InterFaceGAN, GANSpace or SeFa, see
      `converters.to_directions`. A direction alone is called as its file.

  Raises:
    FileNotFoundError: no such file.
    ValueError: it is damaged, or holds something else.
  """
  path = Path(path)
  check_file(path)
  header, content = weights.read_header(path), converters.read(path)
  if isinstance(content, Mapping):
    content = {str(k): v for k, v in content.items()}
    if "fingerprint" in content and "noise_seed" in content:
      raise ValueError(
        f"{path} holds codes of `e4e invert`, not directions; `e4e directions "
        "find` makes some of them."
      )
  try:
    if header is None and isinstance(content, dict) and _HEADER in content:
      header = json.loads(str(content.pop(_HEADER)))
    if header is None:
      return to_edits(content, path.stem)
    return _native(header, content)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error
  except (AttributeError, KeyError, TypeError) as error:
    raise ValueError(
      f"{path}: its directions are damaged ({type(error).__name__}); make the "
      "file again."
    ) from None


def _native(
  header: Mapping[str, Any], arrays: Mapping[str, Any]
) -> dict[str, Direction]:
  if "architecture" in header:
    raise ValueError("it holds a network; give a file of directions.")
  if header["format"] != FORMAT:
    raise ValueError(
      f"format {header['format']}, this version reads {FORMAT}; install a "
      "newer encoder4editing_jax."
    )
  found = {}
  for entry in header["directions"]:
    name, layers, mean = entry["name"], entry["layers"], entry["mean"]
    notes = {
      str(k): v
      for k, v in entry["notes"].items()
      if isinstance(v, (str, int, float))
    }
    found[name] = Direction(
      np.asarray(arrays[name], np.float32),
      None if layers is None else tuple(map(int, layers)),
      None if mean is None else np.asarray(arrays[mean], np.float32),
      notes,
    )
  check(found)
  return found


def check(directions: Mapping[str, Direction]) -> None:
  """Refuses directions that could not move codes.

  Raises:
    ValueError: there are none; or one is empty, not finite, all zeros, or of
      another shape than `[d]` or `[n d]`.
  """
  if not directions:
    raise ValueError("there are no directions; give some.")
  for name, found in directions.items():
    vector, mean = np.asarray(found.vector), found.mean
    if not name or name.startswith(_MEAN) or name in _TAKEN:
      raise ValueError(f"a direction cannot be called {name!r}; rename it.")
    if vector.ndim not in (1, 2) or not np.isfinite(vector).all():
      raise ValueError(
        f"direction {name!r} has shape {vector.shape}, or holds NaN or "
        "infinity; it is finite, (d,) or (n, d)."
      )
    if not vector.any():
      raise ValueError(f"direction {name!r} holds only zeros; leave it out.")
    if (
      mean is not None
      and not np.shape(mean) == vector.shape[-1:] == vector.shape
    ):
      raise ValueError(
        f"direction {name!r} has shape {vector.shape} and a mean of shape "
        f"{np.shape(mean)}; a component has (d,) and (d,)."
      )


def save(
  path: str | os.PathLike[str], directions: Mapping[str, Direction]
) -> None:
  """Writes a native file, .safetensors or .npz; replaces it atomically.

  Raises:
    ValueError: another suffix, or as `check`.
    OSError: the file cannot be written; what was there stays.
  """
  path = Path(path)
  if path.suffix not in SUFFIXES:
    raise ValueError(f"{path}: name a file {' or '.join(SUFFIXES)}.")
  check(directions)
  arrays: dict[str, Any] = {}
  means: dict[bytes, str] = {}  # components share theirs
  entries = []
  for name, found in directions.items():
    arrays[name], mean = np.asarray(found.vector, np.float32), None
    if found.mean is not None:
      value = np.asarray(found.mean, np.float32)
      mean = means.setdefault(value.tobytes(), f"{_MEAN}{len(means)}")
      arrays[mean] = value
    layers = None if found.layers is None else list(map(int, found.layers))
    notes = dict(found.notes)
    entries.append(
      {"name": name, "layers": layers, "mean": mean, "notes": notes}
    )
  header = {"format": FORMAT, "directions": entries}
  if path.suffix == ".safetensors":
    weights.save_arrays(path, arrays, header)
    return
  arrays[_HEADER] = json.dumps(header, sort_keys=True)
  with files.replacing(path) as unfinished, unfinished.open("wb") as file:
    np.savez(file, allow_pickle=False, **arrays)


def export(
  path: str | os.PathLike[str], directions: Mapping[str, Direction]
) -> None:
  """Writes what the originals read: .pt, or .npy of one direction.

  A direction is `(1, d)`, several are a mapping; bare components are GANSpace's
  mean, comp and std, and named ones are left out: they are the same. Layers are
  not written, for there is no place.

  Raises:
    ValueError: another suffix, something that such a file cannot hold, or as
      `check`.
    OSError: the file cannot be written.
  """
  path = Path(path)
  check(directions)
  axes = {k: v for k, v in directions.items() if v.mean is not None}
  if axes and len(axes) < len(directions):
    raise ValueError(
      f"{path}: the originals keep components and directions in two files; "
      "convert them one by one."
    )
  content: Any = {
    k: np.atleast_2d(np.asarray(v.vector, np.float32))
    for k, v in directions.items()
  }
  if axes:
    content = _ganspace([v for v in axes.values() if v.layers is None])
  elif len(content) == 1:
    (content,) = content.values()
  if path.suffix == ".pt":
    converters.write(content, path)
  elif path.suffix == ".npy" and not isinstance(content, dict):
    with files.replacing(path) as unfinished:
      np.save(unfinished, content)
  else:
    raise ValueError(f"{path}: .pt takes these, or .npy one direction.")


def _ganspace(axes: Sequence[Direction]) -> dict[str, np.ndarray]:
  if not axes:
    raise ValueError("GANSpace's files hold components of all layers; none is.")
  vectors = np.stack([np.asarray(x.vector, np.float32) for x in axes])
  std = np.linalg.norm(vectors, axis=1)
  return {
    "mean": np.asarray(axes[0].mean, np.float32)[None],
    "comp": (vectors / std[:, None])[:, None],
    "std": std,
  }


def misfit(direction: Any, n_styles: int, style_dim: int) -> str | None:
  """Why a direction does not fit codes `[n d]`; None if it does."""
  vector = getattr(direction, "vector", direction)
  layers = getattr(direction, "layers", None) or ()
  shape = np.shape(vector)
  if shape not in ((style_dim,), (1, style_dim), (n_styles, style_dim)):
    return (
      f"has shape {shape}, the model takes {(style_dim,)} or "
      f"{(n_styles, style_dim)}"
    )
  if bad := [i for i in layers if not 0 <= i < n_styles]:
    return f"moves layer {bad[0]}, the model has 0 to {n_styles - 1}"
  return None


def fitting(
  directions: Mapping[str, Direction], n_styles: int, style_dim: int
) -> tuple[dict[str, Direction], dict[str, str]]:
  """Those that fit codes `[n d]`; and the others by name, with the reason."""
  reasons = {
    name: misfit(found, n_styles, style_dim)
    for name, found in directions.items()
  }
  lost = {name: why for name, why in reasons.items() if why}
  return {k: v for k, v in directions.items() if k not in lost}, lost


def require_fitting(
  directions: Mapping[str, Any], n_styles: int, style_dim: int
) -> None:
  """Raises ValueError if a direction does not fit codes `[n d]`."""
  for name, given in directions.items():
    if why := misfit(given, n_styles, style_dim):
      raise ValueError(
        f"direction {name!r} {why}; pass the directions of this model."
      )


def as_steps(
  directions: Mapping[str, Any], n_styles: int, style_dim: int
) -> dict[str, Float[np.ndarray, "n d"]]:
  """What a strength of 1 adds to codes `[n d]`, by name.

  Of a component that is a deviation, wherever the code stands.

  Args:
    directions: as `load` gives them, or vectors.
    n_styles: of the codes.
    style_dim: of the codes.

  Raises:
    ValueError: one that does not fit.
  """
  require_fitting(directions, n_styles, style_dim)
  found = {}
  for name, given in directions.items():
    vector = np.asarray(getattr(given, "vector", given), np.float32)
    step = np.broadcast_to(vector, (n_styles, style_dim)).copy()
    layers = getattr(given, "layers", None)
    if layers is not None:
      step[np.setdiff1d(np.arange(n_styles), layers)] = 0
    found[name] = step
  return found


def length(direction: Direction) -> float:
  """How far a strength of 1 moves each layer that moves, in the units of W."""
  vector = np.atleast_2d(np.asarray(direction.vector, np.float64))
  return math.sqrt(np.square(vector).sum(1).mean())
