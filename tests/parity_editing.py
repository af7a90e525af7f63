"""Parity of edits: InterFaceGAN, GANSpace and SeFa as e4e applies them."""

import functools

import jax.numpy as jnp
import numpy as np
import parity
from goldens.recipe import recipe_normal, recipe_state_dict
from parity import call, case, nchw
from parity_networks import D

from encoder4editing_jax import converters, editing, finding
from encoder4editing_jax.training import pictures

STYLES = 10  # of a generator of side 64
SEFA = {"2_3_4_5": (2, 3, 4, 5), "0_1": (0, 1), "all": tuple(range(9))}


def drawn(name, *shape, scale=1.0):
  return jnp.asarray(recipe_normal(f"editing/{name}", shape, scale=scale))


@functools.cache
def generator():
  state = recipe_state_dict("e4e_64", prefix="decoder.")
  return converters.to_generator({"g_ema": state, "latent_avg": np.zeros(D)})


def paint(codes):
  return call(generator(), lambda g, w: g.synthesis(w), codes)


def strip(images):
  """Bytes side by side, cut off as the originals do."""
  pixels = pictures.to_bytes(np.asarray(images), truncate=True)
  return np.concatenate(list(pixels), 1)


@case("editing", "interfacegan/", network="editing")
def interfacegan():
  latent = drawn("latent", 1, STYLES, D)
  direction = drawn("direction", 1, D, scale=0.3)
  single = paint(editing.move(latent, direction, 2.5))
  yield "interfacegan/single_image", nchw(single)
  yield "interfacegan/single_uint8", strip(single)
  codes = [editing.move(latent, direction, f) for f in (-3.0, -1.0, 1.0, 3.0)]
  yield "interfacegan/range_uint8", strip(paint(jnp.concatenate(codes)))


@case("editing", "ganspace/", network="editing")
def ganspace():
  comp = drawn("pca_comp", 20, 1, D)
  comp = comp / jnp.linalg.norm(comp, axis=-1, keepdims=True)
  std = jnp.abs(drawn("pca_std", 20)) + 0.5
  mean = drawn("pca_mean", 1, D, scale=0.5)
  pca = converters.to_directions({"mean": mean, "comp": comp, "std": std})
  pca = editing.Components(**pca)
  rows = parity.load("editing")["ganspace/directions"]
  yield "ganspace/directions", rows
  edits = [(int(k), int(a), int(b), s) for k, a, b, s in rows.tolist()]
  latents = drawn("latents2", 2, STYLES, D)
  edited = [editing.set_coordinates(latents, pca, [e]) for e in edits]
  edited = jnp.stack(edited, 1)
  first = [edited[0, i, e[1]] - latents[0, e[1]] for i, e in enumerate(edits)]
  yield "ganspace/delta", jnp.stack(first)
  yield "ganspace/edited", edited.reshape(-1, STYLES, D)
  latent = drawn("latent", 1, STYLES, D)
  edited = [editing.set_coordinates(latent, pca, [e]) for e in edits]
  yield "ganspace/image_uint8", strip(paint(jnp.concatenate(edited)))


def in_their_order(ours, golden, name):
  """Eigenvalues and vectors in the order, and of the signs, of the original,
  whose solver leaves both to chance."""
  values = golden[f"sefa_{name}/eigenvalues"]
  vectors = golden[f"sefa_{name}/first_vectors"]
  rank = np.argsort(np.argsort(-values))
  first = ours.directions[rank[: len(vectors)]]
  signs = np.sign((first * vectors).sum(1, keepdims=True))
  return ours.eigenvalues[rank], first * signs


@case("editing", "sefa_", network="editing")
def sefa():
  golden = parity.load("editing")
  for name, layers in SEFA.items():
    ours = finding.factorize(generator(), layers, legacy=True)
    values, vectors = in_their_order(ours, golden, name)
    yield f"sefa_{name}/layers", np.array(ours.layers)
    yield f"sefa_{name}/eigenvalues", values
    yield f"sefa_{name}/first_vectors", vectors
  ours = finding.factorize(generator(), SEFA["2_3_4_5"], legacy=True)
  _, vectors = in_their_order(ours, golden, "2_3_4_5")
  latent = drawn("latent", 1, STYLES, D)
  yield (
    "sefa_edit/latents",
    jnp.concatenate(
      [
        editing.move(latent, vector, strength, ours.layers)
        for vector in vectors[:2]
        for strength in (-5.0, 0.0, 5.0)
      ]
    ),
  )
