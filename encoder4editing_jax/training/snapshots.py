"""A training run of the originals between two steps, as it was read.

`converters.to_training_state` makes it, `start` goes on from it.
"""

import dataclasses
from typing import Any

import numpy as np

from encoder4editing_jax.models.discriminator import LatentDiscriminator
from encoder4editing_jax.models.inverter import Inverter

Leaves = dict[str, np.ndarray]
"""Arrays by the path of their leaf, as in `weights.leaves`."""


@dataclasses.dataclass(frozen=True)
class OptimizerState:
  """Where Adam or Ranger stood.

  Ranger is RAdam with lookahead and centred gradients: of parameters with more
  than one axis, the mean over all but the outputs is taken off (outputs are
  the last axis of our kernels).
  """

  name: str
  """"adam" or "ranger"."""
  hyperparameters: dict[str, float]
  """`lr`, `b1`, `b2`, `eps`, `weight_decay`; of Ranger also `alpha`, `k`
  (lookahead) and `n_sma_threshold`."""
  steps: Leaves
  """Steps taken by leaf, int32: `[]`, or `[n]` of leaves that stack n official
  parameters. A parameter that never had a gradient has taken none."""
  moments: dict[str, Leaves]
  """`mu` and `nu`, means of gradients and of their squares; of Ranger also
  `slow`, the weights of its lookahead. By leaf, in our layout, float32."""


@dataclasses.dataclass(frozen=True)
class TrainingState:
  """A training run of e4e between two steps."""

  inverter: Inverter
  step: int
  """Steps taken: one more than the file's `global_step`, which counts from 0
  and is saved after its step."""
  optimizer: OptimizerState
  """By leaves of the inverter: `encoder.*` and, of runs that trained the
  decoder, `generator.*`."""
  discriminator: LatentDiscriminator | None
  """None, as its optimizer, of runs without adversarial loss."""
  discriminator_optimizer: OptimizerState | None
  best_val_loss: float | None
  """None before the first validation."""
  opts: dict[str, Any]
  """The run's options, as in the file."""


Start = Inverter | TrainingState
"""What a run starts from: weights alone, or a whole run."""
