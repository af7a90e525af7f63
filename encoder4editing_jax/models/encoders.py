"""The encoders: images to offsets from the mean style, one row per style.

e4e (arXiv 2102.02766), pSp (arXiv 2008.00951), ReStyle (arXiv 2104.02699).
All of them take the same arguments, see `pyramid.Encoder`.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from encoder4editing_jax import ops
from encoder4editing_jax.models.layers import BatchNorm, EqualLinear, linear
from encoder4editing_jax.models.pyramid import (
  Encoder,
  Pyramid,
  Stage,
  add_deltas,
)
from encoder4editing_jax.models.resnet import ResNet

POOLED = 7  # side of the map that WPlusEncoder flattens


class GradualStyleEncoder(Pyramid):
  """pSp: every head gives its style (figure 2)."""

  def _codes(self, image: Array, stage: Stage) -> Array:
    self._refuse_stage(stage)
    return self._rows(image)


class ResNetGradualStyleEncoder(GradualStyleEncoder):
  """ReStyle's variant of pSp's encoder for other domains than faces."""

  body_type, usual_layers, usual_channels = ResNet, 34, 6


class Encoder4Editing(Pyramid):
  """e4e: head 0 gives style 0, the others what to add to it.

  The network of `GradualStyleEncoder`. The stage may be traced: one compiled
  function serves all stages. Heads that sleep are computed and masked: XLA
  runs convolutions below a condition many times slower on CPUs.
  """

  def _codes(self, image: Array, stage: Stage) -> Array:
    return add_deltas(self._rows(image), stage)


class BackboneEncoder(Encoder):
  """ReStyle's encoder (section 3.2): all heads on the map of 1/16."""

  usual_channels = 6

  def _build(self, rngs: nnx.Rngs) -> None:
    self.heads = self._heads(self.n_styles, 16, self.channels[-1], rngs)

  def _codes(self, image: Array, stage: Stage) -> Array:
    self._refuse_stage(stage)
    return self.heads(self.body(image)[-1])


class ProgressiveBackboneEncoder(BackboneEncoder):
  """ReStyle over e4e: as `BackboneEncoder`, with deltas and stages."""

  def _codes(self, image: Array, stage: Stage) -> Array:
    return add_deltas(self.heads(self.body(image)[-1]), stage)


class ResNetBackboneEncoder(BackboneEncoder):
  """`BackboneEncoder` with a ResNet body, for other domains than faces."""

  body_type, usual_layers = ResNet, 34


class ResNetProgressiveBackboneEncoder(ProgressiveBackboneEncoder):
  """`ProgressiveBackboneEncoder` with a ResNet body."""

  body_type, usual_layers = ResNet, 34


class SingleStyleEncoder(Encoder):
  """Into W: global average pooling, one linear layer, n equal rows."""

  checks_size = False

  def _build(self, rngs: nnx.Rngs) -> None:
    self.linear = EqualLinear(self.channels[-1], self.style_dim, rngs=rngs)

  def _codes(self, image: Array, stage: Stage) -> Array:
    self._refuse_stage(stage)
    mean = self.body(image)[-1].astype(jnp.float32).mean((1, 2))
    return jnp.repeat(self.linear(mean)[:, None], self.n_styles, 1)


class WPlusEncoder(Encoder):
  """pSp's encoder into W+ from the last layer: pool to 7 x 7, two layers."""

  checks_size = False

  def _build(self, rngs: nnx.Rngs) -> None:
    c3, d = self.channels[-1], self.style_dim
    self.norm = BatchNorm(c3, axis_name=self.bn_axis, rngs=rngs)
    self.project = linear(POOLED * POOLED * c3, d, rngs=rngs)
    self.linear = EqualLinear(d, d * self.n_styles, rngs=rngs)

  def _codes(self, image: Array, stage: Stage) -> Array:
    self._refuse_stage(stage)
    x = self.norm(self.body(image)[-1]).astype(jnp.float32)
    x = ops.adaptive_avg_pool(x, (POOLED, POOLED)).reshape(x.shape[0], -1)
    return self.linear(self.project(x)).reshape(
      -1, self.n_styles, self.style_dim
    )
