"""pSp on FFHQ, 1024 x 1024 generator (arXiv 2008.00951).

The published recipe of inversion: batch 8, 300,000 steps of Ranger at 1e-4, no
discriminator; LPIPS 0.8, L2 1, identity 0.1. Its other tasks add w_norm 0.005
(--loss.w_norm 0.005).

Needs: as ffhq.
Command:
  python train.py --config configs/psp_ffhq.py --workdir runs/psp \
    --data.train FFHQ_FOLDER --model.generator ffhq_1024.safetensors
"""

import dataclasses

from encoder4editing_jax.config import Config, Progressive
from encoder4editing_jax.configs import ffhq


def get_config() -> Config:
  """The run card."""
  card = ffhq.get_config()
  return dataclasses.replace(
    card,
    model=dataclasses.replace(card.model, encoder="GradualStyleEncoder"),
    loss=dataclasses.replace(card.loss, adversarial=0.0, delta=0.0),
    progressive=Progressive(),
  )
