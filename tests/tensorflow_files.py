"""StyleGAN2 networks as TensorFlow's pickles hold them, made from ADA's.

The map between the families is written here once more, and apart from that of
the library.
"""

import collections
import re

import numpy as np
import torch_files as files

_TF = {
  "weight": ("weight", lambda x: x.transpose(2, 3, 1, 0)),
  "affine.weight": ("mod_weight", lambda x: x.T),
  "affine.bias": ("mod_bias", lambda x: x - np.float32(1)),
  "noise_strength": ("noise_strength", lambda x: x[()]),
  "bias": ("bias", lambda x: x),
}
_TF_LAYERS = {"conv0": "Conv0_up", "conv1": "Conv1", "torgb": "ToRGB"}


def tf_generator(ada):
  """The variables of TensorFlow's generator, from the tensors of ADA's."""
  out = {"lod": np.float32(0), "dlatent_avg": ada["mapping.w_avg"]}
  for name, x in ada.items():
    if found := re.fullmatch(r"mapping\.fc(\d+)\.(\w+)", name):
      out[f"mapping/Dense{found[1]}/{found[2]}"] = x.T
    elif name == "synthesis.b4.const":
      out["synthesis/4x4/Const/const"] = x[None]
    elif found := re.fullmatch(r"synthesis\.b(\d+)\.(\w+)\.(.+)", name):
      side, layer, own = int(found[1]), found[2], found[3]
      block = f"synthesis/{side}x{side}"
      first = side == 4 and layer == "conv1"
      if own == "noise_const":
        number = 0 if first else 2 * int(np.log2(side)) - 5 + int(layer[-1])
        out[f"synthesis/noise{number}"] = x[None, None]
      elif own != "resample_filter":
        kind, change = _TF[own]
        y = change(x)
        if layer == "conv0" and kind == "weight":
          y = y[::-1, ::-1]
        place = "Conv" if first else _TF_LAYERS[layer]
        out[f"{block}/{place}/{kind}"] = y
  return out


_TF_D = {
  "fromrgb": "FromRGB",
  "conv0": "Conv0",
  "conv1": "Conv1_down",
  "skip": "Skip",
  "conv": "Conv",
  "fc": "Dense0",
}


def tf_discriminator(ada):
  """The variables of TensorFlow's discriminator."""
  out = {}
  for name, x in ada.items():
    if "resample_filter" in name:
      continue
    block, layer, kind = name.split(".")
    y = x.transpose(2, 3, 1, 0) if x.ndim == 4 else x.T
    side = block[1:]
    layer = "Output" if layer == "out" else f"{side}x{side}/{_TF_D[layer]}"
    out[f"{layer}/{kind}"] = y
  return out


def tf_network(variables, options=(), version=4, function="G_main"):
  """A network in the form that the reader presents, components and all."""
  own, inner = [], collections.defaultdict(dict)
  for name, value in variables.items():
    first, _, rest = name.partition("/")
    if first in ("mapping", "synthesis"):
      inner[first][rest] = value
    else:
      own.append((name, value))
  state = {
    "version": version,
    "name": function,
    "static_kwargs": dict(options),
    "components": {
      k: tf_network(v, options, version, f"G_{k}") for k, v in inner.items()
    },
    "build_module_src": "import os\nos.abort()",
    "build_func_name": function,
    "variables": own,
  }
  return {"class": "Network", "state": state}


def _tf_object(network):
  made = files.NAMES["dnnlib.tflib.network"]["Network"]()
  vars(made).update(network["state"])
  components = network["state"]["components"].items()
  made.components = {name: _tf_object(child) for name, child in components}
  return made


def tf_file(networks, protocol=4):
  """A pickle of networks in the form that the reader presents."""
  made = files.pickled(tuple(map(_tf_object, networks)), protocol)
  return made[0]
