"""Commands keep memory that is free; whoever set the allocator is obeyed."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
  platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told"
)
SIZE = 256 << 20
PAGES = SIZE // 4096
SMALL = 32 << 20  # what any thread's heap can keep
CODE = f"""
import resource, threading
from encoder4editing_jax.cli.memory import keep_memory
told = keep_memory()

def faults(size):
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  b"x" * size
  print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

def both(size):
  faults(size)
  faults(size)

print(int(told))
both({SIZE})
thread = threading.Thread(target=both, args=({SMALL},))
thread.start()
thread.join()
"""


def run(**variables):
  """Whether the allocator was told, and the faults of two equal uses in the
  first thread, and of two in another."""
  own = ("MALLOC_", "GLIBC_TUNABLES")
  kept = {k: v for k, v in os.environ.items() if not k.startswith(own)}
  told = subprocess.check_output(
    [sys.executable, "-c", CODE], env=kept | variables, text=True
  )
  return tuple(map(int, told.split()))


def test_memory_is_faulted_in_once():
  told, first, second, in_thread, again = run()
  assert told
  assert first > PAGES / 2
  assert second < PAGES / 100
  assert in_thread > SMALL / 4096 / 2
  assert again < SMALL / 4096 / 100


@pytest.mark.parametrize(
  "variables",
  [
    {"MALLOC_PERTURB_": "0"},
    {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"},
  ],
  ids=["variable", "tunable"],
)
def test_who_sets_the_allocator_decides(variables):
  told, *found = run(**variables)
  assert not told
  assert min(found[:2]) > PAGES / 2


def test_variables_of_others_do_not_count():
  assert run(GLIBC_TUNABLES="glibc.rtld.nns=4")[0]


PROGRAM = """
import resource
from encoder4editing_jax.cli.memory import keep_memory, run_in_place
keep_memory()
run_in_place()
import jax, jax.numpy as jnp

def faults():
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def function(x):
  for _ in range(3):
    x = jax.lax.optimization_barrier(jnp.sin(x))
  return jax.lax.psum(x, "devices")

x = jnp.ones((1, 4096, 4096))  # 64 MiB
run = jax.pmap(function, axis_name="devices")
found = []
for _ in range(8):
  before = faults()
  jax.block_until_ready(run(x))
  found.append(faults() - before)
print(min(found))
"""


def test_programs_use_the_same_memory_again():
  own = ("MALLOC_", "GLIBC_TUNABLES", "XLA_FLAGS")
  kept = {k: v for k, v in os.environ.items() if not k.startswith(own)}
  told = subprocess.check_output(
    [sys.executable, "-c", PROGRAM], env=kept | {"JAX_PLATFORMS": "cpu"}
  )
  assert int(told) < (64 << 20) / 4096 / 2  # not even half of its result
