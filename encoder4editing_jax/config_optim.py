"""The sections of the configuration about optimization; see `config`.

And the learning rates of what `optimising` does without a run.
"""

from dataclasses import dataclass
from typing import Literal

OPTIMISE_LR = 0.05  # of codes; the scale is that of W
TUNE_LR = 3e-4  # of a generator around fixed codes


@dataclass(frozen=True)
class Optim:
  """Optimizer of the encoder."""

  name: Literal["ranger", "adam", "sgd"] = "ranger"
  """Optimizer: Ranger as published (rectified Adam with centralised gradients
  and lookahead), Adam with PyTorch's defaults, or plain gradient descent."""

  lr: float = 1e-4
  """Learning rate."""

  clip_norm: float | None = None
  """Largest norm of the whole gradient; a longer one is scaled down to it.
  None leaves gradients as they are."""

  schedule: Literal["constant", "cosine"] = "constant"
  """Learning rate over the run: constant, or a cosine down to 0 at
  run.steps."""

  warmup: int = 0
  """Steps over which the learning rate rises from 0."""

  ema: float = 0.0
  """Decay of a moving average of the encoder, which is evaluated and exported
  in its place, as in 0.999; 0 keeps no average."""

  batch_statistics: Literal["once", "published"] = "once"
  """How far the encoder's running statistics move in a step: as by the one
  pass over the batch that is made, or as published, by two where there is a
  discriminator (one pass for each of the two networks)."""


@dataclass(frozen=True)
class Discriminator:
  """The latent discriminator, which tells sampled styles from encoded."""

  lr: float = 2e-5
  """Learning rate of its optimizer: Adam, or plain gradient descent where
  optim.name is "sgd"."""

  hidden: int = 512
  """Width of its hidden layers."""

  n_layers: int = 4
  """Number of its linear layers."""

  r1: float = 10.0
  """Weight of the R1 gradient penalty on real styles; 0 leaves it out."""

  r1_every: int = 16
  """Steps between two penalty updates (lazy regularisation)."""

  pool: int = 50
  """Codes in each history pool; 0 shows the newest codes only, and of the
  encoded ones only the first style."""


@dataclass(frozen=True)
class Progressive:
  """Progressive training: the styles get their own offsets one by one."""

  start: int | None = None
  """Step at which the second style wakes; None trains all from the start."""

  every: int = 2000
  """Steps between one style's waking and the next."""

  steps: tuple[int, ...] = ()
  """The step at which each style wakes, the first at 0, in the place of start
  and every; steps that are never reached leave a style asleep."""
