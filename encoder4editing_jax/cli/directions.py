"""`e4e directions`: find, convert and list directions of edits."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from encoder4editing_jax.cli.direction_files import (
  convert_command,
  list_command,
)
from encoder4editing_jax.cli.direction_finding import (
  File,
  check_native,
  find_command,
)
from encoder4editing_jax.cli.edit import open_generator
from encoder4editing_jax.cli.parsing import PLAIN, parse, run_verb
from encoder4editing_jax.config import ConfigError

USAGE = """\
usage: e4e directions COMMAND [options]

  find     from codes with labels: smile, age, whatever you labelled
  pca      the principal components of a generator's W (GANSpace)
  sefa     what a generator's weights amplify most (SeFa)
  convert  published files to this library's own, and back
  list     what is in a file, and whether it fits a model

  e4e directions COMMAND --help explains one"""


@dataclass(frozen=True)
class PcaArguments:
  """Find the principal components of a generator's W (GANSpace).

  They are called pc0, pc1, ...; a strength is the coordinate that a code is to
  have, in standard deviations: --edit pc0=2, or --edit pc0+=2 to go so far.

  Example: e4e directions pca --demo --out components.safetensors
  """

  out: File = ""
  """The file to write: .safetensors or .npz."""

  model: File = ""
  """The inverter, or its generator."""

  demo: bool = False
  """The generator of drawn faces."""

  components: Annotated[int, tyro.conf.arg(metavar="K")] = 20
  """How many."""

  samples: Annotated[int, tyro.conf.arg(metavar="N")] = 10_000
  """Random codes that are drawn."""

  seed: int = 0
  """Of these."""

  overwrite: bool = False
  """Replace the file if it is there."""

  json: bool = False
  """Print one JSON object."""


@dataclass(frozen=True)
class SefaArguments:
  """Find what a generator's weights amplify most (SeFa).

  They are called sefa0, sefa1, ...; they have length 1 and no sign of their
  own, and move the layers whose weights were taken.

  Example: e4e directions sefa --demo --layers 0-3 --out poses.safetensors
  """

  out: File = ""
  """The file to write: .safetensors or .npz."""

  model: File = ""
  """The inverter, or its generator."""

  demo: bool = False
  """The generator of drawn faces."""

  layers: Annotated[str, tyro.conf.arg(metavar="LAYERS")] = "all"
  """Layers whose weights count, as in 2-5 or coarse, middle, fine."""

  components: Annotated[int, tyro.conf.arg(metavar="K")] = 5
  """How many."""

  legacy: bool = False
  """Move the layers that e4e's program moves, one too low."""

  overwrite: bool = False
  """Replace the file if it is there."""

  json: bool = False
  """Print one JSON object."""


def directions_command(argv: Sequence[str]) -> int:
  """`e4e directions`: find, pca, sefa, convert, list.

  Raises:
    ConfigError, ImportError, OSError, ValueError: wrong flags or files.
  """
  verbs = {
    "find": find_command,
    "pca": _pca,
    "sefa": _sefa,
    "convert": convert_command,
    "list": list_command,
  }
  return run_verb("e4e directions", USAGE, verbs, argv)


def _opened(asked: PcaArguments | SefaArguments) -> tuple[Any, dict[str, Any]]:
  """The generator, and what is noted of it."""
  if bool(asked.model) == asked.demo:
    raise ConfigError("give --model FILE or --demo, one of them.")
  check_native(asked.out, asked.overwrite)
  from encoder4editing_jax import inference

  generator = open_generator(asked)
  d = generator.style_dim
  if not 1 <= asked.components <= d:
    raise ConfigError(f"--components is {asked.components}; pass 1 to {d}.")
  return generator, {"generator": inference.fingerprint(generator)}


def _pca(argv: Sequence[str]) -> int:
  asked = parse(PcaArguments, argv, prog="e4e directions pca", config=PLAIN)
  generator, notes = _opened(asked)
  import jax
  import numpy as np

  from encoder4editing_jax import directions, finding
  from encoder4editing_jax.converters.edits import components_as_edits

  pca = finding.principal(
    generator,
    asked.samples,
    asked.components,
    key=jax.random.key(asked.seed),
  )
  edits = components_as_edits(pca, notes)
  directions.save(asked.out, edits)
  std = np.asarray(pca.std).tolist()
  values = dict(zip(edits, std, strict=True))
  _report(asked, "standard deviation", values)
  return 0


def _sefa(argv: Sequence[str]) -> int:
  asked = parse(SefaArguments, argv, prog="e4e directions sefa", config=PLAIN)
  generator, notes = _opened(asked)
  import numpy as np

  from encoder4editing_jax import directions, editing, finding
  from encoder4editing_jax.converters.edits import semantics_as_edits

  # the last style paints colours alone: no convolution has it
  layers = editing.parse_layers(asked.layers, generator.n_styles - 1)
  found = finding.factorize(generator, layers, legacy=asked.legacy)
  if not found.layers:
    raise ConfigError("--legacy moves no layer of --layers 0; name another.")
  edits = semantics_as_edits(found, asked.components, notes)
  directions.save(asked.out, edits)
  values = np.asarray(found.eigenvalues).tolist()
  _report(asked, "eigenvalue", dict(zip(edits, values, strict=False)))
  return 0


def _report(asked: Any, what: str, values: dict[str, float]) -> None:
  if asked.json:
    told = {name: {what: value} for name, value in values.items()}
    print(json.dumps({"written": asked.out, "directions": told}))
    return
  from encoder4editing_jax.reports import columns

  rows = [(name, f"{value:.4g}") for name, value in values.items()]
  print(columns([("direction", what), *rows]))
  print(f"{asked.out}: {len(values)} directions")
