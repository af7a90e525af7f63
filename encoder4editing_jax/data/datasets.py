"""Directories of tensorflow-datasets as sources; TensorFlow is not needed.

Pictures are handed out as the bytes that were stored: tensorflow-datasets' own
decoder returns wrong colours for palettes, transparency and 16 bits.
"""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from encoder4editing_jax.data.manifests import FILES, read_manifest
from encoder4editing_jax.data.sources import DataError, Paired, Source, Subset

METADATA = ("dataset_info.json", "features.json")
PARTNER = "source"  # feature of what the encoder is shown
FORMAT = "array_record"


def is_dataset(place: str | Path) -> bool:
  """Whether a folder is a directory of tensorflow-datasets."""
  return all((Path(place) / name).is_file() for name in METADATA)


class DatasetSource:
  """One image feature of the examples of a split, in the order stored.

  Args:
    records: the examples.
    feature: the name of an image feature of theirs.
  """

  def __init__(self, records: "Records", feature: str):
    self.records = records
    self.feature = feature

  def __len__(self) -> int:
    return len(self.records)

  def __getitem__(self, index: int) -> bytes:
    return self.records[index][self.feature]

  def name(self, index: int) -> str:
    """The place in the data set, and the name of the file it was made of."""
    return self.records.name(index)


class Records:
  """The examples of a split, as encoded images by the name of the feature.

  Args:
    folder: a directory of tensorflow-datasets.
    split: as tensorflow-datasets writes it, `train` or `train[:90%]`.
    features: which image features to read.

  Raises:
    DataError: no such split, or its files cannot be opened.
  """

  def __init__(self, folder: str | Path, split: str, features: Sequence[str]):
    import tensorflow_datasets as tfds

    self.folder, self.split = Path(folder), split
    builder = tfds.builder_from_directory(str(folder))
    try:
      self._raw = builder.as_data_source(split).data_source
      self._length = len(self._raw)
    except Exception as error:  # tensorflow-datasets raises nearly anything
      reason = str(error).splitlines()[0]
      raise DataError(
        f"{folder}: the split {split} cannot be opened ({reason}); copy the "
        "directory again, or name another split."
      ) from error
    wanted = {name: builder.info.features[name] for name in features}
    self._features = tfds.features.FeaturesDict(wanted)
    self._skip = {name: tfds.decode.SkipDecoding() for name in features}
    self._names = _names(self.folder, self._length)
    self._last = threading.local()  # partners ask for the same example

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, index: int) -> dict[str, bytes]:
    if not 0 <= index < self._length:
      raise IndexError(f"record {index} of {self._length}")
    if getattr(self._last, "index", None) != index:
      self._last.example = self._read(index)
      self._last.index = index
    return self._last.example

  def _read(self, index: int) -> dict[str, bytes]:
    try:
      return self._features.deserialize_example_np(
        self._raw[index], decoders=self._skip
      )
    except Exception as error:  # the reader of shards raises nearly anything
      reason = (str(error) or type(error).__name__).splitlines()[0]
      raise OSError(f"the record cannot be read ({reason})") from error

  def name(self, index: int) -> str:
    """What to call an example in a message; reads nothing."""
    place = f"{self.folder}, {self.split}[{index}]"
    return f"{place} ({self._names[index]})" if self._names else place


def open_dataset(
  folder: str | Path,
  *,
  split: str = "",
  feature: str = "",
  partners: bool = False,
) -> Source:
  """The images of a directory of tensorflow-datasets.

  Args:
    folder: holds `dataset_info.json`, `features.json` and array_record files.
    split: which examples; "" takes the only split, or `train`.
    feature: which image feature; "" takes the only one, or `image`.
    partners: each image with the one in the feature `source`.

  Raises:
    DataError: the directory has something else, is damaged, or is no data set.
  """
  check_shards(folder)
  info = _info(folder)
  splits = list(info.splits)
  split = split or _choose(splits, "train", f"{folder} has the splits", "split")
  found = [n for n, f in info.features.items() if _is_image(f)]
  if not found:
    names = ", ".join(info.features)
    raise DataError(f"{folder} has no image feature (it has {names}).")
  several = f"{folder} has the image features"
  chosen = feature or _choose(found, "image", several, "feature")
  wanted = [chosen, PARTNER] if partners else [chosen]
  for name in wanted:
    if name not in found:
      raise DataError(
        f"{folder} has no image feature {name}; it has {', '.join(found)}."
      )
  records = Records(folder, split, wanted)
  images = DatasetSource(records, chosen)
  if not partners:
    return images
  return Paired(images, DatasetSource(records, PARTNER))


def summary(folder: str | Path) -> dict[str, Any]:
  """Numbers of examples by split, bytes, and shapes of the image features.

  Raises:
    DataError: it cannot be read.
  """
  info = _info(folder)
  return {
    "images": {name: s.num_examples for name, s in info.splits.items()},
    "bytes": sum(split.num_bytes for split in info.splits.values()),
    "features": {
      name: list(feature.shape)
      for name, feature in info.features.items()
      if _is_image(feature)
    },
  }


def _info(folder: str | Path) -> Any:
  import tensorflow_datasets as tfds

  try:
    info = tfds.builder_from_directory(str(folder)).info
  except Exception as error:  # as above
    reason = str(error).splitlines()[0]
    raise DataError(f"{folder} is no readable data set ({reason}).") from error
  kind = info.file_format.value if info.file_format else "an unknown format"
  if kind != FORMAT:
    raise DataError(
      f"{folder} is stored as {kind}, which needs TensorFlow; prepare the data "
      f"set again with file_format={FORMAT!r}."
    )
  return info


def _is_image(feature: Any) -> bool:
  import tensorflow_datasets as tfds

  return isinstance(feature, tfds.features.Image)


def _choose(names: Sequence[str], usual: str, what: str, field: str) -> str:
  if len(names) == 1 or usual in names:
    return usual if usual in names else names[0]
  raise DataError(f"{what} {', '.join(names)}; choose one by data.{field}.")


def check_shards(folder: str | Path) -> None:
  """Compares the sizes of the shards with the manifest, if there is one.

  Raises:
    DataError: names a shard that is missing or of another size.
  """
  manifest = read_manifest(folder)
  for shard in manifest["shards"] if manifest else ():
    path = Path(folder) / shard["file"]
    size = path.stat().st_size if path.is_file() else None
    if size != shard["bytes"]:
      told = "is missing" if size is None else f"has {size} bytes"
      raise DataError(
        f"{path} {told}, and should have {shard['bytes']} bytes; copy the "
        "data set again, or build it anew."
      )


def is_verified(source: Source, labels: int = 0) -> bool:
  """Whether `e4e data build` has decoded every image of a source already.

  Args:
    source: any source.
    labels: the partners have to be maps of so many classes; 0: anything.
  """
  if isinstance(source, Subset):
    return is_verified(source.source, labels)
  images = source.targets if isinstance(source, Paired) else source
  if not isinstance(images, DatasetSource):
    return False
  manifest = read_manifest(images.records.folder)
  if manifest is None:
    return False
  return not labels or 0 < manifest["arguments"]["labels"] <= labels


def _names(folder: Path, n: int) -> list[str]:
  """Names of the files that the examples of a whole split were made of."""
  path = folder / FILES
  if not path.is_file():
    return []
  with path.open() as lines:
    names = [json.loads(line)["name"] for line in lines]
  return names if len(names) == n else []
