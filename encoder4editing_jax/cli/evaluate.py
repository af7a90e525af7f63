"""`e4e evaluate`: how near pictures are to what they should be."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from encoder4editing_jax.cli.evaluate_model import (
  Work,
  inverted,
  lec_edit,
  model_facts,
  opened,
)
from encoder4editing_jax.cli.evaluate_report import (
  WRITTEN,
  show,
  summary,
  table,
  write,
)
from encoder4editing_jax.cli.invert import Inputs, Text, find, open_inverter
from encoder4editing_jax.cli.parsing import PLAIN, parse, refuse_replacing
from encoder4editing_jax.cli.progress import Pace
from encoder4editing_jax.config import ConfigError


@dataclass(frozen=True)
class EvaluateArguments:
  """Measure pictures against their targets, paired by name.

  Give RESULTS and TARGETS (files of folders or patterns); or with --model (or
  --demo) the targets alone, which are inverted. What cannot be read or paired
  is named, the rest is measured, and the exit status is 1.

  Example: e4e evaluate inverted photos --size 256 256 --out numbers
  """

  inputs: Inputs = ()
  """RESULTS and TARGETS; targets alone with --model; none with --demo."""

  model: Text = ""
  """An inverter: .safetensors, or a published checkpoint."""

  demo: bool = False
  """The inverter of drawn faces, and eight of these."""

  out: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
  """Folder for metrics.json and per_image.csv; without it none is kept."""

  metrics: str = "l2,psnr,ssim"
  """Of l2, psnr, ssim, ms_ssim, lpips, id, fid, lec; lpips, id and fid need
  --weights, lec needs --model or --demo."""

  weights: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
  """The folder of networks that `e4e weights` fills."""

  size: Annotated[tuple[int, ...], tyro.conf.arg(metavar="H W")] = ()
  """Resize all pictures to this; otherwise they must have one size."""

  lpips_net: Literal["alex", "vgg", "squeeze"] = "alex"
  """Network of LPIPS."""

  id_net: Literal["curricularface_ir101", "arcface_ir_se50"] = (
    "curricularface_ir101"
  )
  """Network of the identity."""

  fid_targets: Text = ""
  """FID: .npz with mu and sigma instead of the targets' own."""

  directions: Text = ""
  """LEC: a file of `e4e directions`, or a published one."""

  edit: Annotated[str, tyro.conf.arg(metavar="NAME=STRENGTH[@LAYERS]")] = ""
  """LEC: the edit; by default the first direction, 3 (--demo: smile=1.5)."""

  legacy_batch: int = 0
  """LEC by batches of so many, as published (8); 0 is by picture."""

  truncate: bool = False
  """Cut reconstructions to bytes as the originals do, instead of rounding."""

  iterations: int = 1
  """ReStyle steps; other encoders take one."""

  batch: int = 8
  """Pictures at a time."""

  overwrite: bool = False
  """Replace files that are there."""

  json: bool = False
  """Print one JSON object."""


def evaluate_command(argv: Sequence[str]) -> int:
  """`e4e evaluate`: 0, or 1 if a picture could not be read or paired.

  Raises:
    ConfigError, OSError, ValueError: wrong flags or files.
  """
  asked = parse(EvaluateArguments, argv, prog="e4e evaluate", config=PLAIN)
  names = tuple(filter(None, asked.metrics.split(",")))
  _check(asked, names)
  from encoder4editing_jax import evaluating
  from encoder4editing_jax.metrics import fid
  from encoder4editing_jax.metrics.measures import Wanted

  net = open_inverter(asked) if asked.model or asked.demo else None
  work = _work(asked, net)
  wanted = Wanted(
    *(names, work.size, asked.weights, asked.lpips_net, asked.id_net)
  )
  known = fid.load_statistics(asked.fid_targets) if asked.fid_targets else None
  _check_counts(asked, names, len(work.rows))
  if net is not None:
    work.model = model_facts(asked, net)
    if "lec" in names:
      work.edit = lec_edit(asked, net.generator)
  batches = inverted(asked, net, work) if net else _opened(asked, work)
  with Pace(len(work.rows), asked.json) as pace:
    counted = pace.over(batches, lambda part: len(part.names))
    found = evaluating.evaluate(counted, wanted, asked.batch, known)
  whole = summary(asked, wanted, found, work)
  write(asked, whole, table(found, work.failed))
  show(asked, whole, work.failed, pace)
  return 1 if work.failed else 0


def _check(asked: Any, names: tuple[str, ...]) -> None:
  inverts = bool(asked.model) or asked.demo
  if asked.model and asked.demo:
    raise ConfigError("give --model FILE or --demo, one of them.")
  if not names:
    raise ConfigError("--metrics is empty; name one, as in l2,psnr.")
  if not inverts and len(asked.inputs) != 2:
    raise ConfigError(
      "give RESULTS and TARGETS, two in all (patterns in quotes), or --model "
      "FILE and targets, or --demo."
    )
  if asked.model and not asked.inputs:
    raise ConfigError("there is nothing to invert; give files or folders.")
  if asked.demo and (asked.inputs or asked.size):
    raise ConfigError("--demo draws its own faces; leave out files and --size.")
  if not inverts and (asked.truncate or "lec" in names):
    what = "lec" if "lec" in names else "--truncate"
    raise ConfigError(f"{what} needs --model: files are bytes without codes.")
  if "lec" in names and not (asked.demo or asked.directions):
    raise ConfigError("lec needs an edit; name a file with --directions.")
  if "lec" not in names and (asked.edit or asked.legacy_batch):
    flag = "--edit" if asked.edit else "--legacy_batch"
    raise ConfigError(f"{flag} is for lec; add it to --metrics.")
  if asked.fid_targets and "fid" not in names:
    raise ConfigError("--fid_targets is for fid; add it to --metrics.")
  if len(asked.size) not in (0, 2) or any(n < 1 for n in asked.size):
    raise ConfigError("--size takes height and width, as in --size 256 256.")
  if asked.batch < 1 or asked.iterations < 1 or asked.legacy_batch < 0:
    raise ConfigError(
      "--batch and --iterations take 1 or more, --legacy_batch 0 or more."
    )
  places = [Path(asked.out) / name for name in WRITTEN] if asked.out else []
  refuse_replacing(places, asked.overwrite)


def _check_counts(asked: Any, names: tuple[str, ...], n: int) -> None:
  """Numbers of pictures for which a metric is not defined."""
  if "fid" in names and n < 2:
    raise ConfigError(f"fid needs 2 pictures or more, not {n}.")
  if asked.legacy_batch > n:
    raise ConfigError(
      f"--legacy_batch {asked.legacy_batch} takes as many pictures or more, "
      f"not {n}."
    )


def _work(asked: Any, net: Any) -> Work:
  from encoder4editing_jax import evaluating

  if asked.demo:
    rows = [(f"face{k}", "", "") for k in range(8)]
    return Work(rows, net.encoder.input_shape)
  if net is not None:
    files = find(asked.inputs)
    rows, failed = evaluating.paired(files, files)
    return Work(rows, tuple(asked.size) or net.encoder.input_shape, failed)
  from encoder4editing_jax.data.pictures import name_of

  results, targets = find(asked.inputs[:1]), find(asked.inputs[1:])
  rows, failed = evaluating.paired(results, targets)
  if not rows:
    raise ConfigError(
      f"no picture of {asked.inputs[0]} has the name of one of "
      f"{asked.inputs[1]} ({name_of(results[0])}, {name_of(targets[0])}, "
      "...); names are compared without endings."
    )
  return Work(rows, tuple(asked.size) or _one_size(rows), failed)


def _one_size(rows: Sequence[tuple[str, str, str]]) -> tuple[int, int]:
  """The size of all pictures; those that cannot be read are met later."""
  from PIL.Image import DecompressionBombError

  from encoder4editing_jax.data.images import shown_size

  first: tuple[str, tuple[int, int]] | None = None
  for path in (path for _, *both in rows for path in both):
    try:
      size = shown_size(path)
    except (OSError, ValueError, SyntaxError, DecompressionBombError):
      continue
    first = first or (path, size)
    if size != first[1]:
      raise ConfigError(
        f"{first[0]} is {first[1][0]} x {first[1][1]} and {path} {size[0]} x "
        f"{size[1]} (height x width); --size H W resizes all."
      )
  return first[1] if first else (1, 1)


def _opened(asked: Any, work: Work) -> Iterator[Any]:
  """Batches of two folders."""
  import numpy as np

  from encoder4editing_jax.evaluating import Batch

  sizes = work.size, work.size
  for part in opened(work, sizes, asked.batch):
    names, results, targets = zip(*part, strict=True)
    yield Batch(names, np.stack(results), np.stack(targets))
