"""ReStyle over pSp on LSUN churches (arXiv 2104.02699).

As restyle_e4e_cars, without a discriminator and for squares of 256 x 256.

Needs: as church, with torchvision's resnet34.pth in the place of
arcface_ir_se50.
Command:
  python train.py --config configs/restyle_psp_church.py --workdir runs/re \
    --data.train FOLDER --model.generator church_256.safetensors
"""

import dataclasses

from encoder4editing_jax.config import Config, Progressive
from encoder4editing_jax.configs import church


def get_config() -> Config:
  """The run card."""
  card = church.get_config()
  return dataclasses.replace(
    card,
    model=dataclasses.replace(
      card.model, encoder="ResNetBackboneEncoder", refinements=5
    ),
    loss=dataclasses.replace(card.loss, adversarial=0.0, delta=0.0),
    progressive=Progressive(),
    weights=dataclasses.replace(card.weights, backbone="resnet34.pth"),
    run=dataclasses.replace(card.run, steps=150_000, eval_every=5_000),
  )
