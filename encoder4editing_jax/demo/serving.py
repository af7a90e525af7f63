"""The process behind the page: its port, its folder, its end."""

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from encoder4editing_jax import faceworld
from encoder4editing_jax.demo.engine import Engine
from encoder4editing_jax.demo.layout import STYLE
from encoder4editing_jax.demo.page import make_page
from encoder4editing_jax.training.pictures import to_bytes

MAX_FILE_SIZE = "40mb"
VISITORS = 200  # whose photos are kept, at 7 MB each
FONTS = ("system-ui", "sans-serif")  # of the visitor's machine


def require() -> None:
  """Raises ImportError, with the fix, unless the framework is installed."""
  # Read when it is imported: it would report what is used, and look on the
  # internet for newer versions.
  os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
  os.environ["HF_HUB_OFFLINE"] = "1"
  try:
    import gradio as gr
  except ImportError as error:
    raise ImportError(
      "e4e demo needs gradio: pip install 'encoder4editing_jax[demo]' "
      f"({error})."
    ) from None
  if int(gr.__version__.split(".")[0]) < 6:
    raise ImportError(
      f"e4e demo needs gradio 6, this is {gr.__version__}: pip install "
      "'encoder4editing_jax[demo]'."
    )


def check_port(host: str, port: int) -> None:
  """Raises OSError unless the address can be bound."""
  try:
    if not 0 < port < 65536:
      raise OverflowError("ports are from 1 to 65535")
    family, kind, _, _, address = socket.getaddrinfo(
      host, port, type=socket.SOCK_STREAM
    )[0]
    with socket.socket(family, kind) as probe:
      probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
      probe.bind(address)
  except (OSError, OverflowError) as error:
    reason = getattr(error, "strerror", None) or error
    raise OSError(
      f"port {port} of {host} cannot be used ({reason}); pass another --port "
      "or --host."
    ) from None


def write_examples(folder: Path, n: int = 8) -> list[tuple[str, str]]:
  """Drawn faces as files, `(path, name)`, for models of drawn faces."""
  faces = to_bytes(np.asarray(faceworld.sample(seed=7, n=n)[0]))
  found = []
  for k, pixels in enumerate(faces, 1):
    path = folder / f"face{k}.png"
    Image.fromarray(pixels).save(path)
    found.append((str(path), ""))
  return found


def serve(
  make_engine: Callable[[], Engine],
  host: str,
  port: int,
  reach: float,
  drawn: bool,
) -> None:
  """Serves the page until the process is interrupted.

  Args:
    make_engine: opens the model; called when the port is known to be free.
    host: address to listen at.
    port: of it.
    reach: where sliders end.
    drawn: offer drawn faces as examples.

  Raises:
    ImportError: gradio is missing.
    OSError: the port cannot be used.
    ValueError: as `make_engine`.
  """
  require()
  check_port(host, port)
  with tempfile.TemporaryDirectory(prefix="e4e-demo-") as folder:
    # Uploads and pictures lie there, and go with it.
    os.environ["GRADIO_TEMP_DIR"] = tempfile.tempdir = folder
    print("compiling ...", flush=True)
    engine = make_engine()
    engine.warm_up()
    examples = write_examples(Path(folder)) if drawn else []
    page = make_page(engine, reach, examples)
    try:
      _run(page, host, port)
    finally:
      tempfile.tempdir = None


def _run(page: Any, host: str, port: int) -> None:
  import gradio as gr

  signal.signal(signal.SIGTERM, signal.default_int_handler)
  page.queue(default_concurrency_limit=2).launch(
    server_name=host,
    server_port=port,
    share=False,
    quiet=True,
    prevent_thread_lock=True,
    ssr_mode=False,
    max_file_size=MAX_FILE_SIZE,
    state_session_capacity=VISITORS,
    footer_links=[],
    css=STYLE,
    theme=gr.themes.Default(primary_hue="indigo", font=FONTS, font_mono=FONTS),
  )
  print(f"the page is at http://{host}:{port} (Ctrl-C ends it)", flush=True)
  try:
    threading.Event().wait()
  except KeyboardInterrupt:
    print("ended", flush=True)
  finally:
    page.close(verbose=False)
