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


def _unit(i: int, block: irse.Bottleneck) -> Table:
  source, target = f"body.{i}", f"blocks.{i}"
  parts = [
    norm(f"{source}.res_layer.0", f"{target}.norm1"),
    kernel(f"{source}.res_layer.1", f"{target}.conv1"),
    _slope(f"{source}.res_layer.2", f"{target}.act"),
    kernel(f"{source}.res_layer.3", f"{target}.conv2"),
    norm(f"{source}.res_layer.4", f"{target}.norm2"),
  ]
  if block.se is not None:
    parts += [
      kernel(f"{source}.res_layer.5.{fc}", f"{target}.se.{fc}")
      for fc in ("fc1", "fc2")
    ]
  if block.shortcut_conv is not None:
    parts += [
      kernel(f"{source}.shortcut_layer.0", f"{target}.shortcut_conv"),
      norm(f"{source}.shortcut_layer.1", f"{target}.shortcut_norm"),
    ]
  return tables.join(parts)


def _basic_block(i: int, block: resnet.BasicBlock) -> Table:
  source, target = f"body.{i}", f"blocks.{i}"
  parts = [
    kernel(f"{source}.conv1", f"{target}.conv1"),
    norm(f"{source}.bn1", f"{target}.norm1"),
    kernel(f"{source}.conv2", f"{target}.conv2"),
    norm(f"{source}.bn2", f"{target}.norm2"),
  ]
  if block.shortcut_conv is not None:
    parts += [
      kernel(f"{source}.downsample.0", f"{target}.shortcut_conv"),
      norm(f"{source}.downsample.1", f"{target}.shortcut_norm"),
    ]
  return tables.join(parts)


def body_table(body: irse.Backbone | resnet.ResNet) -> Table:
  """The names of a body."""
  if isinstance(body, resnet.ResNet):
    names, block_table = ("conv1", "bn1", "relu"), _basic_block
  else:
    names = ("input_layer.0", "input_layer.1", "input_layer.2")
    block_table = _unit
  start = [
    kernel(names[0], "input_conv"),
    norm(names[1], "input_norm"),
    _slope(names[2], "input_act"),
  ]
  blocks = [block_table(i, block) for i, block in enumerate(body.blocks)]
  return tables.join(start + blocks)


def is_resnet(source: Source) -> bool:
  """Whether the body is ReStyle's ResNet rather than IR or IR-SE."""
  return "conv1.weight" in source


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
  n = tables.count(source, name)
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
