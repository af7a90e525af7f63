"""What XLA compiles is kept on the disk, so that commands start sooner.

JAX's own persistent cache, switched on for programs, not for the library: who
imports this package decides for himself.
"""

import hashlib
import os
import platform
import sys
from pathlib import Path

import jax

SHORTEST = 0.1
"""Seconds; what compiles faster is compiled anew. JAX's own is 1, but a start
of the toy run compiles some hundred small functions."""


def keep_compiled() -> Path | None:
  """Switches JAX's persistent compilation cache on.

  The folder is that of `JAX_COMPILATION_CACHE_DIR`, or else
  `encoder4editing_jax/compiled/MACHINE` under `XDG_CACHE_HOME` (`~/.cache`).
  `JAX_ENABLE_COMPILATION_CACHE=false` leaves it off. A folder that cannot be
  written is a warning.

  Returns:
    The folder; None without a cache.
  """
  if not jax.config.jax_enable_compilation_cache:
    return None
  named = jax.config.jax_compilation_cache_dir
  folder = Path(named) if named else _folder()
  if named and "://" in named:  # a bucket: JAX's business
    return folder
  try:
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
      raise PermissionError("it is read-only")
  except OSError as error:
    jax.config.update("jax_enable_compilation_cache", False)
    print(
      f"note: what is compiled is not kept in {folder} "
      f"({error.strerror or error}); name another folder by "
      "JAX_COMPILATION_CACHE_DIR, or set JAX_ENABLE_COMPILATION_CACHE=false.",
      file=sys.stderr,
    )
    return None
  jax.config.update("jax_compilation_cache_dir", str(folder))
  if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
    jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST)
  return folder


def _folder() -> Path:
  home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  compiled = Path(home).expanduser() / "encoder4editing_jax" / "compiled"
  return compiled / _machine()


def _machine() -> str:
  """Names the processor: code for one may stop another, and homes are shared.

  JAX's keys tell accelerators apart.
  """
  told = platform.machine() + platform.processor()
  try:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    lines = []
  names = ("model name", "flags", "Features", "CPU part")
  told += "".join(sorted({x for x in lines if x.startswith(names)}))
  return hashlib.sha256(told.encode()).hexdigest()[:12]
