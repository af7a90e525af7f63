"""`e4e plan`: whether a run fits a device, and how fast it can be at most."""

import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from encoder4editing_jax.cli.parsing import parse
from encoder4editing_jax.cli.train import load_config
from encoder4editing_jax.config import Config, ConfigError
from encoder4editing_jax.training import targets

MINUTE = 60.0
MORE = 1.7
"""Compilers took up to so many times the estimated temporaries, docs/tpu.md."""
Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]


@dataclass(frozen=True)
class PlanArguments:
  """Say what a run needs of a device, which need not be there.

  Prints parameters, memory by part, the largest batch that fits, and how long
  a step takes at least. TPUs are asked of XLA's compiler (jax[tpu] brings it),
  minutes for each batch that is tried; GPUs are estimated.

  Example: e4e plan ffhq --target v5e:2x4 --run.batch_size 64
  """

  card: tyro.conf.Positional[str]
  """Run card: a Python file, or the name of one of the package."""

  target: str = ""
  """Kind of device, with a number or a shape: v4, v5e, v5p, v6e (v5e:4x4 or
  v5e:16), l4, a100, h100, h200 (h200:8), or cpu: this machine."""

  no_compile: Switch = False
  """Count only: seconds, and no compiler is asked."""

  compiles: int = 3
  """Batches that are compiled at most."""

  json: Switch = False
  """Print one JSON object."""

  settings: Annotated[
    Config, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff
  ] = Config()  # noqa: RUF009 (frozen)


def plan_command(argv: Sequence[str]) -> int:
  """`e4e plan`: 0 if the run fits, else 1.

  Raises:
    ConfigError: wrong flags, card or target.
    ValueError: the compiler failed for another reason than memory; what was
      found until then is printed.
  """
  asked = _parse(argv)
  target = targets.parse(asked.target)
  import jax

  from encoder4editing_jax.converters.start import load_start
  from encoder4editing_jax.training import outline, planning

  jax.config.update("jax_platforms", "cpu")  # leaves a device to others
  found = planning.plan(
    outline.outline(asked.settings, load_start),
    target,
    compiles=0 if asked.no_compile else asked.compiles,
    watch=_watch,
  )
  found = {"card": asked.card} | found
  print(json.dumps(found) if asked.json else text(found), flush=True)
  if found["failed"]:
    raise ValueError(found["failed"])
  return 0 if found["step"]["fits"] else 1


@contextlib.contextmanager
def _watch(what: str) -> Iterator[None]:
  """Says on standard error what is compiled, and each minute that it still
  is."""
  began, done = time.perf_counter(), threading.Event()

  def tell(words: str) -> None:
    print(f"{words} ({time.perf_counter() - began:.0f} s)", file=sys.stderr)

  def wait() -> None:
    while not done.wait(MINUTE):
      tell("  still compiling")

  print(f"compiling {what}", file=sys.stderr)
  thread = threading.Thread(target=wait, daemon=True)
  thread.start()
  try:
    with _interruptible():
      yield
  finally:
    done.set()
    thread.join()
    tell("  done")


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
  """Ctrl-C ends the process at once: Python would hear of it only when XLA is
  done, and nothing is being written."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  before = signal.signal(signal.SIGINT, signal.SIG_DFL)
  try:
    yield
  finally:
    signal.signal(signal.SIGINT, before)


def _parse(argv: Sequence[str]) -> PlanArguments:
  """Raises ConfigError for wrong flags or a card that is not there."""
  prog, card = "e4e plan", argv[0] if argv else ""
  if {"-h", "--help"} & set(argv):
    tyro.cli(PlanArguments, args=["--help"], prog=prog, use_underscores=True)
  if not card or card.startswith("-"):
    raise ConfigError("name a run card first, as in e4e plan toy --target cpu.")
  default = PlanArguments(card, settings=load_config(card))
  asked = parse(PlanArguments, argv, prog=prog, default=default)
  if asked.compiles < 1:
    raise ConfigError("--compiles is 1 or more; --no-compile asks no compiler.")
  if not asked.target:
    raise ConfigError("--target is missing; add --target v5e:4x4, h200 or cpu.")
  return asked


def text(found: dict[str, Any]) -> str:
  """What a plan says, for people."""
  step, parts = found["step"], dict(found["parts"])
  parts["batch"] = parts.pop("batch, each example") * step["batch"]
  how = "compiled" if step["compiled"] else "estimated"
  whole = step["batch"] * found["devices"]
  each = f", {step['batch']} for each" if found["devices"] > 1 else ""
  parameters = ", ".join(
    f"{name} {n / 1e6:.1f} M" for name, n in found["parameters"].items() if n
  )
  lines = [f"{found['card']} on {found['target']}, batch {whole}{each}"]
  lines += [f"note: {line}" for line in found["notes"]]
  if found["estimated_because"]:
    lines.append(f"note: estimated: {found['estimated_because']}")
  lines += ["", f"parameters: {parameters}", "", "memory of each device, MB"]
  lines += [f"  {k:<24}{v / 1e6:10.1f}" for k, v in parts.items() if v]
  lines += [
    f"  {'temporaries, ' + how:<24}{step['temporary'] / 1e6:10.1f}",
    _together(found),
    "",
    _largest(found),
    *_bound(found),
  ]
  lines += [f"to change: {line}" for line in found["advice"]]
  return "\n".join(lines)


def _together(found: dict[str, Any]) -> str:
  step, limit, needed = found["step"], found["memory"], found["needed"]
  verdict = "fits" if step["fits"] else "does not fit"
  most = needed + (MORE - 1) * step["temporary"]
  if step["fits"] and not step["compiled"] and most > limit:
    verdict = f"may fit (compilers took up to {MORE} times the temporaries)"
  words = f"{needed / 1e6:10.1f} of {limit / 1e6:.1f}: {verdict}"
  return f"  {'together':<24}{words}"


def _largest(found: dict[str, Any]) -> str:
  largest, over = found["largest"], found["too_large"]
  if not largest:
    return f"largest batch of a device: none, {over['batch']} does not fit"
  how = "compiled" if largest["compiled"] else "estimated"
  batch = f"largest batch of a device: {largest['batch']}"
  if not over:
    tried = not largest["compiled"] or largest["batch"] == found["most"]
    more = "" if tried else "; larger ones were not tried: --compiles"
    if found["failed"]:
      more = "; the compiler failed at another"
    return f"{batch} or more ({how}{more})"
  return f"{batch} ({how}; {over['batch']} does not fit)"


def _count(n: float) -> str:
  return f"{n / 1e12:.2f} T" if n >= 1e11 else f"{n / 1e9:.2f} G"


def _bound(found: dict[str, Any]) -> list[str]:
  step, bound = found["work"], found["bound"]
  lines = [
    f"a step: {_count(step['operations'])} operations, "
    f"{step['bytes'] / 1e9:.1f} GB read and written on each device"
  ]
  if bound:
    rate = found["step"]["batch"] * found["devices"] / bound["step_ms"] * 1e3
    least, most = (
      ("at least", "at most") if step["compiled"] else ("about",) * 2
    )
    lines.append(
      f"{least} {bound['step_ms']:.1f} ms (compute {bound['compute_ms']:.1f}, "
      f"bandwidth {bound['bandwidth_ms']:.1f}): {most} {rate:.0f} images/s"
    )
  else:
    lines.append("no bound: nobody promises peaks of this machine's processors")
  return lines
