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
CODE = f"""
import resource, threading
from encoder4editing_jax.cli.memory import keep_memory
told = keep_memory()

def faults():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  b"x" * {SIZE}
  print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

def both():  # in a thread, as XLA does
  faults()
  faults()

print(int(told))
thread = threading.Thread(target=both)
thread.start()
thread.join()
"""


def run(**variables):
  """Whether the allocator was told, and the faults of two equal uses."""
  own = ("MALLOC_", "GLIBC_TUNABLES")
  kept = {k: v for k, v in os.environ.items() if not k.startswith(own)}
  told = subprocess.check_output(
    [sys.executable, "-c", CODE], env=kept | variables, text=True
  )
  return tuple(map(int, told.split()))


def test_memory_is_faulted_in_once():
  told, first, second = run()
  assert told
  assert first > PAGES / 2
  assert second < PAGES / 100


@pytest.mark.parametrize(
  "variables",
  [
    {"MALLOC_PERTURB_": "0"},
    {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"},
  ],
  ids=["variable", "tunable"],
)
def test_who_sets_the_allocator_decides(variables):
  told, first, second = run(**variables)
  assert not told
  assert min(first, second) > PAGES / 2


def test_variables_of_others_do_not_count():
  assert run(GLIBC_TUNABLES="glibc.rtld.nns=4")[0]
