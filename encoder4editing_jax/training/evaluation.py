"""What a trained encoder is worth on images that it has not seen.

PSNR (`metrics.pixels`) is averaged over images; beside it stands that of
always answering with the mean training image. Terms of the loss that compare
pictures are averaged too. Noise is the stored one, the last batch is filled up
and cut again, and no pool is touched: the same state gets the same numbers. In
faceworld an edit is judged by the measured attribute before and after.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax import editing, losses
from encoder4editing_jax.config import FACEWORLD, Config
from encoder4editing_jax.data.tasks import task_of, to_float, to_source
from encoder4editing_jax.metrics.pixels import psnr
from encoder4editing_jax.models.inverter import crop_and_pool
from encoder4editing_jax.training.hosts import in_turn
from encoder4editing_jax.training.objective import make_comparison
from encoder4editing_jax.training.passes import Reached, look, unrefined
from encoder4editing_jax.training.pictures import show_source
from encoder4editing_jax.training.state import (
  Frozen,
  Networks,
  TrainState,
  with_generator,
)
from encoder4editing_jax.training.step import stage_at

Batches = Iterable[dict[str, np.ndarray]]
SHOWN = 8  # rows of the picture grid


class Shown(NamedTuple):
  """Rows of a picture grid: columns `[b h w 3]` by label, lines above rows."""

  columns: dict[str, np.ndarray]
  captions: list[str]


def caption(numbers: dict[str, float]) -> str:
  """What a reconstruction is worth: PSNR, and similarities (cosines)."""
  parts = [f"PSNR {numbers['psnr']:.1f} dB"]
  if "lpips" in numbers:
    parts.append(f"LPIPS {numbers['lpips']:.3f}")
  for name in ("identity", "moco"):
    if name in numbers:  # the loss is 1 - cosine
      parts.append(f"similarity {1 - numbers[name]:.2f}")
  return ", ".join(parts)


def mean_image(batches: Batches) -> Float[np.ndarray, "1 h w c"]:
  """Mean of uint8 images, in [-1, 1]."""
  total, n = np.zeros(()), 0
  for batch in batches:
    total = total + batch["image"].sum(0, dtype=np.float64, keepdims=True)
    n += len(batch["image"])
  return (total / n / 127.5 - 1).astype(np.float32)


class Evaluator:
  """Reconstructs, and in faceworld edits, held-out images.

  Args:
    config: of the run.
    networks: their graphs only.
  """

  def __init__(self, config: Config, networks: Networks):
    self.config = config
    self.task = task_of(config.data)
    self.n_styles = networks.generator.n_styles
    self._invert = jax.jit(_make_invert(config, networks))
    self._decode = jax.jit(_make_decode(config, networks))
    self._compare = jax.jit(_make_compare(config, networks))
    self.direction = None
    if config.model.generator == FACEWORLD:
      from encoder4editing_jax import faceworld

      self._measure = jax.jit(faceworld.measure)
      self._attribute = faceworld.ATTRIBUTES.index(config.run.edit)
      self.direction = faceworld.load_directions()[config.run.edit]

  def __call__(
    self,
    state: TrainState,
    frozen: Frozen,
    batches: Batches,
    mean: Float[np.ndarray, "1 h w c"],
  ) -> tuple[dict[str, float], Shown]:
    """Runs over all batches, or on several hosts over this one's.

    Returns:
      Means over all images by name (with the terms of the loss that compare
      pictures, and `score`, their weighted sum), and the rows of a picture
      grid, of the first batch of this host.
    """
    size = self.config.run.batch_size
    frozen = with_generator(frozen, state.generator)
    numbers: list[dict[str, list[float]]] = []
    columns: dict[str, np.ndarray] = {}
    for batch in batches:
      n = len(batch["image"])
      padded = {
        name: jnp.asarray(np.resize(x, (size, *x.shape[1:])))
        for name, x in batch.items()
      }
      seen, pictures = self._batch(state, frozen, padded, mean)
      seen = {name: np.asarray(v)[:n].tolist() for name, v in seen.items()}
      numbers.append(seen)
      columns = columns or {k: np.asarray(v)[:n] for k, v in pictures.items()}
    first = numbers[:1]
    numbers = in_turn(numbers)  # in one order, whatever the number of hosts
    results = {
      name: float(np.float32([x for p in numbers for x in p[name]]).mean())
      for name in numbers[0]
    }
    results["psnr_gain"] = results["psnr"] - results["psnr_mean_image"]
    results["images"] = sum(len(part["psnr"]) for part in numbers)
    columns = {name: images[:SHOWN] for name, images in columns.items()}
    rows = [
      dict(zip(part, values, strict=True))
      for part in first
      for values in zip(*part.values(), strict=True)
    ]
    return results, Shown(columns, [caption(row) for row in rows[:SHOWN]])

  def _batch(
    self,
    state: TrainState,
    frozen: Frozen,
    batch: dict[str, Array],
    mean: np.ndarray,
  ) -> tuple[dict[str, Array], dict[str, Array]]:
    last = jnp.maximum(state.step - 1, 0)  # the last step that was taken
    stage = stage_at(last, self.config, self.n_styles)
    images, shown = to_float(batch["image"]), to_source(batch, self.task)
    w_plus, output = self._invert(state, frozen, shown, stage)
    numbers = self._compare(frozen, output, images, shown)
    numbers |= {
      "psnr": psnr(output, images),
      "psnr_mean_image": psnr(jnp.tile(mean, (len(images), 1, 1, 1)), images),
    }
    pictures = {"input": images, "reconstruction": output}
    target = "input"
    if "source" in batch:
      target = "target"
      source = show_source(np.asarray(batch["source"]), self.task)
      pictures = {"source": jnp.asarray(source), "target": images}
      pictures["reconstruction"] = output
    if self.direction is not None:
      name, strength = self.config.run.edit, self.config.run.edit_strength
      for sign, factor in (("+", strength), ("-", -strength)):
        moved = editing.move(w_plus, self.direction, factor)
        pictures[f"{name} {sign}"] = self._decode(frozen, moved)
      for label, suffix in (
        (target, "input"),
        ("reconstruction", "reconstruction"),
        (f"{name} +", "plus"),
        (f"{name} -", "minus"),
      ):
        measured = self._measure(pictures[label])[:, self._attribute]
        numbers[f"{name}_{suffix}"] = measured
    return numbers, pictures


def _make_invert(config: Config, networks: Networks) -> Callable:
  graph = nnx.graphdef(networks.encoder)
  decode = _make_decode(config, networks)

  def invert(
    state: TrainState, frozen: Frozen, images: Array, stage: Array | None
  ) -> tuple[Array, Array]:
    encoder = nnx.merge(graph, *state.best_encoder())
    staged = {} if stage is None else {"stage": stage}
    reached = unrefined(frozen, len(images))
    for _ in range(max(config.model.refinements, 1)):
      w_plus = encoder(look(images, reached), **staged) + reached.w_plus
      output = decode(frozen, w_plus)
      reached = Reached(w_plus, output)
    return w_plus, output

  return invert


def _make_compare(config: Config, networks: Networks) -> Callable:
  """Each image's terms of the loss, and `score`, their weighted sum."""
  compare = make_comparison(config, networks)

  def one(
    frozen: Frozen, output: Array, target: Array, source: Array
  ) -> dict[str, Array]:
    pair = output[None], target[None]
    terms, seen = compare(frozen, *pair, source[None])
    if terms:
      score = losses.weighted_sum(terms, config.loss)
    else:
      score = losses.l2(*pair)
    return terms | seen | {"score": score}

  return jax.vmap(one, in_axes=(None, 0, 0, 0))


def _make_decode(config: Config, networks: Networks) -> Callable:
  graph = nnx.graphdef(networks.generator)

  def decode(frozen: Frozen, w_plus: Array) -> Array:
    generator = nnx.merge(graph, frozen.generator)
    images = generator.synthesis(w_plus, noise="stored")
    return crop_and_pool(images, config.data.size)

  return decode
