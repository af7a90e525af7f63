"""What `e4e data build` leaves beside the shards of a prepared data set.

manifest.json  arguments, counts, shards with their digests, rejected files
               with the reasons, versions
files.jsonl    one line for each example, in order: name, size and digest of
               the file it was made of, and the same of its partner
"""

import json
from pathlib import Path
from typing import Any

from encoder4editing_jax.data.sources import DataError

MANIFEST = "manifest.json"
FILES = "files.jsonl"
FORMAT = 1


def read_manifest(folder: str | Path) -> dict[str, Any] | None:
  """The manifest of a prepared data set; None where there is none.

  Raises:
    DataError: it is damaged, or of a later version.
  """
  path = Path(folder) / MANIFEST
  if not path.is_file():
    return None
  try:
    found = json.loads(path.read_text())
    known = found["format"] <= FORMAT
  except (ValueError, KeyError, TypeError) as error:
    raise DataError(
      f"{path} is damaged; copy the data set again, or build it anew."
    ) from error
  if not known:
    raise DataError(f"{path} is of a later version; update this library.")
  return found
