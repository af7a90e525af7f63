"""What `e4e plan` says of runs and devices that are not there."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import types

import jax
import jax.numpy as jnp
import pytest
from changing import change

from encoder4editing_jax import faceworld
from encoder4editing_jax.cli import main, plan
from encoder4editing_jax.cli.train import load_config
from encoder4editing_jax.config import ConfigError
from encoder4editing_jax.training import (
  ahead,
  counting,
  needs,
  outline,
  planning,
  searching,
  state as states,
  targets,
)
from encoder4editing_jax.training.parallel import AXIS
from encoder4editing_jax.training.step import make_train_step

TOY = load_config("toy")
SINGLE = ["toy_psp", "--model.encoder", "SingleStyleEncoder"]
SMALL = change(TOY, model={"channels": (8, 8, 8, 8)}, run={"batch_size": 4})

without_tpu = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None,
  reason="compiling for TPUs needs libtpu: pip install 'jax[tpu]'",
)


@pytest.fixture(scope="module")
def small():
  return outline.outline(SMALL)


@pytest.fixture(scope="module")
def estimated(small):
  """Estimated steps by their batches."""
  return needs.estimator(small, targets.parse("h200"))


@pytest.fixture
def known(estimated, monkeypatch):
  """No step is traced anew."""
  monkeypatch.setattr(planning, "estimator", lambda *_: estimated)


@pytest.mark.parametrize(
  "changes", [{}, {"optim": {"ema": 0.9, "name": "ranger"}}]
)
def test_the_state_takes_what_a_created_one_does(changes):
  config = change(SMALL, **changes)
  networks = states.build_networks(config, faceworld.load_generator())
  state = states.create_state(config, networks)
  frozen = states.create_frozen(networks)
  real = sum(x.nbytes for x in jax.tree.leaves((state, frozen)))
  parts = needs.memory_by_part(outline.outline(config))
  image = parts.pop("batch, each example")
  assert sum(parts.values()) == real
  assert image == 64 * 64 * 3


def test_a_step_that_is_not_skipped_is_counted():
  def function(p, x):
    return jax.lax.cond(p, lambda: 2 * x, lambda: x)

  jaxpr = jax.make_jaxpr(function)(True, jnp.zeros(64)).jaxpr
  assert counting.count(jaxpr).bytes >= 2 * 4 * 64


def test_more_examples_need_more(estimated):
  small, large = estimated(4), estimated(8)
  assert small.temporary < large.temporary
  assert small.operations < large.operations
  assert small.bytes < large.bytes


@pytest.mark.parametrize("parts", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_one_trace_is_enough_for_all_batches(parts):
  """What is counted of a marked batch is what the batch itself has."""
  config = change(SMALL, run={"batch_size": 6, "microbatches": parts})
  made, target = outline.outline(config), targets.parse("v5e")
  step = make_train_step(config, made.networks)
  traced = jax.make_jaxpr(step, axis_env=[(AXIS, 1)])(
    made.state, made.frozen, ahead.batch_shapes(config)
  )
  wanted = counting.count(traced.jaxpr, "tpu")
  found = needs.estimator(made, target)(6)
  assert found.operations == wanted.operations
  assert found.temporary == wanted.peak
  assert found.bytes == wanted.bytes


@pytest.mark.usefixtures("known")
def test_what_cannot_be_compiled_is_estimated(small):
  watched = []
  found = planning.plan(small, targets.parse("h100"), watch=watched.append)
  assert not found["step"]["compiled"] and not watched
  assert "GPU" in found["estimated_because"]
  assert found["step"]["batch"] == 4 and found["devices"] == 1
  assert found["bound"]["step_ms"] > 0
  assert found["step"]["fits"] and not found["advice"]


def test_what_does_not_fit_is_told_what_to_change(
  small, estimated, monkeypatch
):
  three = estimated(3)
  memory = (needs.lasting(small, 3) + three.temporary + 1) / needs.POOL
  kind = dataclasses.replace(targets.KINDS["a100"], memory=memory)
  target = targets.Target(kind, 1)

  def judged(batch):
    step = estimated(batch)
    fits = needs.needed(small, step) <= needs.usable(target)
    return dataclasses.replace(step, fits=fits)

  monkeypatch.setattr(planning, "estimator", lambda *_: judged)
  found = planning.plan(small, target)
  assert found["largest"]["batch"] == 3 and found["too_large"]["batch"] == 4
  assert "--model.dtype bfloat16" in found["advice"][0]
  assert "--run.batch_size 3: 3 for each device fit" in found["advice"][1]


@pytest.mark.usefixtures("known")
def test_batches_are_compiled_as_often_as_was_said(small, monkeypatch):
  """By a compiler that says less than the estimate; each is watched."""
  watched, limit = [], 100

  def compiled(_, __, batch):
    temporary = 1e8 + 1e8 * batch
    return needs.Step(batch, temporary, 1.0, 1.0, batch <= limit, True, 60.0)

  kind = dataclasses.replace(
    targets.KINDS["v5e"], memory=102.5e8 + 0.25 * 2**30
  )
  monkeypatch.setattr(planning, "devices_of", lambda _: [])
  monkeypatch.setattr(planning, "compiled", compiled)
  target = targets.Target(kind, 1, (1, 1))

  def watch(what):
    watched.append(what)
    return contextlib.nullcontext()

  for compiles, largest in ((1, 4), (2, 80), (3, 96)):
    watched.clear()
    found = planning.plan(small, target, compiles=compiles, watch=watch)
    assert len(found["tries"]) == len(watched) == compiles
    assert found["largest"]["batch"] == largest and not found["too_large"]
    assert "1 of" in watched[0] and "batch 4" in watched[0]
    assert found["tries"][-1]["seconds"] == 60
    words = plan.text({"card": "toy"} | found)
    assert f"device: {largest} or more (compiled; larger ones" in words


class Program:
  """Compiles if it is sound; else fails, and not for want of memory."""

  def __init__(self, sound):
    self.sound = sound

  def compile(self, compiler_options=None):
    if not self.sound:
      raise jax.errors.JaxRuntimeError("INTERNAL: no such tile\n  in lines")
    return self

  def cost_analysis(self):
    return {"flops": 1.0, "bytes accessed": 1.0}

  def memory_analysis(self):
    sizes = dict.fromkeys(
      [f"{x}_size_in_bytes" for x in ("argument", "output", "alias")], 0
    )
    sizes["generated_code_size_in_bytes"] = 0
    return types.SimpleNamespace(**sizes, temp_size_in_bytes=4e9)

  def as_text(self):
    return ""


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("how", [[], ["--json"]])
@pytest.mark.parametrize("sound", [1, 0])
def test_what_was_found_before_the_compiler_failed_is_printed(
  sound, how, monkeypatch, capsys
):
  """The batch of the config compiles, the next does not; or none does."""
  asked = []

  def lower(config, *_):
    asked.append(config.run.batch_size)
    return Program(len(asked) <= sound)

  monkeypatch.setattr(planning, "devices_of", lambda _: [])
  monkeypatch.setattr(needs, "devices_of", lambda _: [])
  monkeypatch.setattr(ahead, "lower_step", lower)
  flags = ["--target", "v5e", "--run.batch_size", "4"]
  assert main(["plan", "toy", *flags, *how]) == 2
  out, err = capsys.readouterr()
  assert len(asked) == 1 + sound and asked[0] == 4
  failure = f"batch {asked[-1]} for v5e:1x1: the compiler failed (INTERNAL: no"
  assert err.splitlines()[-1] == f"error: {failure} such tile)"
  if how:
    found = json.loads(out)
    assert found["failed"].startswith(failure)
    assert found["step"]["batch"] == 4
    assert found["step"]["compiled"] == bool(sound)
  elif sound:
    assert "temporaries, compiled" in out
    assert "largest batch of a device: 4 or more (compiled; the comp" in out
    assert "estimated" not in out
  else:
    assert "temporaries, estimated" in out and "INTERNAL" in out


@pytest.mark.usefixtures("known")
def test_an_estimate_that_barely_fits_is_not_believed(small):
  found = {"card": "toy"} | planning.plan(small, targets.parse("h100"))
  assert ": fits" in plan.text(found)
  found["memory"] = found["needed"] + 0.5 * found["step"]["temporary"]
  assert ": may fit" in plan.text(found)


def test_what_is_compiled_is_watched_and_can_be_interrupted(
  capsys, monkeypatch
):
  """Signals would wait for XLA, so that the system's own handler is put in
  place meanwhile."""
  monkeypatch.setattr(plan, "MINUTE", 0.01)
  before = signal.getsignal(signal.SIGINT)
  with pytest.raises(ValueError, match="broken"), plan._watch("batch 4"):
    assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    time.sleep(0.1)
    raise ValueError("broken")
  assert signal.getsignal(signal.SIGINT) == before
  out, err = capsys.readouterr()
  first, *others, last = err.splitlines()
  assert not out and first == "compiling batch 4" and "done (0 s)" in last
  assert others and all("still compiling" in line for line in others)


@pytest.mark.parametrize("limit", [1, 7, 8, 61])
@pytest.mark.parametrize("device", ["v5e", "h200"])
def test_the_largest_batch_is_found_by_few_questions(small, limit, device):
  """On a line the second question is the last; TPUs have rows of eight."""
  target, asked = targets.parse(device), []

  def measure(batch):
    asked.append(batch)
    temporary = needs.usable(target) - needs.lasting(small, batch)
    temporary += (batch - limit - 0.5) * 1e8
    return needs.Step(batch, temporary, 1.0, 1.0, batch <= limit, True)

  seen = searching.search(measure(4), small, target, measure, 4, 1.2e8)
  found = max(step.batch for step in seen if step.fits)
  assert found == (56 if (limit, device) == (61, "v5e") else limit)
  assert len(asked) <= 5


@pytest.mark.parametrize("tries", [1, 2])
def test_a_search_from_above_ends_with_a_batch_that_fits(small, tries):
  """Even if less falls away with the examples than was thought."""
  target = targets.parse("v5e")

  def measure(batch):
    temporary = 4e9 + batch * 1e8
    fits = needs.lasting(small, batch) + temporary <= needs.usable(target)
    return needs.Step(batch, temporary, 0.0, 0.0, fits, True)

  seen = searching.search(measure(512), small, target, measure, tries, 1.1e8)
  assert len(seen) == 1 + tries
  assert seen[0].fits == (tries == 2)


def test_a_container_has_less_memory_than_its_machine(tmp_path, monkeypatch):
  limits = [tmp_path / "none", tmp_path / "max", tmp_path / "limit"]
  limits[1].write_text("max\n")
  limits[2].write_text("1000\n")
  monkeypatch.setattr(targets, "_LIMITS", list(map(str, limits)))
  assert targets.this_machine().memory == 1000


def test_products_are_counted():
  def function(x, y):
    return jax.nn.relu(x @ y).sum()

  shapes = jnp.zeros((3, 5)), jnp.zeros((5, 7))
  found = counting.count(jax.make_jaxpr(function)(*shapes).jaxpr)
  assert found.operations == 2 * 3 * 5 * 7
  product, total = 3 * 5 + 5 * 7 + 3 * 7, 3 * 7 + 1  # read, and written
  assert found.bytes == 4 * (product + total)
  assert found.peak >= 4 * 3 * 7


def test_what_is_computed_number_by_number_is_not_kept():
  """A product, a sum over it, and one number for each of its numbers."""

  def function(x, y):
    z = x @ y
    return (jnp.maximum(2 * z + 1, 0) * z).sum()

  shapes = jnp.zeros((64, 64)), jnp.zeros((64, 64))
  found = counting.count(jax.make_jaxpr(function)(*shapes).jaxpr)
  matrix = 4 * 64 * 64
  assert found.peak == matrix
  assert found.bytes == 2 * matrix + matrix + matrix + 4


@pytest.mark.parametrize(
  ("platform", "operations"), [("tpu", 2), ("gpu", 1), ("cpu", 1)]
)
def test_the_form_of_the_platform_is_counted(platform, operations):
  def function(x):
    return jax.lax.platform_dependent(
      x, tpu=lambda x: x @ x @ x, default=lambda x: x @ x
    )

  jaxpr = jax.make_jaxpr(function)(jnp.zeros((4, 4))).jaxpr
  found = counting.count(jaxpr, platform)
  assert found.operations == operations * 2 * 4**3


def test_arrays_fill_tiles_on_tpus():
  """Sixteen channels take the place of 128 where a convolution reads them."""

  def function(x, kernel):
    return jax.lax.conv_general_dilated(
      x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

  shapes = jnp.zeros((8, 64, 64, 16)), jnp.zeros((1, 1, 16, 128))
  jaxpr = jax.make_jaxpr(function)(*shapes).jaxpr
  padded = counting.count(jaxpr, "tpu").bytes
  plain = counting.count(jaxpr, "gpu").bytes
  image = 4 * 8 * 64 * 64
  kernel = 4 * 16 * 128
  assert plain == image * (16 + 128) + kernel
  assert padded == image * (128 + 128) + kernel


def test_loops_count_as_often_as_they_run():
  def function(x):
    return jax.lax.scan(lambda c, _: (c @ x, None), x, length=6)[0]

  found = counting.count(jax.make_jaxpr(function)(jnp.ones((4, 4))).jaxpr)
  assert found.operations == 6 * 2 * 4**3


@pytest.mark.parametrize(
  ("text", "name", "count"),
  [
    ("v5e:4x4", "v5e:4x4", 16),
    ("v5e:16", "v5e:4x4", 16),
    ("V6e:8", "v6e:2x4", 8),
    ("v5e", "v5e:1x1", 1),
    ("v4:4", "v4:2x2x1", 4),
    ("v5p:16", "v5p:2x2x4", 16),
    ("h200", "h200", 1),
    ("h100:8", "h100:8", 8),
    ("cpu", "cpu", 1),
  ],
)
def test_targets_by_name(text, name, count):
  found = targets.parse(text)
  assert (found.name, found.count) == (name, count)
  assert targets.parse(found.name) == found


@pytest.mark.parametrize(
  "text",
  [
    *("", "v3", "v5e:", "v5e:0", "v5e:6", "v5e:2x2x2", "h200:x", "v4:2x2"),
    *("v5e:512", "v6e:2x32", "v6e:24", "v4:8192"),
  ],
)
def test_wrong_targets_are_one_line(text):
  if text == "v5e:":
    assert targets.parse(text).count == 1
    return
  with pytest.raises(ConfigError) as told:
    targets.parse(text)
  assert "\n" not in str(told.value)


def test_a_generator_that_is_not_there_is_as_large_as_its_name_says():
  found = outline.outline(change(SMALL, model={"generator": "cars_512.pt"}))
  assert found.networks.generator.size == 512
  assert "cars_512.pt is not there" in found.notes[0]
  for name in ("nowhere.pt", "faces_100.pt"):
    with pytest.raises(ConfigError, match=name):
      outline.outline(change(SMALL, model={"generator": name}))


@pytest.mark.parametrize(
  ("flags", "words"),
  [
    ([], "run card"),
    (["toy"], "--target"),
    (["nowhere", "--target", "cpu"], "nowhere"),
    (["toy", "--target", "h200:3"], "multiple of 3"),
    (["toy", "--target", "h200:3"], "--run.batch_size 48 for 16 on each"),
    (["toy", "--target", "tpu"], "v5e"),
    (["toy", "--target", "v5e", "--compiles", "0"], "--no-compile"),
    (["toy", "--target", "h200", "--run.batch", "4"], "run.batch"),
  ],
)
def test_wrong_flags_are_one_line(flags, words, capsys):
  assert main(["plan", *flags]) == 2
  out, told = capsys.readouterr()
  assert not out and told.count("\n") == 1 and words in told


def test_the_command_in_a_process_of_its_own():
  command = [sys.executable, "-c"]
  command += ["from encoder4editing_jax.cli import main; main()"]
  flags = ["plan", "toy", "--target", "v5e:2x4", "--no-compile", "--json"]
  done = subprocess.run(
    [*command, *flags],
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    check=True,
  )
  found = json.loads(done.stdout)
  assert found["target"] == "v5e:2x4" and found["step"]["batch"] == 2
  assert found["largest"]["batch"] > 2
  assert set(found["parameters"]) == {"encoder", "generator", "discriminator"}


@pytest.mark.slow
@without_tpu
def test_a_real_compiler_and_the_estimate_agree(capsys):
  """A small step for one v5e: its products are counted, its memory is known
  to a third (docs/tpu.md says more)."""
  flags = [*SINGLE, "--run.batch_size", "4", "--target", "v5e:1", "--json"]
  assert main(["plan", *flags, "--compiles", "1"]) == 0
  out, err = capsys.readouterr()
  compiled = json.loads(out)["step"]
  assert "compiling batch 4 for v5e:1x1, 1 of 1" in err
  assert main(["plan", *flags, "--no-compile"]) == 0
  estimated = json.loads(capsys.readouterr().out)["step"]
  assert compiled["compiled"] and compiled["seconds"] > 1
  for name, share in (("operations", 0.25), ("temporary", 0.35)):
    assert estimated[name] == pytest.approx(compiled[name], rel=share)


@pytest.mark.slow
@without_tpu
def test_a_real_compiler_says_what_does_not_fit(capsys):
  flags = [*SINGLE, "--model.generator", "faces_256.pt", "--target", "v5e:1"]
  flags += ["--data.size", "256", "256", "--run.batch_size", "512"]
  assert main(["plan", *flags, "--compiles", "1"]) == 1
  out = capsys.readouterr().out
  assert "temporaries, compiled" in out and "does not fit" in out
  assert "none, 512 does not fit" in out
