"""Trains an encoder: `python train.py --config configs/toy.py --workdir DIR`."""

import sys

from encoder4editing_jax.cli import train

if __name__ == "__main__":
  sys.exit(train())
