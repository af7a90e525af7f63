"""Bodies of encoders and face networks: IR, IR-SE and ReStyle's ResNet.

Names of InsightFace_Pytorch's `model_ir_se50.pth` (arXiv 1801.07698), which e4e
and pSp put before their heads, and of torchvision's ResNet.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from encoder4editing_jax.converters import sources, table as tables, transfer
from encoder4editing_jax.converters.sources import Source
from encoder4editing_jax.converters.table import (
  Row,
  Table,
  kernel,
  norm,
)
from encoder4editing_jax.models import irse, resnet

SQUEEZE = "body.0.res_layer.5.fc1.weight"  # tells IR-SE from IR
_WHAT = "an IR, IR-SE or ResNet body"


def _slope(source: str, target: str) -> Table:
  return Table((Row(f"{source}.weight", f"{target}.slope"),))


def unit_table(block: irse.Bottleneck) -> Table:
  """The names of one IR or IR-SE unit."""
  parts = [
    norm("res_layer.0", "norm1"),
    kernel("res_layer.1", "conv1"),
    _slope("res_layer.2", "act"),
    kernel("res_layer.3", "conv2"),
    norm("res_layer.4", "norm2"),
  ]
  if block.se is not None:
    parts += [kernel(f"res_layer.5.{fc}", f"se.{fc}") for fc in ("fc1", "fc2")]
  if block.shortcut_conv is not None:
    parts += [
      kernel("shortcut_layer.0", "shortcut_conv"),
      norm("shortcut_layer.1", "shortcut_norm"),
    ]
  return tables.join(parts)


def basic_block_table(block: resnet.BasicBlock) -> Table:
  """The names of one block of torchvision's ResNet-34."""
  parts = [
    kernel("conv1", "conv1"),
    norm("bn1", "norm1"),
    kernel("conv2", "conv2"),
    norm("bn2", "norm2"),
  ]
  if block.shortcut_conv is not None:
    parts += [
      kernel("downsample.0", "shortcut_conv"),
      norm("downsample.1", "shortcut_norm"),
    ]
  return tables.join(parts)


def body_table(body: irse.Backbone | resnet.ResNet) -> Table:
  """The names of a body."""
  if isinstance(body, resnet.ResNet):
    names, block_table = ("conv1", "bn1", "relu"), basic_block_table
  else:
    names = ("input_layer.0", "input_layer.1", "input_layer.2")
    block_table = unit_table
  start = [
    kernel(names[0], "input_conv"),
    norm(names[1], "input_norm"),
    _slope(names[2], "input_act"),
  ]
  blocks = [
    block_table(block).under(f"body.{i}.", f"blocks.{i}.")
    for i, block in enumerate(body.blocks)
  ]
  return tables.join(start + blocks)


def is_resnet(source: Source) -> bool:
  """Whether the body is ReStyle's ResNet rather than IR or IR-SE."""
  return tables.has(source, "bn1.")


def body_arguments(source: Source) -> dict[str, Any]:
  """`num_layers`, `input_channels` and `channels` of a body.

  Raises:
    ValueError: no known body has this number of blocks.
  """
  if is_resnet(source):
    first, block, stages = "conv1.weight", "conv1", resnet.STAGES
  else:
    first, block, stages = "input_layer.0.weight", "res_layer.1", irse.STAGES
  input_channels = tables.shape(source, first, 4, _WHAT)[1]
  name = "body.{}." + block + ".weight"
  n = tables.largest(source, r"body\.(\d+)\.") + 1
  known = {sum(depths): layers for layers, depths in stages.items()}
  if n not in known:
    raise ValueError(
      f"the checkpoint has {n} blocks ({name.format('*')!r}); bodies have "
      f"{sorted(known)}."
    )
  ends = [sum(stages[known[n]][: k + 1]) - 1 for k in range(4)]
  return {
    "num_layers": known[n],
    "input_channels": input_channels,
    "channels": tuple(
      tables.shape(source, name.format(i), 4, _WHAT)[0] for i in ends
    ),
  }


# Pretrained bodies, without the encoder.


def resnet_table(body: resnet.ResNet) -> Table:
  """The names of torchvision's ResNet; its slope of the PReLU is not there."""
  parts = [kernel("conv1", "input_conv"), norm("bn1", "input_norm")]
  names = (
    f"layer{stage + 1}.{i}."
    for stage, depth in enumerate(resnet.STAGES[body.num_layers])
    for i in range(depth)
  )
  for n, (name, block) in enumerate(zip(names, body.blocks, strict=True)):
    parts.append(basic_block_table(block).under(name, f"blocks.{n}."))
  return tables.join(parts) + Table(ignored=(r"fc\.(weight|bias)",))


def resnet_arguments(source: Source) -> dict[str, Any]:
  """The arguments of the `ResNet` that begins as this one of torchvision.

  Raises:
    ValueError: its blocks are those of a deeper ResNet, or as many as none has.
  """
  if "layer1.0.conv3.weight" in source:
    raise ValueError(
      "'layer1.0.conv3.weight' is of a ResNet of 50 or more layers, which no "
      "encoder here begins with; pass ResNet-34, or for MoCo use to_moco."
    )
  stages = [f"layer{stage}." for stage in range(1, 5)]
  depths = tuple(tables.numbered(source, stage) for stage in stages)
  layers = {depths: layers for layers, depths in resnet.STAGES.items()}
  if depths not in layers:
    raise ValueError(
      f"the checkpoint has {depths} blocks in the four stages "
      f"('layer1.*' ...); bodies have {sorted(layers)}."
    )
  return {
    "num_layers": layers[depths],
    "input_channels": tables.shape(source, "conv1.weight", 4, _WHAT)[1],
    "channels": tuple(
      tables.shape(source, f"{stage}0.conv1.weight", 4, _WHAT)[0]
      for stage in stages
    ),
  }


def to_backbone(checkpoint: Mapping[str, Any]) -> irse.Backbone | resnet.ResNet:
  """The body with which an encoder begins its training, alone.

  Args:
    checkpoint: an ArcFace network such as `model_ir_se50.pth` (its head is
      left out), or torchvision's ResNet-34 (ReStyle, other domains than
      faces), which becomes ReStyle's: no pooling, and a PReLU in the usual
      state of PyTorch, 0.25. Official name to array.

  Returns:
    As many input channels as the file has, 3 in published ones.

  Raises:
    ValueError: see `transfer.fill`.
  """
  source = sources.unwrap(checkpoint)
  if is_resnet(source):
    arguments = resnet_arguments(source)
    module = transfer.abstract(
      lambda: resnet.ResNet(**arguments, rngs=nnx.Rngs(0))
    )
    slope = np.full(module.input_act.slope.shape, 0.25, np.float32)
    given = {"input_act.slope": slope}
    return transfer.fill(module, resnet_table(module), source, given)
  arguments = body_arguments(source)
  arguments["squeeze_excite"] = SQUEEZE in source
  module = transfer.abstract(
    lambda: irse.Backbone(**arguments, rngs=nnx.Rngs(0))
  )
  head = Table(ignored=(r"output_layer\.[034]\.[a-z_]+",))
  return transfer.fill(module, body_table(module) + head, source)
