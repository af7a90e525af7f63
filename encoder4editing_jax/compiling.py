"""Functions of networks, compiled once for each architecture and shape.

`jax.jit` finds what it has compiled by the function and by its static
arguments. So the function stands in a module, the graph of the network (which
our layers keep free of whatever cannot be hashed) is static, and its numbers
are arguments: another network of the same architecture compiles nothing.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
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
