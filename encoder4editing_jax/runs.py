"""What lies in the folders of training runs: where they stand, their curves."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from encoder4editing_jax.training.checkpoint import CONFIG
from encoder4editing_jax.training.export import RECORD
from encoder4editing_jax.training.judge import EVALUATED
from encoder4editing_jax.training.lock import held
from encoder4editing_jax.training.logging import METRICS


class Run(NamedTuple):
  """One run: its folder, settings, and entries of metrics.jsonl in order.

  `state` is running, ended or stopped.
  """

  folder: Path
  config: dict[str, Any]
  entries: list[dict[str, Any]]
  state: str
  best: dict[str, Any]

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
    files = sorted(folder.rglob(CONFIG))
    runs = [p.parent for p in files if "checkpoints" not in p.parts]
    if not runs:
      raise FileNotFoundError(
        f"{folder} holds no run (no {CONFIG}); name a --workdir, or a folder "
        "of them."
      )
    found |= {path: read_run(path) for path in runs}
  return list(found.values())


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
  return Run(folder, config, _entries(folder), state, _json(folder / RECORD))


def _entries(folder: Path) -> list[dict[str, Any]]:
  """The entries; a last one that is being written is left out."""
  path = folder / METRICS
  found = []
  for line in path.read_text().splitlines() if path.exists() else ():
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


def table(runs: Sequence[Run]) -> str:
  """A line for each run, for people."""
  rows = [("run", "state", "step", "loss", "best score", "PSNR", "images/s")]
  rows += [
    (
      str(run.folder),
      run.state,
      f"{run.step}/{run.config['run']['steps']}",
      _number(run.last("train/loss")),
      _number(run.best.get("score")),
      _number(run.last("test/psnr")),
      _number(run.last("train/images_per_second")),
    )
    for run in runs
  ]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return "\n".join(
    "  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)).rstrip()
    for row in rows
  )


def _number(value: float | None) -> str:
  return "-" if value is None else f"{value:.4g}"
