"""FID: how far two sets of pictures are from each other as distributions.

Heusel et al. 2017, arXiv 1706.08500 (equation 6): means and covariances of the
features of `models.inception.Inception`. Everything here is float64, on the
host. Covariances divide by n - 1.
"""

import os
import zipfile
from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

from encoder4editing_jax import files


class Statistics(NamedTuple):
  """Mean `[d]` and covariance `[d d]` of features, float64."""

  mean: np.ndarray
  covariance: np.ndarray


class Accumulator:
  """Mean and covariance of features that come in batches.

  Nothing but a mean and a matrix is kept. Batches are merged about their
  common mean (Chan et al. 1979), so that no digits are lost in long runs.
  """

  def __init__(self) -> None:
    self.n = 0
    self._mean = np.zeros(0)
    self._scatter = np.zeros((0, 0))

  def add(
    self, features: Float[np.ndarray, "b d"] | Float[Array, "b d"]
  ) -> None:
    """Counts a batch in."""
    x = np.asarray(features, np.float64)
    if not len(x):
      return
    mean = x.mean(0)
    centred = x - mean
    scatter = centred.T @ centred
    if not self.n:
      self.n, self._mean, self._scatter = len(x), mean, scatter
      return
    n = self.n + len(x)
    apart = mean - self._mean
    self._scatter += scatter + np.outer(apart, apart) * (self.n * len(x) / n)
    self._mean = self._mean + apart * (len(x) / n)
    self.n = n

  def statistics(self) -> Statistics:
    """Of all that was counted in.

    Raises:
      ValueError: fewer than two examples, which have no covariance.
    """
    if self.n < 2:
      raise ValueError(f"FID needs 2 pictures or more, not {self.n}.")
    return Statistics(self._mean, self._scatter / (self.n - 1))


def distance(a: Statistics, b: Statistics) -> float:
  """Squared Frechet distance of two Gaussians, 0 or more.

  `|m - n|^2 + tr A + tr B - 2 tr (A B)^(1/2)`. The last trace is taken of
  `(A^(1/2) B A^(1/2))^(1/2)`, which has the same eigenvalues and is symmetric:
  no complex numbers, also where there are fewer pictures than features.

  Raises:
    ValueError: statistics of different lengths, or that are not finite.
  """
  if a.mean.shape != b.mean.shape:
    raise ValueError(
      f"statistics of {a.mean.size} and {b.mean.size} features cannot be "
      "compared; take both with the same network."
    )
  if not all(np.isfinite(x).all() for x in (*a, *b)):
    raise ValueError("statistics hold NaN or infinity; take them anew.")
  values, vectors = scipy.linalg.eigh(a.covariance)
  root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
  inner = root @ b.covariance @ root
  shared = scipy.linalg.eigvalsh((inner + inner.T) / 2)
  trace = np.sqrt(np.maximum(shared, 0)).sum()
  total = np.trace(a.covariance) + np.trace(b.covariance) - 2 * trace
  return max(float(np.square(a.mean - b.mean).sum() + total), 0.0)


def save_statistics(path: str | os.PathLike[str], found: Statistics) -> None:
  """Writes `mu` and `sigma` to an .npz, as pytorch-fid does."""
  with files.replacing(path) as unfinished, unfinished.open("wb") as file:
    np.savez_compressed(file, mu=found.mean, sigma=found.covariance)


def load_statistics(path: str | os.PathLike[str]) -> Statistics:
  """Reads an .npz with `mu` and `sigma`, as pytorch-fid writes it.

  Raises:
    FileNotFoundError: no such file.
    ValueError: another file, or arrays that are no statistics.
  """
  try:
    with np.load(path, allow_pickle=False) as file:
      mean, covariance = (file[k].astype(np.float64) for k in ("mu", "sigma"))
  except FileNotFoundError:
    raise FileNotFoundError(f"{path} is not there; check the path.") from None
  except (
    *(AttributeError, KeyError, EOFError, TypeError, ValueError),
    zipfile.BadZipFile,
  ) as error:
    raise ValueError(
      f"{path}: no statistics of FID, an .npz with mu and sigma ({error})."
    ) from None
  d = mean.size
  if mean.shape != (d,) or covariance.shape != (d, d) or not d:
    raise ValueError(
      f"{path}: mu has shape {mean.shape} and sigma {covariance.shape}; [d] "
      "and [d d] are needed."
    )
  if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
    raise ValueError(f"{path}: it holds NaN or infinity; take it anew.")
  return Statistics(mean, covariance)
