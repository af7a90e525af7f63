"""The section of the configuration about images; see `config`."""

from dataclasses import dataclass
from typing import Literal

from encoder4editing_jax.config_rules import FACEWORLD


@dataclass(frozen=True)
class Data:
  """Images that the encoder learns from."""

  train: str = FACEWORLD
  """Folder of training images (searched recursively; JPEG, PNG, WebP, BMP,
  GIF, PPM and TIFF may be mixed), a data set that `e4e data build` or
  tensorflow-datasets prepared, or "faceworld" for rendered faces."""

  eval: str = ""
  """Folder or data set of held-out images, "faceworld" for freshly rendered
  faces, or "" to hold out a part of the training images."""

  task: Literal[
    "inversion",
    "super_resolution",
    "sketch",
    "segmentation",
    "frontalization",
    "inpainting",
  ] = "inversion"
  """What the encoder is shown of an image that is to be painted: the image
  itself; the image at low resolution; a sketch of it or a map of classes, from
  data.source; the image mirrored or not, on its own; the image with holes."""

  source: str = ""
  """Folder of what the encoder is shown, for sketch and segmentation (grey or
  palette PNG files of class ids), and if you like for frontalization. Each
  file has the name of an image in data.train, but for the ending. For a data
  set that was built with its sources: the same directory again."""

  eval_source: str = ""
  """The same for the images in data.eval."""

  split: str = ""
  """Split of a data set in data.train, as in train[:90%]; "" takes train, or
  the only one."""

  eval_split: str = ""
  """The same for data.eval."""

  feature: str = ""
  """Image feature of data sets; "" takes image, or the only one."""

  labels: int = 19
  """Number of classes of segmentation: ids are 0 to labels - 1."""

  resize_factors: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
  """Factors of super_resolution: drawn in training, in turn in evaluations."""

  size: tuple[int, int] = (256, 256)
  """Height and width that images are resized to, in pixels: any from 16 to
  the generator's."""

  flip: bool = True
  """Mirror half of the training images, with their sources (frontalization:
  each on its own). Class ids stay as they are: say False where classes tell
  left from right."""

  decode: Literal["shown", "plain"] = "shown"
  """How files become RGB: "shown" as in a viewer (turned by EXIF, transparency
  on white, 16 bits scaled), "plain" as the originals do, by Pillow's
  convert("RGB") alone."""

  on_unreadable: Literal["stop", "skip"] = "stop"
  """What a file that cannot be decoded does: "stop" ends the run before
  training, "skip" leaves the file out. Either way each one is named."""

  eval_images: int = 64
  """Number of held-out images; at most a tenth of a training folder."""

  rendered_images: int = 4096
  """Number of training images that are rendered for "faceworld"."""

  workers: int = 2
  """Threads that decode images."""

  max_megapixels: float = 100.0
  """Largest image that is opened, in millions of pixels."""

  read_timeout: float = 120.0
  """Seconds that reading a file may take; then the run ends and names it."""
