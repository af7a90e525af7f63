"""The page in a real browser, against the server that `e4e demo` starts.

With E4E_SCREENSHOTS=FOLDER it leaves demo.png and demo_phone.png there.
"""

import io
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from page_driver import (
  CHROMIUM,
  FLAGS,
  SMILE,
  START,
  changed,
  face_file,
  inverted,
  message,
  picture,
  screenshot,
  served,
  slide,
  source,
  upload,
)
from PIL import Image
from test_architecture import ROOT

from encoder4editing_jax import faceworld, inference

pytest.importorskip(
  "gradio",
  minversion="6.0",
  reason="gradio 6 is not installed; `pip install -e '.[demo]'` adds it",
)
playwright = pytest.importorskip(
  "playwright.sync_api",
  reason="playwright is not installed; `pip install playwright` adds it",
)
if not Path(CHROMIUM).exists():
  pytest.skip(
    f"THE PAGE IS NOT TESTED: {CHROMIUM} is missing; `apt-get install "
    "chromium` adds it",
    allow_module_level=True,
  )


@pytest.fixture(scope="module")
def server(tmp_path_factory):
  log = tmp_path_factory.mktemp("server") / "log"
  with served(log) as (address, _):
    yield address
  assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture(scope="module")
def browser():
  with playwright.sync_playwright() as driver:
    chromium = driver.chromium.launch(
      executable_path=CHROMIUM, args=list(FLAGS)
    )
    yield chromium
    chromium.close()


@pytest.fixture
def visit(browser, server):
  """Opens the page as another visitor, at a size of the window."""
  contexts = []

  def opened(width=1180, height=900):
    context = browser.new_context(viewport={"width": width, "height": height})
    contexts.append(context)
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(server)
    page.locator("#examples button").first.wait_for()
    return page

  yield opened
  for context in contexts:
    context.close()


def test_upload_invert_slide_and_download(visit, tmp_path):
  page = visit()
  inverted(page)
  plain = picture(page, "after")
  np.testing.assert_array_equal(plain, picture(page, "inverted"))
  happy = slide(page, SMILE)
  assert np.abs(happy - plain.astype(int)).max() > 60
  screenshot(page, "demo.png", whole=True)
  page.locator("#make").click()
  names = {}
  links = page.locator("#files a[download]")
  links.nth(1).wait_for()
  for k in range(links.count()):
    with page.expect_download() as caught:
      links.nth(k).click()
    path = tmp_path / caught.value.suggested_filename
    caught.value.save_as(path)
    names[path.name] = path
  assert set(names) == {"face_edited.png", "latents.npz"}
  saved = np.asarray(Image.open(names["face_edited.png"]))
  np.testing.assert_array_equal(saved, happy)
  generator = faceworld.load_generator()
  latents = inference.load_latents(names["latents.npz"], generator)
  moved = latents.w_plus[1] - latents.w_plus[0]
  smile = np.asarray(faceworld.load_directions()["smile"])
  np.testing.assert_allclose(moved, 3 * np.tile(smile, (10, 1)), atol=1e-4)
  page.locator("#reset").click()
  page.wait_for_function(
    "document.querySelector('#slider-2 input[type=range]').value == 0"
  )


def test_nothing_comes_from_elsewhere(visit, server):
  page = visit()
  inverted(page)
  local = (server, "data:", "blob:")
  assert [url for url in page.asked if not url.startswith(local)] == []


def test_five_points_align(visit):
  page = visit()
  upload(page, face_file())
  message(page, "click the left eye")
  shown = page.locator("#photo img")
  shown.scroll_into_view_if_needed()
  points = ((0.36, 0.5), (0.62, 0.5), (0.5, 0.6), (0.4, 0.72), (0.6, 0.72))
  texts = ("the right eye", "the tip", "the left corner", "the right corner")
  for (x, y), text in zip(points, (*texts, "All points"), strict=True):
    box = shown.bounding_box()
    place = {"x": x * box["width"], "y": y * box["height"]}
    shown.click(position=place)
    message(page, text)
  page.locator("#align").click()
  message(page, "Move the sliders")
  page.locator("#before img").wait_for()
  cropped = picture(page, "before")
  assert cropped.shape == (64, 64, 3)
  whole = np.asarray(Image.open(io.BytesIO(face_file())).convert("RGB"))
  assert np.abs(cropped - whole.astype(int)).mean() > 2


def huge():
  file = io.BytesIO()
  Image.new("1", (12000, 9000)).save(file, "png")
  return file.getvalue()


@pytest.mark.parametrize(
  ("data", "name", "text"),
  [
    (lambda: b"no picture", "text.jpg", "not one of"),
    (lambda: b"", "empty.jpg", "empty"),
    (lambda: face_file(kind="jpeg")[:600], "cut.jpg", "does not work"),
    (huge, "huge.png", "12000 x 9000 pixels"),
  ],
  ids=["text", "zero bytes", "truncated", "huge"],
)
def test_bad_uploads_have_a_message_and_the_visit_goes_on(
  data, name, text, visit
):
  page = visit()
  inverted(page)
  upload(page, data(), name, "image/jpeg")
  message(page, text)
  slide(page, SMILE)  # the face is still there
  upload(page, face_file(12))
  message(page, "click the left eye")


def test_other_kinds_of_files_are_refused(visit):
  page = visit()
  upload(page, b"words", "words.txt", "text/plain")
  page.get_by_text(
    re.compile("invalid file type", re.IGNORECASE)
  ).first.wait_for()
  inverted(page)


def test_two_visitors_do_not_share_codes(visit):
  first, second = visit(), visit()
  inverted(first, face_file(21))
  alone = slide(first, SMILE)
  slide(first, SMILE, "Home")
  inverted(second, face_file(22))
  other = slide(second, SMILE)
  assert not np.array_equal(other, alone)
  np.testing.assert_array_equal(slide(first, SMILE), alone)


def test_examples_and_mixing(visit):
  page = visit()
  page.locator("#examples button").nth(1).click()
  message(page, "Move the sliders")
  page.locator("#after img").wait_for()
  plain, before = picture(page, "after"), source(page, "after")
  page.get_by_label("mix it into the face").check()
  page.locator("#examples button").nth(2).click()
  message(page, "mixed in now")
  mixed = changed(page, "after", before)
  assert not np.array_equal(mixed, plain)
  np.testing.assert_array_equal(picture(page, "inverted"), plain)


def test_a_photo_is_taken(visit):
  page = visit()
  page.get_by_text("Take a photo").click()
  page.locator("#camera button:visible").first.click()
  page.wait_for_function(
    "document.querySelector('#camera video')?.currentTime > 0"
  )
  page.get_by_label("capture photo").click()
  message(page, "click the left eye")
  page.locator("#skip").click()
  message(page, "Move the sliders")


def test_it_fits_a_phone(visit):
  page = visit(390, 844)
  inverted(page)
  slide(page, SMILE)
  wide = page.evaluate("document.documentElement.scrollWidth")
  assert wide <= 390
  page.locator("#slider-13").scroll_into_view_if_needed()
  page.wait_for_timeout(500)
  top = page.locator("#faces").bounding_box()["y"]
  assert 0 <= top < 844  # what edits do stays in sight, before all else
  hit = "([x, y]) => !!document.elementFromPoint(x, y).closest('#faces')"
  points = [[x, y] for x in range(40, 350, 10) for y in range(50, 140, 10)]
  assert all(page.evaluate(hit, point) for point in points)
  screenshot(page, "demo_phone.png", whole=False)


def test_it_ends_by_ctrl_c_and_names_a_port_in_use(tmp_path):
  with served(tmp_path / "log") as (address, process):
    port = address.rpartition(":")[2]
    command = [sys.executable, "-c", START, "demo", "--port", port]
    second = subprocess.run(
      command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert second.returncode == 2
    assert f"port {port}" in second.stderr.splitlines()[-1]
    assert "Traceback" not in second.stderr
    folders = set(Path("/tmp").glob("e4e-demo-*"))
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
  text = (tmp_path / "log").read_text()
  assert text.rstrip().endswith("ended")
  assert "Traceback" not in text
  assert folders - set(Path("/tmp").glob("e4e-demo-*"))  # its own went
