"""The network of FID: Inception v3 as Google published it in 2015.

Szegedy et al. 2016, arXiv 1512.00567 (table 1), up to the mean of the last
map. Three things set the weights of 2015-12-05, with which FID is defined
(arXiv 1706.08500), apart from later ones: means at the edge of a map leave
out what is beyond it, the last block pools by the maximum, and pictures are
resized without antialiasing.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax.models.layers import BatchNorm, max_pool, uniform_init


class Conv(NamedTuple):
  """A convolution without bias, batch normalisation and ReLU.

  Where the stride is 1 the map keeps its size, unless `inside` is set.
  """

  name: str
  features: int
  kernel: tuple[int, int] = (1, 1)
  stride: int = 1
  inside: bool = False


class Pool(NamedTuple):
  """3 x 3: the mean or maximum around each place, or "halve", by maximum."""

  kind: str


class Fork(NamedTuple):
  """Paths from the same map, whose results are put one after the other."""

  name: str
  paths: tuple[tuple["Conv | Pool | Fork", ...], ...]


Step = Conv | Pool | Fork
MEAN, MAX, HALVE = Pool("mean"), Pool("max"), Pool("halve")
_ROW, _COLUMN, _THREE, _FIVE = (1, 7), (7, 1), (3, 3), (5, 5)


def _chain(name: str, *parts: tuple[int, tuple[int, int]]) -> tuple[Conv, ...]:
  """`name_1`, `name_2` and so on, of (features, kernel)."""
  return tuple(Conv(f"{name}_{i}", *p) for i, p in enumerate(parts, 1))


def _last(name: str, features: int) -> Conv:
  """The 3 x 3 convolution with stride 2 that ends a path."""
  return Conv(name, features, _THREE, 2)


def _block_a(name: str, pool: int) -> Fork:
  return Fork(
    name,
    (
      (Conv("branch1x1", 64),),
      _chain("branch5x5", (48, (1, 1)), (64, _FIVE)),
      _chain("branch3x3dbl", (64, (1, 1)), (96, _THREE), (96, _THREE)),
      (MEAN, Conv("branch_pool", pool)),
    ),
  )


def _block_c(name: str, n: int) -> Fork:
  sevens = ((n, (1, 1)), (n, _COLUMN), (n, _ROW), (n, _COLUMN), (192, _ROW))
  return Fork(
    name,
    (
      (Conv("branch1x1", 192),),
      _chain("branch7x7", (n, (1, 1)), (n, _ROW), (192, _COLUMN)),
      _chain("branch7x7dbl", *sevens),
      (MEAN, Conv("branch_pool", 192)),
    ),
  )


def _both(name: str) -> Fork:
  """A row and a column from the same map."""
  row, column = (Conv(f"{name}a", 384, (1, 3)), Conv(f"{name}b", 384, (3, 1)))
  return Fork("", ((row,), (column,)))


def _block_e(name: str, pool: Pool) -> Fork:
  return Fork(
    name,
    (
      (Conv("branch1x1", 320),),
      (Conv("branch3x3_1", 384), _both("branch3x3_2")),
      (
        *_chain("branch3x3dbl", (448, (1, 1)), (384, _THREE)),
        _both("branch3x3dbl_3"),
      ),
      (pool, Conv("branch_pool", 192)),
    ),
  )


_NARROW_A = _chain("branch3x3dbl", (64, (1, 1)), (96, _THREE))
_NARROW_B = _chain("branch7x7x3", (192, (1, 1)), (192, _ROW), (192, _COLUMN))

NET: tuple[Step, ...] = (
  Conv("Conv2d_1a_3x3", 32, _THREE, 2),
  Conv("Conv2d_2a_3x3", 32, _THREE, inside=True),
  Conv("Conv2d_2b_3x3", 64, _THREE),
  HALVE,
  Conv("Conv2d_3b_1x1", 80),
  Conv("Conv2d_4a_3x3", 192, _THREE, inside=True),
  HALVE,
  _block_a("Mixed_5b", 32),
  _block_a("Mixed_5c", 64),
  _block_a("Mixed_5d", 64),
  Fork(
    "Mixed_6a",
    (
      (_last("branch3x3", 384),),
      (*_NARROW_A, _last("branch3x3dbl_3", 96)),
      (HALVE,),
    ),
  ),
  _block_c("Mixed_6b", 128),
  _block_c("Mixed_6c", 160),
  _block_c("Mixed_6d", 160),
  _block_c("Mixed_6e", 192),
  Fork(
    "Mixed_7a",
    (
      (Conv("branch3x3_1", 192), _last("branch3x3_2", 320)),
      (*_NARROW_B, _last("branch7x7x3_4", 192)),
      (HALVE,),
    ),
  ),
  _block_e("Mixed_7b", MEAN),
  _block_e("Mixed_7c", MAX),
)


def conv_names(path: tuple[Step, ...] = NET, prefix: str = "") -> Iterator[str]:
  """The published names of the convolutions, in the order of `convs`."""
  for step in path:
    if isinstance(step, Conv):
      yield prefix + step.name
    elif isinstance(step, Fork):
      inner = f"{prefix}{step.name}." if step.name else prefix
      for branch in step.paths:
        yield from conv_names(branch, inner)


def neighbour_mean(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
  """The mean of 3 x 3 around each place, of those inside the map."""
  return nnx.avg_pool(
    x, (3, 3), (1, 1), [(1, 1), (1, 1)], count_include_pad=False
  )


_POOLS = {
  "mean": neighbour_mean,
  "max": lambda x: max_pool(x, 3, 1, padding=1),
  "halve": lambda x: max_pool(x, 3, 2),
}


class ConvUnit(nnx.Module):
  """What a `Conv` describes."""

  def __init__(self, i: int, o: int, step: Conv, *, rngs: nnx.Rngs):
    h, w = step.kernel
    keeps = step.stride == 1 and not step.inside
    self.conv = nnx.Conv(
      i,
      o,
      step.kernel,
      strides=(step.stride, step.stride),
      padding=tuple((k // 2 * keeps,) * 2 for k in step.kernel),
      use_bias=False,
      kernel_init=uniform_init(h * w * i),
      rngs=rngs,
    )
    self.norm = BatchNorm(o, epsilon=1e-3, rngs=rngs)

  def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
    return jax.nn.relu(self.norm(self.conv(x)))


class Inception(nnx.Module):
  """Pictures to the 2,048 features of FID.

  Args:
    divisor: of all numbers of channels: 1 as published; 2, 4, 8 or 16 for
      small networks of the same form.
    input_size: side to which pictures are resized, 75 or more; 299 as
      published.

  Raises:
    ValueError: another divisor, or too small a size.
  """

  def __init__(
    self, divisor: int = 1, input_size: int = 299, *, rngs: nnx.Rngs
  ):
    if divisor not in (1, 2, 4, 8, 16) or input_size < 75:
      raise ValueError(
        f"divisor is {divisor} and input_size {input_size}; use 1, 2, 4, 8 or "
        "16, and 75 or more."
      )
    self.divisor = divisor
    self.input_size = input_size
    self.convs = nnx.List()
    self.features = self._make(NET, 3, rngs)

  def _make(self, path: tuple[Step, ...], width: int, rngs: nnx.Rngs) -> int:
    for step in path:
      if isinstance(step, Conv):
        features = step.features // self.divisor
        self.convs.append(ConvUnit(width, features, step, rngs=rngs))
        width = features
      elif isinstance(step, Fork):
        width = sum(self._make(branch, width, rngs) for branch in step.paths)
    return width

  def __call__(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b d"]:
    """Features of pictures in [-1, 1], of any size; they are 0 or more.

    Pictures are resized bilinearly without antialiasing, as PyTorch's
    `interpolate` does and the published FID has it.
    """
    side, (b, *_, c) = self.input_size, image.shape
    x = jax.image.resize(
      image, (b, side, side, c), "linear", antialias=False, precision="highest"
    )
    return self._run(NET, x, iter(self.convs)).mean((1, 2))

  def _run(
    self, path: tuple[Step, ...], x: Array, convs: Iterator[nnx.Module]
  ) -> Array:
    for step in path:
      if isinstance(step, Conv):
        x = next(convs)(x)
      elif isinstance(step, Pool):
        x = _POOLS[step.kind](x)
      else:
        x = jnp.concatenate([self._run(p, x, convs) for p in step.paths], -1)
    return x
