"""`e4e convert` and `e4e weights`: published files to this library's own."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from encoder4editing_jax.cli.parsing import PLAIN, parse
from encoder4editing_jax.config import ConfigError

File = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE")]


@dataclass(frozen=True)
class ConvertArguments:
  """Convert a published checkpoint, and say what it is.

  Nothing in the file is executed. The same file gives the same bytes.

  Example: e4e convert e4e_ffhq_encode.pt e4e_ffhq.safetensors
  """

  file: File
  """A .pt, .pth, .pkl, .safetensors or .npz; told by its content."""

  out: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[OUT]")] = ""
  """The file to write; by default beside FILE, with its ending replaced."""

  part: Annotated[str, tyro.conf.arg(metavar="PART")] = ""
  """Which network of a file that holds several: inverter, generator,
  discriminator, latent_discriminator; by default what the file is for."""

  encoder_type: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
  """Official name of the encoder (Encoder4Editing, GradualStyleEncoder, ...),
  for files that do not say."""

  to: Literal["safetensors", "torch"] = "safetensors"
  """Format of OUT: this library's, or a .pt under the official names."""

  sha256: Annotated[str, tyro.conf.arg(metavar="HEX")] = ""
  """Refuse the file unless it has this SHA-256."""

  verify: Annotated[str, tyro.conf.arg(metavar="PICTURE")] = ""
  """A picture to reconstruct, of the kind that the encoder was trained on.
  Nothing is written if it comes back wrong."""

  force: bool = False
  """Replace OUT if it holds something else."""

  dry_run: bool = False
  """Do everything but write."""

  json: bool = False
  """Print one JSON object."""


@dataclass(frozen=True)
class WeightsArguments:
  """Fill the folder of networks that losses look through.

  Says what each file is, and keeps it under a fixed name. LPIPS is made of two
  files, which are given together. Without files: lists the folder.

  Example: e4e weights alexnet.pth alex.pth model_ir_se50.pth --dir weights
  """

  files: Annotated[
    tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[FILE ...]")
  ] = ()
  """Published files, see docs/weights.md."""

  directory: Annotated[str, tyro.conf.arg(name="dir")] = "weights"
  """The folder."""

  force: bool = False
  """Replace files of the folder that hold something else."""

  json: bool = False
  """Print one JSON object."""


def convert_command(argv: Sequence[str]) -> int:
  """`e4e convert FILE [OUT]`: 0, or 1 if the picture came back wrong.

  Raises:
    ConfigError, OSError, ValueError: wrong flags or files.
  """
  asked = parse(
    ConvertArguments,
    argv,
    prog="e4e convert",
    config=PLAIN,
    use_underscores=False,
  )
  digest = asked.sha256.strip().lower()
  if digest and not re.fullmatch("[0-9a-f]{64}", digest):
    raise ConfigError(f"--sha256 {digest} is not 64 hexadecimal digits.")
  from encoder4editing_jax.converters import command, report

  options = command.Options(
    part=asked.part or None,
    encoder_type=asked.encoder_type or None,
    to=asked.to,
    sha256=digest or None,
    verify=asked.verify or None,
    force=asked.force,
    dry_run=asked.dry_run,
  )
  found = command.convert_file(asked.file, asked.out or None, options)
  print(json.dumps(found) if asked.json else report.text(found))
  return 0 if found["ok"] else 1


def weights_command(argv: Sequence[str]) -> int:
  """`e4e weights FILE... --dir DIR`.

  Raises:
    ConfigError, OSError, ValueError: wrong flags or files.
  """
  asked = parse(WeightsArguments, argv, prog="e4e weights", config=PLAIN)
  from encoder4editing_jax.converters import collecting

  if asked.files:
    rows = collecting.collect(asked.files, asked.directory, asked.force)
    text = "\n".join(map(collecting.made_text, rows))
  else:
    rows = collecting.contents(asked.directory)
    text = collecting.contents_text(asked.directory, rows)
  print(json.dumps({"networks": rows}) if asked.json else text)
  return 0
