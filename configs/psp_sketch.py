"""pSp: faces from sketches (arXiv 2008.00951).

The published recipe: grey sketches of CelebA-HQ, LPIPS 0.8, L2 1, w_norm 0.005,
no identity. Otherwise as psp_ffhq, and nothing is mirrored.

Needs: the CelebA-HQ images and their sketches in two folders, under the same
names, a 1024 generator file, and the network lpips_alex (docs/weights.md).
Command:
  python train.py --config configs/psp_sketch.py --workdir runs/sketch \
    --data.train IMAGES --data.source SKETCHES \
    --model.generator ffhq_1024.safetensors
"""

import dataclasses

from encoder4editing_jax.config import Config
from encoder4editing_jax.configs import psp_ffhq


def get_config() -> Config:
  """The run card."""
  card = psp_ffhq.get_config()
  return dataclasses.replace(
    card,
    data=dataclasses.replace(
      card.data, train="celeba", source="sketches", task="sketch", flip=False
    ),
    loss=dataclasses.replace(card.loss, identity=0.0, w_norm=0.005),
  )
