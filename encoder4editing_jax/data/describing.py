"""What a data set holds: numbers for people and programs, and a picture."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from encoder4editing_jax.data import datasets, images
from encoder4editing_jax.data.manifests import read_manifest
from encoder4editing_jax.data.opening import open_source
from encoder4editing_jax.data.shards import measure
from encoder4editing_jax.data.sources import (
  DataError,
  FolderSource,
  Source,
  partners_of,
  spread,
)
from encoder4editing_jax.data.tasks import LABEL_COLOURS
from encoder4editing_jax.files import replacing

SIDE = 128  # of the larger side of an image on the sheet, in pixels
MOST = 64  # images on the sheet


def describe(folder: str, *, verify: bool = False) -> dict[str, Any]:
  """Kind, numbers of images and bytes of a data set or a folder.

  Args:
    folder: what `opening.open_source` opens.
    verify: compare the digests of the shards with the manifest.

  Returns:
    `kind` is "prepared" (then with the manifest's `arguments`, `rejects` and
    more), "tensorflow-datasets" or "folder"; `images` by split; `bytes`;
    `features`, the shapes of image features.

  Raises:
    DataError: nothing of the kind, or damaged.
  """
  if not datasets.is_dataset(folder):
    paths = FolderSource(folder).paths
    size = sum(path.stat().st_size for path in paths if path.exists())
    return {
      "kind": "folder",
      "place": folder,
      "images": {"": len(paths)},
      "bytes": size,
    }
  datasets.check_shards(folder)
  manifest = read_manifest(folder)
  if verify:
    _verify(folder, manifest)
  found = {"place": folder} | datasets.summary(folder)
  if manifest is None:
    return {"kind": "tensorflow-datasets"} | found
  kept = ("arguments", "inputs", "rejects", "versions")
  return (
    {"kind": "prepared"}
    | found
    | {"shards": len(manifest["shards"]), "verified": verify}
    | {name: manifest[name] for name in kept}
  )


def _verify(folder: str, manifest: dict[str, Any] | None) -> None:
  if manifest is None:
    raise DataError(
      f"{folder} has no manifest with digests; only what e4e data build made "
      "can be verified."
    )
  for shard in manifest["shards"]:
    path = Path(folder) / shard["file"]
    if measure(path)[1] != shard["sha256"]:
      raise DataError(
        f"{path} is not what was built; copy it again, or build it anew."
      )


def text(found: dict[str, Any]) -> str:
  """What `describe` returns, for people."""
  lines = [f"{found['place']}: {found['kind']}, {found['bytes'] / 1e6:.1f} MB"]
  for split, n in found["images"].items():
    lines.append(f"  {split or 'images':10}  {n:,}")
  for name, shape in found.get("features", {}).items():
    sides = " x ".join("any" if n is None else str(n) for n in shape)
    lines.append(f"  {name:10}  {sides}")
  for name, value in found.get("arguments", {}).items():
    shown = " x ".join(map(str, value)) if isinstance(value, list) else value
    lines.append(f"  {name} = {shown}")
  rejects = found.get("rejects", [])
  lines += [f"  left out: {r['name']}: {r['reason']}" for r in rejects]
  if found.get("verified"):
    lines.append("  every shard is what was built")
  if "sheet" in found:
    lines.append(f"  see {found['sheet']}")
    missing = found["not_shown"].items()
    lines += [f"  not on it: {name}: {reason}" for name, reason in missing]
  return "\n".join(lines)


def write_sheet(
  folder: str, path: str, *, split: str = "", feature: str = ""
) -> dict[str, str]:
  """Writes a PNG of images that are evenly spread over a data set.

  Partners stand to the right of their images; class ids are coloured.

  Returns:
    The images among these that are missing on it, and why.

  Raises:
    DataError: the data set, or all of these images, cannot be read.
  """
  paired = _has_partners(folder)
  partners = folder if paired else ""
  source = open_source(folder, partners, split=split, feature=feature)
  manifest = read_manifest(folder)
  ids = bool(manifest and manifest["arguments"]["labels"])
  chosen = spread(source, MOST)
  tiles, failed = [], {}
  for i in range(len(chosen)):
    try:
      tiles.append(_tile(chosen, i, ids))
    except (images.UnreadableImage, OSError) as error:
      reason = getattr(error, "strerror", None) or str(error)
      failed[chosen.name(i)] = reason
  if not tiles:
    name, reason = next(iter(failed.items()))
    raise DataError(f"{name} cannot be shown: {reason}.")
  columns = math.ceil(math.sqrt(len(tiles)))
  h = max(tile.height for tile in tiles)
  w = max(tile.width for tile in tiles)
  rows = -(-len(tiles) // columns)
  sheet = Image.new("RGB", (columns * w, rows * h), "white")
  for i, tile in enumerate(tiles):
    sheet.paste(tile, (i % columns * w, i // columns * h))
  with replacing(path) as unfinished:
    sheet.save(unfinished, "PNG")
  return failed


def _has_partners(folder: str) -> bool:
  if not datasets.is_dataset(folder):
    return False
  shapes = datasets.summary(folder)["features"]
  return {"image", datasets.PARTNER} <= set(shapes)


def _tile(source: Source, i: int, ids: bool) -> Image.Image:
  """An image, and to its right its partner."""
  partners = partners_of(source)
  parts = [_thumbnail(source, i, False)]
  if partners is not None:
    parts.append(_thumbnail(partners, i, ids))
  size = (sum(part.width for part in parts), parts[0].height)
  tile, left = Image.new("RGB", size, "white"), 0
  for part in parts:
    tile.paste(part, (left, 0))
    left += part.width
  return tile


def _thumbnail(source: Source, i: int, ids: bool) -> Image.Image:
  if not ids:
    picture = images.open_rgb(source[i])
    picture.thumbnail((SIDE, SIDE))
    return picture
  picture = images.open_labels(source[i], 256)
  picture.thumbnail((SIDE, SIDE), Image.Resampling.NEAREST)
  colours = np.array(LABEL_COLOURS, np.uint8)
  return Image.fromarray(colours[np.asarray(picture) % len(colours)])
