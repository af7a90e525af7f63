"""The way back: our networks under the names of the published code.

Names, layouts and order are those of the originals' `state_dict()`, so that
`load_state_dict(strict=True)` takes them; `write` makes a file of them. Arrays
are permuted, never computed with: what was converted comes back bit for bit.
Two things that our networks do not keep are made anew: the fixed FIR filters,
and `num_batches_tracked`, which is always 0. PyTorch counts with it, and
computes with it only in batch normalisation without momentum, which none of
these networks has.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from encoder4editing_jax.converters import (
  inverter as frameworks,
  notes,
  transfer,
)
from encoder4editing_jax.converters.discriminators import (
  discriminator_table,
  latent_discriminator_table,
)
from encoder4editing_jax.converters.features import arcface_table
from encoder4editing_jax.converters.stylegan2 import generator_table
from encoder4editing_jax.converters.table import Array, Table
from encoder4editing_jax.models.arcface import ArcFace
from encoder4editing_jax.models.discriminator import (
  GROUP,
  Discriminator,
  LatentDiscriminator,
)
from encoder4editing_jax.models.inverter import Inverter
from encoder4editing_jax.models.pyramid import Pyramid
from encoder4editing_jax.models.stylegan2 import Generator

# The parts of names; of two parts of one module, the first comes first.
_ORDER = """
  encoder decoder
  weight bias running_mean running_var num_batches_tracked kernel
  input_layer shortcut_layer res_layer style input upsample conv blur
  modulation noise activate fc1 fc2 conv1 bn1 relu conv2 bn2 downsample skip
  to_rgb1 convs final_conv final_linear output_layer output_layer_2 linear
  body styles latlayer1 latlayer2 to_rgbs noises mlp
"""
_RANKS = {part: rank for rank, part in enumerate(_ORDER.split())}
_COUNTER = "num_batches_tracked"
_ENCODER_TYPES = {
  "SingleStyleEncoder": "SingleStyleCodeEncoder",
  "WPlusEncoder": "BackboneEncoderUsingLastLayerIntoWPlus",
}
_INTO_W = "BackboneEncoderUsingLastLayerIntoW"


def order(name: str) -> tuple[int, ...]:
  """Sorts names as `state_dict()` has them: own tensors, then children."""
  parts = re.sub(r"\.noise_(\d+)$", r".\1", name).split(".")
  last = len(_RANKS)
  return tuple(int(p) if p.isdigit() else _RANKS.get(p, last) for p in parts)


def counters(names: Mapping[str, Any]) -> dict[str, Array]:
  """The counts of batches of every batch normalisation: 0."""
  norms = [
    name.removesuffix("running_mean")
    for name in names
    if name.endswith(".running_mean")
  ]
  return {norm + _COUNTER: np.zeros((), np.int64) for norm in norms}


def _state_dict(module: nnx.Module, table: Table) -> dict[str, Array]:
  state = transfer.extract(module, table)
  state |= counters(state)
  return {name: state[name] for name in sorted(state, key=order)}


def _warn(option: str, value: Any) -> None:
  notes.warn(
    f"the original code has no {option}={value}; its results will differ from "
    "those here where it matters."
  )


def from_generator(generator: Generator) -> dict[str, Any]:
  """A generator as rosinality's checkpoint.

  The published code builds it from the size and `channel_multiplier`, which
  is `channel_base / 16384`, for `channel_max=512`. It does not clamp: that a
  generator does is lost, with a warning.

  Returns:
    `{"g_ema": {name: array}, "latent_avg": [d]}`.
  """
  if generator.conv_clamp is not None:
    _warn("conv_clamp", generator.conv_clamp)
  state = _state_dict(generator, generator_table(generator))
  return {"g_ema": state, "latent_avg": np.array(generator.w_avg[...])}


def from_discriminator(net: Discriminator) -> dict[str, Any]:
  """A discriminator of images as rosinality's checkpoint, `{"d": ...}`.

  As `from_generator`; groups of other than 4 images are lost, too.
  """
  if net.conv_clamp is not None:
    _warn("conv_clamp", net.conv_clamp)
  if net.mbstd_group_size != GROUP:
    _warn("mbstd_group_size", net.mbstd_group_size)
  return {"d": _state_dict(net, discriminator_table(net))}


def from_latent_discriminator(net: LatentDiscriminator) -> dict[str, Any]:
  """e4e's discriminator of styles, as entry `discriminator_state_dict`."""
  state = _state_dict(net, latent_discriminator_table(net))
  return {"discriminator_state_dict": state}


def from_arcface(net: ArcFace) -> dict[str, Array]:
  """A face recognition network as `model_ir_se50.pth` and its kin have it."""
  return _state_dict(net, arcface_table(net))


def _unused(encoder: nnx.Module) -> dict[str, Array]:
  """What the originals' pyramids have even where no style needs it."""
  out: dict[str, Array] = {}
  if isinstance(encoder, Pyramid):
    _, c1, c2, c3 = encoder.channels
    for i, width in ((1, c2), (2, c1)):
      if getattr(encoder, f"lateral{i}") is None:
        name, shape = f"encoder.latlayer{i}", (c3, width, 1, 1)
        out[f"{name}.weight"] = np.zeros(shape, np.float32)
        out[f"{name}.bias"] = np.zeros(c3, np.float32)
  return out


def _options(inverter: Inverter) -> dict[str, Any]:
  encoder, size = inverter.encoder, inverter.generator.size
  name, channels = type(encoder).__name__, encoder.input_channels
  labels = channels if channels != 3 and not inverter.restyle else 0
  height, width = encoder.input_shape
  starts = inverter.restyle or bool(np.any(inverter.w_avg[...]))
  return {
    "encoder_type": _ENCODER_TYPES.get(name, name),
    "dataset_type": "cars_encode" if height != width else "ffhq_encode",
    "stylegan_size": size,
    "output_size": size,
    "input_nc": channels,
    "label_nc": labels,
    "start_from_latent_avg": starts,
    "learn_in_w": False,
    "train_decoder": False,
    "checkpoint_path": None,
    "device": "cuda:0",
  }


def _check_options(inverter: Inverter, options: Mapping[str, Any]) -> None:
  """Nothing that was passed says that the networks are other ones."""
  encoder, kind = inverter.encoder, options["encoder_type"]
  if frameworks.class_name(kind) != type(encoder).__name__:
    raise ValueError(
      f"opts['encoder_type'] is {kind!r}, but the encoder is "
      f"{type(encoder).__name__}; leave it out."
    )
  size, channels = inverter.generator.size, encoder.input_channels
  frameworks.check_options(options, size, channels)
  if np.any(inverter.w_avg[...]) and not options["start_from_latent_avg"]:
    raise ValueError(
      "opts['start_from_latent_avg'] is off, but the inverter adds its mean "
      "code; leave it out."
    )
  rows = inverter.w_avg[...]
  if kind == _INTO_W and np.any(rows != rows[:1]):
    raise ValueError(
      f"opts['encoder_type'] is {kind!r}, which adds one mean code to all "
      "styles; this inverter has several. Leave it out."
    )


def from_inverter(
  inverter: Inverter, opts: Mapping[str, Any] | None = None
) -> dict[str, Any]:
  """A whole model as the checkpoint of e4e, pSp or ReStyle that it came from.

  The published code builds encoders of 50 layers (ResNet: 34) for 256 x 256
  images and generators of `channel_base=32768`, width 512 and 8 mapping
  layers. Other sizes come back through `to_inverter` only; those of images that
  the tensors do not say are an option of their own, `encoder_input_size`.

  Args:
    inverter: any encoder of this library with its generator.
    opts: options that go over those made here, for example those of the file
      that it was converted from. `encoder_type` tells pSp's encoder into W
      (`BackboneEncoderUsingLastLayerIntoW`, trained with `learn_in_w`) from
      e4e's (`SingleStyleCodeEncoder`), which has the same tensors.

  Returns:
    `{"state_dict": {name: array}, "latent_avg": [n d], "opts": {...}}`;
    `[1 d]` for pSp's encoder into W. Without `start_from_latent_avg` it is the
    generator's mean code.

  Raises:
    ValueError: `opts` say something else than the networks do.
  """
  generator, encoder = inverter.generator, inverter.encoder
  if generator.conv_clamp is not None:
    _warn("conv_clamp", generator.conv_clamp)
  options = _options(inverter) | dict(opts or {})
  _check_options(inverter, options)
  if options["encoder_type"] == _INTO_W:
    options["learn_in_w"] = True
  state = _state_dict(inverter, frameworks.inverter_table(inverter))
  state |= _unused(encoder)
  if not frameworks.tells_size(state, encoder):
    options[frameworks.INPUT_SIZE] = encoder.input_size
  rows = np.array(inverter.w_avg[...])
  if not options["start_from_latent_avg"]:
    rows = np.tile(np.asarray(generator.w_avg[...]), (len(rows), 1))
  return {
    "state_dict": {name: state[name] for name in sorted(state, key=order)},
    "latent_avg": rows[:1] if options["learn_in_w"] else rows,
    "opts": options,
  }
