"""The upsampling blocks of synthesis as TPUs like them: the same numbers.

A TPU keeps channels in rows of 128, whatever a map has: maps of 32 channels
take four times their size, and a skip of 3 colours forty times. Here a map `[b
2h 2w c]` is `[b h w 4c]` (space to depth: phases of row and column, then
channels), in which both convolutions of a block are 3x3 ones over the input's
grid. The FIR filter is folded into the kernel of the first: zeros, 3x3 taps
and 4x4 taps are 6x6 taps, of which each phase of the output meets 3x3. More
operations, which the matrix unit has to spare, for a fifth of the bytes
(docs/performance.md).
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from encoder4editing_jax import ops, phases
from encoder4editing_jax.models.layers import clamp

SMALLEST = 256
"""Side of the maps from which on memory is what a block takes its time for."""


def unpack(x: Float[Array, "b h w c4"]) -> Float[Array, "b h2 w2 c"]:
  """Depth to space, as a transposed convolution with ones: XLA would put
  samples in order by several passes over maps of half empty rows."""
  c = x.shape[-1] // 4
  ones: np.ndarray = np.eye(4 * c, dtype=np.float32)
  ones = ones.reshape(2, 2, c, 4 * c)
  return jax.lax.conv_general_dilated(
    x,
    ones[::-1, ::-1].swapaxes(2, 3).astype(x.dtype),
    (1, 1),
    [(1, 1), (1, 1)],
    lhs_dilation=(2, 2),
    dimension_numbers=phases.NHWC,
    precision="highest",
  )


def _neighbours() -> np.ndarray:
  """`[3 2 2 3]`: by square, phase in it, phase of the output, the tap."""
  taps: np.ndarray = np.zeros((3, 2, 2, 3), np.float32)
  for out in range(2):
    for k in range(3):
      square, phase = divmod(out + k - 1, 2)
      taps[square + 1, phase, out, k] = 1
  return taps


def packed_kernel(kernel: Float[Array, "3 3 i o"]) -> Float[Array, "3 3 i4 o4"]:
  """A 3x3 convolution from packed maps to packed maps."""
  taps = _neighbours()
  full = jnp.einsum(
    "xrua,ycvb,abio->xyrciuvo", taps, taps, kernel, precision="highest"
  )
  return full.reshape(3, 3, 4 * kernel.shape[2], 4 * kernel.shape[3])


def _four(v: Float[Array, "*b c"]) -> Float[Array, "*b c4"]:
  """The same for all phases."""
  return jnp.concatenate([v] * 4, -1)


def _repeated(
  noise: Float[Array, "b h2 w2 1"], features: int
) -> Float[Array, "b h w c4"]:
  """Noise, packed, the same for all features: a product with ones, because XLA
  would write out what is merely repeated, and once more in another order."""
  planes = [noise[:, r::2, c::2, 0] for r in range(2) for c in range(2)]
  stacked = jax.lax.optimization_barrier(jnp.stack(planes, 1))
  ones = np.kron(np.eye(4), np.ones((1, features)))
  return jnp.einsum(
    "bphw,pk->bhwk", stacked, ones.astype(noise.dtype), precision="highest"
  )


def _styled(
  layer: Any,
  x: Float[Array, "b h w i"],
  style: Float[Array, "b d"],
  noise: Array | None,
) -> Float[Array, "b h w o4"]:
  """`StyledConv` to packed maps; from packed ones unless it upsamples."""
  kernel = layer.kernel[...] / math.sqrt(9 * layer.kernel.shape[2])
  scale = layer.modulation(style)
  gain = ops.demodulation(kernel, scale)
  if layer.up == 2:
    full = phases.upsampling_kernel(kernel)
  else:
    full, scale = packed_kernel(kernel), _four(scale)
  x = x * scale[:, None, None].astype(x.dtype)
  x = phases.conv(x, full.astype(x.dtype), 1)
  x = x * _four(gain)[:, None, None].astype(x.dtype)
  if noise is not None:
    maps = (layer.noise_strength[...] * noise).astype(x.dtype)
    x = x + _repeated(maps, x.shape[-1] // 4)
  x = ops.fused_leaky_relu(x, _four(layer.bias[...]))
  return clamp(x, layer.conv_clamp)


def _to_rgb(
  layer: Any, x: Float[Array, "b h w i4"], style: Float[Array, "b d"]
) -> Float[Array, "b h2 w2 3"]:
  """`ToRGB` from packed maps. Colours come as planes: rows of 128 are columns
  of pixels then, and not the colours. That XLA writes them so takes weights of
  each example's own; the styles are in them."""
  kernel = layer.kernel[...][0, 0] / math.sqrt(layer.kernel.shape[2])
  full = jnp.einsum("pq,io->piqo", np.eye(4, dtype=np.float32), kernel)
  full = full.reshape(x.shape[-1], 12)
  full = _four(layer.modulation(style))[:, :, None] * full[None]
  planes = jnp.einsum("bik,bhwi->bkhw", full.astype(x.dtype), x)
  image = _interleaved(jax.lax.optimization_barrier(planes))
  image = image.astype(jnp.float32) + layer.bias[...][None, None, None]
  return clamp(image, layer.conv_clamp)


def _interleaved(
  planes: Float[Array, "b c4 h w"],
) -> Float[Array, "b h2 w2 c"]:
  """`unpack` for few channels, as planes: rows, then columns, and never both
  at once, which XLA would do with the batch in the rows of 128."""
  b, c, h, w = planes.shape
  x = planes.reshape(b, 2, 2, c // 4, h, w).transpose(0, 2, 3, 4, 1, 5)
  x = jax.lax.optimization_barrier(x.reshape(b, 2, c // 4, 2 * h, w))
  x = x.transpose(0, 2, 3, 4, 1).reshape(b, c // 4, 2 * h, 2 * w)
  return jax.lax.optimization_barrier(x).transpose(0, 2, 3, 1)


def packed_block(
  block: Any,
  x: Float[Array, "b h w i"],
  image: Float[Array, "b h w 3"],
  styles: Any,
  noises: Any,
) -> tuple[Array, Array]:
  """What a `SynthesisBlock` computes, to rounding."""
  x = _styled(block.conv0, x, styles[0], noises[0])
  x = _styled(block.conv1, x, styles[1], noises[1])
  rgb = _to_rgb(block.to_rgb, x, styles[2])
  return unpack(x), ops.upsample2d(image) + rgb


def platform_block(
  block: Any,
  x: Float[Array, "b h w i"],
  image: Float[Array, "b h w 3"],
  styles: Any,
  noises: Any,
) -> tuple[Array, Array]:
  """`packed_block` on TPUs, if it is large; elsewhere the block as it is."""
  arguments = (x, image, tuple(styles), tuple(noises))
  if 2 * min(x.shape[1:3]) < SMALLEST:
    return block.plain(*arguments)
  return jax.lax.platform_dependent(
    *arguments, tpu=partial(packed_block, block), default=block.plain
  )
