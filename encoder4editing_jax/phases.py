"""3x3 convolutions over maps with zeros inserted, without the zeros.

A transposed convolution of stride 2 is one, and StyleGAN2 filters its result
with `[1 3 3 1]` (arXiv 1912.04958, appendix B). Both go by phases here, the
samples of even and of odd rows and columns apart, or as one convolution.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

NHWC = ("NHWC", "HWIO", "NHWC")
FIR = (0.125, 0.375, 0.375, 0.125)  # [1 3 3 1], the filter of StyleGAN2


def conv(
  x: Float[Array, "b h w i"],
  kernel: Float[Array, "k l i o"],
  pad: int,
  stride: int = 1,
) -> Float[Array, "b h2 w2 o"]:
  """A plain convolution with `pad` zeros on all four sides."""
  return jax.lax.conv_general_dilated(
    x, kernel, (stride, stride), [(pad, pad)] * 2, dimension_numbers=NHWC
  )


def sharded(*arrays: Array) -> bool:
  """Whether an explicit axis of a mesh shards one; parts do not say how."""
  return any(any(jax.typeof(x).sharding.spec) for x in arrays)


def _phases(
  x: Array, kernel: Array, even: int = 0, odd: int = 0
) -> list[list[Array]]:
  """What a 3x3 convolution over the zero-inserted map gives, by the parity of
  row and column: four convolutions, which skip the inserted zeros.

  Even samples see taps 0 and 2, odd ones tap 1; `even` and `odd` are the zeros
  around each. XLA:CPU takes ten times as long or more for the gradients of
  `lhs_dilation`, and of a convolution that is larger than what it is given:
  hence the padding beforehand.
  """

  def phase(row: int, column: int) -> Array:
    edges = [(odd if parity else even,) * 2 for parity in (row, column)]
    padded = jnp.pad(x, [(0, 0), *edges, (0, 0)])
    return conv(padded, kernel[row::2, column::2], 0)

  return [[phase(row, column) for column in (0, 1)] for row in (0, 1)]


def transposed_conv(
  x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"]
) -> Float[Array, "b h2 w2 o"]:
  """3x3 convolution over the zero-inserted map, `[h w]` to `[2h+1 2w+1]`."""
  rows = _phases(x, kernel, even=1)
  even, odd = (_interleave(left, right, axis=2) for left, right in rows)
  return _interleave(even, odd, axis=1)


def transposed_conv_at_once(
  x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"]
) -> Float[Array, "b h2 w2 o"]:
  """`transposed_conv` as the gradient of a convolution with stride 2, by which
  XLA knows what cuDNN has a program for."""
  return jax.lax.conv_transpose(
    x,
    kernel[::-1, ::-1].swapaxes(2, 3),
    (2, 2),
    "VALID",
    dimension_numbers=NHWC,
    transpose_kernel=True,
  )


def transposed_conv_blurred(
  x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"]
) -> Float[Array, "b h2 w2 o"]:
  """`transposed_conv` and the FIR after it, by phases.

  The filter reads the phases where they are, so that the map of 2h + 1 rows is
  never put together: a third of the memory, which is what counts on CPU.
  """
  return _blurred(_phases(x, kernel / 16, even=1, odd=1))


def upsampling_kernel(
  kernel: Float[Array, "3 3 i o"],
) -> Float[Array, "3 3 i o4"]:
  """Zero insertion, a 3x3 convolution and the FIR, as one convolution.

  Zeros, 3x3 taps and 4x4 taps are 6x6 taps, of which each phase of the output
  meets 3x3: four times the multiplications, and nothing in between. Outputs
  are `[2 2 o]`: row, column, channel.
  """
  rows: np.ndarray = np.zeros((6, 3), np.float32)
  for k in range(3):
    rows[k : k + 4, k] = 2 * np.array(FIR)
  taps = jnp.einsum("sa,tb,abio->stio", rows, rows, kernel, precision="highest")
  # odd taps meet samples where even outputs stand, even taps for odd ones
  parts = [taps[1 - r :: 2, 1 - c :: 2] for r in range(2) for c in range(2)]
  return jnp.concatenate(parts, axis=3)


def transposed_conv_folded(
  x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"]
) -> Float[Array, "b h2 w2 o"]:
  """`transposed_conv` and the FIR after it, by `upsampling_kernel`."""
  b, h, w, _ = x.shape
  full = upsampling_kernel(kernel.astype(jnp.float32)).astype(x.dtype)
  y = conv(x, full, 1).reshape(b, h, w, 2, 2, -1)
  rows = y.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, w, 2, -1)
  return rows.reshape(b, 2 * h, 2 * w, -1)


def blurred_within(
  x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"]
) -> Float[Array, "b h2 w2 o"]:
  """The same where x has its surroundings: `[h w]` to `[2h-4 2w-4]`."""
  return _blurred(_phases(x, kernel / 16))


def _blurred(rows: list[list[Array]]) -> Array:
  even, odd = (
    _blurred_pair(above, below, axis=1)
    for above, below in zip(*rows, strict=True)
  )
  return _blurred_pair(even, odd, axis=2)


def _blurred_pair(even: Array, odd: Array, axis: int) -> Array:
  """n + 1 even and n + 2 odd samples filtered by `[1 3 3 1]`, to 2n.

  Odd samples begin before the first even one.
  """
  n = odd.shape[axis] - 2

  def part(x: Array, start: int) -> Array:
    return jax.lax.slice_in_dim(x, start, start + n, axis=axis)

  e0, e1 = part(even, 0), part(even, 1)
  o0, o1, o2 = (part(odd, k) for k in range(3))
  pair = o0 + 3 * (e0 + o1) + e1, e0 + 3 * (o1 + e1) + o2
  shape = (*odd.shape[:axis], 2 * n, *odd.shape[axis + 1 :])
  return jnp.stack(pair, axis + 1).reshape(shape)


def _interleave(even: Array, odd: Array, axis: int) -> Array:
  """n + 1 and n samples, alternating."""
  n = odd.shape[axis]
  config = [(0, 0)] * odd.ndim
  config[axis] = (0, 1)
  pairs = jnp.stack([even, jnp.pad(odd, config)], axis + 1)
  shape = (*even.shape[:axis], 2 * n + 2, *even.shape[axis + 1 :])
  return jax.lax.slice_in_dim(pairs.reshape(shape), 0, 2 * n + 1, axis=axis)
