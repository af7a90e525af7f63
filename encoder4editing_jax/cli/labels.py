"""Codes and what is known of them, row by row: files of `e4e directions`."""

import csv
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from encoder4editing_jax.config import ConfigError

FEWEST = 10  # rows, and of each kind a third of them
WORDS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
_SHOWN = 3  # names in an error


class Codes(NamedTuple):
  """Codes `[b d]`, the mean of their styles, by name."""

  names: tuple[str, ...]
  w: Any
  fingerprint: str  # of their generator; may be unknown


def read_codes(path: str) -> Codes:
  """Codes of latents.npz, or of arrays in .npy, .npz, .pt or .safetensors.

  An array alone has a code in each row, which are named 0, 1, ...; arrays by
  name have one code each.

  Raises:
    OSError, ValueError: it cannot be opened, or holds no codes.
  """
  import numpy as np

  from encoder4editing_jax import converters, inference
  from encoder4editing_jax.converters.loading import check_file

  check_file(Path(path))
  content = converters.read(path)
  if isinstance(content, Mapping) and "fingerprint" in content:
    found = inference.load_latents(path)
    return Codes(found.names, found.w_plus.mean(1), found.fingerprint)
  if isinstance(content, Mapping) and len(content) == 1:
    only = next(iter(content.values()))
    if np.ndim(only) == 3 or (np.ndim(only) == 2 and len(only) >= FEWEST):
      content = only
  if isinstance(content, Mapping):
    names = tuple(map(str, content))
    rows = [_style(path, name, content[name]) for name in content]
    if len({row.shape for row in rows}) > 1:
      raise ConfigError(f"{path}: its codes differ in width; give one model's.")
  else:
    whole = np.asarray(content)
    if whole.ndim not in (2, 3):
      raise ConfigError(
        f"{path} has shape {whole.shape}; codes are (b, d) or (b, n, d)."
      )
    names = tuple(map(str, range(len(whole))))
    rows = list(map(functools.partial(_style, path), names, whole))
  if not rows:
    raise ConfigError(f"{path} holds no codes.")
  return Codes(names, np.stack(rows), "")


def _style(path: str, name: str, value: Any) -> Any:
  """The mean style `[d]` of a code `[d]`, `[n d]` or `[1 n d]`."""
  import numpy as np

  code = np.asarray(value)
  code = code[0] if code.ndim == 3 and len(code) == 1 else code
  good = code.ndim in (1, 2) and code.dtype.kind == "f" and code.size
  if not good or not np.isfinite(code).all():
    raise ConfigError(
      f"{path}: {name!r} is no code: shape {code.shape}, {code.dtype}; codes "
      "are finite floating point numbers, (d,) or (n, d)."
    )
  return np.float32(code if code.ndim == 1 else code.mean(0))


def read_labels(path: str) -> dict[str, dict[str, float]]:
  """Columns of a CSV file by their heads: numbers by the name in column 1.

  Empty cells are left out; true, false, yes and no are 1 and 0.

  Raises:
    ConfigError: it is no CSV, there is no column of labels, a name occurs
      twice, or a cell is no number.
    OSError: it cannot be opened.
  """
  if not Path(path).is_file():
    raise ConfigError(f"--labels {path} is not a file; give a .csv.")
  try:
    with open(path, newline="", encoding="utf-8-sig") as file:
      rows = [row for row in csv.reader(file) if any(map(str.strip, row))]
  except (csv.Error, UnicodeDecodeError) as error:
    raise ConfigError(f"{path} is no CSV in UTF-8 ({error}).") from None
  heads = [cell.strip() for cell in rows[0]] if rows else []
  if len(heads) < 2 or len(set(heads)) < len(heads) or not all(heads[1:]):
    raise ConfigError(
      f"{path}: its first line is {','.join(heads)[:80]!r}; write name,smile,"
      "age or the like: the names of pictures, then one column or more."
    )
  found: dict[str, dict[str, float]] = {head: {} for head in heads[1:]}
  seen = set()
  for row in rows[1:]:
    name = row[0].strip()
    if name in seen or len(row) != len(heads):
      what = "occurs twice" if name in seen else f"has {len(row)} cells"
      raise ConfigError(f"{path}: {name!r} {what}; one row of {len(heads)}.")
    seen.add(name)
    for head, cell in zip(heads[1:], row[1:], strict=True):
      if cell.strip():
        found[head][name] = _number(path, name, head, cell.strip())
  return found


def _number(path: str, name: str, head: str, cell: str) -> float:
  try:
    value = WORDS.get(cell.lower())
    value = float(cell) if value is None else value
  except ValueError:
    value = math.nan
  if not math.isfinite(value):
    raise ConfigError(
      f"{path}: {head} of {name!r} is {cell[:40]!r}, not a finite number; "
      "leave the cell empty if it is unknown."
    )
  return value


def paired(
  codes: Codes, labels: Mapping[str, Mapping[str, float]]
) -> tuple[dict[str, tuple[list[int], list[float]]], dict[str, list[str]]]:
  """Rows of codes with their labels by attribute; and names without partners.

  A name is also found without its ending: face.jpg is the code face.

  Raises:
    ConfigError: no name has a partner, or two have the same.
  """
  from encoder4editing_jax.data.pictures import name_of

  place = {name: k for k, name in enumerate(codes.names)}
  named = {name for column in labels.values() for name in column}
  where: dict[str, int] = {}
  taken: set[int] = set()
  for name in sorted(named):
    k = place.get(name, place.get(name_of(name)))
    if k is None:
      continue
    if k in taken:
      raise ConfigError(f"two rows are of {codes.names[k]!r}; leave one.")
    taken.add(k)
    where[name] = k
  lost = {
    "labels without codes": sorted(named - set(where)),
    "codes without labels": sorted(
      name for name, k in place.items() if k not in taken
    ),
  }
  if not where:
    theirs, ours = few(sorted(named)), few(codes.names)
    raise ConfigError(
      f"no label is of a code: the labels are of {theirs or 'nothing'}, the "
      f"codes are {ours}."
    )
  pairs = {}
  for head, column in labels.items():
    rows = [(where[name], y) for name, y in column.items() if name in where]
    pairs[head] = [k for k, _ in rows], [y for _, y in rows]
  return pairs, lost


def few(names: Sequence[str]) -> str:
  """The first names, and how many more."""
  more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
  return ", ".join(names[:_SHOWN]) + more


def two_kinds(
  head: str, rows: list[int], y: list[float], extremes: float
) -> tuple[list[int], list[float]]:
  """Labels 0 and 1: as they are, or of the least and the greatest numbers.

  Args:
    head: what the labels are called.
    rows: of the codes.
    y: 0 and 1, -1 and 1; or any with `extremes`.
    extremes: the share of all that each kind takes; 0 takes labels as they are.

  Raises:
    ConfigError: there are other labels.
  """
  if extremes:
    order = sorted(range(len(y)), key=y.__getitem__)
    n = int(extremes * len(y))
    low, high = order[:n], order[len(y) - n :]
    if n and y[low[-1]] >= y[high[0]]:
      raise ConfigError(
        f"{head}: the least and the greatest {n} overlap at {y[high[0]]:g}; "
        "lower --extremes."
      )
    return [rows[k] for k in low + high], [0.0] * n + [1.0] * n
  if not set(y) <= {0.0, 1.0} and not set(y) <= {-1.0, 1.0}:
    odd = next(value for value in y if value not in (0.0, 1.0))
    raise ConfigError(
      f"{head} has the label {odd:g}; svm and logistic take 0 and 1. Take "
      "--method ridge, or --extremes 0.1 for the ends of a scale."
    )
  return rows, [float(value > 0) for value in y]


def check_rows(head: str, y: Sequence[float], binary: bool) -> None:
  """Refuses labels that say nothing.

  Raises:
    ConfigError: too few, or all alike.
  """
  if len(y) < FEWEST:
    raise ConfigError(
      f"{head} has {len(y)} labelled codes; {FEWEST} or more are needed, and "
      "hundreds are better."
    )
  if len(set(y)) < 2:
    raise ConfigError(
      f"{head} is {y[0]:g} for all {len(y)} codes; label both kinds, or leave "
      "the column out with --attributes."
    )
  least = min(sum(v > 0 for v in y), sum(v <= 0 for v in y))
  if binary and least < FEWEST // 3:
    raise ConfigError(
      f"{head} has only {least} of one kind; label {FEWEST // 3} or more."
    )
