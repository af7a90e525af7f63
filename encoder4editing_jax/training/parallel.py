"""One step on many devices. The only file that says pmap.

A step is a pure function of one shard, `step(state, frozen, batch) -> (state,
metrics)`, which speaks to the other shards by collectives over `AXIS`. State
and frozen networks are the same on every device, batches are split.
"""

from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

from encoder4editing_jax.training.joining import COMPILING

AXIS = "batch"

Step = Callable[[Any, Any, Any], tuple[Any, Any]]


class PmapStep:
  """A step on all devices, see `pmap_step`."""

  def __init__(self, mapped: Any, n: int):
    self._mapped, self._n = mapped, n
    self._compiling: futures.Future[Any] | None = None

  def compile(self, state: Any, frozen: Any, batch: Any) -> None:
    """Compiles beside what the caller does next, and runs nothing.

    The first call waits for it, and raises what it raises. It is for arguments
    that lie on devices as these do. Whoever never calls can leave: at the end
    Python waits for the compiler, which `os._exit` does not.
    """
    lowered = self._mapped.lower(state, frozen, split(batch, self._n))
    thread = futures.ThreadPoolExecutor(1, COMPILING)
    self._compiling = thread.submit(lowered.compile)
    thread.shutdown(wait=False)

  def __call__(self, state: Any, frozen: Any, batch: Any) -> tuple[Any, Any]:
    if self._compiling:
      self._compiling.result()
      self._compiling = None
    return self._mapped(state, frozen, split(batch, self._n))


def pmap_step(
  step: Step, devices: Sequence[jax.Device] | None = None
) -> PmapStep:
  """The step on all devices by `jax.pmap`; its first argument is donated.

  Args:
    step: function of one shard.
    devices: all of all hosts if None.

  Returns:
    A function of the state, the frozen networks and a whole batch (leaves
    `[b ...]`, b divisible by the number of devices), or on several hosts this
    one's part of it. No leading device axis goes in or comes out with the
    state.
  """
  n = len(devices) if devices else jax.local_device_count()
  mapped = jax.pmap(
    step,
    axis_name=AXIS,
    in_axes=(None, None, 0),
    out_axes=None,
    devices=devices or all_devices(),
    donate_argnums=0,
  )
  return PmapStep(mapped, n)


def shard_map_step(
  step: Step, devices: Sequence[jax.Device] | None = None
) -> Step:
  """The same by `jit(shard_map)`, the form that compiles ahead of time.

  `check_vma=False`: with the check, gradients of replicated parameters are
  summed over devices before the step's own `pmean` gets to see them.
  """
  mesh = Mesh(np.asarray(devices or all_devices()), (AXIS,))
  mapped = jax.shard_map(
    step,
    mesh=mesh,
    in_specs=(P(), P(), P(AXIS)),
    out_specs=P(),
    check_vma=False,
  )
  return jax.jit(mapped, donate_argnums=0)


def mean(tree: Any) -> Any:
  """The mean over all shards, inside a step.

  That of a single one is left out: XLA:CPU would copy every gradient for it.
  Then nothing says to checks of replication that shards agree.
  """
  return tree if jax.lax.axis_size(AXIS) == 1 else jax.lax.pmean(tree, AXIS)


def all_devices() -> list[jax.Device]:
  """The devices of all hosts, in the order in which these part a batch."""
  return sorted(jax.devices(), key=lambda d: (d.process_index, d.id))


def split(batch: Any, n: int) -> Any:
  """Leaves `[b ...]` as `[n b/n ...]`."""
  return jax.tree.map(lambda x: x.reshape((n, -1, *x.shape[1:])), batch)


def replicate(tree: Any, devices: Sequence[jax.Device] | None = None) -> Any:
  """A copy of every array on every device, safe to donate."""
  mesh = Mesh(np.asarray(devices or all_devices()), (AXIS,))
  sharding = NamedSharding(mesh, P())
  # Through host memory: device_put may alias the first device's buffer, and
  # donating an alias deletes the original.
  return jax.tree.map(lambda x: _put(x, sharding), tree)


def _put(x: Any, sharding: NamedSharding) -> jax.Array:
  if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
    return jax.random.wrap_key_data(_put(jax.random.key_data(x), sharding))
  return jax.make_array_from_process_local_data(sharding, np.array(x), x.shape)
