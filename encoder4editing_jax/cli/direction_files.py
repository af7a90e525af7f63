"""`e4e directions convert` and `list`: files of directions."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from encoder4editing_jax.cli.edit import open_generator
from encoder4editing_jax.cli.parsing import PLAIN, check_out, parse
from encoder4editing_jax.cli.results import counted
from encoder4editing_jax.config import ConfigError

File = Annotated[str, tyro.conf.arg(metavar="FILE")]


@dataclass(frozen=True)
class ConvertArguments:
  """Put directions of one file or several into one.

  Reads files of InterFaceGAN (age.pt, a boundary .npy), GANSpace (ffhq_pca.pt,
  .npz), SeFa, and this library's own.

  Example: e4e directions convert age.pt smile.pt ffhq_pca.pt --out ffhq.npz
  """

  files: Annotated[
    tyro.conf.Positional[tuple[str, ...]],
    tyro.conf.arg(metavar="FILE or NAME=FILE ..."),
  ]
  """Files; NAME renames a direction, or goes before the names of several."""

  out: File = ""
  """The file to write: .safetensors or .npz; or for PyTorch .pt, or .npy for
  one direction."""

  overwrite: bool = False
  """Replace the file if it is there."""

  json: bool = False
  """Print one JSON object."""


@dataclass(frozen=True)
class ListArguments:
  """Say what directions a file holds; with --model, whether they fit.

  Exit status 1 if one does not fit.

  Example: e4e directions list ffhq_pca.pt --model e4e_ffhq.safetensors
  """

  file: Annotated[
    tyro.conf.Positional[str], tyro.conf.arg(metavar="[FILE]")
  ] = ""
  """A file of directions of any kind."""

  demo: bool = False
  """The directions of drawn faces, without FILE; with it, does it fit them?"""

  model: File = ""
  """The inverter, or its generator, that they are to fit."""

  json: bool = False
  """Print one JSON object."""


def convert_command(argv: Sequence[str]) -> int:
  """`e4e directions convert`.

  Raises:
    ConfigError, OSError, ValueError: wrong flags or files.
  """
  prog = "e4e directions convert"
  asked = parse(ConvertArguments, argv, prog=prog, config=PLAIN)
  from encoder4editing_jax import directions

  kinds = directions.SUFFIXES + directions.PUBLISHED_SUFFIXES
  if not asked.out or Path(asked.out).suffix not in kinds:
    raise ConfigError(f"--out: name a file {', '.join(kinds)}.")
  check_out(asked.out, asked.overwrite)
  found: dict[str, Any] = {}
  for text in asked.files:
    for name, direction in _renamed(text).items():
      if name in found:
        raise ConfigError(
          f"{name!r} occurs twice; rename one: NAME={text.rpartition('=')[2]}."
        )
      found[name] = direction
  native = Path(asked.out).suffix in directions.SUFFIXES
  (directions.save if native else directions.export)(asked.out, found)
  if asked.json:
    print(json.dumps({"written": asked.out, "directions": list(found)}))
  else:
    told = counted(len(found), "direction"), counted(len(asked.files), "file")
    print(f"{asked.out}: {' of '.join(told)}")
  return 0


def _renamed(text: str) -> dict[str, Any]:
  """Directions of FILE or NAME=FILE."""
  from encoder4editing_jax import directions

  name, equals, path = text.partition("=")
  if not equals or Path(text).exists():
    name, path = "", text
  found = directions.load(path)
  if not name:
    return found
  if len(found) == 1:
    return {name: next(iter(found.values()))}
  return {f"{name}_{key}": value for key, value in found.items()}


def list_command(argv: Sequence[str]) -> int:
  """`e4e directions list`: 0, or 1 if a direction does not fit.

  Raises:
    ConfigError, OSError, ValueError: wrong flags or files.
  """
  asked = parse(ListArguments, argv, prog="e4e directions list", config=PLAIN)
  if not asked.file and not asked.demo:
    raise ConfigError("there is nothing to list; give FILE or --demo.")
  if asked.model and asked.demo:
    raise ConfigError("give --model FILE or --demo, one of them.")
  from encoder4editing_jax import directions, faceworld, inference
  from encoder4editing_jax.editing import Direction

  if asked.file:
    found = directions.load(asked.file)
  else:
    notes = {"method": "least squares"}
    drawn = faceworld.load_directions()
    found = {k: Direction(v, notes=notes) for k, v in drawn.items()}
  rows = {name: _row(value) for name, value in found.items()}
  if asked.model or asked.demo:
    net = open_generator(asked)
    digest = inference.fingerprint(net)
    for name, value in found.items():
      why = directions.misfit(value, net.n_styles, net.style_dim)
      own = value.notes.get("generator") or digest
      rows[name] |= {"fits": why is None, "why": why or ""}
      rows[name]["other_generator"] = own != digest
  if asked.json:
    print(json.dumps({"file": asked.file or None, "directions": rows}))
  else:
    print(_text(rows))
  return 1 if any(row.get("fits") is False for row in rows.values()) else 0


def _row(direction: Any) -> dict[str, Any]:
  import numpy as np

  from encoder4editing_jax import directions

  layers = direction.layers
  return {
    "kind": "direction" if direction.mean is None else "component",
    "shape": list(np.shape(direction.vector)),
    "layers": None if layers is None else list(layers),
    "length": directions.length(direction),
    "notes": dict(direction.notes),
  }


def _text(rows: dict[str, Any]) -> str:
  from encoder4editing_jax.reports import columns

  checked = any("fits" in row for row in rows.values())
  head = ["name", "kind", "method", "shape", "layers", "length", "known"]
  lines = [head + ["fits"] * checked]
  for name, row in rows.items():
    notes = dict(row["notes"])
    method = str(notes.pop("method", "-"))
    known = [
      f"{key} {value}"
      for key, value in notes.items()
      if key not in ("generator", "cite")
    ]
    line = [
      name,
      row["kind"],
      method,
      "x".join(map(str, row["shape"])),
      "all" if row["layers"] is None else _spans(row["layers"]),
      f"{row['length']:.3g}",
      ", ".join(known) or "-",
    ]
    if checked:
      fits = row["why"] or "yes"
      other = ", made for another generator" * row["other_generator"]
      line.append(fits + other)
    lines.append(line)
  cited = {row["notes"].get("cite", "") for row in rows.values()} - {""}
  text = columns(lines)
  return text + "".join(f"\ncite {name}" for name in sorted(cited))


def _spans(layers: Sequence[int]) -> str:
  """Layers as `editing.parse_layers` takes them: 0-3,8."""
  parts: list[list[int]] = []
  for k in sorted(layers):
    if parts and k == parts[-1][-1] + 1:
      parts[-1].append(k)
    else:
      parts.append([k])
  return ",".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts)
