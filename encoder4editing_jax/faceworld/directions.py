"""Editing directions in W, by least squares against the known attributes.

Every w is modelled as `w_avg + sum_k s_k d_k`, where s_k is attribute k in
units of its standard deviation. The attributes are independent, so d_k is the
mean change of w when attribute k grows by one standard deviation and the
others stay: `w + d_k` is an edit of natural size.
"""

from importlib import resources
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from encoder4editing_jax.faceworld.renderer import ATTRIBUTES, attributes
from encoder4editing_jax.models.stylegan2 import Generator

FILE = "directions.npz"


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
