"""The step, compiled for devices that are not there.

XLA compiles for a topology that is only described (`jax.experimental.
topologies`; for TPUs the package libtpu is needed, and no TPU). Nothing is
allocated: networks, states and batches are shapes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

from encoder4editing_jax.config import Config
from encoder4editing_jax.data.tasks import task_of
from encoder4editing_jax.training import state as states
from encoder4editing_jax.training.parallel import AXIS, shard_map_step
from encoder4editing_jax.training.state import Networks
from encoder4editing_jax.training.step import make_train_step


def topology(name: str) -> Sequence[Any]:
  """The devices of a TPU topology, as in `v5e:4x4`.

  Raises:
    ValueError: libtpu is not installed, or it does not know the name.
  """
  from jax.experimental import topologies

  try:
    found = topologies.get_topology_desc(platform="tpu", topology_name=name)
  except Exception as error:  # libtpu's own, of several kinds
    why = str(error).strip().splitlines()[0] if str(error) else "?"
    raise ValueError(
      f"cannot compile for the TPU topology {name} ({why}); name one as in "
      "v5e:4x4, and install jax[tpu], which brings libtpu."
    ) from error
  return found.devices


def lower_step(
  config: Config, build: Callable[[], Networks], devices: Sequence[Any]
) -> Any:
  """The training step of a config on devices, lowered; `.compile()` is next.

  Args:
    config: of the run; `run.batch_size` is over all devices together.
    build: makes the networks; it is traced, so that it may be of any size.
    devices: of `topology`, or this machine's.
  """

  def start() -> tuple[Any, Any]:
    networks = build()
    size = config.data.size if config.model.refinements else None
    return (
      states.create_state(config, networks),
      states.create_frozen(networks, size),
    )

  networks = nnx.eval_shape(build)
  state, frozen = jax.eval_shape(start)
  mesh = Mesh(np.asarray(devices), (AXIS,))
  step: Any = shard_map_step(make_train_step(config, networks), devices)
  return step.lower(
    _placed(state, mesh, P()),
    _placed(frozen, mesh, P()),
    _placed(batch_shapes(config), mesh, P(AXIS)),
  )


def batch_shapes(config: Config) -> dict[str, jax.ShapeDtypeStruct]:
  """What the data pipeline makes: bytes `[b h w c]`."""
  b, size, task = config.run.batch_size, config.data.size, task_of(config.data)
  shapes = {"image": jax.ShapeDtypeStruct((b, *size, 3), jnp.uint8)}
  if task.name != "inversion":
    channels = 1 if task.name in ("segmentation", "sketch") else 3
    source = jax.ShapeDtypeStruct((b, *size, channels), jnp.uint8)
    shapes["source"] = source
  return shapes


def _placed(tree: Any, mesh: Mesh, spec: P) -> Any:
  sharding = NamedSharding(mesh, spec)
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
  )
