"""What `e4e align` writes and `e4e unalign` reads: crops, and their records."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

FORMAT = 1


class Photo(NamedTuple):
  """Pixels `[h w 3]` of a picture as it is shown, and its colour profile."""

  pixels: Any
  profile: bytes | None


class Record(NamedTuple):
  """How a crop was cut out of its source: what lies beside it as NAME.json.

  `source` is an absolute path, `source_size` width and height as it is shown,
  `landmarks` are (x, y) in its pixels, `face` counts from the largest, and
  `detector` says where the landmarks are from.
  """

  source: str
  source_size: tuple[int, int]
  landmarks: list[list[float]]
  size: int
  warp_size: int
  face: int
  detector: str


def open_photo(path: str | Path, max_megapixels: float) -> Photo:
  """Opens a picture.

  Raises:
    OSError, ValueError: it cannot be read; says why.
  """
  import numpy as np

  from encoder4editing_jax.data import images

  data = Path(path).read_bytes()
  try:
    pixels = np.asarray(images.open_rgb(data, max_megapixels))
  except images.UnreadableImage as error:
    reason = str(error).replace(
      "(or, for training, raise data.", "(or raise --"
    )
    raise images.UnreadableImage(reason) from None
  return Photo(pixels, images.rgb_profile(data))


def save_record(path: Path, record: Record) -> None:
  """Writes a record as JSON."""
  from encoder4editing_jax import files

  text = json.dumps({"format": FORMAT} | record._asdict(), indent=1)
  files.replace_text(path, text + "\n")


def load_record(path: Path) -> Record:
  """Reads a record.

  Raises:
    FileNotFoundError: there is none.
    ValueError: the file is something else.
  """
  from encoder4editing_jax import align

  try:
    found = json.loads(path.read_text())
    if found.pop("format") != FORMAT:
      raise ValueError("its format is another version's")
    record = Record(**found)
    width, height = map(int, record.source_size)
    face = int(record.face)
    align.crop_quad(record.landmarks)
    Path(record.source)
  except FileNotFoundError:
    raise FileNotFoundError(
      f"there is no {path}; name the folder of the crops that `e4e align` "
      "wrote with --sidecars."
    ) from None
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise ValueError(f"{path}: no record of `e4e align` ({error}).") from None
  return record._replace(source_size=(width, height), face=face)


def remove_others(
  folder: Path, photos: Mapping[str, str], kept: Iterable[Path]
) -> list[Path]:
  """Removes crops of faces that photos had once, with their records.

  Only NAME_FACE.png whose record tells of that face of that photo: another
  photo's NAME may end in a number too.

  Args:
    folder: of crops.
    photos: paths to their NAMEs.
    kept: crops that stay.

  Returns:
    The crops that are gone.
  """
  names = {os.path.abspath(path): name for path, name in photos.items()}
  there = {path.with_suffix(".png") for path in folder.glob("*_*.json")}
  gone = []
  for crop in sorted(there - {*kept}):
    try:
      record = load_record(crop.with_suffix(".json"))
    except (OSError, ValueError):
      continue
    name, _, face = crop.stem.rpartition("_")
    if (name, face) == (names.get(record.source), str(record.face)):
      crop.unlink(missing_ok=True)
      crop.with_suffix(".json").unlink()
      gone.append(crop)
  return gone
