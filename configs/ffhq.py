"""e4e on FFHQ, 1024 x 1024 generator (Tov et al. 2021, arXiv 2102.02766).

The published recipe: batch 8, 300,000 steps of Ranger at 1e-4, styles woken one
by one from step 20,000 on, 256 x 256 images; LPIPS 0.8, L2 1, identity 0.1,
adversarial 0.1. The body of the encoder begins with the weights of a face
recognition network.

Needs: the aligned FFHQ images in a folder, a 1024 generator file, and the
networks lpips_alex and arcface_ir_se50 (docs/weights.md).
Command:
  python train.py --config configs/ffhq.py --workdir runs/ffhq \
    --data.train FFHQ_FOLDER --model.generator ffhq_1024.safetensors
"""

from encoder4editing_jax.config import (
  Config,
  Data,
  Loss,
  Model,
  Optim,
  Progressive,
  Run,
  Weights,
)


def get_config() -> Config:
  """The run card."""
  return Config(
    data=Data(train="ffhq", eval_images=1000, workers=8),
    model=Model(generator="ffhq_1024.safetensors"),
    loss=Loss(lpips=0.8, identity=0.1),
    weights=Weights(backbone="arcface_ir_se50"),
    optim=Optim(batch_statistics="published"),
    progressive=Progressive(start=20_000, every=2_000),
    run=Run(steps=300_000),
  )
