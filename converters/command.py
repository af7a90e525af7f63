"""Converts files to files, as `e4e convert` does, and reports what it did."""

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flax import nnx

from encoder4editing_jax import __version__, weights
from encoder4editing_jax.converters import notes, official, report
from encoder4editing_jax.converters.converting import convert_as
from encoder4editing_jax.converters.export import write
from encoder4editing_jax.converters.limits import CheckpointError
from encoder4editing_jax.converters.loading import SUFFIXES, check_file
from encoder4editing_jax.converters.reader import read
from encoder4editing_jax.converters.recognition import (
  choose,
  entry_names,
  identify,
)
from encoder4editing_jax.converters.sources import BESIDE
from encoder4editing_jax.converters.verify import open_picture, verify
from encoder4editing_jax.converters.writing import Writer, put
from encoder4editing_jax.models.arcface import ArcFace
from encoder4editing_jax.models.discriminator import (
  Discriminator,
  LatentDiscriminator,
)
from encoder4editing_jax.models.inverter import Inverter
from encoder4editing_jax.models.stylegan2 import Generator

BACK: Mapping[type, Callable[[Any], Mapping[str, Any]]] = {
  Inverter: official.from_inverter,
  Generator: official.from_generator,
  Discriminator: official.from_discriminator,
  LatentDiscriminator: official.from_latent_discriminator,
  ArcFace: official.from_arcface,
}

ENDINGS = {"safetensors": ".safetensors", "torch": ".pt"}


class Options(NamedTuple):
  """How to convert; see the command's help for what each means."""

  part: str | None = None
  encoder_type: str | None = None
  to: str = "safetensors"
  sha256: str | None = None
  verify: str | None = None
  force: bool = False
  dry_run: bool = False


DEFAULTS = Options()


class Opened(NamedTuple):
  """A network from a file, and what is known about both."""

  module: nnx.Module
  provenance: dict[str, str]
  facts: dict[str, Any]


def convert_file(
  source: str | Path,
  out: str | Path | None = None,
  options: Options = DEFAULTS,
) -> dict[str, Any]:
  """Converts a file to another, unless it looks wrong.

  Args:
    source: the checkpoint.
    out: the file to write; by custom beside `source`, with another ending.
    options: how.

  Returns:
    What `report.text` shows, as JSON can hold it; `ok` is False, and nothing
    is written, if the picture of `options.verify` came back wrong.

  Raises:
    FileNotFoundError, OSError: a file cannot be opened or written.
    ValueError: `source` is not what it should be, cannot be converted, or
      `out` holds something else already. Nothing is written.
  """
  began = time.perf_counter()
  source = Path(source)
  check_file(source)
  if options.to == "safetensors" and weights.is_native(source):
    weights.describe(source)  # or it says what else it is
    raise ValueError(
      f"{source}: this is a file of this library already; e4e.load opens it, "
      "and --to torch converts it back."
    )
  target = _target(source, out, options)
  opened = open_network(source, options)
  with notes.collected() as told:
    writer = _writer(opened, options.to)
  seen = _look(opened.module, options.verify)
  ok = seen is None or seen["ok"]
  if options.dry_run or not ok:
    why = "as --dry-run asks" if ok else "since the picture came back wrong"
    result = f"nothing written, {why}"
  else:
    (done,) = put({target: writer}, options.force)
    result = f"{target}: {done}"
  return opened.facts | {
    "verification": seen,
    "ok": ok,
    "result": result,
    "out": None if options.dry_run or not ok else str(target),
    "provenance": opened.provenance,
    "warnings": opened.facts["warnings"] + told.warnings,
    "seconds": round(time.perf_counter() - began, 2),
  }


def _look(module: nnx.Module, picture: str | None) -> dict[str, Any] | None:
  """The result of `verify`; None without a picture."""
  if picture is None:
    return None
  if not isinstance(module, Inverter):
    name = type(module).__name__
    raise ValueError(f"--verify needs an encoder; this is a {name}.")
  return verify(module, open_picture(picture, module))


def _digest(source: Path, expected: str | None) -> str:
  """The SHA-256 of a file; ValueError if another one is expected."""
  digest = sha256(source)
  if expected is not None and digest != expected:
    raise ValueError(
      f"{source}: its sha256 is {digest}, not the one of --sha256; download it "
      "again, or ask those who published it."
    )
  return digest


def open_network(source: Path, options: Options = DEFAULTS) -> Opened:
  """The network of a file of any kind, with all that a report says of it.

  Raises:
    ValueError: as `convert_file`.
  """
  digest = _digest(source, options.sha256)
  size = source.stat().st_size
  facts = {"file": str(source), "bytes": size, "sha256": digest}
  if weights.is_native(source):
    return _open_native(source, facts, options)
  checkpoint = read(source)
  try:
    matches = identify(checkpoint)
    chosen = choose(matches, options.part)
    with notes.collected() as told:
      module = convert_as(chosen, checkpoint, options.encoder_type)
  except CheckpointError:
    raise  # names the file itself
  except ValueError as error:
    raise ValueError(f"{source}: {error}") from error
  used = {chosen.place.split("/")[0], *BESIDE}
  entries = set(entry_names(checkpoint)) - used if chosen.place else ()
  facts |= {
    "kind": chosen.kind.name,
    "what": chosen.kind.what,
    "also": {
      m.kind.part: m.kind.what for m in matches if m != chosen and m.kind.part
    },
    "unused": report.grouped(told.unused, sorted(entries)),
    "warnings": told.warnings + _doubts(source, options),
  }
  provenance = {
    "source": source.name,
    "sha256": digest,
    "kind": chosen.kind.name,
    "converter": f"encoder4editing_jax {__version__}",
  }
  facts |= report.module_facts(module)
  return Opened(module, provenance | told.provenance, facts)


def _open_native(
  source: Path, facts: dict[str, Any], options: Options
) -> Opened:
  if options.part is not None or options.encoder_type is not None:
    raise ValueError(
      f"{source}: this is a file of this library, which says itself what it "
      "holds; leave out --part and --encoder-type."
    )
  module = weights.load(source)
  what = "a file of this library"
  facts |= {"kind": "native", "what": what, "also": {}, "unused": {}}
  facts |= {"warnings": []} | report.module_facts(module)
  provenance = weights.describe(source)["provenance"]
  return Opened(module, provenance, facts)


def _doubts(source: Path, options: Options) -> list[str]:
  """What cannot be known about a file."""
  with source.open("rb") as file:
    zipped = file.read(2) == b"PK"
  if zipped or options.sha256 is not None:
    return []
  return [
    "files of this format have no checksums; compare the sha256 with what its "
    "publisher says, or pass it as --sha256"
  ]


def sha256(path: Path) -> str:
  """The SHA-256 of a file, as 64 hexadecimal digits."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _target(source: Path, out: str | Path | None, options: Options) -> Path:
  """The file to write, refused before any work if it cannot be."""
  ending = ENDINGS[options.to]
  if out is None:
    stem = source
    while stem.suffix in SUFFIXES:
      stem = stem.with_suffix("")
    target = stem.with_name(stem.name + ending)
  else:
    target = Path(out)
  if target.suffix != ending:
    raise ValueError(f"{target}: with --to {options.to} it ends in {ending}.")
  if target.is_dir() or not target.parent.is_dir():
    raise ValueError(f"{target}: give a file in a folder that exists.")
  if target.exists() and target.samefile(source):
    raise ValueError(f"{target} is the file to convert; name another for it.")
  return target


def _writer(opened: Opened, to: str) -> Writer:
  """Writes a network to a path."""
  if to != "torch":
    return lambda path: weights.save(
      opened.module, path, provenance=opened.provenance
    )
  kind = type(opened.module)
  if kind not in BACK:
    known = ", ".join(k.__name__ for k in BACK)
    raise ValueError(
      f"there is no way back for a {kind.__name__}, only for {known}; leave "
      "out --to torch."
    )
  checkpoint = BACK[kind](opened.module)
  return lambda path: write(checkpoint, path)
