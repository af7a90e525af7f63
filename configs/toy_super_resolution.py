"""Faces from few pixels: pSp's super-resolution on rendered 64 x 64 faces.

The sources are the faces themselves, shrunk by 1, 2, 4, 8 or 16 and enlarged
again; in training the factor is drawn for each face, in evaluations they take
turns. Otherwise as toy_segmentation. It reaches a mean PSNR of 24.7 dB on 256
held-out faces (mean training image: 18.5 dB).

Command:
  python train.py --config configs/toy_super_resolution.py --workdir runs/few
Your own images (any folder of JPEG and PNG files):
  python train.py --config configs/toy_super_resolution.py --workdir runs/mine \
    --data.train FOLDER
"""

import dataclasses

from encoder4editing_jax.config import Config
from encoder4editing_jax.configs import toy_segmentation


def get_config() -> Config:
  """The run card."""
  card = toy_segmentation.get_config()
  data = dataclasses.replace(
    card.data, task="super_resolution", resize_factors=(1, 2, 4, 8, 16)
  )
  return dataclasses.replace(card, data=data)
