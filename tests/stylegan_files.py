"""StyleGAN2 networks as ADA's pickles hold them, made from rosinality's.

The map between the families is written here once more, and apart from
those of the library. Networks are made in the form that the reader presents
(`{"class": ..., "state": ...}`), and from that as files.
"""

import collections
import re

import numpy as np
import torch_files as files
from flax import nnx
from goldens.recipe import recipe_tensor

from encoder4editing_jax.converters import (
  discriminators,
  stylegan2,
  transfer,
)
from encoder4editing_jax.models.discriminator import Discriminator
from encoder4editing_jax.models.stylegan2 import Generator

FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]).astype(np.float32) / 64
WIDTHS = {"channel_base": 96, "channel_max": 12}
SIZE, DIM, LAYERS = 16, 6, 3
BUFFERS = ("resample_filter", "noise_const", "w_avg")


def _recipe(build, make_table):
  net = nnx.eval_shape(build)
  table = make_table(net)
  shapes = transfer.source_shapes(net, table)
  state = {name: recipe_tensor(name, shape) for name, shape in shapes.items()}
  for name in state:
    if name.endswith("modulation.bias"):  # minus 1, plus 1 shall be exact
      state[name] = np.round(state[name] * 1024) / np.float32(1024)
  return state | {f.source: f.value for f in table.fixed}


def rosinality_generator():
  """The state_dict of a small generator, and its mean code."""

  def build():
    return Generator(
      SIZE, style_dim=DIM, n_mlp=LAYERS, **WIDTHS, rngs=nnx.Rngs(0)
    )

  state = _recipe(build, stylegan2.generator_table)
  return state, recipe_tensor("latent_avg", (DIM,))


def rosinality_discriminator():
  """The state_dict of a small discriminator."""
  return _recipe(
    lambda: Discriminator(SIZE, **WIDTHS, rngs=nnx.Rngs(0)),
    discriminators.discriminator_table,
  )


# Names: rosinality's to ADA's.

_LAYER = {
  "conv.weight": ("weight", lambda x: x[0]),
  "conv.modulation.weight": ("affine.weight", lambda x: x),
  "conv.modulation.bias": ("affine.bias", lambda x: x),
  "noise.weight": ("noise_strength", lambda x: x[0]),
  "activate.bias": ("bias", lambda x: x),
  "bias": ("bias", np.ravel),
  "conv.blur.kernel": ("resample_filter", lambda x: x / 4),
}


def _ada_noise(k):
  return f"synthesis.b{4 << (k + 1) // 2}.conv{(k + 1) % 2}.noise_const"


def _ada_layer(name):
  """The block and layer of a rosinality name, and what follows."""
  head, _, rest = name.partition(".")
  if head == "conv1":
    return "synthesis.b4.conv1", rest
  if head == "to_rgb1":
    return "synthesis.b4.torgb", rest
  number, _, rest = rest.partition(".")
  k = int(number)
  if head == "convs":
    return f"synthesis.b{8 << k // 2}.conv{k % 2}", rest
  return f"synthesis.b{8 << k}.torgb", rest


def ada_generator(state, latent_avg):
  """The tensors of ADA's generator."""
  out = {"mapping.w_avg": latent_avg}
  for name, x in state.items():
    if found := re.fullmatch(r"style\.(\d+)\.(\w+)", name):
      out[f"mapping.fc{int(found[1]) - 1}.{found[2]}"] = x
    elif found := re.fullmatch(r"noises\.noise_(\d+)", name):
      out[_ada_noise(int(found[1]))] = x[0, 0]
    elif name == "input.input":
      out["synthesis.b4.const"] = x[0]
    elif not name.endswith("upsample.kernel"):
      layer, rest = _ada_layer(name)
      own, change = _LAYER[rest]
      out[f"{layer}.{own}"] = change(x)
  for side in (4, 8, SIZE):
    out[f"synthesis.b{side}.resample_filter"] = FILTER
    out[f"synthesis.b{side}.conv1.resample_filter"] = FILTER
  return out


_ADA_D = {
  "conv1.0": "conv0",
  "conv1.1": "conv0",
  "conv2.1": "conv1",
  "conv2.2": "conv1",
  "skip.1": "skip",
}
_ADA_D_ENDS = {
  "convs.0.0": f"b{SIZE}.fromrgb",
  "convs.0.1": f"b{SIZE}.fromrgb",
  "final_conv.0": "b4.conv",
  "final_conv.1": "b4.conv",
  "final_linear.0": "b4.fc",
  "final_linear.1": "b4.out",
}


def ada_discriminator(state):
  """The tensors of ADA's discriminator."""
  out = {}
  for name, x in state.items():
    layer, _, kind = name.rpartition(".")
    if kind == "kernel":
      continue
    if layer not in _ADA_D_ENDS:
      _, number, layer = layer.split(".", 2)
      layer = f"b{SIZE >> (int(number) - 1)}.{_ADA_D[layer]}"
    else:
      layer = _ADA_D_ENDS[layer]
    out[f"{layer}.{kind}"] = x
    if re.search(r"\.(fromrgb|conv[01]?|skip)$", layer):
      out[f"{layer}.resample_filter"] = FILTER
  return out | {f"b{side}.resample_filter": FILTER for side in (8, SIZE)}


# Options.


def ada_generator_options(conv_clamp=256):
  """The attributes of a generator's layers that change what it computes."""
  clamp = {"conv_clamp": conv_clamp}
  layer = {"use_noise": True, "activation": "lrelu", "up": 1} | clamp
  out = {"": {"c_dim": 0, "z_dim": DIM, "w_dim": DIM, "img_channels": 3}}
  for i in range(LAYERS):
    gain = np.float64(0.01 / np.sqrt(DIM))
    fc = {"activation": "lrelu", "weight_gain": gain, "bias_gain": 0.01}
    out[f"mapping.fc{i}"] = fc
  for side in (4, 8, SIZE):
    block = f"synthesis.b{side}"
    out[block] = {"architecture": "skip", "use_fp16": side > 8}
    out |= {f"{block}.{conv}": layer for conv in ("conv0", "conv1")}
    out[f"{block}.torgb"] = clamp
  del out["synthesis.b4.conv0"]
  return out


def ada_discriminator_options(conv_clamp=256, group_size=2):
  """As `ada_generator_options`, of a discriminator."""
  layer = {"activation": "lrelu", "conv_clamp": conv_clamp}
  plain = {"activation": "linear"}
  out = {"": {"c_dim": 0, "img_channels": 3}}
  for side in (8, SIZE):
    out[f"b{side}"] = {"architecture": "resnet"}
    out |= {f"b{side}.{conv}": layer for conv in ("conv0", "conv1")}
    out[f"b{side}.skip"] = plain | {"conv_clamp": None}
  out[f"b{SIZE}.fromrgb"] = out["b4.conv"] = layer
  out["b4"] = {"architecture": "resnet"}
  out["b4.fc"], out["b4.out"] = {"activation": "lrelu"}, plain
  out["b4.mbstd"] = {"group_size": group_size, "num_channels": 1}
  return out


# ADA's objects.


def ada_network(tensors, options, name="Generator"):
  """A network in the form that the reader presents."""

  def empty(kind):
    groups = {k: {} for k in ("_parameters", "_buffers", "_modules")}
    return {"class": kind, "state": groups | {"training": False}}

  root = empty(name)

  def module(path):
    node = root
    for part in filter(None, path.split(".")):
      node = node["state"]["_modules"].setdefault(part, empty("Layer"))
    return node["state"]

  for path in ("", *options):
    module(path).update(options.get(path, {}))
  for name, value in tensors.items():
    path, _, own = name.rpartition(".")
    module(path)["_buffers" if own in BUFFERS else "_parameters"][own] = value
    if path.endswith("skip"):
      module(path)["_parameters"]["bias"] = None
  return root


def _parameter(array):
  array = np.array(array, order="C")
  whole = files.stream_file(files.Storage(array, "0"))
  load = files.NAMES["torch.storage"]["_load_from_bytes"]
  steps = tuple(s // array.itemsize for s in array.strides)
  hooks = collections.OrderedDict()
  names = files.NAMES["torch._utils"]
  made = files.Call(
    names["_rebuild_tensor_v2"],
    files.Call(load, whole),
    0,
    array.shape,
    steps,
    False,
    hooks,
  )
  return files.Call(names["_rebuild_parameter"], made, True, hooks)


def _ada_object(network):
  state = dict(network["state"], _non_persistent_buffers_set=set())
  for group in ("_parameters", "_buffers"):
    state[group] = collections.OrderedDict(
      (name, None if value is None else _parameter(value))
      for name, value in state[group].items()
    )
  modules = state["_modules"].items()
  state["_modules"] = {name: _ada_object(child) for name, child in modules}
  easy = files.NAMES["dnnlib.util"]["EasyDict"]
  meta = easy(
    type="class",
    version=6,
    module_src="import os\nos.abort()",
    class_name=network["class"],
    state=state,
  )
  names = files.NAMES["torch_utils.persistence"]
  return files.Call(names["_reconstruct_persistent_obj"], meta)


def ada_file(networks, protocol=4):
  """A pickle of networks in the form that the reader presents."""
  made = {k: v and _ada_object(v) for k, v in networks.items()}
  return files.pickled(made, protocol)[0]
