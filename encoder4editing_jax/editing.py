"""Edits of codes as functions of W+.

A direction is a vector of W, `[d]` for all layers alike or `[n d]`. Where they
come from: `finding`, files (`directions.load`), `faceworld.load_directions`.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from encoder4editing_jax.models.inverter import mix_styles
from encoder4editing_jax.models.stylegan2 import Generator

# What layers do (StyleGAN, arXiv 1812.04948, section 3.1): pose and shape,
# features, colours. First layer, and the one after the last.
RANGES = {
  "all": (0, None),
  "coarse": (0, 4),
  "middle": (4, 8),
  "fine": (8, None),
}


class Components(NamedTuple):
  """Principal components of W (GANSpace, arXiv 2004.02546).

  `mean` `[d]`, `components` `[k d]` of length 1, and `std` `[k]`, the standard
  deviations along them.
  """

  mean: Array
  components: Array
  std: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Direction:
  """A direction, and how it is meant.

  Args:
    vector: `[d]`, or `[n d]` if the layers differ.
    layers: which move unless an edit names others; all if None.
    mean: `[d]`, if strengths are coordinates to reach, not steps to go: lengths
      of the vector from this point (GANSpace as e4e applies it).
    notes: texts and numbers by name; nothing depends on them.
  """

  vector: Any
  layers: tuple[int, ...] | None = None
  mean: Any = None
  notes: Mapping[str, str | float] = dataclasses.field(default_factory=dict)


def component(
  pca: Components, index: int, layers: Sequence[int] | None = None
) -> Direction:
  """One principal component: strengths are coordinates in deviations.

  Raises:
    ValueError: a component that is not there.
  """
  if not 0 <= index < len(pca.std):
    raise ValueError(
      f"there is no component {index}; use 0 to {len(pca.std) - 1}."
    )
  vector = pca.components[index] * pca.std[index]
  return Direction(vector, None if layers is None else tuple(layers), pca.mean)


def parse_layers(text: str, n_styles: int) -> list[int]:
  """Layers by name: "coarse", "middle", "fine", "all", "3", "0-7", "0-3,8".

  Raises:
    ValueError: another text, or a layer that a code of `n_styles` has not.
  """
  found: set[int] = set()
  for part in text.split(","):
    first, _, last = part.partition("-")
    if part in RANGES:
      start, stop = RANGES[part]
      found.update(range(n_styles)[start:stop])
    elif first.isdecimal() and (last or first).isdecimal():
      found.update(range(int(first), int(last or first) + 1))
    else:
      raise ValueError(
        f"layers {part!r} are unknown; use {', '.join(RANGES)}, or numbers as "
        "in 0-3,8."
      )
  if not found:
    raise ValueError(f"layers {text!r} are none of these {n_styles} styles.")
  if max(found) >= n_styles:
    raise ValueError(f"layers {text!r}: use 0 to {n_styles - 1}.")
  return sorted(found)


def move(
  w_plus: Float[Array, "b n d"],
  direction: Array,
  strength: float | Array,
  layers: Sequence[int] | None = None,
) -> Float[Array, "b n d"]:
  """Codes moved along a direction (InterFaceGAN, arXiv 1907.10786, eq. 6).

  Args:
    w_plus: codes.
    direction: `[d]`, `[1 d]` or `[n d]`, also with a leading 1.
    strength: steps along it, one number or one per example `[b]`.
    layers: which styles move, 0 the coarsest; all if None.

  Raises:
    ValueError: the direction does not fit the codes, or a layer is not there.
  """
  n, d = w_plus.shape[1:]
  direction = jnp.atleast_2d(jnp.asarray(direction))
  if direction.ndim == 3 and len(direction) == 1:
    direction = direction[0]
  if direction.shape not in ((1, d), (n, d)):
    raise ValueError(
      f"the direction has shape {direction.shape}, the codes take {(d,)} or "
      f"{(n, d)}."
    )
  strength = jnp.asarray(strength)
  if strength.shape not in ((), (1,), w_plus.shape[:1]):
    raise ValueError(
      f"strength has shape {strength.shape}; pass one number, or one for each "
      f"of the {w_plus.shape[0]} codes."
    )
  step = jnp.reshape(strength, (-1, 1, 1)) * direction[None]
  if layers is None:
    return w_plus + step
  if bad := [i for i in layers if not 0 <= i < n]:
    raise ValueError(f"layers names layer {bad[0]}; use 0 to {n - 1}.")
  moved = jnp.zeros((1, n, 1)).at[:, jnp.array(layers, int)].set(1.0)
  return w_plus + step * moved


def apply(
  w_plus: Float[Array, "b n d"],
  edits: Sequence[tuple[Any, ...]],
  directions: Mapping[str, Any],
) -> Float[Array, "b n d"]:
  """Several edits by name, added up: the order makes no difference.

  Where a component is to reach a coordinate, where the code stands is read off
  its first style, as e4e does, and before any edit. A name with + behind it
  goes steps instead: `("pc3+", 2.0)`.

  Args:
    w_plus: codes.
    edits: `("smile", 2.0)`, or with its layers `("smile", 2.0, [4, 5, 6])`.
    directions: by name, each a vector or a `Direction`.

  Raises:
    ValueError: a name that is not there, or as `move`.
  """
  moved = w_plus
  for name, strength, *layers in edits:
    known = name if name in directions else name.removesuffix("+")
    if known not in directions:
      some = ", ".join([*directions][:20]) + ", ..." * (len(directions) > 20)
      fix = f"use {some}" if some else "none were given (--directions FILE)"
      raise ValueError(f"there is no direction {known!r}; {fix}.")
    found = directions[known]
    if not isinstance(found, Direction):
      found = Direction(found)
    if found.mean is not None and known == name:
      strength = strength - _coordinate(w_plus, found)
    chosen = layers[0] if layers else found.layers
    moved = move(moved, jnp.asarray(found.vector), strength, chosen)
  return moved


def _coordinate(w_plus: Float[Array, "b n d"], axis: Direction) -> Array:
  """Where codes stand along a component `[b]`."""
  vector, mean = jnp.asarray(axis.vector), jnp.asarray(axis.mean)
  along = jnp.matmul(w_plus[:, 0] - mean[None], vector, precision="highest")
  return along / jnp.vdot(vector, vector, precision="highest")


def set_coordinates(
  w_plus: Float[Array, "b n d"],
  pca: Components,
  edits: Sequence[tuple[int, int, int, float]],
) -> Float[Array, "b n d"]:
  """Moves codes to coordinates along principal components (GANSpace).

  Each edit is (component, first layer, the one after the last, strength); the
  strength is the coordinate that the code shall have, in standard deviations.
  See `apply`, which does the same by name.

  Raises:
    ValueError: a component or layers that are not there.
  """
  n, chosen = w_plus.shape[1], []
  for index, start, stop, strength in edits:
    if not 0 <= start < stop <= n:
      raise ValueError(
        f"layers {start} to {stop} (exclusive) are not in a code of {n}."
      )
    axis = component(pca, index, range(start, stop))
    chosen.append((axis, strength))
  named = {str(k): axis for k, (axis, _) in enumerate(chosen)}
  steps = [(str(k), strength) for k, (_, strength) in enumerate(chosen)]
  return apply(w_plus, steps, named)


def mix(
  w_plus: Float[Array, "b n d"],
  other: Array,
  layers: Sequence[int],
  alpha: float | None = None,
) -> Float[Array, "b n d"]:
  """Codes with some layers of others (StyleGAN, section 3.1).

  Args:
    w_plus: codes.
    other: `[b n d]`, `[1 n d]` for all alike, or codes of W `[b d]`.
    layers: which come from `other`, 0 the coarsest.
    alpha: share of `other` in them; all if None.

  Raises:
    ValueError: a layer that is not there, or codes that do not fit.
  """
  if other.ndim == 2:
    other = jnp.repeat(other[:, None], w_plus.shape[1], 1)
  if other.shape not in (w_plus.shape, (1, *w_plus.shape[1:])):
    raise ValueError(
      f"the other codes have shape {other.shape}, these {w_plus.shape}; give "
      "as many, or one."
    )
  other = jnp.broadcast_to(other, w_plus.shape)
  return mix_styles(w_plus, list(layers), other, alpha)


def multi_modal(
  generator: Generator,
  w_plus: Float[Array, "b n d"],
  layers: Sequence[int],
  key: Array,
  n: int = 1,
  alpha: float | None = None,
) -> Float[Array, "b k n d"]:
  """Several pictures of one source (pSp, section 4): some layers are drawn.

  Args:
    generator: its mapping network makes styles of random z.
    w_plus: codes.
    layers: which are drawn; pSp takes 8 and up for drawings and maps.
    key: the same key draws the same styles, for all codes alike.
    n: how many.
    alpha: share of what is drawn; all if None.
  """
  styles = generator.mapping(jax.random.normal(key, (n, generator.style_dim)))
  mixed = [mix(w_plus, styles[k : k + 1], layers, alpha) for k in range(n)]
  return jnp.stack(mixed, 1)


def interpolate(
  codes: Float[Array, "k n d"], steps: int, hold: int = 0, loop: bool = False
) -> Float[Array, "f n d"]:
  """A path through several codes, straight in W+ from each to the next.

  Args:
    codes: two or more.
    steps: frames from one code to the next.
    hold: how many more frames to stay at each code that is reached.
    loop: go on from the last to the first.

  Returns:
    The first code, `hold` times more, then `steps` frames for each way, the
    last of which is the code it leads to, and `hold` more.

  Raises:
    ValueError: less than two codes, less than one step.
  """
  if len(codes) < 2 or steps < 1 or hold < 0:
    raise ValueError(
      f"{len(codes)} codes, {steps} steps, hold {hold}; pass 2, 1 and 0 or "
      "more."
    )
  ends = jnp.concatenate([codes, codes[:1]]) if loop else codes
  share = jnp.linspace(0, 1, steps + 1)[1:, None, None]
  frames = [jnp.repeat(ends[:1], hold + 1, 0)]
  for start, end in itertools.pairwise(ends):
    way = (1 - share) * start[None] + share * end[None]
    frames += [way, jnp.repeat(end[None], hold, 0)]
  return jnp.concatenate(frames)
