"""Sources that belong to targets: pairing, checking, batches, the step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from configs import (
  toy_inpainting,
  toy_segmentation,
  toy_sketch,
  toy_super_resolution,
)
from encoder4editing_jax import weights
from encoder4editing_jax.config import (
  Config,
  ConfigError,
  Data,
  Loss,
  Model,
  Run,
)
from encoder4editing_jax.data import checking, pairs, pipeline, sources
from encoder4editing_jax.data.tasks import Task, task_of
from encoder4editing_jax.models.stylegan2 import Generator
from encoder4editing_jax.training import (
  evaluation,
  loop,
  parallel,
  pool,
  preparation,
  state,
  step,
)

COLOURS = np.array([(0, 0, 0), (250, 0, 0), (0, 250, 0), (9, 9, 250)], "u1")
SEGMENTATION = Task("segmentation", labels=4)


@pytest.fixture
def folders(tmp_path):
  """Twenty label maps of 8 x 8, and pictures in the colours of the labels."""
  random = np.random.default_rng(0)
  for i in range(20):
    labels = random.integers(0, 4, (8, 8), dtype=np.uint8)
    for folder, pixels in (("images", COLOURS[labels]), ("labels", labels)):
      (tmp_path / folder).mkdir(exist_ok=True)
      Image.fromarray(pixels).save(tmp_path / folder / f"{i:02d}.png")
  return tmp_path


def open_pairs(folders):
  return pairs.pair(
    sources.FolderSource(folders / "images"),
    sources.FolderSource(folders / "labels"),
  )


def names(source):
  return [source.name(i) for i in range(len(source))]


def touch(path):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(b"picture")


def test_partners_have_the_same_name_wherever_they_are(tmp_path):
  for name in ("b/2.jpg", "a/1.jpg", "c/10.JPG"):
    touch(tmp_path / "images" / name)
  for name in ("10.png", "2.png", "x/1.png"):
    touch(tmp_path / "labels" / name)
  pair = pairs.pair(
    *(sources.FolderSource(tmp_path / x) for x in ("images", "labels"))
  )
  partners = sources.partners_of(pair)
  for i in range(3):
    one, other = pair.name(i), partners.name(i)
    assert one.split("/")[-1].split(".")[0] == other.split("/")[-1][:-4]


def test_names_that_recur_in_sub_folders_are_told_apart_by_them(tmp_path):
  for name in ("a/1", "b/1"):
    touch(tmp_path / "images" / f"{name}.jpg")
    touch(tmp_path / "labels" / f"{name}.png")
  pair = pairs.pair(
    *(sources.FolderSource(tmp_path / x) for x in ("images", "labels"))
  )
  for i in range(2):
    end = sources.partners_of(pair).name(i)[-7:-4]
    assert pair.name(i)[-7:-4] == end


def test_missing_partners_are_named_on_both_sides(folders):
  (folders / "images" / "03.png").unlink()
  (folders / "labels" / "05.png").unlink()
  with pytest.raises(sources.DataError) as caught:
    open_pairs(folders)
  text = str(caught.value)
  assert f"1 of 19 pictures have no partner in {folders / 'labels'}" in text
  assert f"1 of 19 pictures have no partner in {folders / 'images'}" in text
  assert "images/05.png" in text and "labels/03.png" in text


def test_two_files_of_one_name_are_refused(folders):
  touch(folders / "labels" / "03.bmp")
  with pytest.raises(sources.DataError, match=r"03\.bmp and .*03\.png have"):
    open_pairs(folders)


def test_parts_of_pairs_are_pairs(folders):
  whole = open_pairs(folders)
  for part in (*sources.hold_out(whole, 2), sources.spread(whole, 3)):
    partners = sources.partners_of(part)
    assert 2 <= len(part) == len(partners)
    assert [n.replace("images", "labels") for n in names(part)] == names(
      partners
    )
  assert sources.partners_of(sources.FolderSource(folders / "images")) is None


def test_bad_partners_are_found_by_name(folders):
  labels = folders / "labels"
  Image.new("L", (8, 8), 4).save(labels / "02.png")
  Image.new("RGB", (8, 8)).save(labels / "04.png")
  Image.new("L", (16, 8)).save(labels / "06.png")
  Image.new("L", (16, 16)).save(labels / "08.png")  # of the same shape: fine
  (folders / "images" / "09.png").write_bytes(b"")
  found = checking.find_unreadable(
    open_pairs(folders), open_partner=SEGMENTATION.open
  )
  told = {bad.name: bad.reason for bad in found}
  assert [name.split("/")[-1] for name in told] == [
    "02.png",
    "04.png",
    "06.png",
    "09.png",
  ]
  assert "class 4, allowed are 0 to 3" in told[str(labels / "02.png")]
  assert "mode is RGB" in told[str(labels / "04.png")]
  assert "16 x 8 pixels have another shape" in told[str(labels / "06.png")]
  assert "empty" in told[str(folders / "images" / "09.png")]


def read(source, task, steps=6, **options):
  settings = {"size": (16, 16), "batch_size": 4, "seed": 3, "task": task}
  stream = pipeline.train_batches(source, **settings | options)
  return [next(stream) for _ in range(steps)]


def columns(batches):
  return {
    name: np.concatenate([batch[name] for batch in batches])
    for name in batches[0]
  }


def test_labels_are_mirrored_with_their_targets(folders):
  seen = columns(read(open_pairs(folders), SEGMENTATION, size=(8, 8)))
  assert seen["source"].shape == (24, 8, 8, 1)
  np.testing.assert_array_equal(COLOURS[seen["source"][..., 0]], seen["image"])


def test_frontalization_mirrors_source_and_target_on_their_own(folders):
  images = sources.FolderSource(folders / "images")
  task = Task("frontalization")
  for source in (images, pairs.pair(images, images)):
    seen = columns(read(source, task, steps=10))
    same = (seen["image"] == seen["source"]).all((1, 2, 3))
    assert 8 < same.sum() < 32
    np.testing.assert_array_equal(
      seen["image"][~same], seen["source"][~same][:, :, ::-1]
    )
    still = columns(read(source, task, flip=False))
    np.testing.assert_array_equal(still["image"], still["source"])


def test_sketches_are_grey(folders):
  seen = columns(read(open_pairs(folders), Task("sketch")))
  assert seen["source"].shape == (24, 16, 16, 1)
  assert seen["source"].dtype == np.uint8


TASKS = [
  Task("super_resolution", factors=(1, 4, 8)),
  Task("inpainting"),
  Task("frontalization"),
  SEGMENTATION,
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_sources_are_functions_of_seed_and_step(folders, task):
  source = open_pairs(folders)
  whole = columns(read(source, task, workers=1))
  threads = columns(read(source, task, workers=4))
  later = columns(read(source, task, steps=2, first_step=4))
  other = columns(read(source, task, seed=4))
  for name, values in whole.items():
    np.testing.assert_array_equal(values, threads[name])
    np.testing.assert_array_equal(values[16:], later[name])
    assert (values != other[name]).any()


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_evaluations_show_the_same_every_time(folders, task):
  one, same = (
    columns(
      list(
        pipeline.all_batches(
          open_pairs(folders), size=(16, 16), batch_size=n, task=task
        )
      )
    )
    for n in (5, 8)
  )
  assert len(one["image"]) == len(one["source"]) == 20
  np.testing.assert_array_equal(one["source"], same["source"])


def test_factors_are_drawn_in_training_and_taken_in_turn_in_evaluations(
  tmp_path,
):
  """A picture of one column of white: its brightness tells the factor."""
  pixels = np.zeros((32, 32, 3), np.uint8)
  pixels[:, 16] = 255
  for i in range(12):
    Image.fromarray(pixels).save(tmp_path / f"{i:02d}.png")
  source = sources.FolderSource(tmp_path)
  task, size = Task("super_resolution", factors=(1, 4, 8)), (32, 32)
  batches = pipeline.all_batches(source, size=size, batch_size=12, task=task)
  levels = next(iter(batches))["source"].max((1, 2, 3)).astype(int)
  np.testing.assert_array_equal(levels, np.tile(levels[:3], 4))
  assert len(set(levels)) == 3
  seen = columns(read(source, task, steps=12, size=size, flip=False))
  drawn = seen["source"].max((1, 2, 3)).astype(int)
  assert set(drawn) == set(levels)
  assert min(np.unique(drawn, return_counts=True)[1]) > 6
  assert (drawn != np.tile(levels[:3], 16)).any()


def test_an_inversion_has_no_source_of_its_own(folders):
  (batch,) = read(sources.FolderSource(folders / "images"), Task(), steps=1)
  assert batch.keys() == {"image"}


def test_a_task_without_its_sources_is_refused(folders):
  source = sources.FolderSource(folders / "images")
  with pytest.raises(ValueError, match="the data have no partners; pair"):
    read(source, SEGMENTATION, steps=1)


def plan(folders, **changes):
  data = Data(
    train=str(folders / "images"),
    source=str(folders / "labels"),
    task="segmentation",
    labels=4,
    size=(64, 64),
    eval_images=2,
  )
  config = Config(data=dataclasses.replace(data, **changes))
  return preparation.prepare(config)


def test_a_plan_holds_out_pairs(folders):
  found = plan(folders)
  assert len(found.train) == 18
  assert len(sources.partners_of(found.evaluation)) == 2


def test_bad_labels_stop_a_run_before_it_begins_or_are_left_out(folders):
  Image.new("L", (8, 8), 253).save(folders / "labels" / "07.png")
  with pytest.raises(sources.DataError) as caught:
    plan(folders)
  text = str(caught.value)
  assert "1 of 20 images cannot be read or used" in text
  assert "07.png: it holds class 253, allowed are 0 to 3" in text
  found = plan(folders, on_unreadable="skip")
  assert len(found.train) + len(found.evaluation) == 19
  left = names(sources.partners_of(found.train))
  assert not any("07.png" in name for name in left)


SMALL = Config(
  data=Data(task="segmentation", labels=4, size=(16, 16)),
  model=Model(generator="file", num_layers=10, channels=(4, 4, 8, 8)),
  loss=Loss(adversarial=0.0, delta=0.0),
  run=Run(batch_size=4),
)


def build():
  generator = Generator(
    16, channel_base=64, channel_max=4, style_dim=8, n_mlp=1, rngs=nnx.Rngs(0)
  )
  return state.build_networks(SMALL, generator)


@pytest.mark.slow
def test_the_encoder_is_shown_labels():
  """Traced only."""

  def whole():
    networks = build()
    batch = {
      "image": jnp.zeros((2, 1, 16, 16, 3), jnp.uint8),
      "source": jnp.zeros((2, 1, 16, 16, 1), jnp.uint8),
    }
    mapped = jax.vmap(
      step.make_train_step(SMALL, networks),
      axis_name=parallel.AXIS,
      in_axes=(None, None, 0),
      out_axes=None,
    )
    frozen = state.create_frozen(networks)
    new, _ = mapped(state.create_state(SMALL, networks), frozen, batch)
    return new.encoder

  trained = jax.eval_shape(whole)
  assert trained["body"]["input_conv"]["kernel"].shape == (3, 3, 4, 4)


def test_the_grid_shows_source_target_and_reconstruction():
  """With the inversion itself left out: it takes long to compile."""
  evaluator = evaluation.Evaluator(SMALL, nnx.eval_shape(build))
  seen = []

  def invert(state, frozen, shown, stage):
    seen.append(shown)
    return jnp.zeros((4, 6, 8)), jnp.zeros((4, 16, 16, 3))

  evaluator._invert = invert
  random = np.random.default_rng(0)
  batch = {
    "image": random.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8),
    "source": random.integers(0, 4, (3, 16, 16, 1), dtype=np.uint8),
  }
  codes = pool.empty(1, 8)
  now = state.TrainState(
    step=jnp.int32(1),
    encoder={},
    statistics={},
    optimizer=None,
    discriminator={},
    discriminator_optimizer=None,
    real_pool=codes,
    fake_pool=codes,
    skipped=jnp.int32(0),
    key=jax.random.key(0),
  )
  frozen = state.Frozen({}, jnp.zeros((6, 8)))
  mean = np.zeros((1, 16, 16, 3), np.float32)
  results, shown = evaluator(now, frozen, [batch], mean)
  assert list(shown.columns) == ["source", "target", "reconstruction"]
  for column in shown.columns.values():
    assert column.shape == (3, 16, 16, 3)
  assert [x.startswith("PSNR ") for x in shown.captions] == [True] * 3
  assert results["images"] == 3 and results["psnr_gain"] == 0
  assert seen[0].shape == (4, 16, 16, 4)
  np.testing.assert_array_equal(seen[0][:3].argmax(-1), batch["source"][..., 0])


def test_faceworld_needs_room_for_its_classes():
  config = Config(data=Data(task="segmentation", labels=10, size=(64, 64)))
  with pytest.raises(ConfigError, match="faceworld draws 11 classes; set it"):
    preparation.prepare(config)


def small(card):
  """A run card of two steps and a narrow encoder."""
  config = card.get_config()
  return dataclasses.replace(
    config,
    data=dataclasses.replace(config.data, eval_images=8, rendered_images=16),
    model=dataclasses.replace(config.model, channels=(4, 4, 8, 8)),
    run=Run(steps=2, batch_size=8, log_every=1),
  )


@pytest.mark.slow
def test_faceworld_draws_what_a_task_needs(tmp_path):
  config = small(toy_segmentation)
  plan = preparation.prepare(config)
  plan = preparation.render_missing(plan, config, tmp_path)
  assert len(plan.training) == 16 and len(plan.evaluation) == 8
  batches = pipeline.train_batches(
    plan.training,
    size=(64, 64),
    batch_size=8,
    seed=0,
    task=task_of(config.data),
  )
  assert next(batches)["source"].shape == (8, 64, 64, 1)
  again = preparation.render_missing(plan, config, tmp_path)
  assert names(again.training) == names(plan.training)


@pytest.mark.slow
@pytest.mark.parametrize(
  "card",
  [toy_inpainting, toy_segmentation, toy_sketch, toy_super_resolution],
  ids=lambda card: card.__name__,
)
def test_every_task_trains(card, tmp_path):
  results = loop.run(small(card), tmp_path)
  assert results["step"] == 2 and np.isfinite(results["psnr"])
  with Image.open(tmp_path / "inversions.png") as grid:
    # source, target, reconstruction, smile + and -, each of 128 pixels
    assert grid.width == 4 + 5 * (128 + 4)
  inverter = weights.load(tmp_path / "inverter.safetensors")
  channels = task_of(small(card).data).channels
  assert inverter.encoder.input_channels == channels
