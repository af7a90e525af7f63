"""A source from what a run card names: a folder, or a prepared data set."""

from pathlib import Path

from encoder4editing_jax.data import datasets, pairs
from encoder4editing_jax.data.sources import DataError, FolderSource, Source

UNFINISHED = ".unfinished"  # what `e4e data build` works in


def open_source(
  place: str, partners: str = "", *, split: str = "", feature: str = ""
) -> Source:
  """The images of a place, with their partners if those have a place.

  Args:
    place: a folder, or a directory of tensorflow-datasets.
    partners: a folder with files of the same names; for a data set that holds
      them itself, the same directory again.
    split: of a data set, see `datasets.open_dataset`.
    feature: the same.

  Raises:
    DataError: in one line, with the fix.
  """
  if datasets.is_dataset(place):
    if partners and Path(partners).resolve() != Path(place).resolve():
      raise DataError(
        f"{place} is a data set and {partners} another place; build a data set "
        "of both (e4e data build FOLDER --source FOLDER), and name it twice."
      )
    return datasets.open_dataset(
      place, split=split, feature=feature, partners=bool(partners)
    )
  for value, name in ((split, "split"), (feature, "feature")):
    if value:
      raise DataError(
        f"{name} {value} is asked for, but {place} is no directory of "
        "tensorflow-datasets; name one, or leave it out."
      )
  if not Path(place).exists() and Path(f"{place}{UNFINISHED}").exists():
    raise DataError(
      f"{place} is not finished; run its e4e data build again, which goes on."
    )
  images = FolderSource(place)
  return pairs.pair(images, FolderSource(partners)) if partners else images
