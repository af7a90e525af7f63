"""The configuration of a training run: frozen, typed, documented.

Standard library only. A run card (``configs/NAME.py``) holds a function
``get_config() -> Config`` with only its differences from these defaults; the
command line overrides single fields (``--optim.lr 5e-5``). The text below each
field is what ``--help`` prints. Defaults are those of e4e (Tov et al. 2021,
arXiv 2102.02766) where they need no further files; ``configs/ffhq.py`` is the
published recipe.
"""

import dataclasses
import difflib
from dataclasses import dataclass, field
from typing import Any, Literal

from encoder4editing_jax import config_rules
from encoder4editing_jax.config_data import Data as Data
from encoder4editing_jax.config_losses import Loss as Loss, Weights as Weights
from encoder4editing_jax.config_optim import (
  Discriminator as Discriminator,
  Optim as Optim,
  Progressive as Progressive,
)

FACEWORLD = config_rules.FACEWORLD


class ConfigError(ValueError):
  """What is wrong with a run before it starts: one line per problem."""


@dataclass(frozen=True)
class Model:
  """The encoder that is trained and the generator it is trained for."""

  encoder: Literal[
    "Encoder4Editing",
    "GradualStyleEncoder",
    "SingleStyleEncoder",
    "WPlusEncoder",
    "BackboneEncoder",
    "ProgressiveBackboneEncoder",
    "ResNetBackboneEncoder",
    "ResNetProgressiveBackboneEncoder",
    "ResNetGradualStyleEncoder",
  ] = "Encoder4Editing"
  """Class of the encoder. Those of e4e (Encoder4Editing and Progressive...)
  have stages; the last five are ReStyle's, see model.refinements."""

  refinements: int = 0
  """ReStyle's steps in which the encoder betters its own reconstruction
  (published: 5); 0 is one pass, in which it sees the image alone."""

  generator: str = FACEWORLD
  """File of a generator or a whole model, of this library or official, or
  "faceworld" for the small generator of rendered faces in the package."""

  n_styles: int | None = None
  """Styles that the encoder predicts; None takes as many as the generator
  has, a number is checked against it."""

  num_layers: int | None = None
  """Depth of the body: 50, 100 or 152 as published (of ResNet... encoders 34);
  10, 18 or 34 for small runs. None is 50 (34)."""

  channels: tuple[int, ...] = (64, 128, 256, 512)
  """Channels of the four stages of the backbone."""

  train_decoder: bool = False
  """Train the generator too, but for its mapping network."""

  dtype: Literal["float32", "bfloat16"] = "float32"
  """Type of the activations of all networks that see or make pictures.
  Parameters, batch statistics, losses, the latent discriminator and optimizers
  are float32 in any case, and so is what is exported."""


@dataclass(frozen=True)
class Run:
  """Length, bookkeeping and randomness of the run."""

  steps: int = 200_000
  """Number of training steps."""

  batch_size: int = 8
  """Images per step, over all devices together."""

  microbatches: int = 1
  """Parts in which each device takes its share of a batch, one after the
  other, to save memory (of accelerators: on CPUs nothing is saved). Batch
  statistics are those of a part: smaller ones are noisier, and the result is
  not quite that of one part."""

  rematerialise: bool = False
  """Keep only what leaves each block of a network, and compute the rest anew
  for the gradient: less memory for more time. XLA's compiler for CPUs undoes
  it."""

  seed: int = 0
  """Seed of weights, data order, noise and sampled styles."""

  log_every: int = 50
  """Steps between two lines of metrics."""

  eval_every: int = 10_000
  """Steps between two evaluations; there is always one at the end."""

  save_every: int = 10_000
  """Steps between two checkpoints; there is always one at the end."""

  most_skipped: int = 10
  """Steps in a row whose numbers may not be finite before the run stops; such
  steps change nothing."""

  keep: int = 2
  """Newest checkpoints that are kept."""

  keep_best: int = 1
  """Checkpoints with the best evaluations that are kept besides; of steps that
  are evaluated and saved."""

  keep_pictures: int = 20
  """Newest pictures of evaluations that are kept in pictures/, besides that of
  the best one; 0 for none at all."""

  wandb: str = ""
  """Project of Weights & Biases that numbers and pictures are sent to as well
  (needs the package wandb; WANDB_MODE=offline works without a network)."""

  profile_after: int = 10
  """Step after which the profiler records, if run.profile_steps is not 0; 1 or
  more, since the first one compiles."""

  profile_steps: int = 0
  """Steps that the profiler records, into profile/; 0 for none."""

  edit: str = "smile"
  """Editing direction that the evaluation tries (faceworld only)."""

  edit_strength: float = 1.5
  """How far the evaluation moves along that direction, both ways, in the
  direction's own length (faceworld: standard deviations)."""


@dataclass(frozen=True)
class Config:
  """One training run; each section is described by its class."""

  data: Data = field(default_factory=Data)
  model: Model = field(default_factory=Model)
  loss: Loss = field(default_factory=Loss)
  weights: Weights = field(default_factory=Weights)
  optim: Optim = field(default_factory=Optim)
  discriminator: Discriminator = field(default_factory=Discriminator)
  progressive: Progressive = field(default_factory=Progressive)
  run: Run = field(default_factory=Run)

  def validate(self) -> None:
    """Checks what can be checked without files or devices.

    Raises:
      ConfigError: one line for each problem, with its fix.
    """
    if problems := config_rules.problems(self):
      raise ConfigError("\n".join(problems))

  def to_dict(self) -> dict[str, Any]:
    """Nested plain values, as JSON stores them (tuples become lists)."""
    return _plain(dataclasses.asdict(self))

  @classmethod
  def from_dict(cls, values: dict[str, Any]) -> "Config":
    """The inverse of `to_dict`.

    Raises:
      ConfigError: names unknown sections and fields, with the nearest name.
    """
    built: dict[str, Any] = {}
    for name, content in values.items():
      _known(name, list(section_types()), "section")
      section = section_types()[name]
      fields = [f"{name}.{f.name}" for f in dataclasses.fields(section)]
      for key in content:
        _known(f"{name}.{key}", fields, "field")
      lists = {k: tuple(v) for k, v in content.items() if isinstance(v, list)}
      built[name] = section(**content | lists)
    return cls(**built)

  def changes(self, other: "Config") -> dict[str, tuple[Any, Any]]:
    """Fields that differ: ``{"optim.lr": (here, there)}``."""
    mine, theirs = self.to_dict(), other.to_dict()
    return {
      f"{section}.{key}": (value, theirs[section][key])
      for section, content in mine.items()
      for key, value in content.items()
      if value != theirs[section][key]
    }


def section_types() -> dict[str, type[Any]]:
  """The classes of the sections of a config, by the section's name."""
  return {name: type(section) for name, section in vars(Config()).items()}


def _known(name: str, names: list[str], kind: str) -> None:
  if name not in names:
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else "known: " + ", ".join(names)
    raise ConfigError(f"unknown config {kind} {name}; {hint}")


def _plain(value: Any) -> Any:
  if isinstance(value, dict):
    return {key: _plain(item) for key, item in value.items()}
  return list(value) if isinstance(value, tuple) else value
