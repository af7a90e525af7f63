"""Editing directions in W: least squares, then side effects are taken out.

Every w is modelled as `w_avg + sum_k s_k d_k`, where s_k is attribute k in
units of its standard deviation. The attributes are independent, so d_k is the
mean change of w when attribute k grows by one standard deviation and the
others stay: `w + d_k` is an edit of natural size.

The generator does not paint exactly what its codes say, so pictures are looked
at too (`without_side_effects`).
"""

from importlib import resources
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from encoder4editing_jax.faceworld.measuring import measure
from encoder4editing_jax.faceworld.renderer import ATTRIBUTES, attributes
from encoder4editing_jax.models.stylegan2 import Generator

FILE = "directions.npz"
REACH = 1.5  # strength at which side effects are looked for
SMALL = 0.1  # side effects below this share of the effect are left


def fit_directions(
  generator: Generator, n: int = 20_000, seed: int = 1
) -> dict[str, Float[Array, " d"]]:
  """Directions `[d]` by attribute; +1 is one standard deviation."""
  z = jax.random.normal(jax.random.key(seed), (n, generator.style_dim))
  truth = attributes(z)
  standard = (truth - truth.mean(0, keepdims=True)) / truth.std(
    0, keepdims=True
  )
  design = jnp.concatenate([standard, jnp.ones((n, 1))], 1)
  w = generator.mapping(z)
  normal, moments = design.T @ design, design.T @ w
  solution = jnp.linalg.solve(normal, moments)
  return dict(zip(ATTRIBUTES, solution[:-1], strict=True))


def effects(
  generator: Generator,
  directions: dict[str, Float[Array, " d"]],
  n: int = 192,
  seed: int = 77,
) -> Float[np.ndarray, "k k"]:
  """What +1 of each direction (rows) does to each measured attribute.

  Means over `n` faces, from -REACH to +REACH.
  """
  z = jax.random.normal(jax.random.key(seed), (n, generator.style_dim))
  w = generator.mapping(z)

  @jax.jit
  def seen(w: Array) -> Array:
    w_plus = generator.to_w_plus([w])
    return measure(generator.synthesis(w_plus)).mean(0)

  def mean(w: Array) -> np.ndarray:
    return np.mean([seen(part) for part in jnp.split(w, n // 16)], axis=0)

  rows = []
  for name in ATTRIBUTES:
    step = REACH * directions[name][None]
    rows.append((mean(w + step) - mean(w - step)) / (2 * REACH))
  return np.stack(rows)


def without_side_effects(
  generator: Generator, directions: dict[str, Float[Array, " d"]]
) -> dict[str, Float[Array, " d"]]:
  """Directions less those parts of the others that undo their side effects.

  Those that have none of SMALL or more stay as they are; of all the effect on
  their own attribute stays the same.
  """
  found = effects(generator, directions)
  own = np.diag(found)
  share = np.abs(found / own[:, None]) - np.eye(len(own))
  mixing = np.diag(own) @ np.linalg.inv(found)
  mixing[share.max(1) < SMALL] = np.eye(len(own))[share.max(1) < SMALL]
  stacked = jnp.stack([directions[name] for name in ATTRIBUTES])
  return dict(zip(ATTRIBUTES, jnp.asarray(mixing) @ stacked, strict=True))


def save_directions(
  directions: dict[str, Float[Array, " d"]], path: Path
) -> None:
  """Writes an .npz with one array per attribute."""
  arrays = {k: np.asarray(v, np.float32) for k, v in directions.items()}
  np.savez(path, **arrays)


def load_directions() -> dict[str, Float[Array, " d"]]:
  """The directions of the shipped generator, by attribute name."""
  source = resources.files("encoder4editing_jax.faceworld") / FILE
  with source.open("rb") as file, np.load(file) as arrays:
    return {name: jnp.asarray(arrays[name]) for name in ATTRIBUTES}
