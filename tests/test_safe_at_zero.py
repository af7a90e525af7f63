"""Losses have finite gradients where a norm or a difference is zero.

Equal pictures, black pictures, codes without offsets, codes of zeros: a square
root or a quotient there makes NaN, and one NaN ends a run.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from encoder4editing_jax import losses
from encoder4editing_jax.config import Loss
from encoder4editing_jax.models.arcface import ArcFace, face_crop
from encoder4editing_jax.models.discriminator import LatentDiscriminator
from encoder4editing_jax.models.lpips import LPIPS
from encoder4editing_jax.models.moco import MoCo

SIDE, STYLES, D = 48, 4, 6


def lpips():
  net = LPIPS(channels=(4,) * 5, rngs=nnx.Rngs(0))
  return lambda x, y: losses.lpips(net, x, y)


def lpips_crop():
  whole = lpips()
  return lambda x, y: whole(face_crop(x), face_crop(y))


def identity():
  sizes = {"input_size": 32, "embedding_dim": 8, "channels": (4, 4, 8, 8)}
  embed = ArcFace(10, **sizes, rngs=nnx.Rngs(0)).embed_portrait
  return lambda x, y: losses.dissimilarity(embed(x), embed(y))


def moco():
  embed = MoCo((1, 1), channels=(4, 8), input_size=16, rngs=nnx.Rngs(0))
  return lambda x, y: losses.dissimilarity(embed(x), embed(y))


def l2_crop():
  return lambda x, y: losses.l2(face_crop(x), face_crop(y))


# Functions of two pictures.
PICTURES = {
  "l2": lambda: losses.l2,
  "l2_crop": l2_crop,
  "lpips": lpips,
  "lpips_crop": lpips_crop,
  "identity": identity,
  "moco": moco,
}


def adversarial(w):
  critic = LatentDiscriminator(D, hidden=8, n_layers=2, rngs=nnx.Rngs(0))
  return losses.encoder_adversarial(critic, w, jnp.ones(STYLES))


# Functions of codes.
CODES = {
  "w_norm": lambda w: losses.w_norm(w, jnp.zeros((STYLES, D))),
  "delta": lambda w: losses.delta(w, jnp.ones(STYLES)),
  "adversarial": adversarial,
}


def finite(tree):
  return all(np.isfinite(x).all() for x in jax.tree.leaves(tree))


def test_every_term_is_here():
  every = {f.name for f in dataclasses.fields(Loss)}
  every -= {"delta_norm", "lpips_net"}
  assert PICTURES.keys() | CODES.keys() == every


@pytest.mark.parametrize("name", PICTURES)
def test_at_equal_pictures(name):
  loss = jax.jit(jax.value_and_grad(PICTURES[name]()))
  random = np.random.RandomState(0).uniform(-1, 1, (1, SIDE, SIDE, 3))
  black, grey = -np.ones_like(random), np.zeros_like(random)
  for picture in (random, black, grey):
    x = jnp.asarray(picture, jnp.float32)
    value, gradient = loss(x, x)
    assert finite((value, gradient))
    if picture is random:  # others may have embeddings of zeros
      assert abs(value) < 1e-5


@pytest.mark.parametrize("name", CODES)
def test_at_codes_without_offsets(name):
  for w in (jnp.zeros((2, STYLES, D)), jnp.ones((2, STYLES, D))):
    assert finite(jax.value_and_grad(CODES[name])(w))


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_norms_have_slope_zero_at_zero(p):
  zero = jnp.zeros((2, STYLES, D))
  slope = jax.grad(losses.delta)(zero, jnp.ones(STYLES), p)
  np.testing.assert_array_equal(slope, 0)
  np.testing.assert_array_equal(jax.grad(CODES["w_norm"])(zero), 0)


@pytest.mark.parametrize(
  "name", ["discriminator_real", "discriminator_fake", "r1"]
)
def test_a_critic_of_zeros(name):
  critic = LatentDiscriminator(D, hidden=8, n_layers=2, rngs=nnx.Rngs(0))
  graph, parameters = nnx.split(critic)
  for shift in (0, 1e4):  # logits of zero, and such as exp would not take
    moved = jax.tree.map(lambda x, s=shift: x + s, parameters)
    found = jax.value_and_grad(
      lambda p: getattr(losses, name)(nnx.merge(graph, p), jnp.zeros((2, D)))
    )(moved)
    assert finite(found), shift


def test_cosines_of_zeros():
  zero = jnp.zeros((2, D))
  value, gradient = jax.value_and_grad(losses.dissimilarity)(zero, zero)
  assert value == 1 and finite(gradient)


def test_embeddings_of_zeros():
  sizes = {"input_size": 16, "embedding_dim": 4, "channels": (4, 4, 4, 4)}
  graph, state = nnx.split(ArcFace(10, **sizes, rngs=nnx.Rngs(0)))
  dead = jax.tree.map(jnp.zeros_like, state)
  x = jnp.ones((1, 16, 16, 3))
  embed = jax.value_and_grad(lambda s: nnx.merge(graph, s)(x).sum())
  value, gradient = jax.jit(embed)(dead)
  assert value == 0 and finite(gradient)
