"""Helpers to drive the page of `e4e demo` in Chromium."""

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from test_architecture import ROOT

from encoder4editing_jax import faceworld
from encoder4editing_jax.training.pictures import to_bytes

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
)
START = "import sys; from encoder4editing_jax.cli import main; sys.exit(main())"
SMILE = faceworld.ATTRIBUTES.index("smile")


def free_port():
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def _hears_ctrl_c() -> None:
  """Children of a shell's background jobs are born deaf to it."""
  signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def served(log, *flags):
  """A server of its own; yields its address and process."""
  port = str(free_port())
  command = [sys.executable, "-c", START, "demo", "--port", port, *flags]
  environment = os.environ | {"XLA_FLAGS": "", "PYTHONUNBUFFERED": "1"}
  with log.open("w") as file:
    process = subprocess.Popen(
      command,
      cwd=ROOT,
      env=environment,
      stdout=file,
      stderr=file,
      preexec_fn=_hears_ctrl_c,
    )
  try:
    for _ in range(600):
      if "the page is at" in log.read_text() or process.poll() is not None:
        break
      time.sleep(0.2)
    assert "the page is at" in log.read_text(), log.read_text()
    yield f"http://127.0.0.1:{port}", process
  finally:
    process.terminate()
    process.wait(30)


def face_file(seed=11, kind="png"):
  pixels = to_bytes(np.asarray(faceworld.sample(seed=seed, n=1)[0]))[0]
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, kind)
  return file.getvalue()


def upload(page, data, name="face.png", kind="image/png"):
  page.locator("#upload input[type=file]").set_input_files(
    [{"name": name, "mimeType": kind, "buffer": data}]
  )


def message(page, text):
  page.locator("#message").get_by_text(text).first.wait_for()


def source(page, place):
  return page.locator(f"#{place} img").get_attribute("src")


def picture(page, place):
  data = page.request.get(source(page, place)).body()
  return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def changed(page, place, before):
  """Waits for another picture, and returns it."""
  page.wait_for_function(
    "([place, before]) => document.querySelector(place + ' img')?.src "
    "&& document.querySelector(place + ' img').src != before",
    arg=[f"#{place}", before],
  )
  return picture(page, place)


def inverted(page, data=None):
  upload(page, data or face_file())
  message(page, "click the left eye")
  page.locator("#skip").click()
  message(page, "Move the sliders")
  page.locator("#after img").wait_for()


def slide(page, k, key="End"):
  before = source(page, "after")
  slider = page.locator(f"#slider-{k} input[type=range]")
  slider.focus()
  slider.press(key)
  return changed(page, "after", before)


def screenshot(page, name, whole):
  if folder := os.environ.get("E4E_SCREENSHOTS"):
    page.evaluate("document.activeElement.blur()")
    if whole:
      page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(500)
    shot = Image.open(io.BytesIO(page.screenshot(full_page=whole)))
    shot.convert("RGB").save(Path(folder) / name, optimize=True)
