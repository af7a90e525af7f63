"""Invert images into StyleGAN2's W+ and edit them: e4e, pSp, ReStyle in JAX.

e4e: Tov et al. 2021, arXiv 2102.02766. pSp: Richardson et al. 2021,
arXiv 2008.00951. ReStyle: Alaluf et al. 2021, arXiv 2104.02699.

The public names (see `__init__.pyi`) are loaded on first use, so that importing
the package costs nothing and needs none of its heavier requirements.
"""

import importlib
import typing

__version__ = "0.1.0"

_NAMES = {
  "Config": "config",
  "load": "converters.loading",
  "save": "weights",
  "Generator": "models.stylegan2",
  "ArcFace": "models.arcface",
  "Backbone": "models.irse",
  "BackboneEncoder": "models.encoders",
  "Encoder4Editing": "models.encoders",
  "GradualStyleEncoder": "models.encoders",
  "ProgressiveBackboneEncoder": "models.encoders",
  "ResNetBackboneEncoder": "models.encoders",
  "ResNetGradualStyleEncoder": "models.encoders",
  "ResNetProgressiveBackboneEncoder": "models.encoders",
  "SingleStyleEncoder": "models.encoders",
  "WPlusEncoder": "models.encoders",
  "Discriminator": "models.discriminator",
  "LatentDiscriminator": "models.discriminator",
  "LPIPS": "models.lpips",
  "MoCo": "models.moco",
  "Inverter": "models.inverter",
}
_MODULES = (
  "align",
  "config",
  "configs",
  "converters",
  "data",
  "detectors",
  "directions",
  "editing",
  "exporting",
  "faceworld",
  "finding",
  "inference",
  "landmarks",
  "losses",
  "models",
  "ops",
  "optimising",
  "programs",
  "serving",
  "training",
  "weights",
  "weights_folder",
)


def __getattr__(name: str) -> typing.Any:
  if name in _NAMES:
    value = getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
  elif name in _MODULES:
    value = importlib.import_module(f".{name}", __name__)
  else:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  globals()[name] = value
  return value


def __dir__() -> list[str]:
  return sorted({*globals(), *_NAMES, *_MODULES})
