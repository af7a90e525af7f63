"""Converters of feature networks and directions: whole, or refused by name."""

import inventories
import jax.numpy as jnp
import numpy as np
import pytest
import torch_files as files
from flax import nnx
from random_weights import randomised
from test_converters import assert_equal_leaves

import encoder4editing_jax as e4e
from encoder4editing_jax import converters
from encoder4editing_jax.converters import features, irse, transfer
from encoder4editing_jax.models.irse import Backbone
from encoder4editing_jax.models.resnet import ResNet

CHANNELS = {
  "alex": (8, 4, 6, 8, 10),
  "vgg": (4, 6, 8, 10, 12, 14, 16, 18, 4, 6, 8, 10, 12),
  "squeeze": (4, 8, 16, 24, 32, 40, 48, 16, 8),
}
CLASSIFIER = {"classifier.6.weight": np.zeros((3, 4), np.float32)}


def is_head(name):
  return name.startswith("lin")


def lpips_state(net):
  """A small network, its trunk and its heads in official names."""
  make = lambda: e4e.LPIPS(net, channels=CHANNELS[net], rngs=nnx.Rngs(0))  # noqa: E731
  lpips = randomised(make)
  state = transfer.extract(lpips, features.lpips_table(lpips))
  heads = {k: state.pop(k) for k in list(state) if is_head(k)}
  return lpips, state | CLASSIFIER, heads


@pytest.fixture(scope="module")
def alex():
  _, trunk, heads = lpips_state("alex")
  return trunk | heads


def to_alex(state):
  trunk = {k: v for k, v in state.items() if not is_head(k)}
  heads = {k: v for k, v in state.items() if is_head(k)}
  return converters.to_lpips(trunk, heads)


@pytest.fixture(scope="module")
def moco_net():
  make = lambda: e4e.MoCo((1, 2, 1, 1), channels=(4, 4, 6, 8), rngs=nnx.Rngs(0))  # noqa: E731
  return randomised(make)


@pytest.fixture(scope="module")
def resnet50(moco_net):
  state = transfer.extract(moco_net, features.moco_table(moco_net))
  state["bn1.num_batches_tracked"] = np.array(7)
  state["layer2.0.downsample.1.num_batches_tracked"] = np.array(7)
  return state


def prefixed(prefix, state):
  return {prefix + k: v for k, v in state.items()}


@pytest.fixture(scope="module")
def moco(resnet50):
  """As MoCo's training leaves it."""
  last = {"fc.0.weight": np.zeros((2, 32)), "fc.0.bias": np.zeros(2)}
  queries = prefixed("module.encoder_q.", resnet50 | last)
  keys = prefixed("module.encoder_k.", resnet50 | last)
  queue = {"module.queue": np.zeros((2, 4)), "module.queue_ptr": np.zeros(1)}
  return {**queue, **queries, **keys}


# Round trips.


@pytest.mark.parametrize("net", list(CHANNELS))
def test_lpips_round_trip(net):
  lpips, trunk, heads = lpips_state(net)
  again = converters.to_lpips({"state_dict": trunk}, heads, net)
  assert (again.net, again.channels) == (net, CHANNELS[net])
  assert_equal_leaves(again, lpips)


def test_layers_have_torchvisions_positions():
  def positions(net):
    return [int(name.split(".")[1]) for name, _ in features._weighted(net)]

  assert positions("alex") == [0, 3, 6, 8, 10]
  assert positions("squeeze") == [0, 3, 4, 6, 7, 9, 10, 11, 12]
  stages = [(0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)]
  assert positions("vgg") == [i for stage in stages for i in stage]


@pytest.mark.slow
def test_moco_round_trips(moco_net, resnet50, moco):
  bare = {k.removeprefix("module."): v for k, v in moco.items()}
  for state in (moco, bare, resnet50, resnet50 | {"fc.bias": np.zeros(3)}):
    again = converters.to_moco({"epoch": 800, "state_dict": state})
    assert again.depths == (1, 2, 1, 1)
    assert_equal_leaves(again, moco_net)
  assert_equal_leaves(converters.to_moco(moco), moco_net)


def test_a_resnet_becomes_the_body_of_restyle():
  body = randomised(
    lambda: ResNet(
      18, input_channels=3, channels=(4, 6, 8, 10), rngs=nnx.Rngs(0)
    )
  )
  state = transfer.extract(body, irse.resnet_table(body))
  assert "layer3.1.conv2.weight" in state
  again = converters.to_backbone(state | {"fc.bias": np.zeros(3)})
  assert (again.num_layers, again.input_channels) == (18, 3)
  assert_equal_leaves(again, body, skip=["input_act.slope"])
  np.testing.assert_array_equal(again.input_act.slope[...], 0.25)


@pytest.mark.parametrize("squeeze_excite", [True, False])
def test_a_face_network_gives_its_body(squeeze_excite):
  net = randomised(
    lambda: e4e.ArcFace(
      10,
      squeeze_excite=squeeze_excite,
      input_size=32,
      channels=(4, 4, 6, 8),
      rngs=nnx.Rngs(0),
    )
  )
  state = transfer.extract(net, features.arcface_table(net))
  body = converters.to_backbone({"state_dict": state})
  assert isinstance(body, Backbone) and body.squeeze_excite == squeeze_excite
  assert_equal_leaves(body, net.backbone)


# Whatever does not fit is refused, and named.


def harm_drop(state, name):
  del state[name]


def harm_rename(state, name):
  state[f"{name}s"] = state.pop(name)


def harm_add(state, name):
  state[f"{name}.more"] = state[name]


def harm_shape(state, name):
  state[name] = np.repeat(state[name], 2, -1)


def harm_number(state, name):
  state[name] = state[name].copy()
  state[name].reshape(-1)[-1] = np.nan


HARMS = [harm_drop, harm_rename, harm_add, harm_shape, harm_number]
MOCO = "module.encoder_q."


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize(
  ("kind", "name"),
  [
    ("alex", "features.0.weight"),
    ("alex", "features.8.bias"),
    ("alex", "lin2.model.1.weight"),
    ("moco", f"{MOCO}conv1.weight"),
    ("moco", f"{MOCO}layer2.1.conv1.weight"),
    ("moco", f"{MOCO}layer3.0.downsample.1.running_var"),
  ],
)
def test_a_harmed_tensor_is_named(kind, name, harm, request):
  state = dict(request.getfixturevalue(kind))
  convert = {"alex": to_alex, "moco": converters.to_moco}[kind]
  harm(state, name)
  if name == f"{MOCO}conv1.weight" and harm in (harm_drop, harm_rename):
    name = "conv1.weight"  # it is no longer known where it was
  name = name.removeprefix("module.")
  with pytest.raises(ValueError, match=name.replace(".", r"\.")):
    convert(state)


def test_networks_for_others_are_told_what_they_are(alex, moco):
  published = inventories.resnet((3, 4, 6, 3), True)
  stylegan = dict.fromkeys(("input.input", "style.1.weight", "to_rgb1.bias"))
  heads = {k: v for k, v in alex.items() if is_head(k)}
  trunk = {k: v for k, v in alex.items() if not is_head(k)}
  for convert, state, words in (
    (converters.to_arcface, moco, "not an ArcFace.*MoCo.* to to_moco"),
    (converters.to_arcface, published, "torchvision's ResNet-50: .*to_moco"),
    (converters.to_generator, alex, "AlexNet.*to_lpips as trunk, with net="),
    (converters.to_moco, stylegan, "generator.* to to_generator"),
    (converters.to_backbone, published, "layer1.0.conv3.weight.*to_moco"),
    (converters.to_directions, {"state_dict": moco}, "no directions.*to_moco"),
    (lambda x: converters.to_lpips(x, heads, "vgg"), trunk, 'net="alex"'),
    (lambda x: converters.to_lpips(x, x), trunk, "linear lacks.*AlexNet"),
    (lambda x: converters.to_lpips(x, x), alex, "both have"),
    (lambda x: converters.to_lpips(x, heads, "vgg16"), trunk, "choose one of"),
  ):
    with pytest.raises(ValueError, match=words):
      convert(state)


def test_heads_of_another_network_are_refused():
  _, trunk, _ = lpips_state("alex")
  _, _, heads = lpips_state("vgg")
  with pytest.raises(ValueError, match=r"'lin0.*trunk 8 channels.*net='alex'"):
    converters.to_lpips(trunk, heads)


def test_a_deeper_or_other_resnet_is_no_body(resnet50):
  with pytest.raises(ValueError, match="50 or more layers"):
    converters.to_backbone(resnet50)
  basic = {k: v for k, v in resnet50.items() if "conv3" not in k}
  with pytest.raises(ValueError, match=r"\(1, 2, 1, 1\) blocks"):
    converters.to_backbone(basic)


# Directions.

RNG = np.random.RandomState(0)
AGE = RNG.standard_normal(6).astype(np.float32)
ROWS = RNG.standard_normal((4, 6)).astype(np.float32)


def test_directions_of_interfacegan(tmp_path):
  same = np.tile(AGE, (4, 1))
  for value in (AGE, AGE[None], same, same[None], AGE.astype(np.float64)):
    found = converters.to_directions(value)["direction"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, AGE)
  for value in (ROWS, ROWS[None]):
    found = converters.to_directions(value, "pose")["pose"]
    np.testing.assert_array_equal(found, ROWS)
    moved = e4e.editing.move(jnp.zeros((1, 4, 6)), found, 2.0)
    np.testing.assert_allclose(moved[0], 2 * ROWS, rtol=1e-6)
  both = converters.to_directions({"age": AGE[None], "pose": ROWS})
  assert list(both) == ["age", "pose"] and both["pose"].shape == (4, 6)
  for make in (files.zip_file, files.stream_file):
    path = tmp_path / "age.pt"
    path.write_bytes(make(files.dense(AGE[None], "0")))
    found = converters.to_directions(converters.read(path), "age")
    np.testing.assert_array_equal(found["age"], AGE)


def ganspace():
  components = np.linalg.qr(RNG.standard_normal((6, 6)))[0][:3, None]
  return {
    "mean": AGE[None],
    "comp": components.astype(np.float32),
    "std": np.array([3, 2, 1], np.float32),
  }


def test_components_of_ganspace(tmp_path):
  file = ganspace()
  converters.write(file, tmp_path / "pca.pt")
  found = converters.to_directions(converters.read(tmp_path / "pca.pt"))
  shapes = {k: v.shape for k, v in found.items()}
  assert shapes == {"mean": (6,), "components": (3, 6), "std": (3,)}
  # a step of std[k] changes coordinate k by one
  w_plus = jnp.tile(jnp.asarray(AGE), (1, 4, 1))
  step = found["components"][1] * found["std"][1]
  moved = np.asarray(e4e.editing.move(w_plus, step, 0.5, layers=[0, 2]))
  found = {k: np.asarray(v) for k, v in found.items()}
  moved = (moved - found["mean"]) @ found["components"].T / found["std"]
  half, none = [0, 0.5, 0], [0, 0, 0]
  np.testing.assert_allclose(moved[0], [half, none, half, none], atol=1e-6)


@pytest.mark.parametrize(
  ("value", "words"),
  [
    (AGE * 0, "'direction' holds only zeros"),
    (np.stack([ROWS, ROWS]), r"'direction' has shape \(2, 4, 6\)"),
    ({"age": AGE * np.nan}, "'age' holds NaN"),
    ({"age": np.arange(6)}, "'age' is int64"),
    ({"age": {"a": 1}}, "'age' is object"),
    ({"age": [AGE, ROWS]}, "'age' is object"),
    ({}, "no directions in it"),
    ({k: v for k, v in ganspace().items() if k != "mean"}, "lacks 'mean'"),
    (ganspace() | {"var_ratio": AGE}, "has 'var_ratio'"),
    (ganspace() | {"std": AGE}, r"'comp' has shape \(3, 1, 6\), expected \(6"),
    (ganspace() | {"mean": AGE[None, :5]}, "'comp' has shape"),
    (ganspace() | {"mean": ROWS}, r"'mean' has shape \(4, 6\)"),
    (ganspace() | {"std": np.zeros(3)}, "not positive"),
  ],
)
def test_what_is_no_direction_is_refused(value, words):
  with pytest.raises(ValueError, match=words):
    converters.to_directions(value)
