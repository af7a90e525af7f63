"""pSp: faces turned to the front, without pairs (arXiv 2008.00951).

The published recipe: source and target are the same photograph, each mirrored
or not on its own, and weights that ask for the person rather than the pixels:
identity 1, the face alone (crop) LPIPS 0.8 and L2 0.01, the whole LPIPS 0.08
and L2 0.001, w_norm 0.005. Otherwise as psp_ffhq.

Needs: the aligned FFHQ images in a folder, a 1024 generator file, and the
networks lpips_alex and arcface_ir_se50 (docs/weights.md).
Command:
  python train.py --config configs/psp_frontalization.py --workdir runs/front \
    --data.train FFHQ_FOLDER --model.generator ffhq_1024.safetensors
"""

import dataclasses

from encoder4editing_jax.config import Config
from encoder4editing_jax.configs import psp_ffhq


def get_config() -> Config:
  """The run card."""
  card = psp_ffhq.get_config()
  return dataclasses.replace(
    card,
    data=dataclasses.replace(card.data, task="frontalization"),
    loss=dataclasses.replace(
      card.loss,
      l2=0.001,
      lpips=0.08,
      l2_crop=0.01,
      lpips_crop=0.8,
      identity=1.0,
      w_norm=0.005,
    ),
  )
