"""What commands that compute here tell JAX, before it looks for devices."""

from encoder4editing_jax.cli.cache import keep_compiled
from encoder4editing_jax.cli.memory import run_in_place


def start_jax() -> None:
  """Keeps what is compiled on the disk, and runs programs in place."""
  keep_compiled()
  run_in_place()
