"""pSp: photographs to drawings, by a drawing generator (arXiv 2008.00951).

The published recipe: as psp_ffhq, with a generator that draws (toonify),
identity 1 and w_norm 0.025, for about 6,000 steps. It never sees a drawing.

Needs: as psp_ffhq, with the toonify generator.
Command:
  python train.py --config configs/psp_toonify.py --workdir runs/toonify \
    --data.train FFHQ_FOLDER --model.generator toonify_1024.safetensors
"""

import dataclasses

from encoder4editing_jax.config import Config
from encoder4editing_jax.configs import psp_ffhq


def get_config() -> Config:
  """The run card."""
  card = psp_ffhq.get_config()
  return dataclasses.replace(
    card,
    model=dataclasses.replace(card.model, generator="toonify_1024.safetensors"),
    loss=dataclasses.replace(card.loss, identity=1.0, w_norm=0.025),
    run=dataclasses.replace(
      card.run, steps=6_000, eval_every=1_000, save_every=1_000
    ),
  )
