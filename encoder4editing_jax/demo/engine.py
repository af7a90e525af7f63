"""The networks behind the page: compiled once, shared by all visitors."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from encoder4editing_jax import editing, finding, inference
from encoder4editing_jax.converters import edits
from encoder4editing_jax.directions import require_fitting
from encoder4editing_jax.models.inverter import Inverter
from encoder4editing_jax.training.pictures import to_bytes

COMPONENTS = 8  # of W that get sliders
LAYERS = ("coarse", "middle", "fine", "all")


class Engine:
  """An inverter and the directions of its sliders.

  Args:
    inverter: an encoder of one pass, or a ReStyle encoder.
    directions: by name, vectors or as `directions.load` gives them; of bare
      components the first. None are those of the generator's own W.
    iterations: ReStyle steps; other encoders take one.

  Raises:
    ValueError: a direction that does not fit the model.
  """

  def __init__(
    self,
    inverter: Inverter,
    directions: Mapping[str, Any] | None = None,
    iterations: int = 1,
  ):
    self.generator = inverter.generator
    self.size = inverter.encoder.input_shape
    self.directions = _fitting(dict(directions or {}), self.generator)
    self.layers = tuple(
      name
      for name in LAYERS
      if self.generator.n_styles > editing.RANGES[name][0]
    )
    self.fingerprint = inference.fingerprint(self.generator)
    self._encode = inference.make_encode(inverter, iterations)

  def invert(self, face: UInt8[np.ndarray, "h w 3"]) -> Array:
    """The code `[1 n d]` of a face of `size`."""
    return self._encode(jnp.asarray(face, jnp.float32)[None] / 127.5 - 1)

  def paint(self, w_plus: Float[Array, "1 n d"]) -> UInt8[np.ndarray, "h w 3"]:
    """The picture of a code, in bytes."""
    return to_bytes(inference.paint(self.generator, w_plus, batch=1))[0]

  def warm_up(self) -> None:
    """Compiles whatever a visitor would otherwise wait for."""
    w_plus = self.invert(np.zeros((*self.size, 3), np.uint8))
    mixed = editing.mix(w_plus, w_plus, [0], 0.5)
    name = next(iter(self.directions))
    self.paint(editing.apply(mixed, [(name, 1.0)], self.directions))


def _fitting(found: dict[str, Any], generator: Any) -> dict[str, Any]:
  """Directions that fit a generator; sliders go steps, to no coordinate."""
  if not found:
    count = min(COMPONENTS, generator.style_dim)
    axes = finding.principal(generator, 2000, count, key=jax.random.key(0))
    found = edits.components_as_edits(axes)
  require_fitting(found, generator.n_styles, generator.style_dim)
  made: dict[str, Any] = {}
  bare = 0
  for name, given in found.items():
    if not isinstance(given, editing.Direction):
      made[name] = jnp.asarray(given)
      continue
    bare += given.mean is not None and given.layers is None
    if given.mean is None or given.layers is not None or bare <= COMPONENTS:
      made[name] = dataclasses.replace(given, mean=None)
  return made
