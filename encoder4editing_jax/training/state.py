"""What a training run carries from step to step, and what it never changes.

Networks appear as nested dictionaries of arrays (`nnx.to_pure_dict`), which
every transform, optimizer and checkpoint takes as they are; `nnx.merge` with
the graph of the module brings them back to life.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from encoder4editing_jax.architectures import with_dtype
from encoder4editing_jax.config import Config
from encoder4editing_jax.data.tasks import task_of
from encoder4editing_jax.models import encoders
from encoder4editing_jax.models.discriminator import LatentDiscriminator
from encoder4editing_jax.models.inverter import Inverter
from encoder4editing_jax.models.stylegan2 import Generator
from encoder4editing_jax.training import optim, pool
from encoder4editing_jax.training.parallel import AXIS

Arrays = dict[Any, Any]
"""Nested dictionaries of arrays, as `nnx.to_pure_dict` gives them."""

Metrics = dict[str, Array]
"""Numbers of a step by name, each a scalar."""

Leaf = Any
"""An array; transforms also put tracers, shapes and shardings in its place."""


class Networks(NamedTuple):
  """The modules of a run; steps use their graphs, states their arrays."""

  encoder: nnx.Module
  generator: Generator
  discriminator: nnx.Module
  features: dict[str, nnx.Module] = {}  # noqa: RUF012 (nobody writes to it)
  """What losses look through, see `objective.FEATURES`."""
  w_avg: Array | None = None
  """Mean codes `[n d]` that offsets are added to; the generator's if None."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """Everything that a checkpoint holds."""

  step: Leaf
  """int32, number of steps taken."""
  encoder: Arrays
  """Trained arrays of the encoder."""
  statistics: Arrays
  """The rest of the encoder: running means and variances."""
  optimizer: Any
  discriminator: Arrays
  discriminator_optimizer: Any
  real_pool: pool.Pool
  fake_pool: pool.Pool
  skipped: Leaf
  """int32, number of steps in a row, up to the last, that were not finite."""
  key: Leaf
  """Random key. Never changes: the numbers of a step come from (key, step)."""
  average: Arrays = dataclasses.field(default_factory=dict)
  """Moving averages of `encoder` and `statistics`, by these names, or none."""
  generator: Arrays = dataclasses.field(default_factory=dict)
  """What is trained of the generator: nothing, or its synthesis network."""

  def trained(self) -> Arrays:
    """What the optimizer sees: the encoder, or it and the generator."""
    return self.joined(self.encoder, self.generator)

  def joined(self, encoder: Arrays, generator: Arrays) -> Arrays:
    """Arrays in the places of the trained ones, as the optimizer sees them."""
    if not self.generator:
      return encoder
    return {"encoder": encoder, "generator": generator}

  def parted(self, trained: Arrays) -> tuple[Arrays, Arrays]:
    """The inverse of `joined`."""
    if not self.generator:
      return trained, {}
    return trained["encoder"], trained["generator"]

  def best_encoder(self) -> tuple[Arrays, Arrays]:
    """What is evaluated and exported: trained arrays and statistics."""
    if self.average:
      return self.average["encoder"], self.average["statistics"]
    return self.encoder, self.statistics


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Frozen:
  """Arguments of the step that it does not change, never saved with it."""

  generator: Arrays
  w_avg: Leaf
  """float32 `[n d]`, the mean code."""
  features: dict[str, Arrays] = dataclasses.field(default_factory=dict)
  """Networks that losses look through, see `objective.FEATURES`."""
  average_image: Leaf = None
  """`[1 h w 3]`, the picture of the mean code, where refinement starts; None
  where there is none."""


def build_encoder(
  config: Config, generator: Generator, *, bn_axis: str | None = AXIS
) -> nnx.Module:
  """A fresh encoder for the styles of a generator, seeded by the config.

  `bn_axis=None` makes one for other uses than the step: its batch statistics
  belong to no device axis.
  """
  channels = task_of(config.data).channels
  if config.model.refinements:
    channels += 3  # the picture that is to be bettered
  return getattr(encoders, config.model.encoder)(
    generator.n_styles,
    input_size=config.data.size,
    input_channels=None if channels == 3 else channels,  # None: as usual
    style_dim=generator.style_dim,
    num_layers=config.model.num_layers,
    channels=config.model.channels,
    bn_axis=bn_axis,
    dtype=config.model.dtype,
    rngs=nnx.Rngs(config.run.seed),
  )


def build_networks(
  config: Config,
  generator: Generator,
  features: Mapping[str, nnx.Module] | None = None,
) -> Networks:
  """The modules of a run around its generator and the losses' networks.

  All but the latent discriminator compute in the type of the config.
  """
  dtype = config.model.dtype
  discriminator = LatentDiscriminator(
    generator.style_dim,
    hidden=config.discriminator.hidden,
    n_layers=config.discriminator.n_layers,
    rngs=nnx.Rngs(config.run.seed + 1),
  )
  return Networks(
    build_encoder(config, generator),
    with_dtype(generator, dtype),
    discriminator,
    {k: with_dtype(net, dtype) for k, net in (features or {}).items()},
  )


def create_state(config: Config, networks: Networks) -> TrainState:
  """The state before the first step."""
  encoder, statistics = split_encoder(networks.encoder)
  discriminator = nnx.to_pure_dict(nnx.state(networks.discriminator))
  average = {"encoder": encoder, "statistics": statistics}
  size, style_dim = config.discriminator.pool, networks.generator.style_dim
  generator = {}
  if config.model.train_decoder:
    painted = nnx.state(networks.generator, nnx.Param)["synthesis"]
    generator = {"synthesis": nnx.to_pure_dict(painted)}
  state = TrainState(
    step=jnp.zeros((), jnp.int32),
    encoder=encoder,
    statistics=statistics,
    optimizer=None,
    discriminator=discriminator,
    discriminator_optimizer=optim.make_discriminator_optimizer(config).init(
      discriminator
    ),
    real_pool=pool.empty(size, style_dim),
    fake_pool=pool.empty(size, style_dim),
    skipped=jnp.zeros((), jnp.int32),
    key=jax.random.key(config.run.seed),
    # Copies, because states are donated.
    average=jax.tree.map(jnp.copy, average) if config.optim.ema else {},
    generator=jax.tree.map(jnp.copy, generator),
  )
  optimizer = optim.make_optimizer(config).init(state.trained())
  return dataclasses.replace(state, optimizer=optimizer)


def create_frozen(
  networks: Networks, start: tuple[int, int] | None = None
) -> Frozen:
  """The frozen networks, and the mean codes that offsets are added to.

  Args:
    networks: with their arrays.
    start: height and width of the picture where refinement starts, if the
      encoder refines.
  """
  generator, w_avg = networks.generator, networks.w_avg
  if w_avg is None:
    w_avg = jnp.tile(generator.w_avg[...][None], (generator.n_styles, 1))
  features = {
    name: nnx.to_pure_dict(nnx.state(net))
    for name, net in networks.features.items()
  }
  image = None
  if start:
    inverter = Inverter(networks.encoder, generator, w_avg)
    image = inverter.average_image(start)
  return Frozen(nnx.to_pure_dict(nnx.state(generator)), w_avg, features, image)


def with_generator(frozen: Frozen, trained: Arrays) -> Frozen:
  """The frozen networks, with what is trained of the generator in its place."""
  return dataclasses.replace(
    frozen, generator=_overlay(frozen.generator, trained)
  )


def _overlay(below: Arrays, above: Arrays) -> Arrays:
  return below | {
    k: _overlay(below[k], v) if isinstance(v, dict) else v
    for k, v in above.items()
  }


def split_encoder(encoder: nnx.Module) -> tuple[Arrays, Arrays]:
  """Its trained arrays, and the rest (running statistics)."""
  _, trained, rest = nnx.split(encoder, nnx.Param, ...)
  return nnx.to_pure_dict(trained), nnx.to_pure_dict(rest)
