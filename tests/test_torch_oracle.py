"""PyTorch itself as the judge of what is read and written; needs PyTorch."""

import argparse
import collections
import io
import pickle
import sys
import types
from unittest import mock

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import stylegan_files as ada
import torch_files as files
from flax import nnx
from goldens.recipe import recipe_normal, recipe_state_dict, recipe_tensor
from random_weights import randomised
from test_official import small
from test_training_state import parameters, training_checkpoint

from encoder4editing_jax import converters
from encoder4editing_jax.converters import transfer
from encoder4editing_jax.converters.start import load_start
from encoder4editing_jax.models.arcface import ArcFace
from encoder4editing_jax.training import start
from encoder4editing_jax.training.adam import adam

torch = pytest.importorskip(
  "torch", reason="PyTorch is not installed; `pip install torch` adds it"
)
torch.set_num_threads(1)
CONTAINERS = {"zip": True, "stream": False}


def to_torch(tree):
  """The same tree with tensors for arrays."""
  if isinstance(tree, np.ndarray):
    return torch.from_numpy(np.array(tree, order="C"))
  if isinstance(tree, dict):
    items = ((k, to_torch(v)) for k, v in tree.items())
    return collections.OrderedDict(items)
  return tree


def generator():
  state, latent_avg = ada.rosinality_generator()
  return {"g_ema": state, "latent_avg": latent_avg}


def training_file():
  """What rosinality's training saves, with a namespace."""
  args = argparse.Namespace(size=16, path="/data", r1=10.0)
  return {"d": ada.rosinality_discriminator(), "args": args, "ada_aug_p": 0.1}


FAMILIES = {
  "e4e": lambda: small("Encoder4Editing"),
  "restyle": lambda: small("ResNetProgressiveBackboneEncoder"),
  "rosinality": generator,
  "training": training_file,
}


def assert_same(found, expected):
  if isinstance(expected, dict):
    assert list(found) == list(expected)
    for name, value in expected.items():
      assert_same(found[name], value)
  elif isinstance(expected, argparse.Namespace):
    assert dict(found) == vars(expected)
  elif isinstance(expected, np.ndarray):
    found = found.numpy() if isinstance(found, torch.Tensor) else found
    np.testing.assert_array_equal(found, expected, strict=True)
  else:
    assert found == expected


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("container", CONTAINERS)
def test_what_torch_saves_is_read(tmp_path, family, container):
  checkpoint, path = FAMILIES[family](), tmp_path / "file.pt"
  zipped = CONTAINERS[container]
  torch.save(to_torch(checkpoint), path, _use_new_zipfile_serialization=zipped)
  assert path.read_bytes().startswith(b"PK" if zipped else b"\x80")
  assert_same(converters.read(path), checkpoint)


@pytest.mark.slow
@pytest.mark.parametrize("container", CONTAINERS)
def test_a_whole_checkpoint_is_read(tmp_path, container):
  """1.2 GB, 792 tensors: those of e4e_ffhq_encode.pt."""
  state = recipe_state_dict("e4e_1024")
  tensors = {name: torch.from_numpy(value) for name, value in state.items()}
  zipped, path = CONTAINERS[container], tmp_path / "file.pt"
  saved = {"state_dict": tensors, "opts": {"stylegan_size": 1024}}
  torch.save(saved, path, _use_new_zipfile_serialization=zipped)
  found = converters.read(path)
  assert_same(found["state_dict"], state)
  assert dict(found["opts"]) == saved["opts"]


@pytest.mark.parametrize("container", CONTAINERS)
def test_tensors_of_every_kind_and_layout(tmp_path, container):
  base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
  kinds = ("float64", "float16", "bfloat16", "int64", "uint8", "bool")
  tensors = {kind: base.to(getattr(torch, kind)) for kind in kinds}
  tensors |= {"part": base[:, 1:, ::2], "transposed": base.mT}
  tensors |= {"scalar": torch.tensor(3.5), "empty": torch.zeros(0, 4)}
  last = base[None].contiguous(memory_format=torch.channels_last)
  tensors |= {"last": last, "parameter": torch.nn.Parameter(base)}
  path = tmp_path / "file.pt"
  zipped = CONTAINERS[container]
  torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
  found = converters.read(path)
  for name, tensor in tensors.items():
    exact = tensor.detach().to(torch.float64).numpy()
    assert str(found[name].dtype) == str(tensor.dtype).removeprefix("torch.")
    np.testing.assert_array_equal(found[name].astype(np.float64), exact, name)


@pytest.mark.parametrize("family", ["e4e", "restyle", "rosinality"])
@pytest.mark.parametrize("mmap", [False, True])
def test_what_we_write_torch_loads(tmp_path, family, mmap):
  checkpoint, path = FAMILIES[family](), tmp_path / "file.pt"
  converters.write(checkpoint, path)
  found = torch.load(path, weights_only=True, mmap=mmap)
  assert_same(found, checkpoint)


def test_what_is_exported_torch_loads_strictly(tmp_path):
  net = randomised(
    lambda: ArcFace(
      10,
      input_size=32,
      embedding_dim=6,
      channels=(4, 4, 8, 8),
      rngs=nnx.Rngs(0),
    )
  )
  path = tmp_path / "face.pth"
  converters.write(converters.from_arcface(net), path)
  state = torch.load(path, weights_only=True)
  start = "body.0.res_layer."
  state = {k.removeprefix(start): v for k, v in state.items() if start in k}
  state = {k: v for k, v in state.items() if not k.startswith("5.")}
  layers = torch.nn.Sequential(
    torch.nn.BatchNorm2d(4),
    torch.nn.Conv2d(4, 4, 3, 1, 1, bias=False),
    torch.nn.PReLU(4),
    torch.nn.Conv2d(4, 4, 3, 2, 1, bias=False),
    torch.nn.BatchNorm2d(4),
  ).eval()
  layers.load_state_dict(state, strict=True)
  x = recipe_normal("oracle/x", (1, 4, 6, 6))
  with torch.no_grad():
    expected = layers(torch.from_numpy(x)).numpy()
  block, y = net.backbone.blocks[0], jnp.asarray(x.transpose(0, 2, 3, 1))
  y = block.act(block.conv1(block.norm1(y)))
  y = np.asarray(block.norm2(block.conv2(y))).transpose(0, 3, 1, 2)
  np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


# Pickles of NVIDIA: modules of PyTorch that are pickled as their `__dict__`.


def persistent(module):
  """A module of PyTorch, pickled as `torch_utils.persistence` does it."""
  state = dict(vars(module))
  children = state["_modules"].items()
  state["_modules"] = {k: v and persistent(v) for k, v in children}
  meta = {"type": "class", "version": 6, "module_src": "import os"}
  meta |= {"class_name": type(module).__name__, "state": state}
  names = files.NAMES["torch_utils.persistence"]
  return files.Call(names["_reconstruct_persistent_obj"], meta)


def torch_network(tensors, options):
  """A tree of real modules with these tensors and attributes."""
  root = torch.nn.Module()

  def module(path):
    node = root
    for part in filter(None, path.split(".")):
      if part not in node._modules:
        node.add_module(part, torch.nn.Module())
      node = node._modules[part]
    return node

  for path, attributes in options.items():
    vars(module(path)).update(attributes)
  for name, array in tensors.items():
    path, _, own = name.rpartition(".")
    tensor = torch.from_numpy(np.array(array, order="C"))
    if own in ada.BUFFERS:
      module(path).register_buffer(own, tensor)
    else:
      module(path).register_parameter(own, torch.nn.Parameter(tensor))
  return root


@pytest.mark.parametrize("protocol", [3, 4])
def test_modules_of_torch_in_pickles_of_nvidia(tmp_path, protocol):
  state, latent_avg = ada.rosinality_generator()
  tensors = ada.ada_generator(state, latent_avg)
  network = torch_network(tensors, ada.ada_generator_options())
  fake = {}
  for name in ("torch_utils", "torch_utils.persistence"):
    fake[name] = types.ModuleType(name)
    vars(fake[name]).update(files.NAMES[name])
  file = io.BytesIO()
  with mock.patch.dict(sys.modules, fake):
    pickle.Pickler(file, protocol).dump({"G_ema": persistent(network)})
  path = tmp_path / "network.pkl"
  path.write_bytes(file.getvalue())
  net = converters.to_generator(converters.read(path))
  assert net.conv_clamp == 256
  expected = transfer.leaves(converters.to_generator(generator()))
  for name, leaf in transfer.leaves(net).items():
    np.testing.assert_array_equal(leaf[...], expected[name][...], name)


# Optimizers.


def test_the_state_of_a_real_optimizer(tmp_path):
  checkpoint = small("SingleStyleCodeEncoder")
  names = parameters(checkpoint["state_dict"], "encoder.")
  weights = {
    name: torch.nn.Parameter(
      torch.from_numpy(checkpoint["state_dict"][name].copy())
    )
    for name in names
  }
  optimizer = torch.optim.Adam(list(weights.values()), lr=1e-3)
  unused = "encoder.linear.bias"
  for step in range(3):
    for name, weight in weights.items():
      if name != unused:
        gradient = recipe_normal(f"{step}/{name}", weight.shape)
        weight.grad = torch.from_numpy(gradient)
    optimizer.step()
  state = {k: v.detach().numpy() for k, v in weights.items()}
  checkpoint["state_dict"] = checkpoint["state_dict"] | state
  whole = to_torch(checkpoint) | {
    "optimizer": optimizer.state_dict(),
    "global_step": 2,
    "best_val_loss": None,
  }
  path = tmp_path / "iteration_2.pt"
  torch.save(whole, path)
  found = converters.to_training_state(converters.read(path))
  assert found.step == 3
  assert found.optimizer.name == "adam"
  assert found.optimizer.hyperparameters["lr"] == 1e-3
  steps = dict(found.optimizer.steps)
  assert steps.pop("encoder.linear.bias") == 0
  assert {int(count) for count in steps.values()} == {3}
  name = "encoder.body.0.res_layer.1.weight"
  for key, ours in (("exp_avg", "mu"), ("exp_avg_sq", "nu")):
    expected = optimizer.state[weights[name]][key].numpy()
    value = found.optimizer.moments[ours]["encoder.body.blocks.0.conv1.kernel"]
    np.testing.assert_array_equal(value, expected.transpose(2, 3, 1, 0))
  mean = recipe_tensor("latent_avg", (8, 16))
  np.testing.assert_array_equal(found.inverter.w_avg[...], mean)


def test_the_discriminators_adam_goes_on_here(tmp_path):
  """Three steps by PyTorch, and the fourth by both."""
  net = torch.nn.Module()
  net.mlp = torch.nn.Sequential(
    torch.nn.Linear(6, 5), torch.nn.LeakyReLU(0.2), torch.nn.Linear(5, 1)
  )
  theirs = torch.optim.Adam(net.parameters(), lr=1e-2)

  def descend(step):
    gradients = {}
    for name, parameter in net.named_parameters():
      gradients[name] = recipe_normal(f"{name}/{step}", tuple(parameter.shape))
      parameter.grad = torch.from_numpy(gradients[name])
    theirs.step()
    return gradients

  for step in range(3):
    descend(step)
  checkpoint = to_torch(training_checkpoint()) | {
    "discriminator_state_dict": net.state_dict(),
    "discriminator_optimizer_state_dict": theirs.state_dict(),
  }
  torch.save(checkpoint, tmp_path / "run.pt")
  run = load_start(tmp_path / "run.pt")
  ours, weights = adam(1e-2), nnx.to_pure_dict(nnx.state(run.discriminator))
  saved = run.discriminator_optimizer
  state = start.filled(ours.init(weights), saved, weights, jnp.int32(3))
  wanted = descend(3)
  gradient = {
    i: {
      "kernel": jnp.asarray(wanted[f"mlp.{2 * i}.weight"].T),
      "bias": jnp.asarray(wanted[f"mlp.{2 * i}.bias"]),
    }
    for i in range(2)
  }
  updates, _ = ours.update({"layers": gradient}, state, weights)
  layers = optax.apply_updates(weights, updates)["layers"]
  for i in range(2):
    after = net.mlp[2 * i]
    for found, expected in (
      (layers[i]["kernel"], after.weight.detach().numpy().T),
      (layers[i]["bias"], after.bias.detach().numpy()),
    ):
      np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)
