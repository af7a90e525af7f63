"""Published directions as edits by name, with the layers that they move.

e4e's notebooks name some components of its own GANSpace files; these files are
known by their first deviations, so that the names come with them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from encoder4editing_jax.converters.directions import to_directions
from encoder4editing_jax.editing import Components, Direction, component
from encoder4editing_jax.finding import Semantics

CITE = {
  "interfacegan": "InterFaceGAN, arXiv 1907.10786",
  "ganspace": "GANSpace, arXiv 2004.02546",
  "sefa": "SeFa, arXiv 2007.06600",
}
# First deviations: name: component, first layer, the one after the last, and
# the coordinate that the notebooks of e4e and StyleFeatureEditor ask for.
PUBLISHED: dict[tuple[float, ...], dict[str, tuple[int, int, int, float]]] = {
  (2.856, 2.627, 2.594): {  # ffhq_pca.pt
    "eye_openness": (54, 7, 8, 20),
    "smile": (46, 4, 5, -20),
    "trimmed_beard": (58, 7, 9, 20),
    "white_hair": (57, 7, 10, -24),
    "lipstick": (34, 10, 11, 20),
    "face_roundness": (37, 0, 5, 20),
    "nose_length": (51, 4, 5, -30),
    "eyebrow_thickness": (37, 8, 9, 20),
    "head_angle_up": (11, 1, 4, -10.5),
    "displeased": (36, 4, 7, 10),
  },
  (7.148, 6.101, 5.607): {  # cars_pca.pt
    "viewpoint": (0, 0, 5, 2),
    "cube": (16, 3, 6, 25),
    "color": (22, 9, 11, -8),
    "grass": (41, 9, 11, -18),
  },
}


def to_edits(checkpoint: Any, name: str = "direction") -> dict[str, Direction]:
  """Edits by name: what `to_directions` takes, and SeFa's semantics.

  Args:
    checkpoint: as `to_directions`; or SeFa's "boundaries" `(k, d)` or "eigvec"
      `(d, k)`, with "layers" if they do not move all.
    name: of a direction that comes as an array.

  Returns:
    Of InterFaceGAN the directions; of GANSpace "pc0", "pc1", ..., and what the
    authors' notebooks call some of them; of SeFa "sefa0", ...

  Raises:
    ValueError: anything else, named.
  """
  if isinstance(checkpoint, Mapping):
    for vectors, values in (
      ("directions", "eigenvalues"),
      ("boundaries", "values"),
      ("eigvec", "ckpt"),
    ):
      if vectors in checkpoint and values in checkpoint:
        return _sefa(checkpoint, vectors)
    if set(checkpoint) == set(Components._fields):  # of this library
      checkpoint = {k: np.asarray(checkpoint[k]) for k in checkpoint}
      checkpoint["comp"] = checkpoint.pop("components")[:, None]
      checkpoint["mean"] = checkpoint["mean"][None]
  found = to_directions(checkpoint, name)
  if set(found) == set(Components._fields):
    pca = Components(**found)
    return components_as_edits(pca) | _published(pca)
  notes = {"method": "direction", "cite": CITE["interfacegan"]}
  return {key: Direction(v, notes=notes) for key, v in found.items()}


def components_as_edits(
  pca: Components, notes: Mapping[str, str | float] | None = None
) -> dict[str, Direction]:
  """Components as "pc0", "pc1", ...; see `editing.component`."""
  about = {"method": "pca", "cite": CITE["ganspace"], **(notes or {})}
  edits = {}
  for k in range(len(pca.std)):
    axis = component(pca, k)
    edits[f"pc{k}"] = Direction(axis.vector, None, axis.mean, about)
  return edits


def semantics_as_edits(
  found: Semantics, k: int, notes: Mapping[str, str | float] | None = None
) -> dict[str, Direction]:
  """The first `k` of SeFa's directions as "sefa0", ..., in their layers."""
  about = {"method": "sefa", "cite": CITE["sefa"], **(notes or {})}
  return {
    f"sefa{i}": Direction(found.directions[i], found.layers, None, about)
    for i in range(min(k, len(found.directions)))
  }


def _published(pca: Components) -> dict[str, Direction]:
  first = tuple(np.round(np.asarray(pca.std[:3], np.float64), 3).tolist())
  edits = {}
  for name, (k, start, stop, usual) in PUBLISHED.get(first, {}).items():
    if k < len(pca.std):
      axis = component(pca, k, range(start, stop))
      notes: dict[str, str | float] = {"method": f"pc{k}", "usual": usual}
      notes["cite"] = CITE["ganspace"]
      edits[name] = Direction(axis.vector, axis.layers, axis.mean, notes)
  return edits


def _sefa(checkpoint: Mapping[str, Any], key: str) -> dict[str, Direction]:
  rows = np.asarray(checkpoint[key], np.float32)
  rows = rows.T if key == "eigvec" else rows
  if rows.ndim != 2 or not np.isfinite(rows).all() or not rows.any(1).all():
    raise ValueError(
      f"{key!r} has shape {rows.shape}, or holds NaN or zeros; SeFa's are "
      "vectors (k, d)."
    )
  layers = checkpoint.get("layers")
  if layers is not None:
    layers = tuple(int(i) for i in np.ravel(np.asarray(layers)))
  about = {"method": "sefa", "cite": CITE["sefa"]}
  return {
    f"sefa{i}": Direction(row, layers, None, about)
    for i, row in enumerate(rows)
  }
