"""ReStyle over pSp on FFHQ (Alaluf et al. 2021, arXiv 2104.02699).

The published recipe: an encoder that sees the photograph and its own last
reconstruction, five refinements a step, LPIPS 0.8, L2 1, identity 0.1, batch 8.
The best published model is that of step 110,000.

Needs: as psp_ffhq.
Command:
  python train.py --config configs/restyle_psp_ffhq.py --workdir runs/restyle \
    --data.train FFHQ_FOLDER --model.generator ffhq_1024.safetensors
"""

import dataclasses

from encoder4editing_jax.config import Config
from encoder4editing_jax.configs import psp_ffhq


def get_config() -> Config:
  """The run card."""
  card = psp_ffhq.get_config()
  return dataclasses.replace(
    card,
    model=dataclasses.replace(
      card.model, encoder="BackboneEncoder", refinements=5
    ),
    run=dataclasses.replace(card.run, steps=110_000, eval_every=5_000),
  )
