"""Targets and what a model makes of them, for `e4e evaluate`."""

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Work:
  """Files in their order, the size of all, and what went wrong.

  With a model also what there is to say of it, and LEC's edit.
  """

  rows: list[tuple[str, str, str]]  # name, result, target
  size: tuple[int, int]
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

  directions = open_directions(asked)
  first = "smile=1.5" if asked.demo else f"{next(iter(directions))}=3"
  edit = parse_edit(asked.edit or first, generator.n_styles)
  editing.apply(
    generator.to_w_plus([generator.w_avg[...][None]]), [edit], directions
  )
  return edit


def open_picture(
  path: str, size: tuple[int, int], failed: dict[str, str]
) -> Any:
  """The picture `[h w 3]`; or None, and `failed` says why."""
  from encoder4editing_jax.data import images

  try:
    return images.decode(Path(path).read_bytes(), size)
  except (OSError, ValueError) as error:
    failed[path] = " ".join(str(error).split())
    return None


def inverted(asked: Any, net: Any, work: Work) -> Iterator[Any]:
  """Batches of targets and what a model makes of them."""
  import numpy as np
  from PIL import Image

  from encoder4editing_jax import evaluating, faceworld
  from encoder4editing_jax.data import images
  from encoder4editing_jax.training.pictures import to_bytes

  generator = net.generator
  size = net.encoder.input_size
  pair = (size, size) if isinstance(size, int) else tuple(size)
  encode, lec = _encoder(asked, net), None
  if "lec" in asked.metrics.split(","):
    lec = _lec(asked, work.edit, generator, encode)
  faces = np.asarray(faceworld.sample(seed=7, n=8)[0]) if asked.demo else None
  warm = False
  for start, rows in enumerate(evaluating.chunks(work.rows, asked.batch)):
    if faces is not None:
      names = tuple(row[0] for row in rows)
      part = faces[start * asked.batch :][: len(rows)]
      shown = targets = to_bytes(part)
    else:
      opened = [(n, p, open_picture(p, pair, work.failed)) for n, p, _ in rows]
      kept = [row for row in opened if row[2] is not None]
      if not kept:
        continue
      names = tuple(row[0] for row in kept)
      shown = np.stack([row[2] for row in kept])
      again = [open_picture(p, work.size, work.failed) for _, p, _ in kept]
      targets = np.stack(again) if work.size != pair else shown
    x = evaluating.to_floats(shown)

    def make(x: Any = x) -> Any:
      w_plus = encode(x)
      return evaluating.reconstructed(x, w_plus, generator, asked.batch)

    if not warm:
      make()
      warm = True
    began = time.perf_counter()
    painted = make()
    padded = -(-len(names) // asked.batch) * asked.batch
    seconds = (time.perf_counter() - began) / padded
    bytes_ = to_bytes(painted, truncate=asked.truncate)
    results = [images.fit(Image.fromarray(p), work.size) for p in bytes_]
    extra = {"seconds": np.full(len(names), seconds)}
    if lec is not None:
      extra["lec"] = lec(x)
    yield evaluating.Batch(names, np.stack(results), targets, extra)


def _encoder(asked: Any, net: Any) -> Callable[[Any], Any]:
  """Pictures in [-1, 1] to codes, compiled once."""
  from flax import nnx

  from encoder4editing_jax.inference import in_batches

  steps = asked.iterations
  run = nnx.jit(lambda net, x: net.invert(x, steps).w_plus)
  return lambda x: in_batches(functools.partial(run, net), asked.batch, x)


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

  directions = open_directions(asked)
  name, strength, *layers = edit

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
