"""`--optimise` and `--tune`: nearer to the picture than an encoder comes."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from encoder4editing_jax.cli.progress import Pace
from encoder4editing_jax.cli.results import Results
from encoder4editing_jax.config import ConfigError

TUNED = (".png", ".safetensors", ".npz")  # written for a picture


def check_fitting(asked: Any) -> None:
  """Raises ConfigError for flags that do not fit each other."""
  for steps, rate in (("optimise", "optimise_lr"), ("tune", "tune_lr")):
    if getattr(asked, steps) < 0:
      raise ConfigError(f"--{steps} takes a number of steps, 0 for none.")
    if not 0 < getattr(asked, rate) < float("inf"):
      raise ConfigError(f"--{rate} takes a number above 0.")
  if asked.weights and not (asked.optimise or asked.tune):
    raise ConfigError(
      "--weights is for --optimise and --tune; add one, or leave it out."
    )


def open_distance(asked: Any) -> Any:
  """LPIPS of --weights, if anything is fitted; without them None, and told.

  Raises:
    FileNotFoundError, ValueError: the folder does not have it.
  """
  from encoder4editing_jax import weights_folder

  if not (asked.optimise or asked.tune):
    return None
  if asked.weights:
    return weights_folder.load(asked.weights, f"lpips_{asked.lpips_net}")
  print(
    "without --weights DIR (docs/weights.md) pictures are compared by L2 alone",
    file=sys.stderr,
  )
  return None


def optimised(asked: Any, generator: Any, distance: Any, part: Any) -> Any:
  """The codes of a batch after --optimise steps."""
  from encoder4editing_jax import optimising
  from encoder4editing_jax.compiling import in_batches

  def move(images: Any, w_plus: Any) -> Any:
    steps, lr = asked.optimise, asked.optimise_lr
    return optimising.optimise(generator, images, w_plus, steps, lr, distance)

  if not asked.optimise:
    return part.w_plus
  return in_batches(move, asked.batch, part.images, part.w_plus)


def write_tuned(
  asked: Any,
  generator: Any,
  distance: Any,
  results: Results,
  pace: Pace,
  paths: Sequence[Path],
  images: Any,
  w_plus: Any,
) -> None:
  """Each picture painted by a generator of its own, which is written too.

  The PNG comes last: where it lies, the others are whole.
  """
  from encoder4editing_jax import inference, optimising, weights

  for path, image, code in zip(paths, images, w_plus, strict=True):
    one, pivot = image[None], code[None]
    tuned = optimising.tune(
      generator, one, pivot, asked.tune, asked.tune_lr, distance
    )
    digest = inference.fingerprint(tuned)
    latents = inference.Latents((path.stem,), pivot, None, digest, 1)
    painted = inference.paint(tuned, pivot, batch=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [path.with_suffix(".safetensors"), path.with_suffix(".npz")]
    weights.save(tuned, files[0])
    inference.save_latents(files[1], latents)
    results.written += files
    results.add([path], pivot, painted)
    pace.add(1)
