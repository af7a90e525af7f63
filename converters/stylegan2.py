"""StyleGAN2 networks of rosinality/stylegan2-pytorch (arXiv 1912.04958).

The names that e4e, pSp and ReStyle use for their decoders. Everything about
the architecture is read from shapes.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from encoder4editing_jax import phases
from encoder4editing_jax.converters import notes, table as tables
from encoder4editing_jax.converters.sources import Source
from encoder4editing_jax.converters.table import (
  Fixed,
  Layout,
  Row,
  Table,
  linear,
)
from encoder4editing_jax.models.stylegan2 import Generator

W_AVG_SAMPLES = 10_000
W_AVG_SEED = 0
FILTER: np.ndarray = np.outer(phases.FIR, phases.FIR).astype(np.float32)
_USUAL_BASES = (32768, 16384)  # configurations F and E

MODULATED = Layout(
  lambda x: x[0].transpose(2, 3, 1, 0),
  lambda x: x.transpose(3, 2, 0, 1)[None],
)
# A transposed convolution is a plain one of the flipped kernel.
MODULATED_UP = Layout(
  lambda x: x[0].transpose(2, 3, 1, 0)[::-1, ::-1],
  lambda x: x[::-1, ::-1].transpose(3, 2, 0, 1)[None],
)
MAP = Layout(
  lambda x: x[0].transpose(1, 2, 0), lambda x: x.transpose(2, 0, 1)[None]
)
SCALAR = Layout(lambda x: x.reshape(()), lambda x: x.reshape(1))
RGB_BIAS = Layout(lambda x: x.reshape(-1), lambda x: x.reshape(1, -1, 1, 1))


def styled_table(up: bool = False) -> Table:
  """The names of one styled convolution, but for its noise map."""
  rows = (
    Row("conv.weight", "kernel", MODULATED_UP if up else MODULATED),
    Row("noise.weight", "noise_strength", SCALAR),
    Row("activate.bias", "bias"),
  )
  blur = (Fixed("conv.blur.kernel", FILTER * 4),) if up else ()
  return Table(rows, blur) + linear("conv.modulation", "modulation")


def rgb_table(upsample: bool = False) -> Table:
  """The names of one conversion to colours."""
  rows = (
    Row("conv.weight", "kernel", MODULATED),
    Row("bias", "bias", RGB_BIAS),
  )
  fixed = (Fixed("upsample.kernel", FILTER * 4),) if upsample else ()
  return Table(rows, fixed) + linear("conv.modulation", "modulation")


def _noise(i: int, target: str) -> Table:
  return Table((Row(f"noises.noise_{i}", f"{target}.noise", MAP),))


def generator_table(generator: Generator) -> Table:
  """The names of a rosinality generator. `w_avg` is not among them."""
  parts = [
    linear(f"style.{i + 1}", f"mapping.layers.{i}")
    for i in range(generator.n_mlp)
  ]
  target = "synthesis"
  parts += [
    Table((Row("input.input", f"{target}.constant", MAP),)),
    styled_table().under("conv1.", f"{target}.conv."),
    _noise(0, f"{target}.conv"),
    rgb_table().under("to_rgb1.", f"{target}.to_rgb."),
  ]
  for b in range(len(generator.synthesis.blocks)):
    block = f"{target}.blocks.{b}"
    for k in (2 * b, 2 * b + 1):
      layer = f"{block}.conv{k % 2}"
      styled = styled_table(up=k % 2 == 0)
      parts += [styled.under(f"convs.{k}.", f"{layer}."), _noise(k + 1, layer)]
    parts.append(rgb_table(True).under(f"to_rgbs.{b}.", f"{block}.to_rgb."))
  return tables.join(parts)


def channel_rule(channels: Mapping[int, int]) -> dict[str, int]:
  """`channel_base` and `channel_max` from the channels at each resolution.

  Raises:
    ValueError: no such numbers give these channels.
  """
  largest = max(channels.values())
  lower = max(c * r for r, c in channels.items())
  bounds = [(c + 1) * r - 1 for r, c in channels.items() if c < largest]
  upper = min(bounds, default=max(lower, *_USUAL_BASES))
  if lower > upper:
    raise ValueError(
      f"channels per resolution {dict(channels)} follow no rule "
      "min(channel_base / resolution, channel_max); this width is not "
      "supported."
    )
  usual = [base for base in _USUAL_BASES if lower <= base <= upper]
  return {"channel_base": (usual or [lower])[0], "channel_max": largest}


def generator_arguments(source: Source) -> dict[str, Any]:
  """The arguments of the `Generator` whose weights these are."""
  what = "a StyleGAN2 generator"
  _, c, h, w = tables.shape(source, "input.input", 4, what)
  name = "to_rgb1.conv.modulation.weight"
  style_dim = tables.shape(source, name, 2, what)[1]
  channels = {4: c}
  for b in range(tables.largest(source, r"to_rgbs\.(\d+)\.") + 1):
    name = f"convs.{2 * b}.conv.weight"
    channels[8 << b] = tables.shape(source, name, 5, what)[1]
  return {
    "size": max(channels),
    **channel_rule(channels),
    "style_dim": style_dim,
    "n_mlp": max(tables.largest(source, r"style\.(\d+)\."), 0),
    "constant_shape": (h, w),
  }


def latent_avg_rows(value: Any, n: int, d: int) -> np.ndarray:
  """`latent_avg` as `[n d]`; files hold `(d,)`, `(1, d)` or `(n, d)`.

  Raises:
    ValueError: it has another shape, or is not finite.
  """
  rows = np.atleast_2d(np.asarray(value)).astype(np.float32)
  if rows.ndim != 2 or rows.shape[1] != d or rows.shape[0] not in (1, n):
    raise ValueError(
      f"'latent_avg' has shape {np.shape(value)}; expected ({d},), (1, {d}) "
      f"or ({n}, {d})."
    )
  if not np.isfinite(rows).all():
    raise ValueError("'latent_avg' holds NaN or infinity; leave it out.")
  return np.array(np.broadcast_to(rows, (n, d)))


def centre(rows: np.ndarray) -> np.ndarray:
  """One mean code of `[n d]`: the common row, or the mean of unequal ones."""
  return rows[0] if (rows == rows[0]).all() else rows.mean(0)


def compute_w_avg(generator: Generator) -> jax.Array:
  """The mean code of a generator whose file has none; always the same."""
  how = f"mean of {W_AVG_SAMPLES} random codes (seed {W_AVG_SEED})"
  notes.warn(
    f"the checkpoint has no latent_avg; computed it as the {how}.", w_avg=how
  )
  return generator.mean_latent(W_AVG_SAMPLES, jax.random.key(W_AVG_SEED))
