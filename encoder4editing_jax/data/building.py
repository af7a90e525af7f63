"""`e4e data build`: folders of images to a directory of tensorflow-datasets.

Work goes on in `OUT.unfinished`: `work/` has the plan, the list of inputs and
the shards, each with a note of what is in it. A shard with a note is done, and
a second call of the same command makes the others. At the end the shards get
their names, the metadata is written beside them, and the folder becomes OUT.
Memory: the list of the files, and a few pictures in each process.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import IO, Any

from encoder4editing_jax import __version__
from encoder4editing_jax.data import pairs
from encoder4editing_jax.data.finishing import check_rejects, finish
from encoder4editing_jax.data.manifests import read_manifest
from encoder4editing_jax.data.opening import UNFINISHED
from encoder4editing_jax.data.readers import READ_TIMEOUT
from encoder4editing_jax.data.shards import (
  Files,
  Recipe,
  follow_parent,
  write_shard,
)
from encoder4editing_jax.data.sources import DataError, FolderSource, Paired
from encoder4editing_jax.files import replace_text

PACKAGES = ("pillow", "tensorflow-datasets", "array_record")


def build(
  recipe: Recipe,
  out: str | Path,
  *,
  workers: int = 1,
  read_timeout: float = READ_TIMEOUT,
  strict: bool = False,
  say: Callable[[str], None] = print,
) -> dict[str, Any]:
  """Makes a prepared data set, or goes on with one that was cut off.

  The same files and recipe give the same shards, for any number of workers.

  Args:
    recipe: what to make of which files.
    out: the directory; it appears when it is complete.
    workers: processes.
    read_timeout: seconds that reading a file may take.
    strict: end with an error if a file cannot be used.
    say: is told what goes on.

  Returns:
    The manifest.

  Raises:
    DataError: inputs that cannot be used, or other ones than before.
    OSError: the disk is full, or closed.
  """
  out = Path(out)
  if out.is_symlink() or out.is_mount() or not out.name:
    raise DataError(
      f"{out} cannot be replaced at once (it is a link, a mounted volume or "
      f"the folder you are in); name a folder in it, as {out / 'images'}."
    )
  files = list_files(recipe)
  listed = "".join(_line(entry) for entry in files)
  plan = _plan(recipe, listed)
  work = Path(f"{out}{UNFINISHED}") / "work"
  if not _is_there(out):
    with _alone(work, out):
      if not _is_there(out):  # since another process may have made it now
        _agree(work, plan, listed)
        _write_shards(recipe, files, work, workers, read_timeout, say)
        manifest = finish(recipe, plan, len(files), work, out, strict)
        n = manifest["images"]
        say(f"{out}: {n} images of {manifest['inputs']} files")
        return manifest
  manifest = _finished(out, plan, say)
  check_rejects(manifest["rejects"], len(files), out, strict, any_kept=True)
  return manifest


def _is_there(out: Path) -> bool:
  """Whether there is anything but an empty folder."""
  return out.exists() and (not out.is_dir() or any(out.iterdir()))


def list_files(recipe: Recipe) -> list[Files]:
  """The inputs in their order.

  Raises:
    DataError: no such folder, no images, or partners that are missing.
  """
  folder = FolderSource(recipe.folder)
  names = [p.relative_to(folder.folder).as_posix() for p in folder.paths]
  if not recipe.source:
    return [Files(n, p) for n, p in zip(names, folder.paths, strict=True)]
  paired = pairs.pair(folder, FolderSource(recipe.source))
  return [
    Files(name, path, Path(partner))
    for name, path, partner in zip(
      names, folder.paths, _partner_names(paired), strict=True
    )
  ]


def _partner_names(paired: Paired) -> Iterator[str]:
  return (paired.partners.name(i) for i in range(len(paired)))


def _line(files: Files) -> str:
  """What is known of an input without opening it, as a line of JSON."""
  known: list[Any] = [files.name]
  for path in (files.image, files.partner):
    if path is not None:
      try:
        stat = path.stat()
      except FileNotFoundError:  # a link to nothing is rejected as it is read
        known += [path.name, None, None]
        continue
      except OSError as error:
        raise DataError(
          f"{path} cannot be looked at ({error.strerror}); replace it, or "
          "remove it."
        ) from error
      known += [path.name, stat.st_size, stat.st_mtime_ns]
  return json.dumps(known) + "\n"


def _plan(recipe: Recipe, listed: str) -> dict[str, Any]:
  """Everything that the shards depend on."""
  resolved = dataclasses.replace(
    recipe,
    folder=str(Path(recipe.folder).resolve()),
    source=str(Path(recipe.source).resolve()) if recipe.source else "",
  )
  arguments = dataclasses.asdict(resolved)
  arguments["size"] = list(recipe.size)
  versions = {name: importlib.metadata.version(name) for name in PACKAGES}
  return {
    "arguments": arguments,
    "inputs_sha256": hashlib.sha256(listed.encode()).hexdigest(),
    "versions": {"encoder4editing_jax": __version__} | versions,
  }


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
  """What of the arguments, and of Pillow, is not as it was."""
  before = old["arguments"] | {"pillow": old["versions"]["pillow"]}
  after = new["arguments"] | {"pillow": new["versions"]["pillow"]}
  return [
    f"{name} was {before.get(name)} and is {value}"
    for name, value in after.items()
    if value != before.get(name)
  ]


def _finished(
  out: Path, plan: dict[str, Any], say: Callable[[str], None]
) -> dict[str, Any]:
  """The manifest of what is there already, if it is what was asked for."""
  manifest = read_manifest(out) if out.is_dir() else None
  if manifest is None:
    raise DataError(
      f"{out} is there, and is no prepared data set; name another --out."
    )
  told = _differences(manifest, plan)
  if not told and manifest["inputs_sha256"] != plan["inputs_sha256"]:
    told = ["files have come, gone or changed since"]
  if told:
    raise DataError(
      f"{out} was built otherwise ({'; '.join(told)}); name another --out, or "
      "remove it."
    )
  shutil.rmtree(f"{out}{UNFINISHED}", ignore_errors=True)
  say(f"{out} is built already, and stays as it is.")
  return manifest


@contextlib.contextmanager
def _alone(work: Path, out: Path) -> Iterator[None]:
  """Makes the folder, and lets no second process work on the same data set."""
  busy = DataError(f"{out} is being built by another process; wait for it.")
  try:
    work.mkdir(parents=True, exist_ok=True)
    lock = (work.parent / "lock").open("w")
  except FileNotFoundError as error:  # it removes both when it has finished
    raise busy from error
  with lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise busy from error
    if not work.is_dir() or not _is_at(lock, work.parent / "lock"):
      raise busy
    yield


def _is_at(file: IO[str], path: Path) -> bool:
  """Whether an open file is still the one of that name."""
  try:
    return os.path.samestat(os.fstat(file.fileno()), path.stat())
  except FileNotFoundError:
    return False


def _agree(work: Path, plan: dict[str, Any], listed: str) -> None:
  """Writes the plan, or compares it with the one that is there."""
  path, inputs = work / "plan.json", work / "inputs.jsonl"
  for left in work.glob(".*.part.*"):  # of a process that was killed
    left.unlink()
  if not path.exists():
    replace_text(inputs, listed)
    replace_text(path, json.dumps(plan))
    return
  told = _differences(json.loads(path.read_text()), plan)
  if not told and inputs.read_text() != listed:
    told = [_first_change(inputs.read_text(), listed)]
  if told:
    raise DataError(
      f"{work.parent} was begun otherwise ({'; '.join(told)}); give the same "
      f"arguments and files, or remove {work.parent} to begin anew."
    )


def _first_change(old: str, new: str) -> str:
  """Names a file that has come, gone or changed."""
  changed = set(old.splitlines()) ^ set(new.splitlines())
  names = sorted(json.loads(line)[0] for line in changed)
  more = len(set(names)) - 1
  return f"{names[0]} is not as it was" + f", and {more} more" * bool(more)


def _write_shards(
  recipe: Recipe,
  files: list[Files],
  work: Path,
  workers: int,
  read_timeout: float,
  say: Callable[[str], None],
) -> None:
  n = -(-len(files) // recipe.shard)
  todo = []
  for k in range(n):
    path = work / f"{k:05d}.array_record"
    if not Path(f"{path}.json").exists():
      part = files[k * recipe.shard : (k + 1) * recipe.shard]
      todo.append((recipe, part, path))
  if len(todo) < n:
    say(f"going on: {n - len(todo)} of {n} shards are there")
  done = n - len(todo)
  for found in _in_processes(todo, min(workers, len(todo)), read_timeout):
    done += 1
    bad = len(found["rejects"])
    left_out = f", {bad} left out" if bad else ""
    say(f"shard {done} of {n}: {found['images']} images{left_out}")


def _in_processes(
  todo: list[tuple[Recipe, list[Files], Path]], workers: int, timeout: float
) -> Iterator[dict[str, Any]]:
  if workers < 2:
    for job in todo:
      yield write_shard(*job, timeout)
    return
  context = multiprocessing.get_context("spawn")
  pool = ProcessPoolExecutor(workers, context, follow_parent)
  try:
    # A few at a time, so that the lists of files do not pile up.
    waiting, under_way = iter(todo), set()
    for job in waiting:
      under_way.add(pool.submit(write_shard, *job, timeout))
      if len(under_way) > 2 * workers:
        done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
        yield from (future.result() for future in done)
    yield from (future.result() for future in under_way)
  except BrokenProcessPool as error:
    raise DataError(
      "a process that writes shards has died (of too little memory?); run the "
      "same command again, with fewer --workers."
    ) from error
  finally:
    pool.shutdown(wait=True, cancel_futures=True)
