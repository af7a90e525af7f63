"""One shard of a prepared data set: files in, array_record out.

This is what the processes of a build do; it imports no JAX.
"""

import dataclasses
import hashlib
import io
import json
import multiprocessing
import os
import threading
from multiprocessing import connection
from pathlib import Path
from typing import Any, Literal, NamedTuple

from PIL import Image

from encoder4editing_jax.data import images
from encoder4editing_jax.data.checking import same_shape
from encoder4editing_jax.data.readers import Watch, in_threads
from encoder4editing_jax.data.sources import DataError
from encoder4editing_jax.files import replace_text, replacing


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What makes the content of a prepared data set; `command` explains."""

  folder: str
  source: str = ""
  size: tuple[int, int] = (256, 256)
  labels: int = 0
  grey: bool = False
  format: Literal["png", "jpeg"] = "png"
  quality: int = 95
  decode: Literal["shown", "plain"] = "shown"
  max_megapixels: float = 100.0
  shard: int = 1024


class Files(NamedTuple):
  """One example to be: an image, perhaps its partner, and their name."""

  name: str
  image: Path
  partner: Path | None = None


class Read:
  """The files as a source: images at even numbers, partners at odd ones."""

  def __init__(self, files: list[Files]):
    self.files = files

  def __len__(self) -> int:
    return 2 * len(self.files)

  def path(self, index: int) -> Path:
    """The file of a number."""
    found = self.files[index // 2]
    path = found.partner if index % 2 else found.image
    assert path is not None
    return path

  def __getitem__(self, index: int) -> bytes:
    return self.path(index).read_bytes()

  def name(self, index: int) -> str:
    """The path of the file."""
    return str(self.path(index))


def features(recipe: Recipe) -> Any:
  """The features of the examples, as tensorflow-datasets has them."""
  import tensorflow_datasets as tfds

  def image(channels: int, encoding: str) -> Any:
    shape = (*recipe.size, channels)
    return tfds.features.Image(shape=shape, encoding_format=encoding)

  found = {
    "image": image(3, recipe.format),
    "name": tfds.features.Text(doc="path of the file below its folder"),
  }
  if recipe.source:
    channels = 1 if recipe.labels or recipe.grey else 3
    kind = "png" if recipe.labels else recipe.format
    found["source"] = image(channels, kind)
  return tfds.features.FeaturesDict(found)


def write_shard(
  recipe: Recipe, files: list[Files], path: Path, read_timeout: float
) -> dict[str, Any]:
  """Writes a shard, and beside it `path.json` with what this returns.

  Returns:
    `images`, `bytes` and `sha256` of the shard; `files`, one entry for each
    example; `rejects`, each with `name` and `reason`.

  Raises:
    DataError: a file hangs or has vanished; OSError: the disk is full.
  """
  from array_record.python.array_record_module import ArrayRecordWriter
  from tensorflow_datasets.core.example_serializer import ExampleSerializer

  spec, read, watch = features(recipe), Read(files), Watch(read_timeout)
  serializer = ExampleSerializer(spec.get_serialized_info())
  found: dict[str, Any] = {"images": 0, "files": [], "rejects": []}
  with replacing(path) as unfinished:
    # Pictures are compressed already.
    writer = ArrayRecordWriter(str(unfinished), "group_size:1,uncompressed")
    examples = in_threads(
      lambda i: _example(recipe, read, i, watch), range(len(files)), 1, watch
    )
    for content, told in examples:
      if content is None:
        found["rejects"].append(told)
        continue
      found["files"].append(told)
      writer.write(_serialized(spec, serializer, content))
    _close(writer, unfinished, len(found["files"]))
    found["bytes"], found["sha256"] = measure(unfinished)
  found["images"] = len(found["files"])
  replace_text(f"{path}.json", json.dumps(found))
  return found


def _serialized(spec: Any, serializer: Any, content: dict[str, bytes]) -> bytes:
  """A tf.train.Example whose entries are in the same order in every process.

  They are a map, which protobuf otherwise writes in the order of its hashes.
  """
  example = serializer.get_tf_example(spec.encode_example(content))
  return example.SerializeToString(deterministic=True)


def _close(writer: Any, path: Path, n: int) -> None:
  """Ends a shard, and counts what has arrived: a full disk is not told."""
  from array_record.python.array_record_module import ArrayRecordReader

  try:
    writer.close()
    reader = ArrayRecordReader(str(path))
    arrived = reader.num_records()
    reader.close()
  except Exception as error:  # the writer raises nearly anything
    reason = (str(error) or type(error).__name__).splitlines()[0]
    raise OSError(
      f"{path.parent} takes no more data ({reason}); make room, and run the "
      "same command again."
    ) from error
  if arrived != n:
    raise OSError(
      f"{path.parent} has taken {arrived} of {n} images; make room, and run "
      "the same command again."
    )


def measure(path: Path) -> tuple[int, str]:
  """Size and SHA-256 of a file."""
  with path.open("rb") as file:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
  return path.stat().st_size, digest


def _example(
  recipe: Recipe, read: Read, i: int, watch: Watch
) -> tuple[dict[str, bytes] | None, dict[str, Any]]:
  """The content of an example and what to note of it; no content: a reject."""
  name = read.files[i].name
  content = {"name": os.fsencode(name)}
  told: dict[str, Any] = {"name": name}
  shapes = []
  place = 2 * i
  try:
    for key in ("image", "source") if recipe.source else ("image",):
      data = watch.read(read, place)
      picture = _open(recipe, key, data)
      shapes.append(picture.size)
      content[key] = _encoded(recipe, key, picture)
      told |= _noted(key, data)
      place += 1
    if len(shapes) == 2 and not same_shape(*shapes):
      (w, h), (columns, rows) = shapes
      place -= 1
      raise images.UnreadableImage(
        f"{columns} x {rows} pixels have another shape than those of its "
        f"image, {w} x {h}"
      )
  except FileNotFoundError as error:
    if read.path(place).is_symlink():
      return None, {"name": read.name(place), "reason": "a link to nothing"}
    raise DataError(
      f"{read.name(place)} has vanished; put it back, and run the same command "
      "again."
    ) from error
  except (images.UnreadableImage, OSError) as error:
    reason = getattr(error, "strerror", None) or str(error)
    return None, {"name": read.name(place), "reason": reason}
  return content, told


def _open(recipe: Recipe, key: str, data: bytes) -> Image.Image:
  if key == "source" and recipe.labels:
    return images.open_labels(data, recipe.labels, recipe.max_megapixels)
  grey = key == "source" and recipe.grey
  opened = images.open_grey if grey else images.open_rgb
  return opened(data, recipe.max_megapixels, recipe.decode == "plain")


def _encoded(recipe: Recipe, key: str, picture: Image.Image) -> bytes:
  ids = key == "source" and bool(recipe.labels)
  pixels = images.fit(picture, recipe.size, interpolate=not ids)
  small = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
  buffer = io.BytesIO()
  if recipe.format == "png" or ids:
    small.save(buffer, "PNG")
  else:  # no subsampling: colours keep their place
    small.save(buffer, "JPEG", quality=recipe.quality, subsampling=0)
  return buffer.getvalue()


def _noted(key: str, data: bytes) -> dict[str, Any]:
  prefix = "" if key == "image" else f"{key}_"
  digest = hashlib.sha256(data).hexdigest()
  return {f"{prefix}bytes": len(data), f"{prefix}sha256": digest}


def follow_parent() -> None:
  """Ends this process when the one that started it is killed."""
  parent = multiprocessing.parent_process()
  if parent is None:
    return
  sentinel = parent.sentinel

  def wait() -> None:
    connection.wait([sentinel])
    os._exit(1)

  threading.Thread(target=wait, daemon=True).start()
