"""The transcript in docs/ is one of the commands of its program, in order."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from test_architecture import ROOT

from encoder4editing_jax import cli

PATH = ROOT / "benchmarks" / "transcript.py"
SPEC = importlib.util.spec_from_file_location("transcript", PATH)
transcript = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(transcript)


def typed():
  return [line for part in transcript.PARTS.values() for _, line in part]


def test_every_command_of_the_help_is_in_it():
  verbs = re.findall(r"^  (\w+) ", cli.USAGE, re.MULTILINE)
  tried = {shlex.split(line)[1] for line in typed()}
  left_out = {"demo", "weights"}  # runs until Ctrl-C; needs published files
  assert set(verbs) - left_out <= tried


def test_the_page_has_these_commands_and_no_others():
  page = transcript.PAGE.read_text()
  assert re.findall(r"^\$ (.*)$", page, re.MULTILINE) == typed()
  assert "Traceback" not in page and "/tmp/" not in page


@pytest.mark.parametrize("n", [3, 20, 21, 22, 50])
def test_long_outputs_lose_their_middle(n):
  lines = [f"line {k}" for k in range(n)]
  found = transcript.trimmed("\n".join(lines), Path("/x"))
  assert found[0] == lines[0] and found[-1] == lines[-1]
  assert len(found) == min(n, 21)
  if n > 21:
    assert f"... ({n - 20} more lines)" in found


def test_long_lines_lose_their_end():
  (found,) = transcript.trimmed("x" * 999, Path("/y"))
  assert found == "x" * transcript.WIDTH + " ..."


def test_paths_begin_where_the_user_is():
  told = transcript.trimmed("/tmp/u/a.png\rin /tmp/u, /tmp/u/b", Path("/tmp/u"))
  assert told == ["in ., b"]
