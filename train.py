"""Trains: `python train.py --config configs/toy.py --workdir runs/toy`."""

import sys

from encoder4editing_jax.cli.train import train_command

if __name__ == "__main__":
  sys.exit(train_command())
