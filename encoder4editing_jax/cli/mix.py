"""`e4e mix`: codes with some layers of others, or of drawn ones."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from encoder4editing_jax.cli.edit import open_generator
from encoder4editing_jax.cli.invert import Text, check
from encoder4editing_jax.cli.parsing import PLAIN, parse
from encoder4editing_jax.cli.results import paint_all, places
from encoder4editing_jax.config import ConfigError


@dataclass(frozen=True)
class MixArguments:
  """Paint codes of `e4e invert` with some layers of others.

  Each code meets each of --styles, or gets --random styles (pSp's multi-modal
  synthesis).

  Example: e4e mix a/latents.npz --styles b/latents.npz --layers middle --demo
  --out mixed
  """

  latents: tyro.conf.Positional[str]
  """latents.npz of `e4e invert`: what keeps the other layers."""

  out: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
  """Folder for the results; it is made."""

  model: Text = ""
  """The inverter, or its generator, that the codes belong to."""

  demo: bool = False
  """The generator of drawn faces."""

  styles: Text = ""
  """Another latents.npz (or the same): where the layers come from."""

  random: int = 0
  """Draw so many styles instead."""

  seed: int = 0
  """Of these."""

  layers: Annotated[str, tyro.conf.arg(metavar="LAYERS")] = "fine"
  """Layers that come from the others, as in 8-17 or coarse, middle, fine."""

  alpha: float | None = None
  """Share of the others in these layers; 1 by default."""

  overwrite: bool = False
  """Replace files that are there."""

  json: bool = False
  """Print one JSON object."""


def mix_command(argv: Sequence[str]) -> int:
  """`e4e mix`: paints mixed codes.

  Raises:
    ConfigError, OSError, ValueError: wrong flags or files.
  """
  asked = parse(MixArguments, argv, prog="e4e mix", config=PLAIN)
  check(asked)
  if bool(asked.styles) == bool(asked.random) or asked.random < 0:
    raise ConfigError("give --styles FILE or --random N, one of them.")
  from encoder4editing_jax import editing, inference

  generator = open_generator(asked)
  latents = inference.load_latents(asked.latents, generator)
  layers = editing.parse_layers(asked.layers, generator.n_styles)
  names, w_plus = _mixed(asked, generator, latents, layers)
  kept = list(filter(None, (asked.latents, asked.styles)))
  paths = places(asked.out, names, asked.overwrite, kept)
  mixed = latents._replace(names=names, w_plus=w_plus)
  return paint_all(asked, paths, generator, mixed)


def _mixed(
  asked: MixArguments, generator: Any, latents: Any, layers: list[int]
) -> tuple[tuple[str, ...], Any]:
  """Names and codes, those of the first picture first."""
  import jax
  import jax.numpy as jnp
  import numpy as np

  from encoder4editing_jax import editing, inference
  from encoder4editing_jax.data.pictures import names_of

  own = jnp.asarray(latents.w_plus)
  if asked.random:
    others = tuple(map(str, range(asked.random)))
    key = jax.random.key(asked.seed)
    found = editing.multi_modal(
      generator, own, layers, key, asked.random, asked.alpha
    )
  else:
    there = inference.load_latents(asked.styles, generator)
    others = there.names
    theirs = jnp.asarray(there.w_plus)[:, None]
    found = jnp.stack(
      [editing.mix(own, w, layers, asked.alpha) for w in theirs], 1
    )
  both = itertools.product(names_of(latents.names), names_of(others))
  names = tuple(map("-".join, both))
  return names, np.asarray(found).reshape(-1, *own.shape[1:])
