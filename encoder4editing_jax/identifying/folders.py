"""What a folder is."""

from pathlib import Path
from typing import Any

from encoder4editing_jax import runs, weights_folder
from encoder4editing_jax.data import datasets, describing
from encoder4editing_jax.data.sources import DataError
from encoder4editing_jax.identifying.found import PICTURE, Found
from encoder4editing_jax.training.checkpoint import CONFIG, FOLDER


def look(path: Path) -> Found:
  """What a folder is.

  Raises:
    OSError, ValueError: it is damaged, or holds nothing that is known.
  """
  if (path / CONFIG).is_file():
    return _run(path)
  if datasets.is_dataset(path):
    return _dataset(path)
  for told in (_checkpoints, _networks, _programs, _pictures):
    if found := told(path):
      return found
  inside = [p.name for p in path.iterdir() if p.is_dir()]
  raise ValueError(
    f"{path} is a folder of nothing that a command takes: no pictures, data "
    f"set, run or networks{' (but other folders)' if inside else ''}."
  )


def _run(path: Path) -> Found:
  run = runs.read_run(path)
  whole = run.config["run"]["steps"]
  what = f"a training run ({runs.essentials(run.config)}), {run.state}, "
  what += f"step {run.step} of {whole}"
  facts = {"state": run.state, "step": run.step, "steps": whole}
  commands = ("e4e runs list FILE", "e4e runs plot FILE --out curves.png")
  return Found(
    "run",
    what,
    facts,
    (*commands, "e4e runs export FILE --out NAME.pt --to torch"),
  )


def _dataset(path: Path) -> Found:
  held = describing.describe(str(path))
  n = sum(held["images"].values())
  facts = {k: held[k] for k in ("images", "bytes", "features")}
  what = f"a data set ({held['kind']}), {n} images"
  train = "e4e train --config CARD --workdir DIR --data.train FILE"
  return Found("data set", what, facts, (train, "e4e data info FILE"))


def _checkpoints(path: Path) -> Found | None:
  """The folder of a run's checkpoints, or one of them."""
  above, what = path.parent, f"a checkpoint, of step {path.name},"
  if path.name == FOLDER and (above / CONFIG).is_file():
    steps = sorted(int(p.name) for p in path.iterdir() if p.name.isdecimal())
    what = f"checkpoints of steps {', '.join(map(str, steps)) or 'none yet'}"
  elif above.name == FOLDER and (above.parent / CONFIG).is_file():
    above = above.parent
  else:
    return None
  told = f"e4e runs export {above} --out NAME.safetensors"
  if path.name.isdecimal():
    told += f" --step {path.name}"
  return Found("checkpoint", f"{what} of the run {above}", {}, (told,))


def _networks(path: Path) -> Found | None:
  """The folder of networks that losses look through."""
  there = [
    name
    for name in weights_folder.NETWORKS
    if weights_folder.path_of(path, name).is_file()
  ]
  if not there:
    return None
  what = f"a folder of networks for losses and metrics: {', '.join(there)}"
  commands = (
    "e4e weights --dir FILE",
    "e4e evaluate RESULTS TARGETS --metrics lpips --weights FILE",
    "e4e train --config CARD --workdir DIR --weights.dir FILE",
  )
  return Found("networks", what, {"networks": there}, commands)


def _programs(path: Path) -> Found | None:
  """Programs for serving (jax.export)."""
  names = sorted(p.stem for p in path.glob("*.jaxexport"))
  if not names:
    return None
  what = f"programs for serving (jax.export): {', '.join(names)}"
  return Found("programs", what, {"programs": names})


def _pictures(path: Path) -> Found | None:
  """Pictures, perhaps with the codes that they were painted from."""
  try:
    held = describing.describe(str(path))
  except DataError:
    return None
  n = held["images"][""]
  facts: dict[str, Any] = {"images": n, "bytes": held["bytes"]}
  files = "1 file that ends like a picture"
  if n != 1:
    files = f"{n} files that end like pictures"
  what = f"a folder of {files}"
  if (path / "latents.npz").is_file():
    what += ", and the codes of e4e invert (latents.npz)"
  commands = (
    *PICTURE,
    "e4e data build FILE --size 256 --out DIR",
    "e4e train --config CARD --workdir DIR --data.train FILE",
  )
  return Found("pictures", what, facts, commands)
