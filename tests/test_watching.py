"""One small run, watched: boards, pictures, profile, and `e4e runs`."""

import fcntl
import io
import json
import shutil
import struct
import sys
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from changing import change
from compilations import compilations
from flax import nnx
from PIL import Image
from tensorboardX.proto import event_pb2
from test_full_disk import full_disk

from encoder4editing_jax import cli, converters, weights
from encoder4editing_jax.config import (
  Config,
  ConfigError,
  Data,
  Discriminator,
  Model,
  Progressive,
  Run,
)
from encoder4editing_jax.models.stylegan2 import Generator
from encoder4editing_jax.training import boards, checkpoint, loop
from encoder4editing_jax.training.logging import Logger
from encoder4editing_jax.training.profiling import Profile


class Wandb(types.ModuleType):
  """A stand-in that keeps what it is given."""

  class Error(Exception):
    """What wandb raises."""

  def __init__(self, complaint=""):
    super().__init__("wandb")
    self.started, self.logged, self.finished = [], [], 0
    self.complaint = complaint

  def init(self, **options):
    if self.complaint:
      raise self.Error(self.complaint)
    self.started.append(options)
    return self

  def define_metric(self, name, step_metric):
    assert (name, step_metric) == ("*", "step")

  def log(self, values):
    self.logged.append(values)

  def finish(self):
    self.finished += 1

  def Image(self, pixels):
    assert pixels.dtype == np.uint8 and pixels.ndim == 3
    return "picture"


class Late:
  """A metric that notes when the host reads it."""

  def __init__(self, value, events, step):
    self.value, self.events, self.step = value, events, step

  def _read(self):
    self.events.append(("read", self.step))
    return self.value

  def __float__(self):
    return float(self._read())

  def __int__(self):
    return int(self._read())


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
  """Folder, stand-in and order of events of a run of six steps."""
  root = tmp_path_factory.mktemp("watched")
  random = np.random.default_rng(0)
  (root / "images").mkdir()
  for i in range(12):
    noise = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "images" / f"{i}.png")
  generator = Generator(
    16, channel_base=64, channel_max=4, style_dim=8, n_mlp=1, rngs=nnx.Rngs(0)
  )
  weights.save(generator, root / "generator.safetensors")
  config = Config(
    data=Data(train=str(root / "images"), size=(16, 16), eval_images=3),
    model=Model(
      generator=str(root / "generator.safetensors"),
      num_layers=10,
      channels=(4, 4, 8, 8),
    ),
    discriminator=Discriminator(hidden=8, n_layers=2, pool=4, r1_every=2),
    progressive=Progressive(start=1, every=1),
    run=Run(
      steps=6,
      batch_size=8,
      log_every=1,
      eval_every=4,
      save_every=3,
      wandb="faces",
      profile_after=1,
      profile_steps=2,
    ),
  )
  stand_in, events = Wandb(), []
  made = loop.pmap_step

  class Noted(loop.PmapStep):
    """A step that tells what its calls compile, and when they are."""

    def __init__(self, step):
      self.step = made(step)

    def compile(self, *arguments):
      self.step.compile(*arguments)
      self.step._compiling.result()  # not counted at the first call
      events.append(("compiled", True))

    def __call__(self, *arguments):
      with compilations() as found:
        state, metrics = self.step(*arguments)
      number = 1 + len([e for e in events if e[0] == "step"])
      events.append(("step", number))
      events.append(("compiled at step", len(found)))
      late = {k: Late(v, events, number) for k, v in metrics.items()}
      return state, late

  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(sys.modules, "wandb", stand_in)
    patch.setattr(loop, "pmap_step", Noted)
    loop.run(config, root / "run")
  return root / "run", stand_in, events, config


def test_the_step_is_compiled_before_its_first_batch(watched):
  """And never again, though its arguments are others."""
  events = watched[2]
  assert events[0] == ("compiled", True)
  at_steps = [n for kind, n in events if kind == "compiled at step"]
  assert at_steps == [0] * 6


def test_numbers_are_read_one_step_late(watched):
  """But before an evaluation, and after the last step."""
  events = watched[2]
  first = {}
  for place, (kind, step) in enumerate(events):
    if kind == "read":
      first.setdefault(step, place)
  for step in (1, 2, 3, 5):
    assert events.index(("step", step + 1)) < first[step], step


def test_names_are_the_originals(watched):
  lines = (watched[0] / "metrics.jsonl").read_text().splitlines()
  train, test = {}, {}
  for line in map(json.loads, lines):
    (test if "test/psnr" in line else train)[line["step"]] = line
  assert list(train) == [1, 2, 3, 4, 5, 6] and list(test) == [4, 6]
  wanted = {"loss", "loss_l2", "total_delta_loss", "d_real_loss"}
  wanted |= {"d_fake_loss", "discriminator_loss", "discriminator_r1_loss"}
  wanted |= {"encoder_discriminator_loss"}
  assert {f"train/{name}" for name in wanted} <= set(train[6])
  assert "test/loss_l2" in test[6]
  both = train[6]["train/d_real_loss"] + train[6]["train/d_fake_loss"]
  assert train[6]["train/discriminator_loss"] == pytest.approx(both)


def test_weights_and_biases_gets_the_same(watched):
  workdir, wandb, _, config = watched
  (started,) = wandb.started
  assert started["project"] == "faces" and started["name"] == "run"
  assert started["config"] == config.to_dict()
  assert started["id"] == (workdir / "wandb_id.txt").read_text().strip()
  shown = [x["step"] for x in wandb.logged if "test/inversions" in x]
  assert shown == [4, 6]
  assert [x["step"] for x in wandb.logged if "train/loss" in x] == [
    *range(1, 7)
  ]
  assert wandb.finished == 1


def test_a_run_that_goes_on_is_the_same_there(watched, monkeypatch):
  workdir, _, _, config = watched
  again = Wandb()
  monkeypatch.setitem(sys.modules, "wandb", again)
  boards.open_boards(config, workdir, 6)
  assert (
    again.started[0]["id"] == (workdir / "wandb_id.txt").read_text().strip()
  )


# None: not installed; a module of nothing: a folder wandb/ where one works.
@pytest.mark.parametrize("module", [None, types.ModuleType("wandb")])
def test_without_wandb_one_line_says_so(watched, monkeypatch, tmp_path, module):
  monkeypatch.setitem(sys.modules, "wandb", module)
  with pytest.raises(
    ConfigError, match=r"encoder4editing_jax\[wandb\]"
  ) as said:
    loop.run(watched[3], tmp_path / "none")
  assert "\n" not in str(said.value)
  assert not (tmp_path / "none").exists()


def test_what_wandb_complains_of_is_one_line(monkeypatch, tmp_path):
  wandb = Wandb("No API key configured.\nSee the docs.")
  monkeypatch.setitem(sys.modules, "wandb", wandb)
  with pytest.raises(
    ConfigError, match="No API key configured; log in"
  ) as said:
    boards.WeightsAndBiases(tmp_path, "faces", {})
  assert "\n" not in str(said.value) and "WANDB_MODE" in str(said.value)


def test_what_wandb_does_not_take_is_a_warning(monkeypatch, tmp_path, capsys):
  wandb = Wandb()
  monkeypatch.setitem(sys.modules, "wandb", wandb)
  board = boards.WeightsAndBiases(tmp_path, "faces", {})

  def lost(values):
    raise wandb.Error("connection lost")

  monkeypatch.setattr(wandb, "log", lost)
  log = Logger(
    tmp_path, first_step=0, steps=9, batch_size=1, log_every=1, boards=[board]
  )
  for step in (1, 2):
    log.write(step, {"loss": 1.0}, "train")
  log.close()
  assert capsys.readouterr().out.count("connection lost") == 1
  assert wandb.finished == 1
  assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def events(folder):
  """The entries of the event files in a folder."""
  for path in sorted(folder.iterdir()):
    content = path.read_bytes()
    while content:
      n = struct.unpack("Q", content[:8])[0]
      yield event_pb2.Event.FromString(content[12 : 12 + n])
      content = content[16 + n :]


def test_tensorboard_has_numbers_and_pictures(watched):
  found = list(events(watched[0] / "tensorboard"))
  assert found[0].file_version == "brain.Event:2"
  assert found[1].step == 1 and found[1].session_log.status == 1  # START
  shown = [(e.step, v) for e in found for v in e.summary.value]
  losses = [step for step, v in shown if v.tag == "train/loss_l2"]
  assert losses == [1, 2, 3, 4, 5, 6]
  pictures = {s: v.image for s, v in shown if v.tag == "test/inversions"}
  assert list(pictures) == [4, 6]
  with Image.open(io.BytesIO(pictures[6].encoded_image_string)) as sheet:
    assert sheet.size == (pictures[6].width, pictures[6].height)


def test_a_picture_of_each_evaluation_is_a_file(watched):
  names = sorted(p.name for p in (watched[0] / "pictures").iterdir())
  assert names == ["4.jpg", "6.jpg"]
  with (
    Image.open(watched[0] / "pictures" / "6.jpg") as sheet,
    Image.open(watched[0] / "inversions.png") as last,
  ):
    assert sheet.size == last.size


def test_a_run_that_has_ended_shows_nothing_twice(watched, monkeypatch):
  workdir, _, _, config = watched
  before = {p.name: p.stat().st_mtime_ns for p in workdir.glob("pictures/*")}
  again = Wandb()
  monkeypatch.setitem(sys.modules, "wandb", again)
  loop.run(config, workdir)
  after = {p.name: p.stat().st_mtime_ns for p in workdir.glob("pictures/*")}
  assert after == before and not again.logged
  found = events(workdir / "tensorboard")
  pictures = [e.step for e in found for v in e.summary.value if v.image.width]
  assert pictures == [4, 6]


def test_the_profile_is_of_the_window(watched):
  assert list((watched[0] / "profile").rglob("*.xplane.pb"))


def test_a_profile_that_cannot_be_written_is_told(watched, tmp_path, capsys):
  profile = Profile(watched[3], tmp_path, 0)
  value = jax.jit(lambda x: x + 1)(jnp.zeros(2))
  with full_disk():
    for step in range(1, 5):
      profile.after(step, value)
    profile.close()
  said = capsys.readouterr().out
  assert said.startswith("warning: no profile (") and said.count("\n") == 1
  again = Profile(watched[3], tmp_path, 1)  # the window has begun before
  for step in (2, 3, 4):
    again.after(step, value)
  again.close()
  assert capsys.readouterr().out == ""


# ------------------------------------------------------------- e4e runs


def test_list_tells_where_runs_stand(watched, capsys):
  workdir = watched[0]
  assert cli.main(["runs", "list", str(workdir.parent)]) == 0
  line = capsys.readouterr().out.splitlines()[1]
  assert str(workdir) in line and "ended" in line and "6/6" in line
  assert "Encoder4Editing 16x16" in line
  changed = (workdir / "metrics.jsonl").stat().st_mtime
  assert time.strftime("%Y-%m-%d %H:%M", time.localtime(changed)) in line
  with (workdir / ".lock").open("a") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert cli.main(["runs", "list", str(workdir), "--json"]) == 0
  (told,) = json.loads(capsys.readouterr().out).values()
  assert told["state"] == "running" and told["best"]["step"] in (4, 6)


def test_plots_draw_what_is_asked_for(watched, tmp_path, capsys):
  out = tmp_path / "curves.png"
  words = ["runs", "plot", str(watched[0]), "--out", str(out)]
  assert cli.main([*words, "--metrics", "loss", "test/psnr"]) == 0
  assert "train/loss, test/psnr of 1 run" in capsys.readouterr().out
  with Image.open(out) as picture:
    assert picture.width > picture.height > 100
    assert len(np.unique(np.asarray(picture.convert("L")))) > 20
  assert cli.main(words) == 2 and "--overwrite" in capsys.readouterr().err
  again = [*words, "--overwrite", "--metrics", "l2,test/l2", "psnr"]
  assert cli.main(again) == 0
  assert (
    "train/loss_l2, test/loss_l2, test/psnr of 1 run" in capsys.readouterr().out
  )
  assert cli.main([*words, "--overwrite", "--log"]) == 0
  assert "train/gradient_norm" in capsys.readouterr().out
  for bad, told in (
    (["--overwrite", "--metrics", "lose"], "no run has a metric lose"),
    (["--overwrite", "--log", "--out", str(tmp_path / "x.doc")], ".svg"),
  ):
    assert cli.main([*words, *bad]) == 2
    assert told in capsys.readouterr().err


def test_without_matplotlib_the_extra_is_named(
  watched, tmp_path, capsys, monkeypatch
):
  monkeypatch.setitem(sys.modules, "matplotlib", None)
  monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
  out = tmp_path / "curves.png"
  assert cli.main(["runs", "plot", str(watched[0]), "--out", str(out)]) == 2
  said = capsys.readouterr().err
  assert "encoder4editing_jax[plot]" in said and said.count("\n") == 1
  assert not out.exists()


def leaves(path):
  net = weights.load(path)
  return {k: np.asarray(v[...]) for k, v in weights.leaves(net).items()}


def test_the_newest_checkpoint_is_exported_as_the_run_itself_did(
  watched, tmp_path
):
  out = tmp_path / "x.safetensors"
  assert cli.main(["runs", "export", str(watched[0]), "--out", str(out)]) == 0
  assert out.read_bytes() == (watched[0] / "inverter.safetensors").read_bytes()


def test_official_files_hold_the_same_arrays(watched, tmp_path):
  out = tmp_path / "x.pt"
  words = ["runs", "export", str(watched[0]), "--best", "--to", "torch"]
  assert cli.main([*words, "--out", str(out)]) == 0
  back = converters.to_inverter(converters.read(out))
  best = leaves(watched[0] / "best.safetensors")
  found = {k: np.asarray(v[...]) for k, v in weights.leaves(back).items()}
  assert set(found) == set(best)
  for name, value in best.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)


def test_steps_are_chosen_and_damage_is_named(watched, tmp_path, capsys):
  words = ["runs", "export", str(watched[0]), "--out"]
  for place, told in ((tmp_path, "is a folder"), ("no/x", "no folder no;")):
    assert cli.main([*words, str(place)]) == 2
    assert told in capsys.readouterr().err
  words.append(str(tmp_path / "x"))
  assert cli.main([*words, "--step", "5"]) == 2
  assert "no checkpoint of step 5; there are: 6, 3." in capsys.readouterr().err
  newest = watched[0] / "checkpoints" / "6" / "encoder"
  kept = {p: p.read_bytes() for p in newest.rglob("*") if p.is_file()}
  before = sorted((watched[0] / "checkpoints").iterdir())
  try:
    for path in kept:
      path.write_bytes(b"")
    assert cli.main([*words, "--step", "6"]) == 2
    assert "checkpoints/6" in capsys.readouterr().err
    assert cli.main(words) == 0
    told = capsys.readouterr()
    assert "warning" in told.err and "step 3" in told.out
  finally:
    for path, content in kept.items():
      path.write_bytes(content)
  assert sorted((watched[0] / "checkpoints").iterdir()) == before


def test_what_a_run_removes_meanwhile_is_passed_over(
  watched, tmp_path, monkeypatch
):
  """A run at work saves a newer one as its last is being read."""
  run = tmp_path / "run"
  shutil.copytree(watched[0], run)
  (run / "checkpoints" / "6").rename(tmp_path / "newer")
  restore = checkpoint.Checkpoints.restore

  def late(self, step, template):
    if step == 3:
      shutil.rmtree(run / "checkpoints" / "3")
      (tmp_path / "newer").rename(run / "checkpoints" / "6")
    return restore(self, step, template)

  monkeypatch.setattr(checkpoint.Checkpoints, "restore", late)
  out = tmp_path / "x.safetensors"
  assert cli.main(["runs", "export", str(run), "--out", str(out)]) == 0
  assert out.read_bytes() == (watched[0] / "inverter.safetensors").read_bytes()


def test_profiles_that_end_before_they_began_are_refused(watched):
  bad = change(watched[3], run={"profile_steps": -1})
  with pytest.raises(ConfigError, match="profile_steps"):
    bad.validate()
  late = change(watched[3], run={"profile_after": 6})
  with pytest.raises(ConfigError, match="ends at step 6"):
    late.validate()


@pytest.mark.slow
def test_a_run_that_is_watched_has_the_same_numbers(watched, tmp_path):
  off = {"wandb": "", "profile_steps": 0, "keep_pictures": 0}
  loop.run(change(watched[3], run=off), tmp_path / "run")
  for name in ("inverter.safetensors", "best.safetensors"):
    same = (watched[0] / name).read_bytes()
    assert (tmp_path / "run" / name).read_bytes() == same
  assert not (tmp_path / "run" / "pictures").exists()
