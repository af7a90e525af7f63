"""Writes docs/parity.md: `python tests/parity_report.py > docs/parity.md`.

Minutes on two cores and up to 6 GB of memory. `--log FILE` keeps the results of
finished cases there and takes them up again when it is called once more.
"""

import argparse
import datetime
import json
import math
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import jax
import parity
import parity_align  # noqa: F401
import parity_coach  # noqa: F401
import parity_editability  # noqa: F401
import parity_editing  # noqa: F401
import parity_features  # noqa: F401
import parity_frameworks  # noqa: F401
import parity_networks  # noqa: F401
import parity_ops  # noqa: F401
import parity_training  # noqa: F401
import parity_transforms  # noqa: F401

TEXT = """\
# Parity with the original implementations

Written by

    python tests/parity_report.py > docs/parity.md

on {date}: {machine}, {cores} cores, {backend}; jax {jax}, flax {flax}, numpy
{numpy}, Python {python}; float32 with full matmul precision.

Reference outputs of the original PyTorch code (encoder4editing,
pixel2style2pixel, restyle-encoder) at random weights are compared with this
library's, after its converters brought the same weights over. The error is the
relative distance |ours - theirs| / |theirs| (2-norms; of large fields it is
taken over every k-th value, and the mean, standard deviation and largest
magnitude of the whole field count too). The tolerance is three times the
distance between the original's own float32 and float64 results, or 2e-5 where
that is larger. The gradients of LPIPS are computed in float64: in float32 they
jump where two values in a pool are nearly equal. Optimizers are held to 1e-6,
whole training steps (coach) to 1e-3 where three times the noise is less; fields
of which the originals' own two results are apart by a sixth or more say
nothing, and are left out.

What misses is the change of two leaves of the latent discriminator, in two of
the replays (coach_cars, and coach_e4e_fast, at ten times the learning rate).
Their gradients depend on which side of 0 its units are on. By the third step
codes are apart by 2e-4, and by 1e-4 in the originals' own two results; when the
codes of cars were disturbed by as much (a throw-away program, in float64), a
unit changed sides in half of the draws, which changed these two gradients by
1e-3 to 2e-3, and by 3e-5 to 1e-4 with the units held. Losses, R1 and the last
layer of the same discriminator agree. In earlier versions other fields missed,
and cars did not. `tests/parity.py` says more; `pytest
tests/test_parity.py` checks the quick rows, `-m slow` the others.

{passed} of {fields} fields in {cases} cases agree. Per case, the field that
comes closest to its tolerance:

| network | case | fields | worst field | error | tolerance | |
|---|---|---|---|---|---|---|
"""


def machine() -> str:
  """The name of the processor."""
  try:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(x.split(":")[1].strip() for x in lines if "model name" in x)
  except (OSError, StopIteration):
    return platform.processor() or platform.machine()


def measure(log: Path | None) -> dict[str, list[list]]:
  """(field, error, tolerance) of every case; finished ones from the log."""
  done = json.loads(log.read_text()) if log and log.exists() else {}
  for name, case in parity.CASES.items():
    if name in done:
      continue
    start = time.time()
    results = parity.run(case)
    done[name] = [[r.field, r.error, r.tolerance] for r in results]
    jax.clear_caches()
    if log:
      log.write_text(json.dumps(done, indent=1))
    failed = [r for r in results if not r.passed]
    print(f"{name}: {time.time() - start:.0f} s", *failed, file=sys.stderr)
  return done


def closeness(result: parity.Result) -> float:
  """How much of its tolerance a field uses; some have to be exact."""
  if result.tolerance:
    return result.error / result.tolerance
  return math.inf if result.error else 0.0


def row(case: parity.Case, results: list[parity.Result]) -> str:
  """The line of the table for one case."""
  worst = max(results, key=closeness)
  passed = all(r.passed for r in results)
  numbers = f"{worst.error:.1e} | {worst.tolerance:.1e}"
  return (
    f"| {case.network} | {case.name} | {len(results)} | `{worst.field}` | "
    f"{numbers} | {'pass' if passed else '**FAIL**'} |"
  )


def report(done: dict[str, list[list]]) -> str:
  """The whole page."""
  results = {
    name: [parity.Result(*r) for r in done[name]] for name in parity.CASES
  }
  every = [r for found in results.values() for r in found]
  head = TEXT.format(
    date=datetime.date.today().isoformat(),
    machine=machine(),
    cores=os.cpu_count(),
    backend=jax.default_backend(),
    python=platform.python_version(),
    **{name: version(name) for name in ("jax", "flax", "numpy")},
    passed=sum(r.passed for r in every),
    fields=len(every),
    cases=len(results),
  )
  rows = [row(parity.CASES[name], found) for name, found in results.items()]
  return head + "\n".join(rows)


def main() -> None:
  """Prints the page."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--log", type=Path)
  print(report(measure(parser.parse_args().log)))


if __name__ == "__main__":
  main()
