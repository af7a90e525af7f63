"""Targets and what a model makes of them, for `e4e evaluate`."""

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Size = tuple[int, int]


@dataclass
class Work:
  """Files in their order, the size of all, and what went wrong.

  With a model also what there is to say of it, and LEC's edit.
  """

  rows: list[tuple[str, str, str]]  # name, result, target
  size: Size
  failed: dict[str, str] = field(default_factory=dict)
  model: dict[str, Any] = field(default_factory=dict)
  edit: tuple[Any, ...] = ()  # name, strength, and perhaps layers


def model_facts(asked: Any, net: Any) -> dict[str, Any]:
  """What says exactly which model is evaluated, and how it is run."""
  from encoder4editing_jax.inference import fingerprint

  return {
    "file": asked.model or "the shipped inverter of drawn faces",
    "encoder": fingerprint(net.encoder),
    "generator": fingerprint(net.generator),
    "iterations": asked.iterations,
  }


def lec_edit(asked: Any, generator: Any) -> tuple[Any, ...]:
  """The edit of LEC; a wrong one is told before any work.

  Raises:
    ConfigError, OSError, ValueError: it is written wrongly, or there is none
      of that name.
  """
  from encoder4editing_jax import editing
  from encoder4editing_jax.cli.edit import open_directions, parse_edit

  directions = open_directions(asked, generator)
  first = "smile=1.5" if asked.demo else f"{next(iter(directions))}=3"
  edit = parse_edit(asked.edit or first, generator.n_styles)
  editing.apply(
    generator.to_w_plus([generator.w_avg[...][None]]), [edit], directions
  )
  return edit


def opened(
  work: Work, sizes: tuple[Size, Size], batch: int
) -> Iterator[list[Any]]:
  """Batches of (name, result, target) that can be read, the next one meanwhile.

  A file that is both is opened once for each size.
  """
  from encoder4editing_jax.data import pictures

  def read(row: tuple[str, str, str]) -> tuple[str, list[Any]]:
    wanted = list(zip(row[1:], sizes, strict=True))
    found = {one: pictures.read(*one) for one in wanted}
    return row[0], [found[one] for one in wanted]

  def good() -> Iterator[tuple[str, Any, Any]]:
    for name, (result, target) in pictures.ahead(read, work.rows, 2 * batch):
      both = result, target
      bad = {one.path: one.reason for one in both if one.pixels is None}
      work.failed.update(bad)
      if not bad:
        yield name, result.pixels, target.pixels

  return pictures.chunks(good(), batch)


def inverted(asked: Any, net: Any, work: Work) -> Iterator[Any]:
  """Batches of targets and what a model makes of them."""
  import numpy as np
  from PIL import Image

  from encoder4editing_jax import evaluating, inference
  from encoder4editing_jax.compiling import in_batches
  from encoder4editing_jax.data import images, pictures
  from encoder4editing_jax.data.tasks import to_float
  from encoder4editing_jax.training.pictures import to_bytes

  generator = net.generator
  once = inference.make_encode(net, asked.iterations)
  encode, lec = functools.partial(in_batches, once, asked.batch), None
  if "lec" in asked.metrics.split(","):
    lec = _lec(asked, work.edit, generator, encode)

  def make(x: Any) -> Any:
    return evaluating.reconstructed(x, encode(x), generator, asked.batch)

  warm = False
  drawn = pictures.chunks(_drawn(work), asked.batch)
  sizes = net.encoder.input_shape, work.size
  for part in drawn if asked.demo else opened(work, sizes, asked.batch):
    names, shown, targets = zip(*part, strict=True)
    x = to_float(np.stack(shown))
    if not warm:
      make(x)
      warm = True
    began = time.perf_counter()
    painted = make(x)
    padded = -(-len(names) // asked.batch) * asked.batch
    seconds = (time.perf_counter() - began) / padded
    bytes_ = to_bytes(painted, truncate=asked.truncate)
    results = [images.fit(Image.fromarray(p), work.size) for p in bytes_]
    extra = {"seconds": np.full(len(names), seconds)}
    if lec is not None:
      extra["lec"] = lec(x)
    yield evaluating.Batch(names, np.stack(results), np.stack(targets), extra)


def _drawn(work: Work) -> Iterator[tuple[str, Any, Any]]:
  """Drawn faces, each its own target."""
  import numpy as np

  from encoder4editing_jax import faceworld
  from encoder4editing_jax.training.pictures import to_bytes

  faces = to_bytes(np.asarray(faceworld.sample(seed=7, n=len(work.rows))[0]))
  for (name, _, _), face in zip(work.rows, faces, strict=True):
    yield name, face, face


def _lec(
  asked: Any, edit: tuple[Any, ...], generator: Any, encode: Any
) -> Callable[[Any], Any]:
  """Distances of LEC, one for each picture."""
  import jax.numpy as jnp
  import numpy as np

  from encoder4editing_jax import editing, evaluating
  from encoder4editing_jax.cli.edit import open_directions
  from encoder4editing_jax.metrics.editability import lec_distances
  from encoder4editing_jax.models.inverter import crop_and_pool

  directions = open_directions(asked, generator)
  name, strength, *layers = edit
  name = f"{name.removesuffix('+')}+"  # only steps can be taken back

  def moved(w_plus: Any, sign: float) -> Any:
    edits = [(name, strength * sign, *layers)]
    return editing.apply(jnp.asarray(w_plus), edits, directions)

  def distances(x: Any) -> Any:
    def decode(w_plus: Any) -> Any:
      w_plus = np.asarray(w_plus)
      painted = evaluating.reconstructed(x, w_plus, generator, asked.batch)
      return crop_and_pool(jnp.asarray(painted), x.shape[1:3])

    return np.asarray(
      lec_distances(
        lambda x: jnp.asarray(encode(x)), moved, decode, jnp.asarray(x)
      )
    )

  return distances
