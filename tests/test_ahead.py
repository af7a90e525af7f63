"""Compiling for devices that are not there."""

import importlib.util
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from changing import change
from jax.experimental import topologies
from test_step import CONFIG, EVERYTHING, batches, build

from encoder4editing_jax.training import accumulation, ahead, state as states

without_tpu = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None,
  reason="compiling for TPUs needs libtpu: pip install 'jax[tpu]'",
)


@pytest.mark.parametrize(
  ("found", "fix"), [(None, "install jax[tpu]"), (object(), "name one as in")]
)
def test_what_cannot_be_compiled_for_is_one_line(monkeypatch, found, fix):
  def none(*args, **options):
    raise RuntimeError("no such thing\n  in three\n  lines")

  monkeypatch.setattr(topologies, "get_topology_desc", none)
  monkeypatch.setattr(importlib.util, "find_spec", lambda _: found)
  with pytest.raises(ValueError, match=r"v5e:9x9 \(no such thing\)") as told:
    ahead.topology("v5e:9x9")
  assert "\n" not in str(told.value) and fix in str(told.value)


def test_collectives_are_read_from_a_compiled_program():
  text = """
    %a = f32[10,3]{1,0:T(8,128)} all-reduce(%x), replica_groups={}
    ROOT %b = (f32[4]{0}, bf16[8]{0}) all-reduce(%y, %z), to_apply=%add
    %c = (f32[2]{0}, f32[8]{0}) all-gather-start(%p), dimensions={0}
    %d = f32[8]{0} all-gather-done(%c)
    %e = f32[] add(%all-reduce.1, %f)
  """
  found = ahead.collectives(text)
  assert found == {"all-reduce": (2, 120 + 16 + 16), "all-gather": (1, 32)}


def test_what_tpus_do_in_parts_counts_once():
  part = "  %a = f32[8]{0} all-gather(%x), replica_groups={}\n}\n"
  text = (
    "%fused_computation.1 (x: f32[1]) -> f32[8] {\n"
    + part
    + "%async_collective_fusion.2 (x: f32[1]) -> f32[8] {\n"
    + part
    + "ENTRY %main.3 (x: f32[1]) -> f32[8] {\n"
    + part
  )
  assert ahead.collectives(text) == {"all-gather": (2, 64)}


def test_what_runs_beside_work_is_read_from_a_schedule():
  """As libtpu 0.0.42.1 writes it: by a sparse core, and by itself."""
  text = """
    %prepare.all-reduce.1 = s32[]{:S(2)} custom-call(), custom_call_target="P"
    %all-reduce.1.call-start = ((f32[3]{0}), (f32[3]{0})) call-start(%x)
    %all-reduce-start.2 = f32[8]{0} all-reduce-start(%y), to_apply=%add
    %copy-start.9 = (f32[2]{0}, f32[2]{0}, u32[]) copy-start(%p)
    %all-reduce-done.2 = f32[8]{0} all-reduce-done(%all-reduce-start.2)
    %fusion.1 = f32[64]{0} fusion(%z), kind=kOutput, calls=%c
    %copy-done.9 = f32[2]{0} copy-done(%copy-start.9)
    %all-reduce.1.call-done = (f32[3]{0}) call-done(%all-reduce.1.call-start)
    %all-reduce.3 = f32[5]{0} all-reduce(%w), to_apply=%add
  """
  assert ahead.overlapped(text) == (1, 12)


@pytest.mark.parametrize(
  ("words", "memory", "temporary"),
  [
    (
      "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required "
      "for HLO temporaries (107.79G) exceeds available HBM (15.75G).",
      107.79,
      107.79,
    ),
    (
      "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory "
      "in memory space hbm. Used 17.05G of 15.75G hbm. Exceeded hbm capacity "
      "by 1.30G.\n\nTotal hbm usage >= 17.30G:",
      17.05,
      0,
    ),
  ],
)
def test_too_little_memory_is_read_from_the_error(words, memory, temporary):
  """The first as libtpu 0.0.42.1 says it."""
  found = ahead.exhausted(words)
  assert not found.fits
  assert found.memory == pytest.approx(memory * 2**30)
  assert found.temporary == pytest.approx(temporary * 2**30)
  assert ahead.exhausted("INTERNAL: 3 of 4 failed") is None


def test_shapes_are_those_of_the_pipeline():
  batch = next(batches())
  shapes = ahead.batch_shapes(CONFIG)
  assert {k: (v.shape, v.dtype) for k, v in shapes.items()} == {
    k: (v.shape, v.dtype) for k, v in batch.items()
  }
  maps = change(CONFIG, data={"task": "segmentation"})
  assert ahead.batch_shapes(maps)["source"].shape[-1] == 1


def test_what_is_lowered_is_the_step_of_the_trainer():
  """Lowered from shapes alone, for the devices of this machine, it takes what
  the trainer passes."""
  devices = jax.devices()[:2]
  lowered = ahead.lower_step(CONFIG, lambda: build(CONFIG), devices)
  networks = build(CONFIG)
  state = states.create_state(CONFIG, networks)
  frozen = states.create_frozen(networks)
  wanted = jax.tree.map(np.shape, (state, frozen, next(batches())))
  found = jax.tree.map(lambda x: x.shape, lowered.args_info[0])
  assert jax.tree.leaves(found) == jax.tree.leaves(wanted)


@pytest.mark.slow
@without_tpu
def test_the_step_compiles_for_a_pod():
  """Sixteen chips of four hosts; gradients are summed by all-reduce, and only
  the codes for the pools are gathered."""
  devices = ahead.topology("v5e:4x4")
  assert len(devices) == 16 and len({d.process_index for d in devices}) == 4
  config = change(EVERYTHING, run={"batch_size": 16})
  lowered = ahead.lower_step(config, lambda: build(config), devices)
  compiled = lowered.compile()
  text = compiled.as_text()
  found = re.findall(
    r" ((?:all|collective|ragged)-[a-z-]+?|reduce-scatter)"
    r"(?:-start)?\(",
    text,
  )
  assert set(found) == {"all-reduce", "all-gather"}
  assert found.count("all-reduce") > 4
  assert "num_partitions=16" in text
  state = jax.eval_shape(lambda: states.create_state(config, build(config)))
  size = sum(x.size * 4 for x in jax.tree.leaves(state))
  arguments = compiled.memory_analysis().argument_size_in_bytes
  assert arguments > size  # the whole state lies on each chip


@pytest.mark.parametrize(("platform", "loops"), [("cpu", 0), ("tpu", 1)])
def test_loops_are_those_of_the_platform_that_is_compiled_for(platform, loops):
  """Not of this machine: written out for a CPU alone, see `accumulation`."""

  def total(x):
    return accumulation._scan(lambda c, i: (c + i, i), x, jnp.arange(3))

  traced = jax.jit(total).trace(jnp.int32(0))
  text = traced.lower(lowering_platforms=(platform,)).as_text()
  assert text.count("stablehlo.while") == loops
