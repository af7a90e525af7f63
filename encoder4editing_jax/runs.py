"""What lies in the folders of training runs: where they stand, their curves."""

import datetime
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from encoder4editing_jax.reports import columns
from encoder4editing_jax.training.checkpoint import CONFIG
from encoder4editing_jax.training.export import RECORD
from encoder4editing_jax.training.judge import EVALUATED
from encoder4editing_jax.training.lock import held
from encoder4editing_jax.training.logging import METRICS, PUBLISHED

GROUPS = ("train", "test")  # of metrics, as they are looked for
# Folders of a run, in which no other run lies.
PARTS = ("checkpoints", "data", "pictures", "profile", "tensorboard", "wandb")
HEADER = (
  *("run", "what", "state", "step", "loss", "best score", "PSNR", "images/s"),
  "last entry",
)


class Run(NamedTuple):
  """One run: its folder, settings, and entries of metrics.jsonl in order.

  `state` is running, ended or stopped; `changed` when its last entry came, in
  seconds since 1970, or None before the first.
  """

  folder: Path
  config: dict[str, Any]
  entries: list[dict[str, Any]]
  state: str
  best: dict[str, Any]
  changed: float | None = None

  @property
  def step(self) -> int:
    """The last step of which there is an entry; 0 before the first."""
    return max((entry["step"] for entry in self.entries), default=0)

  def last(self, name: str) -> float | None:
    """The newest value of a metric."""
    found = self.curve(name)[1]
    return found[-1] if found else None

  def curve(self, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of a metric; those that are no numbers are NaN."""
    points = [(e["step"], e[name]) for e in self.entries if name in e]
    return [s for s, _ in points], [float(v) for _, v in points]

  def metrics(self) -> list[str]:
    """Names of all metrics, sorted."""
    return sorted({name for e in self.entries for name in e} - {"step"})


def find_runs(folders: Iterable[str | os.PathLike[str]]) -> list[Run]:
  """The runs in folders and anywhere below them, by name.

  Raises:
    FileNotFoundError: a folder that is not there, or holds no run.
  """
  found: dict[Path, Run] = {}
  for folder in map(Path, folders):
    if not folder.is_dir():
      raise FileNotFoundError(f"there is no folder {folder}; check the path.")
    below = {path: _read_if_run(path, path == folder) for path in _walk(folder)}
    runs = {path: run for path, run in below.items() if run}
    if not runs:
      raise FileNotFoundError(
        f"{folder} holds no run (no {CONFIG}); name a --workdir, or a folder "
        "of them."
      )
    found |= dict(sorted(runs.items()))
  return list(found.values())


def _walk(folder: Path) -> Iterator[Path]:
  """Folders with a config.json; what lies in a run is not looked through."""
  for place, inner, files in os.walk(folder):
    if CONFIG in files:
      inner[:] = [name for name in inner if name not in PARTS]
      yield Path(place)


def _read_if_run(folder: Path, named: bool) -> Run | None:
  """None where config.json is of something else, unless it was named."""
  try:
    return read_run(folder)
  except ValueError:
    if named:
      raise
    return None


def read_run(folder: str | os.PathLike[str]) -> Run:
  """Reads one run, which may be at work.

  Raises:
    OSError: its files cannot be read.
    ValueError: its config.json is damaged.
  """
  folder = Path(folder)
  try:
    config = json.loads((folder / CONFIG).read_text())
    steps = config["run"]["steps"]
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f"{folder / CONFIG} is no config of a run; remove it, or name another "
      "folder."
    ) from error
  ended = _json(folder / EVALUATED).get("step") == steps
  state = "running" if held(folder) else "ended" if ended else "stopped"
  path = folder / METRICS
  changed = path.stat().st_mtime if path.exists() else None
  best = _json(folder / RECORD)
  return Run(folder, config, _entries(folder), state, best, changed)


def _entries(folder: Path) -> list[dict[str, Any]]:
  """The entries; a last one that is being written is left out."""
  path = folder / METRICS
  found = []
  text = path.read_text(errors="replace") if path.exists() else ""
  for line in text.splitlines():
    try:
      entry = json.loads(line)
      found.append({"step": int(entry["step"])} | entry)
    except (ValueError, KeyError, TypeError):
      continue
  return found


def _json(path: Path) -> dict[str, Any]:
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError):
    return {}


def essentials(config: dict[str, Any]) -> str:
  """What a run trains, in a few words: encoder, size, other tasks."""
  model, data = config.get("model", {}), config.get("data", {})
  words = [model.get("encoder", "?"), "x".join(map(str, data.get("size", "?")))]
  if model.get("refinements"):
    words.append("ReStyle")
  if data.get("task", "inversion") != "inversion":
    words.append(data["task"])
  return " ".join(words)


def labels(runs: Sequence[Run]) -> list[str]:
  """A short name for each run: its folder's, with more of its path if need
  be."""
  names = [run.folder.name for run in runs]
  if len(set(names)) == len(names) and all(names):
    return names
  whole = [os.path.abspath(run.folder) for run in runs]
  above = os.path.commonpath(whole) if len(whole) > 1 else ""
  return [os.path.relpath(path, above) if above else path for path in whole]


def known_name(name: str, known: Sequence[str]) -> str:
  """The metric that a user means: the groups train/ and test/ may be left out,
  and our names of losses stand for those that are kept.

  Raises:
    ValueError: there is none; names all.
  """
  group, _, last = name.rpartition("/")
  for where in [group] if group else GROUPS:
    for kept in (last, PUBLISHED.get(last, last)):
      if f"{where}/{kept}" in known:
        return f"{where}/{kept}"
  raise ValueError(
    f"no run has a metric {name}; there are {', '.join(known) or 'none yet'}."
  )


def table(runs: Sequence[Run]) -> str:
  """A line for each run, for people."""
  rows = [HEADER]
  rows += [
    (
      str(run.folder),
      essentials(run.config),
      run.state,
      f"{run.step}/{run.config['run']['steps']}",
      _number(run.last("train/loss")),
      _number(run.best.get("score")),
      _number(run.last("test/psnr")),
      _number(run.last("train/images_per_second")),
      "-" if run.changed is None else _clock(run.changed),
    )
    for run in runs
  ]
  return columns(rows)


def _clock(seconds: float) -> str:
  return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def _number(value: float | None) -> str:
  return "-" if value is None else f"{value:.4g}"
