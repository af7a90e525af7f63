"""`e4e runs export`: the inverter of a run, at any checkpoint, as a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from encoder4editing_jax.cli.parsing import PLAIN, check_out, parse
from encoder4editing_jax.config import ConfigError


@dataclass(frozen=True)
class ExportArguments:
  """Write the inverter of a run, which may be at work or cut off, as one file.

  (Programs for serving, without this library: e4e export.)

  Example: e4e runs export runs/toy --best --out toy.pt --to torch
  """

  folder: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DIR")]
  """--workdir of the run."""

  out: Annotated[str, tyro.conf.arg(metavar="FILE")]
  """The file."""

  step: int | None = None
  """Of the checkpoint of this step; of the newest by default."""

  best: bool = False
  """That of the best evaluation, instead of a checkpoint's."""

  to: Literal["safetensors", "torch"] = "safetensors"
  """This library's format, or the official one, which PyTorch reads."""

  overwrite: bool = False
  """Replace the file if it is there."""


def export_command(argv: Sequence[str]) -> int:
  """`e4e runs export`.

  Raises:
    ConfigError, OSError, ValueError: wrong flags, folders or files.
  """
  asked = parse(ExportArguments, argv, prog="e4e runs export", config=PLAIN)
  if asked.best and asked.step is not None:
    raise ConfigError("--best and --step exclude each other; give one.")
  check_out(asked.out, asked.overwrite)
  from encoder4editing_jax import converters, weights
  from encoder4editing_jax.converters.start import load_start
  from encoder4editing_jax.training import export

  if asked.best:
    inverter, which = export.load_best(asked.folder)
  else:
    inverter, which = export.load_step(asked.folder, asked.step, load_start)
  if asked.to == "torch":
    converters.write(converters.from_inverter(inverter), asked.out)
  else:
    weights.save(inverter, asked.out)
  print(f"{asked.out}: the inverter of {which}")
  return 0
