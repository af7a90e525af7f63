"""Adapters of detectors, on stand-ins that have their interfaces."""

import sys
import types

import numpy as np
import pytest

from encoder4editing_jax import align, detectors

# As the viewer sees them: eyes, nose, corners of the mouth.
FIVE = np.array([[30, 40], [70, 42], [50, 60], [35, 80], [66, 81]], float)


def picture(height=120, width=160):
  image = np.zeros((height, width, 3), np.uint8)
  image[..., 0] = 200  # red
  return image


def model(folder, name):
  path = folder / name
  path.write_bytes(b"weights")
  return path


def yunet_row(points, box, score=0.9):
  return np.float32([*box, *np.ravel(points), score])


@pytest.fixture
def cv2(monkeypatch):
  """`faces(width, height)` of a test says what the stand-in finds."""
  module = types.ModuleType("cv2")

  class FaceDetectorYN:
    @classmethod
    def create(cls, model, config, input_size, score_threshold=0.9):
      module.model = model
      return cls()

    def setInputSize(self, size):
      self.size = size

    def detect(self, image):
      assert image.shape == (*self.size[::-1], 3)
      assert image.flags.c_contiguous
      assert image[0, 0].tolist() == [0, 0, 200]  # blue comes first
      module.sizes.append(self.size)
      rows = module.faces(*self.size)
      return 1, np.stack(rows) if rows else None

  module.FaceDetectorYN, module.sizes = FaceDetectorYN, []
  monkeypatch.setitem(sys.modules, "cv2", module)
  return module


def test_yunet_gives_eyes_as_the_viewer_sees_them(cv2, tmp_path):
  """Its right eye is the subject's: the left one of the picture."""
  right_eye, left_eye, nose, right_mouth, left_mouth = FIVE
  subject = [right_eye, left_eye, nose, right_mouth, left_mouth]
  small = yunet_row(np.array(subject) / 4 + 100, (100, 100, 25, 25))
  large = yunet_row(subject, (20, 20, 60, 70))
  cv2.faces = lambda w, h: [small, large]
  path = model(tmp_path, "yunet.ONNX")
  faces = detectors.open_detector(path)(picture())
  assert cv2.model == str(path)
  assert cv2.sizes == [(160, 120)]
  np.testing.assert_allclose(faces[0].landmarks, FIVE)
  assert faces[0].box == (20, 20, 80, 90)
  np.testing.assert_allclose(faces[1].landmarks, FIVE / 4 + 100)
  quad = align.crop_quad(faces[0].landmarks)  # top left comes first
  assert quad[0, 0] < quad[3, 0]
  assert quad[0, 1] < quad[1, 1]


def test_yunet_sees_large_pictures_at_several_sizes(cv2, tmp_path):
  """A face that two of them show counts once, where it was found first."""

  def faces(width, height):
    factor = width / 2560
    rows = [yunet_row(16 * FIVE * factor, np.array([300, 300, 900, 1200]))]
    rows[0][:4] *= factor
    if width == 1280:  # too small for the others
      other = 8 * FIVE * factor + 700
      rows.append(yunet_row(other, (700, 700, 240, 300)))
    return rows

  cv2.faces = faces
  detect = detectors.open_detector(model(tmp_path, "a.onnx"))
  found = detect(picture(1920, 2560))
  assert cv2.sizes == [(320, 240), (640, 480), (1280, 960)]
  assert len(found) == 2
  np.testing.assert_allclose(found[0].landmarks, 16 * FIVE, rtol=1e-5)
  np.testing.assert_allclose(found[1].landmarks, 8 * FIVE + 1400, rtol=1e-5)
  cv2.faces = lambda width, height: []
  assert detect(picture()) == []


@pytest.fixture
def dlib(monkeypatch):
  module = types.ModuleType("dlib")
  module.n_points, module.boxes, module.seen = 68, [], []

  class Rectangle:
    def __init__(self, *ends):
      self.ends = ends

    def left(self):
      return self.ends[0]

    def top(self):
      return self.ends[1]

    def right(self):
      return self.ends[2]

    def bottom(self):
      return self.ends[3]

  def shape_predictor(path):
    if not path.endswith("68.dat"):
      raise RuntimeError("Error deserializing object of type int")

    def predict(image, box):
      left, top = box.left(), box.top()
      return types.SimpleNamespace(
        num_parts=module.n_points,
        part=lambda k: types.SimpleNamespace(x=left + k, y=top + k % 7),
      )

    return predict

  def detect(image, upsample):
    module.seen.append((image.shape, upsample))
    return [Rectangle(*box) for box in module.boxes]

  module.rectangle, module.shape_predictor = Rectangle, shape_predictor
  module.get_frontal_face_detector = lambda: detect
  monkeypatch.setitem(sys.modules, "dlib", module)
  return module


def test_dlib_gives_sixty_eight_points_and_the_largest_face_first(
  dlib, tmp_path
):
  dlib.boxes = [(90, 10, 110, 30), (10, 20, 60, 80)]
  detect = detectors.open_detector(model(tmp_path, "points68.dat"))
  large, small = detect(picture())
  assert dlib.seen == [((120, 160, 3), 1)]  # doubled once, as the originals do
  assert large.landmarks.shape == (68, 2)
  assert large.landmarks[:2].tolist() == [[10, 20], [11, 21]]
  assert (large.box, small.box) == ((10, 20, 60, 80), (90, 10, 110, 30))


def test_dlib_looks_for_faces_in_a_smaller_picture_and_for_points_in_the_whole(
  dlib, tmp_path
):
  dlib.boxes = [(10, 20, 60, 80)]
  detect = detectors.open_detector(model(tmp_path, "68.dat"))
  (face,) = detect(picture(2048, 4096))
  assert dlib.seen == [((1024, 2048, 3), 1)]
  assert face.box == (20, 40, 120, 160)
  assert face.landmarks[0].tolist() == [20, 40]


def test_dlib_needs_the_predictor_of_68(dlib, tmp_path):
  dlib.n_points = 5
  with pytest.raises(ValueError, match=r"68\.dat: dlib .*it has 5 points"):
    detectors.open_detector(model(tmp_path, "68.dat"))
  with pytest.raises(ValueError, match="dlib cannot open it"):
    detectors.open_detector(model(tmp_path, "bad.dat"))


@pytest.fixture
def mediapipe(monkeypatch):
  module = types.ModuleType("mediapipe")
  module.faces = []
  module.ImageFormat = types.SimpleNamespace(SRGB="srgb")
  module.Image = types.SimpleNamespace

  def create(options):
    module.options = options

    def detect(image):
      assert image.image_format == "srgb"
      assert image.data[0, 0].tolist() == [200, 0, 0]
      meshes = [
        [types.SimpleNamespace(x=x, y=y) for x, y in face]
        for face in module.faces
      ]
      return types.SimpleNamespace(face_landmarks=meshes)

    return types.SimpleNamespace(detect=detect)

  tasks = types.ModuleType("mediapipe.tasks")
  python = types.ModuleType("mediapipe.tasks.python")
  python.BaseOptions = types.SimpleNamespace
  python.vision = types.SimpleNamespace(
    FaceLandmarkerOptions=types.SimpleNamespace,
    FaceLandmarker=types.SimpleNamespace(create_from_options=create),
  )
  module.tasks, tasks.python = tasks, python
  for name, value in (
    ("mediapipe", module),
    ("mediapipe.tasks", tasks),
    ("mediapipe.tasks.python", python),
  ):
    monkeypatch.setitem(sys.modules, name, value)
  return module


def test_mediapipe_gives_five_points_of_its_mesh(mediapipe, tmp_path):
  mesh = np.full((478, 2), 0.5)
  size = np.array([160, 120])
  at = (FIVE + 0.5) / size  # it counts from the corner of the first pixel
  ring = np.array([[3, 0], [1, 1], [-1, 1], [-3, 0], [-1, -1], [1, -1]]) / size
  mesh[list(detectors.MESH_LEFT_EYE)] = at[0] + ring
  mesh[list(detectors.MESH_RIGHT_EYE)] = at[1] + ring
  mesh[1], mesh[61], mesh[291] = at[2], at[3], at[4]
  mesh[10], mesh[152] = [0.1, 0.2], [0.3, 0.8]  # forehead and chin
  mediapipe.faces = [mesh / 4, mesh]
  path = model(tmp_path, "face.task")
  large, small = detectors.open_detector(path)(picture())
  assert mediapipe.options.base_options.model_asset_path == str(path)
  assert mediapipe.options.num_faces > 1
  np.testing.assert_allclose(large.landmarks, FIVE)
  np.testing.assert_allclose(large.box[:2], [15.5, 23.5])
  assert small.area < large.area


def test_a_kind_can_be_said_for_any_ending(cv2, tmp_path):
  cv2.faces = lambda width, height: []
  path = model(tmp_path, "weights.bin")
  assert detectors.open_detector(path, "yunet")(picture()) == []
  with pytest.raises(ValueError, match=r"ends in \.onnx, \.dat, \.task, or"):
    detectors.open_detector(path)
  with pytest.raises(ValueError, match="its kind: yunet, dlib, mediapipe"):
    detectors.open_detector(path, "mtcnn")


def test_a_failure_at_one_picture_is_one_error(cv2, tmp_path):
  cv2.faces = lambda width, height: 1 / 0
  detect = detectors.open_detector(model(tmp_path, "a.onnx"))
  with pytest.raises(ValueError, match="yunet failed on it"):
    detect(picture())


@pytest.mark.parametrize(
  ("name", "package"),
  [("a.onnx", "cv2"), ("a.dat", "dlib"), ("a.task", "mediapipe")],
)
def test_a_missing_package_is_named_with_its_extra(
  name, package, tmp_path, monkeypatch
):
  monkeypatch.setitem(sys.modules, package, None)
  kind = {"cv2": "yunet"}.get(package, package)
  with pytest.raises(ImportError) as error:
    detectors.open_detector(model(tmp_path, name))
  assert f'pip install "encoder4editing_jax[{kind}]"' in str(error.value)


def test_what_is_no_model_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match="where to get detectors"):
    detectors.open_detector(tmp_path / "none.onnx")
  pointer = tmp_path / "pointer.onnx"
  pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:")
  with pytest.raises(ValueError, match="Git LFS pointer"):
    detectors.open_detector(pointer)


def test_opencv_itself_refuses_another_file(tmp_path):
  pytest.importorskip("cv2")
  with pytest.raises(ValueError, match=r"a\.onnx: yunet cannot open it"):
    detectors.open_detector(model(tmp_path, "a.onnx"))
