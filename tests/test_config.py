"""Config files, validation, and the way to JSON and back."""

import dataclasses
import json

import pytest

from configs import toy
from encoder4editing_jax.config import (
  Config,
  ConfigError,
  Data,
  Loss,
  Model,
  Optim,
  Progressive,
  Run,
)

SECTIONS = [f.default_factory for f in dataclasses.fields(Config)]


def test_json_round_trip():
  config = toy.get_config()
  text = json.dumps(config.to_dict())
  assert Config.from_dict(json.loads(text)) == config


def test_configs_are_frozen():
  with pytest.raises(dataclasses.FrozenInstanceError):
    Config().run.steps = 3


def test_all_problems_are_told_at_once():
  config = Config(
    data=Data(size=(64, 8)), optim=Optim(lr=-1.0), run=Run(batch_size=0)
  )
  with pytest.raises(ConfigError) as caught:
    config.validate()
  lines = str(caught.value).splitlines()
  assert len(lines) == 3
  for name, line in zip(
    ("optim.lr is -1.0", "run.batch_size is 0", "data.size is 64 x 8"),
    lines,
    strict=True,
  ):
    assert name in line


@pytest.mark.parametrize(
  ("config", "words"),
  [
    (Config(model=Model(num_layers=51)), "num_layers is 51"),
    (
      Config(model=Model("ResNetBackboneEncoder", 5, num_layers=50)),
      "num_layers is 50; for ResNetBackboneEncoder use one of 10, 18, 34",
    ),
    (Config(model=Model("BackboneEncoder")), "set model.refinements to 1"),
    (
      Config(model=Model(refinements=2, train_decoder=True)),
      "model.refinements is 2, and starts from a picture that",
    ),
    (
      Config(
        data=Data(task="sketch", train="a", source="b"),
        model=Model(refinements=1),
      ),
      "a sketch cannot be compared with a reconstruction",
    ),
    (Config(model=Model(channels=(1, 2))), "give four, 1 or more each"),
    (Config(optim=Optim(lr=float("nan"))), "optim.lr is nan"),
    (Config(optim=Optim(lr=float("inf"))), "optim.lr is inf; set it to a"),
    (Config(run=Run(seed=-1)), "run.seed is -1; set it to 0 or more"),
    (Config(data=Data(max_megapixels=float("nan"))), "max_megapixels is nan"),
    (Config(run=Run(edit_strength=float("nan"))), "edit_strength is nan"),
    (Config(optim=Optim(clip_norm=0.0)), "set it above 0, or to None"),
    (Config(optim=Optim(ema=1.0)), "ema is 1.0; set it below 1"),
    (Config(progressive=Progressive(start=0)), "progressive.start is 0"),
    (
      Config(
        model=Model(encoder="GradualStyleEncoder"),
        progressive=Progressive(start=5),
      ),
      "GradualStyleEncoder has no stages",
    ),
    (
      Config(data=Data(task="sketch", train="images")),
      "task is sketch, but data.source is empty; name",
    ),
    (
      Config(data=Data(task="sketch", source="sketches")),
      "faceworld, which draws its own sources; leave",
    ),
    (
      Config(data=Data(train="images", source="sketches")),
      "inversion makes its sources itself; leave",
    ),
    (
      Config(data=Data(task="sketch", train="a", source="b", eval="c")),
      "data.eval_source is empty; name",
    ),
    (
      Config(data=Data(task="sketch", train="a", source="b", eval_source="c")),
      "eval_source is set without a folder in data.eval",
    ),
    (
      Config(data=Data(task="frontalization", flip=False)),
      "without data.flip shows the encoder what it is to paint",
    ),
    (
      Config(loss=Loss(identity=0.1, moco=0.5)),
      "identity and loss.moco are both on",
    ),
    (
      Config(data=Data(size=(40, 64)), loss=Loss(lpips_crop=0.8)),
      "lpips_crop compares pictures of 29 pixels here, and needs 32",
    ),
    (Config(loss=Loss(l2=0.0, adversarial=0.0)), "no term of the loss is on"),
    (
      Config(progressive=Progressive(steps=(0, 3, 2))),
      r"steps is \(0, 3, 2\); begin with 0",
    ),
    (
      Config(progressive=Progressive(start=3, steps=(0, 3))),
      "start and progressive.steps are both set",
    ),
    (Config(data=Data(labels=257)), "labels is 257; set it to 256 or less"),
    (Config(data=Data(labels=0)), "labels is 0; set it to 1 or more"),
    (
      Config(data=Data(task="super_resolution", size=(32, 48))),
      r"resize_factors is \(1, 2, .* give one or more from 1 to 20",
    ),
  ],
)
def test_problems_name_the_field(config, words):
  with pytest.raises(ConfigError, match=words):
    config.validate()


@pytest.mark.parametrize(
  ("section", "field", "value", "words"),
  [
    ("optim", "name", "adamm", "one of 'ranger', 'adam', 'sgd'"),
    ("optim", "lr", "1e-3", "a number"),
    ("run", "steps", 2.5, "a whole number"),
    ("run", "steps", True, "a whole number"),
    ("data", "flip", 1, "True or False"),
    ("data", "size", (64,), "a tuple of 2 whole numbers"),
    ("model", "channels", (16, 32.0), "a tuple of whole numbers"),
    ("model", "n_styles", "18", "a whole number or None"),
  ],
)
def test_values_of_wrong_types_are_told(section, field, value, words):
  config = Config()
  # The type checks of the test run would refuse to build it.
  object.__setattr__(getattr(config, section), field, value)
  with pytest.raises(ConfigError) as caught:
    config.validate()
  told = f"{section}.{field} is {value!r}; set it to {words}."
  assert str(caught.value) == told


def test_whole_numbers_are_numbers():
  config = Config()
  object.__setattr__(config.optim, "lr", 1)
  config.validate()


def test_unknown_fields_are_refused_with_the_nearest():
  with pytest.raises(ConfigError, match=r"optim\.lrr; did you mean optim\.lr"):
    Config.from_dict({"optim": {"lrr": 1.0}})
  with pytest.raises(ConfigError, match="section optimm; did you mean optim"):
    Config.from_dict({"optimm": {}})


def test_changes_are_named():
  there = Config(run=Run(steps=5), optim=Optim(lr=2.0))
  assert Config().changes(there) == {
    "optim.lr": (1e-4, 2.0),
    "run.steps": (200_000, 5),
  }


@pytest.mark.parametrize("section", SECTIONS)
def test_every_field_is_documented(section):
  """A docstring stands below each field; tyro shows it in --help."""
  import inspect

  source = inspect.getsource(section)
  for field in dataclasses.fields(section):
    after = source.split(f"\n  {field.name}: ", 1)[1]
    assert '"""' in after.split("\n\n", 1)[0], field.name


@pytest.mark.parametrize(
  "data",
  [
    Data(task="segmentation"),  # faceworld draws its own labels
    Data(task="segmentation", train="a", source="b", eval="faceworld"),
    Data(task="sketch", train="a", source="b", eval="c", eval_source="d"),
    Data(task="frontalization", train="a"),
    Data(task="frontalization", train="a", source="b"),
    Data(task="super_resolution", size=(64, 64)),
    Data(task="inpainting", train="a", eval="b"),
    Data(size=(16, 16)),  # whose default factors nobody uses
  ],
)
def test_tasks_with_what_they_need_are_valid(data):
  Config(data=data).validate()
