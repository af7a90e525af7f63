"""Mappings of names to tensors, and the parts of them that hold a network."""

from collections.abc import Iterator, Mapping
from typing import Any

Source = Mapping[str, Any]
BESIDE = ("latent_avg", "opts")  # entries beside tensors, used by converters
PARALLEL = "module."  # before each name, of a network in DataParallel


class Renamed(Mapping[str, Any]):
  """Some entries of another mapping under other names.

  Values are taken when they are asked for: those of a file are read then.
  """

  def __init__(self, source: Source, names: Mapping[str, str]):
    self._source = source
    self._names = names

  def __getitem__(self, name: str) -> Any:
    return self._source[self._names[name]]

  def __iter__(self) -> Iterator[str]:
    return iter(self._names)

  def __len__(self) -> int:
    return len(self._names)


def below(source: Source, prefix: str) -> Source:
  """The entries whose names start with `prefix`, without it."""
  n = len(prefix)
  return Renamed(source, {k[n:]: k for k in source if k.startswith(prefix)})


def single(source: Source) -> Source:
  """The names as they are without PyTorch's `DataParallel` around a network.

  Raises:
    ValueError: a tensor is there with and without its prefix.
  """
  if not any(str(name).startswith(PARALLEL) for name in source):
    return source
  names: dict[str, str] = {}
  for name in source:
    short = str(name).removeprefix(PARALLEL)
    if short in names:
      raise ValueError(
        f"the checkpoint has both {short!r} and {PARALLEL + short!r}; keep "
        "the tensors of one network."
      )
    names[short] = name
  return Renamed(source, names)


def unwrap(checkpoint: Source, *entries: str) -> Source:
  """The tensors of a network by name, see `single`.

  Args:
    checkpoint: whole, or a bare state_dict, perhaps with `latent_avg`.
    entries: the names under which it may have them; the first that is there
      counts. By custom "state_dict".
  """
  for name in entries or ("state_dict",):
    if isinstance(checkpoint.get(name), Mapping):
      return single(checkpoint[name])
  rest = {k: k for k in checkpoint if k not in BESIDE}
  return single(Renamed(checkpoint, rest))
