"""Whether a long run stays as it began: memory, threads, files, step time.

    python benchmarks/steady.py [--steps 10000] [--workdir DIR] [--out FILE]

Trains `configs/toy.py` with batches of 4 in a process of its own, saving every
1,000 and evaluating every 2,500 steps, and looks at it every two seconds.
Prints rows of Markdown: means over the second and over the last tenth of the
run, and draws all of it.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
EVERY = 2  # seconds between looks
BATCH, LOG, SAVE, EVALUATE = 4, 20, 1000, 2500  # images, and steps between


def look(process: int) -> dict[str, float] | None:
  """What a process holds now; None if it has ended."""
  place = Path("/proc", str(process))
  try:
    fields = dict(
      line.split(":", 1) for line in (place / "status").read_text().splitlines()
    )
    return {
      "memory MB": int(fields["VmRSS"].split()[0]) / 1e3,
      "threads": int(fields["Threads"]),
      "open files": len(os.listdir(place / "fd")),
    }
  except (KeyError, OSError):
    return None


def train(workdir: Path, steps: int) -> list[dict[str, float]]:
  """Runs to the end; what was seen, with the seconds since the start."""
  command = [sys.executable, "train.py", "--config", "configs/toy.py"]
  command += ["--workdir", str(workdir), "--run.steps", str(steps)]
  command += ["--run.batch_size", str(BATCH)]
  command += ["--run.log_every", str(LOG), "--run.save_every", str(SAVE)]
  command += ["--run.eval_every", str(EVALUATE)]
  began, seen = time.perf_counter(), []
  with subprocess.Popen(command, cwd=ROOT) as process:
    while process.poll() is None:
      if found := look(process.pid):
        seen.append({"seconds": time.perf_counter() - began} | found)
      time.sleep(EVERY)
  if process.returncode:
    raise SystemExit(f"the run ended with status {process.returncode}")
  return seen


def step_times(workdir: Path) -> tuple[list[int], list[float]]:
  """Steps, and milliseconds per step up to them."""
  lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  rates = [
    (line["step"], 1e3 * BATCH / line["train/images_per_second"])
    for line in lines
    if "train/images_per_second" in line
  ]
  return [step for step, _ in rates], [ms for _, ms in rates]


def report(seen: list[dict[str, float]], times: list[float]) -> None:
  """Prints the table."""
  names = [name for name in seen[0] if name != "seconds"]
  curves = {name: [s[name] for s in seen] for name in names}
  curves["step ms"] = times
  print("| | second tenth | last tenth | largest |\n|---|---|---|---|")
  for name, values in curves.items():
    tenth = max(len(values) // 10, 1)
    early, late = values[tenth : 2 * tenth], values[-tenth:]
    print(
      f"| {name} | {sum(early) / len(early):.1f} | "
      f"{sum(late) / len(late):.1f} | {max(values):.1f} |"
    )


def draw(
  seen: list[dict[str, float]], steps: list[int], times: list[float], out: Path
) -> None:
  """All curves, one below the other."""
  from matplotlib.figure import Figure

  names = [name for name in seen[0] if name != "seconds"]
  figure = Figure((7, 7), layout="constrained")
  panels = figure.subplots(len(names) + 1)
  for name, panel in zip(names, panels, strict=False):
    panel.plot([s["seconds"] for s in seen], [s[name] for s in seen], lw=1)
    panel.set(ylabel=name, xlabel="seconds", ylim=(0, None))
  panels[-1].plot(steps, times, lw=1)
  panels[-1].set(ylabel="step ms", xlabel="step", ylim=(0, None))
  for panel in itertools.chain(panels):
    panel.grid(alpha=0.3)
  figure.savefig(out, dpi=90)


def main() -> None:
  """The command."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--steps", type=int, default=10_000)
  parser.add_argument("--workdir", type=Path, help="keep the run here")
  parser.add_argument("--out", type=Path, default=Path("steady.png"))
  options = parser.parse_args()
  with tempfile.TemporaryDirectory() as temporary:
    workdir = options.workdir or Path(temporary, "run")
    seen = train(workdir, options.steps)
    steps, times = step_times(workdir)
  report(seen, times)
  draw(seen, steps, times, options.out)


if __name__ == "__main__":
  main()
