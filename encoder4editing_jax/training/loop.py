"""A whole training run: from a config to an exported inverter and a picture.

workdir/config.json          the resolved config
workdir/data/                rendered images, if any
workdir/checkpoints/STEP/    states; the same command continues from them
workdir/metrics.jsonl, tensorboard/, profile/ if asked for
workdir/eval.json, inversions.png, inverter.safetensors
workdir/best.safetensors     the best of all evaluations so far, see best.json
"""

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from encoder4editing_jax import weights
from encoder4editing_jax.config import Config, ConfigError
from encoder4editing_jax.data import pipeline, sources
from encoder4editing_jax.data.tasks import task_of
from encoder4editing_jax.training import state as states
from encoder4editing_jax.training.ahead import batch_shapes
from encoder4editing_jax.training.boards import check_boards
from encoder4editing_jax.training.checkpoint import Checkpoints, save_config
from encoder4editing_jax.training.export import EXPORTED, Best, export
from encoder4editing_jax.training.hosts import agree, heard, is_first
from encoder4editing_jax.training.judge import (
  EVALUATED,
  Judge,
  write_results,
)
from encoder4editing_jax.training.lock import only_run
from encoder4editing_jax.training.opening import Opener
from encoder4editing_jax.training.parallel import (
  PmapStep,
  pmap_step,
  replicate,
)
from encoder4editing_jax.training.preparation import (
  Plan,
  check_workdir,
  prepare,
  render_missing,
)
from encoder4editing_jax.training.reading import Reader
from encoder4editing_jax.training.resuming import check_room, from_newest
from encoder4editing_jax.training.start import begin, describe
from encoder4editing_jax.training.state import Frozen, Networks, TrainState
from encoder4editing_jax.training.step import make_train_step, stage_at
from encoder4editing_jax.training.stopping import Interrupted, Stopping


def run(
  config: Config, workdir: str | Path, open_file: Opener = weights.load
) -> dict[str, Any]:
  """Trains, or continues to train, an encoder.

  Args:
    config: see `config`.
    workdir: folder of the run; made if need be, once everything is checked.
    open_file: opens the files of networks that the config names: this
      library's own, or with `converters.start.load_start`, which the command
      line passes, official ones too.

  Returns:
    The numbers of the last evaluation, as in eval.json.

  Raises:
    ConfigError: one line per problem; the folder has not been touched.
    sources.DataError: the same for the images.
    guard.TrainingStopped: too many steps in a row were not finite.
    checkpoint.NotSaved: too many checkpoints in a row could not be written.
    stopping.Interrupted: a signal came; the state is saved.
  """
  began = time.perf_counter()
  workdir = Path(workdir)
  check_boards(config)
  plan = prepare(config, open_file)
  check_workdir(workdir)
  networks, state = begin(config, plan)
  _make(workdir)
  settings = config.run
  with (
    only_run(workdir),
    contextlib.closing(
      Checkpoints(workdir, settings.keep, settings.keep_best)
    ) as checkpoints,
  ):
    state = from_newest(config, state, checkpoints)
    if checkpoints.latest_step() is None:
      for line in describe(config, networks, plan):
        print(line, flush=True)
    plan = plan.begun()
    if done := _finished(config, state, workdir):
      return done
    check_room(state, checkpoints)
    state, frozen = _placed(config, networks, state)
    step = pmap_step(make_train_step(config, networks))
    _compile_beside(step, state, frozen, config)
    plan = render_missing(plan, config, workdir)
    agree({"images": plan.names()})
    if is_first():
      save_config(config, workdir)
    _announce(config, networks, plan, state)
    judge = Judge(config, networks, plan, frozen, workdir)
    state, results = _train(config, step, plan, state, judge, checkpoints)
  export(config, networks, state, workdir / EXPORTED)
  seconds = round(time.perf_counter() - began, 1)
  results = {"step": int(state.step), "seconds": seconds} | results
  write_results(results, workdir)
  return results


def _make(workdir: Path) -> None:
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise ConfigError(
      f"--workdir {workdir} cannot be made ({error.strerror}); name another "
      "folder."
    ) from error


def _finished(
  config: Config, state: TrainState, workdir: Path
) -> dict[str, Any] | None:
  """The results of a run that has nothing left to do; says so."""
  step = int(state.step)
  if step < config.run.steps or not (workdir / EXPORTED).exists():
    return None
  path = workdir / EVALUATED
  results = json.loads(path.read_text()) if path.exists() else {}
  if results.get("step") != step:  # cut off between the last step and the end
    return None
  print(
    f"the run in {workdir} has ended at step {step}, and stays as it is (see "
    f"{path}); raise run.steps to go on."
  )
  return results


def _placed(
  config: Config, networks: Networks, state: TrainState
) -> tuple[TrainState, Frozen]:
  """The state and what the step needs besides, on all devices, once all
  processes have the same."""
  start = config.data.size if config.model.refinements else None
  frozen = states.create_frozen(networks, start)
  agree({"settings": config.to_dict()})
  agree({"weights": frozen, "first state": state})
  return replicate(state), replicate(frozen)


def _compile_beside(
  step: PmapStep, state: TrainState, frozen: Frozen, config: Config
) -> None:
  """Begins to compile the step; not on several hosts, whose programs have to
  come in one order."""
  if jax.process_count() == 1:
    shapes = batch_shapes(config)
    step.compile(
      state, frozen, {k: np.empty(v.shape, v.dtype) for k, v in shapes.items()}
    )


def _train(
  config: Config,
  train_step: PmapStep,
  plan: Plan,
  state: TrainState,
  judge: Judge,
  checkpoints: Checkpoints,
) -> tuple[TrainState, dict[str, Any]]:
  """The loop; the host reads the numbers of a step while the next one runs.

  Returns:
    The last state and its evaluation.
  """
  settings, first = config.run, int(state.step)
  batches = _train_batches(config, plan.training, first)
  goes_on = checkpoints.latest_step() is not None
  best = Best(config, judge.networks, judge.workdir, goes_on)
  reader = Reader(config, plan.training, checkpoints, judge.workdir, first)
  logger, asked = reader.logger, None
  with contextlib.closing(reader), Stopping() as stopping:
    for step in range(first + 1, settings.steps + 1):
      state, metrics = train_step(state, judge.frozen, next(batches))
      reader.after(step, state, metrics)
      last, score = step == settings.steps, None
      if step % settings.eval_every == 0 and not last:
        reader.catch_up()
        score = judge.along_the_way(state, best, logger)
      asked = heard(stopping.signal, step % settings.log_every == 0)
      if step % settings.save_every == 0 or last or asked:
        with logger.paused():
          checkpoints.save(state, config, score)
      if asked:
        break
    reader.catch_up()
    checkpoints.wait()
    if asked:
      raise _interrupted(asked, step, checkpoints)
    results = judge.final(state, best, logger)
    if first < settings.steps:
      logger.write(settings.steps, results, "test")
  return state, results


def _interrupted(
  found: signal.Signals, step: int, checkpoints: Checkpoints
) -> Interrupted:
  newest = checkpoints.latest_step()
  saved = "is saved" if newest == step else "could not be saved"
  return Interrupted(
    found,
    f"stopped by {found.name} after step {step}, which {saved}; the same "
    f"command goes on from step {newest or 0}.",
  )


def _train_batches(
  config: Config, source: sources.Source, first_step: int
) -> Iterator[dict[str, np.ndarray]]:
  return pipeline.train_batches(
    source,
    size=config.data.size,
    batch_size=config.run.batch_size,
    seed=config.run.seed,
    first_step=first_step,
    task=task_of(config.data),
    flip=config.data.flip,
    workers=config.data.workers,
    max_megapixels=config.data.max_megapixels,
    plain=config.data.decode == "plain",
    read_timeout=config.data.read_timeout,
    host=jax.process_index(),
    hosts=jax.process_count(),
  )


def _announce(
  config: Config, networks: Networks, plan: Plan, state: TrainState
) -> None:
  n = sum(x.size for x in jax.tree.leaves(state.encoder))
  devices = f"{jax.device_count()} {jax.default_backend().upper()} device"
  devices += "s" * (jax.device_count() != 1)
  print(
    f"{config.model.encoder} with {n / 1e6:.2f} M parameters, "
    f"{len(plan.training)} training and {len(plan.evaluation or [])} held-out "
    f"images, {devices}, from step {int(state.step)} to {config.run.steps}",
    flush=True,
  )
  n_styles = networks.generator.n_styles
  last = stage_at(jnp.int32(config.run.steps - 1), config, n_styles)
  if last is not None and int(last) < n_styles - 1:
    print(
      f"note: this run ends at stage {int(last)} of {n_styles - 1}; the styles "
      "after it stay untrained, and the exported encoder uses them all. Lower "
      "progressive.start or progressive.every, or raise run.steps, to train "
      "every style.",
      flush=True,
    )
