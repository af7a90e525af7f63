"""What `e4e plan` says of runs and devices that are not there."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from changing import change

from encoder4editing_jax import faceworld
from encoder4editing_jax.cli import main
from encoder4editing_jax.cli.train import load_config
from encoder4editing_jax.config import ConfigError
from encoder4editing_jax.training import (
  counting,
  needs,
  outline,
  planning,
  state as states,
  targets,
)

TOY = load_config("toy")
SMALL = change(TOY, model={"channels": (8, 8, 8, 8)}, run={"batch_size": 4})


@pytest.fixture(scope="module")
def small():
  return outline.outline(SMALL)


@pytest.fixture(scope="module")
def steps(small):
  """Estimated steps of 4 and 8 examples."""
  h200 = targets.parse("h200")
  return [needs.estimated(small, h200, batch) for batch in (4, 8)]


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


def test_more_examples_need_more(steps):
  small, large = steps
  assert small.temporary < large.temporary
  assert small.operations < large.operations
  assert small.bytes < large.bytes


def test_what_cannot_be_compiled_is_estimated(small, steps, monkeypatch):
  known = {step.batch: step for step in steps}
  monkeypatch.setattr(planning, "estimated", lambda _, __, batch: known[batch])
  found = planning.plan(small, targets.parse("h100"))
  assert not found["step"]["compiled"]
  assert "GPU" in found["estimated_because"]
  assert found["step"]["batch"] == 4 and found["devices"] == 1
  assert found["bound"]["step_ms"] > 0
  assert found["step"]["fits"] and not found["advice"]


def test_what_does_not_fit_is_told_what_to_change(small, steps, monkeypatch):
  asked, double = (dataclasses.replace(s, fits=False) for s in steps)
  line = needs.line_through(small, targets.parse("h200"), asked, double)
  kind = dataclasses.replace(
    targets.KINDS["a100"],
    memory=(needs.lasting(small, 3) + line(3).temporary) / needs.POOL,
  )
  known = {4: asked, 8: double}
  monkeypatch.setattr(planning, "estimated", lambda _, __, batch: known[batch])
  found = planning.plan(small, targets.Target(kind, 1))
  assert found["largest"]["batch"] == 3
  assert "--model.dtype bfloat16" in found["advice"][0]
  assert "3 for each device fit" in found["advice"][1]


@pytest.mark.parametrize("limit", [1, 7, 8, 61])
def test_the_largest_batch_is_found_by_few_questions(small, limit):
  """On a line the second question is the last."""
  target, asked = targets.parse("v5e"), []

  def measure(batch):
    asked.append(batch)
    temporary = needs.usable(target) - needs.lasting(small, batch)
    temporary += (batch - limit - 0.5) * 1e8
    return needs.Step(batch, temporary, 1.0, 1.0, batch <= limit, True)

  found = needs.largest_batch(measure(4), small, target, measure, 4, 1.2e8)
  assert found.batch == limit
  assert len(asked) <= 5


def test_products_are_counted():
  def function(x, y):
    return jax.nn.relu(x @ y).sum()

  shapes = jnp.zeros((3, 5)), jnp.zeros((5, 7))
  found = counting.count(jax.make_jaxpr(function)(*shapes).jaxpr)
  assert found.operations == 2 * 3 * 5 * 7
  assert found.bytes == 4 * (3 * 5 + 5 * 7 + 3 * 7)
  assert found.peak >= 4 * 3 * 7


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
  "text", ["", "v3", "v5e:", "v5e:0", "v5e:6", "v5e:2x2x2", "h200:x", "v4:2x2"]
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
    (["toy", "--target", "tpu"], "v5e"),
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
