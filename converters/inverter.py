"""Whole frameworks: e4e, pSp and ReStyle checkpoints (originals' `pSp` class).

`encoder.*` and `decoder.*` in one state_dict, with `opts` and `latent_avg`
beside it. The encoders of e4e and of pSp have the same tensors, and so have
ReStyle's two: only `opts["encoder_type"]` can tell them apart.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from encoder4editing_jax.converters import (
  sources,
  stylegan2,
  table as tables,
  transfer,
)
from encoder4editing_jax.converters.irse import (
  body_arguments,
  body_table,
  is_resnet,
)
from encoder4editing_jax.converters.sources import Source
from encoder4editing_jax.converters.table import (
  CONV,
  LINEAR,
  Row,
  Table,
  flattened,
  linear,
  norm,
)
from encoder4editing_jax.models import encoders
from encoder4editing_jax.models.inverter import Inverter
from encoder4editing_jax.models.pyramid import Pyramid
from encoder4editing_jax.models.stylegan2 import Generator

_MOST_HALVINGS = 10
INPUT_SIZE = "encoder_input_size"  # ours, where tensors do not say it

_PYRAMIDS = ("Encoder4Editing", "GradualStyleEncoder")
_BACKBONES = ("BackboneEncoder", "ProgressiveBackboneEncoder")
_OFFICIAL = {
  "SingleStyleCodeEncoder": "SingleStyleEncoder",
  "BackboneEncoderUsingLastLayerIntoW": "SingleStyleEncoder",
  "BackboneEncoderUsingLastLayerIntoWPlus": "WPlusEncoder",
}


def _candidates(source: Source) -> tuple[str, ...]:
  """The encoders that have tensors of these names."""
  if tables.has(source, "styles."):
    pyramid = tables.has(source, "latlayer1.")
    if is_resnet(source):
      resnets = tuple("ResNet" + name for name in _BACKBONES)
      return ("ResNetGradualStyleEncoder",) if pyramid else resnets
    return _PYRAMIDS if pyramid else _BACKBONES
  if tables.has(source, "output_layer_2."):
    return ("WPlusEncoder",)
  if tables.has(source, "linear."):
    return ("SingleStyleEncoder",)
  raise ValueError(
    "'encoder.styles.0.linear.weight' and 'encoder.linear.weight' are missing, "
    "so this is no e4e, pSp or ReStyle checkpoint; pass the whole file "
    "({'state_dict': ..., 'opts': ...}), or use to_generator for a generator."
  )


def class_name(encoder_type: str) -> str:
  """Our name of an encoder that has another one in the published code."""
  return _OFFICIAL.get(encoder_type, encoder_type)


def encoder_class(source: Source, encoder_type: str | None) -> type:
  """The class of an encoder, from its names and what it is said to be.

  Raises:
    ValueError: the names fit another encoder than `encoder_type`, or fit
      several and `encoder_type` is None.
  """
  fits = _candidates(source)
  if encoder_type is None:
    if len(fits) > 1:
      raise ValueError(
        f"the tensors are those of {fits[0]} as well as of {fits[1]}, and "
        "there is no opts['encoder_type']; pass encoder_type= with the one "
        "that it was trained as."
      )
    return getattr(encoders, fits[0])
  name = class_name(encoder_type)
  if name not in fits:
    raise ValueError(
      f"encoder_type is {encoder_type!r}, but the tensors are those of "
      f"{' or '.join(fits)}; pass encoder_type= with what it is."
    )
  return getattr(encoders, name)


def heads_table(first: int, n: int, depth: int) -> Table:
  """Rows of n official heads, stacked along the first axis of our leaves."""
  rows = []
  for index in range(n):
    name = f"styles.{first + index}"
    rows += [
      Row(f"{name}.linear.weight", "linear_kernel", LINEAR, index),
      Row(f"{name}.linear.bias", "linear_bias", index=index),
    ]
    for k in range(depth):
      conv = f"{name}.convs.{2 * k}", f"convs.{k}"
      rows += [
        Row(f"{conv[0]}.weight", f"{conv[1]}.kernel", CONV, index),
        Row(f"{conv[0]}.bias", f"{conv[1]}.bias", index=index),
      ]
  return Table(tuple(rows))


def encoder_table(encoder: encoders.Encoder) -> Table:
  """The names of an encoder, without the prefix `encoder.`."""
  parts = [body_table(encoder.body).under("", "body.")]
  first = 0
  for name in ("heads", "heads_coarse", "heads_middle", "heads_fine"):
    if (heads := getattr(encoder, name, None)) is not None:
      n = heads.linear_bias.shape[0]
      rows = heads_table(first, n, len(heads.convs))
      parts.append(rows.under("", f"{name}."))
      first += n
  for i in (1, 2):
    if hasattr(encoder, f"lateral{i}"):
      used = getattr(encoder, f"lateral{i}") is not None
      unused = Table(ignored=(rf"latlayer{i}\.(weight|bias)",))
      parts.append(
        linear(f"latlayer{i}", f"lateral{i}", CONV) if used else unused
      )
  if isinstance(encoder, encoders.WPlusEncoder):
    layout = flattened(encoders.POOLED, encoders.POOLED)
    parts += [
      norm("output_layer_2.0", "norm"),
      linear("output_layer_2.3", "project", layout),
    ]
  if hasattr(encoder, "linear"):
    parts.append(linear("linear", "linear"))
  return tables.join(parts)


def encoder_arguments(
  source: Source, cls: type, n_styles: int, style_dim: int
) -> dict[str, Any]:
  """The arguments of the encoder whose weights these are.

  `n_styles` and `style_dim` are those of the generator, for encoders whose
  own tensors do not say.
  """
  arguments = body_arguments(source)
  if tables.has(source, "styles."):
    n_styles = tables.largest(source, r"styles\.(\d+)\.") + 1
    last = tables.largest(source, r"styles\.0\.convs\.(\d+)\.")
    halved = min(last // 2 + 1, _MOST_HALVINGS)
    middle = tables.largest(source, r"styles\.3\.convs\.(\d+)\.")
    if tables.has(source, "latlayer1.") and middle == last:
      halved = 0  # a map of one pixel, which has a convolution too
    arguments["input_size"] = 16 << halved
    name, what = "styles.0.linear.weight", "an encoder with style heads"
    style_dim = tables.shape(source, name, 2, what)[0]
  elif cls is encoders.WPlusEncoder:
    what = "pSp's encoder into W+"
    rows, style_dim = tables.shape(source, "linear.weight", 2, what)
    n_styles = rows // style_dim
  return arguments | {"n_styles": n_styles, "style_dim": style_dim}


def tells_size(state: Source, encoder: Any) -> bool:
  """Whether a state_dict alone says which size of images an encoder takes."""
  source = sources.below(state, "encoder.")
  found = encoder_arguments(source, type(encoder), 1, 1)
  usual = inspect.signature(Pyramid.__init__).parameters["input_size"].default
  told, size = found.get("input_size", usual), encoder.input_size
  return size in (told, (told, told))


def read_options(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
  """The options of a checkpoint: a mapping, a namespace, or none."""
  opts = checkpoint.get("opts") or {}
  return dict(opts) if isinstance(opts, Mapping) else dict(vars(opts))


def check_options(opts: Mapping[str, Any], size: int, channels: int) -> None:
  """What the options say about the shapes agrees with them."""
  found = {"stylegan_size": size, "output_size": size, "input_nc": channels}
  if opts.get("label_nc"):
    found["label_nc"] = found.pop("input_nc")
  for name, value in found.items():
    if opts.get(name) is not None and int(opts[name]) != value:
      raise ValueError(
        f"opts[{name!r}] is {opts[name]}, but the tensors say {value}; the "
        "options are of another checkpoint. Correct or leave out opts."
      )


def _w_avg(
  latent_avg: Any, opts: Mapping[str, Any], restyle: bool, n: int, d: int
) -> tuple[np.ndarray, np.ndarray]:
  """The inverter's mean codes `[n d]`, the generator's `[d]`."""
  rows = stylegan2.latent_avg_rows(
    np.zeros(d) if latent_avg is None else latent_avg, n, d
  )
  added = restyle or opts.get("start_from_latent_avg", True)
  return rows if added else np.zeros_like(rows), stylegan2.centre(rows)


def to_inverter(
  checkpoint: Mapping[str, Any], encoder_type: str | None = None
) -> Inverter:
  """An e4e, pSp or ReStyle model, ready for inference.

  Args:
    checkpoint: `{"state_dict": ..., "opts": ..., "latent_avg": ...}` or a bare
      state_dict; official name to array. Without `latent_avg` the mean code is
      computed with a fixed seed, and a warning says so.
    encoder_type: official name of the encoder, for checkpoints without
      `opts["encoder_type"]`, over which it takes precedence.

  Raises:
    ValueError: what the encoder is cannot be told, options and tensors
      disagree, or as `transfer.fill`.
  """
  opts = read_options(checkpoint)
  state = sources.unwrap(checkpoint)
  source = sources.below(state, "encoder.")
  cls = encoder_class(source, encoder_type or opts.get("encoder_type"))
  g_arguments = stylegan2.generator_arguments(sources.below(state, "decoder."))
  size, d = g_arguments["size"], g_arguments["style_dim"]
  n = 2 * (size.bit_length() - 1) - 2
  e_arguments = encoder_arguments(source, cls, n, d)
  if opts.get(INPUT_SIZE):
    e_arguments["input_size"] = opts[INPUT_SIZE]
  channels = e_arguments["input_channels"]
  check_options(opts, size, channels)
  restyle = channels == 6 and not opts.get("label_nc")
  latent_avg = checkpoint.get("latent_avg")
  w_avg, generator_w_avg = _w_avg(latent_avg, opts, restyle, n, d)

  def build() -> Inverter:
    encoder = cls(**e_arguments, rngs=nnx.Rngs(0))
    generator = Generator(**g_arguments, rngs=nnx.Rngs(0))
    return Inverter(encoder, generator, restyle=restyle)

  module = transfer.abstract(build)
  given = {"w_avg": w_avg, "generator.w_avg": generator_w_avg}
  inverter = transfer.fill(module, inverter_table(module), state, given)
  if latent_avg is None:
    mean = stylegan2.compute_w_avg(inverter.generator)
    inverter.generator.w_avg[...] = mean
    if restyle or opts.get("start_from_latent_avg", True):
      inverter.w_avg[...] = jnp.broadcast_to(mean, (n, d))
  return inverter


def inverter_table(inverter: Inverter) -> Table:
  """The names of a framework's state_dict."""
  encoder = encoder_table(inverter.encoder)
  generator = stylegan2.generator_table(inverter.generator)
  return encoder.under("encoder.", "encoder.") + generator.under(
    "decoder.", "generator."
  )
