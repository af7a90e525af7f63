"""What the page does, without the page: photos, points, codes, files."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import encoder4editing_jax as e4e
from encoder4editing_jax import align, cli, faceworld, inference
from encoder4editing_jax.data.images import UnreadableImage
from encoder4editing_jax.demo import serving, session
from encoder4editing_jax.demo.engine import Engine
from encoder4editing_jax.demo.session import Session

FIVE = ((22.0, 28.0), (42.0, 28.0), (32.0, 36.0), (25.0, 46.0), (39.0, 46.0))


def tiny_inverter():
  """An encoder that was never trained, for the shipped generator."""
  generator = faceworld.load_generator()
  encoder = e4e.Encoder4Editing(
    generator.n_styles,
    input_size=64,
    style_dim=generator.style_dim,
    num_layers=10,
    channels=(4, 4, 8, 8),
    rngs=nnx.Rngs(0),
  )
  return e4e.Inverter(encoder, generator)


@pytest.fixture(scope="module")
def engine():
  return Engine(tiny_inverter(), faceworld.load_directions())


def png(grey=90, size=(64, 64), kind="png"):
  pixels = np.full((*size, 3), grey, np.uint8)
  pixels[: size[0] // 2, :, 0] = 200
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, kind)
  return file.getvalue()


def opened(data=None, name="me.png"):
  return session.open_photo(Session(), data or png(), name, (64, 64))


def test_a_photo_is_inverted_as_the_command_does(engine, tmp_path):
  path = tmp_path / "me.jpg"
  path.write_bytes(png(size=(80, 100), kind="jpeg"))
  mine = session.find_codes(opened(path.read_bytes()), engine, to_mix=False)
  images = inference.open_images([path], (64, 64)).images
  theirs = inference.invert(tiny_inverter(), images, batch=1)
  np.testing.assert_allclose(mine.w_plus, theirs, atol=1e-5)


@pytest.mark.parametrize(
  ("data", "reason"),
  [
    (b"", "empty"),
    (b"only text, called .jpg", "not one of"),
    (png(kind="jpeg")[:400], "(?i)truncated"),
    (png(size=(9000, 12000)), "12000 x 9000 pixels are more than 64"),
  ],
  ids=["zero bytes", "text", "truncated", "huge"],
)
def test_bad_files_have_a_reason_and_change_nothing(data, reason):
  with pytest.raises(UnreadableImage, match=reason) as caught:
    session.open_photo(Session(), data, "x.jpg", (64, 64))
  assert "max_megapixels" not in str(caught.value)


@pytest.mark.parametrize(
  ("name", "stem"),
  [("../a b.png", "a_b"), ("<b>.jpg", "b"), ("", "photo"), ("%/", "photo")],
)
def test_names_of_files_are_tame(name, stem):
  assert opened(name=name).name == stem


@pytest.mark.parametrize("size", [(64, 64), (300, 200), (2000, 3000)])
def test_points_are_placed_where_they_are_shown(size):
  now = opened(png(size=size))
  shown = session.shown(now)
  assert 512 >= max(shown.shape) > 256 or max(shown.shape) == session.SIDE
  height, width = shown.shape[:2]
  now = session.place(now, width * 0.25, height * 0.75)
  marked = session.shown(now)
  assert not np.array_equal(marked, shown)
  rows, columns = np.nonzero((marked != shown).any(-1))
  assert abs(rows.mean() - height * 0.75) < 2
  assert abs(columns.mean() - width * 0.25) < 2
  assert session.take_back(now).points == ()


def test_five_points_are_the_crop_of_align(engine):
  now = opened()
  factor = len(session.shown(now)) // 64
  for x, y in FIVE:
    assert len(now.points) < 5
    now = session.place(now, (x + 0.5) * factor - 0.5, (y + 0.5) * factor - 0.5)
  found = session.find_codes(now, engine, to_mix=False)
  np.testing.assert_array_equal(found.face, align.align(now.photo, FIVE, 64))
  again = session.place(now, 3.0, 3.0)  # a sixth begins anew
  assert len(again.points) == 1


def test_points_that_are_no_face_are_refused(engine):
  now = opened()
  for _ in range(5):
    now = session.place(now, 9.0, 9.0)
  with pytest.raises(ValueError, match="span no square"):
    session.find_codes(now, engine, to_mix=False)
  whole = session.find_codes(session.without_points(now), engine, to_mix=False)
  assert whole.w_plus is not None


def test_nothing_is_edited_before_it_is_inverted(engine):
  with pytest.raises(ValueError, match="no photo yet"):
    session.find_codes(Session(), engine, to_mix=False)
  with pytest.raises(ValueError, match="begin with a photo"):
    session.codes(opened(), engine, {})


def test_sliders_move_and_mix(engine):
  now = session.find_codes(opened(), engine, to_mix=False)
  rest = session.codes(now, engine, {"smile": 0.0}, "fine", 1.0)
  np.testing.assert_array_equal(rest, now.w_plus)  # nobody to mix with
  moved = session.codes(now, engine, {"smile": 2.0})
  expected = 2 * engine.directions["smile"]
  np.testing.assert_allclose(moved[0, 3] - rest[0, 3], expected, atol=1e-5)
  second = session.open_photo(now, png(200), "you.png", engine.size)
  second = session.find_codes(second, engine, to_mix=True)
  assert second.w_plus is now.w_plus
  mixed = session.codes(second, engine, {}, "coarse", 1.0)
  np.testing.assert_array_equal(mixed[0, :4], second.other[0, :4])
  np.testing.assert_array_equal(mixed[0, 4:], now.w_plus[0, 4:])


def test_files_paint_the_same_picture_again(engine, tmp_path):
  now = session.find_codes(opened(), engine, to_mix=False)
  w_plus = session.codes(now, engine, {"age": 1.0})
  picture, codes = session.save(now, engine, w_plus, tmp_path)
  assert (picture.name, codes.name) == ("me_edited.png", "latents.npz")
  latents = inference.load_latents(codes, engine.generator)
  assert latents.names == ("me", "me_edited")
  np.testing.assert_array_equal(latents.w_plus[:1], now.w_plus)
  again = engine.paint(jnp.asarray(latents.w_plus[1:]))
  np.testing.assert_array_equal(np.asarray(Image.open(picture)), again)


def test_models_without_directions_get_components():
  engine = Engine(tiny_inverter())
  assert list(engine.directions)[:2] == ["pc0", "pc1"]
  engine.warm_up()


def test_directions_of_another_model_are_named():
  with pytest.raises(ValueError, match=r"'age' has shape \(512,\)"):
    Engine(tiny_inverter(), {"age": np.ones(512, np.float32)})


def test_a_port_in_use_is_one_line():
  import socket

  with socket.socket() as taken:
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    port = taken.getsockname()[1]
    with pytest.raises(OSError, match=rf"port {port} of 127.0.0.1 .* --port"):
      serving.check_port("127.0.0.1", port)


@pytest.mark.parametrize("port", [-1, 0, 70000])
def test_ports_that_are_none_are_one_line(port):
  with pytest.raises(OSError, match="another --port"):
    serving.check_port("127.0.0.1", port)


def test_a_missing_framework_is_one_line(monkeypatch, capsys):
  monkeypatch.setitem(__import__("sys").modules, "gradio", None)
  assert cli.main(["demo"]) == 2
  error = capsys.readouterr().err
  assert "encoder4editing_jax[demo]" in error
  assert error.count("\n") == 1
