"""The step, compiled for devices that are not there.

XLA compiles for a topology that is only described (`jax.experimental.
topologies`; for TPUs the package libtpu is needed, and no TPU). Nothing is
allocated: networks, states and batches are shapes.
"""

import importlib.util
import math
import os
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

from encoder4editing_jax.config import Config
from encoder4editing_jax.data.tasks import task_of
from encoder4editing_jax.training import targets
from encoder4editing_jax.training.outline import trace
from encoder4editing_jax.training.parallel import AXIS, shard_map_step
from encoder4editing_jax.training.state import Networks
from encoder4editing_jax.training.step import make_train_step

_COLLECTIVE = (
  "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
)
_EXHAUSTED = (
  r"Used ([\d.]+)([KMG])i?B? of",
  r"required for HLO temporaries \(([\d.]+)([KMG])i?B?\)",
)
_QUIET = {
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_ACCELERATOR_TYPE": "v5litepod-1",
}


def topology(name: str) -> Sequence[Any]:
  """The devices of a TPU topology, as in `v5e:4x4` or `v5e:16`.

  Raises:
    ConfigError: there is no such kind.
    ValueError: libtpu is not installed, or it does not know the topology.
  """
  # libtpu is for one process at a time where there is a TPU, and asks the
  # network what machine this is; neither is needed for compiling.
  for variable, value in _QUIET.items():
    os.environ.setdefault(variable, value)
  from jax.experimental import topologies

  target = targets.parse(name)
  hosts = tuple(min(n, 2) for n in target.shape[:2])
  options: dict[str, Any] = {"chips_per_host_bounds": (*hosts, 1)}
  if target.kind.megacore:
    options["chip_config_name"] = "megacore"
  try:
    found = topologies.get_topology_desc(
      platform="tpu", topology_name=target.name, **options
    )
  except Exception as error:  # libtpu's own, of several kinds
    why = str(error).strip().splitlines()[0] if str(error) else "?"
    fix = "name one as in v5e:4x4"
    if importlib.util.find_spec("libtpu") is None:
      fix = "install jax[tpu], which brings libtpu"
    raise ValueError(
      f"cannot compile for the TPU topology {name} ({why}); {fix}."
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
  networks, state, frozen = trace(config, build)
  mesh = Mesh(np.asarray(devices), (AXIS,))
  step: Any = shard_map_step(make_train_step(config, networks), devices)
  return step.lower(
    _placed(state, mesh, P()),
    _placed(frozen, mesh, P()),
    _placed(batch_shapes(config), mesh, P(AXIS)),
  )


class Measured(NamedTuple):
  """What a compiler says of a program, for each device."""

  fits: bool
  memory: float
  """Bytes: arguments, results that are not theirs, temporaries, code."""
  temporary: float = 0.0
  arguments: float = 0.0
  operations: float = 0.0
  bytes: float = 0.0
  """Read and written, with the padding of the device's layouts."""
  collectives: dict[str, tuple[int, int]] = {}  # noqa: RUF012 (never written)
  """By name: how many there are, and the bytes of their results."""
  overlapped: tuple[int, int] = (0, 0)
  """How many of them something is computed beside, and their bytes."""
  seconds: float = 0.0
  """That compiling took."""


def measure(lowered: Any, options: dict[str, str] | None = None) -> Measured:
  """Compiles a lowered function, and says what it takes.

  Args:
    lowered: what is compiled.
    options: the compiler's own.

  Raises:
    ValueError: the compiler fails for another reason than memory.
  """
  began = time.perf_counter()
  try:
    compiled = lowered.compile(compiler_options=options)
    seconds = time.perf_counter() - began
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
  except jax.errors.JaxRuntimeError as error:
    used = exhausted(str(error))
    if not used:
      why = (str(error).splitlines() or ["it does not say why"])[0]
      raise ValueError(f"the compiler failed ({why})") from error
    return used._replace(seconds=time.perf_counter() - began)
  text = compiled.as_text()
  arguments = memory.argument_size_in_bytes
  kept = arguments + memory.output_size_in_bytes - memory.alias_size_in_bytes
  temporary = memory.temp_size_in_bytes
  return Measured(
    True,
    kept + temporary + memory.generated_code_size_in_bytes,
    temporary,
    arguments,
    cost.get("flops", 0.0),
    cost.get("bytes accessed", 0.0),
    collectives(text),
    overlapped(text),
    seconds,
  )


def exhausted(message: str) -> Measured | None:
  """What a program needs that the compiler finds too large, by its error.

  libtpu says it in two ways: early of temporaries alone, without a schedule,
  and of everything in the end.
  """
  whole, temporaries = (re.search(x, message) for x in _EXHAUSTED)
  if whole:
    return Measured(False, _bytes(whole))
  if temporaries:
    size = _bytes(temporaries)
    return Measured(False, size, size)
  return None


def _bytes(size: re.Match[str]) -> float:
  return float(size[1]) * 2.0 ** {"K": 10, "M": 20, "G": 30}[size[2]]


def collectives(text: str) -> dict[str, tuple[int, int]]:
  """The collectives of a compiled program: how many, and their bytes."""
  found: dict[str, tuple[int, int]] = {}
  continued = False
  for line in text.splitlines():
    if line.endswith("{"):  # TPUs work on one in parts, beside other things
      continued = line.startswith("%async_collective_fusion")
    if continued:
      continue
    match = re.search(rf" = (.*?) ({_COLLECTIVE})(-start)?\(", line)
    if not match:
      continue
    sizes = _sizes(match[1])
    if match[3] and len(sizes) > 1:  # operands stand before the results
      sizes = sizes[len(sizes) // 2 :]
    count, total = found.get(match[2], (0, 0))
    found[match[2]] = (count + 1, total + sum(sizes))
  return found


def _sizes(shapes: str) -> list[int]:
  """Bytes of arrays as HLO names them."""
  return [
    int(bits) // 8 * math.prod(int(n) for n in shape.split(",") if n)
    for bits, shape in re.findall(r"[a-z]+(\d+)\[([\d,]*)\]", shapes)
  ]


def overlapped(text: str) -> tuple[int, int]:
  """Collectives of a schedule that work stands between start and end of: how
  many, and the bytes of their results."""
  running: dict[str, bool] = {}
  count = total = 0
  for line in text.splitlines():
    start = re.match(rf"\s*%(\S*(?:{_COLLECTIVE})\S*) = .* \S+-start\(", line)
    end = re.search(r" = (.*?) \S+-done\(%([^,)]+)", line)
    if start:
      running[start[1]] = False
    elif end and running.pop(end[2], False):
      count, total = count + 1, total + sum(_sizes(end[1]))
    elif re.search(r" (fusion|convolution|while)\(", line):
      running = dict.fromkeys(running, True)
  return count, total


def batch_shapes(config: Config) -> dict[str, jax.ShapeDtypeStruct]:
  """What the data pipeline makes: bytes `[b h w c]`."""
  b, size = config.run.batch_size, config.data.size
  return {
    name: jax.ShapeDtypeStruct((b, *size, channels), jnp.uint8)
    for name, channels in task_of(config.data).batch_channels().items()
  }


def _placed(tree: Any, mesh: Mesh, spec: P) -> Any:
  sharding = NamedSharding(mesh, spec)
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
  )
