"""Terms of the losses: pure functions of arrays; networks come as arguments.

e4e: Tov et al. 2021, arXiv 2102.02766 (terms as named there). R1: Mescheder
et al. 2018, arXiv 1801.04406. Codes are `w_plus` `[b n d]`. `active` `[n]`
masks the styles that have woken in progressive training: 1 for awake, 0 for
asleep; style 0 is always awake.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

Distance = Callable[[Array, Array], Array]
"""Maps two batches of images to distances `[b]`, as `models.lpips.LPIPS`."""

Critic = Callable[[Array], Array]
"""Maps codes `[b d]` to logits `[b]` or `[b 1]`; high means real."""


def active_styles(n_styles: int, stage: Array | None) -> Float[Array, " n"]:
  """Mask of the styles 0 to `stage`; all of them if `stage` is None."""
  if stage is None:
    return jnp.ones(n_styles)
  return (jnp.arange(n_styles) <= stage).astype(jnp.float32)


def l2(
  prediction: Float[Array, "b h w c"], target: Float[Array, "b h w c"]
) -> Float[Array, ""]:
  """Mean squared error over all values; images in [-1, 1] (L_2)."""
  return jnp.mean(jnp.square(prediction - target))


def lpips(
  distance: Distance,
  prediction: Float[Array, "b h w c"],
  target: Float[Array, "b h w c"],
) -> Float[Array, ""]:
  """Mean perceptual distance; images in [-1, 1] (L_lpips)."""
  return distance(prediction, target).mean()


def cosine(
  a: Float[Array, "b e"], b: Float[Array, "b e"]
) -> Float[Array, " b"]:
  """Cosines of unit vectors."""
  return jnp.sum(a * b, axis=-1)


def dissimilarity(
  prediction: Float[Array, "b e"], target: Float[Array, "b e"]
) -> Float[Array, ""]:
  """One minus the mean cosine of unit vectors of images (L_sim, L_id)."""
  return jnp.mean(1 - cosine(prediction, target))


def w_norm(
  w_plus: Float[Array, "b n d"], w_avg: Float[Array, "n d"]
) -> Float[Array, ""]:
  """Mean norm, over all styles together, of the offset from the mean code.

  L_reg of pSp (arXiv 2008.00951, equation 4); its gradient at 0 is 0.
  """
  offsets = (w_plus - w_avg[None]).reshape(len(w_plus), -1)
  return optax.safe_norm(offsets, 0.0, axis=-1).mean()


def delta(
  w_plus: Float[Array, "b n d"], active: Float[Array, " n"], p: float = 2.0
) -> Float[Array, ""]:
  """Sum over styles of the mean p-norm of their offset from style 0 (L_d-reg).

  The norm, not its square, as published code has it; its gradient at 0 is 0.
  """
  norms = optax.safe_norm(w_plus[:, 1:] - w_plus[:, :1], 0.0, p, axis=-1)
  return jnp.sum(norms.mean(0) * active[1:])


def encoder_adversarial(
  critic: Critic, w_plus: Float[Array, "b n d"], active: Float[Array, " n"]
) -> Float[Array, ""]:
  """Non-saturating loss of the encoder, averaged over awake styles (L_adv)."""
  b, n, d = w_plus.shape
  logits = critic(w_plus.reshape(b * n, d)).reshape(b, n)
  per_style = jax.nn.softplus(-logits).mean(0)
  return jnp.sum(per_style * active) / jnp.sum(active)


def discriminator_real(
  critic: Critic, real: Float[Array, "b d"]
) -> Float[Array, ""]:
  """Logistic loss on sampled codes (L_adv of D, first term)."""
  return jax.nn.softplus(-critic(real)).mean()


def discriminator_fake(
  critic: Critic, fake: Float[Array, "b d"]
) -> Float[Array, ""]:
  """Logistic loss on encoded codes (L_adv of D, second term)."""
  return jax.nn.softplus(critic(fake)).mean()


def r1(critic: Critic, real: Float[Array, "b d"]) -> Float[Array, ""]:
  """Mean squared norm of the gradient on real codes (R1).

  Multiply it by gamma / 2, and by the interval when it acts once in a while.
  """
  gradient = jax.grad(lambda codes: critic(codes).sum())(real)
  return jnp.mean(jnp.sum(jnp.square(gradient), axis=-1))


def weighted_sum(terms: dict[str, Array], weights: object) -> Float[Array, ""]:
  """The total: each named term times the weight of the same name."""
  parts = [getattr(weights, name) * value for name, value in terms.items()]
  return jnp.sum(jnp.stack(parts))
