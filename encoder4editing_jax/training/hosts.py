"""Several processes, each with devices of its own, that train as one.

Every process runs the same program: each reads its part of every batch, takes
the same steps, and holds the same state. The first one writes. All of them see
the folder of the run, which lies on a file system that they share.
"""

import contextlib
import hashlib
import itertools
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from encoder4editing_jax.config import ConfigError
from encoder4editing_jax.training.joining import AUTO, Hosts

SILENCE = 30  # seconds until a process that says nothing counts as lost


class ProcessLost(RuntimeError):
  """The processes cannot go on together."""


@contextlib.contextmanager
def joined(hosts: Hosts) -> Iterator[None]:
  """Inside, this process is one of several; only the first one prints.

  It has to begin before JAX looks for devices.

  Args:
    hosts: validated.

  Raises:
    ConfigError: the others were not found.
    ProcessLost: another process ended, or the connection to it did.
  """
  if not hosts.coordinator:
    yield
    return
  _join(hosts)
  with contextlib.ExitStack() as stack:
    if not is_first():
      nowhere = stack.enter_context(open(os.devnull, "w"))
      stack.enter_context(contextlib.redirect_stdout(nowhere))
    try:
      yield
    except jax.errors.JaxRuntimeError as error:
      raise ProcessLost(
        f"process {jax.process_index()} of {jax.process_count()} stopped, "
        "probably because another one has ended; see what that one says, and "
        "start all of them again to go on from the newest checkpoint "
        f"({' '.join(str(error).split())[:300]})."
      ) from error


def _join(hosts: Hosts) -> None:
  known: dict[str, Any] = {}
  if hosts.coordinator != AUTO:
    known = {
      "coordinator_address": hosts.coordinator,
      "num_processes": hosts.processes,
      "process_id": hosts.process,
    }
  try:
    jax.distributed.initialize(**known, heartbeat_timeout_seconds=SILENCE)
  except (RuntimeError, ValueError) as error:
    raise ConfigError(
      f"--coordinator {hosts.coordinator}: the processes did not find each "
      f"other ({' '.join(str(error).split())[:300]}); check the address, and "
      "that all of them are started."
    ) from error


def check_hosts() -> None:
  """Raises ConfigError unless the processes found here can train together."""
  n, mine = jax.process_count(), jax.local_device_count()
  if n > 1 and not jax.distributed.is_initialized():
    raise ConfigError(
      f"there are {n} processes, and this one was not told; add --coordinator "
      "auto to the command on each host."
    )
  if n * mine != jax.device_count():
    raise ConfigError(
      f"process {jax.process_index()} has {mine} of {jax.device_count()} "
      f"devices, but there are {n} processes; give each the same number."
    )


def is_first() -> bool:
  """Whether this is the process that writes."""
  return jax.process_index() == 0


def wait(name: str) -> None:
  """Returns once all processes are here."""
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(name)


def gather(value: Any) -> list[Any]:
  """What each process has to say, as JSON keeps it, in their order."""
  if jax.process_count() == 1:
    return [value]
  from jax.experimental.multihost_utils import process_allgather

  data = np.frombuffer(json.dumps(value).encode(), np.uint8)
  sizes = np.ravel(process_allgather(np.array([len(data)], np.int32)))
  padded = np.zeros(int(sizes.max()), data.dtype)
  padded[: len(data)] = data
  rows = process_allgather(padded)
  return [
    json.loads(bytes(row[:n])) for row, n in zip(rows, sizes, strict=True)
  ]


def in_turn(parts: list[Any]) -> list[Any]:
  """Joins lists of which each process has every n-th item, from its number."""
  nothing = object()
  turns = itertools.zip_longest(*gather(parts), fillvalue=nothing)
  return [x for x in itertools.chain(*turns) if x is not nothing]


def heard(found: signal.Signals | None, now: bool) -> signal.Signals | None:
  """A signal that any process has found; looks only `now`, since that waits
  for the others, but always where there are none."""
  if jax.process_count() == 1:
    return found
  said = gather(found) if now else []
  return next((signal.Signals(x) for x in said if x is not None), None)


def local(tree: Any) -> Any:
  """Arrays that all devices hold, as they are on one device of this host."""
  if jax.process_count() == 1:
    return tree
  return jax.tree.map(lambda x: x.addressable_data(0), tree)


def agree(facts: dict[str, Any]) -> None:
  """Refuses processes that do not set out from the same.

  Args:
    facts: trees of arrays, numbers and texts, by what to call them.

  Raises:
    ConfigError: names the first that differs.
  """
  if jax.process_count() == 1:
    return
  said = gather({name: _digest(tree) for name, tree in facts.items()})
  for name in facts:
    others = [i for i, there in enumerate(said) if there[name] != said[0][name]]
    if others:
      raise ConfigError(
        f"process {others[0]} has other {name} than process 0; start all "
        "processes with the same command, versions and files."
      )


def _digest(tree: Any) -> str:
  found = hashlib.blake2b(digest_size=16)
  for leaf in jax.tree.leaves(tree):
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(
      leaf.dtype, jax.dtypes.prng_key
    ):
      leaf = jax.random.key_data(leaf)
    data = np.asarray(leaf)
    found.update(f"{data.dtype}{data.shape}".encode())
    found.update(np.ascontiguousarray(data).tobytes())
  return found.hexdigest()
