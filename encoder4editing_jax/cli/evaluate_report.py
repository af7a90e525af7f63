"""What `e4e evaluate` prints and writes."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

from encoder4editing_jax.cli.evaluate_model import Work
from encoder4editing_jax.cli.progress import Pace
from encoder4editing_jax.cli.results import counted

WRITTEN = ("metrics.json", "per_image.csv")


def summary(asked: Any, wanted: Any, found: Any, work: Work) -> dict[str, Any]:
  """All that metrics.json holds."""
  from encoder4editing_jax import __version__, evaluating
  from encoder4editing_jax.metrics import editability

  metrics = dict(found.summary)
  columns = found.columns
  if len(columns.get("lec", ())):
    legacy = asked.legacy_batch or None
    enough = len(columns["lec"]) >= asked.legacy_batch  # some may have failed
    value = editability.lec(columns["lec"], legacy) if enough else None
    name, strength, *layers = work.edit
    facts = {"edit": name, "strength": strength, "better": "less"}
    facts |= {"layers": layers[0] if layers else "all", "batches": legacy}
    facts |= {"directions": asked.directions or "those of drawn faces"}
    metrics["lec"] = {
      "mean": value,
      "n": len(columns["lec"]),
      "protocol": facts,
    }
  if len(columns.get("seconds", ())):
    import jax

    facts = {"device": jax.devices()[0].device_kind, "batch": asked.batch}
    facts["of"] = "codes and picture; compiled before"
    described = evaluating.described(columns["seconds"])
    metrics["seconds_per_image"] = described | {"protocol": facts}
  return {
    "version": __version__,
    "images": len(found.names),
    "size": list(wanted.size),
    "resized": bool(asked.size or asked.model),
    "results": asked.model or ("demo" if asked.demo else asked.inputs[0]),
    "model": work.model or None,
    "bytes": "truncated" if asked.truncate else "rounded",
    "metrics": metrics,
    "failed": work.failed,
  }


def _spelled(value: Any) -> Any:
  """Fit for JSON, also inside: infinity and NaN become texts."""
  from encoder4editing_jax.training.logging import spelled

  if isinstance(value, dict):
    return spelled({k: _spelled(v) for k, v in value.items()})
  return value


def table(found: Any, failed: dict[str, str]) -> str:
  """One row for each picture, of those that failed too."""
  text = io.StringIO()
  rows = csv.writer(text, lineterminator="\n")
  rows.writerow(["name", *found.columns, "problem"])
  for i, name in enumerate(found.names):
    rows.writerow([name, *(f"{v[i]:.8g}" for v in found.columns.values()), ""])
  for path, reason in failed.items():
    rows.writerow([path, *("" for _ in found.columns), reason])
  return text.getvalue()


def write(asked: Any, whole: dict[str, Any], table: str) -> None:
  """Writes both files, if a folder is named."""
  from encoder4editing_jax import files

  if not asked.out:
    return
  folder = Path(asked.out)
  folder.mkdir(parents=True, exist_ok=True)
  text = json.dumps(_spelled(whole), indent=2, allow_nan=False)
  files.replace_text(folder / WRITTEN[0], text + "\n")
  files.replace_text(folder / WRITTEN[1], table)


def show(
  asked: Any, whole: dict[str, Any], failed: dict[str, str], pace: Pace
) -> None:
  """Prints the numbers, how fast they came, and what was left out."""
  if asked.json:
    print(json.dumps(_spelled(whole), allow_nan=False))
  else:
    left_out = f"{counted(len(failed), 'file')} left out"
    print(f"{counted(whole['images'], 'picture')}, {left_out} ({pace})")
    for name, row in whole["metrics"].items():
      value = row["mean"]
      shown = "-" if value is None else f"{value:.6g}"
      spread = f"  +- {row['std']:.3g}" if "std" in row else ""
      print(f"  {name:36} {shown:>10}{spread}")
  for name, reason in failed.items():
    print(f"left out: {name}: {reason}", file=sys.stderr)
