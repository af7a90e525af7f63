"""`python -m encoder4editing_jax.converters` is `e4e convert`."""

import sys

from encoder4editing_jax import cli

if __name__ == "__main__":
  sys.exit(cli.main(["convert", *sys.argv[1:]]))
