"""Where pictures and codes are written to, and what is said of them."""

import json
import os
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from encoder4editing_jax.cli.parsing import refuse_replacing
from encoder4editing_jax.cli.progress import Pace
from encoder4editing_jax.config import ConfigError

CODES = "latents.npz"
WRITERS = min(4, os.cpu_count() or 1)


def places(
  out: str,
  names: Sequence[str],
  overwrite: bool,
  reads: Iterable[str] = (),
  endings: Sequence[str] = (".png",),
  also: Sequence[str] = (CODES,),
) -> list[Path]:
  """A PNG for each name, by `pictures.names_of`; nothing is made yet.

  Args:
    out: the folder.
    names: files, or names without ending.
    overwrite: what is there is replaced.
    reads: files that are read meanwhile, and never replaced.
    endings: of all files that are written for a name.
    also: other files that are written.

  Raises:
    ConfigError: two names would have one file, or one is no text; or a file
      is there already, or is one of `reads`.
  """
  from encoder4editing_jax.data.pictures import names_of

  folder = Path(out)
  if folder.exists() and not folder.is_dir():
    raise ConfigError(f"--out {out} is a file; name a folder.")
  for name in names:
    if name != name.encode(errors="replace").decode():  # bytes, to Python
      raise ConfigError(
        f"the name {name!a} is not written in UTF-8; rename the file."
      )
  paths = [folder / f"{name}.png" for name in names_of(names)]
  refuse_twins(names, paths)
  made = [path.with_suffix(ending) for path in paths for ending in endings]
  made += [folder / name for name in also]
  refuse_replacing(made, overwrite, reads)
  return paths


def refuse_twins(names: Sequence[str], paths: Sequence[Path]) -> None:
  """Raises ConfigError if two of the names have one path."""
  owners: dict[Path, str] = {}
  for path, name in zip(paths, names, strict=True):
    if path in owners:
      raise ConfigError(
        f"{owners[path]} and {name} would both become {path}; rename one, or "
        "give each its own --out."
      )
    owners[path] = name


class Results:
  """PNG files and the codes that they were painted from, as they come.

  A context manager. However its block ends, the pictures that are written are
  whole, and the file of codes holds the codes of all of these.

  Args:
    folder: made with the first picture.
    empty: `Latents` without codes; None writes none.
  """

  def __init__(self, folder: str, empty: Any = None):
    from concurrent.futures import ThreadPoolExecutor

    self.folder = Path(folder)
    self.written: list[Path] = []
    self._empty = empty
    self._codes: dict[str, Any] = {}
    self._pool = ThreadPoolExecutor(WRITERS)
    self._waiting: deque[tuple[Any, Path, Any]] = deque()

  def add(self, paths: Sequence[Path], w_plus: Any, images: Any) -> None:
    """Writes pictures in [-1, 1] while the next ones are painted.

    Raises:
      OSError: one of the pictures before could not be written.
    """
    self.folder.mkdir(parents=True, exist_ok=True)
    self._settle()
    for path, code, image in zip(paths, w_plus, images, strict=True):
      self._waiting.append((self._pool.submit(_save, path, image), path, code))

  def _settle(self) -> None:
    """Waits for what is being written; raises the first error after all."""
    errors = []
    while self._waiting:
      future, path, code = self._waiting[0]  # stays if this is interrupted
      error = future.exception()
      self._waiting.popleft()
      if error is not None:
        errors.append(error)
        continue
      self.written.append(path)
      self._codes[path.stem] = code
    for error in errors:
      raise error

  def _save_codes(self) -> None:
    import numpy as np

    from encoder4editing_jax import inference

    if self._empty is None or not self._codes:
      return
    path = self.folder / CODES
    inference.save_latents(
      path,
      self._empty._replace(
        names=tuple(self._codes), w_plus=np.stack(list(self._codes.values()))
      ),
    )
    self.written.append(path)

  def __enter__(self) -> "Results":
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    try:
      try:
        self._settle()
      finally:
        self._pool.shutdown()
        self._save_codes()
    except OSError:
      if error is None:  # else that one is told
        raise


def _save(path: Path, image: Any) -> None:
  from encoder4editing_jax.training.pictures import to_bytes

  save_png(path, to_bytes(image[None])[0])


def save_png(path: Path, pixels: Any, profile: bytes | None = None) -> None:
  """Writes bytes `[h w 3]`, and their colour profile."""
  from PIL import Image

  from encoder4editing_jax import files

  with files.replacing(path) as unfinished:
    Image.fromarray(pixels).save(unfinished, icc_profile=profile)


def paint_all(
  asked: Any, paths: Sequence[Path], generator: Any, latents: Any
) -> int:
  """Paints codes into files, with a bar; the exit status."""
  from encoder4editing_jax import inference
  from encoder4editing_jax.data.pictures import chunks

  parts = inference.painted(
    generator,
    latents.w_plus,
    batch=latents.batch,
    noise_seed=latents.noise_seed,
  )
  each = chunks(zip(paths, latents.w_plus, strict=True), latents.batch)
  with Pace(len(paths), asked.json) as pace, Results(asked.out, latents) as out:
    for images, pairs in zip(parts, each, strict=True):
      here, codes = zip(*pairs, strict=True)
      out.add(here, codes, images)
      pace.add(len(images))
  return report(asked, out, pace)


def counted(n: int, what: str) -> str:
  """1 picture, 2 pictures."""
  return f"{n} {what}{'s' * (n != 1)}"


def report(
  asked: Any,
  results: Results,
  pace: Pace,
  failed: Mapping[str, str] = MappingProxyType({}),
  what: str = "codes",
) -> int:
  """Says what was written and what could not be read; the exit status."""
  pictures = counted(pace.done, "picture")
  done = f"{pictures} with {what} in {asked.out}" + f" ({pace})" * bool(
    pace.done
  )
  return tell(asked.json, done, results.written, failed, pace.figures())


def tell(
  as_json: bool,
  done: str,
  written: Sequence[Path],
  failed: Mapping[str, str],
  figures: Mapping[str, Any] = MappingProxyType({}),
) -> int:
  """Prints what was done, or all of it as JSON; 1 if something failed."""
  if as_json:
    facts = {"written": [*map(str, written)], "failed": {**failed}, **figures}
    print(json.dumps(facts))
  else:
    print(done)
  for name, reason in failed.items():
    print(f"left out: {name}: {reason}", file=sys.stderr)
  return 1 if failed else 0
