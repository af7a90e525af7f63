"""`e4e animate`: clips of edits, of ways between codes, and of inversions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from encoder4editing_jax.cli.edit import (
  open_directions,
  open_generator,
  parse_edit,
)
from encoder4editing_jax.cli.invert import Text, check, find
from encoder4editing_jax.cli.parsing import PLAIN, check_out, parse
from encoder4editing_jax.cli.progress import Pace
from encoder4editing_jax.config import ConfigError


@dataclass(frozen=True)
class AnimateArguments:
  """Make a clip of codes of `e4e invert`, side by side.

  With --edit each code goes along a direction and back; with --wipe its picture
  replaces the photo from left to right; otherwise one picture turns into the
  next, and the last into the first.

  Example: e4e animate inverted/latents.npz --demo --edit smile=-2:2 --out a.gif
  """

  latents: tyro.conf.Positional[str]
  """latents.npz of `e4e invert`."""

  out: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
  """The clip: .gif, .webp, or with the package av .mp4."""

  model: Text = ""
  """The inverter, or its generator, that the codes belong to."""

  demo: bool = False
  """The generator of drawn faces, and its directions."""

  edit: Annotated[str, tyro.conf.arg(metavar="NAME=FROM:TO[@LAYERS]")] = ""
  """The edit, from one strength to another."""

  wipe: Annotated[str, tyro.conf.arg(metavar="PHOTOS")] = ""
  """The photos that were inverted: a folder or a pattern, paired by name."""

  directions: Text = ""
  """Directions: a file of `e4e directions`, or a published one."""

  frames: int = 24
  """From one end of the edit to the other, or from one picture to the next."""

  fps: int = 12
  """Frames in a second."""

  overwrite: bool = False
  """Replace the clip if it is there."""


def animate_command(argv: Sequence[str]) -> int:
  """`e4e animate`.

  Raises:
    ConfigError, ImportError, OSError, ValueError: wrong flags or files.
  """
  asked = parse(AnimateArguments, argv, prog="e4e animate", config=PLAIN)
  check(asked, "the clip")
  if asked.edit and asked.wipe:
    raise ConfigError("--edit and --wipe exclude each other; give one.")
  if asked.frames < 2 or asked.fps < 1:
    raise ConfigError("--frames takes 2 or more, --fps 1 or more.")
  check_out(asked.out, asked.overwrite)
  from encoder4editing_jax import clips, inference

  clips.check_clip(asked.out)
  generator = open_generator(asked)
  latents = inference.load_latents(asked.latents, generator)
  make = _edited if asked.edit else _wiped if asked.wipe else _turning
  frames = make(asked, generator, latents)
  with Pace(_count(asked, latents), unit="frame") as pace:
    frames = pace.over(frames, lambda _: 1)
    n = clips.save_clip(asked.out, frames, asked.fps)
  print(f"{asked.out}: {n} frames ({pace})")
  return 0


def _count(asked: Any, latents: Any) -> int:
  """How many frames there will be."""
  if asked.wipe:
    return asked.frames
  if asked.edit:
    return 2 * asked.frames - 2
  return len(latents.names) * asked.frames


def _painted(generator: Any, latents: Any, w_plus: Any) -> Any:
  """Pictures of codes as bytes."""
  from encoder4editing_jax import inference
  from encoder4editing_jax.training.pictures import to_bytes

  return to_bytes(
    inference.paint(
      generator, w_plus, batch=latents.batch, noise_seed=latents.noise_seed
    )
  )


def _edited(asked: Any, generator: Any, latents: Any) -> Iterator[Any]:
  import jax.numpy as jnp
  import numpy as np

  from encoder4editing_jax import editing

  name, _, rest = asked.edit.partition("=")
  numbers, at, layers = rest.partition("@")
  ends = [
    parse_edit(f"{name}={x}{at}{layers}", generator.n_styles)
    for x in numbers.split(":")
  ]
  if len(ends) != 2:
    raise ConfigError(f"--edit {asked.edit}: write it as smile=-2:2.")
  directions = open_directions(asked, generator)
  w_plus = jnp.asarray(latents.w_plus)
  forth = np.linspace(ends[0][1], ends[1][1], asked.frames)
  for strength in (*forth, *forth[-2:0:-1]):
    edit = (name, float(strength), *ends[0][2:])
    moved = editing.apply(w_plus, [edit], directions)
    yield np.concatenate(_painted(generator, latents, np.asarray(moved)), 1)


def _turning(asked: Any, generator: Any, latents: Any) -> Iterator[Any]:
  import jax.numpy as jnp
  import numpy as np

  from encoder4editing_jax import editing

  if len(latents.names) < 2:
    raise ConfigError(
      f"{asked.latents} holds one code; give --edit or --wipe, or invert more."
    )
  codes = jnp.asarray(latents.w_plus)
  way = np.asarray(editing.interpolate(codes, asked.frames, loop=True))[:-1]
  for start in range(0, len(way), latents.batch):
    part = way[start : start + latents.batch]
    yield from _painted(generator, latents, part)


def _photos(
  place: str, names: Sequence[str], size: tuple[int, int]
) -> list[Any]:
  """The photos of these names.

  Raises:
    ConfigError: one is missing, there twice, or cannot be read.
  """
  from encoder4editing_jax.data import pictures

  files: dict[str, list[str]] = {}
  for path in find([place]):
    for name in {pictures.name_of(path), Path(path).name}:
      files.setdefault(name, []).append(path)
  wanted = []
  for name in names:  # the whole name of a file, or what is before its ending
    meant = files.get(Path(name).name) or files.get(pictures.name_of(name), [])
    if len(meant) > 1:
      raise ConfigError(
        f"{meant[0]} and {meant[1]} have the same name, so that one cannot be "
        "chosen; give --wipe a narrower pattern."
      )
    if not meant:
      raise ConfigError(f"--wipe {place} has no picture called {name}.")
    wanted += meant
  found = [pictures.read(path, size) for path in wanted]
  for path, pixels, reason in found:
    if pixels is None:
      raise ConfigError(f"{path}: {reason}; give --wipe a picture.")
  return [one.pixels for one in found]


def _wiped(asked: Any, generator: Any, latents: Any) -> Iterator[Any]:
  import numpy as np

  size = generator.image_shape
  before = np.stack(_photos(asked.wipe, latents.names, size))
  after = _painted(generator, latents, latents.w_plus)
  for edge in np.linspace(0, size[1], asked.frames).round().astype(int):
    both = np.concatenate([after[:, :, :edge], before[:, :, edge:]], 2)
    yield np.concatenate(both, 1)
