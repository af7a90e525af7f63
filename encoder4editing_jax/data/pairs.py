"""Two folders whose pictures belong together, paired by name."""

from collections.abc import Sequence
from pathlib import Path

from encoder4editing_jax.data.sources import (
  DataError,
  FolderSource,
  Paired,
  Subset,
)

SHOWN = 5  # names in a message


def pair(targets: FolderSource, partners: FolderSource) -> Paired:
  """Every target with the partner of the same name, in the targets' order.

  Names are compared without endings (`1.jpg` and `1.png` belong together), and
  without the sub-folders they are in; with them where one folder has the
  same name in several sub-folders.

  Raises:
    DataError: names that are there twice, or have no counterpart.
  """
  folders = (targets, partners)
  keys = [[path.stem for path in folder.paths] for folder in folders]
  if any(len(set(names)) < len(names) for names in keys):
    keys = [_below(folder) for folder in folders]
  for names, folder in zip(keys, folders, strict=True):
    _refuse_twins(names, folder)
  _refuse_singles(keys, folders)
  position = {name: i for i, name in enumerate(keys[1])}
  return Paired(targets, Subset(partners, [position[k] for k in keys[0]]))


def _below(folder: FolderSource) -> list[str]:
  return [
    path.relative_to(folder.folder).with_suffix("").as_posix()
    for path in folder.paths
  ]


def _refuse_twins(names: Sequence[str], folder: FolderSource) -> None:
  seen: dict[str, Path] = {}
  for name, path in zip(names, folder.paths, strict=True):
    if name in seen:
      raise DataError(
        f"{seen[name]} and {path} have the same name, so partners cannot be "
        "found; rename one, or remove it."
      )
    seen[name] = path


def _refuse_singles(
  keys: Sequence[Sequence[str]], folders: Sequence[FolderSource]
) -> None:
  problems = []
  for i, folder in enumerate(folders):
    other, theirs = folders[1 - i].folder, set(keys[1 - i])
    single = [
      str(path)
      for name, path in zip(keys[i], folder.paths, strict=True)
      if name not in theirs
    ]
    if single:
      listed = ", ".join(single[:SHOWN])
      more = f" and {len(single) - SHOWN} more" * (len(single) > SHOWN)
      problems.append(
        f"{len(single)} of {len(folder)} pictures have no partner in {other} "
        f"({listed}{more})"
      )
  if problems:
    raise DataError(
      f"{'; '.join(problems)}; partners have the same file name but for the "
      "ending: add what is missing, or move the pictures away."
    )
