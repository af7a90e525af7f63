"""What of a network is served, as functions of arrays alone.

`exporting` writes them to files. The weights are an argument, by the names
that they have in this library's own files, and so are the directions: as
constants they would be stored, and held in memory, once by each program.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax import weights
from encoder4editing_jax.models.inverter import Inversion, Inverter
from encoder4editing_jax.models.stylegan2 import Generator

PARTS = ("encoder", "generator", "edit")
NAMES = ("encoder", "refine", "generator", "edit", "edit_codes")
DIRECTIONS = "directions"  # `[k n d]` among the weights


class Port(NamedTuple):
  """What goes into a program or comes out: `[b *shape]` float32."""

  name: str
  shape: tuple[int, ...]
  about: str


class Program(NamedTuple):
  """`run(net, directions, *inputs)`, and the weights that it looks at."""

  run: Callable[..., Any]
  inputs: tuple[Port, ...]
  outputs: tuple[Port, ...]
  prefixes: tuple[str, ...]


def generator_of(net: Inverter | Generator) -> Generator:
  """The generator of an inverter, or that which stands alone."""
  return net.generator if isinstance(net, Inverter) else net


def _moved(
  w_plus: Float[Array, "b n d"],
  directions: Float[Array, "k n d"],
  strengths: Float[Array, "b k"],
) -> Float[Array, "b n d"]:
  step = jnp.einsum("bk,knd->bnd", strengths, directions, precision="highest")
  return w_plus + step


def _painting(net: Any, k: int) -> dict[str, Program]:
  """Programs of a generator, on its own or in an inverter."""
  generator = generator_of(net)
  shape = (generator.n_styles, generator.style_dim)
  codes = Port("w_plus", shape, "codes of W+")
  strengths = Port("strengths", (k,), "steps along the directions, in order")
  images = Port(
    "images", (*generator.image_shape, 3), "RGB around [-1, 1], not clipped"
  )
  prefix = "synthesis" if net is generator else "generator.synthesis"

  def paint(net: Any, w_plus: Array) -> Array:
    return generator_of(net).synthesis(w_plus)

  return {
    "generator": Program(
      lambda net, _, w: paint(net, w), (codes,), (images,), (prefix,)
    ),
    "edit_codes": Program(
      lambda net, axes, w, s: paint(net, _moved(w, axes, s)),
      (codes, strengths),
      (images,),
      (prefix,),
    ),
  }


def _encoding(net: Inverter, iterations: int, k: int) -> dict[str, Program]:
  """Programs that begin with a picture."""
  encoder: Any = net.encoder
  size, channels = encoder.input_size, encoder.input_channels
  pair = (size, size) if isinstance(size, int) else tuple(size)
  channels -= 3 if net.restyle else 0
  about = "RGB in [-1, 1]" if channels == 3 else "as the encoder was trained"
  images = Port("images", (*pair, channels), about)
  painting = _painting(net, k)
  (codes, strengths), (painted,) = painting["edit_codes"][1:3]
  own = ("encoder", "w_avg")
  every = (*own, "generator.synthesis")

  def encode(net: Inverter, images: Array) -> Array:
    if iterations == 1:  # without the picture, which nobody asks for
      return net.encode(images)
    return net.invert(images, iterations).w_plus

  found = {
    "encoder": Program(
      lambda net, _, x: encode(net, x),
      (images,),
      (codes,),
      every if net.restyle else own,
    ),
    "edit": Program(
      lambda net, axes, x, s: net.decode(_moved(encode(net, x), axes, s)),
      (images, strengths),
      (painted,),
      every,
    ),
  }
  if net.restyle:
    current = painted._replace(name="current")
    found["refine"] = Program(
      lambda net, _, x, y, w: tuple(net.refine(x, Inversion(y, w))),
      (images, current, codes),
      (painted, codes),
      every,
    )
  return found


def programs(
  net: Inverter | Generator,
  parts: Sequence[str] = PARTS,
  directions: int = 0,
  iterations: int = 1,
) -> dict[str, Program]:
  """The programs by which parts of a network are served.

  Args:
    net: an inverter, or a generator alone.
    parts: "encoder" (of ReStyle also "refine", one step), "generator", and
      "edit" (also "edit_codes").
    directions: how many there are to edit along.
    iterations: ReStyle steps; other encoders take one.

  Raises:
    ValueError: parts that there are not, or that lack something.
  """
  if unknown := sorted(set(parts) - set(PARTS)):
    raise ValueError(f"part {unknown[0]!r} is unknown; use {', '.join(PARTS)}.")
  if not parts:
    raise ValueError(f"no parts are named; use {', '.join(PARTS)}.")
  inverts = isinstance(net, Inverter)
  if not inverts and "encoder" in parts:
    raise ValueError("a Generator has no encoder; pass an Inverter.")
  if "edit" in parts and not directions:
    raise ValueError("edits need directions; pass some, or leave edit out.")
  if iterations < 1 or (iterations > 1 and not getattr(net, "restyle", False)):
    raise ValueError(
      f"iterations is {iterations}; pass 1, or more with a ReStyle encoder."
    )
  found = _painting(net, directions)
  if isinstance(net, Inverter):
    found |= _encoding(net, iterations, directions)
  belongs = {"refine": "encoder", "edit_codes": "edit"}
  return {
    name: found[name]
    for name in NAMES
    if name in found and belongs.get(name, name) in parts
  }


def needed(
  net: Inverter | Generator, chosen: Mapping[str, Program]
) -> dict[str, Array]:
  """The leaves of a network that programs look at, by name."""
  prefixes = {p for program in chosen.values() for p in program.prefixes}
  return {
    name: leaf[...]
    for name, leaf in weights.leaves(net).items()
    if any(f"{name}.".startswith(f"{p}.") for p in prefixes)
  }


def function(
  net: Inverter | Generator, program: Program
) -> Callable[..., Array | tuple[Array, ...]]:
  """A program as a function of weights by name, and its inputs."""
  graph, state = nnx.split(net)
  flat = nnx.to_flat_state(state)

  def run(arrays: Mapping[str, Array], *inputs: Array) -> Any:
    filled = {}
    for path, leaf in flat:
      name = ".".join(map(str, path))
      # NaN, lest a leaf is used that is not there, and nobody sees it
      value = arrays[name] if name in arrays else jnp.full(leaf.shape, jnp.nan)
      filled[path] = leaf.replace(value)
    whole = nnx.merge(graph, nnx.from_flat_state(filled))
    return program.run(whole, arrays.get(DIRECTIONS), *inputs)

  return run
