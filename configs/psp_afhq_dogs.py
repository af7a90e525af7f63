"""pSp on AFHQ dogs (arXiv 2008.00951, appendix).

As psp_ffhq, with MoCo's features in the place of ArcFace's (weight 0.5).

Needs: the AFHQ dog images in a folder, a generator file of them, and the
networks lpips_alex and moco (docs/weights.md).
Command:
  python train.py --config configs/psp_afhq_dogs.py --workdir runs/afhq_dogs \
    --data.train FOLDER --model.generator afhq_dogs_512.safetensors
"""

import dataclasses

from encoder4editing_jax.config import Config
from encoder4editing_jax.configs import psp_ffhq


def get_config() -> Config:
  """The run card."""
  card = psp_ffhq.get_config()
  generator = "afhq_dogs_512.safetensors"
  return dataclasses.replace(
    card,
    data=dataclasses.replace(card.data, train="dogs"),
    model=dataclasses.replace(card.model, generator=generator),
    loss=dataclasses.replace(card.loss, identity=0.0, moco=0.5),
  )
