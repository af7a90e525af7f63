"""How long the page takes from a slider to the picture, on the server.

    python benchmarks/demo.py [--edits 200]

Needs the extra `demo`. Times an edit of a drawn face as the function behind
the slider, and the same through HTTP: a client in this process asks the server
that `e4e demo` starts, through the framework's queue, until it is told where
the PNG lies, and once more with fetching it. Each edit moves all sliders to
new places. Prints three rows of Markdown, in milliseconds.
"""

import argparse
import contextlib
import io
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from encoder4editing_jax import faceworld
from encoder4editing_jax.training.pictures import to_bytes

ROOT = Path(__file__).parents[1]
START = "import sys; from encoder4editing_jax.cli import main; sys.exit(main())"


def face() -> bytes:
  """A drawn face as a PNG."""
  pixels = to_bytes(np.asarray(faceworld.sample(seed=11, n=1)[0]))[0]
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, "png")
  return file.getvalue()


def times(edit: Callable[[list[float]], Any], n: int, sliders: int) -> str:
  """Median, 95th percentile and largest time of `n` edits, as cells."""
  rng = np.random.default_rng(0)
  found = []
  for k in range(n + 5):  # the first five warm up
    strengths = [float(s) for s in rng.uniform(-1, 1, sliders)]
    began = time.perf_counter()
    edit(strengths)
    if k >= 5:
      found.append(1e3 * (time.perf_counter() - began))
  cells = (np.median(found), np.percentile(found, 95), max(found))
  return " | ".join(f"{cell:.1f}" for cell in cells)


def in_process(n: int) -> str:
  """The function behind the slider."""
  from encoder4editing_jax.demo import session
  from encoder4editing_jax.demo.engine import Engine

  engine = Engine(faceworld.load_inverter(), faceworld.load_directions())
  engine.warm_up()
  visit = session.open_photo(session.Session(), face(), "face", engine.size)
  visit = session.find_codes(visit, engine, to_mix=False)
  names = list(engine.directions)

  def edit(strengths: list[float]) -> Any:
    pairs = dict(zip(names, strengths, strict=True))
    return engine.paint(session.codes(visit, engine, pairs))

  return times(edit, n, len(names))


@contextlib.contextmanager
def served() -> Iterator[str]:
  """The address of a server that is ready."""
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = str(probe.getsockname()[1])
  process = subprocess.Popen(
    [sys.executable, "-c", START, "demo", "--port", port],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    text=True,
  )
  try:
    for line in process.stdout or ():
      if "the page is at" in line:
        break
    yield f"http://127.0.0.1:{port}"
  finally:
    process.terminate()
    process.wait()


def through_http(n: int) -> dict[str, str]:
  """The same asked of a server, without and with fetching the picture."""
  os.environ["HF_HUB_OFFLINE"] = "1"
  from gradio_client import Client, handle_file

  with served() as address, tempfile.TemporaryDirectory() as folder:
    client = Client(address, verbose=False, download_files=False)
    path = Path(folder) / "face.png"
    path.write_bytes(face())
    client.predict(handle_file(path), api_name="/photo")
    client.predict("edit this face", api_name="/skip")
    sliders = len(faceworld.ATTRIBUTES)

    def edit(strengths: list[float]) -> Any:
      return client.predict(*strengths, "fine", 0.0, api_name="/edit")

    def fetched(strengths: list[float]) -> Any:
      found = edit(strengths)
      with urllib.request.urlopen(found["url"]) as answer:
        return answer.read()

    rows = {"HTTP, until the address": edit, "HTTP, with the PNG": fetched}
    return {name: times(f, n, sliders) for name, f in rows.items()}


def main() -> None:
  """The command."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--edits", type=int, default=200)
  edits = parser.parse_args().edits
  print("| slider to picture, ms | median | 95 % | largest |")
  print("|---|---|---|---|")
  print(f"| function | {in_process(edits)} |", flush=True)
  for name, cells in through_http(edits).items():
    print(f"| {name} | {cells} |")


if __name__ == "__main__":
  main()
