"""Faces from sketches: pSp's sketch task on rendered 64 x 64 faces.

The sources are the line drawings of `faceworld.render_contours`, one grey
channel; otherwise as toy_segmentation. Lines do not say which colours a face
has: the encoder learns to answer with likely ones, and reaches a mean PSNR of
19.4 dB on 256 held-out faces (mean training image: 18.5 dB).

Command:
  python train.py --config configs/toy_sketch.py --workdir runs/sketch
Your own pairs, images and sketches with the same names:
  python train.py --config configs/toy_sketch.py --workdir runs/mine \
    --data.train IMAGES --data.source SKETCHES
"""

import dataclasses

from encoder4editing_jax.config import Config
from encoder4editing_jax.configs import toy_segmentation


def get_config() -> Config:
  """The run card."""
  card = toy_segmentation.get_config()
  data = dataclasses.replace(card.data, task="sketch")
  return dataclasses.replace(card, data=data)
