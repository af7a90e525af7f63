"""What the README shows runs as it stands there."""

import re

import pytest
from flax import nnx
from PIL import Image
from random_weights import randomised
from test_architecture import ROOT

import encoder4editing_jax as e4e


def block(marker):
  text = (ROOT / "README.md").read_text()
  found = re.findall(rf"<!-- {marker} -->\n```\w+\n(.*?)```", text, re.DOTALL)
  assert len(found) == 1
  return found[0]


@pytest.mark.slow
def test_the_example_writes_its_picture(tmp_path, monkeypatch):
  generator = e4e.faceworld.load_generator()
  encoder = randomised(
    lambda: e4e.Encoder4Editing(
      generator.n_styles,
      input_size=64,
      style_dim=generator.style_dim,
      num_layers=10,
      channels=(4, 4, 8, 8),
      rngs=nnx.Rngs(0),
    )
  )
  monkeypatch.chdir(tmp_path)
  (tmp_path / "runs" / "toy").mkdir(parents=True)
  inverter = e4e.Inverter(encoder, generator)
  e4e.save(inverter, "runs/toy/inverter.safetensors")
  exec(compile(block("example"), "README.md", "exec"), {})
  assert Image.open("edited.png").size == (4 * 64, 4 * 64)


def test_the_example_is_short():
  lines = [line for line in block("example").splitlines() if line.strip()]
  assert len(lines) <= 20


def test_each_command_is_one_line():
  assert len(block("tests").splitlines()) == 1
