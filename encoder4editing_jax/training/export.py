"""The inverters that a run leaves behind: the last one, and the best."""

import contextlib
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from encoder4editing_jax import weights
from encoder4editing_jax.architectures import with_dtype
from encoder4editing_jax.config import Config
from encoder4editing_jax.files import replace_text
from encoder4editing_jax.models.inverter import Inverter
from encoder4editing_jax.training import state as states
from encoder4editing_jax.training.checkpoint import (
  FOLDER,
  Checkpoints,
  Damaged,
)
from encoder4editing_jax.training.hosts import is_first
from encoder4editing_jax.training.opening import (
  Opener,
  load_generator,
  load_start,
)
from encoder4editing_jax.training.start import place
from encoder4editing_jax.training.state import Networks, TrainState

EXPORTED = "inverter.safetensors"
BEST = "best.safetensors"
RECORD = "best.json"


def export(
  config: Config, networks: Networks, state: TrainState, path: Path
) -> None:
  """Writes the inverter, from the first host; `e4e.load` opens it."""
  if is_first():
    weights.save(to_inverter(config, networks, state), path)


def to_inverter(
  config: Config, networks: Networks, state: TrainState
) -> Inverter:
  """What a state has learned, with the generator; computes in float32."""
  graph = nnx.graphdef(
    states.build_encoder(config, networks.generator, bn_axis=None)
  )
  arrays = jax.device_get(state.best_encoder())
  encoder = nnx.merge(graph, *jax.tree.map(jnp.asarray, arrays))
  generator = networks.generator
  if state.generator:
    generator = nnx.clone(generator)
    nnx.update(generator, jax.device_get(state.generator))
  restyle = config.model.refinements > 0
  inverter = Inverter(encoder, generator, networks.w_avg, restyle=restyle)
  return with_dtype(inverter, "float32")


def load_best(workdir: str | Path) -> tuple[Inverter, str]:
  """The inverter of a run's best evaluation, and of which step it is.

  Raises:
    FileNotFoundError: the run has not been evaluated yet.
  """
  path = Path(workdir, BEST)
  if not path.exists():
    raise FileNotFoundError(
      f"{workdir} has no {BEST}: it was not evaluated yet; leave out --best, "
      "or check the path."
    )
  record = json.loads(Path(workdir, RECORD).read_text())
  return weights.load(path), f"step {record['step']}, the best of {workdir}"


def load_step(
  workdir: str | Path, step: int | None, open_file: Opener
) -> tuple[Inverter, str]:
  """The inverter of a checkpoint, and of which step it is.

  The run may be at work; nothing in its folder is changed.

  Args:
    workdir: folder of the run.
    step: of the checkpoint; the newest that is whole if None.
    open_file: opens the files that the run started from, see `loop.run`.

  Raises:
    FileNotFoundError: there is no such folder or checkpoint.
    ValueError: the checkpoint is damaged.
    ConfigError: what the run started from is not there any more.
  """
  if not Path(workdir, FOLDER).is_dir():
    raise FileNotFoundError(
      f"{workdir} has no {FOLDER}; name the --workdir of a run that has saved."
    )
  template = functools.cache(lambda config: _template(config, open_file))
  tried: set[int] = set()
  with contextlib.closing(Checkpoints(workdir, read_only=True)) as checkpoints:
    # Listed anew each time: a run at work removes its older ones meanwhile.
    while left := [x for x in _steps(checkpoints, step) if x not in tried]:
      now = left[0]
      tried.add(now)
      try:
        found = _restored(checkpoints, now, template)
        return found, f"step {now} of {workdir}"
      except Damaged as error:
        why = f"checkpoint {checkpoints.folder / str(now)}: {error}"
        print(f"warning: {why}", file=sys.stderr)
  raise ValueError(f"{why.removesuffix('.')}; name another --step.")


def _steps(checkpoints: Checkpoints, step: int | None) -> list[int]:
  """The step that was asked for, or all that there are."""
  steps = checkpoints.steps()
  if not steps or (step is not None and step not in steps):
    told = ", ".join(map(str, steps)) or "none"
    which = "" if step is None else f" of step {step}"
    raise FileNotFoundError(
      f"{checkpoints.folder} holds no checkpoint{which}; there are: {told}."
    )
  return steps if step is None else [step]


def _template(config: Config, open_file: Opener) -> tuple[Networks, TrainState]:
  """The networks of a config, and a state of the right shapes."""
  networks = states.build_networks(config, load_generator(config, open_file))
  if start := load_start(config, open_file):
    networks = place(config, networks, start)
  return networks, states.create_state(config, networks)


def _restored(
  checkpoints: Checkpoints,
  step: int,
  template: Callable[[Config], tuple[Networks, TrainState]],
) -> Inverter:
  config = checkpoints.config(step)
  networks, state = template(config)
  return to_inverter(config, networks, checkpoints.restore(step, state))


class Best:
  """Keeps the inverter of the evaluation with the lowest score.

  The score is that of reconstruction alone (`evaluation.Evaluator`): terms
  that progressive training switches on during a run have no part in it, so
  that early and late evaluations can be compared.

  Args:
    config: of the run.
    networks: of the run.
    workdir: folder of the run.
    goes_on: the run continues: its record is to be beaten, unless the losses
      have other weights now.
  """

  def __init__(
    self, config: Config, networks: Networks, workdir: Path, goes_on: bool
  ):
    self._made_of = config, networks
    self._workdir = workdir
    self._weights = config.to_dict()["loss"]
    self._record: dict[str, Any] = {}
    path = workdir / RECORD
    if goes_on and path.exists() and (workdir / BEST).exists():
      record = json.loads(path.read_text())
      if record["loss"] == self._weights:
        self._record = record

  def offer(
    self, state: TrainState, results: dict[str, Any]
  ) -> dict[str, int | float]:
    """Takes the state if its evaluation is the best so far.

    Returns:
      `best_step` and `best_score`; nothing before the first evaluation.
    """
    score = results.get("score")
    if score is not None and score < self._record.get("score", float("inf")):
      export(*self._made_of, state, self._workdir / BEST)
      self._record = {"step": int(state.step), "score": score}
      self._record["loss"] = self._weights
      if is_first():
        replace_text(self._workdir / RECORD, json.dumps(self._record) + "\n")
    names = ("step", "score") if self._record else ()
    return {f"best_{name}": self._record[name] for name in names}
