"""The one decoder: encoded bytes to the RGB picture that a viewer shows."""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

EXTENSIONS = (
  ".jpg",
  ".jpeg",
  ".png",
  ".webp",
  ".bmp",
  ".ppm",
  ".tif",
  ".tiff",
)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF")
_SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")


class UnreadableImage(ValueError):
  """Bytes that are no picture that this library opens; says why."""


def decode(
  data: bytes,
  size: tuple[int, int],
  *,
  flip: bool = False,
  max_megapixels: float = 100.0,
) -> np.ndarray:
  """Decodes, resizes and perhaps mirrors one picture.

  The picture is turned as its EXIF orientation says, transparency is laid on
  white, palettes, CMYK and grey become RGB, and 16 bits are scaled to 8.
  Shrinking is antialiased and bilinear.

  Args:
    data: the file's bytes.
    size: height and width of the result; the aspect ratio is not kept.
    flip: mirror left and right.
    max_megapixels: larger pictures are refused before they are decoded.

  Returns:
    uint8 `[h w 3]`.

  Raises:
    UnreadableImage: with the reason.
  """
  image = open_rgb(data, max_megapixels)
  image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
  if flip:
    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
  return np.asarray(image)


def open_rgb(data: bytes, max_megapixels: float = 100.0) -> Image.Image:
  """The picture in RGB at its own size, see `decode`."""
  if not data:
    raise UnreadableImage("the file is empty")
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # Pillow's size warning: own limit below
      image = Image.open(io.BytesIO(data), formats=FORMATS)
      _check_size(image, max_megapixels)
      image.load()
      return _to_rgb(ImageOps.exif_transpose(image))
  except UnreadableImage:
    raise
  except Image.UnidentifiedImageError:
    reason = f"not one of {', '.join(FORMATS)}"
    raise UnreadableImage(reason) from None
  except Exception as error:  # Pillow's plugins raise nearly anything
    reason = str(error) or type(error).__name__
    raise UnreadableImage(reason.splitlines()[0]) from error


def _check_size(image: Image.Image, max_megapixels: float) -> None:
  width, height = image.size
  if width * height > max_megapixels * 1e6:
    raise UnreadableImage(
      f"{width} x {height} pixels are more than {max_megapixels:g} megapixels; "
      "raise data.max_megapixels"
    )


def _to_rgb(image: Image.Image) -> Image.Image:
  if image.mode in _SIXTEEN_BITS:
    values = np.asarray(image).astype(np.int64)
    values = np.clip(values, 0, 65535)
    image = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
  if image.has_transparency_data:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image)
  return image.convert("RGB")
