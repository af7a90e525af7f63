"""Bodies of encoders and face networks: IR, IR-SE and ReStyle's ResNet.

Names of InsightFace_Pytorch's `model_ir_se50.pth` (arXiv 1801.07698), which e4e
and pSp put before their heads, and of torchvision's ResNet.
"""

from typing import Any

from encoder4editing_jax.converters import table as tables
from encoder4editing_jax.converters.table import (
  Row,
  Source,
  Table,
  kernel,
  norm,
)
from encoder4editing_jax.models import irse, resnet

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
