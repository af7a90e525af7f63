"""The strict settings under which every test runs."""

import os

# Before jax is imported: eight devices on one CPU.
flags = os.environ.get("XLA_FLAGS", "")
if "xla_force_host_platform_device_count" not in flags:
  os.environ["XLA_FLAGS"] = (
    f"{flags} --xla_force_host_platform_device_count=8".strip()
  )

import jax  # noqa: E402
import jaxtyping  # noqa: E402

jax.config.update("jax_default_matmul_precision", "highest")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Shapes in signatures are checked in the test run, and only there.
jaxtyping.install_import_hook("encoder4editing_jax", "beartype.beartype")
