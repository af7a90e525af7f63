"""`e4e train` and `train.py`: from flags and a run card to a run."""

import argparse
import ast
import dataclasses
import errno
import re
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import tyro

from encoder4editing_jax.cli.parsing import nearest, parse
from encoder4editing_jax.config import Config, ConfigError, section_types
from encoder4editing_jax.training.joining import Hosts, leave

# What a disk says that takes no more.
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
CARDS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True)
class TrainArguments:
  """Train an encoder; the same command continues a run that was cut off.

  Example: python train.py --config configs/toy.py --workdir runs/toy
  Run cards: python train.py --list
  """

  config: str
  """Run card: a Python file with get_config(), or the name of one that comes
  with the package (toy, ffhq; --list names all). Its values are the defaults
  shown here."""

  workdir: str
  """Folder of the run: checkpoints, metrics, pictures, results."""

  hosts: Annotated[Hosts, tyro.conf.arg(name="")]

  settings: Annotated[Config, tyro.conf.arg(name="")]


def train_command(
  argv: Sequence[str] | None = None, *, prog: str = "train.py"
) -> int:
  """`e4e train` and `train.py`: from flags to a training run.

  Args:
    argv: flags; those of the process if None.
    prog: what the help calls the program.

  `--list` prints the run cards instead.

  Returns:
    The exit status: 0; 2 for what the user can mend before it starts; 1 if
    it stopped for numbers that are not finite or for a disk that takes no
    more; 143 after SIGTERM, 130 after SIGINT.
  """
  try:
    words = sys.argv[1:] if argv is None else argv
    if "--list" in words:
      print(list_cards())
      return 0
    config, workdir, hosts = parse_train(words, prog)
    config.validate()
    hosts.validate()
    return _run(config, workdir, hosts)
  except ConfigError as error:
    return _say(f"error: {error}", 2)
  except KeyboardInterrupt:
    return _say("interrupted; no file is half written", 130)


def _run(config: Config, workdir: str, hosts: Hosts) -> int:
  """Trains; JAX is imported here, so that wrong flags do not wait for it."""
  from encoder4editing_jax.cli.starting import start_jax
  from encoder4editing_jax.converters.start import load_start
  from encoder4editing_jax.data.sources import DataError
  from encoder4editing_jax.training import loop
  from encoder4editing_jax.training.checkpoint import NotSaved
  from encoder4editing_jax.training.guard import TrainingStopped
  from encoder4editing_jax.training.hosts import ProcessLost, joined
  from encoder4editing_jax.training.stopping import Interrupted

  start_jax()
  try:
    with joined(hosts):
      loop.run(config, workdir, load_start)
  except DataError as error:
    return _say(f"error: {error}", 2)
  except (TrainingStopped, NotSaved, ProcessLost) as error:
    return _say(f"error: {error}", 1)
  except OSError as error:
    if error.errno not in DISK:
      raise
    return _say(
      f"error: {error}; make room on that disk, or mend it, and give the same "
      "command: it goes on from the newest checkpoint.",
      1,
    )
  except Interrupted as error:
    print(error, file=sys.stderr)  # all processes end here, and may wait
    return error.status
  return 0


def _say(text: str, status: int) -> int:
  print(text, file=sys.stderr)
  return leave(status)


def parse_train(
  argv: Sequence[str], prog: str = "train.py"
) -> tuple[Config, str, Hosts]:
  """The config, the folder and the processes that a command line asks for.

  Raises:
    ConfigError: an unknown flag or field, a bad value, a missing file.
    SystemExit: with status 0, after `--help`.
  """
  first = argparse.ArgumentParser(
    add_help=False, allow_abbrev=False, exit_on_error=False
  )
  first.add_argument("--config", nargs="?")
  first.add_argument("--workdir", nargs="?")
  named, _ = first.parse_known_args(argv)
  config = load_config(named.config) if named.config else Config()
  default = TrainArguments(
    named.config or "", named.workdir or "", Hosts(), config
  )
  if {"-h", "--help"} & set(argv):
    tyro.cli(
      TrainArguments,
      args=["--help"],
      default=default,
      prog=prog,
      use_underscores=True,
    )
  _check_flags(argv)
  for name, example in (("config", "configs/toy.py"), ("workdir", "runs/toy")):
    if not getattr(named, name):
      raise ConfigError(f"--{name} is missing; add --{name} {example}")
  parsed = parse(
    TrainArguments,
    argv,
    prog=prog,
    default=default,
    config=(
      tyro.conf.FlagConversionOff,
    ),  # as cards write it: --data.flip False
  )
  return parsed.settings, parsed.workdir, parsed.hosts


def list_cards() -> str:
  """The run cards of the package: a line each, with the first of its text."""
  lines = []
  for path in sorted(CARDS.glob("[a-z]*.py")):
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    lines.append(f"{path.stem:<22}{text.splitlines()[0]}")
  return "\n".join(lines)


def load_config(name: str) -> Config:
  """Runs a config file, or the one of that name in the package.

  Raises:
    ConfigError: no such file, or it does not make a `Config`.
  """
  path = Path(name)
  if not path.suffix and not path.is_file():
    path = CARDS / f"{name}.py"
  if not path.is_file():
    cards = ", ".join(sorted(p.stem for p in CARDS.glob("[a-z]*.py")))
    raise ConfigError(
      f"there is no config file {name}; check the path, or use one of the "
      f"package's: {cards}."
    )
  try:
    names = runpy.run_path(str(path))
    if "get_config" not in names:
      raise ConfigError(f"{path} has no get_config(); define it.")
    config = names["get_config"]()
  except TypeError as error:
    raise ConfigError(f"{path}: {_explain(error)}") from error
  except dataclasses.FrozenInstanceError as error:
    raise ConfigError(
      f"{path}: {error}; configs do not change: pass it to the section, as in "
      "Optim(lr=1e-4), or use dataclasses.replace."
    ) from error
  except (ImportError, SyntaxError, NameError, AttributeError) as error:
    raise ConfigError(f"{path}: {error}") from error
  if not isinstance(config, Config):
    raise ConfigError(
      f"{path}: get_config() returns {type(config).__name__}; return a Config."
    )
  return config


def _flags() -> list[str]:
  """All flags of `TrainArguments`, as they are written."""
  found = ["--config", "--workdir"]
  found += [f"--{field.name}" for field in fields(Hosts)]
  for section, kind in section_types().items():
    for field in fields(kind):
      found.append(f"--{section}.{field.name}")
      if field.type is bool:
        found.append(f"--{section}.no-{field.name}")
  return found


def _check_flags(argv: Sequence[str]) -> None:
  """Refuses the first unknown flag with the nearest known one."""
  known = _flags()
  spelled = {flag.replace("_", "-") for flag in known}
  for word in argv:
    flag = word.split("=")[0]
    if flag.startswith("--") and flag.replace("_", "-") not in spelled:
      raise ConfigError(f"unknown option {flag}; {nearest(flag, known)}")


def _explain(error: TypeError) -> str:
  """Python's complaint about a wrong field, with the nearest right one."""
  found = re.match(
    r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'",
    str(error),
  )
  sections = {kind.__name__: name for name, kind in section_types().items()}
  if not found or found[1] not in {*sections, "Config"}:
    return str(error)
  if found[1] == "Config":
    prefix, names = "", list(section_types())
  else:
    section = sections[found[1]]
    prefix = f"{section}."
    names = [f.name for f in fields(section_types()[section])]
  known = [prefix + name for name in names]
  name = prefix + found[2]
  return f"unknown config field {name}; {nearest(name, known)}"
