"""`e4e info` and `e4e doctor`: what a file holds, and what runs here."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from encoder4editing_jax.cli.parsing import PLAIN, parse


@dataclass(frozen=True)
class InfoArguments:
  """Say what a file or folder is, and which command takes it.

  Networks, published checkpoints, codes, directions, pictures, data sets, runs
  and what lies in them. Nothing in a file is executed.

  Example: e4e info e4e_ffhq_encode.pt
  """

  file: tyro.conf.Positional[str]
  """Any file or folder."""

  json: bool = False
  """Print one JSON object."""


@dataclass(frozen=True)
class DoctorArguments:
  """Print versions and devices, and test one picture.

  Exit status 1 if the picture is wrong."""

  json: bool = False
  """Print one JSON object."""


def info(argv: Sequence[str]) -> int:
  """`e4e info FILE`: what it is, and which command takes it.

  Raises:
    ConfigError, FileNotFoundError, ValueError: wrong flags or file.
  """
  asked = parse(InfoArguments, argv, prog="e4e info", config=PLAIN)
  from encoder4editing_jax import identifying

  found = identifying.describe(asked.file)
  print(json.dumps(found) if asked.json else identifying.text(found))
  return 0


def doctor(argv: Sequence[str]) -> int:
  """`e4e doctor`: 0 if the self-test passes, else 1.

  Raises:
    ConfigError: wrong flags.
  """
  asked = parse(DoctorArguments, argv, prog="e4e doctor", config=PLAIN)
  from encoder4editing_jax import reports

  found = reports.machine()
  print(json.dumps(found) if asked.json else reports.machine_text(found))
  return 0 if found["self_test"]["ok"] else 1
