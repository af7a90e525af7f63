"""Every run card: valid, and good for two steps at reduced width."""

import dataclasses
import importlib
import pkgutil

import jax
import numpy as np
import pytest
from changing import change
from flax import nnx
from PIL import Image

import configs
from encoder4editing_jax import weights, weights_folder
from encoder4editing_jax.config import FACEWORLD, Progressive
from encoder4editing_jax.config_rules import NEEDS_SOURCE
from encoder4editing_jax.data.tasks import task_of
from encoder4editing_jax.models.arcface import ArcFace
from encoder4editing_jax.models.lpips import LPIPS
from encoder4editing_jax.models.moco import MoCo
from encoder4editing_jax.models.stylegan2 import Generator
from encoder4editing_jax.training import loop

CARDS = [info.name for info in pkgutil.iter_modules(configs.__path__)]
SIDE = 64  # of the tiny generator's pictures


def config_of(card):
  return importlib.import_module(f"configs.{card}").get_config()


@pytest.mark.parametrize("card", CARDS)
def test_cards_are_valid_and_say_how_to_run_them(card):
  config_of(card).validate()
  text = importlib.import_module(f"configs.{card}").__doc__
  assert f"python train.py --config configs/{card}.py --workdir" in text
  assert "arXiv" in text or card.startswith("toy")


def test_cards_of_tasks_are_named_after_them():
  for card in CARDS:
    task = config_of(card).data.task
    if task != "inversion":
      assert card in (f"toy_{task}", f"psp_{task}")


def test_every_task_of_the_papers_has_cards():
  tasks = {config_of(card).data.task for card in CARDS}
  assert tasks >= {"frontalization", "inpainting", "super_resolution"}
  assert tasks >= set(NEEDS_SOURCE)
  encoders = {config_of(card).model.encoder for card in CARDS}
  assert {"BackboneEncoder", "ResNetProgressiveBackboneEncoder"} <= encoders


@pytest.fixture(scope="module")
def world(tmp_path_factory):
  """Images, sources, a generator and the losses' networks, all tiny."""
  root, rngs = tmp_path_factory.mktemp("world"), nnx.Rngs(0)
  random = np.random.default_rng(0)
  for i in range(20):
    for folder, shape, most in (
      ("images", (SIDE, SIDE, 3), 256),
      ("sketch", (SIDE, SIDE), 256),
      ("segmentation", (SIDE, SIDE), 19),
    ):
      (root / folder).mkdir(exist_ok=True)
      pixels = random.integers(0, most, shape, dtype=np.uint8)
      Image.fromarray(pixels).save(root / folder / f"{i}.png")
  generator = Generator(
    SIDE, channel_base=128, channel_max=4, style_dim=8, n_mlp=1, rngs=rngs
  )
  weights.save(generator, root / "generator.safetensors")
  for name, network in {
    "lpips_alex": LPIPS(channels=(4, 4, 4, 4, 4), rngs=rngs),
    "arcface_ir_se50": ArcFace(
      10, input_size=32, embedding_dim=8, channels=(4, 4, 8, 8), rngs=rngs
    ),
    "moco": MoCo((1, 1), channels=(4, 8), input_size=16, rngs=rngs),
  }.items():
    weights.save(network, weights_folder.path_of(root, name))
  return root


def reduced(card, root):
  """A card with two steps, narrow networks and small pictures."""
  config = config_of(card)
  h, w = config.data.size
  data = {"size": (48 * h // max(h, w), 48 * w // max(h, w)), "eval_images": 2}
  model = {"num_layers": 10, "channels": (4, 4, 8, 8)}
  if config.data.train == FACEWORLD:
    data |= {"rendered_images": 16}
  else:
    source = config.data.source and str(root / config.data.task)
    data |= {"train": str(root / "images"), "source": source}
    model |= {"generator": str(root / "generator.safetensors")}
  if config.model.refinements:
    model |= {"refinements": 2}
  if config.data.task == "super_resolution":
    data |= {"resize_factors": (1, 4)}
  if min(data["size"]) < 36:
    data["size"] = (48, 64)
  config = change(
    config,
    data=data,
    model=model,
    weights={"dir": str(root), "backbone": ""},
    discriminator={"hidden": 8, "n_layers": 2, "pool": 4},
    run={"steps": 2, "batch_size": 8, "log_every": 1},
  )
  if config.progressive.start is None:
    return config
  return dataclasses.replace(config, progressive=Progressive(1, 1))


@pytest.mark.slow
@pytest.mark.parametrize("card", CARDS)
def test_every_card_trains(card, world, tmp_path):
  config = reduced(card, world)
  results = loop.run(config, tmp_path)
  assert results["step"] == 2
  assert np.isfinite(results["psnr"]) and np.isfinite(results["score"])
  inverter = weights.load(tmp_path / "inverter.safetensors")
  assert inverter.restyle == (config.model.refinements > 0)
  channels = task_of(config.data).channels + 3 * inverter.restyle
  assert inverter.encoder.input_channels == channels
  with Image.open(tmp_path / "inversions.png") as grid:
    assert grid.width > 256
  jax.clear_caches()  # what all cards compile does not fit into memory
