"""Measuring two sides in turn, each in a process of its own.

A benchmark is a file with functions `make(case) -> (run, facts)`, one for each
side. `Side` starts the file again, as that side; `compare` lets the sides
run one after the other, over and over, so that whatever else the machine does
slows all of them. Numbers are medians.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # two sides, one GPU
PACKAGES = ("jax", "jaxlib", "flax", "torch", "numpy")

Make = Callable[..., tuple[Callable[[], Any], dict[str, Any]]]


def serve(make: Make, case: dict[str, Any]) -> None:
  """The child's side of `Side`: prepares, then runs whenever it is asked to."""
  out = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)  # whatever libraries print is no answer

  def answer(**facts: Any) -> None:
    print(json.dumps(facts), file=out, flush=True)

  if case.get("side") == "jax":
    from encoder4editing_jax.cli.memory import keep_memory, run_in_place

    keep_memory()  # as our commands do
    run_in_place()
  run, facts = make(**case)
  began = time.perf_counter()
  run()
  answer(first_s=time.perf_counter() - began, **facts)
  for _ in sys.stdin:
    began, cpu = time.perf_counter(), time.process_time()
    run()
    answer(
      seconds=time.perf_counter() - began,
      cpu_s=time.process_time() - cpu,
      peak_mb=peak_mb(),
    )


def peak_mb() -> float:
  """The most memory so far: of the device if it tells, else of the process."""
  if "jax" in sys.modules:
    stats = sys.modules["jax"].devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
      return stats["peak_bytes_in_use"] / 1e6
  if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
    return sys.modules["torch"].cuda.max_memory_allocated() / 1e6
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


class Side:
  """One side of a comparison, in a process of its own."""

  def __init__(self, file: str, side: str, case: Mapping[str, Any]):
    path = os.pathsep.join(filter(None, (str(ROOT), os.getenv("PYTHONPATH"))))
    self.process = subprocess.Popen(
      [sys.executable, file, "--side", side, "--case", json.dumps(dict(case))],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      env=SHARED | os.environ | {"PYTHONPATH": path},
    )
    self.facts = self._hear()

  def _hear(self) -> dict[str, Any]:
    assert self.process.stdout
    line = self.process.stdout.readline()
    if not line:
      raise SystemExit(f"a side ended with status {self.process.wait()}")
    return json.loads(line)

  def run(self) -> float:
    """Seconds of one run; its processor time goes to the facts."""
    assert self.process.stdin
    self.process.stdin.write("run\n")
    self.process.stdin.flush()
    found = self._hear()
    self.facts["peak_mb"] = found["peak_mb"]
    self.facts.setdefault("cpu", []).append(found["cpu_s"])
    return found["seconds"]

  def close(self) -> None:
    assert self.process.stdin
    self.process.stdin.close()
    self.process.wait()


def compare(
  file: str,
  sides: Sequence[str],
  case: Mapping[str, Any],
  options: argparse.Namespace,
) -> dict[str, dict[str, Any]]:
  """Medians and facts of each side: A B A B ..., or A A ... B B ... `apart`.

  Returns:
    For each side `seconds`, the median; `all`, every time; and what the side
    tells: `first_s`, `peak_mb`, `compile_s` and so on.
  """
  if not options.apart:
    return _interleave(file, sides, case, options.rounds)
  found = (_interleave(file, [side], case, options.rounds) for side in sides)
  return {side: facts for one in found for side, facts in one.items()}


def _interleave(
  file: str, sides: Sequence[str], case: Mapping[str, Any], rounds: int
) -> dict[str, dict[str, Any]]:
  """After one round that is not measured."""
  running = {}
  try:
    for side in sides:
      running[side] = Side(file, side, case)
    times: dict[str, list[float]] = {side: [] for side in sides}
    for k in range(rounds + 1):
      for side, process in running.items():
        seconds = process.run()
        if k:
          times[side].append(seconds)
  finally:
    for process in running.values():
      process.close()
  return {
    side: running[side].facts
    | {
      "seconds": statistics.median(times[side]),
      "cpu_s": statistics.median(running[side].facts["cpu"][1:]),
      "all": times[side],
    }
    for side in sides
  }


def ratio(found: Mapping[str, Any], ours: str, theirs: str) -> float:
  """How many times as long `theirs` takes: the median over the rounds."""
  pairs = zip(found[theirs]["all"], found[ours]["all"], strict=True)
  return statistics.median(a / b for a, b in pairs)


def header(device: str) -> dict[str, Any]:
  """Machine, date and versions."""
  versions = {"python": platform.python_version()}
  for package in PACKAGES:
    try:
      versions[package] = metadata.version(package)
    except metadata.PackageNotFoundError:
      versions[package] = "absent"
  return {
    "date": datetime.date.today().isoformat(),
    "machine": f"{_processor()}, {os.cpu_count()} cores",
    "device": device,
    "load": round(os.getloadavg()[0], 1),
    "versions": versions,
    "allocator": {
      name: value
      for name, value in os.environ.items()
      if name.startswith("MALLOC_") or "glibc.malloc" in value
    },
  }


def _processor() -> str:
  for line in Path("/proc/cpuinfo").read_text().splitlines():
    if line.startswith("model name"):
      return line.split(":")[1].strip()
  return platform.machine()


def say(head: Mapping[str, Any]) -> None:
  """The header as a line."""
  versions = ", ".join(f"{k} {v}" for k, v in head["versions"].items())
  allocator = "memory kept by ours"
  if head["allocator"]:
    allocator = "allocator of both set by variables"
  print(
    f"{head['date']}: {head['machine']}, {head['device']}, load "
    f"{head['load']}, {versions}, {allocator}\n",
    flush=True,
  )


def row(*cells: Any) -> None:
  """A row of a table; numbers with three figures."""

  def text(cell: Any) -> str:
    if isinstance(cell, float):
      return f"{cell:.0f}" if cell >= 100 else f"{cell:.3g}"
    return "-" if cell is None else str(cell)

  print("| " + " | ".join(map(text, cells)) + " |", flush=True)


def heading(*names: str) -> None:
  """The head of a table."""
  print("| " + " | ".join(names) + " |")
  print("|" + "---|" * len(names), flush=True)


def parser(text: str) -> argparse.ArgumentParser:
  """What all of these commands understand."""
  found = argparse.ArgumentParser(
    description=text, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  found.add_argument("--json", type=Path, help="write all numbers here")
  found.add_argument("--rounds", type=int, default=5)
  found.add_argument("--baseline", action="store_true", help="PyTorch, too")
  found.add_argument(
    "--apart",
    action="store_true",
    help="one side after the other, where memory does not hold both",
  )
  found.add_argument("--side", help=argparse.SUPPRESS)
  found.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
  return found


def save(path: Path | None, head: Mapping[str, Any], rows: Any) -> None:
  """All numbers as JSON, if a place is named."""
  if path:
    path.write_text(json.dumps({"header": head, "rows": rows}, indent=1))


def device() -> str:
  """What JAX computes on, asked in a process of its own."""
  code = "import jax; d = jax.devices()[0]; print(d.device_kind)"
  found = subprocess.run(
    [sys.executable, "-c", code], check=True, capture_output=True, text=True
  )
  return found.stdout.strip()
