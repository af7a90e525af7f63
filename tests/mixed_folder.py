"""A folder of 100 files such as people have: good pictures, odd ones, none.

    python tests/mixed_folder.py FOLDER

The same files each time. `READABLE` says of each that is found in a folder by
its ending whether it is a picture that this library opens.
"""

import functools
import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

N = 100
HUGE = (12_000, 9_000)  # width and height
Bytes = Callable[[], bytes]


@functools.cache
def _faces() -> list[Image.Image]:
  """Eight drawn faces of 96 x 96; the files show them in turn."""
  from encoder4editing_jax import faceworld

  pixels = np.asarray(faceworld.sample(seed=5, n=8, size=96)[0])
  return [Image.fromarray(p) for p in np.uint8(pixels * 127.5 + 128)]


def face(k: int, mode: str = "RGB") -> Image.Image:
  """Drawn face k in a mode of Pillow."""
  return _faces()[k % 8].convert(mode)


def packed(image: Image.Image, kind: str, **options: object) -> bytes:
  """The bytes of a picture file."""
  file = io.BytesIO()
  image.save(file, kind, **options)
  return file.getvalue()


def _sixteen(colours: bool) -> bytes:
  """A PNG of 16 bits, written by hand where Pillow cannot (colours)."""
  grey = np.asarray(face(0, "L")).astype(np.uint16) * 257
  if not colours:
    return packed(Image.fromarray(grey), "png")
  import struct
  import zlib

  rows = np.asarray(face(0)).astype(">u2") * 257
  lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
  parts = [(b"IHDR", struct.pack(">IIBBBBB", 96, 96, 16, 2, 0, 0, 0))]
  parts += [(b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
  return b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", len(body))
    + kind
    + body
    + struct.pack(">I", zlib.crc32(kind + body))
    for kind, body in parts
  )


def _turned(orientation: int) -> bytes:
  """A JPEG that a viewer shows upright, stored as cameras store it."""
  back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
  image = face(orientation)
  if orientation > 1:
    image = image.transpose(Image.Transpose(back[orientation]))
  exif = Image.Exif()
  exif[ExifTags.Base.Orientation] = orientation
  return packed(image, "jpeg", exif=exif)


def _transparent() -> Image.Image:
  image = face(2, "RGBA")
  image.putalpha(Image.linear_gradient("L").resize(image.size))
  return image


def _palette(see_through: bool) -> bytes:
  options = {"transparency": 3} if see_through else {}
  return packed(face(3, "P"), "png", **options)


def _huge() -> bytes:
  small = face(4).resize((120, 90))
  return packed(
    small.resize(HUGE, Image.Resampling.NEAREST), "jpeg", quality=60
  )


def _good() -> dict[str, Bytes]:
  """Files that show a picture."""
  jpeg = functools.partial(packed, kind="jpeg")
  frames = [face(k, "P") for k in range(3)]
  files: dict[str, Bytes] = {
    "progressive.jpg": lambda: jpeg(face(0), progressive=True),
    "cmyk.jpg": lambda: jpeg(face(1, "CMYK")),
    "grey.jpg": lambda: jpeg(face(2, "L")),
    "quality1.jpg": lambda: jpeg(face(3), quality=1),
    "profile.jpg": lambda: jpeg(face(3), icc_profile=_profile()),
    "palette.png": lambda: _palette(False),
    "palette transparent.png": lambda: _palette(True),
    "one bit.png": lambda: packed(face(4, "1"), "png"),
    "sixteen grey.png": lambda: _sixteen(False),
    "sixteen colours.png": lambda: _sixteen(True),
    "alpha.png": lambda: packed(_transparent(), "png"),
    "grey alpha.png": lambda: packed(_transparent().convert("LA"), "png"),
    "frames.png": lambda: packed(
      face(1), "png", save_all=True, append_images=[face(2)]
    ),
    "lossy.webp": lambda: packed(face(5), "webp"),
    "lossless alpha.webp": lambda: packed(
      _transparent(), "webp", lossless=True
    ),
    "bitmap.bmp": lambda: packed(face(6), "bmp"),
    "pixmap.ppm": lambda: packed(face(6), "ppm"),
    "tagged.tif": lambda: packed(face(7), "tiff"),
    "pages.tiff": lambda: packed(
      face(0), "tiff", save_all=True, append_images=[face(1)]
    ),
    "moving.gif": lambda: packed(
      frames[0], "gif", save_all=True, append_images=frames[1:]
    ),
    "huge 12000x9000.jpg": _huge,
    "one pixel.png": lambda: packed(Image.new("RGB", (1, 1), "red"), "png"),
    "very wide.png": lambda: packed(face(1).resize((3000, 3)), "png"),
    "very tall.jpg": lambda: jpeg(face(1).resize((2, 2000))),
    "gesicht-äöü-顔.png": lambda: packed(face(2), "png"),
    " spaces  in it .jpg": lambda: jpeg(face(3)),
    "dots.v1.2.final.jpg": lambda: jpeg(face(4)),
    "quote's & $HOME;.png": lambda: packed(face(5), "png"),
    "-begins-with-dash.png": lambda: packed(face(6), "png"),
    "UPPER.JPG": lambda: jpeg(face(7)),
    "Mixed.JpEg": lambda: jpeg(face(0)),
    "really a png.jpg": lambda: packed(face(1), "png"),
    "folder.jpg/inside.png": lambda: packed(face(2), "png"),
    "below/deeper/down.png": lambda: packed(face(3), "png"),
  }
  for k in range(1, 9):
    files[f"turned {k}.jpg"] = functools.partial(_turned, k)
  return files


def _profile() -> bytes:
  from PIL import ImageCms

  return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _bad() -> dict[str, Bytes]:
  """Files with the ending of a picture that show none."""
  noise = np.random.default_rng(0).bytes(2000)
  floats = Image.fromarray(np.zeros((8, 8), np.float32))
  return {
    "truncated.jpg": lambda: packed(face(0), "jpeg")[:900],
    "cut off.png": lambda: packed(face(0), "png")[:3000],
    "zero bytes.jpg": lambda: b"",
    "one byte.png": lambda: b"\x89",
    "text.jpg": lambda: b"Dear diary, this is no picture.\n",
    "web page.jpg": lambda: b"<!DOCTYPE html><title>404</title>\n",
    "noise.png": lambda: noise,
    "heic inside.jpg": lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + noise,
    "floats.tif": lambda: packed(floats, "tiff"),
    "only a header.png": lambda: packed(face(1), "png")[:40],
    "bomb.png": _bomb,
  }


def _bomb() -> bytes:
  """A PNG of 60,000 x 60,000 pixels in a few bytes."""
  import struct
  import zlib

  body = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
  whole = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
  return b"\x89PNG\r\n\x1a\n" + whole + packed(face(0), "png")[33:]


OTHER: dict[str, Bytes] = {  # what no command looks at, by ending or name
  "IMG_0001.HEIC": lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
  "notes.txt": lambda: b"to do\n",
  "Thumbs.db": lambda: b"\xd0\xcf\x11\xe0",
  "._resource.jpg": lambda: b"\0\5\x16\7",
  ".hidden/face.png": lambda: packed(face(0), "png"),
}
LINKS = {"link.jpg": "UPPER.JPG", "broken link.png": "nowhere.png"}
READABLE = (*_good(), "link.jpg")
UNREADABLE = (*_bad(), "broken link.png")


def write(folder: str | Path, n: int = N, huge: bool = True) -> Path:
  """Writes the folder.

  Args:
    folder: is made.
    n: files; plain photos fill it up.
    huge: with the one of 12,000 x 9,000 pixels, which takes seconds.
  """
  folder = Path(folder)
  files = _good() | _bad() | OTHER
  if not huge:
    del files["huge 12000x9000.jpg"]
  for name, make in files.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(make())
  for name, target in LINKS.items():
    (folder / name).symlink_to(target)
  for k in range(n - len(files) - len(LINKS)):
    photo = face(k).resize((80 + k, 120 - k))
    (folder / f"photo {k:02}.jpg").write_bytes(packed(photo, "jpeg"))
  return folder


def landmarks(folder: str | Path) -> dict[str, list[list[float]]]:
  """Points as of a drawn face in every picture that can be opened, by name."""
  from encoder4editing_jax.data import images
  from encoder4editing_jax.faceworld import scene

  found = {}
  for path in sorted(Path(folder).rglob("*")):
    try:
      size = images.open_rgb(path.read_bytes()).size
    except (OSError, ValueError):
      continue
    points = (scene.POINTS + 1) / 2 * size - 0.5
    found[path.relative_to(folder).as_posix()] = points.tolist()
  return found


if __name__ == "__main__":
  write(sys.argv[1])
