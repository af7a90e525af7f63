"""`e4e invert`: pictures to codes, and the pictures of those codes."""

import glob
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from encoder4editing_jax.cli.parsing import PLAIN, parse
from encoder4editing_jax.config import ConfigError

Inputs = Annotated[
  tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="FILES")
]
Text = Annotated[str, tyro.conf.arg(metavar="FILE")]


@dataclass(frozen=True)
class InvertArguments:
  """Turn pictures into codes, and paint what the codes say.

  Writes one PNG for each picture and latents.npz with all codes. Exit status
  1 if a picture could not be read; the others are done.

  Example: e4e invert photos --model e4e_ffhq.safetensors --out inverted
  """

  inputs: Inputs = ()
  """Files, folders (searched recursively) or patterns such as 'a/*.jpg'."""

  out: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
  """Folder for the results; it is made."""

  model: Text = ""
  """An inverter: .safetensors, or a published checkpoint."""

  demo: bool = False
  """Use the inverter of drawn faces and, without files, four such faces."""

  iterations: int = 1
  """ReStyle steps; other encoders take one."""

  start: Text = ""
  """Another inverter, whose codes a ReStyle encoder goes on from."""

  optimise: int = 0
  """Steps of Adam on the codes after the encoder (L2)."""

  lr: float = 0.05
  """Of these steps."""

  batch: int = 8
  """Pictures at a time."""

  overwrite: bool = False
  """Replace files that are there."""

  json: bool = False
  """Print one JSON object."""


def find(inputs: Sequence[str]) -> list[str]:
  """The files that are meant; what is not there is an error.

  Raises:
    ConfigError, ValueError: nothing is meant, or it is not there.
  """
  from encoder4editing_jax.data.sources import FolderSource

  found: list[str] = []
  for text in inputs:
    path = Path(text)
    if path.is_dir():
      found += map(str, FolderSource(path).paths)
    elif path.exists():
      found.append(text)
    elif matches := sorted(glob.glob(text, recursive=True)):
      found += matches
    else:
      raise ConfigError(f"{text} is not there; check the path.")
  return list(dict.fromkeys(found))


def check(asked: Any) -> None:
  """Raises ConfigError unless there is one model and a place to write to."""
  if bool(asked.model) == asked.demo:
    raise ConfigError("give --model FILE or --demo, one of them.")
  if not asked.out:
    raise ConfigError("--out is missing; name a folder for the results.")


def places(out: str, names: Sequence[str], overwrite: bool) -> list[Path]:
  """A PNG for each name, and latents.npz; nothing is made yet.

  Raises:
    ConfigError: two would have one name, or one is there already.
  """
  folder = Path(out)
  stems = [Path(name).stem for name in names]
  if twice := next((s for s in stems if stems.count(s) > 1), None):
    raise ConfigError(
      f"two pictures are called {twice}; invert them into two folders."
    )
  paths = [folder / f"{stem}.png" for stem in stems] + [folder / "latents.npz"]
  if not overwrite and (there := [p for p in paths if p.exists()]):
    raise ConfigError(
      f"{there[0]} is there already; name another --out, or --overwrite."
    )
  return paths


def write(paths: Sequence[Path], images: Any, latents: Any) -> None:
  """Writes pictures and their codes."""
  from PIL import Image

  from encoder4editing_jax import files, inference
  from encoder4editing_jax.training.pictures import to_bytes

  paths[0].parent.mkdir(parents=True, exist_ok=True)
  for path, pixels in zip(paths[:-1], to_bytes(images), strict=True):
    with files.replacing(path) as unfinished:
      Image.fromarray(pixels).save(unfinished)
  inference.save_latents(paths[-1], latents)


def report(asked: Any, paths: Sequence[Path], failed: dict[str, str]) -> int:
  """Says what was written and what could not be read; the exit status."""
  done = f"{max(len(paths) - 1, 0)} pictures and their codes in {asked.out}"
  return tell(asked.json, done, paths, failed)


def tell(
  as_json: bool, done: str, written: Sequence[Path], failed: dict[str, str]
) -> int:
  """Prints what was done, or all of it as JSON; 1 if something failed."""
  if as_json:
    print(json.dumps({"written": [*map(str, written)], "failed": failed}))
  else:
    print(done)
  for name, reason in failed.items():
    print(f"left out: {name}: {reason}", file=sys.stderr)
  return 1 if failed else 0


def invert_command(argv: Sequence[str]) -> int:
  """`e4e invert`: 0, or 1 if a picture could not be read.

  Raises:
    ConfigError, OSError, ValueError: wrong flags or files.
  """
  asked = parse(InvertArguments, argv, prog="e4e invert", config=PLAIN)
  check(asked)
  if not asked.inputs and not asked.demo:
    raise ConfigError("there is nothing to invert; give files or folders.")
  from encoder4editing_jax import inference

  found = find(asked.inputs)
  places(asked.out, found, asked.overwrite)  # before work starts
  net = open_inverter(asked)
  opened = _pictures(asked, found, net)
  paths = places(asked.out, opened.names, asked.overwrite)
  if not opened.names:
    return report(asked, [], opened.failed)
  w_plus = _codes(asked, net, opened.images)
  images = inference.paint(net.generator, w_plus, batch=asked.batch)
  digest = inference.fingerprint(net.generator)
  names = tuple(Path(name).stem for name in opened.names)
  latents = inference.Latents(names, w_plus, None, digest, asked.batch)
  write(paths, images, latents)
  return report(asked, paths, opened.failed)


def open_inverter(asked: Any) -> Any:
  """The `Inverter` of --model, or that of drawn faces with --demo.

  Raises:
    ConfigError: the file holds something else.
    OSError, ValueError: it cannot be opened.
  """
  from encoder4editing_jax import faceworld
  from encoder4editing_jax.converters.loading import load
  from encoder4editing_jax.models.inverter import Inverter

  if asked.demo:
    return faceworld.load_inverter()
  net = load(asked.model)
  if not isinstance(net, Inverter):
    raise ConfigError(
      f"{asked.model} is a {type(net).__name__}; an encoder with its "
      "generator (Inverter) is needed."
    )
  return net


def _pictures(asked: Any, found: list[str], net: Any) -> Any:
  import numpy as np

  from encoder4editing_jax import faceworld, inference

  if not found:
    faces = np.asarray(faceworld.sample(seed=7, n=4)[0])
    return inference.Opened(tuple(f"face{k}" for k in range(4)), faces, {})
  size = net.encoder.input_size
  pair = (size, size) if isinstance(size, int) else tuple(size)
  return inference.open_images(found, pair)


def _codes(asked: Any, net: Any, images: Any) -> Any:
  from encoder4editing_jax import inference, optimising
  from encoder4editing_jax.converters.loading import load

  start = load(asked.start) if asked.start else None
  codes = inference.invert(
    net, images, asked.iterations, batch=asked.batch, start=start
  )
  if not asked.optimise:
    return codes
  return inference.in_batches(
    lambda x, w: optimising.optimise(
      net.generator, x, w, asked.optimise, asked.lr
    ),
    asked.batch,
    images,
    codes,
  )
