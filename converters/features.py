"""Networks that losses and metrics look through."""

import math
from collections.abc import Mapping
from typing import Any

from flax import nnx

from encoder4editing_jax.converters import table as tables, transfer
from encoder4editing_jax.converters.irse import body_arguments, body_table
from encoder4editing_jax.converters.stylegan2 import unwrap
from encoder4editing_jax.converters.table import (
  Source,
  Table,
  flattened,
  linear,
  norm,
)
from encoder4editing_jax.models.arcface import ArcFace

_AFFINE = ("weight", "bias")
_PROJECTION = "output_layer.3.weight"


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
  arguments = body_arguments(source)
  shape = tables.shape(source, _PROJECTION, 2, "an ArcFace network")
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
    checkpoint: official name to array, or `{"state_dict": ...}` of that.

  Raises:
    ValueError: see `transfer.fill`.
  """
  source = unwrap(checkpoint, "state_dict")
  arguments = arcface_arguments(source)
  module = transfer.abstract(lambda: ArcFace(**arguments, rngs=nnx.Rngs(0)))
  return transfer.fill(module, arcface_table(module), source)
