import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from random_weights import apply, randomised

from encoder4editing_jax.models import encoders
from encoder4editing_jax.models.arcface import ArcFace
from encoder4editing_jax.models.discriminator import (
  Discriminator,
  LatentDiscriminator,
)
from encoder4editing_jax.models.heads import StyleHeads, halvings
from encoder4editing_jax.models.irse import Backbone
from encoder4editing_jax.models.resnet import ResNet

SMALL = {
  "n_styles": 10,
  "input_size": 64,
  "style_dim": 8,
  "num_layers": 10,
  "channels": (4, 6, 8, 12),
}
NAMES = (
  "Encoder4Editing",
  "GradualStyleEncoder",
  "SingleStyleEncoder",
  "WPlusEncoder",
  "BackboneEncoder",
  "ProgressiveBackboneEncoder",
  "ResNetBackboneEncoder",
  "ResNetProgressiveBackboneEncoder",
  "ResNetGradualStyleEncoder",
)
STAGED = [name for name in NAMES if name.startswith("Enc") or "Prog" in name]


def maker(name="Encoder4Editing", **options):
  options = {**SMALL, **options}
  return lambda: getattr(encoders, name)(**options, rngs=nnx.Rngs(0))


def small(name="Encoder4Editing", **options):
  return randomised(maker(name, **options))


@pytest.mark.parametrize("name", NAMES)
def test_images_of_any_size_from_16_are_encoded(name):
  """Odd ones and prime ones too: nothing in a config has to refuse them."""
  channels = nnx.eval_shape(maker(name)).input_channels
  for size in ((16, 16), (17, 16), (19, 23), (63, 63), (16, 64)):
    shape = shape_of(maker(name), images(1, size, channels))
    assert shape == (1, SMALL["n_styles"], SMALL["style_dim"])


class Slices(nnx.Module):
  """Stands for a body where only the heads matter: it compiles at once."""

  def __call__(self, image):
    return tuple(
      jnp.tile(image[:, ::s, ::s], (1, 1, 1, 4))[..., :c]
      for s, c in zip((2, 4, 8, 16), SMALL["channels"], strict=True)
    )


def headed(name="Encoder4Editing", **options):
  """A small encoder whose body only slices the images."""
  network = small(name, **options)
  network.body = Slices()
  return network


def normal(*shape):
  return np.random.RandomState(1).standard_normal(shape).astype(np.float32)


def images(b=2, size=(64, 64), channels=3):
  return normal(b, *size, channels)


def shape_of(make, image):
  graph, state = nnx.split(nnx.eval_shape(make))
  call = lambda state, x: nnx.merge(graph, state)(x)  # noqa: E731
  return jax.eval_shape(call, state, image).shape


def staged(network):
  """A jitted call that takes a traced stage, and the count of its traces."""
  graph, state = nnx.split(network)
  traces = []

  @jax.jit
  def call(state, image, stage):
    traces.append(stage)
    return nnx.merge(graph, state)(image, stage)

  return lambda image, stage: call(state, image, stage), traces


def test_stages_turn_rows_on_one_after_the_other_in_one_trace():
  network, x = small(), images()
  everything = np.asarray(apply(network, x))
  call, traces = staged(network)
  for stage in range(11):
    w = np.asarray(call(x, np.int32(stage)))
    first = np.repeat(everything[:, :1], 10, 1)
    np.testing.assert_allclose(
      w[:, : stage + 1], everything[:, : stage + 1], atol=1e-5
    )
    np.testing.assert_allclose(
      w[:, stage + 1 :], first[:, stage + 1 :], atol=1e-5
    )
  assert len(traces) == 1
  assert np.abs(everything - first).max(-1)[:, 1:].min() > 1e-2


@pytest.mark.slow
def test_a_static_stage_equals_a_traced_one():
  network, x = headed(), images(1)
  call, _ = staged(network)
  for stage in (2, 6):
    got = apply(network, x, stage=stage)
    np.testing.assert_allclose(got, call(x, np.int32(stage)), atol=1e-6)


def test_no_product_is_below_a_condition():
  """There XLA runs convolutions many times slower on CPUs."""
  graph, state = nnx.split(headed())

  def traced(image, stage):
    return nnx.merge(graph, state)(image, stage)

  # What depends on the platform is a condition only until it is compiled.
  text = jax.jit(traced).lower(images(1), np.int32(0)).compile().as_text()
  assert " dot(" in text
  assert " conditional(" not in text and " while(" not in text


@pytest.mark.slow
def test_inactive_heads_get_no_gradient():
  graph, state = nnx.split(headed())

  @jax.jit
  def gradient(state, image, stage):
    def energy(state):
      return (nnx.merge(graph, state)(image, stage) ** 2).sum()

    return jax.grad(energy)(state)

  grads = gradient(state, images(1), np.int32(4))
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
  kernels = {
    name: np.abs(grads[f"heads_{name}"]["linear_kernel"][...]).max((1, 2)) > 0
    for name in ("coarse", "middle", "fine")
  }
  assert kernels["coarse"].tolist() == [True] * 3
  assert kernels["middle"].tolist() == [True, True, False, False]
  assert kernels["fine"].tolist() == [False] * 3
  assert np.abs(grads["lateral1"]["kernel"][...]).max() > 0
  assert np.abs(grads["lateral2"]["kernel"][...]).max() == 0


@pytest.mark.slow
def test_gradual_rows_are_the_heads_that_e4e_adds_up():
  x = images()
  rows = np.asarray(apply(headed("GradualStyleEncoder"), x))
  w = np.asarray(apply(headed("Encoder4Editing"), x))
  np.testing.assert_allclose(w[:, 0], rows[:, 0], atol=1e-5)
  np.testing.assert_allclose(w[:, 1:], rows[:, 1:] + rows[:, :1], atol=1e-5)


@pytest.mark.parametrize("sides", [(16, 16), (12, 16), (5, 3)])
@pytest.mark.slow
def test_stacked_heads_equal_single_ones(sides):
  n, c, d = 3, 6, 8
  heads = randomised(lambda: StyleHeads(n, c, d, max(sides), rngs=nnx.Rngs(0)))
  x = normal(2, *sides, c)
  got = np.asarray(apply(heads, x))
  assert len(heads.convs) == math.ceil(math.log2(max(sides)))
  for i in range(n):
    y = x
    for layer in heads.convs:
      y = jax.lax.conv_general_dilated(
        y,
        np.asarray(layer.kernel[...])[i],
        (2, 2),
        [(1, 1), (1, 1)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
      )
      y = np.asarray(y) + np.asarray(layer.bias[...])[i]
      y = np.where(y >= 0, y, 0.01 * y).astype(np.float32)
    assert y.shape == (2, 1, 1, d)
    kernel = np.asarray(heads.linear_kernel[...])[i] / np.sqrt(d)
    want = y[:, 0, 0] @ kernel + np.asarray(heads.linear_bias[...])[i]
    np.testing.assert_allclose(got[:, i], want, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_halvings_round_up():
  for side in range(1, 70):
    n, left = 0, side
    while left > 1:
      left, n = (left + 1) // 2, n + 1
    assert halvings(side) == n


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_codes_of_any_number_of_styles(name):
  channels = nnx.eval_shape(maker(name)).input_channels
  assert channels == (6 if "ResNet" in name or "Backbone" in name else 3)
  for n in (4, 18) if name in STAGED else (8,):
    shape = shape_of(maker(name, n_styles=n), images(2, channels=channels))
    assert shape == (2, n, 8)


@pytest.mark.slow
def test_input_channels_are_free():
  shape = shape_of(maker(input_channels=19), images(1, channels=19))
  assert shape == (1, 10, 8)
  for n in (1, 2, 3):
    assert shape_of(maker(n_styles=n), images(1)) == (1, n, 8)


@pytest.mark.slow
def test_a_flat_image_fits_the_weights_of_a_square_one():
  square = headed()
  flat = headed(input_size=(48, 64))
  x = images(1, (48, 64))
  np.testing.assert_array_equal(apply(square, x), apply(flat, x))


@pytest.mark.slow
def test_the_published_head_depths():
  network = nnx.eval_shape(maker(input_size=256))
  groups = network.heads_coarse, network.heads_middle, network.heads_fine
  assert [len(g.convs) for g in groups] == [4, 5, 6]
  assert [g.linear_bias.shape[0] for g in groups] == [3, 4, 3]
  for size in ((256, 256), (192, 256)):
    assert shape_of(maker(input_size=256), images(1, size)) == (1, 10, 8)


@pytest.mark.parametrize("name", ["Encoder4Editing", "BackboneEncoder"])
@pytest.mark.parametrize("size", [(128, 128), (64, 65)])
@pytest.mark.slow
def test_images_that_do_not_fit_are_refused(name, size):
  with pytest.raises(ValueError, match=r"sides up to 64; .*input_size=\("):
    shape_of(maker(name), images(1, size, 3 if name[0] == "E" else 6))


@pytest.mark.parametrize("name", ["SingleStyleEncoder", "WPlusEncoder"])
@pytest.mark.slow
def test_pooled_encoders_take_any_size(name):
  assert shape_of(maker(name), images(1, (40, 72))) == (1, 10, 8)


@pytest.mark.slow
def test_the_single_style_is_a_pooled_product_repeated():
  network, x = small("SingleStyleEncoder"), images()
  mean = np.asarray(apply(network.body, x)[-1]).mean((1, 2))
  kernel = np.asarray(network.linear.kernel[...]) / np.sqrt(12)
  want = mean @ kernel + np.asarray(network.linear.bias[...])
  got = np.asarray(apply(network, x))
  for row in range(10):
    np.testing.assert_allclose(got[:, row], want, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in STAGED])
@pytest.mark.slow
def test_encoders_without_stages_refuse_one(name):
  network = nnx.eval_shape(maker(name))
  image = images(1, channels=network.input_channels)
  with pytest.raises(ValueError, match="no progressive stages"):
    jax.eval_shape(lambda x: network(x, stage=0), image)


@pytest.mark.parametrize("name", STAGED)
@pytest.mark.slow
def test_stage_zero_makes_all_rows_equal(name):
  network = headed(name)
  w = np.asarray(
    apply(network, images(2, channels=network.input_channels), stage=0)
  )
  np.testing.assert_array_equal(w, np.repeat(w[:, :1], 10, 1))
  assert np.abs(w[0] - w[1]).max() > 1e-3
  with pytest.raises(ValueError, match="stage is -1"):
    apply(network, images(1, channels=network.input_channels), stage=-1)


@pytest.mark.slow
def test_bfloat16_activations_give_float32_codes_nearby():
  x = images(1)
  want = np.asarray(apply(small(), x))
  got = apply(small(dtype="bfloat16"), x)
  assert got.dtype == jnp.float32
  assert np.linalg.norm(got - want) < 0.1 * np.linalg.norm(want)


def count(make):
  state = nnx.state(nnx.eval_shape(make), nnx.Param)
  return sum(leaf.size for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize(
  ("name", "n", "parameters"),
  [
    ("Encoder4Editing", 18, 267_136_704),
    ("Encoder4Editing", 14, 209_450_688),
    ("WPlusEncoder", 10, 46_423_232),
    ("BackboneEncoder", 10, 127_970_688),
    ("ResNetBackboneEncoder", 16, 176_524_352),
  ],
)
@pytest.mark.slow
def test_parameter_counts_are_the_published_ones(name, n, parameters):
  make = getattr(encoders, name)
  assert count(lambda: make(n, rngs=nnx.Rngs(0))) == parameters


@pytest.mark.parametrize(
  "make",
  [
    *(getattr(encoders, name) for name in NAMES),
    Backbone,
    ArcFace,
    ResNet,
    LatentDiscriminator,
    Discriminator,
  ],
)
@pytest.mark.slow
def test_networks_keep_their_arguments(make):
  small = {"channels": (4, 6, 8, 12), "num_layers": 10, "bn_axis": "devices"}
  small |= {"dtype": "bfloat16", "size": 8, "hidden": 4, "input_channels": 5}
  names = list(inspect.signature(make.__init__).parameters)[1:]
  names.remove("rngs")
  given = {name: small[name] for name in names if name in small}
  network = nnx.eval_shape(lambda: make(**given, rngs=nnx.Rngs(0)))
  for name in names:
    assert hasattr(network, name)
  for name, value in given.items():
    assert getattr(network, name) == value
