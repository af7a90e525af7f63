"""Faceworld: drawn faces with known attributes, and a generator fitted to them.

A small world in which everything can be checked: `render` paints a face from
14 numbers, the shipped `load_generator()` (64 x 64, fitted with `fit`) makes
the same faces from latent codes, `attributes(z)` is the truth about a code,
`load_directions()` are its editing directions and `measure` reads the
attributes off a picture. The same faces can be had as maps of classes
(`render_labels`) and as drawings (`render_contours`). No download needed.
"""

from importlib import resources
from typing import Any

from encoder4editing_jax.faceworld.directions import load_directions
from encoder4editing_jax.faceworld.drawings import (
  LABELS,
  render_contours,
  render_labels,
)
from encoder4editing_jax.faceworld.folder import write_images, write_sources
from encoder4editing_jax.faceworld.measuring import measure, probe_accuracy
from encoder4editing_jax.faceworld.renderer import (
  ATTRIBUTES,
  STYLE_DIM,
  attributes,
  render,
  sample,
)
from encoder4editing_jax.models.inverter import Inverter
from encoder4editing_jax.models.stylegan2 import Generator

__all__ = [
  "ATTRIBUTES",
  "LABELS",
  "STYLE_DIM",
  "attributes",
  "load_directions",
  "load_generator",
  "load_inverter",
  "measure",
  "probe_accuracy",
  "render",
  "render_contours",
  "render_labels",
  "sample",
  "write_images",
  "write_sources",
]


def load_generator() -> Generator:
  """The generator shipped with the package: z `[b 64]` to 64 x 64 faces.

  It was fitted without noise; its noise strengths are 0.
  """
  return _load("generator.safetensors")


def load_inverter() -> Inverter:
  """The generator with an encoder for it: 64 x 64 faces to codes and back.

  An `Encoder4Editing` of 10 layers, trained as its file says (`e4e info`).
  """
  return Inverter(_load("encoder.safetensors"), load_generator())


def _load(name: str) -> Any:
  from encoder4editing_jax import weights

  source = resources.files("encoder4editing_jax.faceworld")
  with resources.as_file(source / name) as path:
    return weights.load(path)
