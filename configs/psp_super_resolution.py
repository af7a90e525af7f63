"""pSp: faces from small pictures, 1/2 to 1/32 (arXiv 2008.00951).

The published recipe: each training image is shrunk by a factor drawn from 1, 2,
4, 8, 16 and 32, and shown at its old size; w_norm 0.005. Otherwise as psp_ffhq,
and nothing is mirrored. Evaluations take the factors in turn.

Needs: the aligned CelebA-HQ images in a folder, a 1024 generator file, and the
networks lpips_alex and arcface_ir_se50 (docs/weights.md).
Command:
  python train.py --config configs/psp_super_resolution.py --workdir runs/sr \
    --data.train IMAGES --model.generator ffhq_1024.safetensors
"""

import dataclasses

from encoder4editing_jax.config import Config
from encoder4editing_jax.configs import psp_ffhq


def get_config() -> Config:
  """The run card."""
  card = psp_ffhq.get_config()
  return dataclasses.replace(
    card,
    data=dataclasses.replace(card.data, task="super_resolution", flip=False),
    loss=dataclasses.replace(card.loss, w_norm=0.005),
  )
