"""Reads the attributes off a picture: a probe fitted on renders.

The picture is averaged to 32 x 32 and projected on the principal components
of rendered faces; a ridge regression on the components and on the products of
the first of them gives the attributes. On unseen renders the correlation with
the truth is stored with the probe (`accuracy`).
"""

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from encoder4editing_jax import ops
from encoder4editing_jax.faceworld.renderer import ATTRIBUTES, sample

FILE = "probe.npz"
SIDE, COMPONENTS, PRODUCTS = 32, 120, 40
RIDGE = 1e-3

Probe = dict[str, np.ndarray]


def _pixels(images: Float[Array, "b h w 3"]) -> Float[Array, "b p"]:
  small = ops.adaptive_avg_pool(jnp.clip(images, -1, 1), (SIDE, SIDE))
  return small.reshape(small.shape[0], -1)


def _features(probe: Probe, pixels: Array | np.ndarray) -> Float[Array, "b f"]:
  components = jnp.asarray(probe["components"], jnp.float32)
  x = (pixels - probe["mean"][None]) @ components * probe["scale"][None]
  i, j = np.triu_indices(PRODUCTS)
  ones = jnp.ones((x.shape[0], 1))
  return jnp.concatenate([ones, x, x[:, i] * x[:, j]], 1)


def _components(pixels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Principal axes `[p c]` by subspace iteration, and 1 / their deviation."""
  random = np.random.default_rng(seed)
  basis = random.standard_normal((pixels.shape[1], COMPONENTS + 20))
  for _ in range(3):
    basis, _ = np.linalg.qr(pixels.T @ (pixels @ basis.astype(np.float32)))
  _, deviation, turn = np.linalg.svd(pixels @ basis, full_matrices=False)
  axes = (basis @ turn.T)[:, :COMPONENTS].astype(np.float16)
  return axes, np.sqrt(len(pixels)) / deviation[:COMPONENTS]


def fit_probe(n: int = 6000, held_out: int = 500, seed: int = 2) -> Probe:
  """Fits the probe on `n` renders; `accuracy` comes from `held_out` others."""
  images, truth, _ = sample(seed, n + held_out)
  pixels, truth = np.asarray(_pixels(images)), np.asarray(truth)
  mean = pixels[:n].mean(0)
  axes, scale = _components(pixels[:n] - mean[None], seed)
  probe = {"mean": mean, "components": axes, "scale": scale.astype("f4")}
  features = np.asarray(_features(probe, pixels), np.float64)
  seen = features[:n]
  normal = seen.T @ seen + RIDGE * n * np.eye(seen.shape[1])
  probe["weights"] = np.linalg.solve(normal, seen.T @ truth[:n]).astype("f4")
  guess = features[n:] @ probe["weights"]
  pairs = zip(guess.T, truth[n:].T, strict=True)
  accuracy = [np.corrcoef(x, y)[0, 1] for x, y in pairs]
  probe["accuracy"] = np.asarray(accuracy, np.float32)
  return probe


def save_probe(probe: Probe, path: Path) -> None:
  """Writes the probe as an .npz."""
  arrays: dict[str, Any] = dict(probe)
  np.savez_compressed(path, **arrays)


@cache
def _load_probe() -> Probe:
  source = resources.files("encoder4editing_jax.faceworld") / FILE
  with source.open("rb") as file, np.load(file) as arrays:
    return {name: arrays[name] for name in arrays.files}


def measure(images: Float[Array, "b h w 3"]) -> Float[Array, "b k"]:
  """Estimates `ATTRIBUTES` (about [-1, 1]) from pictures in [-1, 1].

  Works on renders and on the pictures of the generator, 32 pixels or more.
  """
  probe = _load_probe()
  return _features(probe, _pixels(images)) @ probe["weights"]


def probe_accuracy() -> dict[str, float]:
  """Correlation of `measure` with the truth, on renders unseen by the fit."""
  return dict(zip(ATTRIBUTES, _load_probe()["accuracy"].tolist(), strict=True))
