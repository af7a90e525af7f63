"""e4e on LSUN horses, 256 x 256 generator (arXiv 2102.02766).

The published recipe for pictures other than faces: as ffhq, with MoCo's
features in the place of ArcFace's (weight 0.5), and 200,000 steps. The encoder
begins with a body trained on faces here too.

Needs: the LSUN horse images in a folder, a 256 generator file, and
the networks lpips_alex, moco and arcface_ir_se50 (docs/weights.md).
Command:
  python train.py --config configs/horse.py --workdir runs/horse \
    --data.train FOLDER --model.generator horse_256.safetensors
"""

import dataclasses

from encoder4editing_jax.config import Config
from encoder4editing_jax.configs import ffhq


def get_config() -> Config:
  """The run card."""
  card = ffhq.get_config()
  generator = "horse_256.safetensors"
  return dataclasses.replace(
    card,
    data=dataclasses.replace(card.data, train="horse"),
    model=dataclasses.replace(card.model, generator=generator),
    loss=dataclasses.replace(card.loss, identity=0.0, moco=0.5),
    run=dataclasses.replace(card.run, steps=200_000),
  )
