"""From the command to the first step of training, cold and warm.

    python benchmarks/startup.py [--card toy] [--runs 3] [FLAGS OF THE CARD]

Each run is a process of its own, in a new folder. Cold ones find no cache of
compiled programs, warm ones that of the first cold one. Time ends when the
numbers of the first step are on the disk. Prints rows of Markdown.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def cpu_seconds(process: int) -> float:
  """What a process has used so far."""
  fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
  return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start(card: str, flags: list[str], cache: Path) -> tuple[float, float]:
  """Seconds from the start of a process to its first line of numbers, and
  seconds that processors worked for it."""
  with tempfile.TemporaryDirectory() as folder:
    workdir = Path(folder, "run")
    command = [sys.executable, "train.py", "--config", card]
    command += ["--workdir", str(workdir), "--run.log_every", "1", *flags]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    began = time.perf_counter()
    with subprocess.Popen(
      command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    ) as process:
      numbers = workdir / "metrics.jsonl"
      while not (numbers.exists() and numbers.stat().st_size):
        if process.poll() is not None:
          raise SystemExit(f"the run ended with status {process.returncode}")
        time.sleep(0.02)
      seconds = time.perf_counter() - began
      busy = cpu_seconds(process.pid)
      process.kill()
  return seconds, busy


def main() -> None:
  """Measures, and prints."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--card", default="toy")
  parser.add_argument("--runs", type=int, default=3)
  asked, flags = parser.parse_known_args()
  found: dict[str, list[tuple[float, float]]] = {"cold": [], "warm": []}
  for _ in range(asked.runs):  # interleaved: others use the machine too
    with tempfile.TemporaryDirectory() as cache:
      for kind in found:
        found[kind].append(start(asked.card, flags, Path(cache)))
        if kind == "cold":  # what is written after the first step
          sizes = [p.stat().st_size for p in Path(cache).rglob("*-cache")]
  print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
  print(f"cache: {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB")
  print("\n| start | seconds | of processors | all |\n|---|---|---|---|")
  for kind, seconds in found.items():
    every = ", ".join(f"{s:.1f} ({c:.1f})" for s, c in seconds)
    waited, busy = map(statistics.median, zip(*seconds, strict=True))
    print(f"| {kind} | {waited:.1f} | {busy:.1f} | {every} |")


if __name__ == "__main__":
  main()
