"""pSp: faces from maps of 19 classes (arXiv 2008.00951).

As psp_sketch, from the label maps of CelebAMask-HQ. Maps are resized by nearest
neighbours; the published code interpolates class ids, which makes classes that
are not there.

Needs: the CelebA-HQ images and PNG files of class ids in two folders, under
the same names, a 1024 generator file, and the network lpips_alex
(docs/weights.md).
Command:
  python train.py --config configs/psp_segmentation.py --workdir runs/labels \
    --data.train IMAGES --data.source LABELS \
    --model.generator ffhq_1024.safetensors
"""

import dataclasses

from encoder4editing_jax.config import Config
from encoder4editing_jax.configs import psp_sketch


def get_config() -> Config:
  """The run card."""
  card = psp_sketch.get_config()
  data = dataclasses.replace(card.data, source="labels", task="segmentation")
  return dataclasses.replace(card, data=data)
