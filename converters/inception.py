"""The Inception network of FID."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from encoder4editing_jax.converters import (
  recognition,
  sources,
  table as tables,
  transfer,
)
from encoder4editing_jax.converters.table import Table, kernel, norm
from encoder4editing_jax.models import inception
from encoder4editing_jax.models.inception import Inception

CLASSES = 1008  # of the network of 2015; later ones have 1000
_STEM = "Conv2d_1a_3x3.conv.weight"


def inception_table(net: Inception) -> Table:
  """The names of torchvision and pytorch-fid; the classifier has no use."""
  parts = []
  for i, name in enumerate(inception.conv_names()):
    parts.append(kernel(f"{name}.conv", f"convs.{i}.conv"))
    parts.append(norm(f"{name}.bn", f"convs.{i}.norm"))
  return tables.join(parts) + Table(ignored=(r"fc\.(weight|bias)",))


def to_inception(checkpoint: Mapping[str, Any]) -> Inception:
  """The network of FID.

  Args:
    checkpoint: official name to array, or `{"state_dict": ...}` of that:
      `pt_inception-2015-12-05-6726825d.pth` of pytorch-fid.

  Raises:
    ValueError: it is torchvision's Inception v3, whose features are not those
      of FID; or see `transfer.fill`.
  """
  source = sources.unwrap(checkpoint)
  width = tables.shape(source, _STEM, 4, "the Inception network of FID")[0]
  later = tables.has(source, "AuxLogits.")
  if later or np.shape(source.get("fc.bias", 0)) not in ((), (CLASSES,)):
    raise ValueError(
      "these are other weights of Inception v3 than those of FID "
      f"({recognition.advice(source) or f'it has not {CLASSES} classes'}); "
      "pass pt_inception-2015-12-05-6726825d.pth of pytorch-fid."
    )
  divisor = 32 // width if width else 0
  module = transfer.abstract(lambda: Inception(divisor, rngs=nnx.Rngs(0)))
  return transfer.fill(module, inception_table(module), source)
