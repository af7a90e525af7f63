"""What a leaf is in the originals, as far as an optimizer can tell.

PyTorch's optimizers treat each tensor by itself. A tensor has its own count
of steps, which starts when it first gets a gradient: a style head that wakes
late in progressive training warms up then. And Ranger's means run over all
axes of a tensor but its first, whatever that axis is.

Our leaves hold the same numbers in other shapes. `TABLE` says, by the path of
a leaf, what the shapes no longer do. tests/test_optim.py compares it with the
tables of the converters, leaf by leaf.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array


@dataclasses.dataclass(frozen=True)
class Tensor:
  """One leaf."""

  stacked: bool = False
  """Whether each entry of the first axis is a tensor of its own."""

  centred: Literal["no", "inputs", "whole"] = "no"
  """Over what one mean of Ranger's runs: over all axes but the last, which
  holds the outputs of a layer, over the whole tensor, or over nothing."""

  def mean_axes(self, ndim: int) -> tuple[int, ...]:
    """The axes of that mean in a leaf of `ndim` axes; empty for none."""
    first = int(self.stacked)
    end = {"no": first, "inputs": ndim - 1, "whole": ndim}[self.centred]
    return tuple(range(first, end))


Describe = Callable[[str], Tensor]
"""From the path of a leaf ("body/blocks/0/conv1/kernel") to what it is."""

# The first pattern that fits the end of a path counts.
TABLE = (
  (r"heads\w*/(.+/)?\w*kernel", Tensor(stacked=True, centred="inputs")),
  (r"heads\w*/(.+/)?\w*bias", Tensor(stacked=True)),
  # These have a leading axis of length 1 in the originals, which so take one
  # mean over everything, outputs included.
  (r"synthesis/(.+/)?(conv\d?|to_rgb)/kernel", Tensor(centred="whole")),
  (r"synthesis/(.+/)?to_rgb/bias", Tensor(centred="whole")),
  (r"synthesis/constant", Tensor(centred="whole")),
  (r"kernel", Tensor(centred="inputs")),
  (r".+", Tensor()),
)


def describe(path: str) -> Tensor:
  """What the leaf of that path is, by `TABLE`."""
  return next(
    tensor
    for pattern, tensor in TABLE
    if re.fullmatch(rf"(.+/)?{pattern}", path)
  )


def map_tensors(
  function: Callable[..., Any], describe: Describe, tree: Any
) -> Any:
  """`function(tensor, leaf)` of every leaf."""

  def call(path: Any, leaf: Array) -> Any:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return function(describe(name), leaf)

  return jax.tree_util.tree_map_with_path(call, tree)


def no_steps(describe: Describe, parameters: Any) -> Any:
  """Counts of steps before the first: int32, `()`, or `[n]` of n stacked."""

  def zeros(tensor: Tensor, x: Array) -> Array:
    return jnp.zeros(x.shape[: int(tensor.stacked)], jnp.int32)

  return map_tensors(zeros, describe, parameters)


def count_steps(counts: Any, gradients: Any) -> Any:
  """Counts after one more step.

  A tensor has had no gradient for as long as all of its entries were exactly
  0, which is what a sleeping head gets here, and no gradient at all in the
  originals. From then on every step counts, as a gradient of zeros does there.
  (A tensor in use whose first gradients vanish, behind dead units say, counts
  there and not here: it warms up later.)
  """

  def count(n: Array, gradient: Array) -> Array:
    # Not `(gradient != 0).any(...)`: XLA:CPU would write all the answers.
    largest = jnp.abs(gradient).max(
      tuple(range(n.ndim, gradient.ndim)), initial=0
    )
    came = ~(largest == 0)  # NaN comes, too
    return n + ((n > 0) | came)

  return jax.tree.map(count, counts, gradients)


def beside(values: Array, leaf: Array) -> Array:
  """Numbers of tensors, `()` or `[n]`, shaped to meet the entries of a leaf."""
  return values.reshape(values.shape + (1,) * (leaf.ndim - values.ndim))
