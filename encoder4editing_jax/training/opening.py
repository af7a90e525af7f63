"""The files that a run starts from, opened and named when they do not serve."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flax import nnx

from encoder4editing_jax import weights_folder
from encoder4editing_jax.config import FACEWORLD, Config, ConfigError
from encoder4editing_jax.models.arcface import ArcFace
from encoder4editing_jax.models.inverter import Inverter
from encoder4editing_jax.models.irse import Backbone
from encoder4editing_jax.models.resnet import ResNet
from encoder4editing_jax.models.stylegan2 import Generator
from encoder4editing_jax.training.snapshots import Start, TrainingState

Opener = Callable[[str], Any]
"""From a file to its network, or to the `TrainingState` in it."""


def once(open_file: Opener) -> Opener:
  """The same opener, for a run that names one file twice."""
  return functools.cache(open_file)


def load_generator(config: Config, open_file: Opener) -> Generator:
  """The generator of a config, frozen unless it is trained too.

  Raises:
    ConfigError: there is no such file, or it holds something else.
  """
  name = config.model.generator
  if name == FACEWORLD:
    return _load_faceworld(config)
  found = _network(_opened("model.generator", name, open_file))
  if isinstance(found, Inverter):
    found = found.generator
  if not isinstance(found, Generator):
    raise ConfigError(
      f"model.generator: {name} holds no Generator but "
      f"{type(found).__name__}; name the file of a Generator, or of a model "
      "with one."
    )
  return found


def _load_faceworld(config: Config) -> Generator:
  from encoder4editing_jax import faceworld

  if config.run.edit not in faceworld.ATTRIBUTES:
    raise ConfigError(
      f"run.edit is {config.run.edit}, which is no direction of faceworld; "
      f"use one of {', '.join(faceworld.ATTRIBUTES)}."
    )
  try:
    return faceworld.load_generator()
  except FileNotFoundError as error:
    raise ConfigError(
      "faceworld's generator is not in this installation; fit it with "
      "`python -m encoder4editing_jax.faceworld.fit --out "
      "encoder4editing_jax/faceworld/generator.safetensors`."
    ) from error


def load_start(config: Config, open_file: Opener) -> Start | None:
  """What `weights.start_from` names, or None.

  Raises:
    ConfigError: there is no such file, or it holds no whole model.
  """
  name = config.weights.start_from
  if not name:
    return None
  found = _opened("weights.start_from", name, open_file)
  if not isinstance(_network(found), Inverter):
    raise ConfigError(
      f"weights.start_from: {name} holds no whole model but a "
      f"{type(found).__name__}; name a file with an encoder and a generator."
    )
  return found


def load_backbone(
  config: Config, open_file: Opener
) -> Backbone | ResNet | None:
  """What `weights.backbone` names, without the head of a face network.

  None if it names nothing, or if the encoder comes from `weights.start_from`.

  Raises:
    ConfigError: there is no such file, or it holds no body of an encoder.
  """
  folder, name = config.weights.dir, config.weights.backbone
  if not name or config.weights.start_from:
    return None
  if name in weights_folder.NETWORKS:
    try:
      found = weights_folder.load(folder, name)
    except (OSError, ValueError) as error:
      raise ConfigError(
        f'weights.backbone is {name}: {error} To draw the body, set it to "".'
      ) from error
  else:
    found = _network(_opened("weights.backbone", name, open_file))
  body = found.backbone if isinstance(found, ArcFace) else found
  if not isinstance(body, Backbone | ResNet):
    whole = isinstance(found, Inverter)
    raise ConfigError(
      f"weights.backbone: {name} holds {type(found).__name__}, with which no "
      "encoder begins; "
      + (
        "give a whole model as weights.start_from."
        if whole
        else "use arcface_ir_se50, or ResNet-34 for ReStyle's ResNet encoders."
      )
    )
  return body


def _opened(field: str, name: str, open_file: Opener) -> Any:
  if not Path(name).is_file():
    what = "is a folder" if Path(name).is_dir() else "is not there"
    raise ConfigError(
      f"{field}: {name} {what}; name a file that e4e.save wrote, or an "
      "official checkpoint"
      + (f', or "{FACEWORLD}".' if field == "model.generator" else ".")
    )
  try:
    return open_file(name)
  except (OSError, ValueError) as error:
    raise ConfigError(f"{field}: {error}") from error


def _network(found: Any) -> nnx.Module:
  return found.inverter if isinstance(found, TrainingState) else found
