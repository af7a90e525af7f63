"""What a file is."""

import json
import shlex
import warnings
import zipfile
from pathlib import Path
from typing import Any

from PIL import Image

from encoder4editing_jax import inference, weights
from encoder4editing_jax.data import images
from encoder4editing_jax.identifying import checkpoints
from encoder4editing_jax.identifying.found import (
  GENERATOR,
  LATENTS,
  MODEL,
  PICTURE,
  Found,
)
from encoder4editing_jax.metrics import fid


def look(path: Path) -> Found:
  """What a file is.

  Raises:
    OSError, ValueError: it is damaged, or unknown.
  """
  if not path.is_file():
    raise ValueError(f"{path} is neither a file nor a folder.")
  with path.open("rb") as file:
    start = file.read(512)
  if not start:
    raise ValueError(f"{path}: the file is empty.")
  header = weights.read_header(path)
  if isinstance(header, dict) and "directions" in header:
    return checkpoints.edits(path)
  if weights.is_native(path):
    return _network(path)
  for told in (_picture, _clip, _text, _archive, _records):
    if found := told(path, start):
      return found
  return checkpoints.look(path)


def _network(path: Path) -> Found:
  facts = weights.describe(path)
  name = facts["module"]
  commands = {"Inverter": MODEL, "Generator": GENERATOR}.get(name, ())
  what = f"a network of this library ({name})"
  return Found("network", what, facts, commands)


def _picture(path: Path, _: bytes) -> Found | None:
  """A picture, or a GIF or WebP that moves."""
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # only the header is read
      with Image.open(path, formats=images.FORMATS) as image:
        kind, mode = image.format or "", image.mode
        frames = getattr(image, "n_frames", 1)
  except Image.DecompressionBombError as error:
    raise ValueError(f"{path}: {error}") from None
  except (OSError, SyntaxError, ValueError, TypeError):
    return None
  height, width = images.shown_size(path)
  facts = {"format": kind, "mode": mode, "height": height, "width": width}
  size = f"{width} x {height}"
  if frames > 1:
    facts |= {"frames": frames}
    what = f"a moving picture ({kind}), {frames} frames of {size}"
    return Found("clip", f"{what}; commands take the first", facts, PICTURE)
  return Found("picture", f"a picture ({kind}), {size}", facts, PICTURE)


def _clip(path: Path, start: bytes) -> Found | None:
  if start[4:8] != b"ftyp":
    return None
  if kind := images.foreign(start):
    raise ValueError(
      f"{path}: no command opens {kind}; save it as JPEG or PNG."
    )
  return Found("clip", "a clip (MP4 or the like); no command takes it", {})


def _text(path: Path, start: bytes) -> Found | None:
  """JSON, JSON lines, tables and run cards that the commands write or read."""
  try:
    start.decode()
  except UnicodeDecodeError as error:
    if error.start < len(start) - 4:  # not a letter that is cut through
      return None
  try:
    text = path.read_text()
  except UnicodeDecodeError:
    return None
  if path.suffix == ".py" and "get_config" in text:
    told = "e4e train --config FILE --workdir DIR"
    return Found("run card", "a run card", {}, (told,))
  first = text.splitlines()[0]
  if first.startswith("name,") and first.endswith(",problem"):
    n = len(text.splitlines()) - 1
    what = f"numbers of e4e evaluate for each picture, {n} rows"
    return Found("per_image", what, {"rows": n})
  if path.suffix == ".jsonl":
    return _lines(text)
  try:
    held = json.loads(text)
  except ValueError:
    return None
  return _json(held) if isinstance(held, dict) else None


def _lines(text: str) -> Found | None:
  entries = []
  for line in text.splitlines():
    try:
      entries.append(json.loads(line))
    except ValueError:  # the last may be half written
      continue
  if (
    not entries or not isinstance(entries[0], dict) or "step" not in entries[0]
  ):
    return None
  last = entries[-1]["step"]
  what = f"metrics of a training run, {len(entries)} entries to step {last}"
  told = "e4e runs plot DIR --out curves.png"
  facts = {"entries": len(entries), "last_step": last}
  return Found("metrics of a run", what, facts, (told,))


def _json(held: dict[str, Any]) -> Found | None:
  if {"run", "model", "data", "optim"} <= set(held):
    what = "the settings of a training run, in its folder"
    return Found("config", what, {}, ("e4e runs list DIR",))
  if {"version", "images", "metrics"} <= set(held):
    names = ", ".join(held["metrics"])
    n = held["images"]
    over = f"{n} picture{'s' * (n != 1)}"
    what = f"numbers of e4e evaluate over {over}: {names}"
    return Found("evaluation", what, {"images": held["images"]})
  if {"step", "psnr"} <= set(held):
    what = f"the last evaluation of a training run, of step {held['step']}"
    return Found("eval", what, {"step": held["step"]}, ("e4e runs list DIR",))
  if {"step", "score"} <= set(held):
    what = f"a record of a run's best evaluation, of step {held['step']}"
    told = "e4e runs export DIR --best --out NAME.safetensors"
    return Found("best", what, {"step": held["step"]}, (told,))
  return None


def _archive(path: Path, start: bytes) -> Found | None:
  """An .npz: codes, statistics or directions."""
  if start[:4] != b"PK\x03\x04":
    return None
  try:
    with zipfile.ZipFile(path) as file:
      names = file.namelist()
  except (OSError, zipfile.BadZipFile):
    return None
  if "fingerprint.npy" in names:
    latents = inference.load_latents(path)
    n, (styles, dim) = len(latents.names), latents.w_plus.shape[1:]
    facts = {"codes": n, "n_styles": styles, "style_dim": dim}
    facts |= {"generator": latents.fingerprint}
    what = f"codes of {n} picture{'s' * (n != 1)}, each {styles} x {dim}"
    return Found("latents", what, facts, LATENTS)
  if {"mu.npy", "sigma.npy"} <= set(names):
    n = fid.load_statistics(path).mean.size
    told = "e4e evaluate RESULTS TARGETS --metrics fid --fid_targets FILE"
    what = f"statistics of FID, of {n} features"
    return Found("fid", what, {"features": n}, (f"{told} --weights DIR",))
  return None


def _records(path: Path, _: bytes) -> Found | None:
  """A part of a data set, of a program, or a picture that cannot be opened."""
  if ".array_record" in path.name or ".tfrecord" in path.name:
    told = f"e4e data info {shlex.quote(str(path.parent))}"
    what = "a shard of a data set, which is its whole folder"
    return Found("shard", what, {}, (told,))
  if path.suffix == ".jaxexport":
    what = "a program of jax.export, with the weights of its folder"
    return Found("program", what, {})
  if path.suffix.lower() in images.EXTENSIONS:
    try:
      images.open_rgb(path.read_bytes())
    except images.UnreadableImage as error:
      raise ValueError(f"{path}: no picture: {error}.") from None
  return None
