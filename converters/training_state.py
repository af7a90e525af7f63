"""Checkpoints from which e4e's own training continues, with their optimizers.

e4e and ReStyle over e4e write them with `--save_training_data`. Their encoder's
optimizer has the parameters of the encoder and, where it was trained, those of
the decoder; it is Ranger, or Adam.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from encoder4editing_jax.converters.discriminators import (
  latent_discriminator_table,
  to_latent_discriminator,
)
from encoder4editing_jax.converters.inverter import (
  inverter_table,
  read_options,
  to_inverter,
)
from encoder4editing_jax.converters.optimizers import (
  parameter_group,
  parameter_names,
  read_steps,
  refusal,
  to_optimizer_state,
)
from encoder4editing_jax.models.discriminator import LatentDiscriminator
from encoder4editing_jax.training.snapshots import (
  OptimizerState,
  TrainingState,
)

NEEDED = ("state_dict", "global_step", "optimizer")  # of a whole run


def to_training_state(
  checkpoint: Mapping[str, Any], encoder_type: str | None = None
) -> TrainingState:
  """The training run in a checkpoint with `--save_training_data`.

  The trainer goes on from it: `weights.start_from` names such a file.

  Pools of codes, random numbers and the order of images are not in such files.

  Args:
    checkpoint: `{"state_dict", "opts", "latent_avg", "global_step",
      "optimizer", "best_val_loss"}` and, of adversarial runs,
      `"discriminator_state_dict"` and `"discriminator_optimizer_state_dict"`.
    encoder_type: see `to_inverter`.

  Raises:
    ValueError: something of it is missing, see `to_inverter` and
      `to_optimizer_state`.
  """
  for name in NEEDED:
    if name not in checkpoint:
      raise ValueError(
        f"the checkpoint lacks {name!r}: it was saved without training data. "
        "Use `to_inverter` for its networks."
      )
  opts, state = read_options(checkpoint), checkpoint["optimizer"]
  net, net_optimizer = _discriminator(checkpoint)
  inverter = to_inverter(checkpoint, encoder_type)
  names = parameter_names(checkpoint["state_dict"], "e4e")
  encoder = [name for name in names if name.startswith("encoder.")]
  whole = len(parameter_group(state, "optimizer")["params"]) == len(names)
  optimizer = to_optimizer_state(
    state, inverter, inverter_table(inverter), names if whole else encoder
  )
  _check_name(optimizer.name, opts.get("optim_name"))
  best = checkpoint.get("best_val_loss")
  return TrainingState(
    inverter=inverter,
    step=read_steps(checkpoint["global_step"], "global_step") + 1,
    optimizer=optimizer,
    discriminator=net,
    discriminator_optimizer=net_optimizer,
    best_val_loss=None if best is None else float(np.asarray(best).item()),
    opts=opts,
  )


def _check_name(found: str, optim_name: Any) -> None:
  """e4e takes Ranger for every name but one."""
  said = "adam" if optim_name == "adam" else "ranger"
  if optim_name is not None and said != found:
    raise ValueError(
      f"opts['optim_name'] is {optim_name!r}, but the state is that of "
      f"{found}; the options are of another checkpoint. Correct them."
    )


def _discriminator(
  checkpoint: Mapping[str, Any],
) -> tuple[LatentDiscriminator | None, OptimizerState | None]:
  what = ("discriminator_state_dict", "discriminator_optimizer_state_dict")
  present = [name for name in what if name in checkpoint]
  if not present:
    return None, None
  if len(present) == 1:
    lone = next(name for name in what if name not in checkpoint)
    raise ValueError(
      f"the checkpoint has {present[0]!r} but lacks {lone!r}; pass both, or "
      "neither for a run without adversarial loss."
    )
  weights, state = (checkpoint[name] for name in what)
  net = to_latent_discriminator({what[0]: weights})
  names = parameter_names(weights, "the discriminator")
  table = latent_discriminator_table(net)
  optimizer = to_optimizer_state(state, net, table, names, what[1])
  if optimizer.name != "adam":
    raise refusal(what[1], "is that of Ranger, expected Adam")
  return net, optimizer
