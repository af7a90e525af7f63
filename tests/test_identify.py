"""Every published kind of file is told from every other."""

import inventories as known
import numpy as np
import pytest
import torch_files as files
from goldens.recipe import recipe_keys

from encoder4editing_jax import converters
from encoder4editing_jax.converters import converting, kinds


def golden(name):
  rows = recipe_keys(name)
  return {key: known.zeros(*shape) for key, shape, _ in rows}


def below(name, prefix):
  whole = golden(name)
  n = len(prefix)
  return {k[n:]: v for k, v in whole.items() if k.startswith(prefix)}


def framework(name, **beside):
  return {"state_dict": golden(name), "opts": {}, "latent_avg": 0} | beside


FRAMEWORKS = (
  "e4e_1024",
  "psp_64",
  "psp_w_64",
  "psp_wplus_64",
  "restyle_e4e_64",
  "restyle_psp_64",
  "single_style_1024",
)
FUSED = {"fused_modconv_default": "inference_only"}
EXPECTED = [
  *(("framework", framework, name) for name in FRAMEWORKS),
  ("framework", golden, "e4e_64"),
  *(("encoder", below, name, "encoder.") for name in FRAMEWORKS),
  ("rosinality-generator", below, "e4e_64", "decoder."),
  ("rosinality-generator", golden, "generator_1024"),
  ("rosinality-generator", lambda: {"g_ema": golden("generator_32")}),
  ("rosinality-discriminator", golden, "discriminator_256"),
  ("latent-discriminator", golden, "latent_discriminator"),
  ("arcface-ir-se50", golden, "ir_se50"),
  ("curricularface-ir101", golden, "ir100"),
  ("arcface", golden, "ir_se152"),
  ("insightface-iresnet", known.iresnet),
  ("moco", known.moco),
  ("moco", known.moco, ""),
  ("lpips-alex-linear", known.lpips, "alex"),
  ("lpips-vgg-linear", known.lpips, "vgg"),
  ("lpips-squeeze-linear", known.lpips, "squeeze"),
  ("torchvision-alexnet", known.alexnet),
  ("torchvision-vgg16", known.vgg16),
  ("torchvision-squeezenet1_1", known.squeezenet),
  ("torchvision-resnet50", known.resnet, (3, 4, 6, 3), True),
  ("torchvision-resnet34", known.resnet, (3, 4, 6, 3), False),
  ("ada-generator", known.ada_generator),
  ("ada-discriminator", known.ada_discriminator),
  ("ada-generator", known.nvidia_pickle),
  ("stylegan3-repo-stylegan2", lambda: known.nvidia_pickle(**FUSED)),
  ("stylegan3", known.stylegan3_pickle),
  ("fid-inception", known.inception),
  (
    "torchvision-inception",
    lambda: known.inception(1000) | known.layer("AuxLogits.fc", 1000, 768),
  ),
  ("tf-generator", known.tf_variables),
  ("tf-generator", known.tf_pickle),
  (
    "tf-discriminator",
    lambda: dict.fromkeys(("4x4/Dense0/weight", "Output/weight"), 0),
  ),
  ("pca", lambda: {"comp": known.zeros(80, 1, 512), "mean": 0, "std": 0}),
  ("direction", known.zeros, 1, 512),
  ("native", lambda: {"synthesis.constant": known.zeros(4, 4, 8)}),
  ("training-state", lambda: {"optimizer": {}, "global_step": 3}),
]


@pytest.mark.parametrize(
  ("name", "make", "arguments"),
  [pytest.param(n, m, a, id=f"{n}-{a}") for n, m, *a in EXPECTED],
)
def test_a_checkpoint_is_told_what_it_is(name, make, arguments):
  assert converters.identify(make(*arguments))[0].kind.name == name


def as_pickle(value):
  """The nests of `inventories` as what NVIDIA's pickles hold."""
  if not isinstance(value, dict):
    return value
  items = {k: as_pickle(v) for k, v in value.items()}
  if "class" not in value:
    return items
  meta = {"type": "class", "version": 6, "module_src": "import os"}
  meta |= {"class_name": items["class"], "state": items["state"]}
  module = files.NAMES["torch_utils.persistence"]
  return files.Call(module["_reconstruct_persistent_obj"], meta)


@pytest.mark.parametrize(
  ("name", "nest"),
  [
    ("ada-generator", known.nvidia_pickle()),
    ("stylegan3-repo-stylegan2", known.nvidia_pickle(**FUSED)),
    ("stylegan3", known.stylegan3_pickle()),
  ],
)
def test_pickles_are_told_when_they_are_read(name, nest, tmp_path):
  (tmp_path / "g.pkl").write_bytes(files.pickled(as_pickle(nest), 4)[0])
  found = converters.identify(converters.read(tmp_path / "g.pkl"))
  assert found[0].kind.name == name


def test_every_kind_is_tested():
  tested = {name for name, *_ in EXPECTED} | {"decoder"}
  assert tested == {kind.name for kind in kinds.KINDS}


def test_rows_are_complete():
  names = [kind.name for kind in kinds.KINDS]
  assert len(set(names)) == len(names)
  for kind in kinds.KINDS:
    assert kind.marks and all(mark.has for mark in kind.marks), kind.name
    assert bool(kind.converter) != bool(kind.advice), kind.name
    assert kind.converter in {*converting.CONVERTERS, None}
    assert not kind.advice.endswith("."), kind.name


@pytest.mark.parametrize(
  "other",
  [
    lambda: known.resnet((3, 4, 23, 3), True),  # ResNet-101
    lambda: known.resnet((2, 2, 2, 2), False),  # ResNet-18
    lambda: {f"features.{i}.weight": 0 for i in (0, 3, 6, 8, 11)},  # VGG-11
    lambda: {f"features.{i}.weight": 0 for i in (0, 25, 28, 34)},  # VGG-19
    lambda: {f"lin{i}.model.1.weight": known.zeros(1, 7, 1, 1) for i in (0, 1)},
    lambda: {"state_dict": None},
    dict,
    lambda: 5,
  ],
)
def test_relatives_of_known_networks_are_not_taken_for_them(other):
  with pytest.raises(ValueError, match="of no known kind; at its top are"):
    converters.identify(other())


def test_unknown_entries_are_named_and_cut():
  many = {f"layer.{i}": 0 for i in range(9)} | {"x" * 500: 0}
  with pytest.raises(
    ValueError, match=r"'layer\.0', .* and 4 more\. "
  ) as error:
    converters.identify(many)
  assert len(str(error.value)) < 250
  with pytest.raises(ValueError, match="'" + "x" * 60 + "'"):
    converters.identify({"x" * 500: 0})


def test_files_of_several_networks_say_which_they_hold():
  whole = {"g_ema": golden("generator_32"), "d": golden("discriminator_256")}
  found = converters.identify(whole | {"g": {}, "g_optim": {}, "d_optim": {}})
  assert [m.kind.name for m in found] == [
    "rosinality-generator",
    "rosinality-discriminator",
  ]
  assert [m.place for m in found] == ["g_ema", "d"]
  discriminator = golden("latent_discriminator")
  trained = framework(
    "e4e_64", discriminator_state_dict=discriminator, optimizer={}
  )
  parts = [m.kind.part for m in converters.identify(trained)]
  assert parts == ["inverter", "generator", "latent_discriminator"]


@pytest.mark.parametrize(
  ("make", "words"),
  [
    (known.alexnet, "torchvision's AlexNet; give it to `e4e weights` together"),
    (known.stylegan3_pickle, "a StyleGAN3 generator; its layers are other"),
    (lambda: below("e4e_64", "encoder."), "an encoder of .*; give the whole"),
  ],
)
def test_what_cannot_be_converted_is_told_what_to_do(make, words):
  with pytest.raises(ValueError, match=f"this is {words}"):
    converters.convert(make())


def test_parts_that_are_not_there_are_refused():
  whole = {"g_ema": golden("generator_32")}
  with pytest.raises(ValueError, match="no arcface in it; it has generator"):
    converters.convert(whole, part="arcface")
  with pytest.raises(ValueError, match="leave encoder_type out"):
    converters.convert(whole, encoder_type="Encoder4Editing")


def test_parts_are_converted_as_what_they_are(monkeypatch):
  whole = {"g_ema": golden("generator_32"), "d": golden("discriminator_256")}
  seen = []

  def to_discriminator(checkpoint):
    seen.append(checkpoint)
    return "converted"

  name = "to_discriminator"
  monkeypatch.setitem(converting.CONVERTERS, name, to_discriminator)
  assert converters.convert(whole, part="discriminator") == "converted"
  assert seen == [whole]


def test_one_array_is_a_tensor_alone():
  found = converters.identify(np.zeros((1, 18, 512), np.float32))
  assert "direction" in found[0].kind.what
