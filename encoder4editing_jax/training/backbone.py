"""The body with which an encoder begins its training, where it is not drawn.

e4e and pSp begin with ArcFace's (`model_ir_se50.pth`), whatever the pictures;
ReStyle so for faces, and for others with torchvision's ResNet-34.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from encoder4editing_jax import weights
from encoder4editing_jax.config import Config, ConfigError
from encoder4editing_jax.config_rules import NEEDS_SOURCE

_INPUT = "input_conv.kernel"


def fill_body(config: Config, encoder: nnx.Module, given: nnx.Module) -> None:
  """Puts the weights and statistics of a body into an encoder.

  As the originals do: encoders of label maps and sketches keep the input layer
  that was drawn, whatever its shape. ReStyle's, which are shown the
  reconstruction as well, have numbers from N(0, 1) for its channels.

  Raises:
    ConfigError: it is another body than the encoder's; one line.
  """
  body = encoder.body
  ours, theirs = weights.leaves(body), weights.leaves(given)
  drawn = config.data.task in NEEDS_SOURCE
  names = [n for n in ours if not (drawn and n.startswith("input_"))]
  values = {n: theirs[n][...] for n in names if n in theirs}
  if _INPUT in values and body.input_channels == 2 * given.input_channels:
    values[_INPUT] = _widened(values[_INPUT], config.run.seed)
  alike = type(body) is type(given) and len(ours) == len(theirs)
  if not alike or any(
    name not in values or values[name].shape != ours[name].shape
    for name in names
  ):
    raise _misfit(config, body, given)
  for name in names:
    ours[name][...] = values[name]


def _widened(kernel: jax.Array, seed: int) -> jax.Array:
  more = jax.random.normal(jax.random.key(seed), kernel.shape)
  return jnp.concatenate([kernel, more], 2)


def _misfit(config: Config, body: nnx.Module, given: nnx.Module) -> ConfigError:
  return ConfigError(
    f"weights.backbone: {config.weights.backbone} is a {_words(given)}, but "
    f"the encoder begins with a {_words(body)}; change model.num_layers, "
    'model.channels or model.encoder, or set weights.backbone to "".'
  )


def _words(body: nnx.Module) -> str:
  gates = getattr(body, "squeeze_excite", None)
  kind = "" if gates is None else (" with gates" if gates else " without gates")
  return (
    f"{type(body).__name__} of {body.num_layers} layers, channels "
    f"{body.channels} and {body.input_channels} input channels{kind}"
  )
