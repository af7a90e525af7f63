"""From the command to the first step of a training run, in fresh processes.

    python benchmarks/startup.py [--config configs/toy.py] [--rounds 3]

Starts `train.py` and waits until it tells step 1: Python, imports, drawing the
faces (toy cards), tracing, compiling, one step. "cold" starts with an empty
persistent cache of compiled programs, "warm" with the one that a cold start
filled, in turn. Prints medians in seconds, and the most memory.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import timing

ROOT = timing.ROOT
CACHE = "JAX_COMPILATION_CACHE_DIR"


def resident(process: int) -> float:
  """The most MB that a process has held."""
  for line in Path(f"/proc/{process}/status").read_text().splitlines():
    if line.startswith("VmHWM"):
      return int(line.split()[1]) / 1e3
  return 0.0


def start(config: str, workdir: Path, cache: Path) -> dict[str, float]:
  """Seconds until the first step is told; the run is then ended."""
  command = [sys.executable, "-u", "train.py", "--config", config]
  command += ["--workdir", str(workdir), "--run.log_every", "1"]
  began, drawn = time.perf_counter(), None
  lines = []
  with subprocess.Popen(
    command,
    cwd=ROOT,
    env=os.environ | {CACHE: str(cache), "PYTHONPATH": str(ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  ) as process:
    for line in process.stdout or ():
      lines.append(line)
      if "drawing faces" in line:
        drawn = time.perf_counter() - began
      if "step 1/" in line:
        seconds = time.perf_counter() - began
        memory = resident(process.pid)
        process.kill()
        return {"seconds": seconds, "ready_s": drawn or 0, "peak_mb": memory}
  raise SystemExit("".join(lines) + "the run ended before its first step")


def main() -> None:
  """The command."""
  parser = timing.parser(__doc__)
  parser.add_argument("--config", default="configs/toy.py")
  parser.set_defaults(rounds=3)
  options = parser.parse_args()
  head = timing.header(timing.device())
  timing.say(head)
  found: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
  with tempfile.TemporaryDirectory() as temporary:
    for k in range(options.rounds):
      cache = Path(temporary, f"cache{k}")
      for name, times in found.items():
        workdir = Path(temporary, f"{name}{k}")
        times.append(start(options.config, workdir, cache))
  timing.heading("start", "seconds to step 1", "MB")
  for name, times in found.items():
    seconds, memory = (
      statistics.median(t[key] for t in times) for key in ("seconds", "peak_mb")
    )
    timing.row(name, seconds, memory)
  timing.save(options.json, head, json.loads(json.dumps(found)))


if __name__ == "__main__":
  main()
