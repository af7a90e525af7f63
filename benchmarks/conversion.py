"""Time and memory of opening and converting a full e4e checkpoint.

    python benchmarks/conversion.py [--folder DIR]

Writes a checkpoint with the tensors of `e4e_ffhq_encode.pt` (792, 1.2 GB; the
values are drawn), once as a zip file and once as a stream of the old kind, and
opens and converts each in a process of its own. "Private" is memory that no
file stands behind (RssAnon), sampled every 5 ms; what the mapped file takes can
be reclaimed at any time. Prints one row of Markdown for each.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = {"zip": "e4e_1024.pt", "stream": "e4e_1024.legacy.pt"}


def write(folder: Path) -> None:
  """The checkpoint in both containers."""
  sys.path.insert(0, str(ROOT / "tests"))
  import torch_files
  from goldens.recipe import recipe_state_dict, recipe_tensor

  from encoder4editing_jax import converters

  checkpoint = {
    "state_dict": recipe_state_dict("e4e_1024"),
    "latent_avg": recipe_tensor("latent_avg", (18, 512)),
    "opts": {"encoder_type": "Encoder4Editing", "stylegan_size": 1024},
  }
  converters.write(checkpoint, folder / FILES["zip"])
  state = checkpoint["state_dict"]
  checkpoint["state_dict"] = {
    name: torch_files.dense(value, str(i))
    for i, (name, value) in enumerate(state.items())
  }
  checkpoint["latent_avg"] = torch_files.dense(checkpoint["latent_avg"], "avg")
  data = torch_files.stream_file(checkpoint)
  (folder / FILES["stream"]).write_bytes(data)


def private() -> int:
  """Bytes of this process that no file stands behind."""
  for line in Path("/proc/self/status").read_text().splitlines():
    if line.startswith("RssAnon"):
      return int(line.split()[1]) << 10
  raise OSError("/proc/self/status does not tell RssAnon")


class Peak(threading.Thread):
  """The largest `private()` while it runs."""

  def __init__(self) -> None:
    super().__init__(daemon=True)
    self.bytes, self._over = 0, threading.Event()

  def run(self) -> None:
    while not self._over.wait(0.005):
      self.bytes = max(self.bytes, private())

  def stop(self) -> int:
    self._over.set()
    self.join()
    return max(self.bytes, private())


def measure(path: str) -> dict[str, float]:
  """Seconds and bytes of one file, in this process."""
  import jax
  from flax import nnx

  from encoder4editing_jax import converters

  jax.numpy.zeros(1).block_until_ready()  # JAX's own start is not the point
  began, before = time.perf_counter(), private()
  checkpoint = converters.read(path)
  opened, mapped = time.perf_counter(), private()
  peak = Peak()
  peak.start()
  inverter = converters.to_inverter(checkpoint)
  jax.block_until_ready(nnx.state(inverter))
  done, largest = time.perf_counter(), peak.stop()
  result = sum(x.nbytes for x in jax.tree.leaves(nnx.state(inverter)))
  return {
    "open_s": opened - began,
    "open_mb": (mapped - before) / 1e6,
    "convert_s": done - opened,
    "above_mb": (largest - before - result) / 1e6,
    "result_mb": result / 1e6,
  }


def main() -> None:
  """The command."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--folder", type=Path, help="keep the files here")
  parser.add_argument("--one", help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.one:
    print(json.dumps(measure(options.one)))
    return
  print("| file | open s | MB | convert s | result MB | private MB above it |")
  print("|---|---|---|---|---|---|")
  with tempfile.TemporaryDirectory() as temporary:
    folder = options.folder or Path(temporary)
    if not all((folder / name).exists() for name in FILES.values()):
      write(folder)
    for kind, name in FILES.items():
      command = [sys.executable, __file__, "--one", str(folder / name)]
      out = subprocess.run(command, check=True, capture_output=True, text=True)
      found = json.loads(out.stdout)
      print(
        f"| {kind} | {found['open_s']:.2f} | {found['open_mb']:.0f} | "
        f"{found['convert_s']:.1f} | {found['result_mb']:.0f} | "
        f"{found['above_mb']:.0f} |"
      )


if __name__ == "__main__":
  main()
