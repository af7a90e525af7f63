"""Reads mutated checkpoints: `python tests/fuzz_reader.py NUMBER [SEED]`.

Prints how many were refused; any other error than CheckpointError is one of
the reader, and ends the run with the number of the file.
"""

import collections
import random
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch_files as files

from encoder4editing_jax.converters import reader
from encoder4editing_jax.converters.limits import CheckpointError

ARRAY = np.arange(30, dtype=np.float32).reshape(6, 5)
WORDS = [struct.pack("<I", n) for n in (0, 2**31 - 1, 2**32 - 1)]


def originals():
  """One small file of each kind."""
  value = {
    "state_dict": collections.OrderedDict(a=files.dense(ARRAY, "0")),
    "opts": {"size": 256, "names": ["x", None, 1.5], "pair": (1, 2)},
  }
  return [
    files.zip_file(value),
    files.stream_file(value),
    files.tar_file({"a": ARRAY}),
    files.nvidia_file({"a": ARRAY}),
  ]


def mutated(data, chance):
  """A copy with one to four changes."""
  data = bytearray(data)
  for _ in range(chance.randint(1, 4)):
    at = chance.randrange(len(data))
    kind = chance.randrange(4)
    if kind == 0:
      data[at] = chance.randrange(256)
    elif kind == 1:
      data[at : at + 4] = chance.choice(WORDS)
    elif kind == 2:
      del data[at : at + chance.randint(1, 9)]
    else:
      data[at:at] = chance.randbytes(3)
  return bytes(data)


def look(found, depth=0):
  """Asks for every tensor."""
  if depth < 6 and isinstance(found, collections.abc.Mapping):
    for value in found.values():
      look(value, depth + 1)


def main(n, seed=0):
  """Returns how many of n files were refused."""
  chance, whole, refused = random.Random(seed), originals(), 0
  with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "file.pt")
    for i in range(n):
      path.write_bytes(mutated(whole[i % len(whole)], chance))
      try:
        look(reader.read(path))
      except CheckpointError:
        refused += 1
      except Exception as error:
        raise AssertionError(f"file {i} of seed {seed}") from error
  return refused


if __name__ == "__main__":
  print(main(*map(int, sys.argv[1:])))
