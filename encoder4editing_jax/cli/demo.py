"""`e4e demo`: a page in the browser to invert and edit photos."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from encoder4editing_jax.cli.edit import open_directions
from encoder4editing_jax.cli.invert import Text, open_inverter
from encoder4editing_jax.cli.parsing import PLAIN, parse
from encoder4editing_jax.config import ConfigError


@dataclass(frozen=True)
class DemoArguments:
  """Serve a page to invert and edit photos, until Ctrl-C.

  Without --model: the model of drawn faces, and such faces as examples.
  Nothing leaves this machine, and nothing is fetched from elsewhere.

  Example: e4e demo --model e4e_ffhq.safetensors --directions age.pt
  """

  model: Text = ""
  """An inverter: .safetensors, or a published checkpoint."""

  directions: Text = ""
  """Directions for its sliders: a file of `e4e directions`, or a published
  one. Without, the principal components of the generator's W."""

  iterations: int = 1
  """ReStyle steps; other encoders take one."""

  reach: float = 3.0
  """Where the sliders end, in units of the directions."""

  host: str = "127.0.0.1"
  """Address to listen at; 0.0.0.0 lets other machines in."""

  port: int = 7860
  """Port to listen at."""


def demo_command(argv: Sequence[str]) -> int:
  """`e4e demo`: 0 when it is ended by Ctrl-C.

  Raises:
    ConfigError, ImportError, OSError, ValueError: wrong flags or files, no
      gradio, a port in use.
  """
  asked = parse(DemoArguments, argv, prog="e4e demo", config=PLAIN)
  if not 0 < asked.reach < float("inf"):
    raise ConfigError(f"--reach is {asked.reach}; pass a number above 0.")
  if asked.iterations < 1:
    raise ConfigError(f"--iterations is {asked.iterations}; pass 1 or more.")
  from encoder4editing_jax.demo import serving

  serving.serve(
    lambda: _engine(asked),
    asked.host,
    asked.port,
    asked.reach,
    drawn=not asked.model,
  )
  return 0


@dataclass(frozen=True)
class _Chosen:
  """What `open_inverter` and `open_directions` ask for."""

  model: str
  directions: str
  demo: bool


def _engine(asked: DemoArguments) -> Any:
  from encoder4editing_jax.demo.engine import Engine

  chosen = _Chosen(asked.model, asked.directions, demo=not asked.model)
  net = open_inverter(chosen)
  directions = open_directions(chosen, net.generator)
  return Engine(net, directions, asked.iterations)
