"""StyleGAN2 networks of NVIDIA's TensorFlow code (2019, and ADA's of 2020).

A pickle holds `(G, D, Gs)`; the last is the averaged generator. `read` presents
each network as `{"class": "Network", "state": ...}`, with its variables, those
of its components, and the arguments that it was built with. Kernels of
TensorFlow are `[k k i o]`, like ours, and those of upsampling layers have our
orientation; biases of modulations lack the 1 that ours include.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from encoder4editing_jax.converters import (
  notes,
  options,
  sources,
  table as tables,
)
from encoder4editing_jax.converters.options import Rule
from encoder4editing_jax.converters.sources import Source
from encoder4editing_jax.converters.stylegan2 import MAP, channel_rule
from encoder4editing_jax.converters.table import (
  SAME,
  Layout,
  Row,
  Table,
  flattened,
)
from encoder4editing_jax.models.discriminator import GROUP, Discriminator
from encoder4editing_jax.models.stylegan2 import Generator

_MARKS = ("synthesis/4x4/Const/const", "4x4/Dense0/weight")
OLDEST = 4  # version of the pickles; 3 and below are StyleGAN's and older

# The only layout that computes: float32 has no exact inverse for it.
PLUS_1 = Layout(lambda x: x + np.float32(1), lambda x: x - np.float32(1))
_FLAT = flattened(4, 4)
DENSE_OF_MAP = Layout(
  lambda x: _FLAT.forward(x.T), lambda x: _FLAT.inverse(x).T
)
_COMMON_RULES = (
  Rule("", "label_size", 0, "a conditional network"),
  Rule("", "num_channels", 3, "a network of pictures that are not RGB"),
  Rule("", "nonlinearity", "lrelu", "another activation"),
  Rule("", "resample_kernel", [1, 3, 3, 1], "another filter"),
)
GENERATOR_RULES = (
  *_COMMON_RULES,
  Rule("", "architecture", "skip", "another architecture"),
  Rule("", "mapping_nonlinearity", "lrelu", "another activation"),
  Rule("", "normalize_latents", True, "a mapping network of other inputs"),
  Rule("", "use_noise", True, "a generator without noise"),
)
DISCRIMINATOR_RULES = (
  *_COMMON_RULES,
  Rule("", "architecture", "resnet", "another architecture"),
  Rule("", "mbstd_num_features", 1, "several maps of deviations"),
)
OTHER_NETWORKS = {
  r"(.*/)?(To|From)RGB_lod\d+/.*": "a progressively grown network",
  r"(.*/)?Label(Concat|Embed)/.*": "a conditional network",
  r"synthesis/.*/Skip/.*": "a generator of residual architecture",
}


def _is_flat(value: Any) -> bool:
  """Whether these are the variables of one network, by name."""
  if not isinstance(value, Mapping):
    return False
  names = sources.single(value)
  return any(mark in names for mark in _MARKS)


def _is_network(value: Any) -> bool:
  state = value.get("state") if isinstance(value, Mapping) else None
  return isinstance(state, Mapping) and "variables" in state


def holds(checkpoint: Any) -> bool:
  """Whether this is a pickle of the TensorFlow code, or a network of it."""
  if isinstance(checkpoint, (tuple, list)):
    return len(checkpoint) == 3 and all(map(_is_network, checkpoint))
  return _is_network(checkpoint) or _is_flat(checkpoint)


def _variables(state: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Those of a network and, below their names, of its components."""
  found = {prefix + name: value for name, value in state["variables"]}
  for name, component in (state.get("components") or {}).items():
    found |= _variables(component["state"], f"{prefix}{name}/")
  return found


def _options(state: Mapping[str, Any]) -> dict[str, Any]:
  """The arguments of a network, and those of its components where they add."""
  found: dict[str, Any] = {}
  for component in (state.get("components") or {}).values():
    found |= _options(component["state"])
  return found | dict(state.get("static_kwargs") or {})


def find(
  checkpoint: Any, index: int, rules: tuple[Rule, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Variables and options of one of the three networks, or of the only one.

  Raises:
    ValueError: it is too old, or of a kind that is not supported.
  """
  if _is_flat(checkpoint):
    notes.warn(
      "variables do not say how their network was built; took StyleGAN2's "
      "usual options. Pass the pickle itself to keep them."
    )
    variables = dict(sources.single(checkpoint))
    options.check_names(variables, OTHER_NETWORKS)
    return variables, {"build_func_name": "D_stylegan2"}
  whole = isinstance(checkpoint, (tuple, list))
  state = (checkpoint[index] if whole else checkpoint)["state"]
  version = state.get("version", 0)
  if not isinstance(version, int) or version < OLDEST:
    raise ValueError(
      f"the TensorFlow pickle is of 'version' {version}, of StyleGAN or older "
      f"networks; only StyleGAN2's (version {OLDEST} and later) are supported."
    )
  try:
    variables, found = _variables(state), _options(state)
  except (AttributeError, KeyError, TypeError, ValueError):
    raise ValueError(
      "the TensorFlow pickle has 'variables', 'components' or 'static_kwargs' "
      "of an unknown form; take the published file."
    ) from None
  options.check_names(variables, OTHER_NETWORKS)
  options.check({"": found}, rules)
  function = {"build_func_name": state.get("build_func_name")}
  return variables, found | function


def _pair(
  source: str, target: str, layout: Layout = SAME, bias: bool = True
) -> Table:
  """Weight and bias of a layer."""
  rows = [Row(f"{source}/weight", f"{target}.kernel", layout)]
  if bias:
    rows.append(Row(f"{source}/bias", f"{target}.bias"))
  return Table(tuple(rows))


def _modulated(source: str, target: str) -> Table:
  return _pair(source, target) + Table(
    (
      Row(f"{source}/mod_weight", f"{target}.modulation.kernel"),
      Row(f"{source}/mod_bias", f"{target}.modulation.bias", PLUS_1),
    )
  )


def _styled(source: str, target: str, noise: int) -> Table:
  strength = f"{source}/noise_strength", f"{target}.noise_strength"
  rows = (
    Row(*strength),
    Row(f"synthesis/noise{noise}", f"{target}.noise", MAP),
  )
  return _modulated(source, target) + Table(rows)


def generator_table(generator: Generator) -> Table:
  """The names of a generator's variables, the mean code included."""
  start, target = "synthesis/4x4", "synthesis"
  parts = [
    _pair(f"mapping/Dense{i}", f"mapping.layers.{i}")
    for i in range(generator.n_mlp)
  ]
  parts += [
    Table((Row("dlatent_avg", "w_avg"),), ignored=(r"(synthesis/)?lod",)),
    Table((Row(f"{start}/Const/const", f"{target}.constant", MAP),)),
    _styled(f"{start}/Conv", f"{target}.conv", 0),
    _modulated(f"{start}/ToRGB", f"{target}.to_rgb"),
  ]
  for b in range(len(generator.synthesis.blocks)):
    side, block = f"synthesis/{8 << b}x{8 << b}", f"{target}.blocks.{b}"
    parts += [
      _styled(f"{side}/Conv0_up", f"{block}.conv0", 2 * b + 1),
      _styled(f"{side}/Conv1", f"{block}.conv1", 2 * b + 2),
      _modulated(f"{side}/ToRGB", f"{block}.to_rgb"),
    ]
  return tables.join(parts)


def find_generator(checkpoint: Any) -> tuple[Source, dict[str, Any]]:
  """The variables of the averaged generator, and the arguments of ours.

  Raises:
    ValueError: see `find`.
  """
  source, found = find(checkpoint, 2, GENERATOR_RULES)
  what = "a StyleGAN2 generator"
  _, c, h, w = tables.shape(source, "synthesis/4x4/Const/const", 4, what)
  name = "synthesis/4x4/ToRGB/mod_weight"
  style_dim = tables.shape(source, name, 2, what)[0]
  channels, name = {4: c}, "synthesis/{0}x{0}/Conv0_up/weight"
  for side in tables.sides(source, r"synthesis/(\d+)x"):
    channels[side] = tables.shape(source, name.format(side), 4, what)[3]
  return source, {
    "size": max(channels),
    **channel_rule(channels),
    "style_dim": style_dim,
    "n_mlp": tables.largest(source, r"mapping/Dense(\d+)/") + 1,
    "lr_mlp": options.number({"": found}, "", "mapping_lrmul", 0.01),
    "constant_shape": (h, w),
    "conv_clamp": options.number({"": found}, "", "conv_clamp"),
  }


def discriminator_table(net: Discriminator) -> Table:
  """The names of a discriminator's variables."""
  parts = [
    _pair(f"{net.size}x{net.size}/FromRGB", "from_rgb"),
    _pair("4x4/Conv", "final_conv"),
    _pair("4x4/Dense0", "linear1", DENSE_OF_MAP),
    _pair("Output", "linear2"),
    Table(ignored=("lod",)),
  ]
  for i in range(len(net.blocks)):
    side = net.size >> i
    parts += [
      _pair(f"{side}x{side}/Conv0", f"blocks.{i}.conv1"),
      _pair(f"{side}x{side}/Conv1_down", f"blocks.{i}.conv2"),
      _pair(f"{side}x{side}/Skip", f"blocks.{i}.skip", bias=False),
    ]
  return tables.join(parts)


def find_discriminator(checkpoint: Any) -> tuple[Source, dict[str, Any]]:
  """The variables of a discriminator, and the arguments of ours.

  Raises:
    ValueError: see `find`.
  """
  source, found = find(checkpoint, 1, DISCRIMINATOR_RULES)
  what = "a StyleGAN2 discriminator"
  channels = {4: tables.shape(source, "4x4/Conv/weight", 4, what)[3]}
  name = "{0}x{0}/Conv0/weight"
  for side in tables.sides(source, r"(\d+)x\1/"):
    channels[side] = tables.shape(source, name.format(side), 4, what)[3]
  # what the two generations of the code take where nothing is said
  usual = GROUP if found["build_func_name"] == "D_stylegan2" else None
  group = "mbstd_group_size", usual
  return source, {
    "size": max(channels),
    **channel_rule(channels),
    "conv_clamp": options.number({"": found}, "", "conv_clamp"),
    "mbstd_group_size": options.count({"": found}, "", *group),
  }
