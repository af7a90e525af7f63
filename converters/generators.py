"""Generators from whatever file they come in."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import nnx

from encoder4editing_jax.converters import (
  sources,
  stylegan2,
  stylegan2_ada,
  stylegan2_tf,
  transfer,
)
from encoder4editing_jax.models.stylegan2 import Generator


def to_generator(checkpoint: Mapping[str, Any] | Sequence[Any]) -> Generator:
  """A StyleGAN2 generator.

  Args:
    checkpoint: one of these, as `read` gives them:

      - rosinality's `{"g_ema": ..., "latent_avg": ...}`, a framework's
        `{"state_dict": ...}`, or a bare state_dict of either;
      - a pickle of stylegan2-ada-pytorch or stylegan3, a network of it, or
        the state_dict of one;
      - a pickle of StyleGAN2 in TensorFlow, or a network of it.

      Without `latent_avg` rosinality's have their `w_avg` computed, with a
      fixed seed.

  Returns:
    The generator in float32; where a pickle says that it clamps, ours does.

  Raises:
    ValueError: a network of another kind (conditional, StyleGAN3, ...), or
      see `transfer.fill`.
  """
  for family in (stylegan2_ada, stylegan2_tf):
    if family.holds(checkpoint):
      source, arguments = family.find_generator(checkpoint)
      module = _abstract(arguments)
      return transfer.fill(module, family.generator_table(module), source)
  if not isinstance(checkpoint, Mapping):
    raise ValueError(
      f"a {type(checkpoint).__name__} of {len(checkpoint)} is no checkpoint of "
      "a generator; pass what `converters.read` returns."
    )
  return _rosinality(checkpoint)


def _abstract(arguments: Mapping[str, Any]) -> Generator:
  return transfer.abstract(lambda: Generator(**arguments, rngs=nnx.Rngs(0)))


def _rosinality(checkpoint: Mapping[str, Any]) -> Generator:
  source = sources.unwrap(checkpoint, "g_ema", "state_dict")
  source = sources.below(source, "decoder.") or source
  module = _abstract(stylegan2.generator_arguments(source))
  latent_avg = checkpoint.get("latent_avg")
  known = latent_avg is not None
  n, d = module.n_styles, module.style_dim
  rows = stylegan2.latent_avg_rows(latent_avg if known else np.zeros(d), n, d)
  generator = transfer.fill(
    module,
    stylegan2.generator_table(module),
    source,
    {"w_avg": stylegan2.centre(rows)},
  )
  if not known:
    generator.w_avg[...] = stylegan2.compute_w_avg(generator)
  return generator
