"""3x3 convolutions with fewer products, after Winograd.

The minimal filtering algorithm F(2x2, 3x3) of Lavin and Gray (arXiv 1509.09308,
section 4.1): a square of 2 x 2 outputs sees 4 x 4 inputs d, and with a kernel g
takes 16 products for each pair of channels instead of 36,

    Y = A^T [(G g G^T) * (B^T d B)] A

where * multiplies number by number: over all squares and channels, 16 matrix
products. The result is that of a plain convolution but for rounding, if numbers
are finite: A and B hold 0, 1 and -1, and G 1/2 besides. The gradient to the map
is again such a convolution. That to the kernel is a sum over the map, which
XLA:CPU takes at once, and slowly if it is long: here it goes part by part.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from encoder4editing_jax import phases

G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
CHANNELS = 128  # with fewer, B and A cost more than the products save
SAMPLES = 256  # of a part; with fewer, G does
PART = 8192  # samples at once: what they become stays in the cache, mostly
PRODUCTS = 1e9  # of a kernel's gradient and an example; with fewer, no parts
PARTS = 64  # of such a gradient at most: each is compiled for itself


def conv(
  x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"]
) -> Float[Array, "b h w o"]:
  """3x3 convolution with one zero on all four sides.

  By `minimal` where it pays: in float32 on CPU, even sides, enough channels and
  samples, and a batch that is known (that of exported programs is not). So are
  its derivatives; that to the kernel is plain, part by part where it is long.
  """
  if not _fits(x, kernel):
    return _plain(x, kernel)
  precision = jax.config.jax_default_matmul_precision
  both = _on_same_devices(x, kernel)
  return conv3x3.bind(*both, back=False, precision=precision)


def _on_same_devices(*arrays: Array) -> list[Array]:
  """Marks what shards share as varying, where another array of theirs does: the
  transpose of which is the sum of their gradients."""
  own = [_varying(x) for x in arrays]
  axes = frozenset().union(*own)
  return [
    _vary(x, tuple(axes - has)) if axes - has else x
    for x, has in zip(arrays, own, strict=True)
  ]


def _vary(x: Array, axes: tuple[str, ...]) -> Array:
  if hasattr(jax.lax, "pcast"):
    return jax.lax.pcast(x, axes, to="varying")
  return jax.lax.pvary(x, axes)  # before JAX 0.9


def _varying(x: Array) -> frozenset[str]:
  """Axes of a `shard_map` along which an array differs, where JAX checks."""
  kind = jax.typeof(x)
  if hasattr(kind, "manual_axis_type"):
    return kind.manual_axis_type.varying
  return getattr(kind, "vma", frozenset())  # its name in other versions


def _fits(x: Array, kernel: Array) -> bool:
  """Whether there is something to choose."""
  if kernel.shape[:3] != (3, 3, x.shape[3]):
    return False  # the plain one says what is wrong
  known = all(isinstance(n, int) for n in x.shape)
  both = x.dtype == kernel.dtype == jnp.float32
  return known and x.size > 0 and both and not phases.sharded(x, kernel)


def _pays(x: Array, kernel: Array) -> bool:
  """Whether `minimal` does."""
  if min(kernel.shape[2:]) < CHANNELS or x.shape[1] % 2 or x.shape[2] % 2:
    return False
  maps, rows = _parts(x)
  return SAMPLES <= maps * rows * x.shape[2] <= PART


def _parts(x: Array) -> tuple[int, int]:
  """Several small maps at once, or some rows of a large one."""
  b, h, w, _ = x.shape
  return _divisor(b, PART // (h * w)), 2 * _divisor(h // 2, PART // (2 * w))


def _plain(x: Array, kernel: Array, back: bool = False) -> Array:
  """As JAX has it; `back` is the gradient to the map, of the result's."""
  if not back:
    return phases.conv(x, kernel, 1)
  maps = jax.typeof(x).update(shape=(*x.shape[:3], kernel.shape[2]))
  convolve = functools.partial(phases.conv, kernel=kernel, pad=1)
  return jax.linear_transpose(convolve, maps)(x)[0]


def _on_cpu(x: Array, kernel: Array, back: bool = False) -> Array:
  if not _pays(x, kernel):
    return _plain(x, kernel, back)
  return minimal(x, _turned(kernel) if back else kernel)


def _turned(kernel: Array) -> Array:
  """A convolution with it is the gradient to the map."""
  return kernel[::-1, ::-1].swapaxes(2, 3)


def minimal(
  x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"]
) -> Float[Array, "b h w o"]:
  """The same by F(2x2, 3x3), h and w even, part by part."""
  (b, h, w, i), o = x.shape, kernel.shape[-1]
  maps, rows = _parts(x)
  squares = maps * rows * w // 4
  both = jnp.asarray(np.kron(G, G), x.dtype)  # axes of the kernel
  # XLA would take seconds over transforming weights that a program holds.
  kernel = jax.lax.optimization_barrier(kernel)
  kernel = jnp.matmul(both, kernel.reshape(9, i * o), precision="highest")
  kernel = kernel.reshape(16, i, o)
  x = jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])

  def part(start: Array) -> Array:
    begin = (start[0], start[1], 0, 0)
    d = jax.lax.dynamic_slice(x, begin, (maps, rows + 2, w + 2, i))
    d = jnp.stack(_inputs(d, 1))
    d = jnp.stack(_inputs(d, 3), 1)
    products = jnp.matmul(d.reshape(16, squares, i), kernel)
    products = products.reshape(4, 4, maps, rows // 2, w // 2, o)
    lines = [jnp.stack(_outputs(*m), 3) for m in _outputs(*products)]
    return jnp.stack(lines, 2).reshape(maps, rows, w, o)

  starts = np.mgrid[0:b:maps, 0:h:rows].reshape(2, -1).T
  return jax.lax.map(part, jnp.asarray(starts)).reshape(b, h, w, o)


def _divisor(n: int, most: int) -> int:
  """The largest divisor of n up to `most`, or 1."""
  return max(k for k in range(1, n + 1) if n % k == 0 and k <= max(most, 1))


def _inputs(x: Array, axis: int) -> tuple[Array, ...]:
  """B^T d along an axis: four numbers for each pair of outputs."""
  stop = x.shape[axis] - 3

  def every_other(k: int) -> Array:
    return jax.lax.slice_in_dim(x, k, stop + k, 2, axis)

  d0, d1, d2, d3 = map(every_other, range(4))
  return d0 - d2, d1 + d2, d2 - d1, d1 - d3


def _outputs(m0: Array, m1: Array, m2: Array, m3: Array) -> tuple[Array, Array]:
  """A^T m: a pair of outputs."""
  return m0 + m1 + m2, m1 - m2 - m3


conv3x3 = Primitive("conv3x3")
"""`conv` as one operation, whose form is chosen when a program is lowered.

`back` is its gradient to the map; `precision` the one that was asked for, as in
`jax.default_matmul_precision`."""


@conv3x3.def_abstract_eval
def _shape(x: Any, kernel: Any, *, back: bool, precision: Any) -> ShapedArray:
  del precision
  channels = kernel.shape[2 if back else 3]
  weak = x.weak_type and kernel.weak_type
  return x.update(shape=(*x.shape[:3], channels), weak_type=weak)


def _computed(
  x: Array, kernel: Array, *, back: bool, precision: Any, form: Any
) -> Array:
  with jax.default_matmul_precision(precision):
    return form(x, kernel, back)


@conv3x3.def_impl
@functools.partial(jax.jit, static_argnames=("back", "precision"))
def _at_once(x: Array, kernel: Array, **how: Any) -> Array:
  # Not the primitive: where nothing is compiled this would call itself.
  cpu, default = (
    functools.partial(_computed, form=form, **how) for form in (_on_cpu, _plain)
  )
  return jax.lax.platform_dependent(x, kernel, cpu=cpu, default=default)


def _to_map(
  g: Array, _: Any, kernel: Array, *, back: bool, precision: Any
) -> Array:
  return conv3x3.bind(g, kernel, back=not back, precision=precision)


def _to_kernel(
  g: Array, x: Array, kernel: Any, *, back: bool, precision: Any
) -> Array:
  """Plain; where it is long, by some rows of one example at a time."""
  if back:
    g, x = x, g
  (b, h, w, _), shape = x.shape, kernel.aval.shape
  rows = _divisor(h, PART // w)
  short = h * w * math.prod(shape) < PRODUCTS

  def part(g: Array, x: Array, pad: int = 0) -> Array:
    convolve = functools.partial(phases.conv, x, pad=pad)
    return jax.linear_transpose(convolve, kernel.aval)(g)[0]

  def in_parts(g: Array, x: Array) -> Array:
    x = jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    first, *rest = (
      part(g[i, None, k : k + rows], x[i, None, k : k + rows + 2])
      for i in range(b)
      for k in range(0, h, rows)
    )
    return sum(rest, first)

  at_once = functools.partial(part, pad=1)
  with jax.default_matmul_precision(precision):
    if short or not 1 < b * h // rows <= PARTS:
      return at_once(g, x)
    return jax.lax.platform_dependent(g, x, cpu=in_parts, default=at_once)


def _batched(
  arguments: Any, axes: Any, *, back: bool, precision: Any
) -> tuple[Array, int]:
  x, kernel = arguments
  how = {"back": back, "precision": precision}
  plain: Any = functools.partial(_computed, form=_plain, **how)
  if axes[1] is not None:
    return jax.vmap(plain, axes)(x, kernel), 0
  x = jnp.moveaxis(x, axes[0], 0)
  whole = x.reshape(-1, *x.shape[2:])
  y = conv3x3.bind(whole, kernel, **how) if x.size else plain(whole, kernel)
  return y.reshape(*x.shape[:2], *y.shape[1:]), 0


ad.defbilinear(conv3x3, _to_map, _to_kernel)
batching.primitive_batchers[conv3x3] = _batched
for _platform, _form in ((None, _plain), ("cpu", _on_cpu)):
  _lowering = mlir.lower_fun(
    functools.partial(_computed, form=_form), multiple_results=False
  )
  mlir.register_lowering(conv3x3, _lowering, _platform)


def written_out(equation: Any, platform: str = "") -> Any:
  """The jaxpr of what an equation with `conv3x3` does on a platform."""
  form = _on_cpu if platform == "cpu" else _plain
  arrays = (
    jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in equation.invars
  )
  compute = functools.partial(_computed, form=form, **equation.params)
  return jax.make_jaxpr(compute)(*arrays).jaxpr
