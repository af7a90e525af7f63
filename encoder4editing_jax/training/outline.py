"""The networks and the state of a run as shapes, without files or devices."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import nnx

from encoder4editing_jax import weights
from encoder4editing_jax.config import FACEWORLD, Config, ConfigError
from encoder4editing_jax.models.arcface import ArcFace
from encoder4editing_jax.models.lpips import LPIPS
from encoder4editing_jax.models.moco import MoCo
from encoder4editing_jax.models.stylegan2 import Generator
from encoder4editing_jax.training import state as states
from encoder4editing_jax.training.objective import FEATURES
from encoder4editing_jax.training.opening import Opener, load_generator
from encoder4editing_jax.training.preparation import check_sizes
from encoder4editing_jax.training.state import Frozen, Networks, TrainState

SIZES = tuple(2**k for k in range(3, 11))


class Outline(NamedTuple):
  """A run before anything of it is there."""

  config: Config
  build: Callable[[], Networks]
  """Makes the networks; to be traced."""
  networks: Networks
  """Their graphs, with shapes for arrays."""
  state: TrainState
  """Shapes."""
  frozen: Frozen
  """Shapes."""
  notes: tuple[str, ...] = ()
  """What was taken for granted, a line each."""


def outline(config: Config, open_file: Opener = weights.load) -> Outline:
  """The networks and the first state of a config.

  Files of networks need not be there: those of losses are taken as published,
  a generator as large as its name says.

  Raises:
    ConfigError: something in the config does not fit, or the generator is
      not there and its name says no size.
  """
  config.validate()
  make, notes = _generator(config, open_file)
  check_sizes(config, nnx.eval_shape(make))

  def build() -> Networks:
    return states.build_networks(config, make(), _features(config))

  return Outline(config, build, *trace(config, build), notes)


def trace(
  config: Config, build: Callable[[], Networks]
) -> tuple[Networks, TrainState, Frozen]:
  """The networks that `build` makes, and the state before the first step and
  the frozen networks, as shapes."""

  networks = nnx.eval_shape(build)
  graph, arrays = nnx.split(networks)

  def start(arrays: Any) -> tuple[Any, Any]:
    networks = nnx.merge(graph, arrays)
    size = config.data.size if config.model.refinements else None
    return (
      states.create_state(config, networks),
      states.create_frozen(networks, size),
    )

  return networks, *jax.eval_shape(start, arrays)


def _generator(
  config: Config, open_file: Opener
) -> tuple[Callable[[], Generator], tuple[str, ...]]:
  name = config.model.generator
  if name == FACEWORLD or Path(name).exists():
    loaded = load_generator(config, open_file)
    return lambda: loaded, ()
  sizes = [int(x) for x in re.findall(r"\d+", Path(name).stem)]
  if not sizes:
    raise ConfigError(
      f"model.generator: {name} is not there, and its name says no size; name "
      "a file, or one such as ffhq_1024.safetensors."
    )
  size = sizes[-1]
  note = (
    f"{name} is not there; a generator of {size} x {size} is assumed, as its "
    "name says"
  )
  if size not in SIZES:
    raise ConfigError(
      f"model.generator: {note}, but none has that size; name a file."
    )
  return lambda: Generator(size, rngs=nnx.Rngs(0)), (note,)


def _features(config: Config) -> dict[str, nnx.Module]:
  """The networks that losses look through, as published."""
  loss, rngs = config.loss, nnx.Rngs(0)
  kinds: dict[str, Callable[[], nnx.Module]] = {
    "lpips": lambda: LPIPS(loss.lpips_net, rngs=rngs),
    "arcface": lambda: ArcFace(rngs=rngs),
    "moco": lambda: MoCo(rngs=rngs),
  }
  wanted = {net for term, net in FEATURES.items() if getattr(loss, term)}
  return {net: make() for net, make in kinds.items() if net in wanted}
