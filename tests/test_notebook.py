"""docs/inference_playground.ipynb: what is in it runs, top to bottom."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from test_architecture import ROOT

import encoder4editing_jax as e4e

PATH = ROOT / "docs" / "inference_playground.ipynb"


def cells(kind="code"):
  notebook = json.loads(PATH.read_text())
  assert notebook["nbformat"] == 4
  found = [cell for cell in notebook["cells"] if cell["cell_type"] == kind]
  return found


def source(cell):
  return "".join(cell["source"])


def execute(changes, folder):
  """Runs all cells in one namespace of a fresh process; what they print."""
  texts = [source(cell) for cell in cells()]
  for line, other in changes.items():
    assert sum(line in text for text in texts) == 1
    texts = [text.replace(line, other) for text in texts]
  code = (
    "import json, sys\n"
    "names = {'__name__': '__main__'}\n"
    "for k, text in enumerate(json.load(sys.stdin)):\n"
    "  exec(compile(text, f'cell {k}', 'exec'), names)\n"
  )
  done = subprocess.run(
    [sys.executable, "-c", code],
    input=json.dumps(texts),
    cwd=folder,
    env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path):
  printed = execute({}, tmp_path)
  assert "painted again to the bit" in printed
  line = next(x for x in printed.splitlines() if x.startswith("PSNR in dB"))
  decibels = [float(x) for x in line.split(":")[1].split(",")]
  assert min(decibels) > 25
  assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_lines_take_another_model_and_photos(tmp_path):
  e4e.save(e4e.faceworld.load_inverter(), tmp_path / "mine.safetensors")
  for k, face in enumerate(e4e.faceworld.sample(seed=3, n=2)[0]):
    pixels = np.uint8(np.asarray(face + 1) * 127.5)
    Image.fromarray(pixels).resize((70, 90)).save(tmp_path / f"{k}.jpg")
  changes = {
    'MODEL = None  # "e4e_ffhq_encode.pt"': 'MODEL = "mine.safetensors"',
    'PHOTOS = None  # ["photos/me.jpg", "photos/you.jpg"]': (
      'PHOTOS = ["0.jpg", "1.jpg"]'
    ),
  }
  printed = execute(changes, tmp_path)
  (rows,) = (x for x in printed.splitlines() if x.startswith("rows: "))
  assert rows.count(",") == 3  # components of W stand in for directions
  assert "smile" not in rows
  assert "left out: {}" in printed


def test_it_is_small_and_shows_what_it_made():
  assert PATH.stat().st_size < 400_000
  text = PATH.read_text()
  assert "/home/" not in text
  assert str(ROOT) not in text
  outputs = [output for cell in cells() for output in cell["outputs"]]
  assert not [o for o in outputs if o["output_type"] == "error"]
  pictures = [o for o in outputs if "image/jpeg" in o.get("data", {})]
  assert len(pictures) >= 8
  counts = [cell["execution_count"] for cell in cells()]
  assert counts == list(range(1, len(counts) + 1))


def test_its_code_is_plain_python_and_its_links_are_there():
  for cell in cells():
    compile(source(cell), cell["id"], "exec")  # no magics
  text = "".join(map(source, cells("markdown")))
  links = [part.split(")")[0] for part in text.split("](")[1:]]
  assert links
  for link in links:
    assert (PATH.parent / link).is_file(), link
