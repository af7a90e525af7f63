"""Files of landmarks: what may be in them, and what is said of others."""

import json

import numpy as np
import pytest

from encoder4editing_jax import landmarks

FIVE = np.array([[30, 40], [70, 42], [50, 60], [35, 80], [66, 81]], float)
LARGE = 2 * FIVE + 5


def sixty_eight(five=FIVE):
  points = np.repeat(five[2:3], 68, 0)
  points[36:42], points[42:48] = five[0], five[1]
  points[48], points[54] = five[3], five[4]
  return points


def write(folder, name, value):
  """A file with a value in the way that its ending says."""
  path = folder / name
  if name.endswith(".json"):
    default = np.ndarray.tolist
    path.write_text(json.dumps(value, default=default))
  elif name.endswith(".npy"):
    np.save(path, value)
  elif name.endswith(".npz"):
    np.savez(path, **value)
  else:
    path.write_text(value, encoding="utf-8-sig")
  return path


def row(points, name=None):
  cells = [f"{v:g}" for v in np.ravel(points)]
  return ",".join(cells if name is None else [name, *cells]) + "\n"


@pytest.mark.parametrize("points", [FIVE, sixty_eight()])
@pytest.mark.parametrize(
  ("name", "made"),
  [
    ("a.json", lambda p: p),
    ("a.json", lambda p: {"landmarks": p, "size": 256}),
    ("a.npy", lambda p: p),
    ("a.csv", lambda p: "x,y\n" + "".join(map(row, p))),
    ("a.csv", lambda p: "\n" + row(p)),
    ("A.CSV", lambda p: "".join(map(row, p))),
  ],
)
def test_files_of_one_face(points, name, made, tmp_path):
  found = landmarks.read(write(tmp_path, name, made(points)))
  assert list(found) == [landmarks.ONE]
  (face,) = found[landmarks.ONE]
  np.testing.assert_array_equal(face.landmarks, points)
  assert face.box == (30, 40, 70, 81)
  assert face.area == 40 * 41


HEADER = "name," + ",".join(f"x{k},y{k}" for k in range(5)) + "\n"


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("a.json", {"p.jpg": [FIVE, LARGE], "q.jpg": FIVE, "r.jpg": []}),
    ("a.json", {"p.jpg": [FIVE, LARGE], "q.jpg": [FIVE], "r.jpg": None}),
    ("a.npz", {"p": [FIVE, LARGE], "q": FIVE, "r": np.zeros((0, 5, 2))}),
    ("a.csv", row(FIVE, "p.jpg") + row(LARGE, "p.jpg") + row(FIVE, "q")),
    ("a.csv", HEADER + row(FIVE, "p") + row(LARGE, "p") + row(FIVE, "q.jpg")),
  ],
)
def test_files_of_many_pictures(name, value, tmp_path):
  path = write(tmp_path, name, value)
  found = landmarks.match(path, ["x/p.jpg", "x/q.jpg", "x/r.jpg"])
  assert [len(found[f"x/{n}.jpg"]) for n in "pq"] == [2, 1]
  np.testing.assert_array_equal(found["x/p.jpg"][0].landmarks, LARGE)
  assert not found.get("x/r.jpg")


def test_the_most_exact_name_counts(tmp_path):
  keys = {"p": FIVE, "p.jpg": FIVE + 1, "x/p.jpg": FIVE + 2, "y/p": FIVE + 3}
  path = write(tmp_path, "a.json", keys)
  paths = ["p.png", "z/p.jpg", "/r/x/p.jpg", "y/p.webp"]
  found = landmarks.match(path, paths)
  shifts = [found[p][0].landmarks[0, 0] - FIVE[0, 0] for p in paths]
  assert shifts == [0, 1, 2, 3]


def test_folders_hold_a_file_for_each_picture(tmp_path):
  write(tmp_path, "p.json", FIVE)
  write(tmp_path, "q.npz", {"q.jpg": [FIVE, LARGE], "other": FIVE})
  found = landmarks.match(tmp_path, ["p.jpg", "q.jpg", "r.jpg"])
  assert {name: len(faces) for name, faces in found.items()} == {
    "p.jpg": 1,
    "q.jpg": 2,
  }
  write(tmp_path, "p.csv", row(FIVE))
  with pytest.raises(ValueError, match=r"p\.json and .*p\.csv are both there"):
    landmarks.match(tmp_path, ["p.jpg"])


@pytest.mark.parametrize(
  ("name", "value", "message"),
  [
    ("a.txt", "", r"a\.txt: landmarks are read from \.json"),
    ("a.json", {}, "holds no landmarks"),
    ("a.csv", "x,y\n", "holds no landmarks"),
    ("a.json", FIVE[:4], r"a\.json: landmarks have shape \(4, 2\)"),
    ("a.json", {"p": [FIVE, FIVE[:, :1]]}, r"p: face 1: .* shape \(5, 1\)"),
    ("a.json", {"p": [[1, 2], [3]]}, "p: landmarks have to be 68 or 5 pairs"),
    ("a.json", {"p": "here"}, "p: landmarks have to be"),
    ("a.json", [[[1, None]] * 5], "NaN|pairs of numbers"),
    ("a.json", 0 * FIVE, "no square"),
    ("a.npz", {"p": FIVE * np.nan}, "p: landmarks hold NaN"),
    ("a.npy", np.array([{}]), "pickle"),
    ("a.csv", row(FIVE, "p") + row(FIVE[:4], "p"), "row 2 has 9 columns"),
    ("a.csv", row(FIVE, "p").replace("42", "?"), r"row 1: '\?' is no number"),
    ("a.csv", row(FIVE, "p").replace(",", ";"), "row 1 has 1 col.* commas"),
    ("a.csv", "1,2\n3,4\n5,6,7\n", "row 3 has 3 columns"),
    ("a.csv", "1,2\n3,4\n", r"shape \(2, 2\)"),
    ("a.csv", row(FIVE, "p") + row(0 * FIVE, "q"), "row 2: .* no square"),
  ],
)
def test_other_files_are_refused(name, value, message, tmp_path):
  path = write(tmp_path, name, value)
  with pytest.raises(ValueError, match=message):
    landmarks.read(path)


def test_damaged_files_are_refused(tmp_path):
  for name in ("a.json", "a.npy", "a.npz", "a.csv"):
    (tmp_path / name).write_bytes(b"\x00\xff" * 9)
    with pytest.raises(ValueError, match=name):
      landmarks.read(tmp_path / name)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=name):
      landmarks.read(tmp_path / name)
  with pytest.raises(FileNotFoundError, match="is not there"):
    landmarks.read(tmp_path / "b.npz")


def test_a_file_that_does_not_say_which_picture_is_refused(tmp_path):
  path = write(tmp_path, "a.json", FIVE)
  assert list(landmarks.match(path, ["p.jpg"])) == ["p.jpg"]
  with pytest.raises(ValueError, match="names no picture, and there are 2"):
    landmarks.match(path, ["p.jpg", "q.jpg"])
  path = write(tmp_path, "a.csv", row(FIVE, "p") + row(FIVE))
  with pytest.raises(ValueError, match="some rows name a picture"):
    landmarks.match(path, ["p.jpg"])
  path = write(tmp_path, "b.json", {"p": FIVE})
  with pytest.raises(ValueError, match=r"none of the pictures \(q\.jpg\)"):
    landmarks.match(path, ["q.jpg"])
