"""The tasks of pSp (arXiv 2008.00951): what the encoder is shown.

Every task paints the target picture; they differ in the source that its code
is read from. On the way to the device a source is uint8 `[h w c]`; there
`to_source` makes of it what the encoder takes.

    task              source                            the encoder sees
    inversion         the target itself                 RGB in [-1, 1]
    super_resolution  the target, shrunk and enlarged   RGB in [-1, 1]
    inpainting        the target, partly covered        RGB in [-1, 1]
    frontalization    the target or its partner in a    RGB in [-1, 1]
                      file, mirrored on its own
    sketch            a file, one channel               grey in [0, 1]
    segmentation      a file of class ids               one-hot in {0, 1}
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

from encoder4editing_jax.config import Data
from encoder4editing_jax.data import images

# The colours in which CelebAMask-HQ's 19 classes are commonly shown.
LABEL_COLOURS = (
  *((0, 0, 0), (204, 0, 0), (76, 153, 0), (204, 204, 0), (51, 51, 255)),
  *((204, 0, 204), (0, 255, 255), (255, 204, 204), (102, 51, 0), (255, 0, 0)),
  *((102, 204, 0), (255, 255, 0), (0, 0, 153), (0, 0, 204), (255, 51, 153)),
  *((0, 204, 204), (0, 51, 0), (255, 153, 51), (0, 204, 0)),
)


@dataclasses.dataclass(frozen=True)
class Task:
  """A task and its numbers; see `config.Data` for what they mean."""

  name: str = "inversion"
  labels: int = 19
  factors: tuple[int, ...] = (1, 2, 4, 8, 16, 32)

  @property
  def channels(self) -> int:
    """Channels of the encoder's input."""
    return {"sketch": 1, "segmentation": self.labels}.get(self.name, 3)

  def batch_channels(self) -> dict[str, int]:
    """Channels of what a batch holds, on its way to the device."""
    if self.name == "inversion":  # the source is the target
      return {"image": 3}
    grey = self.name in ("sketch", "segmentation")
    return {"image": 3, "source": 1 if grey else 3}

  @property
  def ids(self) -> int:
    """Number of classes of its sources; 0 if they are no maps of classes."""
    return self.labels if self.name == "segmentation" else 0

  def open(
    self, data: bytes, max_megapixels: float = 100.0, plain: bool = False
  ) -> Image.Image:
    """A source file as a picture of 8 bits, at its own size.

    `plain` is as in `images.decode`; class ids are read as they are.

    Raises:
      images.UnreadableImage: with the reason.
    """
    if self.name == "segmentation":
      return images.open_labels(data, self.labels, max_megapixels)
    if self.name == "sketch":
      return images.open_grey(data, max_megapixels, plain)
    return images.open_rgb(data, max_megapixels, plain)

  def decode(
    self,
    data: bytes,
    size: tuple[int, int],
    *,
    flip: bool = False,
    max_megapixels: float = 100.0,
    plain: bool = False,
  ) -> UInt8[np.ndarray, "h w c"]:
    """A source file, resized and perhaps mirrored.

    Raises:
      images.UnreadableImage: with the reason.
    """
    picture = self.open(data, max_megapixels, plain)
    interpolate = self.name != "segmentation"
    return images.fit(picture, size, flip=flip, interpolate=interpolate)


INVERSION = Task()


def task_of(data: Data) -> Task:
  """The task that a config describes."""
  return Task(data.task, data.labels, data.resize_factors)


def to_float(
  images: UInt8[Array, "b h w c"]
  | Float[Array, "b h w c"]
  | UInt8[np.ndarray, "b h w c"],
) -> Float[Array, "b h w c"] | Float[np.ndarray, "b h w c"]:
  """Bytes to [-1, 1]; floats are there already."""
  if jnp.issubdtype(images.dtype, jnp.floating):
    return images
  return images.astype(jnp.float32) / 127.5 - 1


def to_source(batch: Mapping[str, Array], task: Task) -> Float[Array, "..."]:
  """What the encoder is shown of a batch, on the device.

  Args:
    batch: uint8 `[b h w c]`, "image" and, if the task makes one, "source".
    task: says what the bytes of the source mean.

  Returns:
    `[b h w task.channels]`.
  """
  source = batch.get("source", batch["image"])
  if task.name == "segmentation":
    return jax.nn.one_hot(source[..., 0], task.labels)
  if task.name == "sketch":
    return source.astype(jnp.float32) / 255
  return to_float(source)
