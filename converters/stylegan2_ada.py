"""StyleGAN2 networks of NVIDIA's PyTorch code (ADA, arXiv 2006.06676).

Pickles of stylegan2-ada-pytorch and of stylegan3's repository, in which
`read` presents networks and layers as `{"class": ..., "state": attributes}`;
or the state_dict of such a network.

The number of layers in half precision (`num_fp16_res`) is not carried over: our
networks compute in float32, or in bfloat16 where `dtype` says so. The bound
that half precision needs (`conv_clamp`) is, since it can change pictures.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from encoder4editing_jax.converters import (
  notes,
  options,
  sources,
  table as tables,
)
from encoder4editing_jax.converters.options import Rule
from encoder4editing_jax.converters.sources import Source
from encoder4editing_jax.converters.stylegan2 import FILTER, channel_rule
from encoder4editing_jax.converters.table import (
  CONV,
  Fixed,
  Layout,
  Row,
  Table,
  flattened,
  kernel,
  linear,
)
from encoder4editing_jax.models.discriminator import GROUP, Discriminator
from encoder4editing_jax.models.stylegan2 import Generator

CONV_UP = Layout(
  lambda x: CONV.forward(x)[::-1, ::-1],
  lambda x: CONV.inverse(x[::-1, ::-1]),
)
CONSTANT = Layout(
  lambda x: x.transpose(1, 2, 0), lambda x: x.transpose(2, 0, 1)
)
NOISE = Layout(lambda x: x[..., None], lambda x: x[..., 0])

_PAIR = r"synthesis\.b\d+\.conv[01]"
_CONDITIONAL = Rule("", "c_dim", 0, "a conditional network")
_COLOURS = Rule("", "img_channels", 3, "a network of pictures that are not RGB")
GENERATOR_RULES = (
  _CONDITIONAL,
  _COLOURS,
  Rule(r"synthesis\.b\d+", "architecture", "skip", "another architecture"),
  Rule(rf"{_PAIR}|mapping\.fc\d+", "activation", "lrelu", "another activation"),
  Rule(_PAIR, "use_noise", True, "a generator without noise"),
)
DISCRIMINATOR_RULES = (
  _CONDITIONAL,
  _COLOURS,
  Rule(r"b\d+", "architecture", "resnet", "another architecture"),
  Rule(
    r"b\d+\.(fromrgb|conv[01]?|fc)", "activation", "lrelu", "another activation"
  ),
  Rule(r"b4\.mbstd", "num_channels", 1, "several maps of deviations"),
)
OTHER_GENERATORS = {
  r"synthesis\.(input|L\d+_\w+)\..*": "a StyleGAN3 generator",
  r"mapping\.embed\..*": "a conditional generator",
  r"synthesis\.b\d+\.skip\..*": "a generator of residual architecture",
}
OTHER_DISCRIMINATORS = {
  r"synthesis\..*": "a generator",
  r"mapping\..*": "a conditional discriminator",
}
_FILTERS = (Fixed("resample_filter", FILTER),)
_MARKS = ("synthesis.b4.const", "synthesis.input.freqs", "b4.conv.weight")


class Network(NamedTuple):
  """Tensors by official name; plain attributes by the path of their layer."""

  tensors: dict[str, Any]
  options: dict[str, dict[str, Any]]


def _is_module(value: Any) -> bool:
  state = value.get("state") if isinstance(value, Mapping) else None
  return isinstance(state, Mapping) and "_modules" in state


def _is_network(value: Any) -> bool:
  if not isinstance(value, Mapping):
    return False
  names = sources.single(value)
  return _is_module(value) or any(mark in names for mark in _MARKS)


def holds(checkpoint: Any) -> bool:
  """Whether this is a pickle of NVIDIA's PyTorch code, or a network of it."""
  names = ("G_ema", "G", "D")
  if not isinstance(checkpoint, Mapping):
    return False
  inner = (checkpoint, checkpoint.get("state_dict"))
  return any(map(_is_network, inner)) or any(n in checkpoint for n in names)


def collect(module: Mapping[str, Any], path: str = "") -> Network:
  """The tensors and the attributes of a pickled module and its children."""
  state = module["state"]
  tensors, plain = {}, {}
  for group in ("_parameters", "_buffers"):
    for name, value in (state.get(group) or {}).items():
      if value is not None:
        tensors[f"{path}.{name}".lstrip(".")] = value
  plain[path] = {k: v for k, v in state.items() if not k.startswith("_")}
  for name, child in (state.get("_modules") or {}).items():
    if child is not None:
      inner = collect(child, f"{path}.{name}".lstrip("."))
      tensors |= inner.tensors
      plain |= inner.options
  return Network(tensors, plain)


def find(checkpoint: Mapping[str, Any], names: tuple[str, ...]) -> Network:
  """The first network of these names in a pickle, or the one that it is.

  Raises:
    ValueError: it has none of them.
  """
  entries = (checkpoint.get(name) for name in (*names, "state_dict"))
  candidates = [checkpoint, *entries]
  network = next((c for c in candidates if _is_network(c)), None)
  if network is None:
    raise ValueError(
      f"the checkpoint has no network {' or '.join(map(repr, names))} (it "
      f"holds {', '.join(map(str, checkpoint))}); take a whole pickle."
    )
  if _is_module(network):
    return collect(network)
  notes.warn(
    "a state_dict does not say whether its network clamps (conv_clamp) nor "
    "how it groups images (mbstd_group_size); took StyleGAN2's usual options. "
    "Pass the pickle itself to keep them."
  )
  return Network(dict(sources.single(network)), {})


# Generators.


def styled_table(up: bool = False) -> Table:
  """The names of a `SynthesisLayer`."""
  rows = (
    Row("weight", "kernel", CONV_UP if up else CONV),
    Row("noise_strength", "noise_strength"),
    Row("noise_const", "noise", NOISE),
    Row("bias", "bias"),
  )
  return Table(rows, _FILTERS) + linear("affine", "modulation")


def rgb_table() -> Table:
  """The names of a `ToRGBLayer`."""
  rows = (Row("weight", "kernel", CONV), Row("bias", "bias"))
  return Table(rows) + linear("affine", "modulation")


def generator_table(generator: Generator) -> Table:
  """The names of a generator, the mean code included."""
  start, target = "synthesis.b4", "synthesis"
  parts = [
    linear(f"mapping.fc{i}", f"mapping.layers.{i}")
    for i in range(generator.n_mlp)
  ]
  parts += [
    Table((Row("mapping.w_avg", "w_avg"),)),
    Table((Row(f"{start}.const", f"{target}.constant", CONSTANT),)),
    Table(fixed=_FILTERS).under(f"{start}.", ""),
    styled_table().under(f"{start}.conv1.", f"{target}.conv."),
    rgb_table().under(f"{start}.torgb.", f"{target}.to_rgb."),
  ]
  for b in range(len(generator.synthesis.blocks)):
    block = (
      Table(fixed=_FILTERS)
      + styled_table(up=True).under("conv0.", "conv0.")
      + styled_table().under("conv1.", "conv1.")
      + rgb_table().under("torgb.", "to_rgb.")
    )
    parts.append(block.under(f"synthesis.b{8 << b}.", f"{target}.blocks.{b}."))
  return tables.join(parts)


def find_generator(
  checkpoint: Mapping[str, Any],
) -> tuple[Source, dict[str, Any]]:
  """The tensors of a pickle's generator, the averaged one where there are two.

  Returns:
    The tensors, and the arguments of the `Generator` whose weights they are.

  Raises:
    ValueError: there is none, or it is of a kind that is not supported.
  """
  source, found = find(checkpoint, ("G_ema", "G"))
  options.check_names(source, OTHER_GENERATORS)
  options.check(found, GENERATOR_RULES)
  what = "a StyleGAN2 generator"
  c, h, w = tables.shape(source, "synthesis.b4.const", 3, what)
  name = "synthesis.b4.torgb.affine.weight"
  style_dim = tables.shape(source, name, 2, what)[1]
  channels, name = {4: c}, "synthesis.b{0}.conv0.weight"
  for side in tables.sides(source, r"synthesis\.b(\d+)\."):
    channels[side] = tables.shape(source, name.format(side), 4, what)[0]
  lr_mlp = options.number(found, r"mapping\.fc\d+", "bias_gain", 0.01)
  clamped = rf"{_PAIR}|synthesis\.b\d+\.torgb"
  return source, {
    "size": max(channels),
    **channel_rule(channels),
    "style_dim": style_dim,
    "n_mlp": tables.largest(source, r"mapping\.fc(\d+)\.") + 1,
    "lr_mlp": lr_mlp,
    "constant_shape": (h, w),
    "conv_clamp": options.number(found, clamped, "conv_clamp"),
  }


# Discriminators.


def _conv_table(source: str, target: str, bias: bool = True) -> Table:
  rows = (Row(f"{source}.bias", f"{target}.bias"),) if bias else ()
  filters = (Fixed(f"{source}.resample_filter", FILTER),)
  return kernel(source, target) + Table(rows, filters)


def discriminator_table(net: Discriminator) -> Table:
  """The names of a discriminator."""
  parts = [
    _conv_table(f"b{net.size}.fromrgb", "from_rgb"),
    _conv_table("b4.conv", "final_conv"),
    linear("b4.fc", "linear1", flattened(4, 4)),
    linear("b4.out", "linear2"),
  ]
  for i in range(len(net.blocks)):
    block = (
      Table(fixed=_FILTERS)
      + _conv_table("conv0", "conv1")
      + _conv_table("conv1", "conv2")
      + _conv_table("skip", "skip", bias=False)
    )
    parts.append(block.under(f"b{net.size >> i}.", f"blocks.{i}."))
  return tables.join(parts)


def find_discriminator(
  checkpoint: Mapping[str, Any],
) -> tuple[Source, dict[str, Any]]:
  """The tensors of a pickle's discriminator, and the arguments of ours.

  Raises:
    ValueError: as `find_generator`.
  """
  source, found = find(checkpoint, ("D",))
  options.check_names(source, OTHER_DISCRIMINATORS)
  options.check(found, DISCRIMINATOR_RULES)
  what = "a StyleGAN2 discriminator"
  channels = {4: tables.shape(source, "b4.conv.weight", 4, what)[0]}
  name = "b{0}.conv0.weight"
  for side in tables.sides(source, r"b(\d+)\."):
    channels[side] = tables.shape(source, name.format(side), 4, what)[0]
  clamped = r"b\d+\.(fromrgb|conv[01]?)"
  return source, {
    "size": max(channels),
    **channel_rule(channels),
    "conv_clamp": options.number(found, clamped, "conv_clamp"),
    "mbstd_group_size": options.count(found, r"b4\.mbstd", "group_size", GROUP),
  }
