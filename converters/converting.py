"""Takes a checkpoint to the converter of its kind."""

from collections.abc import Callable
from typing import Any

from encoder4editing_jax.converters.discriminators import (
  to_discriminator,
  to_latent_discriminator,
)
from encoder4editing_jax.converters.features import to_arcface, to_moco
from encoder4editing_jax.converters.generators import to_generator
from encoder4editing_jax.converters.inception import to_inception
from encoder4editing_jax.converters.inverter import to_inverter
from encoder4editing_jax.converters.recognition import Match, choose, identify

CONVERTERS: dict[str, Callable[..., Any]] = {
  "to_arcface": to_arcface,
  "to_discriminator": to_discriminator,
  "to_generator": to_generator,
  "to_inception": to_inception,
  "to_inverter": to_inverter,
  "to_latent_discriminator": to_latent_discriminator,
  "to_moco": to_moco,
}
"""By the names that `kinds.KINDS` calls them."""


def convert(
  checkpoint: Any, part: str | None = None, encoder_type: str | None = None
) -> Any:
  """The network of a checkpoint of any kind.

  Args:
    checkpoint: as `read` returns it, or a mapping of names to arrays.
    part: which network of a file of several, for example "discriminator";
      the name of its converter without `to_`.
    encoder_type: see `to_inverter`.

  Raises:
    ValueError: the kind is unknown or has no converter; or as the converter.
  """
  return convert_as(
    choose(identify(checkpoint), part), checkpoint, encoder_type
  )


def convert_as(
  match: Match, checkpoint: Any, encoder_type: str | None = None
) -> Any:
  """The network of a match that `choose` returned."""
  kind = match.kind
  assert kind.converter is not None
  if kind.converter == "to_inverter":
    return to_inverter(checkpoint, encoder_type)
  if encoder_type is not None:
    raise ValueError(
      f"encoder_type is {encoder_type!r}, but this is {kind.what}; leave "
      "encoder_type out."
    )
  return CONVERTERS[kind.converter](checkpoint)
