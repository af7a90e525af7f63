"""One tensor less, more, renamed, reshaped or not finite is always named."""

import functools
import re

import numpy as np
import pytest
import stylegan_files as ada
import tensorflow_files as tf
from flax import nnx
from goldens.recipe import recipe_tensor
from random_weights import randomised
from test_official import small

from encoder4editing_jax import converters
from encoder4editing_jax.models.arcface import ArcFace

# Tensors of each family; those that take long to convert have fewer.
SAMPLES = {"arcface": 1, "e4e": 1, "W+": 1, "restyle": 1}
MANY = 12
OPTIONAL = re.compile(
  r".*(kernel|resample_filter|num_batches_tracked|lod)"
)  # constants and counters; that they are checked is tested elsewhere


def arcface():
  net = randomised(
    lambda: ArcFace(
      10,
      input_size=32,
      embedding_dim=6,
      channels=(4, 4, 8, 8),
      rngs=nnx.Rngs(0),
    )
  )
  return converters.from_arcface(net)


def latent_discriminator():
  shapes = {"mlp.0.weight": (5, 6), "mlp.0.bias": (5,)}
  shapes |= {"mlp.2.weight": (1, 5), "mlp.2.bias": (1,)}
  return {name: recipe_tensor(name, shape) for name, shape in shapes.items()}


def ada_generator():
  return ada.ada_generator(*ada.rosinality_generator())


def ada_discriminator():
  return ada.ada_discriminator(ada.rosinality_discriminator())


def framework(encoder_type):
  checkpoint = small(encoder_type)

  def convert(state):
    return converters.to_inverter(checkpoint | {"state_dict": state})

  return (lambda: checkpoint["state_dict"]), convert


def families():
  """Name to: what makes the tensors, what converts them."""
  w_avg = recipe_tensor("latent_avg", (ada.DIM,))
  g_options = ada.ada_generator_options()
  d_options = ada.ada_discriminator_options()
  return {
    "rosinality generator": (
      lambda: ada.rosinality_generator()[0],
      lambda s: converters.to_generator({"g_ema": s, "latent_avg": w_avg}),
    ),
    "rosinality discriminator": (
      ada.rosinality_discriminator,
      lambda s: converters.to_discriminator({"d": s}),
    ),
    "ada generator": (
      ada_generator,
      lambda s: converters.to_generator(ada.ada_network(s, g_options)),
    ),
    "ada discriminator": (
      ada_discriminator,
      lambda s: converters.to_discriminator(ada.ada_network(s, d_options)),
    ),
    "tensorflow generator": (
      lambda: tf.tf_generator(ada_generator()),
      lambda s: converters.to_generator(tf.tf_network(s)),
    ),
    "tensorflow discriminator": (
      lambda: tf.tf_discriminator(ada_discriminator()),
      lambda s: converters.to_discriminator(tf.tf_network(s)),
    ),
    "e4e": framework("Encoder4Editing"),
    "W+": framework("BackboneEncoderUsingLastLayerIntoWPlus"),
    "restyle": framework("ResNetProgressiveBackboneEncoder"),
    "arcface": (arcface, converters.to_arcface),
    "latent discriminator": (
      latent_discriminator,
      converters.to_latent_discriminator,
    ),
  }


FAMILIES = families()


@functools.cache
def tensors(family):
  return FAMILIES[family][0]()


def sampled(family, most):
  """Some names of a family, always the same ones."""
  names = [name for name in tensors(family) if not OPTIONAL.fullmatch(name)]
  n = most or SAMPLES.get(family, 2)
  return sorted(set(np.random.RandomState(1).choice(names, n)))


def not_finite(x):
  x = np.array(x, np.float32, order="C")
  x.reshape(-1)[-1:] = np.nan
  return x


def faults(state, name):
  """Checkpoints with one fault each, and the names that may be blamed."""
  x = state[name]
  rest = {k: v for k, v in state.items() if k != name}
  other = f"{name}_"
  yield rest, [name]
  yield rest | {other: x}, [name, other]
  yield state | {other: x}, [other]
  yield state | {name: np.asarray(x)[..., None, None]}, [name]
  yield state | {name: not_finite(x)}, [name]
  yield state | {name: np.zeros(np.shape(x), np.int32)}, [name]


some_and_many = pytest.mark.parametrize(
  "most", [None, pytest.param(MANY, marks=pytest.mark.slow)], ids=["", "many"]
)
every_family = pytest.mark.parametrize(
  "family",
  [
    pytest.param(name, marks=[pytest.mark.slow] * (name in ("W+", "restyle")))
    for name in FAMILIES
  ],
)


@every_family
@some_and_many
def test_one_fault_is_named(family, most):
  _, convert = FAMILIES[family]
  for name in sampled(family, most):
    for state, names in faults(tensors(family), name):
      with pytest.raises(ValueError) as caught:
        convert(state)
      # the framework's prefix is left out where only its encoder is looked at
      short = [re.sub("^(encoder|decoder).", "", name) for name in names]
      assert any(f"{n}'" in str(caught.value) for n in short), (name, caught)


@every_family
@some_and_many
def test_another_size_is_noticed(family, most):
  """By the name of the tensor, or of one that it does not agree with."""
  _, convert = FAMILIES[family]
  for name in sampled(family, most):
    x = np.asarray(tensors(family)[name])
    wider = np.concatenate([x, x]) if x.ndim else x[None]
    match = "' has shape |follow no rule|' is missing|lacks '"
    with pytest.raises(ValueError, match=match):
      convert(tensors(family) | {name: wider})


def test_a_number_that_no_layer_has_costs_nothing():
  _, convert = FAMILIES["rosinality generator"]
  extra = {"style.99999999.weight": np.zeros(3)}
  with pytest.raises(ValueError, match="has the number 99999999"):
    convert(tensors("rosinality generator") | extra)
