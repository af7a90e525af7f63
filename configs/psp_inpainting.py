"""pSp: whole faces from covered ones (arXiv 2008.00951, section 4).

The paper shows the task and its code lacks it: the holes here are random
rectangles and strokes, and the weights those of super-resolution, so no
published number can be compared.

Needs: the aligned FFHQ images in a folder, a 1024 generator file, and the
networks lpips_alex and arcface_ir_se50 (docs/weights.md).
Command:
  python train.py --config configs/psp_inpainting.py --workdir runs/holes \
    --data.train FFHQ_FOLDER --model.generator ffhq_1024.safetensors
"""

import dataclasses

from encoder4editing_jax.config import Config
from encoder4editing_jax.configs import psp_super_resolution


def get_config() -> Config:
  """The run card."""
  card = psp_super_resolution.get_config()
  data = dataclasses.replace(card.data, task="inpainting", flip=True)
  return dataclasses.replace(card, data=data)
