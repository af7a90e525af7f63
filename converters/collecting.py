"""Published files to the folder of networks that losses look through.

One row says of which kinds of files a network is made; the folder keeps it
under its fixed name (`weights_folder`).
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from encoder4editing_jax import __version__, weights, weights_folder
from encoder4editing_jax.converters.command import sha256
from encoder4editing_jax.converters.features import (
  to_arcface,
  to_lpips,
  to_moco,
)
from encoder4editing_jax.converters.inception import to_inception
from encoder4editing_jax.converters.kinds import KINDS, Kind
from encoder4editing_jax.converters.limits import CheckpointError
from encoder4editing_jax.converters.loading import check_file
from encoder4editing_jax.converters.reader import read
from encoder4editing_jax.converters.recognition import identify
from encoder4editing_jax.converters.writing import Writer, put


@dataclasses.dataclass(frozen=True)
class Network:
  """A network of the folder.

  Args:
    name: in the folder.
    kinds: of the files that it is made of, see `kinds.KINDS`.
    convert: makes it of their contents, in that order.
  """

  name: str
  kinds: tuple[str, ...]
  convert: Callable[..., Any]


def _lpips(net: str, trunk: str) -> Network:
  kinds = (f"torchvision-{trunk}", f"lpips-{net}-linear")
  return Network(f"lpips_{net}", kinds, partial(to_lpips, net=net))


NETWORKS = (
  _lpips("alex", "alexnet"),
  _lpips("vgg", "vgg16"),
  _lpips("squeeze", "squeezenet1_1"),
  Network("arcface_ir_se50", ("arcface-ir-se50",), to_arcface),
  Network("curricularface_ir101", ("curricularface-ir101",), to_arcface),
  Network("moco", ("moco",), to_moco),
  Network("inception_fid", ("fid-inception",), to_inception),
)


class Given(NamedTuple):
  """A file that was given."""

  path: Path
  kind: Kind
  checkpoint: Any


class Made(NamedTuple):
  """A network, what it was made of, and the SHA-256 of each part."""

  network: Network
  parts: list[Given]
  digests: list[str]
  module: Any


def collect(
  files: Sequence[str | Path], folder: str | Path, force: bool = False
) -> list[dict[str, Any]]:
  """Converts published files into a folder.

  Args:
    files: in any order; LPIPS is made of two.
    folder: is created if it does not exist.
    force: replace other files of the same names.

  Returns:
    For each network `name`, `file`, `result`, and `sources` with the `file`,
    `sha256` and `is` of each part.

  Raises:
    FileNotFoundError, OSError: a file cannot be opened or written.
    ValueError: a file is of no use here, is given twice, or lacks its second
      part; or there is another file, and not `force`. In that case no file is
      written, and none replaced.
  """
  given = _open_all(files)
  networks = [_network_of(g, given) for g in given.values()]
  made: dict[Path, Made] = {}
  for network in dict.fromkeys(networks):
    target = weights_folder.path_of(folder, network.name)
    made[target] = _make(network, [given[kind] for kind in network.kinds])
  Path(folder).mkdir(parents=True, exist_ok=True)
  done = put({target: _writer(row) for target, row in made.items()}, force)
  return [
    {
      "name": row.network.name,
      "file": str(target),
      "result": result,
      "sources": [
        {"file": str(part.path), "sha256": digest, "is": part.kind.what}
        for part, digest in zip(row.parts, row.digests, strict=True)
      ],
    }
    for (target, row), result in zip(made.items(), done, strict=True)
  ]


def contents(folder: str | Path) -> list[dict[str, Any]]:
  """For each network of a folder `name`, `for`, and whether it is `there`."""
  return [
    {
      "name": name,
      "for": what,
      "there": weights_folder.path_of(folder, name).is_file(),
      "made_of": [
        k.what for n in NETWORKS if n.name == name for k in _kinds(n)
      ],
    }
    for name, what in weights_folder.NETWORKS.items()
  ]


def made_text(row: dict[str, Any]) -> str:
  """A row of `collect` for people."""
  lines = [
    f"  from {s['file']}: {s['is']}\n    sha256 {s['sha256']}"
    for s in row["sources"]
  ]
  return "\n".join((f"{row['file']}: {row['result']}", *lines))


def contents_text(folder: str | Path, rows: list[dict[str, Any]]) -> str:
  """The rows of `contents` for people."""
  lines = [f"{folder}:"]
  for row in rows:
    there = "there" if row["there"] else "missing"
    lines.append(f"  {row['name']:20} {there:7}  {row['for']}")
    if not row["there"]:
      lines.append(f"{'':31}made of {' and '.join(row['made_of'])}")
  return "\n".join(lines)


def _kinds(network: Network) -> list[Kind]:
  kinds = {kind.name: kind for kind in KINDS}
  return [kinds[name] for name in network.kinds]


def _open_all(files: Sequence[str | Path]) -> dict[str, Given]:
  """The files by the names of their kinds."""
  given: dict[str, Given] = {}
  for path in map(Path, files):
    check_file(path)
    checkpoint = read(path)
    try:
      kind = identify(checkpoint)[0].kind
    except ValueError as error:
      raise ValueError(f"{path}: {error}") from error
    if kind.name in given:
      raise ValueError(
        f"{path} and {given[kind.name].path} are both {kind.what}; give one."
      )
    given[kind.name] = Given(path, kind, checkpoint)
  return given


def _network_of(file: Given, given: dict[str, Given]) -> Network:
  """The network that a file is for, whose other parts are given too."""
  rows = [n for n in NETWORKS if file.kind.name in n.kinds]
  if not rows:
    how = "" if file.kind.converter is None else " `e4e convert` converts it."
    raise ValueError(
      f"{file.path}: this is {file.kind.what}, through which no loss looks; "
      f"leave it out.{how}"
    )
  for kind in _kinds(rows[0]):
    if kind.name not in given:
      raise ValueError(
        f"{file.path}: this is {file.kind.what}, one part of {rows[0].name}; "
        f"give the other one too: {kind.what}."
      )
  return rows[0]


def _make(network: Network, parts: list[Given]) -> Made:
  names = ", ".join(str(part.path) for part in parts)
  try:
    module = network.convert(*(part.checkpoint for part in parts))
  except CheckpointError:
    raise  # names the file itself
  except ValueError as error:
    raise ValueError(f"{names}: {error}") from error
  return Made(network, parts, [sha256(part.path) for part in parts], module)


def _writer(made: Made) -> Writer:
  provenance = {
    "source": ", ".join(part.path.name for part in made.parts),
    "sha256": ", ".join(made.digests),
    "kind": ", ".join(made.network.kinds),
    "converter": f"encoder4editing_jax {__version__}",
  }
  return lambda path: weights.save(made.module, path, provenance=provenance)
