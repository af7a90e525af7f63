"""The one decoder: encoded bytes to the picture that a viewer shows."""

import io
import os
import threading
import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

EXTENSIONS = (
  ".jpg",
  ".jpeg",
  ".png",
  ".webp",
  ".bmp",
  ".gif",
  ".jfif",
  ".ppm",
  ".tif",
  ".tiff",
)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF")
# Photos of telephones have 200; training has a limit of its own.
MEGAPIXELS = 250.0
# What else picture files begin with, behind four bytes.
_FOREIGN = {
  b"ftypheic": "HEIC",
  b"ftypheix": "HEIC",
  b"ftypmif1": "HEIC",
  b"ftypavif": "AVIF",
}
_unlimited = threading.Lock()
_SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")


class UnreadableImage(ValueError):
  """Bytes that are no picture that this library opens; says why."""


def decode(
  data: bytes,
  size: tuple[int, int],
  *,
  flip: bool = False,
  max_megapixels: float = MEGAPIXELS,
  plain: bool = False,
) -> np.ndarray:
  """Decodes, resizes and perhaps mirrors one picture.

  The picture is turned as its EXIF orientation says, transparency is laid on
  white, palettes, CMYK and grey become RGB, and 16 bits are scaled to 8; of
  several pictures in a file the first is taken. Shrinking is antialiased and
  bilinear.

  Args:
    data: the file's bytes.
    size: height and width of the result; the aspect ratio is not kept.
    flip: mirror left and right.
    max_megapixels: larger pictures are refused before they are decoded.
    plain: as the originals do, Pillow's `convert("RGB")` and no more: no
      turning, hidden colours show, and 16 bits of grey are cut off.

  Returns:
    uint8 `[h w 3]`.

  Raises:
    UnreadableImage: with the reason.
  """
  return fit(open_rgb(data, max_megapixels, plain), size, flip=flip)


def fit(
  image: Image.Image,
  size: tuple[int, int],
  *,
  flip: bool = False,
  interpolate: bool = True,
) -> UInt8[np.ndarray, "h w c"]:
  """Resizes and perhaps mirrors a picture of 8 bits.

  Args:
    image: of one or three channels.
    size: height and width of the result; the aspect ratio is not kept.
    flip: mirror left and right.
    interpolate: antialiased and bilinear; False takes the nearest pixel, as
      is right for class ids.
  """
  kind = Image.Resampling.BILINEAR if interpolate else Image.Resampling.NEAREST
  if image.size != (size[1], size[0]):
    image = image.resize((size[1], size[0]), kind)
  if flip:
    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
  pixels = np.asarray(image)
  return pixels[..., None] if pixels.ndim == 2 else pixels


def open_rgb(
  data: bytes, max_megapixels: float = MEGAPIXELS, plain: bool = False
) -> Image.Image:
  """The picture in RGB at its own size, see `decode`."""
  return _open(data, max_megapixels, _plain("RGB") if plain else _shown)


def rgb_profile(data: bytes) -> bytes | None:
  """The colour profile of a picture, if it holds for its `open_rgb` too."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its size, which is checked elsewhere
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
      profile = image.info.get("icc_profile") or b""
  return profile if profile[16:20] == b"RGB " else None


def shown_size(path: str | os.PathLike[str]) -> tuple[int, int]:
  """Height and width of a picture as it is shown; only its header is read.

  Raises:
    OSError, ValueError: it is none.
  """
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its size, which costs nothing here
    with Image.open(path, formats=FORMATS) as image:
      width, height = image.size
      turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
  return (width, height) if turned else (height, width)


def open_grey(
  data: bytes, max_megapixels: float = MEGAPIXELS, plain: bool = False
) -> Image.Image:
  """The picture in grey (mode L) at its own size, for sketches."""
  if plain:
    return _open(data, max_megapixels, _plain("L"))
  return open_rgb(data, max_megapixels).convert("L")


def open_labels(
  data: bytes, n_classes: int, max_megapixels: float = MEGAPIXELS
) -> Image.Image:
  """A map of class ids (mode L); of a palette the indices count.

  Raises:
    UnreadableImage: also for other modes than L and P, for JPEG, which
      changes numbers, and for ids that are not below `n_classes`.
  """
  if data.startswith(b"\xff\xd8"):
    raise UnreadableImage("class ids do not survive JPEG; save them as PNG")

  def checked(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode not in ("L", "P"):
      raise UnreadableImage(
        f"its mode is {image.mode}; class ids need one channel of 8 bits "
        "(mode L or P)"
      )
    ids = np.asarray(image)
    largest = int(ids.max())
    if largest >= n_classes:
      raise UnreadableImage(
        f"it holds class {largest}, allowed are 0 to {n_classes - 1}; correct "
        "it, or raise data.labels"
      )
    return Image.fromarray(ids)

  return _open(data, max_megapixels, checked)


def _open(
  data: bytes,
  max_megapixels: float,
  convert: Callable[[Image.Image], Image.Image],
) -> Image.Image:
  if not data:
    raise UnreadableImage("the file is empty")
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # Pillow's size warning: own limit below
      image = _header(data, max_megapixels)
      _check_size(image, max_megapixels)
      image.load()
      return convert(image)
  except UnreadableImage:
    raise
  except Image.UnidentifiedImageError:
    raise UnreadableImage(_what_else(data)) from None
  except Exception as error:  # Pillow's plugins raise nearly anything
    reason = str(error) or type(error).__name__
    raise UnreadableImage(reason.splitlines()[0]) from error


def _header(data: bytes, max_megapixels: float) -> Image.Image:
  """The picture, of which only the header is read."""
  try:
    return Image.open(io.BytesIO(data), formats=FORMATS)
  except Image.DecompressionBombError:
    pass
  # Pillow has a limit for all of a process, ours is an argument.
  with _unlimited:
    theirs, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
      image = Image.open(io.BytesIO(data), formats=FORMATS)
    finally:
      Image.MAX_IMAGE_PIXELS = theirs
  return image


def foreign(data: bytes) -> str | None:
  """The name of a format that is not opened, by how the bytes begin."""
  return _FOREIGN.get(data[4:12])


def _what_else(data: bytes) -> str:
  """Why there is no picture in bytes that no decoder knows."""
  if kind := foreign(data):
    return f"it is {kind}; save it as JPEG or PNG"
  if data.lstrip()[:1] == b"<":
    return "it is a web page or SVG, no picture of pixels"
  return f"not one of {', '.join(FORMATS)}"


def _check_size(image: Image.Image, max_megapixels: float) -> None:
  width, height = image.size
  if width * height > max_megapixels * 1e6:
    raise UnreadableImage(
      f"{width} x {height} pixels are more than {max_megapixels:g} megapixels; "
      "make it smaller (or, for training, raise data.max_megapixels)"
    )


def _plain(mode: str) -> Callable[[Image.Image], Image.Image]:
  return lambda image: image.convert(mode)


def _shown(image: Image.Image) -> Image.Image:
  """RGB as a viewer shows it."""
  ImageOps.exif_transpose(image, in_place=True)
  if image.mode in _SIXTEEN_BITS:
    image = _eight_bits(image)
  if image.mode == "F":
    raise UnreadableImage(
      "its pixels are floats of no known range; save it with 8 or 16 bits"
    )
  if image.has_transparency_data:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image)
  return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
  """Grey of 16 bits scaled to 8; what is transparent becomes white."""
  values = np.asarray(image).astype(np.int64)
  if values.min() < 0 or values.max() > 65535:
    raise UnreadableImage(
      f"its pixels are from {values.min()} to {values.max()}; save it with 8 "
      "or 16 bits"
    )
  hidden = image.info.get("transparency")
  if isinstance(hidden, int):
    values = np.where(values == hidden, 65535, values)
  return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
