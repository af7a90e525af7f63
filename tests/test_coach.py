"""The first steps of the originals' training, with every network and loss.

`pytest -m slow -k coach` replays all five runs to their ends, see
parity_coach.py. Here: three steps of the one with high learning rates, in which
the discriminator is penalised and two styles wake up.
"""

import json
import os

import jax
import numpy as np
import parity
import pytest
from parity_coach import FAST, LOOSE
from parity_networks import images
from replay import BATCH, Coach, reported

STEPS = 3
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def first_steps(golden):
  """Fields with an axis of steps, of the first ones alone."""
  return {
    name.split("__")[0]: theirs[:STEPS]
    for name, theirs in parity.load(golden).items()
    if name.startswith(("loss_dict/", "present/", "id_logs/", "latent"))
    and not name.endswith(("__stride", "__shape", "__stats"))
  }


@pytest.mark.skipif(MEMORY < 12e9, reason="takes 8 GB of memory")
def test_the_first_steps_are_those_of_the_originals():
  theirs = first_steps("coach_e4e_fast")
  floors = json.loads((parity.FOLDER / "noise_floors.json").read_text())
  batch = {
    "image": images(BATCH, (256, 256), "coach/0"),
    "source": images(BATCH, (256, 256), "coach/src0"),
  }
  with parity.full_precision():
    coach = Coach(FAST, "e4e_64")
    ours = dict(reported(theirs, coach, [batch] * STEPS))
  assert ours.keys() == theirs.keys()
  ours["latent"] = ours["latent"][..., :: 512 // theirs["latent"].shape[-1]]
  for name, expected in theirs.items():
    noise = floors["coach_e4e_fast"].get(name, 0.0)
    error = np.linalg.norm(ours[name].astype(float) - expected.astype(float))
    scale = np.linalg.norm(expected.astype(float)) or 1.0
    assert error / scale <= max(parity.FACTOR * noise, LOOSE), name
  jax.clear_caches()  # its weights would stay for the other tests
