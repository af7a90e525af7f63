"""Everything that can be wrong with a run, found before it leaves a trace.

`prepare` reads and checks; it writes nothing, not even the folder of the run.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
from flax import nnx

from encoder4editing_jax import weights, weights_folder
from encoder4editing_jax.config import FACEWORLD, Config, ConfigError
from encoder4editing_jax.config_rules import NEEDS_SOURCE
from encoder4editing_jax.data import (
  checking,
  datasets,
  opening,
  pairs,
  sources,
)
from encoder4editing_jax.data.tasks import task_of
from encoder4editing_jax.models.arcface import ArcFace
from encoder4editing_jax.models.irse import Backbone
from encoder4editing_jax.models.lpips import LPIPS
from encoder4editing_jax.models.moco import MoCo
from encoder4editing_jax.models.resnet import ResNet
from encoder4editing_jax.models.stylegan2 import Generator
from encoder4editing_jax.training.hosts import check_hosts, is_first, wait
from encoder4editing_jax.training.objective import FEATURES
from encoder4editing_jax.training.opening import (
  Opener,
  load_backbone,
  load_generator,
  load_start,
  once,
)
from encoder4editing_jax.training.snapshots import Start

HELD_OUT_SEED = 1_000_003  # rendered with another seed: never trained on


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a run needs besides its config; a source of None is to be drawn."""

  generator: Generator
  train: sources.Source | None
  evaluation: sources.Source | None
  features: Mapping[str, nnx.Module] = dataclasses.field(default_factory=dict)
  """What losses look through, see `objective.FEATURES`."""
  start: Start | None = None
  """What `weights.start_from` names."""
  backbone: Backbone | ResNet | None = None
  """What `weights.backbone` names."""

  @property
  def training(self) -> sources.Source:
    """The training images, after `render_missing`."""
    assert self.train is not None
    return self.train

  def names(self) -> list[list[str]]:
    """The names of all training images, and of those held out."""
    found = (x for x in (self.train, self.evaluation) if x is not None)
    return [[part.name(i) for i in range(len(part))] for part in found]

  def begun(self) -> "Plan":
    """The plan without what is used only once; these arrays are large."""
    return dataclasses.replace(self, start=None, backbone=None)


def prepare(config: Config, open_file: Opener = weights.load) -> Plan:
  """Checks config, devices, networks and data.

  Args:
    config: see `config`.
    open_file: opens the files that the config names, see `loop.run`.

  Raises:
    ConfigError: with one line for each problem.
    sources.DataError: the images cannot be used.
  """
  config.validate()
  _check_devices(config)
  open_file = once(open_file)
  start = load_start(config, open_file)
  generator = load_generator(config, open_file)
  check_sizes(config, generator)
  _check_classes(config)
  features = load_features(config)
  backbone = load_backbone(config, open_file)
  train, evaluation = _open_sources(config)
  return Plan(generator, train, evaluation, features, start, backbone)


def load_features(config: Config) -> dict[str, nnx.Module]:
  """The networks that the losses of a config look through, by short name.

  Raises:
    ConfigError: weights.dir lacks one, or holds a damaged file.
  """
  kinds: dict[str, tuple[str, type]] = {
    "lpips": (f"lpips_{config.loss.lpips_net}", LPIPS),
    "arcface": ("arcface_ir_se50", ArcFace),
    "moco": ("moco", MoCo),
  }
  found: dict[str, nnx.Module] = {}
  for term, net in FEATURES.items():
    weight, (file, kind) = getattr(config.loss, term), kinds[net]
    if not weight or net in found:
      continue
    try:
      found[net] = weights_folder.load(config.weights.dir, file)
      if not isinstance(found[net], kind):
        raise ValueError(
          f"{weights_folder.path_of(config.weights.dir, file)} holds a "
          f"{type(found[net]).__name__}; make it by `e4e weights`."
        )
    except (OSError, ValueError) as error:
      raise ConfigError(
        f"loss.{term} is {weight}: {error} Without it, set loss.{term} to 0."
      ) from error
  return found


def check_sizes(config: Config, generator: Generator) -> None:
  """Raises ConfigError unless encoder, images and generator fit together."""
  name = config.model.generator
  (h, w), (rows, columns) = config.data.size, generator.image_shape
  if h > rows or w > columns:
    raise ConfigError(
      f"data.size is {h} x {w}, but the generator {name} draws {rows} x "
      f"{columns}; set data.size to {rows} {columns} or less (of another "
      "shape, they are compared with the middle of what is drawn)."
    )
  wanted = config.model.n_styles
  if wanted is not None and wanted != generator.n_styles:
    raise ConfigError(
      f"model.n_styles is {wanted}, but the generator {name} of size "
      f"{generator.size} takes {generator.n_styles}; set it to "
      f"{generator.n_styles} or None."
    )
  steps = config.progressive.steps
  if steps and len(steps) != generator.n_styles:
    raise ConfigError(
      f"progressive.steps has {len(steps)} steps, but the generator {name} "
      f"takes {generator.n_styles} styles; give one step for each."
    )


def check_workdir(workdir: Path) -> None:
  """Raises ConfigError unless the folder is there or can be made."""
  if workdir.exists() and not workdir.is_dir():
    raise ConfigError(f"--workdir {workdir} is a file; name a folder.")
  above = next(path for path in (workdir, *workdir.parents) if path.exists())
  if not os.access(above, os.W_OK | os.X_OK):
    raise ConfigError(
      f"--workdir {workdir}: nothing may be written to {above}; name a folder "
      "that you may write to."
    )


def _check_devices(config: Config) -> None:
  check_hosts()
  batch, n = config.run.batch_size, jax.device_count()
  parts = config.run.microbatches
  each = f"{n} devices"
  if parts > 1:
    each = f"{n * parts} ({n} devices, {parts} microbatches)"
  if batch % (n * parts):
    raise ConfigError(
      f"run.batch_size is {batch}, which is not divisible by {each}; set it "
      f"to a multiple of {n * parts}."
    )


def _check_classes(config: Config) -> None:
  """Raises ConfigError if faceworld's label maps have too many classes."""
  data = config.data
  if data.task != "segmentation" or FACEWORLD not in (data.train, data.eval):
    return
  from encoder4editing_jax import faceworld

  if data.labels < len(faceworld.LABELS):
    raise ConfigError(
      f"data.labels is {data.labels}, but faceworld draws "
      f"{len(faceworld.LABELS)} classes; set it to {len(faceworld.LABELS)} or "
      "more."
    )


def _open_sources(
  config: Config,
) -> tuple[sources.Source | None, sources.Source | None]:
  data = config.data
  train = None
  if data.train != FACEWORLD:
    train = _open(data.train, data.source, data.split, config)
  if data.eval and data.eval != FACEWORLD and data.eval_images:
    whole = _open(data.eval, data.eval_source, data.eval_split, config)
    return train, sources.spread(whole, data.eval_images)
  if train is not None and not data.eval:
    return sources.hold_out(train, data.eval_images)
  return train, None


def _open(
  place: str, partners: str, split: str, config: Config
) -> sources.Source:
  """The usable images of a place, with their partners if these have one."""
  data, task = config.data, task_of(config.data)
  source = opening.open_source(
    place, partners, split=split, feature=data.feature
  )
  if datasets.is_verified(source, task.ids):
    return source
  besides = f" and their sources in {partners}" if partners else ""
  print(f"checking {len(source)} images in {place}{besides}", flush=True)
  return checking.usable(
    source,
    skip=data.on_unreadable == "skip",
    workers=data.workers,
    max_megapixels=data.max_megapixels,
    plain=data.decode == "plain",
    read_timeout=data.read_timeout,
    open_partner=task.open,
  )


def render_missing(plan: Plan, config: Config, workdir: Path) -> Plan:
  """Draws the faces that a plan leaves open, under `workdir/data`.

  With them what they are to be painted from, for tasks that need it.

  Faces that were drawn before are used again.
  """
  train, evaluation = plan.train, plan.evaluation
  if train is None:
    train = _render(config, workdir, config.data.rendered_images, 0)
  wants_faces = config.data.train == FACEWORLD or config.data.eval == FACEWORLD
  if evaluation is None and wants_faces and config.data.eval_images:
    n = config.data.eval_images
    evaluation = _render(config, workdir, n, HELD_OUT_SEED)
  return dataclasses.replace(plan, train=train, evaluation=evaluation)


def _render(
  config: Config, workdir: Path, n: int, offset: int
) -> sources.Source:
  from encoder4editing_jax import faceworld

  seed, size = config.run.seed + offset, max(config.data.size)
  name = f"{size}-seed{seed}-{n}"
  options = {"n": n, "seed": seed, "size": size}
  images = _drawn(
    workdir / "data" / f"faceworld-{name}",
    lambda folder: faceworld.write_images(folder, **options),
  )
  task = config.data.task
  if task not in NEEDS_SOURCE:
    return images
  partners = _drawn(
    workdir / "data" / f"faceworld-{task}-{name}",
    lambda folder: faceworld.write_sources(folder, task, **options),
  )
  return pairs.pair(images, partners)


def _drawn(
  folder: Path, write: Callable[[Path], list[Path]]
) -> sources.FolderSource:
  """The folder, written now unless it was before."""
  if is_first() and not folder.exists():
    print(f"drawing faces into {folder}", flush=True)
    unfinished = folder.with_name(folder.name + ".unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    write(unfinished)
    unfinished.rename(folder)
  wait(f"drawn {folder.name}")
  return sources.FolderSource(folder)
