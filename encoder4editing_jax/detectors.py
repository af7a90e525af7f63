"""Faces and their landmarks in a picture, by a detector that the user names.

None of them is shipped or required: each is a package, and a model file that
belongs to it. docs/alignment.md says where to get them.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from encoder4editing_jax.landmarks import Face, largest_first

Detector = Callable[[UInt8[np.ndarray, "h w 3"]], list[Face]]
Find = Callable[[UInt8[np.ndarray, "h w 3"]], Iterator[Face]]

KINDS = {".onnx": "yunet", ".dat": "dlib", ".task": "mediapipe"}

# YuNet was trained for faces of some 10 to 300 pixels (OpenCV's model zoo):
# pictures are seen with longer sides of these lengths, so that it meets large
# and small ones.
YUNET_SIDES = (320, 640, 1280)
YUNET_SCORE = 0.7
DLIB_SIDE = 2048  # dlib doubles the picture, once more than others need
MEDIAPIPE_FACES = 16

# Points of MediaPipe's mesh: six around each eye (as among the 68), the tip of
# the nose, the corners of the mouth; subject's right is the viewer's left. See
# FaceLandmarksConnections in mediapipe/tasks/python/vision/face_landmarker.py.
MESH_LEFT_EYE = (33, 160, 158, 133, 153, 144)
MESH_RIGHT_EYE = (362, 385, 387, 263, 373, 380)
MESH_OTHERS = (1, 61, 291)


def open_detector(path: str | Path, kind: str = "") -> Detector:
  """A function from a picture to its faces, the largest first.

  Args:
    path: a model file: YuNet (.onnx), dlib's predictor of 68 points (.dat), or
      MediaPipe's face landmarker (.task).
    kind: yunet, dlib or mediapipe; by the file's ending if empty.

  Raises:
    FileNotFoundError: there is no such file.
    ImportError: the package that it needs is not installed.
    ValueError: another kind, or the package does not open the file.
  """
  path = Path(path)
  if not path.is_file():
    raise FileNotFoundError(
      f"{path} is not there; docs/alignment.md says where to get detectors."
    )
  kind = kind or KINDS.get(path.suffix.lower(), "")
  if kind not in _OPENERS:
    raise ValueError(
      f"{path}: no known detector; name a file that ends in "
      f"{', '.join(KINDS)}, or its kind: {', '.join(_OPENERS)}."
    )
  with path.open("rb") as file:
    pointer = file.read(24).startswith(b"version https://git-lfs")
  if pointer:
    raise ValueError(
      f"{path} is a Git LFS pointer, not the model; download the file itself."
    )
  try:
    find = _OPENERS[kind](str(path))
  except ImportError as error:
    raise ImportError(
      f"{path} needs a package that does not load ({error}); "
      f'pip install "encoder4editing_jax[{kind}]".'
    ) from error
  except Exception as error:  # each package has its own
    raise ValueError(f"{path}: {kind} cannot open it ({error}).") from error

  def detect(image: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
    try:
      return largest_first(find(image))
    except Exception as error:
      raise ValueError(f"{kind} failed on it ({error}).") from error

  return detect


def _shrunk(
  image: UInt8[np.ndarray, "h w 3"], side: int
) -> tuple[UInt8[np.ndarray, "y x 3"], float]:
  """With a longer side of at most `side`; and the factor."""
  factor = min(1.0, side / max(image.shape[:2]))
  if factor == 1:
    return image, factor
  small = Image.fromarray(image).resize(
    (
      max(1, round(image.shape[1] * factor)),
      max(1, round(image.shape[0] * factor)),
    ),
    Image.Resampling.BOX,
  )
  return np.asarray(small), factor


def _yunet(path: str) -> Find:
  """Wu et al. 2023, YuNet: a tiny millisecond-level face detector."""
  import cv2

  net = cv2.FaceDetectorYN.create(path, "", (320, 320), YUNET_SCORE)

  def find(image: UInt8[np.ndarray, "h w 3"]) -> Iterator[Face]:
    known: list[Face] = []
    for side in YUNET_SIDES:
      small, factor = _shrunk(image, side)
      net.setInputSize((small.shape[1], small.shape[0]))
      _, rows = net.detect(np.ascontiguousarray(small[..., ::-1]))
      faces = [
        _of_yunet(row / factor)
        for row in np.asarray(() if rows is None else rows, np.float64)
      ]
      known += [face for face in faces if not _is_known(face, known)]
      if factor == 1:
        break
    yield from known

  return find


def _of_yunet(row: Float[np.ndarray, "15"]) -> Face:
  """Box, five points, score; the subject's right, our left, comes first."""
  left, top, width, height = row[:4]
  return Face(row[4:14].reshape(5, 2), (left, top, left + width, top + height))


def _is_known(face: Face, known: list[Face]) -> bool:
  """Whether its nose lies in a face that another side has shown."""
  x, y = face.landmarks[2]
  boxes = (other.box for other in known)
  return any(a <= x <= c and b <= y <= d for a, b, c, d in boxes)


def _dlib(path: str) -> Find:
  """What the originals use: King 2009, Kazemi and Sullivan 2014."""
  import dlib

  predictor = dlib.shape_predictor(path)
  boxes = dlib.get_frontal_face_detector()
  blank: np.ndarray = np.zeros((64, 64, 3), np.uint8)
  n = predictor(blank, dlib.rectangle(8, 8, 55, 55)).num_parts
  if n != 68:
    raise ValueError(f"it has {n} points; the predictor of 68 is needed")

  def find(image: UInt8[np.ndarray, "h w 3"]) -> Iterator[Face]:
    small, factor = _shrunk(image, DLIB_SIDE)
    for found in boxes(np.ascontiguousarray(small), 1):
      ends = found.left(), found.top(), found.right(), found.bottom()
      left, top, right, bottom = (round(end / factor) for end in ends)
      box = dlib.rectangle(left, top, right, bottom)
      shape = predictor(np.ascontiguousarray(image), box)
      parts = [shape.part(k) for k in range(68)]
      points = np.array([(part.x, part.y) for part in parts], np.float64)
      yield Face(points, (left, top, right, bottom))

  return find


def _mediapipe(path: str) -> Find:
  """Kartynnik et al. 2019, arXiv 1907.06724."""
  import mediapipe
  from mediapipe.tasks import python as tasks

  options = tasks.vision.FaceLandmarkerOptions(
    base_options=tasks.BaseOptions(model_asset_path=path),
    num_faces=MEDIAPIPE_FACES,
  )
  net = tasks.vision.FaceLandmarker.create_from_options(options)

  def find(image: UInt8[np.ndarray, "h w 3"]) -> Iterator[Face]:
    shown = mediapipe.Image(
      image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image)
    )
    size = np.array(image.shape[1::-1])
    for mesh in net.detect(shown).face_landmarks:
      points = np.array([(p.x, p.y) for p in mesh]) * size - 0.5
      eyes = [
        points[list(eye)].mean(0) for eye in (MESH_LEFT_EYE, MESH_RIGHT_EYE)
      ]
      five = np.concatenate([eyes, points[list(MESH_OTHERS)]])
      yield Face(five, (*points.min(0), *points.max(0)))

  return find


_OPENERS: dict[str, Callable[[str], Any]] = {
  "yunet": _yunet,
  "dlib": _dlib,
  "mediapipe": _mediapipe,
}
