"""Pictures to codes and back, many at a time.

Each network is compiled once (`compiling`). What was found is kept in
`latents.npz`, from which the same pictures come again to the bit (on the same
machine, with the same versions).
"""

import functools
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax import files, weights
from encoder4editing_jax.compiling import (
  call,
  compiled,
  each_batch,
  in_batches,
)
from encoder4editing_jax.data.pictures import (
  FilePath,
  open_batches,
  open_images as open_images,
)
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


class Inverted(NamedTuple):
  """Codes `[b n d]` of named pictures `[b h w 3]`, and files that are none."""

  names: tuple[str, ...]
  images: np.ndarray
  w_plus: np.ndarray
  failed: dict[str, str]


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
  images: Float[np.ndarray, "b h w c"]
  | Float[Array, "b h w c"]
  | Sequence[FilePath],
  iterations: int = 1,
  *,
  batch: int = 8,
  start: Inverter | None = None,
) -> Float[np.ndarray, "b n d"]:
  """Codes of pictures.

  Args:
    inverter: an encoder of one pass, or a ReStyle encoder.
    images: any number, in [-1, 1] and of the encoder's input size; or files.
    iterations: ReStyle steps; other encoders take exactly one.
    batch: pictures at a time.
    start: another inverter, whose code and picture come before the first step
      (ReStyle, section 5: encoder bootstrapping).

  Raises:
    ValueError: nothing to invert, a file that cannot be read (`invert_files`
      leaves such out), or networks that cannot do this.
  """
  if isinstance(images, np.ndarray | jax.Array):
    return in_batches(make_encode(inverter, iterations, start), batch, images)
  found = []
  for part in invert_files(
    inverter, images, iterations, batch=batch, start=start
  ):
    for path, reason in part.failed.items():
      raise ValueError(f"{path}: {reason}; leave it out, or use invert_files.")
    found.append(part.w_plus)
  if not found:
    raise ValueError("there are no files to invert; pass 1 or more.")
  return np.concatenate(found)


def invert_files(
  inverter: Inverter,
  paths: Iterable[FilePath],
  iterations: int = 1,
  *,
  batch: int = 8,
  start: Inverter | None = None,
) -> Iterator[Inverted]:
  """Codes of files, batch by batch, opening the next ones meanwhile.

  Args: see `invert`.

  Yields:
    Full batches, but for the last; whatever cannot be read is named.

  Raises:
    ValueError: networks that cannot do this.
  """
  encode = make_encode(inverter, iterations, start)
  size = inverter.encoder.input_shape
  shape = (0, inverter.generator.n_styles, inverter.generator.style_dim)
  none: np.ndarray = np.zeros(shape, np.float32)
  for names, images, failed in open_batches(paths, size, batch):
    w_plus = in_batches(encode, batch, images) if names else none
    yield Inverted(names, images, w_plus, failed)


def painted(
  generator: Generator,
  w_plus: Float[np.ndarray, "b n d"] | Float[Array, "b n d"],
  *,
  batch: int = 8,
  noise_seed: int | None = None,
) -> Iterator[Float[np.ndarray, "b h w 3"]]:
  """Batches of pictures of codes, see `paint`; no more than one is kept."""
  if noise_seed is None:
    return each_batch(compiled(call, generator.synthesis), batch, w_plus)
  run = compiled(_paint_with_noise, generator.synthesis)
  run = functools.partial(run, jax.random.key(noise_seed))
  return each_batch(run, batch, w_plus, np.arange(len(w_plus)))


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
  return np.concatenate(
    list(painted(generator, w_plus, batch=batch, noise_seed=noise_seed))
  )


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
    f"w_plus/{name}": np.asarray(w, np.float32)
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
    FileNotFoundError, IsADirectoryError: no such file.
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
  except IsADirectoryError:
    raise IsADirectoryError(
      f"{path} is a folder; name the file in it, such as {path}/latents.npz."
    ) from None
  except (KeyError, EOFError, ValueError, zipfile.BadZipFile) as error:
    raise ValueError(f"{path}: no file of latents ({error}).") from None
  if generator is not None and fingerprint(generator) != digest:
    raise ValueError(
      f"{path}: its codes belong to another generator; use the model that "
      "made them."
    )
  return Latents(names, w_plus, None if seed < 0 else seed, digest, batch)
