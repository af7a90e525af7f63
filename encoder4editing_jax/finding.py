"""Finding directions of edits: from labels, from samples, from weights.

`from_labels`: InterFaceGAN (arXiv 1907.10786, section 2.2), the normal of the
plane that parts codes with an attribute from those without. `principal`:
GANSpace (2004.02546), principal components of W. `factorize`: SeFa
(2007.06600, equation 6), what the first weights of layers amplify most.

Labels are fitted by scikit-learn, which the extra `directions` installs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from encoder4editing_jax.editing import Components
from encoder4editing_jax.models.stylegan2 import Generator

METHODS = ("svm", "logistic", "ridge")
PENALTY = 1.0


class Semantics(NamedTuple):
  """Directions `[k d]` by falling eigenvalue `[k]`, and layers they move."""

  layers: tuple[int, ...]
  directions: Array
  eigenvalues: Array


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
  codes: Array | np.ndarray,
  labels: Any,
  method: str = "svm",
  strength: float = PENALTY,
) -> Float[Array, " d"]:
  """The direction of length 1 in which a label grows.

  Args:
    codes: W `[b d]`, or W+ `[b n d]`, of which the mean style counts.
    labels: `[b]`: true and false, or 1 and 0; numbers for "ridge".
    method: "svm" (squared hinge), "logistic", or "ridge" (least squares, for
      numbers such as scores or ages).
    strength: of the penalty on length, for codes of unit deviation. With less
      the direction tells labels apart better; with more it lies nearer to the
      difference of the means, and disturbs what else the codes say less.

  Raises:
    ImportError: scikit-learn is not installed.
    ValueError: labels that do not fit, or all the same.
  """
  x, y = _checked(codes, labels, method)
  found = np.ravel(_model(method, strength, len(x)).fit(_scaled(x, x), y).coef_)
  length = np.linalg.norm(found)
  if not length > 0:
    raise ValueError("the labels do not depend on the codes; give others.")
  return jnp.asarray(found / length, jnp.float32)


def held_out(
  codes: Array | np.ndarray,
  labels: Any,
  method: str = "svm",
  strength: float = PENALTY,
  *,
  share: float = 0.3,
  seed: int = 0,
) -> float:
  """How well codes tell labels that were not seen (InterFaceGAN, section 3.2).

  Args:
    codes, labels, method, strength: as `from_labels`.
    share: of the rows that are kept from the fit.
    seed: which these are.

  Returns:
    The share of right answers, from 0 to 1; of "ridge" R2, at most 1, and 0
    for guessing the mean.

  Raises:
    ImportError, ValueError: as `from_labels`, or too few rows to part.
  """
  x, y = _checked(codes, labels, method)
  model = _model(method, strength, len(x) - round(share * len(x)))
  from sklearn.model_selection import train_test_split

  kinds = None if method == "ridge" else y
  x, x_test, y, y_test = train_test_split(
    x, y, test_size=share, random_state=seed, stratify=kinds
  )
  return float(model.fit(_scaled(x, x), y).score(_scaled(x_test, x), y_test))


def condition(
  direction: Float[Array, " d"], others: Sequence[Float[Array, " d"]]
) -> Float[Array, " d"]:
  """The part of a direction that leaves others alone.

  InterFaceGAN, section 2.4: conditional manipulation by projection.

  Args:
    direction: to be changed.
    others: along which the result, of length 1, has no part.

  Raises:
    ValueError: nothing is left.
  """
  vector = np.asarray(direction, np.float64)
  basis = np.stack([np.asarray(x, np.float64) for x in others], 1)
  along, *_ = np.linalg.lstsq(basis, vector, rcond=None)
  rest = vector - basis @ along
  if np.linalg.norm(rest) < 1e-3 * np.linalg.norm(vector):
    raise ValueError(
      "nothing is left of the direction without the others; leave some out."
    )
  return jnp.asarray(rest / np.linalg.norm(rest), jnp.float32)


def _checked(
  codes: Any, labels: Any, method: str
) -> tuple[np.ndarray, np.ndarray]:
  """Codes `[b d]` and labels `[b]` in double precision."""
  x, y = np.asarray(codes, np.float64), np.asarray(labels, np.float64)
  x = x.mean(1) if x.ndim == 3 else x
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
  return x, y


def _scaled(x: np.ndarray, like: np.ndarray) -> np.ndarray:
  """Codes around 0 in one unit, so that the penalty means the same everywhere;
  a unit for each number would turn the direction."""
  return (x - like.mean(0)) / (like.std(0).mean() or 1.0)


def _model(method: str, strength: float, n: int) -> Any:
  """Mean loss of `n` rows + strength / 2 |w|^2; both kinds weigh alike."""
  try:
    from sklearn import linear_model, svm
  except ImportError:
    raise ImportError(
      "labels need scikit-learn; pip install 'encoder4editing_jax[directions]'"
    ) from None
  even = {"C": 1 / (strength * n), "class_weight": "balanced"}
  if method == "svm":
    return svm.LinearSVC(dual=False, max_iter=10_000, **even)
  if method == "logistic":
    return linear_model.LogisticRegression(max_iter=10_000, **even)
  return linear_model.Ridge(alpha=strength * n)
