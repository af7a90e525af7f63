"""`e4e align` and `e4e unalign`: photos to crops and back."""

import io
import json
import subprocess
import sys
import types

import numpy as np
import pytest
from PIL import Image, ImageCms

from encoder4editing_jax import align, cli, faceworld, landmarks
from encoder4editing_jax.faceworld import scene

FIVE = np.array([[78, 92], [140, 100], [104, 126], [80, 152], [126, 158]])
POINTS = FIVE + 90.0  # of a face that lies inside of `smooth`


def smooth(h=380, w=340):
  """A picture without fine detail, so that resampling changes little."""
  y, x = np.mgrid[:h, :w] / 40
  waves = [np.sin(x + 0.5 * c) * np.cos(y - 0.3 * c) for c in range(3)]
  return np.uint8(127.5 + 100 * np.stack(waves, -1))


def pixels(path):
  return np.asarray(Image.open(path))


def run(*words):
  """The command in a process of its own; status, output, errors."""
  code = (
    "import sys; from encoder4editing_jax.cli import main; sys.exit(main())"
  )
  done = subprocess.run(
    [sys.executable, "-c", code, *map(str, words)],
    capture_output=True,
    text=True,
    check=False,
    env={"JAX_PLATFORMS": "cpu", "PATH": ""},
  )
  return done.returncode, done.stdout, done.stderr


@pytest.fixture
def photo(tmp_path):
  """A folder with one photo of two faces, and a file of their landmarks."""
  folder = tmp_path / "photos"
  folder.mkdir()
  Image.fromarray(smooth()).save(folder / "a.png")
  faces = [(POINTS / 2 + 20).tolist(), POINTS.tolist()]
  (tmp_path / "points.json").write_text(json.dumps({"a.png": faces}))
  return folder


def call(*words):
  return cli.main([*map(str, words)])


def aligned(photo, *more, out="crops"):
  folder = photo.parent
  given = ("--landmarks", folder / "points.json")
  if "--detector" in more or "--landmarks" in more:
    given = ()
  out = folder / out
  return call("align", photo, *given, "--out", out, *more), out


def within(points, shape):
  """Where a crop lies in a picture."""
  y, x = np.indices(shape[:2])
  place = align.to_crop(np.stack([x.ravel(), y.ravel()], 1), points, 1) + 0.5
  return ((place > 0) & (place < 1)).all(1).reshape(shape[:2])


def test_photos_that_share_a_name_keep_their_endings(photo):
  Image.fromarray(255 - smooth()).save(photo / "a.webp", lossless=True)
  faces = json.dumps({name: POINTS.tolist() for name in ("a.png", "a.webp")})
  (photo.parent / "points.json").write_text(faces)
  status, crops = aligned(photo)
  made = sorted(path.name for path in crops.iterdir())
  names = ("a.png", "a.webp")
  assert status == 0
  assert made == [f"{name}.{end}" for name in names for end in ("json", "png")]
  assert aligned(photo, "--landmarks", crops, out="again")[0] == 0
  back = photo.parent / "back"
  assert call("unalign", crops, "--out", back) == 0
  for name in names:
    far = np.abs(
      pixels(back / f"{name}.png") - np.float32(pixels(photo / name))
    )
    assert far.max() < 8


def check_pasted(before, after):
  """Much has changed in the crops of the drawn faces, and nothing elsewhere."""
  inside = np.zeros(before.shape[:2], bool)
  for points in scene.draw_scene().landmarks:
    inside |= within(points, before.shape)
  changed = (before != after).any(-1)
  assert not changed[~inside].any()
  assert changed[inside].mean() > 0.5


def test_drawn_faces_are_cut_out_and_pasted_back(tmp_path):
  """In processes of their own, as a user types it."""
  crops, back = tmp_path / "crops", tmp_path / "back"
  status, out, err = run("align", "--demo", "--out", crops, "--json")
  assert (status, err) == (0, "")
  names = [f"group_{k}.png" for k in range(3)]
  assert json.loads(out)["written"] == [str(crops / name) for name in names]
  photos = tmp_path / "crops_photos"
  before = pixels(photos / "group.png")
  np.testing.assert_allclose(before, scene.draw_scene().image, atol=1)
  edited = tmp_path / "edited"
  edited.mkdir()
  for name in names:  # as `e4e edit` names them, and of another size
    Image.fromarray(255 - pixels(crops / name)).resize((64, 64)).save(
      edited / name
    )
  status, out, err = run("unalign", edited, "--sidecars", crops, "--out", back)
  assert (status, err) == (0, "")
  assert out == f"1 photo in {back}\n"
  assert [path.name for path in back.iterdir()] == ["group.png"]
  check_pasted(before, pixels(back / "group.png"))
  # what was drawn can be given again, as any user's photos and landmarks
  again = tmp_path / "again"
  given = ("--landmarks", photos / "landmarks.json", "--face", "all")
  assert call("align", photos, *given, "--out", again) == 0
  for name in names:
    np.testing.assert_array_equal(pixels(again / name), pixels(crops / name))


@pytest.mark.slow
def test_drawn_faces_go_all_the_way_without_downloads(tmp_path):
  """Cut out, inverted, made to smile, and pasted back."""
  crops, inverted = tmp_path / "crops", tmp_path / "inverted"
  assert call("align", "--demo", "--out", crops) == 0
  assert call("invert", crops, "--demo", "--out", inverted) == 0
  happy, back = tmp_path / "happy", tmp_path / "back"
  edit = ("--edit", "smile=1.5", "--out", happy)
  assert call("edit", inverted / "latents.npz", "--demo", *edit) == 0
  assert call("unalign", happy, "--sidecars", crops, "--out", back) == 0
  before = pixels(tmp_path / "crops_photos" / "group.png")
  after = pixels(back / "group.png")
  check_pasted(before, after)
  assert np.abs(np.int16(before) - after).mean() < 8  # they are still the same


def test_crops_of_drawn_faces_are_their_frames():
  drawn = scene.draw_scene()
  faces = np.asarray(faceworld.sample(7, len(scene.PLACES), 256)[0])
  for face, points in zip(faces, drawn.landmarks, strict=True):
    crop = align.align(drawn.image, points, 256)
    error = np.abs(crop / 127.5 - 1 - face)[8:-8, 8:-8]
    assert error.mean() < 0.03


def test_the_crop_and_its_record(photo):
  status, out = aligned(photo, "--size", 96)
  assert status == 0
  assert {path.name for path in out.iterdir()} == {"a.png", "a.json"}
  expected = align.align(smooth(), POINTS, 96)  # of the larger face
  np.testing.assert_array_equal(pixels(out / "a.png"), expected)
  record = json.loads((out / "a.json").read_text())
  assert record["source"] == str(photo / "a.png")
  assert record["source_size"] == [340, 380]
  assert (record["size"], record["warp_size"], record["face"]) == (96, 96, 0)
  np.testing.assert_array_equal(record["landmarks"], POINTS)
  # a record says where the landmarks are: the same crop can be made from it
  more = ("--landmarks", out, "--size", 96)
  assert aligned(photo, *more, out="again")[0] == 0
  again = pixels(photo.parent / "again" / "a.png")
  np.testing.assert_array_equal(again, expected)


def test_faces_are_chosen_and_counted_from_the_largest(photo, capsys):
  status, out = aligned(photo, "--face", "all", "--warp_size", 512)
  assert status == 0
  names = {path.name for path in out.iterdir()}
  assert names == {"a_0.png", "a_0.json", "a_1.png", "a_1.json"}
  expected = align.align(smooth(), POINTS / 2 + 20, 256, 512)
  np.testing.assert_array_equal(pixels(out / "a_1.png"), expected)
  assert aligned(photo, "--face", "1", out="small")[0] == 0
  small = align.align(smooth(), POINTS / 2 + 20, 256)
  np.testing.assert_array_equal(pixels(photo.parent / "small" / "a.png"), small)
  capsys.readouterr()
  status, out = aligned(photo, "--face", "2", "--json", out="none")
  assert status == 1
  captured = capsys.readouterr()
  found = json.loads(captured.out)
  assert found["written"] == []
  (said,) = found["failed"].values()
  assert said == "no face 2 was found: there are 2, and the largest is 0"
  assert "a.png: no face 2" in captured.err
  assert not out.exists()


def test_unedited_crops_give_the_photo_back(photo):
  _, out = aligned(photo, "--face", "all", "--size", 128)
  back = photo.parent / "back"
  assert call("unalign", out, "--out", back) == 0
  difference = np.abs(np.int16(pixels(back / "a.png")) - smooth())
  assert 0 < difference.max() <= 4
  inside = within(POINTS, smooth().shape)
  inside |= within(POINTS / 2 + 20, smooth().shape)
  assert 0 < inside.sum() < inside.size
  assert not difference[~inside].any()


def test_what_fails_is_named_and_the_rest_is_done(photo, capsys):
  (photo / "empty.jpg").write_bytes(b"")
  (photo / "text.jpg").write_text("no picture")
  for name in ("nobody", "unknown", "beside"):
    Image.fromarray(smooth()).save(photo / f"{name}.png")
  points = photo.parent / "points.json"
  known = json.loads(points.read_text())
  known |= {"nobody": [], "empty": POINTS.tolist(), "text": POINTS.tolist()}
  known["beside"] = [((POINTS + 5000) * k).tolist() for k in (1, 2)] + [
    POINTS.tolist()
  ]
  points.write_text(json.dumps(known))
  status, out = aligned(photo, "--face", "all", "--json")
  assert status == 1
  failed = json.loads(capsys.readouterr().out)["failed"]
  said = {path.rpartition("/")[2]: reason for path, reason in failed.items()}
  assert said["empty.jpg"] == "the file is empty"
  assert "not one of JPEG" in said["text.jpg"]
  assert said["nobody.png"] == "no face was found"
  assert "has no landmarks of it" in said["unknown.png"]
  assert "face 0: landmarks: the face lies outside" in said["beside.png"]
  assert "face 1: landmarks: the face lies outside" in said["beside.png"]
  names = {path.name for path in out.glob("*.png")}
  assert names == {"a_0.png", "a_1.png", "beside_2.png"}


def test_photos_are_turned_as_their_exif_says_and_keep_their_colours(photo):
  """The crop and the photo with the face pasted back, without orientation."""
  buffer = io.BytesIO()
  turned = Image.fromarray(smooth()).transpose(Image.Transpose.ROTATE_90)
  exif = Image.Exif()
  exif[0x0112] = 6  # to be shown turned with the clock
  profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
  turned.save(buffer, "PNG", exif=exif, icc_profile=profile)
  (photo / "a.png").write_bytes(buffer.getvalue())
  status, out = aligned(photo, "--size", 64)
  assert status == 0
  np.testing.assert_array_equal(
    pixels(out / "a.png"), align.align(smooth(), POINTS, 64)
  )
  back = photo.parent / "back"
  assert call("unalign", out / "a.png", "--out", back) == 0
  with Image.open(back / "a.png") as image:
    assert image.size == (340, 380)
    assert not image.getexif().get(0x0112)
    assert image.info["icc_profile"] == profile
  difference = np.abs(np.int16(pixels(back / "a.png")) - smooth())
  assert difference.max() <= 12


def test_a_detector_is_asked_for_every_photo(photo, monkeypatch, capsys):
  module = types.ModuleType("cv2")

  class FaceDetectorYN:
    create = classmethod(lambda cls, *_: cls())

    def setInputSize(self, size):
      self.factor = size[0] / 340

    def detect(self, image):
      row = np.array([160, 160, 90, 120, *POINTS.ravel(), 0.9])
      return 1, np.float32([row * self.factor]) if image.any() else None

  module.FaceDetectorYN = FaceDetectorYN
  monkeypatch.setitem(sys.modules, "cv2", module)
  Image.fromarray(0 * smooth()).save(photo / "black.png")
  model = photo.parent / "model.bin"
  model.write_bytes(b"weights")
  more = ("--detector", model, "--detector_kind", "yunet")
  status, out = aligned(photo, *more)
  assert status == 1
  assert "black.png: no face was found" in capsys.readouterr().err
  assert json.loads((out / "a.json").read_text())["detector"] == "model.bin"
  error = np.int16(pixels(out / "a.png")) - align.align(smooth(), POINTS)
  assert np.abs(error).mean() < 1


def test_nothing_is_replaced_unasked_and_no_input_ever(photo, capsys):
  status, out = aligned(photo)
  assert status == 0
  (out / "a.png").unlink()
  assert aligned(photo)[0] == 2
  assert "a.json is there already" in capsys.readouterr().err
  assert not (out / "a.png").exists()
  assert aligned(photo, "--overwrite")[0] == 0
  assert aligned(photo, "--face", "all")[0] == 0  # other names
  assert aligned(photo, "--face", "all")[0] == 2
  assert "a_0.json is there already" in capsys.readouterr().err
  before = (photo / "a.png").read_bytes()
  assert aligned(photo, "--overwrite", out="photos")[0] == 2
  assert "photos/a.png is read" in capsys.readouterr().err
  points = photo / "a.json"
  points.write_text(json.dumps(POINTS.tolist()))
  more = ("--landmarks", photo, "--overwrite")
  assert aligned(photo / "a.png", *more, out=".")[0] == 2
  assert call("unalign", out / "a.png", "--out", photo, "--overwrite") == 2
  assert "photos/a.png is read" in capsys.readouterr().err
  assert (photo / "a.png").read_bytes() == before
  back = ("--out", photo.parent / "back")
  assert call("unalign", out / "a.png", *back) == 0
  assert call("unalign", out / "a.png", *back) == 2
  assert call("unalign", out / "a.png", *back, "--overwrite") == 0


def test_crops_of_faces_that_are_there_no_longer_go(photo, capsys):
  points = photo.parent / "points.json"
  out = photo.parent / "crops"
  words = ("--landmarks", points, "--out", out)
  face = POINTS.tolist()
  for name in ("b", "a_1"):
    Image.fromarray(smooth()).save(photo / f"{name}.png")
  faces = {"a.png": [face] * 3, "b.png": [face] * 2, "a_1.png": [face]}
  points.write_text(json.dumps(faces))
  again = (*words, "--face", "all", "--overwrite")
  assert call("align", photo, *again) == 0
  # a_1.png is the crop of another photo now
  assert call("align", photo / "a_1.png", *words, "--overwrite") == 0
  (out / "a_9.png").touch()  # somebody's own
  (out / "a_8.json").write_text("{}")
  before = {path.name for path in out.iterdir()}
  points.write_text(json.dumps(faces | {"a.png": [face], "b.png": []}))
  capsys.readouterr()
  assert call("align", photo / "a.png", *again) == 0
  said = capsys.readouterr().out
  assert said == f"1 crop of 1 photo in {out}; 1 of an earlier run removed\n"
  gone = {"a_2.png", "a_2.json"}
  assert {path.name for path in out.iterdir()} == before - gone
  assert call("align", photo / "b.png", *again, "--json") == 1  # it is named
  assert json.loads(capsys.readouterr().out)["removed"] == []
  assert (out / "b_1.png").exists()


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ("PHOTOS --out NEW", "--landmarks FILE, --detector MODEL or --demo"),
    ("PHOTOS --demo --landmarks POINTS --out NEW", "one of them"),
    ("PHOTOS --landmarks POINTS", "--out is missing"),
    ("PHOTOS --landmarks POINTS --out POINTS", "is a file"),
    ("--landmarks POINTS --out NEW", "nothing to align"),
    ("none.png --landmarks POINTS --out NEW", "none.png is not there"),
    ("PHOTOS --landmarks none.csv --out NEW", "none.csv is not there"),
    ("PHOTOS --detector none.onnx --out NEW", "none.onnx is not there"),
    ("PHOTOS --demo --out NEW", "leave out the files"),
    ("PHOTOS --landmarks POINTS --out NEW --face 1.5", "largest, all or a"),
    ("PHOTOS --landmarks POINTS --out NEW --face -1", "--face"),
    ("PHOTOS --landmarks POINTS --out NEW --size 0", "--size takes 1"),
    ("PHOTOS TWIN --landmarks POINTS --out NEW", "would both become"),
  ],
)
def test_mistakes_of_align_write_nothing(words, message, photo, capsys):
  folder = photo.parent
  twin = folder / "twin" / "a.png"
  twin.parent.mkdir()
  Image.fromarray(smooth()).save(twin)
  known = {"PHOTOS": photo, "POINTS": folder / "points.json", "TWIN": twin}
  known["NEW"] = folder / "new"
  argv = ["align", *(str(known.get(word, word)) for word in words.split())]
  assert cli.main(argv) == 2
  err = capsys.readouterr().err
  assert message in err
  assert err.count("\n") == 1
  assert not (folder / "new").exists()
  if "TWIN" in words:
    assert str(twin) in err
    assert str(photo / "a.png") in err


def test_a_photo_that_is_named_twice_is_done_once(photo, monkeypatch, capsys):
  monkeypatch.chdir(photo)
  words = ("align", "a.png", "./a.png", photo, "--json")
  given = ("--landmarks", photo.parent / "points.json")
  assert call(*words, *given, "--out", photo.parent / "crops") == 0
  assert len(json.loads(capsys.readouterr().out)["written"]) == 1


def test_links_keep_their_own_names(photo):
  (photo / "b.png").symlink_to(photo / "a.png")
  points = json.dumps({"a": POINTS.tolist(), "b": POINTS.tolist()})
  (photo.parent / "points.json").write_text(points)
  status, out = aligned(photo)
  assert status == 0
  back = photo.parent / "back"
  assert call("unalign", out, "--out", back) == 0
  assert {path.name for path in back.iterdir()} == {"a.png", "b.png"}


@pytest.fixture
def crops(photo):
  return aligned(photo, "--face", "all", "--size", 64)[1]


def test_photos_that_were_moved_are_found_by_name(photo, crops, capsys):
  moved = photo.rename(photo.parent / "moved")
  back = ("--out", photo.parent / "back")
  assert call("unalign", crops, *back) == 1
  assert "is not there; name it with --source" in capsys.readouterr().err
  assert not (photo.parent / "back").exists()
  assert call("unalign", crops, *back, "--source", moved) == 0
  one = ("--out", photo.parent / "one", "--source", moved / "a.png")
  assert call("unalign", f"{crops}/*", *one) == 0
  again = pixels(photo.parent / "one" / "a.png")
  np.testing.assert_array_equal(pixels(photo.parent / "back/a.png"), again)


def test_crops_that_cannot_be_pasted_are_named(photo, crops, capsys):
  edited = photo.parent / "edited"
  edited.mkdir()
  Image.new("RGB", (64, 64)).save(edited / "a_0.png")
  Image.new("RGB", (64, 48)).save(edited / "a_1.png")
  Image.new("RGB", (64, 64)).save(edited / "b.png")
  (crops / "c.json").write_text("{}")
  (edited / "c.png").write_bytes(b"no picture")
  back = photo.parent / "back"
  words = ("unalign", edited, "--sidecars", crops, "--out", back, "--json")
  assert call(*words) == 1
  found = json.loads(capsys.readouterr().out)
  assert found["written"] == [str(back / "a.png")]
  said = {path.rpartition("/")[2]: why for path, why in found["failed"].items()}
  assert "not square" in said["a_1.png"]
  assert "there is no" in said["b.png"]
  assert "--sidecars" in said["b.png"]
  assert "no record of `e4e align`" in said["c.png"]
  eye = np.int64(POINTS[0])
  assert not pixels(back / "a.png")[eye[1], eye[0]].any()
  Image.fromarray(smooth(400)).save(photo / "a.png")  # it is another one now
  assert call(*words, "--overwrite") == 1
  assert "had 340 x 380 when it was cut" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ("--out NEW", "nothing to paste"),
    ("CROPS", "--out is missing"),
    ("CROPS --out NEW --feather 0.7", "--feather 0.7: give 0 to 0.5"),
    ("CROPS --out NEW --sidecars none", "--sidecars none is not there"),
    ("CROPS --out NEW --source none", "--source none is not there"),
    ("CROPS/a_0.json --out NEW", "no pictures among the files"),
    ("CROPS TWIN --sidecars CROPS --out NEW", "both of the face of"),
    ("CROPS OTHER --source PHOTO --out NEW", "would get crops of"),
  ],
)
def test_mistakes_of_unalign_write_nothing(
  words, message, photo, crops, tmp_path, capsys
):
  twin = tmp_path / "twin" / "a_0.png"
  twin.parent.mkdir()
  Image.new("RGB", (64, 64)).save(twin)
  other = tmp_path / "other"
  Image.fromarray(smooth()).save(tmp_path / "b.png")
  (tmp_path / "b.json").write_text(json.dumps(POINTS.tolist()))
  given = ("--landmarks", tmp_path / "b.json", "--out", other)
  assert call("align", tmp_path / "b.png", *given) == 0
  known = {"CROPS": crops, "NEW": tmp_path / "new", "TWIN": twin}
  known |= {"OTHER": other, "PHOTO": photo / "a.png"}
  for name, path in known.items():
    words = words.replace(name, str(path))
  capsys.readouterr()
  assert cli.main(["unalign", *words.split()]) == 2
  err = capsys.readouterr().err
  assert message in err
  assert err.count("\n") == 1
  assert not (tmp_path / "new").exists()


def test_landmarks_of_drawn_photos_are_read_as_any_others(tmp_path):
  assert call("align", "--demo", "--out", tmp_path / "x") == 0
  found = landmarks.read(tmp_path / "x_photos" / "landmarks.json")
  areas = [face.area for face in found["group.png"]]
  assert areas == sorted(areas, reverse=True)
  assert call("align", "--demo", "--out", tmp_path / "x") == 2
  assert call("align", "--demo", "--out", tmp_path / "x", "--overwrite") == 0
