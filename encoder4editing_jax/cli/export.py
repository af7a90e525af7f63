"""`e4e export`: a model as programs for serving, checked against the model."""

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from encoder4editing_jax.cli.edit import open_directions
from encoder4editing_jax.cli.invert import Text, check
from encoder4editing_jax.cli.parsing import PLAIN, parse
from encoder4editing_jax.config import ConfigError

BATCHES = (1, 3)  # numbers of examples at which programs are compared


@dataclass(frozen=True)
class ExportArguments:
  """Write a model as StableHLO programs, which run without this library.

  Writes a program for each part, weights.safetensors for all of them and
  manifest.json, which says how they are called; opens them again and compares
  them with the model. Exit status 1 if one differs. (Encoders of training
  runs: e4e runs export.)

  Example: e4e export --model e4e_ffhq.safetensors --directions age.pt
  --out served
  """

  out: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
  """Folder for the programs; it is made."""

  model: Text = ""
  """An inverter, or a generator: .safetensors, or a published checkpoint."""

  demo: bool = False
  """The inverter of drawn faces, and its directions."""

  directions: Text = ""
  """Directions: a file of `e4e directions`, or a published one."""

  parts: str = ""
  """Of encoder, generator, edit; by default all that the model has."""

  iterations: int = 1
  """ReStyle steps in encoder and edit; other encoders take one."""

  platforms: str = "cpu,cuda,tpu"
  """Where the programs run, of cpu, cuda, rocm, tpu; none has to be here."""

  dtype: Literal["float32", "bfloat16"] = "float32"
  """Of the activations; weights, inputs and results are float32."""

  unchecked: bool = False
  """Do not compare with the model, which takes longest."""

  tolerance: float | None = None
  """Largest relative error; 1e-4, and 2e-2 for bfloat16."""

  overwrite: bool = False
  """Replace an export that is there."""

  json: bool = False
  """Print one JSON object."""


def export_command(argv: Sequence[str]) -> int:
  """`e4e export`: 0, or 1 if a program differs from the model.

  Raises:
    ConfigError, ImportError, OSError, ValueError: wrong flags or files.
  """
  asked = parse(ExportArguments, argv, prog="e4e export", config=PLAIN)
  check(asked)
  if asked.tolerance is not None and not asked.tolerance > 0:
    raise ConfigError(f"--tolerance is {asked.tolerance}; pass more than 0.")
  from encoder4editing_jax import exporting, programs, serving

  net = _open(asked)
  directions = open_directions(asked, programs.generator_of(net))
  written = exporting.write(
    net,
    asked.out,
    parts=_parts(asked, net, directions),
    directions=directions,
    iterations=asked.iterations,
    platforms=_words(asked.platforms),
    dtype=asked.dtype,
    overwrite=asked.overwrite,
  )
  began = time.perf_counter()
  served = serving.load(asked.out)
  reload_s = time.perf_counter() - began
  rows: dict[str, dict[str, Any]] = {
    name: {"seconds": s} for name, s in written.seconds.items()
  }
  compared: Iterable[Any] = ()
  if not asked.unchecked and serving.runs_here(served.manifest):
    compared = serving.compare(net, served, directions, BATCHES)
  limit = asked.tolerance or serving.TOLERANCE[asked.dtype]
  for name, errors in compared:
    good = all(error <= limit for error in errors.values())  # NaN is not
    # JSON has no NaN
    shown = {b: e if e < float("inf") else None for b, e in errors.items()}
    rows[name] |= {"relative_error": shown, "ok": good}
    _show_progress(asked, f"{name} compared")
  return _report(asked, served.manifest, rows, reload_s)


def _open(asked: ExportArguments) -> Any:
  """The inverter or generator that is to be served."""
  from encoder4editing_jax import faceworld
  from encoder4editing_jax.converters.loading import load
  from encoder4editing_jax.models.inverter import Inverter
  from encoder4editing_jax.models.stylegan2 import Generator

  net = faceworld.load_inverter() if asked.demo else load(asked.model)
  if not isinstance(net, Inverter | Generator):
    raise ConfigError(
      f"{asked.model} is a {type(net).__name__}; an Inverter (an encoder with "
      "its generator) or a Generator is needed."
    )
  return net


def _words(text: str) -> list[str]:
  return list(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))


def _parts(asked: ExportArguments, net: Any, directions: Any) -> list[str]:
  """--parts, or all for which there is what they need."""
  if asked.parts:
    return _words(asked.parts)
  parts = ["encoder"] if hasattr(net, "encoder") else []
  return [*parts, "generator", *(["edit"] if directions else [])]


def _show_progress(asked: ExportArguments, text: str) -> None:
  if sys.stderr.isatty() and not asked.json:
    print(text, file=sys.stderr)


def _report(
  asked: ExportArguments,
  manifest: dict[str, Any],
  rows: dict[str, dict[str, Any]],
  reload_s: float,
) -> int:
  """Prints the table of sizes and differences; the exit status."""
  for name, row in rows.items():
    row["bytes"] = manifest["programs"][name]["bytes"]
  bad = [name for name, row in rows.items() if not row.get("ok", True)]
  if asked.json:
    print(
      json.dumps(
        {"out": asked.out, "programs": rows, "wrong": bad}
        | {"weights_bytes": manifest["weights"]["bytes"], "reload_s": reload_s}
      )
    )
  else:
    print("\n".join(_table(asked, manifest, rows, reload_s)))
  if bad:
    print(
      f"error: {', '.join(bad)} differ from the model; see the table, and "
      "--tolerance.",
      file=sys.stderr,
    )
  return 1 if bad else 0


def _table(
  asked: ExportArguments,
  manifest: dict[str, Any],
  rows: dict[str, dict[str, Any]],
  reload_s: float,
) -> Iterator[str]:
  yield f"{'':12}{'MB':>9}{'traced in':>11}" + "".join(
    f"{f'error of {b}':>12}" for b in BATCHES
  )
  for name, row in rows.items():
    errors = row.get("relative_error", {})
    cells = [_cell(errors.get(b, "-")) for b in BATCHES]
    yield (
      f"{name:12}{row['bytes'] / 1e6:9.3f}{row['seconds']:9.1f} s"
      + "".join(cells)
    )
  yield f"{'weights':12}{manifest['weights']['bytes'] / 1e6:9.3f}"
  where = ", ".join(manifest["platforms"])
  yield f"{asked.out}: for {where}; opened again in {reload_s:.2f} s"
  if manifest["directions"]:
    yield f"directions: {', '.join(manifest['directions'])}"
  elif not asked.parts:
    yield "no edit: no directions were given (--directions FILE)"
  if not any("ok" in row for row in rows.values()):
    why = "as asked" if asked.unchecked else "this machine is none of these"
    yield f"not compared with the model: {why}"


def _cell(error: float | str | None) -> str:
  text = f"{error:.1e}" if isinstance(error, float) else error or "NaN"
  return f"{text:>12}"
