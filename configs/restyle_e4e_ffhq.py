"""ReStyle over e4e on FFHQ (Alaluf et al. 2021, arXiv 2104.02699).

The published recipe: as ffhq, with five refinements a step. The discriminator
sees the codes of the first one.

Needs: as ffhq.
Command:
  python train.py --config configs/restyle_e4e_ffhq.py --workdir runs/restyle \
    --data.train FFHQ_FOLDER --model.generator ffhq_1024.safetensors
"""

import dataclasses

from encoder4editing_jax.config import Config
from encoder4editing_jax.configs import ffhq


def get_config() -> Config:
  """The run card."""
  card = ffhq.get_config()
  return dataclasses.replace(
    card,
    model=dataclasses.replace(
      card.model, encoder="ProgressiveBackboneEncoder", refinements=5
    ),
    run=dataclasses.replace(card.run, steps=110_000, eval_every=5_000),
  )
