"""Settings of a run of the originals that a config has otherwise.

The config counts; a run that goes on with other numbers should know it.
"""

from collections.abc import Iterator
from typing import Any

from encoder4editing_jax.config import Config
from encoder4editing_jax.training.snapshots import (
  OptimizerState,
  TrainingState,
)

# Our optimizers have the constants of the originals.
_ADAM = {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": 0.0}
_RANGER = {"b1": 0.95, "b2": 0.999, "eps": 1e-5, "weight_decay": 0.0}
_RANGER |= {"alpha": 0.5, "k": 6.0, "n_sma_threshold": 5.0}
CONSTANTS = {"adam": _ADAM, "ranger": _RANGER}

# Names of the originals' options, and of our fields.
OPTIONS = {
  "batch_size": "run.batch_size",
  "n_iters_per_batch": "model.refinements",
  "lpips_lambda": "loss.lpips",
  "lpips_type": "loss.lpips_net",
  "l2_lambda": "loss.l2",
  "delta_norm": "loss.delta_norm",
  "delta_norm_lambda": "loss.delta",
  "w_discriminator_lambda": "loss.adversarial",
  "r1": "discriminator.r1",
  "d_reg_every": "discriminator.r1_every",
  "progressive_start": "progressive.start",
  "progressive_step_every": "progressive.every",
  "progressive_steps": "progressive.steps",
}


def other_settings(config: Config, start: TrainingState) -> list[str]:
  """What differs, each as "NAME THERE -> HERE", optimizers first."""
  return [
    f"{name} {_spelled(there)} -> {_spelled(here)}"
    for name, there, here in _pairs(config, start)
    if there != here
  ]


def _pairs(
  config: Config, start: TrainingState
) -> Iterator[tuple[str, Any, Any]]:
  yield from _numbers("optim", config.optim.lr, start.optimizer)
  critic = start.discriminator_optimizer
  if critic is not None and config.loss.adversarial:
    yield from _numbers("discriminator", config.discriminator.lr, critic)
  opts, loss = start.opts, config.loss
  for option, name in OPTIONS.items():
    if option in opts:
      section, _, field = name.partition(".")
      here = getattr(getattr(config, section), field)
      there = opts[option]
      if option == "progressive_steps":
        # A start goes before steps in the originals too.
        there = () if opts.get("progressive_start") else tuple(there or ())
      yield name, there, here
  if "id_lambda" in opts:
    name = "moco" if loss.moco else "identity"
    yield f"loss.{name}", opts["id_lambda"], getattr(loss, name)
  if "use_w_pool" in opts:
    size = opts.get("w_pool_size", 50) if opts["use_w_pool"] else 0
    yield "discriminator.pool", size, config.discriminator.pool


def _numbers(
  section: str, lr: float, saved: OptimizerState
) -> Iterator[tuple[str, Any, Any]]:
  found = saved.hyperparameters
  yield f"{section}.lr", found["lr"], lr
  for name, here in CONSTANTS[saved.name].items():
    yield f"{section}'s {name}", found[name], here


def _spelled(value: Any) -> str:
  return f"{value:g}" if isinstance(value, float) else str(value)
