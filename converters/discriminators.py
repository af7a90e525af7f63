"""Discriminators: of style vectors (e4e), of images (StyleGAN2)."""

from collections.abc import Mapping, Sequence
from typing import Any

from flax import nnx

from encoder4editing_jax.converters import (
  sources,
  stylegan2_ada,
  stylegan2_tf,
  table as tables,
  transfer,
)
from encoder4editing_jax.converters.sources import Source
from encoder4editing_jax.converters.stylegan2 import (
  FILTER,
  channel_rule,
)
from encoder4editing_jax.converters.table import (
  Fixed,
  Row,
  Table,
  flattened,
  kernel,
  linear,
)
from encoder4editing_jax.models.discriminator import (
  Discriminator,
  LatentDiscriminator,
)


def latent_discriminator_table(net: LatentDiscriminator) -> Table:
  """The names of e4e's `LatentCodesDiscriminator`."""
  return tables.join(
    linear(f"mlp.{2 * i}", f"layers.{i}") for i in range(net.n_layers)
  )


def to_latent_discriminator(
  checkpoint: Mapping[str, Any],
) -> LatentDiscriminator:
  """e4e's discriminator of style vectors.

  Args:
    checkpoint: an e4e checkpoint saved with its training data (entry
      `discriminator_state_dict`), or the bare state_dict.

  Raises:
    ValueError: see `transfer.fill`.
  """
  source = sources.unwrap(checkpoint, "discriminator_state_dict")
  what = "a latent discriminator"
  hidden, style_dim = tables.shape(source, "mlp.0.weight", 2, what)
  n_layers = tables.largest(source, r"mlp\.(\d+)\.") // 2 + 1
  module = transfer.abstract(
    lambda: LatentDiscriminator(style_dim, hidden, n_layers, rngs=nnx.Rngs(0))
  )
  return transfer.fill(module, latent_discriminator_table(module), source)


def _biased(weight: str, bias: str, target: str) -> Table:
  return kernel(weight, target) + Table(
    (Row(f"{bias}.bias", f"{target}.bias"),)
  )


def block_table() -> Table:
  """The names of one residual block."""
  filters = ("conv2.0.kernel", "skip.0.kernel")
  return (
    _biased("conv1.0", "conv1.1", "conv1")
    + _biased("conv2.1", "conv2.2", "conv2")
    + kernel("skip.1", "skip")
    + Table(fixed=tuple(Fixed(name, FILTER) for name in filters))
  )


def discriminator_table(net: Discriminator) -> Table:
  """The names of rosinality's discriminator."""
  parts = [
    _biased("convs.0.0", "convs.0.1", "from_rgb"),
    _biased("final_conv.0", "final_conv.1", "final_conv"),
    linear("final_linear.0", "linear1", flattened(4, 4)),
    linear("final_linear.1", "linear2"),
  ]
  for i in range(len(net.blocks)):
    parts.append(block_table().under(f"convs.{i + 1}.", f"blocks.{i}."))
  return tables.join(parts)


def discriminator_arguments(source: Source) -> dict[str, Any]:
  """The arguments of the `Discriminator` whose weights these are."""
  what = "a StyleGAN2 discriminator"
  n = max(tables.largest(source, r"convs\.(\d+)\."), 0)
  channels = {4 << n: tables.shape(source, "convs.0.0.weight", 4, what)[0]}
  for i in range(n):
    name = f"convs.{i + 1}.skip.1.weight"
    channels[2 << (n - i)] = tables.shape(source, name, 4, what)[0]
  return {"size": 4 << n, **channel_rule(channels)}


def to_discriminator(
  checkpoint: Mapping[str, Any] | Sequence[Any],
) -> Discriminator:
  """StyleGAN2's image discriminator.

  Args:
    checkpoint: rosinality's `{"d": ..., ...}` or a bare state_dict of it; or a
      pickle of NVIDIA's, or a network of one, see `to_generator`.

  Raises:
    ValueError: see `to_generator`.
  """

  def build(arguments: Mapping[str, Any]) -> Discriminator:
    return transfer.abstract(
      lambda: Discriminator(**arguments, rngs=nnx.Rngs(0))
    )

  for family in (stylegan2_ada, stylegan2_tf):
    if family.holds(checkpoint):
      source, arguments = family.find_discriminator(checkpoint)
      module = build(arguments)
      return transfer.fill(module, family.discriminator_table(module), source)
  if not isinstance(checkpoint, Mapping):
    raise ValueError(
      f"a {type(checkpoint).__name__} of {len(checkpoint)} is no checkpoint of "
      "a discriminator; pass what `converters.read` returns."
    )
  source = sources.unwrap(checkpoint, "d")
  module = build(discriminator_arguments(source))
  return transfer.fill(module, discriminator_table(module), source)
