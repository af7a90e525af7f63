"""`e4e runs`: where runs stand, their curves, their encoders as files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from encoder4editing_jax.cli.parsing import PLAIN, check_out, parse, run_verb
from encoder4editing_jax.cli.results import counted
from encoder4editing_jax.cli.run_export import export_command

USAGE = """\
usage: e4e runs list [DIR ...]              where runs stand
       e4e runs plot DIR ... --out FILE     their curves
       e4e runs export DIR --out FILE       an encoder of one, as a file

  e4e runs COMMAND --help explains one"""

Folders = Annotated[
  tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="DIR")
]


@dataclass(frozen=True)
class ListArguments:
  """Say where runs stand: step, loss, best score, speed.

  Example: e4e runs list runs
  """

  folders: Folders = ("runs",)
  """Folders of runs, or folders above them."""

  json: bool = False
  """Print one JSON object."""


@dataclass(frozen=True)
class PlotArguments:
  """Draw the curves of one or several runs.

  Example: e4e runs plot runs/a runs/b --metrics loss test/psnr --out ab.png
  """

  folders: Folders
  """Folders of runs, or folders above them."""

  out: Annotated[str, tyro.conf.arg(metavar="FILE")]
  """The picture: .png, .svg or .pdf."""

  metrics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME")] = ()
  """Names as in metrics.jsonl, with spaces or commas between them; train/ and
  test/ may be left out. All by default."""

  log: bool = False
  """Logarithmic values."""

  overwrite: bool = False
  """Replace the picture if it is there."""


def runs_command(argv: Sequence[str]) -> int:
  """`e4e runs`: list, plot, export.

  Raises:
    ConfigError, ImportError, OSError, ValueError: wrong flags or files.
  """
  verbs = {"list": _list, "plot": _plot, "export": export_command}
  return run_verb("e4e runs", USAGE, verbs, argv)


def _list(argv: Sequence[str]) -> int:
  asked = parse(ListArguments, argv, prog="e4e runs list", config=PLAIN)
  from encoder4editing_jax import runs
  from encoder4editing_jax.training.logging import spelled

  found = runs.find_runs(asked.folders)
  if not asked.json:
    print(runs.table(found))
    return 0
  told = {
    str(run.folder): {
      "what": runs.essentials(run.config),
      "state": run.state,
      "step": run.step,
      "steps": run.config["run"]["steps"],
      "loss": run.last("train/loss"),
      "psnr": run.last("test/psnr"),
      "last_entry": run.changed,
      "best": {k: v for k, v in run.best.items() if k != "loss"},
    }
    for run in found
  }
  told = {name: spelled(row) for name, row in told.items()}
  print(json.dumps(told, allow_nan=False))
  return 0


def _plot(argv: Sequence[str]) -> int:
  asked = parse(PlotArguments, argv, prog="e4e runs plot", config=PLAIN)
  check_out(asked.out, asked.overwrite)
  from encoder4editing_jax import plotting, runs

  found = runs.find_runs(asked.folders)
  metrics = [name for x in asked.metrics for name in x.split(",") if name]
  names = plotting.plot(found, asked.out, metrics, log=asked.log)
  print(f"{asked.out}: {', '.join(names)} of {counted(len(found), 'run')}")
  return 0
