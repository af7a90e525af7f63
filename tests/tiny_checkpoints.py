"""Official checkpoints of tiny networks, and files of them."""

import numpy as np
import torch_files as files
from flax import nnx
from random_weights import randomised

import encoder4editing_jax as e4e
from encoder4editing_jax.converters import (
  discriminators,
  features,
  inverter,
  stylegan2,
  transfer,
)

SIZE, STYLES, DIM = 8, 4, 8


def make_generator():
  return e4e.Generator(
    SIZE,
    channel_base=64,
    channel_max=8,
    style_dim=DIM,
    n_mlp=2,
    rngs=nnx.Rngs(0),
  )


def make_inverter():
  encoder = e4e.Encoder4Editing(
    STYLES,
    input_size=32,
    style_dim=DIM,
    num_layers=10,
    channels=(4, 4, 8, 8),
    rngs=nnx.Rngs(0),
  )
  return e4e.Inverter(encoder, make_generator())


def framework(net, **opts):
  """The checkpoint of an e4e or pSp model."""
  state = transfer.extract(net, inverter.inverter_table(net))
  state["encoder.input_layer.1.num_batches_tracked"] = np.array(9)
  opts = {"encoder_type": type(net.encoder).__name__} | opts
  latent_avg = np.array(net.w_avg[...])
  return {"state_dict": state, "opts": opts, "latent_avg": latent_avg}


def e4e_checkpoint():
  return framework(randomised(make_inverter))


def rosinality_checkpoint():
  """What rosinality's training leaves; it has no mean code."""
  net = randomised(make_generator)
  state = transfer.extract(net, stylegan2.generator_table(net))
  beside = {"g": {}, "g_optim": {"state": {}}, "d": discriminator_state()}
  return {"g_ema": state} | beside


def discriminator_state():
  net = randomised(lambda: e4e.Discriminator(8, 64, 8, rngs=nnx.Rngs(0)))
  return transfer.extract(net, discriminators.discriminator_table(net))


def arcface_state(num_layers=10, squeeze_excite=True, affine=True):
  net = randomised(
    lambda: e4e.ArcFace(
      num_layers,
      squeeze_excite=squeeze_excite,
      input_size=32,
      embedding_dim=6,
      affine=affine,
      channels=(4, 4, 8, 8),
      rngs=nnx.Rngs(0),
    )
  )
  return transfer.extract(net, features.arcface_table(net))


def packed(make, checkpoint):
  """The bytes of a checkpoint, in a container of `torch_files`."""
  keys = iter(range(10**6))

  def dense(value):
    if isinstance(value, dict):
      return {k: dense(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
      return files.dense(value, f"{next(keys):06d}")
    return value

  return make(dense(checkpoint))


def equal(a, b):
  """Whether two networks are of one class, with equal leaves."""
  one, other = transfer.leaves(a), transfer.leaves(b)
  same = type(a) is type(b) and one.keys() == other.keys()
  return same and all(
    np.array_equal(v[...], other[k][...]) for k, v in one.items()
  )
