"""e4e on FFHQ, 1024 x 1024 generator (Tov et al. 2021, arXiv 2102.02766).

The published recipe: batch 8, 300,000 steps of Ranger at 1e-4, styles woken one
by one from step 20,000 on, adversarial weight 0.1, L2 weight 1, 256 x 256
images. What is not here yet: LPIPS and identity losses, initialisation of the
backbone from face recognition weights.

Needs: the aligned FFHQ images in a folder and a 1024 generator file.
Command:
  python train.py --config configs/ffhq.py --workdir runs/ffhq \
    --data.train FFHQ_FOLDER --model.generator ffhq_1024.safetensors
"""

from encoder4editing_jax.config import Config, Data, Model, Progressive, Run


def get_config() -> Config:
  """The run card."""
  return Config(
    data=Data(train="ffhq", eval_images=1000, workers=8),
    model=Model(generator="ffhq_1024.safetensors"),
    progressive=Progressive(start=20_000, every=2_000),
    run=Run(steps=300_000),
  )
