"""The end of a build: names, metadata and manifest, and then the directory."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from encoder4editing_jax.data.manifests import FILES, FORMAT, MANIFEST
from encoder4editing_jax.data.shards import Recipe, features
from encoder4editing_jax.data.sources import DataError

NAME, SPLIT = "images", "train"
SHOWN = 5  # rejected files in a message
TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


def finish(
  recipe: Recipe,
  plan: dict[str, Any],
  n_inputs: int,
  work: Path,
  out: Path,
  strict: bool,
) -> dict[str, Any]:
  """Makes `out` of the shards in `work`; may be cut off anywhere, and redone.

  Returns:
    The manifest.

  Raises:
    DataError: no file could be used; or one could not, and `strict`.
  """
  notes = [
    (path.with_suffix(""), json.loads(path.read_text()))
    for path in sorted(work.glob("*.array_record.json"))
  ]
  rejects = [reject for _, note in notes for reject in note["rejects"]]
  kept = [(path, note) for path, note in notes if note["images"]]
  check_rejects(rejects, n_inputs, work.parent, strict, bool(kept))
  made = work.parent / "made"
  made.mkdir(exist_ok=True)
  shards = _collect(kept, made)
  manifest = {
    "format": FORMAT,
    "images": sum(shard["images"] for shard in shards),
    "inputs": n_inputs,
    **plan,
    "rejects": rejects,
    "shards": shards,
  }
  (made / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
  _write_metadata(recipe, shards, made)
  _sync(made)
  os.replace(made, out)
  # What begins now may write there, sees `out`, and removes the folder too.
  shutil.rmtree(work.parent, ignore_errors=True)
  return manifest


def _collect(
  kept: list[tuple[Path, dict[str, Any]]], made: Path
) -> list[dict[str, Any]]:
  """Moves shards to their last names; what the manifest says of each."""
  shards = []
  with (made / FILES).open("w") as lines:
    for k, (path, note) in enumerate(kept):
      name = f"{NAME}-{SPLIT}.array_record-{k:05d}-of-{len(kept):05d}"
      if path.exists():  # else it was moved before the build was cut off
        path.rename(made / name)
      shards.append(
        {"file": name} | {k: note[k] for k in ("images", "bytes", "sha256")}
      )
      lines.writelines(json.dumps(entry) + "\n" for entry in note["files"])
  return shards


def check_rejects(
  rejects: list[dict[str, str]],
  n: int,
  folder: Path,
  strict: bool,
  any_kept: bool,
) -> None:
  """Refuses what was built in a folder if no file of n could be used, or one
  could not, and `strict`.

  Raises:
    DataError: names them.
  """
  if not rejects or (any_kept and not strict):
    return
  named = "; ".join(f"{r['name']}: {r['reason']}" for r in rejects[:SHOWN])
  more = f"; and {len(rejects) - SHOWN} more" * (len(rejects) > SHOWN)
  fix = (
    "replace them, or leave out --strict"
    if any_kept
    else "name a folder with readable images"
  )
  raise DataError(
    f"{len(rejects)} of {n} images cannot be used ({named}{more}); {fix}, "
    f"and remove {folder} to begin anew."
  )


def _write_metadata(
  recipe: Recipe, shards: list[dict[str, Any]], folder: Path
) -> None:
  """The two files by which tensorflow-datasets knows a data set."""
  import tensorflow_datasets as tfds

  template = tfds.core.ShardedFileTemplate(
    data_dir=str(folder),
    template=TEMPLATE,
    dataset_name=NAME,
    split=SPLIT,
    filetype_suffix="array_record",
  )
  split = tfds.core.SplitInfo(
    name=SPLIT,
    shard_lengths=[shard["images"] for shard in shards],
    num_bytes=sum(shard["bytes"] for shard in shards),
    filename_template=template,
  )
  tfds.folder_dataset.write_metadata(
    data_dir=str(folder),
    features=features(recipe),
    split_infos=[split],
    check_data=False,  # would need TensorFlow
    description="Prepared by `e4e data build`; see manifest.json.",
  )


def _sync(folder: Path) -> None:
  """Brings what was written to the disk."""
  for path in folder.iterdir():
    with path.open("rb") as file:
      os.fsync(file.fileno())
