"""Whether what a run starts from fits its config; said in one line if not."""

from flax import nnx

from encoder4editing_jax import weights
from encoder4editing_jax.config import Config, ConfigError
from encoder4editing_jax.models.inverter import Inverter
from encoder4editing_jax.training.snapshots import Start, TrainingState
from encoder4editing_jax.training.state import Networks

# What is asked of an encoder, and the field that decides it.
_NUMBERS = {
  "num_layers": "model.num_layers",
  "channels": "model.channels",
  "input_channels": "data.task or model.refinements",
  "n_styles": "model.generator",
  "style_dim": "model.generator",
}


def check_fit(config: Config, networks: Networks, start: Start) -> None:
  """The networks and optimizers to start from are those of the config.

  Raises:
    ConfigError: naming the first that is not, and what to change.
  """
  inverter = start if isinstance(start, Inverter) else start.inverter
  _check_encoder(config, inverter.encoder, networks.encoder)
  if config.model.train_decoder:
    _check_leaves(
      config, inverter.generator, networks.generator, "model.generator"
    )
  if isinstance(start, TrainingState):
    _check_optimizer(config, start)
    _check_discriminator(config, start, networks.discriminator)
    if start.step > config.run.steps:
      raise _refusal(
        config,
        f"is at step {start.step} already",
        f"set run.steps to {start.step} or more",
      )


def _refusal(config: Config, problem: str, fix: str) -> ConfigError:
  name = config.weights.start_from
  return ConfigError(f"weights.start_from: {name} {problem}; {fix}.")


def _check_encoder(config: Config, given: nnx.Module, ours: nnx.Module) -> None:
  theirs = type(given).__name__
  if type(given) is not type(ours):
    raise _refusal(
      config,
      f"holds the encoder {theirs}, but model.encoder is {type(ours).__name__}",
      f"set model.encoder to {theirs}",
    )
  for name, field in _NUMBERS.items():
    there, here = getattr(given, name), getattr(ours, name)
    if there != here:
      raise _refusal(
        config,
        f"has an encoder with {name} {there}, but this config makes one with "
        f"{here}",
        f"change {field}",
      )
  _check_leaves(config, given, ours, "data.size")


def _check_leaves(
  config: Config, given: nnx.Module, ours: nnx.Module, field: str
) -> None:
  """The same leaves, of the same shapes."""
  there, here = (
    {name: tuple(leaf.shape) for name, leaf in weights.leaves(net).items()}
    for net in (given, ours)
  )
  for name in sorted({*there, *here}):
    if there.get(name) != here.get(name):
      raise _refusal(
        config,
        f"does not fit ({type(ours).__name__}.{name} is "
        f"{there.get(name, 'not there')} in it and "
        f"{here.get(name, 'not there')} here)",
        f"change {field}",
      )


def _check_optimizer(config: Config, start: TrainingState) -> None:
  name = start.optimizer.name
  if name != config.optim.name:
    raise _refusal(
      config,
      f"was trained by {name}, but optim.name is {config.optim.name}",
      f"set optim.name to {name}, or start from its weights alone (a file that "
      "`e4e convert` makes of it)",
    )
  leaves = start.optimizer.steps
  whole = any(leaf.startswith("generator.") for leaf in leaves)
  if whole != config.model.train_decoder:
    raise _refusal(
      config,
      f"was trained with{'' if whole else 'out'} its generator, but "
      f"model.train_decoder is {config.model.train_decoder}",
      f"set model.train_decoder to {whole}, or start from its weights alone (a "
      "file that `e4e convert` makes of it)",
    )


def _check_discriminator(
  config: Config, start: TrainingState, ours: nnx.Module
) -> None:
  if start.discriminator is None or not config.loss.adversarial:
    return
  for name in ("hidden", "n_layers"):
    there, here = getattr(start.discriminator, name), getattr(ours, name)
    if there != here:
      raise _refusal(
        config,
        f"has a discriminator with {name} {there}, but "
        f"discriminator.{name} is {here}",
        f"set discriminator.{name} to {there}",
      )
