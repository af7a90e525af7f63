"""Landmarks of faces, and files of them.

Of one picture or of many by name, written by whatever detector;
docs/alignment.md says what such files may look like. Points are (x, y) in
pixels of the picture as it is shown, turned as its EXIF orientation says;
(0, 0) is the middle of the first pixel.
"""

import csv
import json
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from encoder4editing_jax import align

ENDINGS = (".json", ".csv", ".npy", ".npz")
ONE = ""  # stands for the picture of a file that names none
COLUMNS = (2, 10, 136, 11, 137)  # x,y; 5 or 68 points; and these with a name


class Face(NamedTuple):
  """Landmarks, 68 or 5 (see `align`), and left, top, right, bottom."""

  landmarks: Float[np.ndarray, "p 2"]
  box: tuple[float, float, float, float]

  @property
  def area(self) -> float:
    """Of the box, in pixels."""
    left, top, right, bottom = self.box
    return float((right - left) * (bottom - top))


Faces = dict[str, list[Face]]


def largest_first(faces: Iterable[Face]) -> list[Face]:
  """Faces by the areas of their boxes; equal ones stay in order."""
  return sorted(faces, key=lambda face: -face.area)


def face_of(landmarks: Any) -> Face:
  """A face whose box is that of its points.

  Raises:
    ValueError: no 68 or 5 points (x, y) that a crop can be made from.
  """
  try:
    points = np.asarray(landmarks, np.float64)
  except (TypeError, ValueError):
    raise ValueError("landmarks have to be 68 or 5 pairs of numbers.") from None
  align.crop_quad(points)
  box = (*points.min(0).tolist(), *points.max(0).tolist())
  return Face(points, box)


def read(path: str | Path) -> Faces:
  """The faces in a file by the name of their picture, the largest first.

  The name is `ONE` where the file names none.

  Args:
    path: .json, .csv, .npy or .npz.

  Raises:
    FileNotFoundError: it is not there.
    ValueError: it holds no landmarks; says where.
  """
  path = Path(path)
  reader = _READERS.get(path.suffix.lower())
  if reader is None:
    raise ValueError(f"{path}: landmarks are read from {', '.join(ENDINGS)}.")
  try:
    found = reader(path)
  except FileNotFoundError:
    raise FileNotFoundError(f"{path} is not there; check the path.") from None
  except (EOFError, ValueError, csv.Error, zipfile.BadZipFile) as error:
    raise ValueError(f"{path}: {error or 'the file is cut off'}") from None
  if not found:
    raise ValueError(f"{path}: it holds no landmarks.")
  return {name: largest_first(faces) for name, faces in found.items()}


def _read_json(path: Path) -> Faces:
  value = json.loads(path.read_text(encoding="utf-8-sig"))
  if (
    isinstance(value, dict) and "landmarks" in value
  ):  # a record of `e4e align`
    value = value["landmarks"]
  if isinstance(value, dict):
    return {name: _faces(points, name) for name, points in value.items()}
  return {ONE: _faces(value)}


def _read_numpy(path: Path) -> Faces:
  loaded = np.load(path, allow_pickle=False)
  if isinstance(loaded, np.ndarray):
    return {ONE: _faces(loaded)}
  with loaded as file:
    return {name: _faces(points, name) for name, points in file.items()}


def _faces(value: Any, name: str = ONE) -> list[Face]:
  """Of one face `[p 2]`, of several `[f p 2]`, or of none (empty)."""
  if value is None or (_depth(value) and not len(value)):
    return []
  where = f"{name}: " if name else ""
  several = _depth(value) == 3
  faces = []
  for k, points in enumerate(value if several else [value]):
    try:
      faces.append(face_of(points))
    except ValueError as error:
      which = f"face {k}: " if several else ""
      raise ValueError(f"{where}{which}{error}") from None
  return faces


def _depth(value: Any) -> int:
  if isinstance(value, np.ndarray):
    return value.ndim
  if isinstance(value, list):
    return 1 + (_depth(value[0]) if value else 0)
  return 0


def _read_csv(path: Path) -> Faces:
  with path.open(newline="", encoding="utf-8-sig") as file:
    rows = [(k, row) for k, row in enumerate(csv.reader(file), 1) if any(row)]
  if rows and len(rows[0][1]) in COLUMNS:
    header = not any(map(_is_number, rows[0][1]))
    rows = rows[header:]
  if rows and len(rows[0][1]) == 2:
    points = [_numbers(row, k, (2,)) for k, row in rows]
    return {ONE: _faces(points)}
  found: Faces = {}
  for k, row in rows:
    name = row[0].strip() if len(row) % 2 else ONE
    numbers = _numbers(row, k, COLUMNS[1:])
    try:
      face = face_of(np.reshape(numbers, (-1, 2)))
      found.setdefault(name, []).append(face)
    except ValueError as error:
      raise ValueError(f"row {k}: {error}") from None
  return found


def _numbers(row: list[str], k: int, columns: tuple[int, ...]) -> list[float]:
  """Cells of a row but for its name."""
  if len(row) not in columns:
    raise ValueError(
      f"row {k} has {len(row)} columns; write x,y (a row for each point), or "
      "10 or 136 numbers (a row for each face), with a name before them or "
      "none, and commas between."
    )
  cells = row[len(row) % 2 :]
  if wrong := [cell for cell in cells if not _is_number(cell)]:
    raise ValueError(f"row {k}: {wrong[0]!r} is no number.")
  return [float(cell) for cell in cells]


def _is_number(text: str) -> bool:
  try:
    float(text)
  except ValueError:
    return False
  return True


_READERS = {
  ".json": _read_json,
  ".csv": _read_csv,
  ".npy": _read_numpy,
  ".npz": _read_numpy,
}


def match(path: str | Path, pictures: Sequence[str]) -> Faces:
  """The faces of pictures, from a file or a folder of files.

  Args:
    path: a file (`read`) of one picture, or of many by their file names, with
      or without endings and folders; or a folder that holds NAME.json (or
      .csv, .npy, .npz) for a picture NAME, with its ending or without.
    pictures: paths, which are the keys of the result; those that nothing is
      known of are not among them.

  Raises:
    FileNotFoundError: there is no such file or folder.
    ValueError: a file that holds no landmarks, names none of several pictures,
      or none of these.
  """
  found = {}
  every = {} if Path(path).is_dir() else read(path)
  if ONE in every and len(pictures) > 1:
    raise ValueError(
      f"{path} names no picture, and there are {len(pictures)}; name them in "
      "it, or give a folder with a file for each."
    )
  for picture in pictures:
    file = _file_for(Path(path), picture) if Path(path).is_dir() else path
    faces = _pick(every or read(file), file, picture) if file else None
    if faces is not None:
      found[picture] = faces
  if pictures and not found:
    raise ValueError(
      f"{path} holds landmarks of none of the pictures ({pictures[0]}); names "
      "are compared with or without endings."
    )
  return found


def _file_for(folder: Path, picture: str) -> Path | None:
  for name in (Path(picture).name, Path(picture).stem):
    files = [folder / f"{name}{ending}" for ending in ENDINGS]
    if there := [file for file in files if file.is_file()]:
      break
  if len(there) > 1:
    raise ValueError(f"{there[0]} and {there[1]} are both there; remove one.")
  return there[0] if there else None


def _pick(every: Faces, file: str | Path, picture: str) -> list[Face] | None:
  """What a file says of one picture; None if it names others only."""
  if ONE in every and len(every) > 1:
    raise ValueError(f"{file}: some rows name a picture and others do not.")
  if ONE in every:
    return every[ONE]
  parts = Path(picture).parts
  for k in range(len(parts)):  # the most of its path that is a key
    tail = Path(*parts[k:])
    for key in (tail.as_posix(), tail.with_suffix("").as_posix()):
      if key in every:
        return every[key]
  return None
