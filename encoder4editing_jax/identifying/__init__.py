"""What a file or a folder is, by its content, and which command takes it.

Every kind that the commands read or write is known here. Nothing in a file is
executed.
"""

import shlex
from pathlib import Path
from typing import Any

from encoder4editing_jax import reports
from encoder4editing_jax.identifying import files, folders


def describe(path: str) -> dict[str, Any]:
  """What a file or folder is.

  Returns:
    `file`, `kind`, `what` (words), `commands` that take it, and facts by name;
    for networks of this library all that `weights.describe` says.

  Raises:
    FileNotFoundError: there is none.
    OSError, ValueError: it is damaged, or none of what is known here.
  """
  place = Path(path)
  if place.is_dir():
    found = folders.look(place)
  elif not place.exists():
    raise FileNotFoundError(f"{path} is not there; check the path.")
  else:
    found = files.look(place)
  shown = shlex.quote(path)
  commands = [text.replace("FILE", shown) for text in found.commands]
  about = {"file": path, "kind": found.kind, "what": found.what}
  return about | found.facts | {"commands": commands}


def text(found: dict[str, Any]) -> str:
  """The result of `describe`, for people."""
  if found["kind"] == "network":
    lines = [reports.file_text(found)]
  else:
    lines = [f"{found['file']}: {found['what']}"]
    known = ("file", "kind", "what", "commands")
    facts = {k: v for k, v in found.items() if k not in known}
    lines += [f"  {name}: {_shown(value)}" for name, value in facts.items()]
  if found["commands"]:
    lines.append("  taken by")
    lines += [f"    {command}" for command in found["commands"]]
  return "\n".join(lines)


def _shown(value: Any) -> str:
  if isinstance(value, dict):
    return ", ".join(f"{k} ({_shown(v)})" for k, v in value.items())
  if isinstance(value, list):
    return " x ".join(map(str, value))
  return str(value)
