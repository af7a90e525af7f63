"""Finding directions of edits: from labels, from samples, from weights.

`from_labels`: InterFaceGAN (arXiv 1907.10786, section 2.2), the normal of the
plane that parts codes with an attribute from those without. `principal`:
GANSpace (2004.02546), principal components of W. `factorize`: SeFa
(2007.06600, equation 6), what the first weights of layers amplify most.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import optimize

from encoder4editing_jax.editing import Components
from encoder4editing_jax.models.stylegan2 import Generator

METHODS = ("svm", "logistic", "ridge")


class Semantics(NamedTuple):
  """Directions `[k d]` by falling eigenvalue `[k]`, and layers they move."""

  layers: tuple[int, ...]
  directions: Array
  eigenvalues: Array


def fitting(
  directions: Mapping[str, Any], generator: Generator, count: int = 8
) -> dict[str, Array]:
  """Directions `[d]`, `[1 d]` or `[n d]` by name, if a generator takes them.

  Args:
    directions: as `converters.to_directions` gives them. Of GANSpace's
      components the first `count`, a standard deviation long, as
      "component 1" and so on.
    generator: whose codes are to be moved.
    count: see `directions`.

  Raises:
    ValueError: a direction of another shape.
  """
  found = dict(directions)
  if set(Components._fields) == set(found):
    scaled = found["components"] * found["std"][:, None]
    found = {f"component {k + 1}": v for k, v in enumerate(scaled[:count])}
  n, d = generator.n_styles, generator.style_dim
  for name, axis in found.items():
    if np.shape(axis) not in ((d,), (1, d), (n, d)):
      raise ValueError(
        f"direction {name!r} has shape {np.shape(axis)}, the model takes "
        f"{(d,)} or {(n, d)}; pass the directions of this model."
      )
  return {name: jnp.asarray(axis) for name, axis in found.items()}


def factorize(
  generator: Generator,
  layers: Sequence[int] | None = None,
  *,
  legacy: bool = False,
) -> Semantics:
  """SeFa: the eigenvectors of layers' modulation weights.

  Args:
    generator: any.
    layers: the convolutions whose weights count, of 0 to `n_styles - 2`; all
      if None.
    legacy: move the layers that the published program moves, one below those
      whose weights it took.

  Raises:
    ValueError: a layer that is not there.
  """
  weights = generator.synthesis.modulations()
  chosen = range(len(weights)) if layers is None else layers
  if not chosen or not all(0 <= i < len(weights) for i in chosen):
    raise ValueError(
      f"layers are {list(chosen)}; use some of 0 to {len(weights) - 1}."
    )
  columns = np.concatenate([_unit_columns(weights[i]) for i in chosen], 1)
  values, vectors = np.linalg.eigh(columns @ columns.T)
  moved = tuple(i - 1 for i in chosen if i) if legacy else tuple(chosen)
  directions = jnp.asarray(vectors.T[::-1], jnp.float32)
  return Semantics(moved, directions, jnp.asarray(values[::-1], jnp.float32))


def _unit_columns(kernel: Any) -> np.ndarray:
  kernel = np.asarray(kernel, np.float64)
  return kernel / np.linalg.norm(kernel, axis=0, keepdims=True)


def principal(
  generator: Generator, n: int = 10_000, k: int = 80, *, key: Array
) -> Components:
  """GANSpace: the first principal components of W, of `n` random codes.

  Args:
    generator: any; its mapping network alone is used.
    n: codes to draw; the paper takes a million.
    k: components, at most the width of W.
    key: the same key gives the same components.

  Raises:
    ValueError: fewer codes than components, or more components than numbers.
  """
  d = generator.style_dim
  if not 1 <= k <= d or n <= k:
    raise ValueError(
      f"{k} components of {n} codes of {d} numbers; pass 1 to {d} components, "
      "and more codes than that."
    )
  return components_of(generator.mapping(jax.random.normal(key, (n, d))), k)


def components_of(w: Float[Array, "b d"], k: int) -> Components:
  """The first `k` principal components of codes; see `principal`."""
  codes = np.asarray(w, np.float64)
  mean = codes.mean(0)
  values, vectors = np.linalg.eigh(np.cov(codes - mean, rowvar=False))
  axes, variance = vectors.T[::-1][:k], values[::-1][:k]
  std = np.sqrt(np.maximum(variance, np.finfo(np.float32).tiny))
  arrays = (jnp.asarray(x, jnp.float32) for x in (mean, axes, std))
  return Components(*arrays)


def from_labels(
  codes: Array,
  labels: Any,
  method: str = "svm",
  strength: float = 1e-3,
) -> Float[Array, " d"]:
  """The direction of length 1 in which a label grows.

  Args:
    codes: W `[b d]`, or W+ `[b n d]`, of which the mean style counts.
    labels: `[b]`: true and false, or 1 and 0; numbers for "ridge".
    method: "svm" (squared hinge), "logistic", or "ridge" (least squares, for
      numbers such as scores or ages).
    strength: of the penalty on length; more for few or noisy labels.

  Raises:
    ValueError: labels that do not fit, or all the same.
  """
  x = np.asarray(codes, np.float64)
  x = x.mean(1) if x.ndim == 3 else x
  y = np.asarray(labels, np.float64)
  _check_labels(x, y, method)
  scale = x.std(0).mean() or 1.0  # the penalty means the same everywhere
  x = (x - x.mean(0)) / scale
  if method == "ridge":
    normal = x.T @ x / len(x) + strength * np.eye(x.shape[1])
    found = np.linalg.solve(normal, x.T @ (y - y.mean()) / len(x))
  else:
    found = _plane(x, np.where(y > 0, 1.0, -1.0), _LOSSES[method], strength)
  length = np.linalg.norm(found)
  if not length > 0:
    raise ValueError("the labels do not depend on the codes; give others.")
  return jnp.asarray(found / length, jnp.float32)


def _check_labels(x: np.ndarray, y: np.ndarray, method: str) -> None:
  if method not in METHODS:
    raise ValueError(f"method={method!r} is unknown; use {', '.join(METHODS)}.")
  if x.ndim != 2 or y.shape != (len(x),):
    raise ValueError(
      f"{y.shape} labels for codes {x.shape}; pass one for each code."
    )
  if not (np.isfinite(x).all() and np.isfinite(y).all()):
    raise ValueError("codes or labels hold NaN or infinity; leave them out.")
  if len(y) < 2 or (y == y[0]).all():
    raise ValueError("all labels are the same; give codes of both kinds.")
  if method != "ridge" and not set(np.unique(y)) <= {0.0, 1.0}:
    raise ValueError(f"labels of {method} are 0 and 1; take ridge for numbers.")


def _squared_hinge(margin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  short = np.maximum(1 - margin, 0)
  return short**2, -2 * short


def _logistic(margin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  return np.logaddexp(0, -margin), -np.exp(-np.logaddexp(0, margin))


_LOSSES = {"svm": _squared_hinge, "logistic": _logistic}


def _plane(
  x: np.ndarray, sign: np.ndarray, loss: Callable[..., Any], strength: float
) -> np.ndarray:
  """The normal of the plane of least mean loss; both kinds weigh alike."""
  share = np.where(sign > 0, (sign > 0).mean(), (sign < 0).mean())
  weight = 0.5 / share / len(x)

  def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
    normal, offset = parameters[:-1], parameters[-1]
    value, slope = loss(sign * (x @ normal + offset))
    slope = slope * sign * weight
    total = (weight * value).sum() + strength / 2 * normal @ normal
    return total, np.append(x.T @ slope + strength * normal, slope.sum())

  start = np.zeros(x.shape[1] + 1)
  found = optimize.minimize(objective, start, jac=True, method="L-BFGS-B")
  return found.x[:-1]
