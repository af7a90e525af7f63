"""`e4e align`: photos to the crops of faces that encoders expect."""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from encoder4editing_jax.cli.crops import (
  Record,
  open_photo,
  remove_others,
  save_record,
)
from encoder4editing_jax.cli.invert import Inputs, find
from encoder4editing_jax.cli.parsing import (
  PLAIN,
  check_folder,
  parse,
  refuse_replacing,
)
from encoder4editing_jax.cli.results import (
  counted,
  refuse_twins,
  save_png,
  tell,
)
from encoder4editing_jax.config import ConfigError
from encoder4editing_jax.files import reason


@dataclass(frozen=True)
class AlignArguments:
  """Cut faces out of photos, as FFHQ's were.

  Writes NAME.png for each photo, and beside it NAME.json, which `e4e unalign`
  pastes it back by. Photos without a face, and files that are no photos, are
  named; the others are done, and the exit status is 1.

  Example: e4e align photos --detector yunet.onnx --face all --out crops
  """

  inputs: Inputs = ()
  """Files, folders (searched recursively) or patterns such as 'a/*.jpg'."""

  out: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
  """Folder for the crops; it is made."""

  landmarks: Annotated[str, tyro.conf.arg(metavar="FILE|DIR")] = ""
  """Landmarks: one file for all photos, or a folder with one for each."""

  detector: Annotated[str, tyro.conf.arg(metavar="MODEL")] = ""
  """Or a detector: YuNet (.onnx), dlib (.dat) or MediaPipe (.task)."""

  detector_kind: str = ""
  """yunet, dlib or mediapipe, for a model with another ending."""

  demo: bool = False
  """Or all three faces of a drawn photo, which is kept in DIR_photos."""

  face: Annotated[str, tyro.conf.arg(metavar="largest|all|INDEX")] = ""
  """Which; 0 is the largest, the default. All become NAME_0.png and so on."""

  size: int = 256
  """Side of the crops."""

  warp_size: int = 0
  """Side of the cut before it is shrunk; FFHQ: 4096 for 1024. 0: as size."""

  max_megapixels: float = 150.0
  """Larger photos are left out."""

  overwrite: bool = False
  """Replace files that are there. With --face all, crops of faces that a photo
  had before and has no longer are removed."""

  json: bool = False
  """Print one JSON object."""


def align_command(argv: Sequence[str]) -> int:
  """`e4e align`: 0, or 1 if a photo had no face or could not be read.

  Raises:
    ConfigError, ImportError, OSError, ValueError: wrong flags or files.
  """
  asked = parse(AlignArguments, argv, prog="e4e align", config=PLAIN)
  _check(asked)
  from tqdm import tqdm

  from encoder4editing_jax.data.pictures import names_of

  photos = list(_photos(asked))
  stems = dict(zip(photos, names_of(photos), strict=True))
  crops = [Path(asked.out) / f"{stem}.png" for stem in stems.values()]
  refuse_twins(photos, crops)
  _check_places(asked, photos, set(stems.values()))
  if asked.demo:
    _draw(asked)
  locate = _locator(asked, photos)
  written: list[Path] = []
  failed: dict[str, str] = {}
  for path in tqdm(photos, disable=None, unit="photo"):
    try:
      written += _cut(asked, path, stems[path], locate, failed)
    except (OSError, ValueError) as error:
      failed[path] = reason(error)
  removed: list[Path] = []
  if _all(asked):
    whole = {path: stems[path] for path in photos if path not in failed}
    removed = remove_others(Path(asked.out), whole, written)
  crops_of = counted(len(written), "crop"), counted(len(photos), "photo")
  done = f"{' of '.join(crops_of)} in {asked.out}"
  if removed:
    done += f"; {len(removed)} of an earlier run removed"
  figures = {"removed": [*map(str, removed)]}
  return tell(asked.json, done, written, failed, figures)


def _check(asked: AlignArguments) -> None:
  if [bool(asked.landmarks), bool(asked.detector), asked.demo].count(True) != 1:
    raise ConfigError(
      "give --landmarks FILE, --detector MODEL or --demo, one of them."
    )
  if not asked.out:
    raise ConfigError("--out is missing; name a folder for the crops.")
  if Path(asked.out).exists() and not Path(asked.out).is_dir():
    raise ConfigError(f"--out {asked.out} is a file; name a folder.")
  if asked.demo and asked.inputs:
    raise ConfigError("--demo draws its own photo; leave out the files.")
  if not asked.inputs and not asked.demo:
    raise ConfigError("there is nothing to align; give files or folders.")
  if asked.face not in ("", "largest", "all") and not asked.face.isdecimal():
    raise ConfigError(f"--face {asked.face}: write largest, all or a number.")
  if asked.size < 1 or asked.warp_size < 0:
    raise ConfigError("--size takes 1 or more, --warp_size 0 or more.")


def _demo_files(asked: AlignArguments) -> tuple[Path, Path]:
  """The drawn photo and its landmarks."""
  out = Path(asked.out)
  if out.name in ("", ".."):
    out = out.resolve()
  folder = out.parent / f"{out.name}_photos"
  return folder / "group.png", folder / "landmarks.json"


def _photos(asked: AlignArguments) -> Iterator[str]:
  """The paths; of several ways to write one the first."""
  if asked.demo:
    yield str(_demo_files(asked)[0])
    return
  known = set()
  for path in find(asked.inputs):
    if (place := os.path.abspath(path)) not in known:
      known.add(place)
      yield path


def _all(asked: AlignArguments) -> bool:
  return asked.face == "all" or (asked.demo and not asked.face)


def _check_places(
  asked: AlignArguments, photos: Sequence[str], stems: set[str]
) -> None:
  """Before work; with --face all the numbers of faces are not known yet."""
  out = Path(asked.out)
  ends = (".png", ".json")
  results = [out / f"{stem}{end}" for stem in sorted(stems) for end in ends]
  if _all(asked):
    there = sorted(out.iterdir()) if out.is_dir() else []
    parts = [(re.fullmatch(r"(.+)_\d+", p.stem), p) for p in there]
    results = [p for m, p in parts if m and m[1] in stems and p.suffix in ends]
  inputs: list[str | Path] = []
  if not asked.demo:
    inputs = [*photos, *_landmark_files(asked)]
  drawn = _demo_files(asked) if asked.demo else ()
  check_folder(out)
  refuse_replacing([*results, *drawn], asked.overwrite, inputs)


def _landmark_files(asked: AlignArguments) -> list[Path]:
  path = Path(asked.landmarks)
  return sorted(path.iterdir()) if path.is_dir() else [path]


def _draw(asked: AlignArguments) -> None:
  from encoder4editing_jax import files
  from encoder4editing_jax.faceworld.scene import draw_scene

  photo, landmarks = _demo_files(asked)
  photo.parent.mkdir(parents=True, exist_ok=True)
  scene = draw_scene()
  save_png(photo, scene.image)
  points = {photo.name: scene.landmarks.round(3).tolist()}
  files.replace_text(landmarks, json.dumps(points) + "\n")


Locate = Callable[[str, Any], tuple[list[Any], str]]


def _locator(asked: AlignArguments, photos: Sequence[str]) -> Locate:
  """From a path and pixels to faces, and what they were found by."""
  from encoder4editing_jax import detectors, landmarks

  if asked.detector:
    detect = detectors.open_detector(asked.detector, asked.detector_kind)
    return lambda path, pixels: (detect(pixels), Path(asked.detector).name)
  path = str(_demo_files(asked)[1]) if asked.demo else asked.landmarks
  known = landmarks.match(path, photos)

  def locate(photo: str, pixels: Any) -> tuple[list[Any], str]:
    if photo not in known:
      raise ValueError(f"{path} has no landmarks of it")
    return known[photo], f"landmarks of {path}"

  return locate


def _chosen(asked: AlignArguments, n: int) -> list[int]:
  """Indices of the faces that are meant, of `n`."""
  if not n:
    raise ValueError("no face was found")
  if _all(asked):
    return list(range(n))
  index = int(asked.face) if asked.face.isdecimal() else 0
  if index >= n:
    raise ValueError(
      f"no face {index} was found: there are {n}, and the largest is 0"
    )
  return [index]


def _cut(
  asked: AlignArguments,
  path: str,
  stem: str,
  locate: Locate,
  failed: dict[str, str],
) -> Iterator[Path]:
  """Writes the crops of a photo, and gives their paths."""
  from encoder4editing_jax.align import align

  out, warp_size = Path(asked.out), asked.warp_size or asked.size
  photo = open_photo(path, asked.max_megapixels)
  faces, detector = locate(path, photo.pixels)
  for index in _chosen(asked, len(faces)):
    name = f"{stem}_{index}" if _all(asked) else stem
    points = faces[index].landmarks
    try:
      crop = align(photo.pixels, points, asked.size, warp_size)
    except ValueError as error:
      before = f"{failed[path]} " if path in failed else ""
      failed[path] = f"{before}face {index}: {reason(error)}"
      continue
    record = Record(
      source=os.path.abspath(path),
      source_size=photo.pixels.shape[1::-1],
      landmarks=points.tolist(),
      size=asked.size,
      warp_size=warp_size,
      face=index,
      detector=detector,
    )
    out.mkdir(parents=True, exist_ok=True)
    save_png(out / f"{name}.png", crop, photo.profile)
    save_record(out / f"{name}.json", record)
    yield out / f"{name}.png"
