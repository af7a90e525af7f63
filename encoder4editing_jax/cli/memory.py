"""Memory that was used stays with the process: its pages are faulted in once.

XLA:CPU asks for its buffers anew whenever a program runs. glibc gives large
ones back to the kernel as soon as they are free, and the next run touches fresh
pages, one fault each (docs/performance.md). For programs, not for the library,
as `cli.cache`.
"""

import ctypes
import os
import platform

# Of mallopt(3): heaps grow in large pieces, are never trimmed, and nothing is
# mapped beside them. What a thread other than the first asks for above 64 MB is
# mapped all the same: hence `run_in_place`.
SETTINGS = {
  "M_MMAP_MAX": (-4, 0),
  "M_TRIM_THRESHOLD": (-1, -1),
  "M_TOP_PAD": (-2, 64 << 20),
}


def keep_memory() -> bool:
  """Tells the allocator to keep what is free.

  To be called before NumPy and JAX are imported and ask for memory.

  Whoever sets one of the allocator's own variables (`MALLOC_..._`, or
  `glibc.malloc` in `GLIBC_TUNABLES`) decides himself: nothing is changed then.

  Returns:
    Whether it was told: not on systems without glibc.
  """
  names = [name for name in os.environ if name.startswith("MALLOC_")]
  if names or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
    return False
  if platform.libc_ver()[0] != "glibc":
    return False
  mallopt = ctypes.CDLL(None).mallopt
  return all(mallopt(*setting) == 1 for setting in SETTINGS.values())


def run_in_place() -> None:
  """Has XLA:CPU run programs in the thread that calls them.

  Its own thread would ask for the large buffers, and only the first thread's
  heap can keep them. To be called before JAX looks for devices.
  """
  import jax

  jax.config.update("jax_cpu_enable_async_dispatch", False)
