"""ReStyle over e4e on Stanford Cars (arXiv 2104.02699).

The published recipe for other pictures than faces: a ResNet-34 body, MoCo's
features in the place of ArcFace's. Otherwise as restyle_e4e_ffhq and cars.

Needs: as cars, with torchvision's resnet34.pth in the place of arcface_ir_se50.
Command:
  python train.py --config configs/restyle_e4e_cars.py --workdir runs/restyle \
    --data.train FOLDER --model.generator cars_512.safetensors
"""

import dataclasses

from encoder4editing_jax.config import Config
from encoder4editing_jax.configs import cars


def get_config() -> Config:
  """The run card."""
  card = cars.get_config()
  return dataclasses.replace(
    card,
    model=dataclasses.replace(
      card.model, encoder="ResNetProgressiveBackboneEncoder", refinements=5
    ),
    weights=dataclasses.replace(card.weights, backbone="resnet34.pth"),
    run=dataclasses.replace(card.run, steps=75_000, eval_every=5_000),
  )
