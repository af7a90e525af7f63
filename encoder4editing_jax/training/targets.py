"""Kinds of devices that a run can be planned for, and what their makers say.

TPUs: cloud.google.com/tpu/docs, pages v4, v5e, v5p, v6e (peak compute per chip
in bfloat16, HBM capacity and bandwidth, chips of a pod). GPUs: NVIDIA's data
sheets of L4, A100 SXM 80 GB, H100 SXM and H200 SXM, without sparsity. Peaks are
not reached: they are bounds.
"""

import dataclasses
import math
import os
import re
from pathlib import Path

from encoder4editing_jax.config import ConfigError


@dataclasses.dataclass(frozen=True)
class Kind:
  """One device: a chip, a card, or the processors of this machine."""

  name: str
  platform: str
  """"tpu", "gpu" or "cpu"."""
  memory: float
  """Bytes."""
  operations: float = 0.0
  """Per second, products of bfloat16; 0 if nobody says."""
  operations_float32: float = 0.0
  """The same for float32 as XLA takes such products: one pass in bfloat16 on
  TPUs, TF32 on GPUs."""
  bandwidth: float = 0.0
  """Bytes per second; 0 if nobody says."""
  megacore: bool = False
  """Two cores are one device."""
  most: int = 99_999
  """Chips of a pod."""


def _tpu(
  name: str, gib: int, tera: int, giga: int, most: int, megacore: bool = False
) -> Kind:
  peak, bandwidth = tera * 1e12, giga * 1e9
  return Kind(name, "tpu", gib * 2.0**30, peak, peak, bandwidth, megacore, most)


def _gpu(name: str, gb: int, bf16: int, tf32: int, giga: int) -> Kind:
  return Kind(name, "gpu", gb * 1e9, bf16 * 1e12, tf32 * 1e12, giga * 1e9)


_KINDS = (
  _tpu("v4", 32, 275, 1228, 4096, megacore=True),
  _tpu("v5e", 16, 197, 819, 256),
  _tpu("v5p", 95, 459, 2765, 8960, megacore=True),
  _tpu("v6e", 32, 918, 1640, 256),
  _gpu("l4", 24, 121, 60, 300),
  _gpu("a100", 80, 312, 156, 2039),
  _gpu("h100", 80, 989, 495, 3350),
  _gpu("h200", 141, 989, 495, 4800),
)
KINDS = {kind.name: kind for kind in _KINDS}
_LIMITS = (
  "/sys/fs/cgroup/memory.max",
  "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)
_SIDE = 16
"""Chips along an axis of v5e and v6e; for more libtpu aborts the process."""
_SOLID = ("v4", "v5p")  # topologies of three dimensions


@dataclasses.dataclass(frozen=True)
class Target:
  """Devices of one kind, and how those of a TPU hang together."""

  kind: Kind
  count: int
  shape: tuple[int, ...] = ()
  """Chips along each axis."""

  @property
  def name(self) -> str:
    """As it is written: `v5e:4x4`, `h200:8`, `cpu`."""
    if self.shape:
      return f"{self.kind.name}:{'x'.join(map(str, self.shape))}"
    counted = self.count > 1
    return f"{self.kind.name}:{self.count}" if counted else self.kind.name


def parse(text: str) -> Target:
  """A target by its name: a kind, and a number or a shape after a colon.

  `v5e:4x4` and `v5e:16` are the same; without a number it is one device.

  Raises:
    ConfigError: no such kind, number or shape.
  """
  name, _, size = text.strip().lower().partition(":")
  if name != "cpu" and name not in KINDS:
    raise ConfigError(
      f"--target {text}: no such device; use cpu or one of "
      f"{', '.join(KINDS)}, with a number or a shape, as in v5e:4x4."
    )
  if not re.fullmatch(r"|[1-9]\d{0,4}(x[1-9]\d{0,2}){0,2}", size):
    raise ConfigError(
      f"--target {text}: {size} is no number of devices and no shape; write "
      "v5e:16 or v5e:4x4."
    )
  kind = this_machine() if name == "cpu" else KINDS[name]
  shape = tuple(map(int, size.split("x"))) if size else (1,)
  count = math.prod(shape)
  if count > kind.most:
    raise ConfigError(
      f"--target {text}: {count} chips; a pod of {name} has {kind.most}."
    )
  if kind.platform != "tpu":
    return Target(kind, count)
  dimensions = 3 if name in _SOLID else 2
  if len(shape) == 1:
    shape = _spread(count, dimensions)
  if len(shape) != dimensions:
    raise ConfigError(
      f"--target {text}: topologies of {name} have {dimensions} dimensions; "
      f"write {name}:{'x'.join(map(str, _spread(count, dimensions)))}."
    )
  if dimensions == 2 and max(shape) > _SIDE:
    raise ConfigError(
      f"--target {text}: a pod of {name} has {_SIDE} chips along each axis; "
      f"write {name}:{'x'.join(map(str, _spread(count, 2)))}."
    )
  return Target(kind, count, shape)


def this_machine() -> Kind:
  """The processors of this machine, of which only the memory is known."""
  pages = os.sysconf("SC_PHYS_PAGES")
  memory = min(pages * os.sysconf("SC_PAGE_SIZE"), *map(_limit, _LIMITS))
  return Kind("cpu", "cpu", float(memory))


def _limit(file: str) -> float:
  """Bytes that a container may have."""
  try:
    return float(Path(file).read_text())
  except (OSError, ValueError):  # no container, or "max"
    return math.inf


def _spread(count: int, dimensions: int) -> tuple[int, ...]:
  """The most even shape of powers of two, smaller axes first.

  Raises:
    ConfigError: the number is no power of two.
  """
  if count & (count - 1):
    raise ConfigError(
      f"{count} chips have no usual shape; write it, as in v5e:4x6."
    )
  if dimensions == 3 and count <= 4:  # one host
    return (*_spread(count, 2), 1)
  power = count.bit_length() - 1
  return tuple(2 ** ((power + k) // dimensions) for k in range(dimensions))
