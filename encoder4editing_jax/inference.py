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
from encoder4editing_jax.data import images as decoding
from encoder4editing_jax.models.inverter import Inversion, Inverter
from encoder4editing_jax.models.stylegan2 import Generator

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


def _compiled(
  net: nnx.Module, function: Callable[..., Array]
) -> Callable[..., Array]:
  """`function(net, ...)` of arrays; the weights are arguments of it.

  Encoders cannot be static arguments: their convolutions hold lists.
  """
  graph, state = nnx.split(net)
  run = jax.jit(lambda state, *x: function(nnx.merge(graph, state), *x))
  return functools.partial(run, state)


@functools.partial(jax.jit, static_argnums=0)
def _paint(graph: Any, state: Any, w_plus: Array, noise: Any) -> Array:
  return nnx.merge(graph, state)(w_plus, noise or "stored")


@functools.partial(jax.jit, static_argnums=0)
def _maps(graph: Any, state: Any, keys: Array) -> list[Array | None]:
  return nnx.merge(graph, state).noises("random", len(keys), keys)


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
  if start is None:
    once = _compiled(inverter, lambda net, x: net.invert(x, iterations).w_plus)
    return in_batches(once, batch, images)
  if not inverter.restyle:
    raise ValueError("only a ReStyle encoder can go on from another's codes.")
  theirs, ours = start.generator.n_styles, inverter.generator.n_styles
  if theirs != ours:
    raise ValueError(f"the first encoder has {theirs} styles, not {ours}.")
  w_plus = invert(start, images, batch=batch)

  def go_on(net: Inverter, images: Array, w_plus: Array) -> Array:
    now = Inversion(net.decode(w_plus), w_plus)
    for _ in range(iterations):
      now = net.refine(images, now)
    return now.w_plus

  return in_batches(_compiled(inverter, go_on), batch, images, w_plus)


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
  graph, state = nnx.split(generator.synthesis)
  if noise_seed is None:
    return in_batches(lambda w: _paint(graph, state, w, None), batch, w_plus)
  places = np.arange(len(w_plus))

  def noisy(w: Array, place: Array) -> Array:
    one = functools.partial(jax.random.fold_in, jax.random.key(noise_seed))
    return _paint(graph, state, w, _maps(graph, state, jax.vmap(one)(place)))

  return in_batches(noisy, batch, w_plus, places)


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
