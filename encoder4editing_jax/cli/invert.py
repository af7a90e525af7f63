"""`e4e invert`: pictures to codes, and the pictures of those codes."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from encoder4editing_jax.cli.fitting import (
  TUNED,
  check_fitting,
  open_distance,
  optimised,
  write_tuned,
)
from encoder4editing_jax.cli.parsing import PLAIN, parse
from encoder4editing_jax.cli.progress import Pace
from encoder4editing_jax.cli.results import Results, places, report
from encoder4editing_jax.config import ConfigError
from encoder4editing_jax.config_optim import OPTIMISE_LR, TUNE_LR

Inputs = Annotated[
  tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="FILES")
]
Text = Annotated[str, tyro.conf.arg(metavar="FILE")]
FACES = ("face0", "face1", "face2", "face3")  # drawn where none are given


@dataclass(frozen=True)
class InvertArguments:
  """Turn pictures into codes, and paint what the codes say.

  Writes one PNG for each picture and latents.npz with all codes; with --tune,
  for each picture its generator and its code. Exit status 1 if a picture could
  not be read; the others are done.

  Example: e4e invert photos --model e4e_ffhq.safetensors --out inverted
  """

  inputs: Inputs = ()
  """Files, folders (searched recursively) or patterns such as 'a/*.jpg'."""

  out: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
  """Folder for the results; it is made."""

  model: Text = ""
  """An inverter: .safetensors, or a published checkpoint."""

  demo: bool = False
  """Use the inverter of drawn faces and, without files, four such faces."""

  iterations: int = 1
  """ReStyle steps; other encoders take one."""

  start: Text = ""
  """Another inverter, whose codes a ReStyle encoder goes on from."""

  optimise: Annotated[int, tyro.conf.arg(metavar="STEPS")] = 0
  """Steps of Adam on the codes after the encoder."""

  optimise_lr: float = OPTIMISE_LR
  """Learning rate of these steps."""

  tune: Annotated[int, tyro.conf.arg(metavar="STEPS")] = 0
  """Then steps of Adam on the generator, another for each picture (pivotal
  tuning); published are 350."""

  tune_lr: float = TUNE_LR
  """Learning rate of these steps."""

  weights: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
  """The folder of networks that `e4e weights` fills, for LPIPS in both;
  without it L2 alone."""

  lpips_net: Literal["alex", "vgg", "squeeze"] = "alex"
  """Network of LPIPS."""

  batch: int = 8
  """Pictures at a time."""

  overwrite: bool = False
  """Replace files that are there."""

  json: bool = False
  """Print one JSON object."""


def find(inputs: Sequence[str]) -> list[str]:
  """The files that are meant; what is not there is an error.

  Raises:
    ConfigError, ValueError: nothing is meant, or it is not there.
  """
  from encoder4editing_jax.data.sources import FolderSource

  found: list[str] = []
  for text in inputs:
    path = Path(text)
    if path.is_dir():
      found += map(str, FolderSource(path).paths)
    elif path.exists():
      found.append(text)
    elif matches := sorted(glob.glob(text, recursive=True)):
      found += matches
    else:
      raise ConfigError(f"{text} is not there; check the path.")
  return list(dict.fromkeys(found))


def check(asked: Any, what: str = "a folder for the results") -> None:
  """Raises ConfigError unless there is one model and a place to write to."""
  if bool(asked.model) == asked.demo:
    raise ConfigError("give --model FILE or --demo, one of them.")
  if not asked.out:
    raise ConfigError(f"--out is missing; name {what}.")


def invert_command(argv: Sequence[str]) -> int:
  """`e4e invert`: 0, or 1 if a picture could not be read.

  Raises:
    ConfigError, OSError, ValueError: wrong flags or files.
  """
  asked = parse(InvertArguments, argv, prog="e4e invert", config=PLAIN)
  check(asked)
  check_fitting(asked)
  if not asked.inputs and not asked.demo:
    raise ConfigError("there is nothing to invert; give files or folders.")
  if asked.batch < 1:
    raise ConfigError("--batch takes 1 or more.")
  found = find(asked.inputs)
  names = found or FACES
  kinds = {"endings": TUNED, "also": ()} if asked.tune else {}
  paths = places(asked.out, names, asked.overwrite, found, **kinds)
  return _work(asked, found, dict(zip(names, paths, strict=True)))


def _work(asked: Any, found: list[str], paths: dict[str, Path]) -> int:
  """Opens, inverts and writes, batch by batch; the exit status."""
  import numpy as np

  from encoder4editing_jax import inference

  net = open_inverter(asked)
  generator, distance = net.generator, open_distance(asked)
  empty = None
  if not asked.tune:
    digest = inference.fingerprint(generator)
    empty = inference.Latents((), np.zeros(0), None, digest, asked.batch)
  failed: dict[str, str] = {}
  with Pace(len(paths), asked.json) as pace, Results(asked.out, empty) as out:
    for part in _inverted(asked, net, found):
      failed |= part.failed
      pace.add(0, len(part.failed))
      if not part.names:
        continue
      here = [paths[name] for name in part.names]
      w_plus = optimised(asked, generator, distance, part)
      if asked.tune:
        both = part.images, w_plus
        write_tuned(asked, generator, distance, out, pace, here, *both)
        continue
      images = inference.paint(generator, w_plus, batch=asked.batch)
      out.add(here, w_plus, images)
      pace.add(len(here))
  what = "codes and generators" if asked.tune else "codes"
  return report(asked, out, pace, failed, what)


def open_inverter(asked: Any) -> Any:
  """The `Inverter` of --model, or that of drawn faces with --demo.

  Raises:
    ConfigError: the file holds something else.
    OSError, ValueError: it cannot be opened.
  """
  from encoder4editing_jax import faceworld
  from encoder4editing_jax.converters.loading import load
  from encoder4editing_jax.models.inverter import Inverter

  if asked.demo:
    return faceworld.load_inverter()
  net = load(asked.model)
  if not isinstance(net, Inverter):
    raise ConfigError(
      f"{asked.model} is a {type(net).__name__}; an encoder with its "
      "generator (Inverter) is needed."
    )
  return net


def _inverted(asked: Any, net: Any, found: list[str]) -> Iterator[Any]:
  """Batches of files; or the drawn faces."""
  import numpy as np

  from encoder4editing_jax import faceworld, inference
  from encoder4editing_jax.converters.loading import load

  start = load(asked.start) if asked.start else None
  options = {"batch": asked.batch, "start": start}
  if found:
    yield from inference.invert_files(net, found, asked.iterations, **options)
    return
  faces = np.asarray(faceworld.sample(seed=7, n=len(FACES))[0])
  w_plus = inference.invert(net, faces, asked.iterations, **options)
  yield inference.Inverted(FACES, faces, w_plus, {})
