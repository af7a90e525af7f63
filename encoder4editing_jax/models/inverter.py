"""Encoder and generator together: images to codes to images.

pSp (arXiv 2008.00951, figure 2) and e4e (2102.02766) predict
offsets from the mean code in one pass. ReStyle (2104.02699, equation 1) feeds
its own reconstruction back and predicts offsets from the previous code.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax import ops
from encoder4editing_jax.models.layers import Buffer
from encoder4editing_jax.models.stylegan2 import Generator
from encoder4editing_jax.models.synthesis import Noise


class Inversion(NamedTuple):
  """Reconstructions `[b h w 3]` and their codes `[b n d]`.

  With all steps of a refinement, both have an axis of steps after `b`.
  """

  images: Array
  w_plus: Array


def mix_styles(
  w_plus: Float[Array, "b n d"],
  latent_mask: Sequence[int],
  inject: Array | None = None,
  alpha: float | None = None,
) -> Float[Array, "b n d"]:
  """Replaces the styles of some layers (pSp, section 4: multi-modal).

  Args:
    w_plus: codes; not changed in place.
    latent_mask: layers to replace, 0 the coarsest.
    inject: codes `[b d]` or `[b n d]` to take them from; zeros if None.
    alpha: share of `inject`; None replaces entirely.

  Raises:
    ValueError: a layer that the codes do not have.
  """
  n = w_plus.shape[1]
  if bad := [i for i in latent_mask if not 0 <= i < n]:
    raise ValueError(f"latent_mask names layer {bad[0]}; use 0 to {n - 1}.")
  if inject is None:
    inject, alpha = jnp.zeros_like(w_plus), None
  if inject.ndim == 2:
    inject = jnp.repeat(inject[:, None], n, 1)
  if alpha is not None:
    inject = alpha * inject + (1 - alpha) * w_plus
  chosen = jnp.zeros(n, bool).at[jnp.array(latent_mask, int)].set(True)
  return jnp.where(chosen[None, :, None], inject, w_plus)


def crop_and_pool(
  images: Float[Array, "b h w c"], size: tuple[int, int]
) -> Float[Array, "b h2 w2 c"]:
  """The middle of images, of the shape of a size, pooled to that size.

  Generators of wide pictures paint them in the middle of a square (cars of
  192 x 256: the rows 64 to 447 of 512); what is above and below is cut off.
  Values stay in their range. The originals pool such pictures to a square
  before they crop; for square sizes this is their `face_pool`.
  """
  (h, w), (rows, columns) = images.shape[1:3], size
  height = min(h, round(w * rows / columns))
  width = min(w, round(h * columns / rows))
  top, left = (h - height) // 2, (w - width) // 2
  middle = images[:, top : top + height, left : left + width]
  return ops.adaptive_avg_pool(middle, size)


class Inverter(nnx.Module):
  """An encoder, a generator and the mean code between them.

  Args:
    encoder: predicts offsets `[b n d]` of images.
    generator: of the same number and width of styles.
    w_avg: mean code, `[d]` or `[n d]`; the generator's if None. Zeros for
      encoders that were trained without `start_from_latent_avg`.
    restyle: the encoder refines: it sees the image and the current
      reconstruction (6 channels) and predicts an offset to the current code.

  Raises:
    ValueError: encoder and generator do not fit together.
  """

  def __init__(
    self,
    encoder: nnx.Module,
    generator: Generator,
    w_avg: Array | None = None,
    restyle: bool = False,
  ):
    sides = {"n_styles": "styles", "style_dim": "numbers in a style"}
    for name, what in sides.items():
      ours, theirs = getattr(encoder, name), getattr(generator, name)
      if ours != theirs:
        raise ValueError(
          f"the encoder predicts {ours} {what}, the generator takes {theirs}; "
          f"build the encoder with {name}={theirs}."
        )
    if w_avg is None:
      w_avg = generator.w_avg[...]
    shape = (generator.n_styles, generator.style_dim)
    w_avg = jnp.asarray(w_avg)
    self.encoder = encoder
    self.generator = generator
    self.w_avg = Buffer(jnp.broadcast_to(jnp.atleast_2d(w_avg), shape))
    self.restyle = restyle

  def encode(
    self, images: Float[Array, "b h w c"], stage: int | Array | None = None
  ) -> Float[Array, "b n d"]:
    """Codes of images in [-1, 1], of the encoder's input size, in one pass."""
    if self.restyle:
      return self._refined_codes(images, self._start(images), stage)
    return self.encoder(images, stage=stage) + self.w_avg[...][None]

  def decode(
    self,
    w_plus: Float[Array, "b n d"],
    noise: Noise = "stored",
    key: Array | None = None,
    resize: bool | tuple[int, int] = False,
  ) -> Float[Array, "b h w 3"]:
    """Images of codes.

    Args:
      w_plus: codes.
      noise: see `Generator`; stored noise makes the result reproducible.
      key: for `noise="random"`.
      resize: average-pool to this (height, width); True for the size that the
        encoder takes, False for the generator's own. Of a size of another
        shape, see `crop_and_pool`.
    """
    images = self.generator.synthesis(w_plus, noise, key)
    if resize is False:
      return images
    size = self.encoder.input_shape if resize is True else resize
    return crop_and_pool(images, size)

  def average_image(
    self, size: tuple[int, int] | None = None
  ) -> Float[Array, "1 h w 3"]:
    """The image of the mean code: where ReStyle's refinement starts."""
    return self.decode(self.w_avg[...][None], resize=size or True)

  def _start(self, images: Array) -> Inversion:
    b, size = images.shape[0], images.shape[1:3]
    average = self.average_image(size)
    tile = (b, 1, 1)
    return Inversion(
      jnp.tile(average, (*tile, 1)), jnp.tile(self.w_avg[...][None], tile)
    )

  def refine(
    self,
    images: Float[Array, "b h w c"],
    current: Inversion,
    noise: Noise = "stored",
    key: Array | None = None,
    stage: int | Array | None = None,
  ) -> Inversion:
    """One ReStyle step from a current inversion; its images at full size."""
    w_plus = self._refined_codes(images, current, stage)
    return Inversion(self.decode(w_plus, noise, key), w_plus)

  def _refined_codes(
    self, images: Array, current: Inversion, stage: int | Array | None
  ) -> Array:
    """The codes of a ReStyle step (equation 1), without their images."""
    fed_back = crop_and_pool(current.images, images.shape[1:3])
    pair = jnp.concatenate([images, fed_back], -1)
    return self.encoder(pair, stage=stage) + current.w_plus

  def invert(
    self,
    images: Float[Array, "b h w c"],
    iterations: int = 1,
    *,
    noise: Noise = "stored",
    key: Array | None = None,
    resize: bool | tuple[int, int] = False,
    all_steps: bool = False,
  ) -> Inversion:
    """Reconstructs images in [-1, 1].

    Args:
      images: of the encoder's input size.
      iterations: ReStyle steps; other encoders take exactly one.
      noise: see `Generator`.
      key: for `noise="random"`, the same in every step.
      resize: see `decode`.
      all_steps: keep every step, along axis 1.

    Returns:
      `(images, w_plus)` after the last step.

    Raises:
      ValueError: several iterations with an encoder that cannot refine.
    """
    if iterations < 1:
      raise ValueError(f"iterations is {iterations}; pass 1 or more.")
    if iterations > 1 and not self.restyle:
      raise ValueError(
        f"iterations is {iterations}, but this encoder inverts in one pass; "
        "pass 1, or use a ReStyle encoder."
      )
    if not self.restyle:
      w_plus = self.encode(images)
      steps = [Inversion(self.decode(w_plus, noise, key), w_plus)]
    else:
      steps = [self._start(images)]
      for _ in range(iterations):
        steps.append(self.refine(images, steps[-1], noise, key))
      steps = steps[1:]
    if resize is not False:
      size = self.encoder.input_shape if resize is True else resize
      steps = [s._replace(images=crop_and_pool(s.images, size)) for s in steps]
    if all_steps:
      return Inversion(*(jnp.stack(x, 1) for x in zip(*steps, strict=True)))
    return steps[-1]

  def __call__(
    self,
    x: Array,
    *,
    latent_mask: Sequence[int] | None = None,
    inject: Array | None = None,
    alpha: float | None = None,
    noise: Noise = "stored",
    key: Array | None = None,
    resize: bool | tuple[int, int] = True,
  ) -> Inversion:
    """pSp's forward pass: images `[b h w c]`, w_plus `[b n d]` or z `[b d]` in.

    Args:
      x: what to reconstruct; z goes through the mapping network.
      latent_mask: layers whose styles are replaced, see `mix_styles`.
      inject: see `mix_styles`.
      alpha: see `mix_styles`.
      noise: see `Generator`.
      key: for `noise="random"`.
      resize: see `decode`; pSp pools to the encoder's input size.

    Returns:
      `(images, w_plus)`, w_plus after mixing.
    """
    if x.ndim == 4:
      w_plus = self.encode(x)
    elif x.ndim == 2:
      w_plus = self.generator.to_w_plus([self.generator.mapping(x)])
    else:
      w_plus = x
    if latent_mask is not None:
      w_plus = mix_styles(w_plus, latent_mask, inject, alpha)
    return Inversion(self.decode(w_plus, noise, key, resize), w_plus)
