"""Functions of networks, compiled once for each architecture and shape.

`jax.jit` finds what it has compiled by the function and by its static
arguments. So the function stands in a module, the graph of the network (which
our layers keep free of whatever cannot be hashed) is static, and its numbers
are arguments: another network of the same architecture compiles nothing. And
batches all have one size, the last is filled up.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _run(
  function: Callable[..., Any],
  graph: Any,
  options: tuple[tuple[str, Any], ...],
  state: Any,
  *arrays: Any,
) -> Any:
  return function(*nnx.merge(graph, state), *arrays, **dict(options))


def compiled(
  function: Callable[..., Any], *nets: nnx.Module | None, **options: Any
) -> Callable[..., Any]:
  """`function(*nets, *arrays, **options)` of arrays.

  Args:
    function: pure; one of a module, since one made anew is compiled anew.
    nets: their numbers are read at each call.
    options: what can be hashed; each value is compiled for itself.
  """
  graph, state = nnx.split(nets)
  return functools.partial(
    _run, function, graph, tuple(sorted(options.items())), state
  )


def call(net: Callable[..., Any], *arrays: Any) -> Any:
  """`net(*arrays)`, for `compiled(call, net)`."""
  return net(*arrays)


def each_batch(
  function: Callable[..., Any], batch: int, *arrays: Any
) -> Iterator[Any]:
  """`function` of equal batches; the last is filled with its last example.

  Yields:
    What it returns, as NumPy arrays, without what was filled in.

  Raises:
    ValueError: there is nothing, or a batch has less than one.
  """
  n = len(arrays[0])
  if not n or batch < 1:
    raise ValueError(f"{n} pictures in batches of {batch}; pass 1 or more.")
  for start in range(0, n, batch):
    index = np.minimum(np.arange(start, start + batch), n - 1)
    part = function(*(jnp.asarray(np.asarray(a)[index]) for a in arrays))
    yield jax.tree.map(lambda x, k=n - start: np.asarray(x)[:k], part)


def in_batches(function: Callable[..., Any], batch: int, *arrays: Any) -> Any:
  """What `each_batch` yields, joined."""
  parts = list(each_batch(function, batch, *arrays))
  return jax.tree.map(lambda *x: np.concatenate(x), *parts)
