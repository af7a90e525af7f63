"""Converters: exact round trips, and refusal of whatever does not fit."""

import logging

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from random_weights import randomised

import encoder4editing_jax as e4e
from encoder4editing_jax import converters, weights
from encoder4editing_jax.converters import (
  discriminators,
  features,
  inverter,
  stylegan2,
  table,
  transfer,
)

SIZE, STYLES, DIM = 32, 8, 16
ENCODER = {
  "n_styles": STYLES,
  "input_size": 64,
  "style_dim": DIM,
  "num_layers": 10,
  "channels": (8, 8, 16, 16),
}
OFFICIAL_TYPES = {
  "Encoder4Editing": "Encoder4Editing",
  "GradualStyleEncoder": "GradualStyleEncoder",
  "SingleStyleCodeEncoder": "SingleStyleEncoder",
  "BackboneEncoderUsingLastLayerIntoW": "SingleStyleEncoder",
  "BackboneEncoderUsingLastLayerIntoWPlus": "WPlusEncoder",
  "BackboneEncoder": "BackboneEncoder",
  "ProgressiveBackboneEncoder": "ProgressiveBackboneEncoder",
  "ResNetBackboneEncoder": "ResNetBackboneEncoder",
  "ResNetProgressiveBackboneEncoder": "ResNetProgressiveBackboneEncoder",
  "ResNetGradualStyleEncoder": "ResNetGradualStyleEncoder",
}
QUICK_TYPES = (
  "Encoder4Editing",
  "BackboneEncoderUsingLastLayerIntoWPlus",
  "ResNetProgressiveBackboneEncoder",
)


def make_generator(**arguments):
  arguments = {
    "size": SIZE,
    "channel_base": 256,
    "channel_max": 16,
    "style_dim": DIM,
    "n_mlp": 2,
    **arguments,
  }
  return e4e.Generator(**arguments, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def generator():
  return randomised(make_generator)


@pytest.fixture(scope="module")
def official(generator):
  """The generator's tensors under their official names."""
  return transfer.extract(generator, stylegan2.generator_table(generator))


def make_inverter(encoder="Encoder4Editing"):
  cls = getattr(e4e, encoder)
  return e4e.Inverter(cls(**ENCODER, rngs=nnx.Rngs(0)), make_generator())


def framework(net):
  return transfer.extract(net, inverter.inverter_table(net))


@pytest.fixture(scope="module")
def e4e_state():
  return framework(randomised(make_inverter))


def assert_equal_leaves(a, b, skip=()):
  a, b = weights.leaves(a), weights.leaves(b)
  assert set(a) == set(b)
  for name in set(a) - set(skip):
    np.testing.assert_array_equal(a[name][...], b[name][...], name)


# Layouts.


@pytest.mark.parametrize(
  ("layout", "shape"),
  [
    (table.SAME, (3,)),
    (table.LINEAR, (3, 4)),
    (table.CONV, (5, 4, 3, 2)),
    (table.flattened(2, 3), (4, 30)),
    (stylegan2.MODULATED, (1, 5, 4, 3, 2)),
    (stylegan2.MODULATED_UP, (1, 5, 4, 3, 3)),
    (stylegan2.MAP, (1, 5, 4, 3)),
    (stylegan2.SCALAR, (1,)),
    (stylegan2.RGB_BIAS, (1, 3, 1, 1)),
  ],
)
def test_layouts_are_invertible(layout, shape):
  x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
  y = layout.inverse(layout.forward(x))
  assert y.shape == shape
  np.testing.assert_array_equal(y, x)


def test_flattened_weights_see_the_same_map():
  c, h, w = 5, 2, 3
  rng = np.random.default_rng(0)
  maps, weight = rng.normal(size=(1, c, h, w)), rng.normal(size=(4, c * h * w))
  ours = maps.transpose(0, 2, 3, 1).reshape(1, -1)
  ours = ours @ table.flattened(h, w).forward(weight)
  np.testing.assert_allclose(ours, maps.reshape(1, -1) @ weight.T, atol=1e-12)


# Round trips.


@pytest.mark.parametrize(
  "arguments",
  [
    {},
    {"n_mlp": 8, "constant_shape": (4, 6)},
    {"size": 64, "channel_base": 512, "channel_max": 32},
  ],
  ids=["small", "wide constant", "narrowing"],
)
def test_generator_round_trip(arguments):
  net = randomised(lambda: make_generator(**arguments))
  state = transfer.extract(net, stylegan2.generator_table(net))
  latent_avg = np.asarray(net.w_avg[...])
  back = converters.to_generator({"g_ema": state, "latent_avg": latent_avg})
  for name in ("size", "style_dim", "n_mlp", "constant_shape"):
    assert getattr(back, name) == getattr(net, name)
  assert_equal_leaves(net, back)


@pytest.mark.parametrize(
  "encoder_type",
  [
    pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK_TYPES))
    for name in OFFICIAL_TYPES
  ],
)
def test_inverter_round_trip(encoder_type):
  net = randomised(lambda: make_inverter(OFFICIAL_TYPES[encoder_type]))
  rows = np.asarray(net.w_avg[...])
  checkpoint = {
    "state_dict": framework(net),
    "opts": {"encoder_type": encoder_type, "start_from_latent_avg": True},
    "latent_avg": rows,
  }
  back = converters.to_inverter(checkpoint)
  assert type(back.encoder) is type(net.encoder)
  assert back.encoder.num_layers == 10
  assert_equal_leaves(net, back, skip=["generator.w_avg"])
  np.testing.assert_allclose(back.generator.w_avg[...], rows.mean(0), atol=1e-6)
  assert back.restyle == (net.encoder.input_channels == 6)


@pytest.mark.parametrize("squeeze_excite", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_arcface_round_trip(squeeze_excite, affine):
  net = randomised(
    lambda: e4e.ArcFace(
      10,
      squeeze_excite=squeeze_excite,
      input_size=32,
      embedding_dim=6,
      affine=affine,
      channels=(4, 4, 8, 8),
      rngs=nnx.Rngs(0),
    )
  )
  state = transfer.extract(net, features.arcface_table(net))
  state["input_layer.1.num_batches_tracked"] = np.array(7)
  back = converters.to_arcface(state)
  assert (back.squeeze_excite, back.affine) == (squeeze_excite, affine)
  assert back.input_size == 32
  assert_equal_leaves(net, back)


def test_discriminator_round_trips():
  net = randomised(lambda: e4e.Discriminator(32, 256, 16, rngs=nnx.Rngs(0)))
  state = transfer.extract(net, discriminators.discriminator_table(net))
  back = converters.to_discriminator({"d": state})
  assert back.size == 32
  assert_equal_leaves(net, back)
  net = randomised(lambda: e4e.LatentDiscriminator(6, 5, 3, rngs=nnx.Rngs(0)))
  state = transfer.extract(net, discriminators.latent_discriminator_table(net))
  back = converters.to_latent_discriminator({"discriminator_state_dict": state})
  assert_equal_leaves(net, back)


def test_a_decoder_is_a_generator(e4e_state):
  net = converters.to_generator(
    {"state_dict": e4e_state, "latent_avg": np.zeros(DIM)}
  )
  kernel = e4e_state["decoder.conv1.conv.weight"][0].transpose(2, 3, 1, 0)
  np.testing.assert_array_equal(net.synthesis.conv.kernel[...], kernel)


def test_converted_modules_own_their_arrays(official):
  source = {k: v.copy() for k, v in official.items()}
  net = converters.to_generator({"g_ema": source, "latent_avg": np.zeros(DIM)})
  before = np.array(net.synthesis.conv.bias[...])
  source["conv1.activate.bias"][:] = 7
  np.testing.assert_array_equal(net.synthesis.conv.bias[...], before)


def test_half_precision_is_widened(official):
  for dtype in (np.float16, ml_dtypes.bfloat16):
    source = official | {"style.1.bias": official["style.1.bias"].astype(dtype)}
    net = converters.to_generator({**source, "latent_avg": np.zeros(DIM)})
    bias = net.mapping.layers[0].bias[...]
    assert bias.dtype == np.float32
    np.testing.assert_array_equal(
      bias, source["style.1.bias"].astype(np.float32)
    )


# Refusals name the tensor.


def refuses(source, match, convert=converters.to_generator):
  with pytest.raises(ValueError, match=match):
    convert({**source, "latent_avg": np.zeros(DIM)})


def test_missing_tensor(official):
  rest = {k: v for k, v in official.items() if k != "convs.3.activate.bias"}
  refuses(rest, r"lacks 'convs\.3\.activate\.bias'")


def test_unknown_tensor(official):
  refuses(official | {"extra.weight": np.zeros(3)}, r"has 'extra\.weight'")


def test_wrong_shape(official):
  refuses(
    official | {"convs.2.conv.modulation.weight": np.zeros((DIM, 3))},
    r"'convs\.2\.conv\.modulation\.weight' has shape \(16, 3\), expected",
  )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite(official, bad):
  value = official["style.1.weight"].copy()
  value[1, 2] = bad
  refuses(official | {"style.1.weight": value}, r"'style\.1\.weight' holds NaN")


def test_not_floating(official):
  value = official["style.1.bias"].astype(np.int64)
  refuses(official | {"style.1.bias": value}, r"'style\.1\.bias' is int64")


@pytest.mark.parametrize(
  "name", ["convs.0.conv.blur.kernel", "to_rgbs.1.upsample.kernel"]
)
def test_other_filters(official, name):
  other = np.outer([1, 2, 2, 1], [1, 2, 2, 1]) / 9.0
  refuses(official | {name: other}, f"'{name}' is not the filter")


def test_filters_without_gain_are_others(official):
  name = "convs.0.conv.blur.kernel"
  refuses(official | {name: stylegan2.FILTER}, "is not the filter")


def test_filters_need_not_be_stored(official):
  rest = {k: v for k, v in official.items() if not k.endswith("kernel")}
  assert converters.to_generator({**rest, "latent_avg": np.zeros(DIM)})


def test_another_network_is_no_generator():
  refuses({"mlp.0.weight": np.zeros((3, 3))}, "not a StyleGAN2 generator")
  refuses(
    {"input.input": np.zeros((1, 3, 4, 4))},
    "no e4e, pSp or ReStyle checkpoint",
    converters.to_inverter,
  )


def test_batch_counters_are_ignored_only_where_they_belong(e4e_state):
  def convert(**extra):
    return converters.to_inverter(
      {"state_dict": e4e_state | extra, "latent_avg": np.zeros(DIM)},
      encoder_type="Encoder4Editing",
    )

  count = ".num_batches_tracked"
  assert convert(**{f"encoder.input_layer.1{count}": np.array(3)})
  with pytest.raises(ValueError, match=f"has 'encoder.input_layer.9{count}'"):
    convert(**{f"encoder.input_layer.9{count}": np.array(3)})


# What the encoder is, is never guessed.


def test_e4e_and_psp_need_to_be_told_apart(e4e_state):
  checkpoint = {"state_dict": e4e_state, "latent_avg": np.zeros(DIM)}
  with pytest.raises(ValueError, match="pass encoder_type="):
    converters.to_inverter(checkpoint)
  for name in ("Encoder4Editing", "GradualStyleEncoder"):
    net = converters.to_inverter(checkpoint, encoder_type=name)
    assert type(net.encoder).__name__ == name


def test_the_argument_precedes_the_options(e4e_state):
  checkpoint = {
    "state_dict": e4e_state,
    "opts": {"encoder_type": "GradualStyleEncoder"},
    "latent_avg": np.zeros(DIM),
  }
  net = converters.to_inverter(checkpoint, encoder_type="Encoder4Editing")
  assert isinstance(net.encoder, e4e.Encoder4Editing)


@pytest.mark.parametrize(
  ("opts", "match"),
  [
    ({"encoder_type": "BackboneEncoder"}, "encoder_type is 'BackboneEncoder'"),
    ({"stylegan_size": 1024}, r"opts\['stylegan_size'\] is 1024"),
    ({"output_size": 64}, r"opts\['output_size'\] is 64"),
    ({"input_nc": 6}, r"opts\['input_nc'\] is 6"),
    ({"label_nc": 19}, r"opts\['label_nc'\] is 19"),
  ],
)
def test_options_must_agree_with_the_tensors(e4e_state, opts, match):
  opts = {"encoder_type": "Encoder4Editing"} | opts
  checkpoint = {"state_dict": e4e_state, "opts": opts}
  with pytest.raises(ValueError, match=match):
    converters.to_inverter(checkpoint)


# The mean code.


@pytest.mark.parametrize("shape", [(DIM,), (1, DIM), (STYLES, DIM)])
def test_shapes_of_latent_avg(e4e_state, shape):
  latent_avg = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  checkpoint = {"state_dict": e4e_state, "latent_avg": latent_avg}
  net = converters.to_inverter(checkpoint, "Encoder4Editing")
  expected = np.broadcast_to(latent_avg, (STYLES, DIM))
  np.testing.assert_array_equal(net.w_avg[...], expected)


def test_latent_avg_of_another_width(e4e_state):
  checkpoint = {"state_dict": e4e_state, "latent_avg": np.zeros((3, DIM))}
  with pytest.raises(ValueError, match=r"'latent_avg' has shape \(3, 16\)"):
    converters.to_inverter(checkpoint, "Encoder4Editing")


def test_without_start_from_latent_avg_the_mean_is_zero(e4e_state):
  opts = {"encoder_type": "Encoder4Editing", "start_from_latent_avg": False}
  latent_avg = np.ones(DIM, np.float32)
  net = converters.to_inverter(
    {"state_dict": e4e_state, "opts": opts, "latent_avg": latent_avg}
  )
  assert not np.any(net.w_avg[...])
  np.testing.assert_array_equal(net.generator.w_avg[...], latent_avg)


def test_a_missing_latent_avg_is_computed_and_said(e4e_state, caplog):
  checkpoint = {"state_dict": e4e_state}
  with caplog.at_level(logging.WARNING, "encoder4editing_jax"):
    first = converters.to_inverter(checkpoint, "Encoder4Editing")
    again = converters.to_inverter(checkpoint, "Encoder4Editing")
  assert "has no latent_avg" in caplog.text
  rows = np.asarray(first.w_avg[...])
  np.testing.assert_array_equal(rows, np.tile(rows[:1], (STYLES, 1)))
  np.testing.assert_array_equal(rows, again.w_avg[...])
  z = np.random.default_rng(1).normal(size=(20_000, DIM)).astype(np.float32)
  w = np.asarray(first.generator.mapping(jnp.asarray(z)))
  error = np.abs(rows[0] - w.mean(0)) / w.std(0)
  assert error.max() < 5 * np.sqrt(1 / 10_000 + 1 / 20_000)


# Channels.


@pytest.mark.parametrize("base", [32768, 16384, 20000, 1000])
@pytest.mark.parametrize("size", [32, 256, 1024])
def test_channel_rule_gives_the_channels_back(base, size):
  sides = [2**k for k in range(2, size.bit_length())]
  channels = {r: min(base // r, 512) for r in sides}
  rule = stylegan2.channel_rule(channels)
  again = {
    r: min(rule["channel_base"] // r, rule["channel_max"]) for r in sides
  }
  assert again == channels


def test_known_configurations_keep_their_numbers():
  for base in (32768, 16384):
    channels = {2**k: min(base // 2**k, 512) for k in range(2, 9)}
    rule = {"channel_base": base, "channel_max": 512}
    assert stylegan2.channel_rule(channels) == rule


def test_channels_without_a_rule():
  with pytest.raises(ValueError, match="follow no rule"):
    stylegan2.channel_rule({4: 512, 8: 100, 16: 300})
