"""The networks behind the page: compiled once, shared by all visitors."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from encoder4editing_jax import editing, finding, inference
from encoder4editing_jax.models.inverter import Inverter
from encoder4editing_jax.training.pictures import to_bytes

COMPONENTS = 8  # of W, where a model comes without directions
LAYERS = ("coarse", "middle", "fine", "all")


class Engine:
  """An inverter and the directions of its sliders.

  Args:
    inverter: an encoder of one pass, or a ReStyle encoder.
    directions: by name, as `converters.to_directions` gives them; of GANSpace
      the first components. None are the components of the generator's own W.
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


def _fitting(found: dict[str, Any], generator: Any) -> dict[str, Array]:
  """Directions that fit a generator."""
  n, d = generator.n_styles, generator.style_dim
  if not found:
    count = min(COMPONENTS, d)
    axes = finding.principal(generator, 2000, count, key=jax.random.key(0))
    found = axes._asdict()
  if {"mean", "components", "std"} == set(found):
    scaled = found["components"] * found["std"][:, None]
    found = {
      f"component {k + 1}": axis for k, axis in enumerate(scaled[:COMPONENTS])
    }
  for name, axis in found.items():
    if np.shape(axis) not in ((d,), (1, d), (n, d)):
      raise ValueError(
        f"direction {name!r} has shape {np.shape(axis)}, the model takes "
        f"{(d,)} or {(n, d)}; pass the directions of this model."
      )
  return {name: jnp.asarray(axis) for name, axis in found.items()}
