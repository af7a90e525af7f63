"""Networks that losses and metrics look through: ArcFace, LPIPS, MoCo."""

import math
from collections import ChainMap
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from flax import nnx

from encoder4editing_jax.converters import (
  recognition,
  sources,
  table as tables,
  transfer,
)
from encoder4editing_jax.converters.irse import (
  body_arguments,
  body_table,
)
from encoder4editing_jax.converters.sources import Source
from encoder4editing_jax.converters.table import (
  CONV,
  Layout,
  Row,
  Table,
  flattened,
  kernel,
  linear,
  norm,
)
from encoder4editing_jax.models import trunks
from encoder4editing_jax.models.arcface import ArcFace
from encoder4editing_jax.models.lpips import LPIPS
from encoder4editing_jax.models.moco import BottleneckBlock, MoCo

_AFFINE = ("weight", "bias")
_PROJECTION = "output_layer.3.weight"

FIRE = (".squeeze", ".expand1x1", ".expand3x3")
HEAD = Layout(lambda x: x.reshape(-1), lambda x: x.reshape(1, -1, 1, 1))


# ArcFace.


def arcface_table(net: ArcFace) -> Table:
  """The names of an ArcFace network, `model_ir_se50.pth` and its kin."""
  side = -(-net.input_size // 16)
  last = norm("output_layer.4", "norm_out")
  if not net.affine:
    affine = [f"output_layer.4.{x}" for x in _AFFINE]
    rows = tuple(r for r in last.rows if r.source not in affine)
    last = Table(rows, ignored=last.ignored)
  return (
    body_table(net.backbone).under("", "backbone.")
    + norm("output_layer.0", "norm_in")
    + linear("output_layer.3", "linear", flattened(side, side))
    + last
  )


def arcface_arguments(source: Source) -> dict[str, Any]:
  """The arguments of the `ArcFace` whose weights these are."""
  shape = tables.shape(source, _PROJECTION, 2, "an ArcFace network")
  arguments = body_arguments(source)
  side = math.isqrt(shape[1] // arguments["channels"][-1])
  return arguments | {
    "squeeze_excite": tables.has(source, "body.0.res_layer.5."),
    "input_size": 16 * side,
    "embedding_dim": shape[0],
    "affine": any(f"output_layer.4.{x}" in source for x in _AFFINE),
  }


def to_arcface(checkpoint: Mapping[str, Any]) -> ArcFace:
  """A face recognition network: IR or IR-SE of 50, 100 or 152 layers.

  Args:
    checkpoint: official name to array, or `{"state_dict": ...}` of that:
      `model_ir_se50.pth`, or CurricularFace's IR-101 (100 layers here).

  Raises:
    ValueError: see `transfer.fill`.
  """
  source = sources.unwrap(checkpoint)
  arguments = arcface_arguments(source)
  module = transfer.abstract(lambda: ArcFace(**arguments, rngs=nnx.Rngs(0)))
  return transfer.fill(module, arcface_table(module), source)


# LPIPS.


def _weighted(net: str) -> Iterator[tuple[str, trunks.Conv | trunks.Fire]]:
  """torchvision's names of the layers with weights."""
  position = 0
  for layer in trunks.layers(net):
    if isinstance(layer, trunks.Conv | trunks.Fire):
      yield f"features.{position}", layer
    # a convolution and its ReLU count as two
    position += {trunks.Conv: 2, trunks.Tap: 0}.get(type(layer), 1)


def lpips_table(net: LPIPS) -> Table:
  """The names of a torchvision trunk and of the heads of LPIPS 0.1."""
  parts = []
  for i, (name, layer) in enumerate(_weighted(net.net)):
    target = f"trunk.layers.{i}"
    inner = FIRE if isinstance(layer, trunks.Fire) else ("",)
    parts += [linear(name + part, target + part, CONV) for part in inner]
  rows = (
    Row(f"lin{i}.model.1.weight", f"heads.{i}", HEAD)
    for i in range(len(net.heads))
  )
  classifier = r"classifier\.\d+\.(weight|bias)"
  return tables.join(parts) + Table(tuple(rows), ignored=(classifier,))


def lpips_arguments(trunk: Source, net: str) -> dict[str, Any]:
  """The arguments of the `LPIPS` whose trunk this is.

  Raises:
    ValueError: it is a trunk of another network.
  """
  what = f"a trunk for net={net!r}"
  channels = []
  for name, layer in _weighted(net):
    if isinstance(layer, trunks.Fire):
      name = f"{name}.expand1x1.weight"
      channels.append(2 * tables.shape(trunk, name, 4, what)[0])
    else:
      channels.append(tables.shape(trunk, f"{name}.weight", 4, what)[0])
  return {"net": net, "channels": tuple(channels)}


def _check_heads(heads: Source, trunk: Source, net: LPIPS) -> None:
  """The heads are heads, and fit the maps of the trunk."""
  first = "lin0.model.1.weight"
  if first not in heads:
    advice = recognition.advice(heads) or "pass the file of LPIPS, version 0.1"
    raise ValueError(f"linear lacks {first!r}; {advice}.")
  if both := sorted(set(heads) & set(trunk)):
    raise ValueError(
      f"trunk and linear both have {both[0]!r}; pass the state_dict of "
      "torchvision as trunk, and the heads of LPIPS as linear."
    )
  for i, c in enumerate(net.trunk.tap_channels):
    name = f"lin{i}.model.1.weight"
    if name in heads and np.shape(heads[name]) != (1, c, 1, 1):
      raise ValueError(
        f"{name!r} has shape {np.shape(heads[name])}, and the trunk {c} "
        f"channels there; pass the heads that were trained for net={net.net!r}."
      )


def to_lpips(
  trunk: Mapping[str, Any], linear: Mapping[str, Any], net: str = "alex"
) -> LPIPS:
  """The perceptual distance LPIPS, version 0.1.

  Args:
    trunk: torchvision's state_dict of AlexNet, VGG16 or SqueezeNet 1.1; its
      classifier, if there, is left out.
    linear: the heads, `lin0.model.1.weight` and so on: `weights/v0.1/alex.pth`
      of LPIPS, or its kin.
    net: which of them, "alex", "vgg" or "squeeze".

  Raises:
    ValueError: unknown `net`; trunk or heads are of another network; or as
      `transfer.fill`.
  """
  weights, heads = sources.unwrap(trunk), sources.unwrap(linear)
  arguments = lpips_arguments(weights, net)
  module = transfer.abstract(lambda: LPIPS(**arguments, rngs=nnx.Rngs(0)))
  _check_heads(heads, weights, module)
  source = ChainMap(dict(heads), weights)  # type: ignore[arg-type]
  return transfer.fill(module, lpips_table(module), source)


# MoCo.


def bottleneck_table(block: BottleneckBlock) -> Table:
  """The names of one block of torchvision's ResNet-50."""
  parts = []
  for i in (1, 2, 3):
    parts += [kernel(f"conv{i}", f"conv{i}"), norm(f"bn{i}", f"norm{i}")]
  if block.shortcut_conv is not None:
    parts += [
      kernel("downsample.0", "shortcut_conv"),
      norm("downsample.1", "shortcut_norm"),
    ]
  return tables.join(parts)


def moco_table(net: MoCo) -> Table:
  """torchvision's names of a ResNet-50; its last layer has no use here."""
  parts = [kernel("conv1", "input_conv"), norm("bn1", "input_norm")]
  n = 0
  for stage, depth in enumerate(net.depths, start=1):
    for i in range(depth):
      names = bottleneck_table(net.blocks[n])
      parts.append(names.under(f"layer{stage}.{i}.", f"blocks.{n}."))
      n += 1
  return tables.join(parts) + Table(ignored=(r"fc\.(\d+\.)?(weight|bias)",))


def moco_arguments(source: Source, prefix: str) -> dict[str, Any]:
  """The arguments of the `MoCo` whose weights these are."""
  what = "MoCo's ResNet-50"
  tables.shape(source, f"{prefix}conv1.weight", 4, what)
  tables.shape(source, f"{prefix}layer1.0.conv3.weight", 4, what)
  stages = [f"{prefix}layer{stage}." for stage in range(1, 5)]
  return {
    "depths": tuple(tables.numbered(source, stage) for stage in stages),
    "channels": tuple(
      tables.shape(source, f"{stage}0.conv1.weight", 4, what)[0]
      for stage in stages
    ),
  }


def to_moco(checkpoint: Mapping[str, Any]) -> MoCo:
  """MoCo's network of queries, without its last layers.

  Args:
    checkpoint: `{"state_dict": ...}`, or the bare state_dict, of MoCo (names
      begin with `module.encoder_q.` or `encoder_q.`), whose keys and queue
      are left out; or of a ResNet-50 with torchvision's names.

  Raises:
    ValueError: see `transfer.fill`.
  """
  source = sources.unwrap(checkpoint)
  whole = "encoder_q.conv1.weight" in source
  prefix = "encoder_q." if whole else ""
  arguments = moco_arguments(source, prefix)
  module = transfer.abstract(lambda: MoCo(**arguments, rngs=nnx.Rngs(0)))
  table = moco_table(module).under(prefix, "")
  if whole:
    table += Table(ignored=(r"queue(_ptr)?", r"encoder_k\.[\w.]+"))
  return transfer.fill(module, table, source)
