"""The sliders of drawn faces: each moves its own attribute, and it alone."""

import importlib.util

import jax
import numpy as np
import pytest
from test_architecture import ROOT

from encoder4editing_jax import faceworld
from encoder4editing_jax.faceworld import directions

FEW = 8


@pytest.fixture(scope="module")
def edits():
  """The program of benchmarks/ that makes the table of docs/edits.md."""
  path = ROOT / "benchmarks" / "edits.py"
  spec = importlib.util.spec_from_file_location("edits", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_inverted_faces_are_moved_by_their_slider(edits):
  """Few faces: what they do beside it is not yet the mean of many."""
  found = edits.measured(FEW, names=("smile", "skin_tone", "glasses"))
  for name, series in found.items():
    row = edits.row(name, series)
    assert (np.diff(row.own) > 0).all(), row
    assert abs(row.worst[1]) < 0.5, row
    assert row.own[-1] - row.own[0] > 1.5


def test_a_slider_that_moves_others_is_noticed(edits):
  names = faceworld.ATTRIBUTES
  series = np.zeros((len(edits.STRENGTHS), 3, len(names)))
  series[:, :, 0] = np.array(edits.STRENGTHS)[:, None]
  assert edits.row(names[0], series).ok
  series[:, :, 4] = 0.3 * series[:, :, 0]
  assert not edits.row(names[0], series).ok
  assert edits.row(names[0], series).worst[0] == names[4]
  series[2, :, 0] = series[1, :, 0]
  series[:, :, 4] = 0
  assert not edits.row(names[0], series).ok


def test_the_page_is_what_the_program_makes(edits):
  page = edits.PAGE.read_text()
  lines = page.split(edits.BEGIN)[1].split(edits.END)[0].splitlines()
  rows = [line.split("|") for line in lines if line.startswith("| ")][1:]
  assert [row[1].strip() for row in rows] == list(faceworld.ATTRIBUTES)
  for row in rows:
    own = [float(cell) for cell in row[2:7]]
    assert (np.diff(own) > 0).all()
    assert abs(float(row[7].split()[1])) < edits.MOST


def test_side_effects_are_taken_out(monkeypatch):
  names = faceworld.ATTRIBUTES
  generator = faceworld.load_generator()
  basis = dict(zip(names, jax.numpy.eye(len(names)), strict=True))
  found = np.diag(np.linspace(0.5, 1, len(names)))
  found[2, 5], found[3, 1] = 0.3, 0.01  # the second is small, and stays

  monkeypatch.setattr(directions, "effects", lambda *_: found)
  mended = directions.without_side_effects(generator, basis)
  mixed = np.stack([mended[name] for name in names]) @ found
  alone = np.diag(found) * np.eye(len(names))[2]
  np.testing.assert_allclose(mixed[2], alone, atol=1e-6)
  np.testing.assert_array_equal(mended[names[3]], basis[names[3]])


@pytest.mark.slow
def test_the_shipped_directions_have_no_side_effects():
  """On other faces than those by which they were mended."""
  generator = faceworld.load_generator()
  shipped = faceworld.load_directions()
  found = directions.effects(generator, shipped, n=64, seed=78)
  share = np.abs(found / np.diag(found)[:, None]) - np.eye(len(found))
  assert share.max() < 0.2
