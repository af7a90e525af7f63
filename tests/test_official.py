"""The way back: official names, layouts, order and options."""

import logging

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from goldens.recipe import recipe_keys, recipe_state_dict, recipe_tensor
from random_weights import randomised
from test_converters import (
  DIM,
  ENCODER,
  OFFICIAL_TYPES,
  STYLES,
  assert_equal_leaves,
  make_generator,
)

import encoder4editing_jax as e4e
from encoder4editing_jax import converters
from encoder4editing_jax.converters import (
  discriminators,
  features,
  inverter as frameworks,
  official,
  stylegan2,
  transfer,
)

KINDS = {
  "e4e_64": "Encoder4Editing",
  "e4e_256": "Encoder4Editing",
  "psp_64": "GradualStyleEncoder",
  "psp_1024": "GradualStyleEncoder",
  "psp_w_64": "SingleStyleEncoder",
  "psp_wplus_64": "WPlusEncoder",
  "single_style_1024": "SingleStyleEncoder",
  "restyle_e4e_64": "ProgressiveBackboneEncoder",
  "restyle_psp_64": "BackboneEncoder",
}
INTO_W = "BackboneEncoderUsingLastLayerIntoW"


def inventory(kind):
  return [(name, shape) for name, shape, _ in recipe_keys(kind)]


def ours(build, make_table):
  """Names and shapes of what the way back writes, without any array."""
  net = nnx.eval_shape(build)
  table = make_table(net)
  shapes = transfer.source_shapes(net, table)
  shapes |= {f.source: f.value.shape for f in table.fixed}
  shapes |= {k: v.shape for k, v in official.counters(shapes).items()}
  return [(name, shapes[name]) for name in sorted(shapes, key=official.order)]


def slow_but(names, quick):
  """All of them, of which only the quick ones run by default."""
  slow = pytest.mark.slow
  return [pytest.param(n, marks=() if n in quick else slow) for n in names]


@pytest.mark.parametrize("kind", slow_but(KINDS, []))
def test_frameworks_have_the_published_inventory(kind):
  size = int(kind.rpartition("_")[2])
  n = 2 * int(np.log2(size)) - 2

  def build():
    cls = getattr(e4e, KINDS[kind])
    encoder = cls(n, rngs=nnx.Rngs(0))
    return e4e.Inverter(encoder, e4e.Generator(size, rngs=nnx.Rngs(0)))

  assert ours(build, frameworks.inverter_table) == inventory(kind)


@pytest.mark.parametrize(
  ("kind", "build", "make_table"),
  [
    (
      "generator_1024",
      lambda: e4e.Generator(rngs=nnx.Rngs(0)),
      stylegan2.generator_table,
    ),
    (
      "discriminator_1024",
      lambda: e4e.Discriminator(rngs=nnx.Rngs(0)),
      discriminators.discriminator_table,
    ),
    (
      "latent_discriminator",
      lambda: e4e.LatentDiscriminator(rngs=nnx.Rngs(0)),
      discriminators.latent_discriminator_table,
    ),
    pytest.param(
      "ir_se50",
      lambda: e4e.ArcFace(50, rngs=nnx.Rngs(0)),
      features.arcface_table,
      marks=pytest.mark.slow,
    ),
  ],
)
def test_networks_have_the_published_inventory(kind, build, make_table):
  assert ours(build, make_table) == inventory(kind)


# Round trips: official, ours, official.


def small(encoder_type):
  """A small official checkpoint of recipe weights."""

  def build():
    cls = getattr(e4e, OFFICIAL_TYPES[encoder_type])
    return e4e.Inverter(cls(**ENCODER, rngs=nnx.Rngs(0)), make_generator())

  state = {
    name: recipe_tensor(name, shape, dtype="float32")
    for name, shape in ours(build, frameworks.inverter_table)
  }
  return {
    "state_dict": state,
    "latent_avg": recipe_tensor("latent_avg", (STYLES, DIM)),
    "opts": {"encoder_type": encoder_type, "start_from_latent_avg": True},
  }


def assert_equal_states(found, expected):
  assert list(found) == list(expected)
  for name, array in expected.items():
    assert found[name].shape == array.shape, name
    assert found[name].dtype == array.dtype, name
    np.testing.assert_array_equal(found[name], array, name)


@pytest.mark.parametrize(
  "encoder_type", slow_but(OFFICIAL_TYPES, ["Encoder4Editing"])
)
def test_frameworks_come_back_bit_for_bit(encoder_type):
  checkpoint = small(encoder_type)
  if encoder_type == INTO_W:
    row = checkpoint["latent_avg"][:1]
    checkpoint["latent_avg"] = row
  net = converters.to_inverter(checkpoint)
  found = converters.from_inverter(net, checkpoint["opts"])
  assert_equal_states(found["state_dict"], checkpoint["state_dict"])
  np.testing.assert_array_equal(found["latent_avg"], checkpoint["latent_avg"])
  again = converters.to_inverter(found)
  assert type(again.encoder) is type(net.encoder)
  assert again.restyle == net.restyle
  assert_equal_leaves(net, again)


@pytest.mark.parametrize(
  "name",
  ["Encoder4Editing", "ResNetGradualStyleEncoder", "BackboneEncoder"],
)
@pytest.mark.parametrize("side", [16, 33, (40, 50)])
def test_encoders_of_small_images_come_back(name, side):
  """A map of one pixel has a convolution in each head, as one of two has."""

  def build():
    make, rngs = getattr(e4e, name), nnx.Rngs(0)
    encoder = make(
      10,
      input_size=side,
      style_dim=DIM,
      num_layers=10,
      channels=(2, 2, 2, 2),
      rngs=rngs,
    )
    generator = make_generator(size=64)
    restyle = encoder.input_channels == 6
    return e4e.Inverter(
      encoder, generator, jnp.zeros((10, DIM)), restyle=restyle
    )

  net = randomised(build)
  found = converters.from_inverter(net)
  if side != 16:  # and with 16 where a head has as many layers as with 32
    assert found["opts"]["encoder_input_size"] == side
  again = converters.to_inverter(found)
  assert_equal_leaves(net.encoder, again.encoder)
  assert again.encoder.input_size == side
  h, w = side if isinstance(side, tuple) else (side, side)
  shown = jnp.zeros((1, h, w, net.encoder.input_channels))
  assert again.encoder(shown).shape == (1, 10, DIM)


@pytest.mark.slow
def test_a_whole_published_size_comes_back_bit_for_bit():
  state = recipe_state_dict("e4e_64")
  rows = recipe_tensor("latent_avg", (10, 512))
  opts = {"encoder_type": "Encoder4Editing"}
  checkpoint = {"state_dict": state, "latent_avg": rows, "opts": opts}
  found = converters.from_inverter(converters.to_inverter(checkpoint))
  assert_equal_states(found["state_dict"], state)
  np.testing.assert_array_equal(found["latent_avg"], rows)


def test_networks_come_back_bit_for_bit():
  net = randomised(make_generator)
  found = converters.from_generator(net)
  assert_equal_leaves(net, converters.to_generator(found))
  net = randomised(lambda: e4e.Discriminator(32, 256, 16, rngs=nnx.Rngs(0)))
  found = converters.from_discriminator(net)
  assert found["d"]["convs.1.skip.0.kernel"].sum() == 1
  assert_equal_leaves(net, converters.to_discriminator(found))
  net = randomised(lambda: e4e.LatentDiscriminator(6, 5, 3, rngs=nnx.Rngs(0)))
  found = converters.from_latent_discriminator(net)
  assert_equal_leaves(net, converters.to_latent_discriminator(found))
  for affine in (True, False):
    net = randomised(
      lambda affine=affine: e4e.ArcFace(
        10,
        input_size=32,
        embedding_dim=6,
        affine=affine,
        channels=(4, 4, 8, 8),
        rngs=nnx.Rngs(0),
      )
    )
    found = converters.from_arcface(net)
    assert ("output_layer.4.weight" in found) == affine
    assert found["output_layer.4.num_batches_tracked"].dtype == np.int64
    assert_equal_leaves(net, converters.to_arcface(found))


def test_what_was_exported_is_read_again(tmp_path):
  net = converters.to_inverter(small("SingleStyleCodeEncoder"))
  converters.write(converters.from_inverter(net), tmp_path / "e4e.pt")
  again = converters.to_inverter(converters.read(tmp_path / "e4e.pt"))
  assert_equal_leaves(net, again)


# What our networks do not keep.


def test_layers_without_a_use_are_there_for_strict_loading():
  cls = e4e.Encoder4Editing
  net = randomised(
    lambda: e4e.Inverter(
      cls(**ENCODER | {"n_styles": 6}, rngs=nnx.Rngs(0)),
      make_generator(size=16),
    )
  )
  found = converters.from_inverter(net)
  state = found["state_dict"]
  assert state["encoder.latlayer2.weight"].shape == (16, 8, 1, 1)
  assert not np.any(state["encoder.latlayer2.weight"])
  assert np.any(state["encoder.latlayer1.weight"])
  assert list(state) == sorted(state, key=official.order)
  assert_equal_leaves(net, converters.to_inverter(found), ["generator.w_avg"])


def test_options_say_what_the_network_is():
  found = converters.from_inverter(
    converters.to_inverter(small("BackboneEncoder"))
  )
  opts = found["opts"]
  assert opts["encoder_type"] == "BackboneEncoder"
  assert (opts["output_size"], opts["stylegan_size"]) == (32, 32)
  assert (opts["input_nc"], opts["label_nc"]) == (6, 0)
  assert opts["start_from_latent_avg"] is True
  net = converters.to_inverter(small("SingleStyleCodeEncoder"))
  assert converters.from_inverter(net)["opts"]["learn_in_w"] is False


def test_encoders_of_label_maps():
  cls = e4e.SingleStyleEncoder
  net = randomised(
    lambda: e4e.Inverter(
      cls(**ENCODER, input_channels=6, rngs=nnx.Rngs(0)), make_generator()
    )
  )
  found = converters.from_inverter(net)
  assert (found["opts"]["input_nc"], found["opts"]["label_nc"]) == (6, 6)
  assert not converters.to_inverter(found).restyle


def test_without_a_start_the_mean_code_is_the_generators():
  checkpoint = small("SingleStyleCodeEncoder")
  checkpoint["latent_avg"] = recipe_tensor("latent_avg", (DIM,))
  checkpoint["opts"]["start_from_latent_avg"] = False
  net = converters.to_inverter(checkpoint)
  found = converters.from_inverter(net)
  assert found["opts"]["start_from_latent_avg"] is False
  rows = np.tile(checkpoint["latent_avg"], (STYLES, 1))
  np.testing.assert_array_equal(found["latent_avg"], rows)
  assert_equal_leaves(net, converters.to_inverter(found))


@pytest.mark.parametrize(
  ("opts", "match"),
  [
    ({"encoder_type": "GradualStyleEncoder"}, "encoder is SingleStyleEncoder"),
    ({"stylegan_size": 1024}, r"opts\['stylegan_size'\] is 1024"),
    ({"start_from_latent_avg": False}, "adds its mean code"),
    ({"encoder_type": INTO_W}, "this inverter has several"),
  ],
)
def test_options_of_another_network_are_refused(opts, match):
  net = converters.to_inverter(small("SingleStyleCodeEncoder"))
  with pytest.raises(ValueError, match=match):
    converters.from_inverter(net, opts)


def test_what_the_published_code_cannot_do_is_said(caplog):
  g = randomised(lambda: make_generator(conv_clamp=256.0))
  d = randomised(
    lambda: e4e.Discriminator(
      8, 64, 8, mbstd_group_size=2, conv_clamp=8.0, rngs=nnx.Rngs(0)
    )
  )
  with caplog.at_level(logging.WARNING, "encoder4editing_jax"):
    converters.from_generator(g)
    converters.from_discriminator(d)
  for words in ("conv_clamp=256.0", "conv_clamp=8.0", "mbstd_group_size=2"):
    assert f"the original code has no {words}" in caplog.text
