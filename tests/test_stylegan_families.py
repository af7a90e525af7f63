"""StyleGAN2 from NVIDIA's pickles: the same networks as rosinality's."""

import logging
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import pytest
import stylegan_files as ada
import tensorflow_files as tf
from flax import nnx
from random_weights import apply, randomised

import encoder4editing_jax as e4e
from encoder4editing_jax import converters
from encoder4editing_jax.converters import transfer
from encoder4editing_jax.models.discriminator import (
  ResidualBlock,
  minibatch_stddev,
)
from encoder4editing_jax.models.synthesis import StyledConv, ToRGB

STATE, LATENT_AVG = ada.rosinality_generator()
D_STATE = ada.rosinality_discriminator()
ADA_G = ada.ada_generator(STATE, LATENT_AVG)
ADA_D = ada.ada_discriminator(D_STATE)
TF_G, TF_D = tf.tf_generator(ADA_G), tf.tf_discriminator(ADA_D)


def ada_networks(**changes):
  g = ada.ada_network(ADA_G, ada.ada_generator_options())
  d = ada.ada_network(ADA_D, ada.ada_discriminator_options(), "Discriminator")
  empty = {"training_set_kwargs": {}, "augment_pipe": None}
  return {"G": None, "D": d, "G_ema": g, **empty, **changes}


def tf_networks(options=(), **arguments):
  other = {name: np.zeros_like(value) for name, value in TF_G.items()}
  return (
    tf.tf_network(other, options, **arguments),
    tf.tf_network(TF_D, options, function="D_stylegan2", **arguments),
    tf.tf_network(TF_G, options, **arguments),
  )


@pytest.fixture(scope="module")
def generator():
  return converters.to_generator({"g_ema": STATE, "latent_avg": LATENT_AVG})


@pytest.fixture(scope="module")
def discriminator():
  return converters.to_discriminator({"d": D_STATE})


def assert_same_leaves(a, b):
  a, b = transfer.leaves(a), transfer.leaves(b)
  assert list(a) == list(b)
  for name, leaf in a.items():
    np.testing.assert_array_equal(leaf[...], b[name][...], name)


def assert_same_tree(found, made):
  """Numbers, texts and arrays; what is read may have more types of mapping."""
  if isinstance(made, Mapping):
    assert set(found) == set(made)
    for name, value in made.items():
      assert_same_tree(found[name], value)
  elif isinstance(made, (list, tuple)):
    assert len(found) == len(made)
    for pair in zip(found, made, strict=True):
      assert_same_tree(*pair)
  else:
    np.testing.assert_array_equal(found, made)


# Reading.


@pytest.mark.parametrize("protocol", [3, 4])
def test_pickles_of_tensorflow_come_back_equal(tmp_path, protocol):
  networks = tf_networks({"resolution": ada.SIZE, "label_size": 0})
  (tmp_path / "g.pkl").write_bytes(tf.tf_file(networks, protocol))
  found = converters.read(tmp_path / "g.pkl")
  assert isinstance(found, tuple)
  assert_same_tree(found, networks)
  variables = dict(found[2]["state"]["variables"])
  assert variables["dlatent_avg"].dtype == np.float32
  assert variables["lod"] == 0


@pytest.mark.parametrize("protocol", [3, 4])
def test_pickles_of_ada_come_back_equal(tmp_path, protocol):
  networks = ada_networks()
  (tmp_path / "g.pkl").write_bytes(ada.ada_file(networks, protocol))
  found = converters.read(tmp_path / "g.pkl")

  def plain(node):
    if not isinstance(node, Mapping):
      return node
    return {
      k: plain(v) for k, v in node.items() if k != "_non_persistent_buffers_set"
    }

  assert_same_tree(plain(found), networks)


# Conversion.


def test_files_give_the_networks_of_rosinality(
  tmp_path, generator, discriminator
):
  made = {
    "ada.pkl": ada.ada_file(ada_networks()),
    "tf.pkl": tf.tf_file(tf_networks()),
  }
  for name, data in made.items():
    (tmp_path / name).write_bytes(data)
    found = converters.read(tmp_path / name)
    assert_same_leaves(converters.to_generator(found), generator)
    assert_same_leaves(converters.to_discriminator(found), discriminator)


def test_files_give_the_pictures_of_rosinality(generator, discriminator):
  z = np.random.RandomState(1).standard_normal((2, ada.DIM))
  z = z.astype(np.float32)
  options = {"truncation_psi": 0.7}
  expected = np.asarray(apply(generator, z, **options))
  assert expected.std() > 0.05
  for networks in (ada_networks(), tf_networks()):
    images = apply(converters.to_generator(networks), z, **options)
    np.testing.assert_allclose(images, expected, rtol=1e-5, atol=1e-5)
    logits = apply(converters.to_discriminator(networks), expected)
    np.testing.assert_allclose(
      logits, apply(discriminator, expected), rtol=1e-4, atol=1e-5
    )


def test_what_changes_results_is_carried():
  net = converters.to_generator(ada_networks())
  assert (net.conv_clamp, net.n_mlp, net.lr_mlp) == (256, ada.LAYERS, 0.01)
  options = ada.ada_generator_options(conv_clamp=None)
  for i in range(ada.LAYERS):
    options[f"mapping.fc{i}"]["bias_gain"] = 0.1
  net = converters.to_generator(ada.ada_network(ADA_G, options))
  assert (net.conv_clamp, net.lr_mlp) == (None, 0.1)
  net = converters.to_discriminator(ada_networks())
  assert (net.conv_clamp, net.mbstd_group_size) == (256, 2)
  options = ada.ada_discriminator_options(group_size=None)
  net = converters.to_discriminator(ada.ada_network(ADA_D, options))
  assert net.mbstd_group_size is None


def test_what_tensorflow_says_is_carried():
  net = converters.to_generator(tf_networks())
  assert (net.conv_clamp, net.lr_mlp) == (None, 0.01)
  said = {"conv_clamp": 256, "mapping_lrmul": 0.1, "mbstd_group_size": 8}
  net = converters.to_generator(tf_networks(said))
  assert (net.conv_clamp, net.lr_mlp) == (256, 0.1)
  net = converters.to_discriminator(tf_networks(said))
  assert (net.conv_clamp, net.mbstd_group_size) == (256, 8)
  net = converters.to_discriminator(tf_networks())
  assert net.mbstd_group_size == 4  # the default of 2019's code
  net = converters.to_discriminator(tf.tf_network(TF_D, function="D_main"))
  assert net.mbstd_group_size is None  # and of ADA's


def test_networks_alone_and_their_state_dicts(generator, discriminator, caplog):
  networks = ada_networks(), tf_networks()
  for network in (networks[0]["G_ema"], networks[1][2]):
    assert_same_leaves(converters.to_generator(network), generator)
  for network in (networks[0]["D"], networks[1][1]):
    assert_same_leaves(converters.to_discriminator(network), discriminator)
  assert not caplog.text
  with caplog.at_level(logging.WARNING, "encoder4editing_jax"):
    assert_same_leaves(converters.to_generator({"G_ema": ADA_G}), generator)
    assert_same_leaves(converters.to_discriminator(ADA_D), discriminator)
  assert "does not say whether its network clamps" in caplog.text


def test_weights_files_keep_what_is_carried(tmp_path):
  for convert in (converters.to_generator, converters.to_discriminator):
    net = convert(ada_networks())
    e4e.save(net, tmp_path / "net.safetensors")
    back = e4e.load(tmp_path / "net.safetensors")
    assert back.conv_clamp == net.conv_clamp == 256
    assert_same_leaves(net, back)
  assert back.mbstd_group_size == 2


# Refusals.


@pytest.mark.parametrize(
  ("path", "option", "value", "match"),
  [
    ("", "c_dim", 10, "'c_dim' is 10: a conditional network"),
    ("", "img_channels", 1, "'img_channels' is 1: .* not RGB"),
    ("synthesis.b8", "architecture", "resnet", "b8.architecture' is 'resnet'"),
    ("synthesis.b8", "architecture", "orig", "b8.architecture' is 'orig'"),
    ("mapping.fc1", "activation", "relu", "fc1.activation' is 'relu'"),
    ("synthesis.b8.conv0", "use_noise", False, "without noise"),
    ("synthesis.b8.conv0", "conv_clamp", 8, "'conv_clamp' differs"),
    ("synthesis.b8.torgb", "conv_clamp", None, "'conv_clamp' differs"),
  ],
)
def test_other_generators_of_ada(path, option, value, match):
  options = ada.ada_generator_options()
  options[path] = options[path] | {option: value}
  with pytest.raises(ValueError, match=match):
    converters.to_generator(ada.ada_network(ADA_G, options))


@pytest.mark.parametrize(
  ("path", "option", "value", "match"),
  [
    ("", "c_dim", 10, "'c_dim' is 10: a conditional network"),
    ("b8", "architecture", "skip", "b8.architecture' is 'skip'"),
    ("b8.conv1", "conv_clamp", None, "'conv_clamp' differs"),
    ("b4.mbstd", "num_channels", 2, "several maps"),
    ("b4.mbstd", "group_size", 0, "'group_size' is 0"),
    ("b4.mbstd", "group_size", "4", "'group_size' is '4'"),
  ],
)
def test_other_discriminators_of_ada(path, option, value, match):
  options = ada.ada_discriminator_options()
  options[path] = options[path] | {option: value}
  with pytest.raises(ValueError, match=match):
    converters.to_discriminator(ada.ada_network(ADA_D, options))


@pytest.mark.parametrize(
  ("name", "shape", "match"),
  [
    ("mapping.embed.weight", (6, 10), "a conditional generator"),
    ("synthesis.b8.skip.weight", (12, 12, 1, 1), "a generator of residual"),
    ("synthesis.input.freqs", (5, 2), "a StyleGAN3 generator"),
    ("synthesis.L0_36_512.weight", (5, 2), "a StyleGAN3 generator"),
  ],
)
def test_tensors_that_only_others_have(name, shape, match):
  with pytest.raises(ValueError, match=f"'{name}' belongs to {match}"):
    converters.to_generator({"G_ema": ADA_G | {name: np.zeros(shape)}})


def test_a_conditional_discriminator_and_another_filter():
  extra = {"mapping.fc0.weight": np.zeros((6, 6))}
  with pytest.raises(ValueError, match="a conditional discriminator"):
    converters.to_discriminator(ADA_D | extra)
  name = "synthesis.b8.conv0.resample_filter"
  other = np.full((4, 4), 1 / 16, np.float32)
  with pytest.raises(ValueError, match=f"'{name}' is not the filter"):
    converters.to_generator(ADA_G | {name: other})


def test_stylegan3_alone():
  only = {"synthesis.input.freqs": np.zeros((5, 2))}
  with pytest.raises(ValueError, match="a StyleGAN3 generator"):
    converters.to_generator({"G_ema": only})


@pytest.mark.parametrize(
  ("option", "value", "match"),
  [
    ("label_size", 10, "'label_size' is 10: a conditional network"),
    ("num_channels", 1, "'num_channels' is 1"),
    ("architecture", "orig", "'architecture' is 'orig'"),
    ("resample_kernel", (1, 2, 1), r"'resample_kernel' is \[1, 2, 1\]"),
    ("nonlinearity", "relu", "'nonlinearity' is 'relu'"),
    ("conv_clamp", "256", "'conv_clamp' is '256', expected a number"),
  ],
)
def test_other_networks_of_tensorflow(option, value, match):
  assert converters.to_generator(tf_networks({"resample_kernel": (1, 3, 3, 1)}))
  networks = tf_networks({option: value})
  with pytest.raises(ValueError, match=match):
    converters.to_generator(networks)
  if option != "architecture":
    with pytest.raises(ValueError, match=match):
      converters.to_discriminator(networks)


@pytest.mark.parametrize("version", [3, 1, None])
def test_pickles_of_the_first_stylegan(version):
  with pytest.raises(ValueError, match=f"'version' {version}, of StyleGAN or"):
    converters.to_generator(tf_networks(version=version))


@pytest.mark.parametrize(
  ("name", "match"),
  [
    ("mapping/LabelConcat/weight", "a conditional network"),
    ("synthesis/ToRGB_lod0/weight", "progressively grown"),
    ("synthesis/8x8/Skip/weight", "residual architecture"),
  ],
)
def test_variables_that_only_others_have(name, match):
  network = tf.tf_network(TF_G | {name: np.zeros((3, 3), np.float32)})
  with pytest.raises(ValueError, match=f"'{name}' belongs to .*{match}"):
    converters.to_generator(network)


def test_what_is_no_pickle_of_networks():
  for checkpoint, match in (
    ({"G_ema": None, "D": None}, "no network 'G_ema' or 'G'"),
    ((1, 2), "a tuple of 2 is no checkpoint"),
    ([1, 2, 3], "a list of 3 is no checkpoint"),
  ):
    with pytest.raises(ValueError, match=match):
      converters.to_generator(checkpoint)
  with pytest.raises(ValueError, match="no network 'D'"):
    converters.to_discriminator(ada_networks(D=None))
  with pytest.raises(ValueError, match=r"'synthesis\..*' belongs to a gener"):
    converters.to_discriminator(ada_networks()["G_ema"])
  broken = tf.tf_network(TF_G)
  broken["state"]["variables"].append(3)
  with pytest.raises(ValueError, match=r"'variables'.*of an unknown form"):
    converters.to_generator(broken)


# Clamping.


def codes(*shape, seed=0):
  rng = np.random.RandomState(seed)
  return jnp.asarray(rng.standard_normal(shape).astype(np.float32))


def test_layers_clamp_what_they_give():
  limit = 0.5
  x, w = codes(1, 4, 4, 3), codes(1, 5, seed=1)

  def layer(conv_clamp):
    yield (
      randomised(
        lambda: StyledConv(
          3, 4, (4, 4), 5, conv_clamp=conv_clamp, rngs=nnx.Rngs(0)
        )
      ),
      (w, None),
    )
    yield (
      randomised(lambda: ToRGB(3, 5, conv_clamp=conv_clamp, rngs=nnx.Rngs(0))),
      (w,),
    )

  for (bounded, inputs), (free, _) in zip(
    layer(limit), layer(None), strict=True
  ):
    expected = np.asarray(free(x, *inputs))
    assert np.abs(expected).max() > limit
    got = bounded(x, *inputs)
    np.testing.assert_array_equal(got, np.clip(expected, -limit, limit))


def test_shortcuts_of_discriminators_are_not_clamped():
  x = codes(1, 4, 4, 3)
  limit = 1e-3

  def block(conv_clamp):
    return randomised(
      lambda: ResidualBlock(3, 4, conv_clamp=conv_clamp, rngs=nnx.Rngs(0))
    )

  bounded, free = block(limit), block(None)
  free.conv2.kernel[...] = jnp.zeros_like(free.conv2.kernel[...])
  free.conv2.bias[...] = jnp.zeros_like(free.conv2.bias[...])
  shortcut = np.asarray(free(x))
  assert np.abs(shortcut).max() > 0.1
  error = np.abs(bounded(x) - shortcut).max()
  assert 0.5 * limit < error <= 1.01 * limit / np.sqrt(2)


def test_one_group_of_deviations_for_the_whole_batch():
  x = codes(6, 2, 2, 3)
  got = np.asarray(minibatch_stddev(x, None))[..., -1]
  expected = np.sqrt(np.asarray(x).var(0) + 1e-8).mean()
  np.testing.assert_allclose(got, np.full_like(got, expected), rtol=1e-5)
