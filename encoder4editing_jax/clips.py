"""Moving pictures as files: GIF and WebP by Pillow, MP4 by PyAV."""

import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from encoder4editing_jax import files

ENDINGS = (".gif", ".webp", ".mp4")

Frames = Iterable[UInt8[np.ndarray, "h w 3"]]


def check_clip(path: str | os.PathLike[str]) -> None:
  """Raises ValueError or ImportError if no such clip can be made here."""
  ending = Path(path).suffix.lower()
  if ending not in ENDINGS:
    raise ValueError(f"{path}: name a clip {', '.join(ENDINGS)}.")
  if ending == ".mp4":
    try:
      import av  # noqa: F401
    except ImportError as error:
      raise ImportError(
        'MP4 needs PyAV; pip install "encoder4editing_jax[video]", or name a '
        ".gif or .webp file."
      ) from error


def save_clip(
  path: str | os.PathLike[str], frames: Frames, fps: int = 12
) -> int:
  """Writes a clip; GIF and WebP go round for ever.

  Args:
    path: .gif (256 colours), .webp or .mp4 (H.264; odd sides lose a pixel).
    frames: pictures of one size, one after the other.
    fps: frames in a second.

  Returns:
    The number of frames.

  Raises:
    ValueError: another ending, or no frames.
    ImportError: .mp4 without PyAV.
    OSError: the file cannot be written.
  """
  check_clip(path)
  frames = iter(frames)
  first = next(frames, None)
  if first is None:
    raise ValueError(f"{path}: there are no frames to write.")
  save = _mp4 if Path(path).suffix.lower() == ".mp4" else _pictures
  with files.replacing(path) as unfinished:
    return save(unfinished, itertools.chain([first], frames), fps)


def _pictures(path: Path, frames: Frames, fps: int) -> int:
  first, *rest = map(Image.fromarray, frames)
  options: dict[str, Any] = {}
  if path.suffix.lower() == ".webp":  # key frames alone: others leave shadows
    options = {"quality": 90, "kmin": 0, "kmax": 1}
  first.save(
    path,
    save_all=True,
    append_images=rest,
    duration=round(1000 / fps),
    loop=0,
    **options,
  )
  return 1 + len(rest)


def _mp4(path: Path, frames: Frames, fps: int) -> int:
  import av

  n = 0
  stream: Any = None
  with av.open(str(path), "w", format="mp4") as file:
    for pixels in frames:
      n += 1
      even = np.ascontiguousarray(
        pixels[: len(pixels) // 2 * 2, : pixels.shape[1] // 2 * 2]
      )
      if stream is None:
        stream = file.add_stream("h264", rate=fps)
        stream.height, stream.width = even.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "18"}
      frame = av.VideoFrame.from_ndarray(even, format="rgb24")
      file.mux(stream.encode(frame))
    file.mux(stream.encode(None))
  return n
