"""Fits the small generator of faceworld to its renderer.

    python -m encoder4editing_jax.faceworld.fit --out generator.safetensors

No adversary is needed: the picture that belongs to every z is known, so this
is regression (mean square error, fresh z at every step). The skip architecture
is fitted at 16, 32 and then 64 pixels. Seeded; continues from `--state` when
that file exists. Beside the weights it writes the editing directions and the
measuring probe.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax import files
from encoder4editing_jax.faceworld import directions, measuring
from encoder4editing_jax.faceworld.renderer import (
  ATTRIBUTES,
  STYLE_DIM,
  attributes,
  render,
  sample,
)
from encoder4editing_jax.models.stylegan2 import Generator
from encoder4editing_jax.ops import adaptive_avg_pool

# (pixels, share of the steps)
STAGES = ((16, 0.2), (32, 0.2), (64, 0.6))
SIZE, BATCH = 64, 8
RATE, EMA, SEED = 8e-3, 0.998, 0
TEST_SEED = 1_000_003  # codes that are only for measuring


class Fit(NamedTuple):
  """What one stage carries from step to step."""

  params: Any
  average: Any
  optimizer: Any


def create_generator(size: int, seed: int = SEED) -> Generator:
  """The untrained network; entries of z that mean nothing are cut off."""
  # lr_mlp=1: mapping and synthesis then share one learning rate
  generator = Generator(
    size,
    channel_base=1024,
    channel_max=96,
    style_dim=STYLE_DIM,
    n_mlp=2,
    lr_mlp=1.0,
    rngs=nnx.Rngs(seed),
  )
  kernel = generator.mapping.layers[0].kernel
  kernel[...] = _cut(kernel[...]) * (STYLE_DIM / len(ATTRIBUTES)) ** 0.5
  for block in generator.synthesis.blocks:
    block.to_rgb.kernel[...] *= 0.1
  return generator


def _cut(kernel: Float[Array, "i o"]) -> Float[Array, "i o"]:
  used = jnp.arange(kernel.shape[0]) < len(ATTRIBUTES)
  return kernel * used[:, None]


def grow(small: Generator, size: int) -> Generator:
  """A larger generator that begins where the small one ended."""
  big = create_generator(size)
  state = dict(nnx.to_flat_state(nnx.state(big)))
  state.update(dict(nnx.to_flat_state(nnx.state(small))))
  nnx.update(big, nnx.from_flat_state(state))
  return big


def create_optimizer(first: int, total: int) -> optax.GradientTransformation:
  """Muon for kernels, Adam for the rest, for a stage that begins at `first`.

  The learning rate warms up and falls as a cosine over all stages; every stage
  begins with fresh moments, hence gently.
  """
  rate = optax.warmup_cosine_decay_schedule(
    0.0, RATE, min(100, total // 10 + 1), total, RATE * 0.01
  )
  return optax.contrib.muon(
    lambda i: rate(first + i) * jnp.minimum(1, (i + 1) / 50),
    consistent_rms=1.0,
    muon_weight_dimension_numbers=_matrices,
  )


def _matrices(params: Any) -> Any:
  """Which axes of a parameter are the inputs of a linear map, which outputs."""

  def axes(p: Array) -> optax.contrib.MuonDimensionNumbers | None:
    if p.ndim < 2 or min(p.shape[-2:]) < 8:
      return None
    inputs = tuple(range(p.ndim - 1))
    return optax.contrib.MuonDimensionNumbers(inputs, (p.ndim - 1,))

  return jax.tree.map(axes, params)


def make_step(
  generator: Generator, first: int, total: int
) -> tuple[Callable[..., tuple[Fit, Array]], Callable[[Any], optax.OptState]]:
  """`step(fit, i) -> (fit, loss)`, on the fresh faces of step i."""
  graph, _, rest = nnx.split(generator, nnx.Param, ...)
  optimizer = create_optimizer(first, total)

  def loss_of(params: Any, z: Array, y: Array) -> Array:
    model = nnx.merge(graph, params, rest)
    return jnp.mean((model(z, noise="none") - y) ** 2)

  @jax.jit
  def step(fit: Fit, i: Any) -> tuple[Fit, Array]:
    key = jax.random.fold_in(jax.random.key(SEED), i)
    z = jax.random.normal(key, (BATCH, STYLE_DIM))
    images = render(attributes(z), SIZE)
    y = adaptive_avg_pool(images, generator.image_shape)
    loss, gradient = jax.value_and_grad(loss_of)(fit.params, z, y)
    update, state = optimizer.update(gradient, fit.optimizer, fit.params)
    params = optax.apply_updates(fit.params, update)
    kernel = params["mapping"]["layers"][0]["kernel"]
    kernel[...] = _cut(kernel[...])
    keep = jnp.minimum(EMA, (i - first + 1) / (i - first + 10))
    average = optax.incremental_update(params, fit.average, 1 - keep)
    return Fit(params, average, state), loss

  return step, optimizer.init


@partial(jax.jit, static_argnums=0)
def _errors(
  graph: Any, state: Any, z: Array, images: Array
) -> Float[Array, " b"]:
  generator = nnx.merge(graph, state)
  y = adaptive_avg_pool(images, generator.image_shape)
  return jnp.mean((generator(z, noise="none") - y) ** 2, (1, 2, 3))


def psnr(
  generator: Generator, n: int = 1000, seed: int = TEST_SEED
) -> tuple[float, float]:
  """Mean PSNR over unseen faces, and PSNR of the mean error (peak 2), in dB."""
  graph, state = nnx.split(generator)
  images, _, z = sample(seed, n, SIZE)
  chunks = [slice(i, i + BATCH) for i in range(0, n, BATCH)]
  parts = [_errors(graph, state, z[c], images[c]) for c in chunks]
  error = np.concatenate(parts)
  decibel = 10 * np.log10(4 / error)
  return float(decibel.mean()), float(10 * np.log10(4 / error.mean()))


def fit(
  total: int, state: Path | None = None, log_every: int = 100
) -> Generator:
  """Runs all stages; returns the averaged generator of the last one."""
  first, generator = 0, create_generator(STAGES[0][0])
  for size, share in STAGES:
    last = total if size == STAGES[-1][0] else first + round(share * total)
    path = None if state is None else state.with_name(f"{state.name}.{size}")
    if size > generator.size:
      generator = grow(generator, size)
    generator = _stage(generator, (first, last, total), path, log_every)
    first = last
  return generator


def _stage(
  generator: Generator,
  span: tuple[int, int, int],
  path: Path | None,
  log_every: int,
) -> Generator:
  first, last, total = span
  step, init = make_step(generator, first, total)
  params = nnx.state(generator, nnx.Param)
  # without weak types the second step needs no second compilation
  params = jax.tree.map(lambda p: p.astype(p.dtype), params)
  now = Fit(params, params, init(params))
  if path is not None and path.exists():
    first, now = _restore(path, now)
  clock, seen = time.time(), []
  for i in range(first, last):
    now, loss = step(now, i)
    seen.append(loss)
    if (i + 1) % log_every == 0 or i + 1 == last:
      nnx.update(generator, now.average)
      decibel = psnr(generator, 40)
      mean, seconds = np.mean(seen), (time.time() - clock) / len(seen)
      print(
        f"{generator.size} px step {i + 1}/{total} loss {mean:.5f} "
        f"PSNR {decibel[0]:.2f} dB, {seconds:.3f} s/step",
        flush=True,
      )
      if path is not None:
        _store(path, i + 1, now)
      clock, seen = time.time(), []
  nnx.update(generator, now.average)
  return generator


def _store(path: Path, step: int, fit: Fit) -> None:
  leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(fit)]
  with files.replacing(path) as unfinished, unfinished.open("wb") as file:
    np.savez(file, *leaves, step)


def _restore(path: Path, like: Fit) -> tuple[int, Fit]:
  arrays = np.load(path)
  leaves = [jnp.asarray(arrays[name]) for name in arrays.files]
  return int(leaves[-1]), jax.tree.unflatten(
    jax.tree.structure(like), leaves[:-1]
  )


def main() -> None:
  """The command."""
  from encoder4editing_jax import weights

  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--out", type=Path, required=True)
  parser.add_argument("--steps", type=int, default=3000)
  parser.add_argument("--log-every", type=int, default=100)
  parser.add_argument("--state", type=Path, help="continue from, and write to")
  options = parser.parse_args()
  start = time.time()
  generator = fit(options.steps, options.state, options.log_every)
  generator.w_avg[...] = generator.mean_latent(10_000, jax.random.key(SEED))
  weights.save(generator, options.out)
  found = directions.without_side_effects(
    generator, directions.fit_directions(generator)
  )
  directions.save_directions(found, options.out.with_name(directions.FILE))
  probe = measuring.fit_probe()
  measuring.save_probe(probe, options.out.with_name(measuring.FILE))
  mean, overall = psnr(generator)
  print(
    f"{options.steps} steps, {time.time() - start:.0f} s: {mean:.2f} dB on "
    f"1,000 unseen codes ({overall:.2f} dB for the mean error)"
  )


if __name__ == "__main__":
  main()
