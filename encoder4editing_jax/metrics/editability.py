"""How well codes bear editing.

LEC, latent editing consistency (e4e, arXiv 2102.02766, section 5): a picture is
encoded, edited, painted, encoded again, and the edit is taken back. Where codes
lie in the part of W+ that the generator knows, the second code says what the
first did. Less is better; the distances have the scale of W.

Where attributes can be measured on a picture (`faceworld.measure`), `effect`
says how far an edit moved its own and how much it disturbed the others.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Encode = Callable[[Float[Array, "b h w c"]], Float[Array, "b n d"]]
Decode = Callable[[Float[Array, "b n d"]], Float[Array, "b h w c"]]
Edit = Callable[[Float[Array, "b n d"], float], Float[Array, "b n d"]]

PERCENTILES = (1, 99)  # what lies outside does not count


def lec_distances(
  encode: Encode, edit: Edit, decode: Decode, images: Float[Array, "b h w c"]
) -> Float[Array, " b"]:
  """The distance in W+ between each picture's codes before and after.

  Args:
    encode: pictures to codes.
    edit: called with codes and 1, and to take it back with codes and -1:
      `lambda w, sign: editing.move(w, direction, 3 * sign)`.
    decode: codes to pictures of the size that `encode` takes, the same for
      the same codes (stored noise).
    images: in [-1, 1].
  """
  w_plus = encode(images)
  again = encode(decode(edit(w_plus, 1.0)))
  difference = w_plus - edit(again, -1.0)
  return jnp.sqrt(jnp.square(difference).sum((1, 2)))


def lec(
  distances: Float[np.ndarray, " n"] | Float[Array, " n"],
  legacy_batch: int | None = None,
) -> float:
  """The mean of the distances between the 1st and the 99th percentile.

  Args:
    distances: of all pictures, in order.
    legacy_batch: None judges picture by picture. A number does as the
      published program, whose batches had 8: the mean of every so many
      distances is one value, a last batch that is not full is dropped, and
      the percentiles are those of the values. Its results depend on it.

  Raises:
    ValueError: there are no distances, or fewer than one batch.
  """
  values = np.asarray(distances, np.float64)
  if legacy_batch is not None:
    if legacy_batch < 1:
      raise ValueError(f"legacy_batch is {legacy_batch}; pass 1 or more.")
    full = len(values) // legacy_batch * legacy_batch
    values = values[:full].reshape(-1, legacy_batch).mean(1)
  if not len(values):
    raise ValueError(
      f"{len(distances)} distances are too few; pass {legacy_batch or 1} or "
      "more."
    )
  return float(without_outliers(values).mean())


def without_outliers(
  values: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " m"]:
  """Values between the 1st and the 99th percentile, in order.

  The bounds are themselves values, the next ones outwards, and are kept: of
  few values all stay.
  """
  low = np.percentile(values, PERCENTILES[0], method="lower")
  high = np.percentile(values, PERCENTILES[1], method="higher")
  return values[(low <= values) & (values <= high)]


def effect(
  before: Float[Array, "b k"], after: Float[Array, "b k"], attribute: int
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
  """What an edit did to each picture.

  Args:
    before: measured attributes.
    after: the same attributes, measured after the edit.
    attribute: the column that the edit is meant to raise.

  Returns:
    How far that one rose, and the mean of how far the others went, up or down.
  """
  change = after - before
  others = [k for k in range(change.shape[1]) if k != attribute]
  return change[:, attribute], jnp.abs(change[:, jnp.array(others)]).mean(1)


def rises(series: Float[Array, "s b"]) -> Float[Array, " b"]:
  """1 for each picture whose attribute grows with every step of s, else 0.

  Args:
    series: the attribute at growing strengths of its edit.
  """
  return (jnp.diff(series, axis=0) > 0).all(0).astype(jnp.float32)


def spread(w_plus: Float[Array, "b n d"]) -> Float[Array, " b"]:
  """How far the styles of each code are from their own mean (RMS, scale of W).

  0 for codes of W, whose styles are all the same.
  """
  apart = w_plus - w_plus.mean(1, keepdims=True)
  return jnp.sqrt(jnp.square(apart).sum(2).mean(1))
