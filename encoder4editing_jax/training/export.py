"""The inverters that a run leaves behind: the last one, and the best."""

import json
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
from encoder4editing_jax.training.hosts import is_first
from encoder4editing_jax.training.state import Networks, TrainState

EXPORTED = "inverter.safetensors"
BEST = "best.safetensors"
RECORD = "best.json"


def export(
  config: Config, networks: Networks, state: TrainState, path: Path
) -> None:
  """Writes the inverter, from the first host; `e4e.load` opens it."""
  if not is_first():
    return
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
  weights.save(with_dtype(inverter, "float32"), path)


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
