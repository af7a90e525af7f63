"""`e4e directions find`: from labelled codes to directions."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from encoder4editing_jax.cli.labels import (
  Codes,
  check_rows,
  few,
  paired,
  read_codes,
  read_labels,
  two_kinds,
)
from encoder4editing_jax.cli.parsing import PLAIN, check_out, nearest, parse
from encoder4editing_jax.config import ConfigError

File = Annotated[str, tyro.conf.arg(metavar="FILE")]
Names = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME")]


@dataclass(frozen=True)
class FindArguments:
  """Find a direction for each column of labels (InterFaceGAN).

  Directions have length 1 and lead to the larger label. Prints how well codes
  that the fit has not seen tell their labels. Needs scikit-learn: pip install
  'encoder4editing_jax[directions]'.

  Example: e4e directions find inverted/latents.npz --labels labels.csv
  --out mine.safetensors
  """

  codes: Annotated[
    tyro.conf.Positional[str], tyro.conf.arg(metavar="[CODES]")
  ] = ""
  """latents.npz of `e4e invert`, or codes in a .npy, .npz or .pt."""

  labels: File = ""
  """CSV: names of pictures (or rows 0, 1, ... of an array), then a column for
  each attribute: 0 and 1, or numbers."""

  out: File = ""
  """The file to write: .safetensors or .npz."""

  demo: bool = False
  """Codes and attributes of drawn faces instead of CODES and --labels."""

  samples: Annotated[int, tyro.conf.arg(metavar="N")] = 2000
  """With --demo: how many faces."""

  method: Literal["svm", "logistic", "ridge"] = "svm"
  """svm and logistic part two kinds; ridge follows numbers."""

  extremes: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 0.0
  """With svm and logistic, for numbers: this share from either end is the two
  kinds, the rest is left out; 0.02 is usual for thousands of codes."""

  penalty: Annotated[float, tyro.conf.arg(metavar="P")] = 1.0
  """On the length of the normal: more for few or noisy labels, and to disturb
  other attributes less; less to tell these labels better."""

  attributes: Names = ()
  """Columns to find directions for; all by default."""

  without: Names = ()
  """Columns that the other directions are to leave alone: they become
  orthogonal to these."""

  overwrite: bool = False
  """Replace the file if it is there."""

  json: bool = False
  """Print one JSON object."""


def find_command(argv: Sequence[str]) -> int:
  """`e4e directions find`.

  Raises:
    ConfigError, ImportError, OSError, ValueError: wrong flags or files, no
      scikit-learn.
  """
  asked = parse(FindArguments, argv, prog="e4e directions find", config=PLAIN)
  _check(asked)
  from encoder4editing_jax import directions

  codes, labels = _drawn(asked) if asked.demo else _read(asked)
  chosen = _chosen(asked, list(labels))
  pairs, lost = paired(codes, {name: labels[name] for name in chosen})
  data = {name: _rows(asked, name, *pairs[name]) for name in chosen}
  found, told = _fit(asked, codes, data)
  directions.save(asked.out, found)
  _report(asked, told, lost)
  return 0


def _check(asked: FindArguments) -> None:
  if asked.demo == bool(asked.codes) or asked.demo == bool(asked.labels):
    raise ConfigError("give CODES and --labels FILE.csv, or --demo alone.")
  check_native(asked.out, asked.overwrite)
  if not 0 <= asked.extremes <= 0.5:
    raise ConfigError(f"--extremes is {asked.extremes:g}; pass 0 to 0.5.")
  if asked.extremes and asked.method == "ridge":
    raise ConfigError("--extremes goes with svm and logistic; ridge takes all.")
  if not 0 < asked.penalty < float("inf"):
    raise ConfigError(f"--penalty is {asked.penalty:g}; pass more than 0.")
  if not 100 <= asked.samples <= 1_000_000:
    raise ConfigError(f"--samples is {asked.samples}; pass 100 to 1000000.")


def check_native(out: str, overwrite: bool) -> None:
  """Refuses what cannot be written as a native file, before any work.

  Raises:
    ConfigError: no name, another suffix, or as `check_out`.
  """
  if not out.endswith((".safetensors", ".npz")):
    what = f"--out {out} is neither" if out else "--out is missing; name"
    raise ConfigError(f"{what} a .safetensors or .npz file.")
  check_out(out, overwrite)


def _read(asked: FindArguments) -> tuple[Codes, dict[str, dict[str, float]]]:
  return read_codes(asked.codes), read_labels(asked.labels)


def _drawn(asked: FindArguments) -> tuple[Codes, dict[str, dict[str, float]]]:
  """Codes of drawn faces, and the truth about them."""
  import jax
  import numpy as np

  from encoder4editing_jax import faceworld, inference

  net = faceworld.load_generator()
  z = jax.random.normal(jax.random.key(0), (asked.samples, net.style_dim))
  truth = np.asarray(faceworld.attributes(z), np.float64)
  if asked.method != "ridge" and not asked.extremes:
    truth = np.float64(truth > 0)
  names = tuple(map(str, range(asked.samples)))
  labels = {
    attribute: dict(zip(names, column.tolist(), strict=True))
    for attribute, column in zip(faceworld.ATTRIBUTES, truth.T, strict=True)
  }
  w = np.asarray(net.mapping(z))
  return Codes(names, w, inference.fingerprint(net)), labels


def _chosen(asked: FindArguments, known: list[str]) -> list[str]:
  """The columns that count, in their order."""
  for name in (*asked.attributes, *asked.without):
    if name not in known:
      raise ConfigError(
        f"there is no column {name!r} but {', '.join(known)}; "
        f"{nearest(name, known)}."
      )
  wanted = {*(asked.attributes or known), *asked.without}
  return [name for name in known if name in wanted]


def _rows(
  asked: FindArguments, name: str, rows: list[int], y: list[float]
) -> tuple[list[int], list[float]]:
  binary = asked.method != "ridge"
  if y and binary:
    rows, y = two_kinds(name, rows, y, asked.extremes)
  check_rows(name, y, binary)
  return rows, y


def _fit(
  asked: FindArguments,
  codes: Codes,
  data: dict[str, tuple[list[int], list[float]]],
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Directions, and what is told of them."""
  import numpy as np

  from encoder4editing_jax import finding
  from encoder4editing_jax.converters.edits import CITE
  from encoder4editing_jax.editing import Direction

  kind = _score(asked)
  vectors, found, told = {}, {}, {}
  for name, (rows, y) in data.items():
    labels = np.asarray(y)
    given = (codes.w[rows], labels, asked.method, asked.penalty)
    vectors[name] = finding.from_labels(*given)
    score = finding.held_out(*given)
    mean = float(labels.mean())
    told[name] = {"rows": len(y), "mean_label": mean, kind: score}
  others = [vectors[name] for name in asked.without]
  for name in asked.attributes or data:
    vector = vectors[name]
    notes: dict[str, str | float] = {}
    if others and name not in asked.without:
      vector = finding.condition(vector, others)
      notes = {"without": ", ".join(asked.without)}
    told[name]["spread"] = float((codes.w @ np.asarray(vector)).std())
    notes |= {
      "method": asked.method,
      "generator": codes.fingerprint,
      "cite": CITE["interfacegan"],
      kind: round(told[name][kind], 4),
      "spread": round(told[name]["spread"], 4),
    }
    found[name] = Direction(np.asarray(vector), notes=notes)
  return found, {name: told[name] for name in found}


def _score(asked: FindArguments) -> str:
  return "R2" if asked.method == "ridge" else "accuracy"


def _report(
  asked: FindArguments, told: dict[str, Any], lost: dict[str, list[str]]
) -> None:
  if asked.json:
    print(json.dumps({"written": asked.out, "directions": told, **lost}))
  else:
    from encoder4editing_jax.reports import columns

    kind = _score(asked)
    head = ("direction", "codes", "mean label", f"held-out {kind}", "spread")
    rows = [
      (
        name,
        str(row["rows"]),
        f"{row['mean_label']:.2f}",
        f"{row[kind]:.3f}",
        f"{row['spread']:.3f}",
      )
      for name, row in told.items()
    ]
    print(columns([head, *rows]))
    print(f"{asked.out}: {len(told)} directions of length 1; strengths of one")
    print("to three times the spread are natural.")
  for what, names in lost.items():
    if names:
      print(f"left out: {len(names)} {what}: {few(names)}", file=sys.stderr)
