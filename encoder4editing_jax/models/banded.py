"""The largest blocks of synthesis as CPUs like them: the same numbers.

A map of 1024 x 1024 with 32 channels takes 134 MB, and every pass over one goes
through main memory. Here some rows of the output go through the whole block
before the next ones do, so that what is between its convolutions stays in the
cache. The second convolution sees a row more on both sides, a halo, which
neighbouring bands compute twice (docs/performance.md).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax import ops, phases
from encoder4editing_jax.models import packed

LARGE = 2**26
"""Bytes of an example's map from which on it is worked on in bands."""
BAND = 2**22
"""Bytes of a band of it."""


def pays(block: Any, x: Float[Array, "b h w i"]) -> bool:
  """Whether maps are large, and the batch is known (that of exported programs
  is not) and not sharded by an explicit axis."""
  if not isinstance(x.shape[0], int) or not x.shape[0] or phases.sharded(x):
    return False
  return 2 * x.shape[1] * _row(block, x) >= LARGE


def _row(block: Any, x: Array) -> int:
  """Bytes of a row of the output."""
  return 2 * x.shape[2] * block.conv1.kernel.shape[3] * x.dtype.itemsize


def _rows(block: Any, x: Array) -> int:
  """How many rows a band has: an even divisor of the output's."""
  h, most = x.shape[1], max(BAND // _row(block, x) // 2, 1)
  return 2 * max(n for n in range(1, h + 1) if h % n == 0 and n <= most)


def _column(v: Float[Array, "b c"], x: Array) -> Float[Array, "b 1 1 c"]:
  return v[:, None, None].astype(x.dtype)


def _band(
  block: Any,
  x: Float[Array, "1 rows w i"],
  noises: Any,
  scales: Any,
  style: Float[Array, "1 d"],
  row_mask: Any,
) -> tuple[Array, Array]:
  """A band of the block's output, from all rows of x that it depends on.

  `row_mask` says which rows of the first layer, halo and all, are in the map.
  """
  gain, between, after = (_column(v, x) for v in scales)
  first, second = block.conv0, block.conv1
  x = jnp.pad(x, [(0, 0), (0, 0), (1, 1), (0, 0)])
  x = phases.blurred_within(x, first.kernel[...].astype(x.dtype))[:, 1:-1]
  x = first.finish(x * gain, noises[0])
  # What the second convolution sees outside the map are zeros.
  x = jnp.where(row_mask[None, :, None, None], x * between, 0)
  x = jnp.pad(x, [(0, 0), (0, 0), (1, 1), (0, 0)])
  x = phases.conv(x, second.kernel[...].astype(x.dtype), 0)
  x = second.finish(x * after, noises[1])
  return x, block.to_rgb(x, style)


def banded_block(
  block: Any,
  x: Float[Array, "b h w i"],
  image: Float[Array, "b h w 3"],
  styles: Any,
  noises: Any,
) -> tuple[Array, Array]:
  """What a `SynthesisBlock` computes."""
  b, height, rows = x.shape[0], 2 * x.shape[1], _rows(block, x)
  before, gain = block.conv0.scales(styles[0])
  scales = gain, *block.conv1.scales(styles[1])

  def with_edges(maps: Array | None, edge: int) -> Array | None:
    if maps is None:
      return None
    return jnp.pad(maps, [(0, 0), (edge, edge), (0, 0), (0, 0)])

  x = with_edges(x * _column(before, x), 2)
  above, noise = with_edges(noises[0], 1), noises[1]

  def band(start: Array) -> tuple[Array, Array]:
    example, top = start

    def of_example(v: Array) -> Array:
      return jax.lax.dynamic_slice_in_dim(v, example, 1)

    def cut(maps: Array | None, top: Any, rows: int) -> Array | None:
      if maps is None:
        return None
      maps = jax.lax.dynamic_slice_in_dim(maps, top, rows, 1)
      return of_example(maps) if len(maps) == b else maps

    row = top - 1 + jnp.arange(rows + 2)
    return _band(
      block,
      cut(x, top // 2, rows // 2 + 4),
      (cut(above, top, rows + 2), cut(noise, top, rows)),
      [of_example(v) for v in scales],
      of_example(styles[2]),
      (row >= 0) & (row < height),
    )

  starts = np.mgrid[0:b, 0:height:rows].reshape(2, -1).T
  y, rgb = jax.lax.map(band, jnp.asarray(starts))
  y, rgb = (z.reshape(b, height, *z.shape[3:]) for z in (y, rgb))
  return y, ops.upsample2d(image) + rgb


def platform_block(
  block: Any,
  x: Float[Array, "b h w i"],
  image: Float[Array, "b h w 3"],
  styles: Any,
  noises: Any,
) -> tuple[Array, Array]:
  """`banded_block` on CPUs, if it pays; elsewhere what `packed` has.

  Derivatives are always those of the latter, as is what is computed beside
  them.
  """
  if not pays(block, x):
    return packed.platform_block(block, x, image, styles, noises)
  graph, state = nnx.split(block)
  arguments = (state, x, image, tuple(styles), tuple(noises))
  leaves, tree = jax.tree.flatten(arguments)

  def call(form: Any, *leaves: Array) -> tuple[Array, Array]:
    state, *arguments = jax.tree.unflatten(tree, leaves)
    return form(nnx.merge(graph, state), *arguments)

  default = partial(call, packed.platform_block)

  @jax.custom_jvp
  def function(*leaves: Array) -> tuple[Array, Array]:
    return jax.lax.platform_dependent(
      *leaves, cpu=partial(call, banded_block), default=default
    )

  function.defjvp(partial(_derivative, default), symbolic_zeros=True)
  return function(*leaves)


def _derivative(function: Any, primals: Any, tangents: Any) -> Any:
  """`jax.jvp`, with what does not move held still."""
  zero = jax.custom_derivatives.SymbolicZero
  moving = [k for k, t in enumerate(tangents) if not isinstance(t, zero)]

  def moved(*values: Array) -> Any:
    found = dict(zip(moving, values, strict=True))
    return function(*(found.get(k, x) for k, x in enumerate(primals)))

  return jax.jvp(
    moved, [primals[k] for k in moving], [tangents[k] for k in moving]
  )
