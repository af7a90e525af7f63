"""`e4e unalign`: edited crops back into the photos that they are from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from encoder4editing_jax.cli.crops import (
  Record,
  load_record,
  open_photo,
)
from encoder4editing_jax.cli.invert import Inputs, find
from encoder4editing_jax.cli.parsing import PLAIN, parse, refuse_replacing
from encoder4editing_jax.cli.results import (
  counted,
  refuse_twins,
  save_png,
  tell,
)
from encoder4editing_jax.config import ConfigError
from encoder4editing_jax.files import reason

# What `e4e align`, `invert` and `edit` write beside their pictures.
BESIDE = (".json", ".npz")


@dataclass(frozen=True)
class UnalignArguments:
  """Paste edited crops back where `e4e align` cut them out.

  Each NAME.png needs the NAME.json of its crop. Writes one PNG for each photo,
  of its full size and turned as it is shown, with all of its faces. What cannot
  be pasted is named; the rest is done, and the exit status is 1.

  Example: e4e unalign happy --sidecars crops --out photos_happy
  """

  inputs: Inputs = ()
  """Edited crops: files, folders (searched recursively) or patterns."""

  out: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
  """Folder for the photos; it is made."""

  sidecars: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
  """Folder of `e4e align` with NAME.json; beside the crops if left out."""

  source: Annotated[str, tyro.conf.arg(metavar="FILE|DIR")] = ""
  """The photo, or the folder of the photos, if they have been moved."""

  feather: float = 0.1
  """Width of the soft edge as a part of the crop, 0 to 0.5."""

  max_megapixels: float = 150.0
  """Larger photos are left out."""

  overwrite: bool = False
  """Replace files that are there."""

  json: bool = False
  """Print one JSON object."""


class _Crop(NamedTuple):
  path: str
  record: Record


def unalign_command(argv: Sequence[str]) -> int:
  """`e4e unalign`: 0, or 1 if a crop could not be pasted.

  Raises:
    ConfigError, OSError, ValueError: wrong flags or files.
  """
  asked = parse(UnalignArguments, argv, prog="e4e unalign", config=PLAIN)
  _check(asked)
  from tqdm import tqdm

  from encoder4editing_jax.data.pictures import names_of

  paths = [p for p in find(asked.inputs) if Path(p).suffix not in BESIDE]
  if not paths:
    raise ConfigError("there are no pictures among the files.")
  failed: dict[str, str] = {}
  photos = _by_photo(asked, paths, failed)
  out = Path(asked.out)
  names = zip(photos, names_of(photos), strict=True)
  places = {path: out / f"{name}.png" for path, name in names}
  refuse_twins(list(places), list(places.values()))
  refuse_replacing(places.values(), asked.overwrite, [*paths, *photos])
  written = []
  for path in tqdm(photos, disable=None, unit="photo"):
    try:
      if photo := _pasted(asked, path, photos[path], failed):
        out.mkdir(parents=True, exist_ok=True)
        save_png(places[path], *photo)
        written.append(places[path])
    except (OSError, ValueError) as error:
      failed[path] = reason(error)
  done = f"{counted(len(written), 'photo')} in {asked.out}"
  return tell(asked.json, done, written, failed)


def _check(asked: UnalignArguments) -> None:
  if not asked.inputs:
    raise ConfigError("there is nothing to paste; give crops or folders.")
  if not asked.out:
    raise ConfigError("--out is missing; name a folder for the photos.")
  if Path(asked.out).exists() and not Path(asked.out).is_dir():
    raise ConfigError(f"--out {asked.out} is a file; name a folder.")
  for flag, path in (("sidecars", asked.sidecars), ("source", asked.source)):
    if path and not Path(path).exists():
      raise ConfigError(f"--{flag} {path} is not there; check the path.")
  if not 0 <= asked.feather <= 0.5:
    raise ConfigError(f"--feather {asked.feather}: give 0 to 0.5.")


def _by_photo(
  asked: UnalignArguments, paths: Sequence[str], failed: dict[str, str]
) -> dict[str, list[_Crop]]:
  """Crops by the photo that they belong to, the largest faces first."""
  photos: dict[str, list[_Crop]] = {}
  known: dict[Path, str] = {}
  for path in paths:
    folder = Path(asked.sidecars) if asked.sidecars else Path(path).parent
    sidecar = folder / f"{Path(path).stem}.json"
    if (other := known.setdefault(sidecar.resolve(), path)) != path:
      raise ConfigError(
        f"{other} and {path} are both of the face of {sidecar}; give one."
      )
    try:
      record = load_record(sidecar)
      source = _source(asked, record)
    except (OSError, ValueError) as error:
      failed[path] = reason(error)
      continue
    photos.setdefault(source, []).append(_Crop(path, record))
  for source, crops in photos.items():
    _check_one(source, crops)
    crops.sort(key=lambda crop: crop.record.face)
  return photos


def _source(asked: UnalignArguments, record: Record) -> str:
  path = Path(asked.source or record.source)
  if path.is_dir():
    path /= Path(record.source).name
  if not path.is_file():
    raise ValueError(f"its photo {path} is not there; name it with --source")
  return str(path)


def _check_one(photo: str, crops: Sequence[_Crop]) -> None:
  sources = list(dict.fromkeys(crop.record.source for crop in crops))
  if len(sources) > 1:
    raise ConfigError(
      f"--source: {photo} would get crops of {sources[0]} and of {sources[1]}; "
      "paste them one after the other."
    )


def _pasted(
  asked: UnalignArguments,
  path: str,
  crops: Sequence[_Crop],
  failed: dict[str, str],
) -> Any:
  """A photo with its crops; None if none of them could be pasted."""
  from encoder4editing_jax.align import unalign

  photo = open_photo(path, asked.max_megapixels)
  size = photo.pixels.shape[1::-1]
  done: list[Any] = []
  for crop in crops:
    landmarks = crop.record.landmarks
    try:
      if size != crop.record.source_size:
        raise ValueError(
          f"its photo {path} has {size[0]} x {size[1]} pixels, and had "
          "{} x {} when it was cut out".format(*crop.record.source_size)
        )
      face = open_photo(crop.path, asked.max_megapixels).pixels
      if face.shape[0] != face.shape[1]:
        raise ValueError("it is not square; crops of faces are")
      pixels = unalign(photo.pixels, face, landmarks, asked.feather, done)
    except (OSError, ValueError) as error:
      failed[crop.path] = reason(error)
      continue
    photo = photo._replace(pixels=pixels)
    done.append(landmarks)
  return photo if done else None
