"""What one visitor has done: a photo, points on it, codes, edits.

A session is a value: each function returns another one, so that visitors, and
events of one visitor that overlap, cannot disturb each other.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image, ImageDraw

from encoder4editing_jax import align, editing, inference
from encoder4editing_jax.data import images
from encoder4editing_jax.demo.engine import Engine

# The five landmarks of `align`, as the viewer sees them.
POINTS = (
  "the left eye",
  "the right eye",
  "the tip of the nose",
  "the left corner of the mouth",
  "the right corner of the mouth",
)
MAX_MEGAPIXELS = 64.0
SIDE = 1536  # larger photos are kept smaller
SHOWN = 512  # smaller ones are shown larger, so that points can be placed


@dataclasses.dataclass(frozen=True)
class Session:
  """Photo, points and codes of a visitor; the faces are `[h w 3]` bytes."""

  name: str = ""
  photo: np.ndarray | None = None
  resized: np.ndarray | None = None  # the whole photo, as the encoder takes it
  points: tuple[tuple[float, float], ...] = ()
  face: np.ndarray | None = None
  w_plus: Array | None = None
  other: Array | None = None  # the code that is mixed in


def open_photo(
  session: Session, data: bytes, name: str, size: tuple[int, int]
) -> Session:
  """The session with another photo, of which no point is placed yet.

  Args:
    session: of the visitor.
    data: the bytes of the file.
    name: what it is called; files that are made of it are called alike.
    size: height and width that the encoder takes.

  Raises:
    UnreadableImage: it is none; with a reason for the visitor.
  """
  try:
    whole = images.open_rgb(data, MAX_MEGAPIXELS)
  except images.UnreadableImage as error:
    # The rest speaks of a setting that visitors do not have.
    reason = str(error).partition(", or raise")[0]
    raise images.UnreadableImage(reason) from None
  resized = images.fit(whole, size)
  whole.thumbnail((SIDE, SIDE))
  stem = re.sub(r"[^\w-]+", "_", Path(name).stem)[:60].strip("_")
  return dataclasses.replace(
    session,
    name=stem or "photo",
    photo=np.asarray(whole),
    resized=resized,
    points=(),
  )


def _enlarged(session: Session) -> int:
  assert session.photo is not None
  return max(1, SHOWN // max(session.photo.shape[:2]))


def place(session: Session, x: float, y: float) -> Session:
  """With one point more, in pixels of `shown`; a sixth begins anew."""
  factor = _enlarged(session)
  point = ((x + 0.5) / factor - 0.5, (y + 0.5) / factor - 0.5)
  before = session.points if len(session.points) < len(POINTS) else ()
  return dataclasses.replace(session, points=(*before, point))


def take_back(session: Session) -> Session:
  """Without the last point."""
  return dataclasses.replace(session, points=session.points[:-1])


def without_points(session: Session) -> Session:
  """As the photo was opened: the whole of it counts."""
  return dataclasses.replace(session, points=())


def shown(session: Session) -> UInt8[np.ndarray, "h w 3"]:
  """The photo with its points; small ones are enlarged by a whole factor."""
  assert session.photo is not None
  factor = _enlarged(session)
  image = Image.fromarray(session.photo)
  image = image.resize((image.width * factor, image.height * factor))
  brush, radius = ImageDraw.Draw(image), max(4, max(image.size) / 90)
  for x, y in session.points:
    x, y = (x + 0.5) * factor - 0.5, (y + 0.5) * factor - 0.5
    brush.circle((x, y), radius, "#f97316", "white", max(2, int(radius / 4)))
  return np.asarray(image)


def find_codes(session: Session, engine: Engine, to_mix: bool) -> Session:
  """Inverts the photo: its FFHQ crop if five points are placed, or all of it.

  Args:
    session: with a photo.
    engine: inverts it.
    to_mix: it is the face that is mixed in, not the one that is edited.

  Raises:
    ValueError: no photo, or points that are no face.
  """
  if session.photo is None or session.resized is None:
    raise ValueError("there is no photo yet; drop one, or take an example.")
  face = session.resized
  if len(session.points) == len(POINTS):
    if engine.size[0] != engine.size[1]:
      raise ValueError("this model takes no square pictures: skip alignment.")
    face = align.align(session.photo, session.points, engine.size[0])
  w_plus = engine.invert(face)
  if to_mix:
    return dataclasses.replace(session, face=face, other=w_plus)
  return dataclasses.replace(session, face=face, w_plus=w_plus)


def codes(
  session: Session,
  engine: Engine,
  strengths: Mapping[str, float],
  layers: str = "fine",
  share: float = 0.0,
) -> Float[Array, "1 n d"]:
  """The code that the sliders ask for.

  Args:
    session: with a code.
    engine: knows the directions.
    strengths: by the names of directions.
    layers: those of the other face, see `editing.parse_layers`.
    share: of the other face in them; without such a face, none.

  Raises:
    ValueError: nothing is inverted yet.
  """
  if session.w_plus is None:
    raise ValueError("nothing is inverted yet; begin with a photo.")
  w_plus = session.w_plus
  if session.other is not None and share:
    chosen = editing.parse_layers(layers, w_plus.shape[1])
    w_plus = editing.mix(w_plus, session.other, chosen, share)
  edits = [(name, float(s)) for name, s in strengths.items() if s]
  return editing.apply(w_plus, edits, engine.directions)


def save(
  session: Session, engine: Engine, w_plus: Float[Array, "1 n d"], folder: Path
) -> list[Path]:
  """Writes the picture, and the codes before and after; returns the paths.

  The codes are a file of `inference.save_latents`: `NAME` and `NAME_edited`.
  """
  assert session.w_plus is not None
  name = session.name
  both = np.asarray(jnp.concatenate([session.w_plus, w_plus]))
  paths = [folder / f"{name}_edited.png", folder / "latents.npz"]
  Image.fromarray(engine.paint(w_plus)).save(paths[0])
  latents = inference.Latents(
    (name, f"{name}_edited"), both, None, engine.fingerprint, 1
  )
  inference.save_latents(paths[1], latents)
  return paths
