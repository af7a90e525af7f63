"""The state before the first step of a run, from what was trained before.

A run of the originals goes on where it stood, for all that their file has: the
weights, the moments of both optimizers, the steps that each tensor has taken,
and the number of the next step, which sets stages, penalties and schedules.
Pools of codes, random numbers and the order of images begin anew.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from encoder4editing_jax import weights
from encoder4editing_jax.architectures import with_dtype
from encoder4editing_jax.config import Config
from encoder4editing_jax.models.inverter import Inverter
from encoder4editing_jax.training import state as states
from encoder4editing_jax.training.adam import Moments
from encoder4editing_jax.training.backbone import fill_body
from encoder4editing_jax.training.fitting import check_fit
from encoder4editing_jax.training.preparation import Plan
from encoder4editing_jax.training.ranger import SlowWeights
from encoder4editing_jax.training.settings import other_settings
from encoder4editing_jax.training.snapshots import (
  Leaves,
  OptimizerState,
  Start,
  TrainingState,
)
from encoder4editing_jax.training.state import Arrays, Networks, TrainState


def begin(config: Config, plan: Plan) -> tuple[Networks, TrainState]:
  """The networks of a run, and its state before the first step.

  Raises:
    ConfigError: what the run starts from does not fit; one line.
  """
  networks = states.build_networks(config, plan.generator, plan.features)
  if plan.backbone:
    fill_body(config, networks.encoder, plan.backbone)
  if plan.start is None:
    return networks, states.create_state(config, networks)
  networks = place(config, networks, plan.start)
  state = states.create_state(config, networks)
  return networks, resume(config, state, plan.start)


def place(config: Config, networks: Networks, start: Start) -> Networks:
  """The networks of a run with the weights that it starts from.

  Those of the generator are taken only where it is trained, its mean codes
  always: offsets were learned from them. The modules that were passed are
  changed.

  Raises:
    ConfigError: one line, if something does not fit the config.
  """
  run = start if isinstance(start, TrainingState) else None
  inverter = start if isinstance(start, Inverter) else start.inverter
  check_fit(config, networks, start)
  nnx.update(networks.encoder, nnx.state(inverter.encoder))
  if run and run.discriminator and config.loss.adversarial:
    nnx.update(networks.discriminator, nnx.state(run.discriminator))
  if config.model.train_decoder:
    generator = with_dtype(inverter.generator, config.model.dtype)
    networks = networks._replace(generator=generator)
  return networks._replace(w_avg=inverter.w_avg[...])


def resume(config: Config, state: TrainState, start: Start) -> TrainState:
  """The first state of a run, whose networks `place` has filled, from there."""
  if isinstance(start, Inverter):
    return state
  step = jnp.array(start.step, jnp.int32)
  optimizer = filled(
    state.optimizer,
    start.optimizer,
    state.trained(),
    step,
    "" if state.generator else "encoder.",
  )
  state = dataclasses.replace(state, step=step, optimizer=optimizer)
  if start.discriminator_optimizer is None or not config.loss.adversarial:
    return state
  return dataclasses.replace(
    state,
    discriminator_optimizer=filled(
      state.discriminator_optimizer,
      start.discriminator_optimizer,
      state.discriminator,
      step,
    ),
  )


def describe(config: Config, networks: Networks, plan: Plan) -> list[str]:
  """Lines that say what a run starts from, and what in it is otherwise."""
  name, start = config.weights.start_from, plan.start
  if start is None:
    return []
  if isinstance(start, Inverter):
    lines = [
      f"starting at step 0 with the weights of {name}: no training data came "
      "with them, so optimizers begin anew"
    ]
  else:
    best = start.best_val_loss
    reached = "" if best is None else f" (best validation loss {best:.4g})"
    lines = [f"continuing the run in {name} from step {start.step}{reached}"]
    if changes := other_settings(config, start):
      listed = "; ".join(changes)
      lines.append(f"note: settings of that run -> those of this: {listed}")
    if config.loss.adversarial and start.discriminator is None:
      lines.append(f"note: {name} has no discriminator, and a new one is drawn")
  inverter = start if isinstance(start, Inverter) else start.inverter
  if not _same_synthesis(inverter.generator, networks.generator):
    lines.append(
      f"note: the generator of {name} is another one than model.generator "
      f"({config.model.generator}), with which the encoder is trained now"
    )
  return lines


def _same_synthesis(one: nnx.Module, other: nnx.Module) -> bool:
  if one is other:
    return True
  mine, theirs = weights.leaves(one), weights.leaves(other)
  return set(mine) == set(theirs) and all(
    leaf.shape == theirs[name].shape and bool((leaf == theirs[name][...]).all())
    for name, leaf in mine.items()
    if name.startswith("synthesis.") and not name.endswith("noise")
  )


def filled(
  fresh: Any,
  saved: OptimizerState,
  trained: Arrays,
  step: jax.Array,
  prefix: str = "",
) -> Any:
  """The state of an optimizer with what another one had of its kind.

  Args:
    fresh: before the first step.
    saved: what there was, by leaf.
    trained: what the optimizer sees.
    step: of the whole run, for schedules.
    prefix: of names of leaves in `saved`, before paths in `trained`.
  """

  def by_leaf(leaves: Mapping[str, Any] | Leaves) -> Any:
    # Copies: every part of a state is donated.
    return jax.tree_util.tree_map_with_path(
      lambda path, _: jnp.array(leaves[prefix + _leaf_name(path)]), trained
    )

  def fill(part: Any) -> Any:
    moments = saved.moments
    if isinstance(part, Moments):
      return Moments(*map(by_leaf, (saved.steps, moments["mu"], moments["nu"])))
    if isinstance(part, SlowWeights):
      return SlowWeights(*map(by_leaf, (saved.steps, moments["slow"])))
    if isinstance(part, optax.ScaleByScheduleState):
      return part._replace(count=jnp.copy(step))
    return part

  known = (Moments, SlowWeights, optax.ScaleByScheduleState)
  return jax.tree.map(fill, fresh, is_leaf=lambda x: isinstance(x, known))


def _leaf_name(path: Any) -> str:
  """The name that `weights.leaves` gives to a leaf at a path of a tree."""
  return jax.tree_util.keystr(path, simple=True, separator=".")
