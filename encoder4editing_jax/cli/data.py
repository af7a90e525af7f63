"""`e4e data build` and `e4e data info`: prepared data sets."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from encoder4editing_jax.cli.parsing import PLAIN, nearest, parse
from encoder4editing_jax.config import ConfigError
from encoder4editing_jax.config_rules import MOST_LABELS

Folder = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FOLDER")]
USAGE = """\
usage: e4e data COMMAND [options]   (e4e data COMMAND --help explains one)

  build  decode and resize a folder of images once, for training
  info   say what is in a data set, and draw some of it"""


@dataclass(frozen=True)
class BuildArguments:
  """Decode and resize a folder of images once, for training.

  Writes a directory of tensorflow-datasets (array_record). The same command
  goes on with what was cut off.

  Example: e4e data build photos --size 256 --out prepared --workers 8
  """

  folder: Folder
  """Images, searched recursively."""

  out: Annotated[str, tyro.conf.arg(metavar="DIR")]
  """The directory to make; it appears when it is complete."""

  size: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N or H W")] = (256,)
  """Height and width of the stored images in pixels; one number for both."""

  source: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = ""
  """What the encoder is shown: files with the names of the images, but for
  the ending."""

  labels: Annotated[int, tyro.conf.arg(metavar="N")] = 0
  """The sources are maps of N classes: ids are checked, and resized by taking
  the nearest."""

  grey: bool = False
  """The sources are sketches: one channel is stored."""

  format: Literal["png", "jpeg"] = "png"
  """png is lossless; jpeg takes about a fifth of the room and of the time to
  read. Class ids are always png."""

  quality: Annotated[int, tyro.conf.arg(metavar="Q")] = 95
  """Of jpeg, 1 to 100."""

  decode: Literal["shown", "plain"] = "shown"
  """As a viewer shows the files, or as the originals read them, see
  data.decode of `e4e train`."""

  max_megapixels: Annotated[float, tyro.conf.arg(metavar="M")] = 100.0
  """Larger images are left out before they are decoded."""

  shard: Annotated[int, tyro.conf.arg(metavar="N")] = 1024
  """Files in a shard."""

  workers: Annotated[int, tyro.conf.arg(metavar="N")] = 1
  """Processes."""

  read_timeout: Annotated[float, tyro.conf.arg(metavar="S")] = 120.0
  """Seconds that reading a file may take."""

  strict: bool = False
  """End with an error if a file cannot be used; otherwise it is left out and
  named in the manifest."""

  json: bool = False
  """Print the manifest as one JSON object."""


@dataclass(frozen=True)
class InfoArguments:
  """Say what is in a data set, and draw some of it.

  Example: e4e data info prepared --sheet sheet.png
  """

  folder: Folder
  """A prepared data set, another directory of tensorflow-datasets, or a
  folder of images."""

  sheet: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
  """A PNG to write: images evenly spread over the data set, each beside its
  source if it has one."""

  split: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
  """Split that the sheet shows."""

  feature: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
  """Image feature that the sheet shows."""

  verify: bool = False
  """Compare every shard with its digest."""

  json: bool = False
  """Print one JSON object."""


def data_command(argv: Sequence[str]) -> int:
  """`e4e data build` and `e4e data info`.

  Raises:
    ConfigError, OSError, ValueError: wrong flags or files.
    SystemExit: with status 0, after `--help`.
  """
  verb = argv[0] if argv else ""
  if verb in ("-h", "--help"):
    print(USAGE)
    raise SystemExit(0)
  verbs = {"build": _build, "info": _info}
  if verb not in verbs:
    what = f"unknown command data {verb}" if verb else "data what? build, info"
    raise ConfigError(f"{what}; {nearest(verb, list(verbs))}")
  return verbs[verb](argv[1:])


def _build(argv: Sequence[str]) -> int:
  asked = parse(BuildArguments, argv, prog="e4e data build", config=PLAIN)
  _check(asked)
  from encoder4editing_jax.data.building import build
  from encoder4editing_jax.data.shards import Recipe

  size = asked.size * 2 if len(asked.size) == 1 else asked.size
  recipe = Recipe(
    folder=asked.folder,
    source=asked.source,
    size=(size[0], size[1]),
    labels=asked.labels,
    grey=asked.grey,
    format=asked.format,
    quality=asked.quality,
    decode=asked.decode,
    max_megapixels=asked.max_megapixels,
    shard=asked.shard,
  )
  manifest = build(
    recipe,
    asked.out,
    workers=asked.workers,
    read_timeout=asked.read_timeout,
    strict=asked.strict,
    say=(lambda text: None) if asked.json else _say,
  )
  if asked.json:
    print(json.dumps(manifest))
    return 0
  for reject in manifest["rejects"]:
    print(f"left out: {reject['name']}: {reject['reason']}")
  return 0


def _say(text: str) -> None:
  print(text, flush=True)


def _check(asked: BuildArguments) -> None:
  """Raises ConfigError for numbers that make no sense."""
  n, sides = asked.labels, asked.size
  rules = (
    (
      len(sides) not in (1, 2) or min(sides) < 1,
      f"--size is {' '.join(map(str, sides))}; give one or two numbers above 0",
    ),
    (
      not 0 <= n <= MOST_LABELS,
      f"--labels is {n}; give a number up to {MOST_LABELS}",
    ),
    (
      bool(n or asked.grey) and not asked.source,
      "--labels and --grey say what --source is; name its folder too",
    ),
    (bool(n) and asked.grey, "--labels and --grey exclude each other"),
    (
      not 1 <= asked.quality <= 100,
      f"--quality is {asked.quality}; give 1 to 100",
    ),
    (asked.shard < 1, f"--shard is {asked.shard}; give 1 or more"),
    (asked.workers < 1, f"--workers is {asked.workers}; give 1 or more"),
    (
      not asked.read_timeout > 0,
      f"--read_timeout is {asked.read_timeout}; give seconds above 0",
    ),
    (
      not asked.max_megapixels > 0,
      f"--max_megapixels is {asked.max_megapixels}; give a number above 0",
    ),
  )
  if problems := [text for bad, text in rules if bad]:
    raise ConfigError("; ".join(problems) + ".")


def _info(argv: Sequence[str]) -> int:
  asked = parse(InfoArguments, argv, prog="e4e data info", config=PLAIN)
  from encoder4editing_jax.data import describing

  found = describing.describe(asked.folder, verify=asked.verify)
  if asked.sheet:
    found["not_shown"] = describing.write_sheet(
      asked.folder, asked.sheet, split=asked.split, feature=asked.feature
    )
    found["sheet"] = asked.sheet
  print(json.dumps(found) if asked.json else describing.text(found))
  return 0
