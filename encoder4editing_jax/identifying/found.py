"""What something is, and the commands that take such things."""

from typing import Any, NamedTuple


class Found(NamedTuple):
  """What something is: a short kind, words, facts by name, commands.

  FILE in a command stands for the path.
  """

  kind: str
  what: str
  facts: dict[str, Any]
  commands: tuple[str, ...] = ()


PICTURE = ("e4e invert FILE --model MODEL --out DIR",)
MODEL = (
  "e4e invert PICTURES --model FILE --out DIR",
  "e4e evaluate PICTURES --model FILE",
  "e4e demo --model FILE",
  "e4e train --config CARD --workdir DIR --weights.start_from FILE",
)
GENERATOR = (
  "e4e edit LATENTS --model FILE --edit NAME=1 --out DIR",
  "e4e train --config CARD --workdir DIR --model.generator FILE",
)
DIRECTIONS = (
  "e4e edit LATENTS --model MODEL --directions FILE --edit NAME=1 --out DIR",
)
CONVERT = "e4e convert FILE"
WEIGHTS = "e4e weights FILE ... --dir DIR"
LATENTS = (
  "e4e edit FILE --model MODEL --edit NAME=1 --out DIR",
  "e4e mix FILE --styles OTHER --model MODEL --out DIR",
  "e4e animate FILE --model MODEL --out CLIP.gif",
)
