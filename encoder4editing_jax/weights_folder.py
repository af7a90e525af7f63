"""The folder of networks that losses and metrics look through.

Each has a fixed file name, so that a run needs to be told only the folder.
`e4e weights FILE... --dir DIR` fills it from the published files.
"""

from pathlib import Path
from typing import Any

from encoder4editing_jax import weights

NETWORKS = {
  "lpips_alex": "LPIPS with AlexNet",
  "lpips_vgg": "LPIPS with VGG-16",
  "lpips_squeeze": "LPIPS with SqueezeNet 1.1",
  "arcface_ir_se50": "ArcFace IR-SE50, identity of faces (loss)",
  "curricularface_ir101": "CurricularFace IR-101, identity (metric)",
  "moco": "MoCo v2 ResNet-50, similarity of other pictures (loss)",
  "inception_fid": "Inception v3 of 2015, FID (metric)",
}


def path_of(folder: str | Path, name: str) -> Path:
  """Where a folder keeps a network.

  Raises:
    ValueError: no network has that name.
  """
  if name not in NETWORKS:
    raise ValueError(f"no network is named {name}; use {', '.join(NETWORKS)}.")
  return Path(folder) / f"{name}.safetensors"


def load(folder: str | Path, name: str) -> Any:
  """A network of a folder.

  Args:
    folder: filled by `e4e weights`.
    name: one of `NETWORKS`.

  Raises:
    FileNotFoundError: the folder does not have it; the message says how to
      put it there.
    ValueError: as `path_of`, or as `weights.load`.
  """
  path = path_of(folder, name)
  if not path.is_file():
    raise FileNotFoundError(
      f"{path} is not there ({NETWORKS[name]}); docs/weights.md says which "
      f"files it is made of, and `e4e weights FILE... --dir {folder}` makes it."
    )
  return weights.load(path)
