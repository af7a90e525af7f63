"""Flags to dataclasses; mistakes to one line that names the nearest flag."""

import contextlib
import difflib
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from encoder4editing_jax.config import ConfigError

Arguments = TypeVar("Arguments")

PLAIN = (tyro.conf.FlagCreatePairsOff,)


def parse(
  target: type[Arguments], argv: Sequence[str], **options: Any
) -> Arguments:
  """A dataclass from flags.

  Raises:
    ConfigError: a wrong flag or value, in one line.
    SystemExit: with status 0, after `--help`.
  """
  options = {"use_underscores": True} | options
  complaint = io.StringIO()
  try:
    with contextlib.redirect_stderr(complaint):
      return tyro.cli(target, args=list(argv), **options)
  except SystemExit as error:
    if not error.code:  # --help
      raise
    raise ConfigError(_one_line(complaint.getvalue())) from error


def run_verb(
  prog: str,
  usage: str,
  verbs: Mapping[str, Callable[[Sequence[str]], int]],
  argv: Sequence[str],
) -> int:
  """Runs the first word as one of a command's own commands.

  Raises:
    ConfigError: it is none of them; and whatever that one raises.
  """
  verb = argv[0] if argv else ""
  if verb in ("-h", "--help"):
    print(usage)
    return 0
  if verb not in verbs:
    what = f"unknown command {verb}" if verb else "a command is missing"
    hint = nearest(verb, list(verbs))
    raise ConfigError(f"{prog}: {what}; {hint}: {', '.join(verbs)}.")
  return verbs[verb](argv[1:])


def check_out(path: str, overwrite: bool) -> None:
  """Refuses a file that cannot be written, before any work.

  Raises:
    ConfigError: there is no folder for it, it is a folder itself, or it is
      there and not to be replaced.
  """
  out = Path(path)
  if out.is_dir():
    raise ConfigError(f"--out {path} is a folder; name a file in it.")
  if not out.parent.is_dir():
    raise ConfigError(
      f"--out {path}: there is no folder {out.parent}; make it first."
    )
  refuse_replacing([out], overwrite)


def check_folder(folder: Path) -> None:
  """Refuses a folder that cannot be written to, or made.

  Raises:
    ConfigError: naming it, or the one that it would be made in.
  """
  there = next(p for p in (folder, *folder.parents) if p.exists())
  if not there.is_dir():
    raise ConfigError(f"{there} is no folder; name another --out.")
  if not os.access(there, os.W_OK | os.X_OK):
    raise ConfigError(f"{there} cannot be written to; name another --out.")


def refuse_replacing(
  paths: Iterable[Path], overwrite: bool, reads: Iterable[str | Path] = ()
) -> None:
  """Refuses to replace what is there, or what is read meanwhile.

  And places where nothing can be written.

  Raises:
    ConfigError: naming the first.
  """
  kept = {Path(path).resolve() for path in reads}
  paths = list(paths)
  for folder in {path.parent for path in paths}:
    check_folder(folder)
  for path in paths:
    if path.resolve() in kept:
      raise ConfigError(
        f"{path} is read, and would be replaced; name another --out."
      )
    if not overwrite and path.exists():
      raise ConfigError(
        f"{path} is there already; name another --out, or add --overwrite."
      )


def nearest(name: str, known: list[str]) -> str:
  """A hint: the known name that is most like one, if one is."""
  near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
  if near:
    return f"did you mean {near[0]}? --help lists all"
  last = name.split(".")[-1]
  same = [k for k in known if k.lstrip("-").split(".")[-1] == last.lstrip("-")]
  if same:
    return f"did you mean {same[0]}? --help lists all"
  return "--help lists all"


def _one_line(text: str) -> str:
  """tyro's boxed message without the box; of its help the nearest flag."""
  lines = [line.strip("╭╮╰╯│─ ") for line in text.splitlines()[1:]]
  lines = [line.strip("-") and line for line in lines]  # rules without UTF-8
  begin = next((i for i, line in enumerate(lines) if line), 0)
  rest = lines[begin:]
  end = rest.index("") if "" in rest else len(rest)
  told = " ".join(rest[:end])
  if "Perhaps you meant:" in lines:
    flags = lines[lines.index("Perhaps you meant:") + 1 :]
    near = next((line.split()[0] for line in flags if line[:2] == "--"), "")
    told += f"; did you mean {near}?" * bool(near)
  return f"{told} (--help explains)"
