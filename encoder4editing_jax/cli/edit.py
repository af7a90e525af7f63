"""`e4e edit`: codes that were found, painted along directions."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from encoder4editing_jax.cli.invert import Text, check
from encoder4editing_jax.cli.parsing import PLAIN, parse
from encoder4editing_jax.cli.results import paint_all, places
from encoder4editing_jax.config import ConfigError


@dataclass(frozen=True)
class EditArguments:
  """Paint codes that `e4e invert` found, moved along directions.

  Example: e4e edit inverted/latents.npz --demo --edit smile=1.5 --out happy
  """

  latents: tyro.conf.Positional[str]
  """latents.npz of `e4e invert`."""

  out: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
  """Folder for the results; it is made."""

  model: Text = ""
  """The inverter, or its generator, that the codes belong to."""

  demo: bool = False
  """The generator of drawn faces, and its directions."""

  edit: Annotated[
    tuple[str, ...], tyro.conf.arg(metavar="NAME=STRENGTH[@LAYERS]")
  ] = ()
  """Edits, added up; LAYERS as in 0-3,8 or coarse, middle, fine. Components
  (pc3=2) are moved to a coordinate, with += by steps."""

  directions: Text = ""
  """Directions: a file of `e4e directions`, or a published one."""

  overwrite: bool = False
  """Replace files that are there."""

  json: bool = False
  """Print one JSON object."""


def edit_command(argv: Sequence[str]) -> int:
  """`e4e edit`: paints codes along directions.

  Raises:
    ConfigError, OSError, ValueError: wrong flags or files.
  """
  asked = parse(EditArguments, argv, prog="e4e edit", config=PLAIN)
  check(asked)
  import jax.numpy as jnp
  import numpy as np

  from encoder4editing_jax import editing, inference

  generator = open_generator(asked)
  latents = inference.load_latents(asked.latents, generator)
  kept = [asked.latents]
  paths = places(asked.out, latents.names, asked.overwrite, kept)
  directions = open_directions(asked, generator)
  edits = [parse_edit(text, generator.n_styles) for text in asked.edit]
  w_plus = jnp.asarray(latents.w_plus)
  w_plus = np.asarray(editing.apply(w_plus, edits, directions))
  moved = latents._replace(w_plus=w_plus)
  return paint_all(asked, paths, generator, moved)


def open_generator(asked: Any) -> Any:
  """The generator of --model, or that of drawn faces with --demo.

  Raises:
    ConfigError: the file holds something else.
    OSError, ValueError: it cannot be opened.
  """
  from encoder4editing_jax import faceworld
  from encoder4editing_jax.converters.loading import load
  from encoder4editing_jax.models.stylegan2 import Generator

  net = faceworld.load_generator() if asked.demo else load(asked.model)
  generator = getattr(net, "generator", net)
  if not isinstance(generator, Generator):
    raise ConfigError(
      f"{asked.model} is a {type(net).__name__}; a Generator, or a model with "
      "one, is needed."
    )
  return generator


def open_directions(asked: Any, generator: Any) -> dict[str, Any]:
  """Directions by name: those of --directions, and those of drawn faces if the
  generator is theirs.

  Raises:
    OSError, ValueError: the file cannot be opened, or holds none that fit the
      generator.
  """
  from encoder4editing_jax import directions, faceworld, inference

  found: dict[str, Any] = {}
  digest = inference.fingerprint(generator)
  if digest == inference.fingerprint(faceworld.load_generator()):
    found |= faceworld.load_directions()
  if not asked.directions:
    return found
  given, lost = directions.fitting(
    directions.load(asked.directions), generator.n_styles, generator.style_dim
  )
  if not given:
    name, why = next(iter(lost.items()))
    raise ConfigError(
      f"{asked.directions}: direction {name!r} {why}; pass the directions of "
      "this model."
    )
  for name, why in lost.items():
    print(f"left out: {asked.directions}: {name} {why}.", file=sys.stderr)
  makers = {str(x.notes.get("generator") or "") for x in given.values()} - {""}
  if makers and makers != {digest}:
    print(
      f"note: {asked.directions} was made for another generator.",
      file=sys.stderr,
    )
  return found | given


def parse_edit(text: str, n_styles: int) -> tuple[Any, ...]:
  """("smile", 1.5) or ("smile", 1.5, [0, 1]) of smile=1.5@0-1.

  Raises:
    ConfigError: it is written otherwise.
    ValueError: layers that the generator has not.
  """
  from encoder4editing_jax.editing import parse_layers

  name, equals, rest = text.partition("=")
  number, at, layers = rest.partition("@")
  try:
    strength = float(number)
  except ValueError:
    strength = float("nan")
  if not equals or not abs(strength) < float("inf"):
    raise ConfigError(f"--edit {text}: write it as smile=1.5 or smile=1@0-3.")
  if not at:
    return name, strength
  return name, strength, parse_layers(layers, n_styles)
