"""pSp on rendered 64 x 64 faces: toy without a discriminator.

As toy with pSp's encoder (arXiv 2008.00951): every head gives its style from
the first step on, and nothing holds the codes near W. PENDING

Command:
  python train.py --config configs/toy_psp.py --workdir runs/toy_psp
"""

import dataclasses

from encoder4editing_jax.config import Config, Loss, Progressive
from encoder4editing_jax.configs import toy


def get_config() -> Config:
  """The run card."""
  card = toy.get_config()
  return dataclasses.replace(
    card,
    model=dataclasses.replace(card.model, encoder="GradualStyleEncoder"),
    loss=Loss(adversarial=0.0, delta=0.0),
    progressive=Progressive(),
  )
