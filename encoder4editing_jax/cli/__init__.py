"""Command lines: flags to typed values, typed values to the library.

Errors that the user can mend end with one line on standard error and exit
status 2.
"""

import importlib
import sys
from collections.abc import Callable, Sequence

from encoder4editing_jax import __version__, files
from encoder4editing_jax.cli.memory import keep_memory
from encoder4editing_jax.cli.parsing import nearest
from encoder4editing_jax.config import ConfigError

USAGE = """\
usage: e4e COMMAND [options]        (e4e COMMAND --help explains one)

  train       train an encoder; the same as train.py
  plan        say whether a run fits a device, which need not be there
  runs        list training runs, draw their curves, export their encoders
  convert     convert a published checkpoint, and say what it is
  weights     fill the folder of networks that losses look through
  data        prepare images for training, and say what is in a data set
  align       cut faces out of photos, as encoders expect them
  unalign     paste edited faces back into their photos
  invert      turn pictures into codes, and paint these
  edit        paint such codes, moved along directions
  mix         paint such codes with layers of others
  animate     make a clip of such codes
  directions  find, convert and list what codes are moved along
  demo        serve a page in the browser to do all this
  export      write a model as programs for serving, without this library
  evaluate    say how near pictures are to what they should be
  info        say what a file is, and which command takes it
  doctor      print versions and devices, and test one picture

  --version"""

_COMMANDS = {
  "train": "train.train_command",
  "convert": "convert.convert_command",
  "weights": "convert.weights_command",
  "data": "data.data_command",
  "plan": "plan.plan_command",
  "runs": "runs.runs_command",
  "align": "align.align_command",
  "unalign": "unalign.unalign_command",
  "invert": "invert.invert_command",
  "edit": "edit.edit_command",
  "directions": "directions.directions_command",
  "mix": "mix.mix_command",
  "animate": "animate.animate_command",
  "demo": "demo.demo_command",
  "export": "export.export_command",
  "evaluate": "evaluate.evaluate_command",
  "info": "about.info",
  "doctor": "about.doctor",
}


def _command(verb: str) -> Callable[..., int]:
  """Imported when it is asked for: help does not wait for JAX."""
  module, name = _COMMANDS[verb].split(".")
  return getattr(importlib.import_module(f".{module}", __name__), name)


def _told(error: Exception) -> str:
  """In one line; the system's own errors begin with the file."""
  told = files.reason(error)
  if isinstance(error, OSError) and error.filename and error.strerror:
    told = f"{error.filename}: {told}"
  if isinstance(error, PermissionError):
    told += "; change its rights, or name another."
  return told


def main(argv: Sequence[str] | None = None) -> int:
  """The console command `e4e`.

  Args:
    argv: the verb and its flags; those of the process if None.

  Returns:
    The exit status: 0; 2 for what the user can mend; 130 if interrupted.
  """
  words = list(sys.argv[1:] if argv is None else argv)
  verb = words[0] if words else ""
  if verb in ("-h", "--help"):
    print(USAGE)
    return 0
  if verb == "--version":
    print(f"encoder4editing_jax {__version__}")
    return 0
  keep_memory()
  if verb == "train":  # mends its own; whatever else happens is a traceback
    return _command(verb)(words[1:], prog="e4e train")
  try:
    if verb not in _COMMANDS:
      what = f"unknown command {verb}" if verb else "a command is missing"
      raise ConfigError(f"{what}; {nearest(verb, list(_COMMANDS))}")
    # What is compiled for devices that are not there cannot be read again.
    if verb != "plan" and not {"-h", "--help"} & set(words):
      from encoder4editing_jax.cli.starting import start_jax

      start_jax()
    return _command(verb)(words[1:])
  except (ImportError, OSError, ValueError) as error:
    print(f"error: {_told(error)}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print("error: interrupted; no file is half written", file=sys.stderr)
    return 130
