"""The strict settings under which every test runs."""

import os

# Before jax is imported: eight devices on one CPU, patient on a busy one, and
# code that is compiled quickly, since most of it runs once.
QUICK = (
  "--xla_backend_optimization_level=0",
  "--xla_llvm_disable_expensive_passes=true",
)
FLAGS = (
  *QUICK,
  "--xla_force_host_platform_device_count=8",
  "--xla_cpu_collective_call_warn_stuck_timeout_seconds=120",
  "--xla_cpu_collective_call_terminate_timeout_seconds=600",
)
os.environ["XLA_FLAGS"] = " ".join((os.environ.get("XLA_FLAGS", ""), *FLAGS))
# Tests measure and kill what compiles, and leave nobody's home full of it.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
# A name of the allocator's own, so that commands leave it alone: test processes
# run hundreds of programs, and are to give memory back.
os.environ["MALLOC_PERTURB_"] = "0"

import jax  # noqa: E402
import jaxtyping  # noqa: E402

jax.config.update("jax_default_matmul_precision", "highest")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Shapes in signatures are checked in the test run, and only there.
jaxtyping.install_import_hook("encoder4editing_jax", "beartype.beartype")
