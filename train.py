"""Trains: `python train.py --config configs/toy.py --workdir runs/toy`."""

import sys

from encoder4editing_jax.cli.memory import keep_memory

if __name__ == "__main__":
  keep_memory()
  from encoder4editing_jax.cli.train import train_command

  sys.exit(train_command())
