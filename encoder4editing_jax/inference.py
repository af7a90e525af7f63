"""Pictures to codes and back, many at a time.

Batches all have one size, the last is filled up, so that each network is
compiled once. What was found is kept in `latents.npz`, from which the same
pictures come again to the bit (on the same machine, with the same versions).
"""

import functools
import hashlib
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax import files, weights
from encoder4editing_jax.compiling import call, compiled
from encoder4editing_jax.data import images as decoding
from encoder4editing_jax.models.inverter import Inversion, Inverter
from encoder4editing_jax.models.stylegan2 import Generator
from encoder4editing_jax.models.synthesis import Synthesis

FORMAT = 1


class Latents(NamedTuple):
  """Codes of named pictures, and what is needed to paint them again.

  `w_plus` `[b n d]` float32; `noise_seed` None for the stored noise;
  `fingerprint` of the generator; `batch` in which they were painted.
  """

  names: tuple[str, ...]
  w_plus: np.ndarray
  noise_seed: int | None
  fingerprint: str
  batch: int


class Opened(NamedTuple):
  """Pictures `[b h w 3]` in [-1, 1] by name, and files that are none."""

  names: tuple[str, ...]
  images: np.ndarray
  failed: dict[str, str]


def open_images(
  paths: Sequence[str | os.PathLike[str]], size: tuple[int, int]
) -> Opened:
  """Opens picture files, resized; whatever cannot be read is named."""
  found: dict[str, np.ndarray] = {}
  failed = {}
  for path in map(Path, paths):
    try:
      pixels = decoding.decode(path.read_bytes(), size)
      found[str(path)] = pixels.astype(np.float32) / 127.5 - 1
    except (OSError, ValueError) as error:
      failed[str(path)] = " ".join(str(error).split())
  shape = (0, *size, 3)
  images = np.stack(list(found.values())) if found else np.zeros(shape)
  return Opened(tuple(found), images.astype(np.float32), failed)


def in_batches(function: Callable[..., Any], batch: int, *arrays: Any) -> Any:
  """`function` of equal batches; the last is filled with its last example.

  Returns:
    What it returns, joined as NumPy arrays, without what was filled in.

  Raises:
    ValueError: there is nothing, or a batch has less than one.
  """
  n = len(arrays[0])
  if not n or batch < 1:
    raise ValueError(f"{n} pictures in batches of {batch}; pass 1 or more.")
  parts = []
  for start in range(0, n, batch):
    index = np.minimum(np.arange(start, start + batch), n - 1)
    part = function(*(jnp.asarray(np.asarray(a)[index]) for a in arrays))
    parts.append(jax.tree.map(np.asarray, part))
  return jax.tree.map(lambda *x: np.concatenate(x)[:n], *parts)


def _encode(
  net: Inverter, images: Array, iterations: int
) -> Float[Array, "b n d"]:
  return net.invert(images, iterations).w_plus


def _go_on(
  net: Inverter, images: Array, w_plus: Array, iterations: int
) -> Float[Array, "b n d"]:
  now = Inversion(net.decode(w_plus), w_plus)
  for _ in range(iterations):
    now = net.refine(images, now)
  return now.w_plus


def _paint_with_noise(
  net: Synthesis, key: Array, w_plus: Array, places: Array
) -> Array:
  keys = jax.vmap(functools.partial(jax.random.fold_in, key))(places)
  return net(w_plus, "random", keys)


def make_encode(
  inverter: Inverter, iterations: int = 1, start: Inverter | None = None
) -> Callable[[Array], Array]:
  """The function from pictures `[b h w c]` to codes `[b n d]`, see `invert`.

  Raises:
    ValueError: networks that cannot do this.
  """
  if start is None:
    return compiled(_encode, inverter, iterations=iterations)
  if not inverter.restyle:
    raise ValueError("only a ReStyle encoder can go on from another's codes.")
  theirs, ours = start.generator.n_styles, inverter.generator.n_styles
  if theirs != ours:
    raise ValueError(f"the first encoder has {theirs} styles, not {ours}.")
  begin = make_encode(start)
  go_on = compiled(_go_on, inverter, iterations=iterations)
  return lambda images: go_on(images, begin(images))


def invert(
  inverter: Inverter,
  images: Float[np.ndarray, "b h w c"] | Float[Array, "b h w c"],
  iterations: int = 1,
  *,
  batch: int = 8,
  start: Inverter | None = None,
) -> Float[np.ndarray, "b n d"]:
  """Codes of pictures in [-1, 1], of the encoder's input size.

  Args:
    inverter: an encoder of one pass, or a ReStyle encoder.
    images: any number.
    iterations: ReStyle steps; other encoders take exactly one.
    batch: pictures at a time.
    start: another inverter, whose code and picture come before the first step
      (ReStyle, section 5: encoder bootstrapping).

  Raises:
    ValueError: nothing to invert, or networks that cannot do this.
  """
  return in_batches(make_encode(inverter, iterations, start), batch, images)


def paint(
  generator: Generator,
  w_plus: Float[np.ndarray, "b n d"] | Float[Array, "b n d"],
  *,
  batch: int = 8,
  noise_seed: int | None = None,
) -> Float[np.ndarray, "b h w 3"]:
  """Pictures of codes, nominally in [-1, 1].

  Args:
    generator: paints them.
    w_plus: any number.
    batch: codes at a time.
    noise_seed: for random noise, another map for each; None for the stored.
  """
  if noise_seed is None:
    return in_batches(compiled(call, generator.synthesis), batch, w_plus)
  run = compiled(_paint_with_noise, generator.synthesis)
  run = functools.partial(run, jax.random.key(noise_seed))
  return in_batches(run, batch, w_plus, np.arange(len(w_plus)))


def fingerprint(net: nnx.Module) -> str:
  """A digest of a network's numbers: equal for equal networks alone."""
  digest = hashlib.sha256()
  for name, leaf in sorted(weights.leaves(net).items()):
    value = np.asarray(leaf[...])
    digest.update(f"{name} {value.shape} {value.dtype}\n".encode())
    digest.update(value.tobytes())
  return digest.hexdigest()


def save_latents(path: str | os.PathLike[str], latents: Latents) -> None:
  """Writes `latents.npz`: one array `[n d]` by each name, and what they need.

  Raises:
    ValueError: names that occur twice.
    OSError: the file cannot be written; what was there stays.
  """
  if len(set(latents.names)) < len(latents.names):
    raise ValueError("a name occurs twice among the codes; rename one.")
  seed = -1 if latents.noise_seed is None else latents.noise_seed
  arrays: dict[str, Any] = {
    f"w_plus/{name}": np.float32(w)
    for name, w in zip(latents.names, latents.w_plus, strict=True)
  }
  arrays |= {
    "format": FORMAT,
    "noise_seed": seed,
    "fingerprint": latents.fingerprint,
    "batch": latents.batch,
  }
  with files.replacing(path) as unfinished, unfinished.open("wb") as file:
    np.savez(file, allow_pickle=False, **arrays)


def load_latents(
  path: str | os.PathLike[str], generator: Generator | None = None
) -> Latents:
  """Reads `latents.npz`.

  Args:
    path: a file of `save_latents`.
    generator: if given, it has to be the one that the codes belong to.

  Raises:
    FileNotFoundError: no such file.
    ValueError: another file, a damaged one, or another generator's.
  """
  try:
    with np.load(path, allow_pickle=False) as file:
      found = dict(file)
    if found.pop("format") != FORMAT:
      raise ValueError("its format is another version's")
    seed, batch = int(found.pop("noise_seed")), int(found.pop("batch"))
    digest = str(found.pop("fingerprint"))
    names = tuple(name.removeprefix("w_plus/") for name in found)
    w_plus = np.stack(list(found.values()))
  except FileNotFoundError:
    raise FileNotFoundError(f"{path} is not there; check the path.") from None
  except (KeyError, EOFError, ValueError, zipfile.BadZipFile) as error:
    raise ValueError(f"{path}: no file of latents ({error}).") from None
  if generator is not None and fingerprint(generator) != digest:
    raise ValueError(
      f"{path}: its codes belong to another generator; use the model that "
      "made them."
    )
  return Latents(names, w_plus, None if seed < 0 else seed, digest, batch)
