"""Each network of a file can be taken, wherever published files have it."""

import json

import numpy as np
import pytest
import stylegan_files as ada
import tensorflow_files as tf
import test_stylegan_families as families
import tiny_checkpoints as tiny
from flax import nnx
from random_weights import randomised

import encoder4editing_jax as e4e
from encoder4editing_jax import cli, converters
from encoder4editing_jax.converters import kinds

CODE = np.zeros(tiny.DIM, np.float32)


def latent_discriminator():
  net = randomised(lambda: e4e.LatentDiscriminator(3, 4, 2, rngs=nnx.Rngs(0)))
  return converters.from_latent_discriminator(net)["discriminator_state_dict"]


# Bare tensors by kind, and the part that they are.
BARE = {
  "framework": (lambda: tiny.e4e_checkpoint()["state_dict"], "inverter"),
  "decoder": (lambda: tiny.e4e_checkpoint()["state_dict"], "generator"),
  "rosinality-generator": (lambda: families.STATE, "generator"),
  "rosinality-discriminator": (lambda: families.D_STATE, "discriminator"),
  "latent-discriminator": (latent_discriminator, "latent_discriminator"),
  "arcface": (tiny.arcface_state, "arcface"),
  "ada-generator": (lambda: families.ADA_G, "generator"),
  "ada-discriminator": (lambda: families.ADA_D, "discriminator"),
  "tf-generator": (lambda: families.TF_G, "generator"),
  "tf-discriminator": (lambda: families.TF_D, "discriminator"),
}
PLACES = [
  (kind.name, mark.place)
  for kind in kinds.KINDS
  for mark in kind.marks
  if kind.name in BARE and "/" not in mark.place
]


def beside(kind):
  """What tells an e4e encoder, and saves the computing of mean codes."""
  if kind == "rosinality-generator":
    return {"latent_avg": families.LATENT_AVG}
  if kind in ("framework", "decoder"):
    return {"opts": {"encoder_type": "Encoder4Editing"}, "latent_avg": CODE}
  return {}


@pytest.mark.parametrize(("kind", "place"), PLACES)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_networks_are_converted_wherever_they_are_told(kind, place, prefix):
  make, part = BARE[kind]
  state = make()
  inside = {prefix + name: value for name, value in state.items()}
  whole = {place: inside} if place else inside
  found = converters.convert(whole | beside(kind), part)
  assert tiny.equal(found, converters.convert(state | beside(kind), part))


def test_a_tensor_with_and_without_its_wrapper_is_refused():
  state = families.D_STATE
  twice = state | {"module.convs.0.0.weight": state["convs.0.0.weight"]}
  with pytest.raises(ValueError, match=r"both 'convs\.0\.0\.weight' and 'mod"):
    converters.to_discriminator(twice)


def test_variables_alone_say_that_options_are_unknown(caplog):
  converters.to_generator(families.TF_G)
  assert "variables do not say how their network was built" in caplog.text
  with pytest.raises(ValueError, match="belongs to a conditional network"):
    converters.to_generator(families.TF_G | {"synthesis/LabelConcat/x": 0})


# Files of several networks, as the command takes them.


def e4e_training_file(path):
  whole = tiny.e4e_checkpoint() | {"latent_avg": CODE}
  whole["discriminator_state_dict"] = latent_discriminator()
  converters.write(whole | {"global_step": 3, "optimizer": {}}, path)


def ada_file(path, **networks):
  path.write_bytes(ada.ada_file(families.ada_networks(**networks)))


def tf_file(path):
  path.write_bytes(tf.tf_file(families.tf_networks()))


def only_g(path):
  g = families.ada_networks()["G_ema"]
  ada_file(path, G=g, G_ema=None, D=None)


def d_alone(path):
  ada_file(path, G_ema=None)


FILES = {
  "e4e": (
    e4e_training_file,
    {
      "inverter": "Inverter",
      "generator": "Generator",
      "latent_discriminator": "LatentDiscriminator",
    },
  ),
  "ada": (ada_file, {"generator": "Generator", "discriminator": "Discrim"}),
  "ada_g": (only_g, {"generator": "Generator"}),
  "ada_d": (d_alone, {"discriminator": "Discriminator"}),
  "tf": (tf_file, {"generator": "Generator", "discriminator": "Discrim"}),
}
ABSENT = {
  "e4e": "discriminator",
  "ada_g": "discriminator",
  "ada_d": "generator",
}


@pytest.mark.parametrize("name", FILES)
def test_the_command_takes_each_part(name, tmp_path, capsys):
  make, parts = FILES[name]
  make(tmp_path / "file")
  for part, module in parts.items():
    out = tmp_path / f"{part}.safetensors"
    words = ["convert", str(tmp_path / "file"), str(out), "--json"]
    assert cli.main([*words, "--part", part]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["module"].startswith(module)
    assert set(found["also"]) == set(parts) - {part}
    assert tiny.equal(
      e4e.load(out),
      converters.convert(converters.read(tmp_path / "file"), part),
    )
  absent = ABSENT.get(name, "inverter")
  assert cli.main(["convert", str(tmp_path / "file"), "--part", absent]) == 2
  said = capsys.readouterr().err
  assert f"there is no {absent} in it; it has {', '.join(parts)}." in said
