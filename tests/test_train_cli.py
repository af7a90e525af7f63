"""The command line, as a user types it, in a process of its own."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import conftest
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from encoder4editing_jax import weights, weights_folder
from encoder4editing_jax.cli.train import train_command
from encoder4editing_jax.models.arcface import ArcFace
from encoder4editing_jax.models.stylegan2 import Generator
from encoder4editing_jax.training import loop

ROOT = Path(__file__).parent.parent

TINY = """
from encoder4editing_jax.config import *

def get_config():
  return Config(
    data=Data(train={images!r}, size=(16, 16), eval_images=4),
    model=Model(generator={generator!r}, num_layers=10, channels=(4, 4, 8, 8)),
    discriminator=Discriminator(hidden=8, n_layers=2, pool=4, r1_every=2),
    progressive=Progressive(start=1, every=1),
    run=Run(steps=4, batch_size=8, log_every=1, eval_every=2, save_every=2),
  )
"""


@pytest.fixture(scope="module")
def card(tmp_path_factory):
  """A run card with a tiny generator and a folder of JPEG and PNG files."""
  root = tmp_path_factory.mktemp("tiny")
  random = np.random.default_rng(0)
  for i in range(40):
    path = root / "images" / f"part{i % 2}" / f"{i:02d}.{('jpg', 'png')[i % 2]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = random.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((20, 18)).save(path)
  generator = Generator(
    16, channel_base=64, channel_max=4, style_dim=8, n_mlp=1, rngs=nnx.Rngs(0)
  )
  weights.save(generator, root / "generator.safetensors")
  path = root / "tiny.py"
  images, file = str(root / "images"), str(root / "generator.safetensors")
  path.write_text(TINY.format(images=images, generator=file))
  return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  """What the processes of this file have compiled, one for the other."""
  return tmp_path_factory.mktemp("cache")


def start(*flags, devices=1, cache=None):
  environment = os.environ | {
    "XLA_FLAGS": " ".join(
      (*conftest.QUICK, f"--xla_force_host_platform_device_count={devices}")
    ),
    "JAX_PLATFORMS": "cpu",
  }
  if cache:
    environment |= {
      "JAX_COMPILATION_CACHE_DIR": str(cache),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
  return subprocess.Popen(
    [sys.executable, "train.py", *map(str, flags)],
    cwd=ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def train(*flags, devices=1, cache=None):
  with start(*flags, devices=devices, cache=cache) as process:
    out, err = process.communicate(timeout=3600)
  return subprocess.CompletedProcess(flags, process.returncode, out, err)


def contents(folder):
  """Of its files, but for the lock, which names the last process."""
  files = [p for p in folder.iterdir() if p.is_file() and p.name != ".lock"]
  return {p.name: p.read_bytes() for p in files}


@pytest.mark.slow
def test_a_run_leaves_what_it_promises_and_resumes_to_the_bit(
  card, cache, tmp_path
):
  whole, parts = tmp_path / "whole", tmp_path / "parts"
  done = train("--config", card, "--workdir", whole, cache=cache)
  assert done.returncode == 0, done.stderr
  results = json.loads((whole / "eval.json").read_text())
  assert results["step"] == 4 and results["images"] == 4
  assert f"PSNR {results['psnr']:.2f} dB" in done.stdout
  evaluations = (whole / "metrics.jsonl").read_text().splitlines()
  evaluations = [json.loads(x) for x in evaluations if "test/score" in x]
  scores = {x["step"]: x["test/score"] for x in evaluations}
  assert set(scores) == {2, 4}
  assert results["best_step"] == min(scores, key=scores.get)
  assert results["best_score"] == pytest.approx(min(scores.values()))
  assert results["score"] == pytest.approx(results["l2"])  # its only term
  weights.load(whole / "best.safetensors")
  with Image.open(whole / "inversions.png") as grid:
    assert grid.width > 256
  lines = (whole / "metrics.jsonl").read_text().splitlines()
  losses = [line for line in map(json.loads, lines) if "train/loss" in line]
  assert [line["step"] for line in losses] == [1, 2, 3, 4]
  assert any((whole / "tensorboard").iterdir())
  inverter = weights.load(whole / "inverter.safetensors")
  assert inverter.encode(jnp.zeros((1, 16, 16, 3))).shape == (1, 6, 8)

  flags = ("--config", card, "--workdir", parts)
  first = train(*flags, "--run.steps", 2, cache=cache)
  assert first.returncode == 0, first.stderr
  second = train(*flags, "--run.steps", 4, cache=cache)
  assert second.returncode == 0, second.stderr
  assert "from step 2 to 4" in second.stdout
  assert "continuing from the checkpoint of step 2" in second.stdout
  before = contents(parts)
  third = train(*flags, "--run.steps", 4, "--optim.lr", 1e-3, cache=cache)
  assert third.returncode == 0, third.stderr
  assert "has ended at step 4, and stays as it is" in third.stdout
  assert contents(parts) == before
  name = "inverter.safetensors"
  assert (parts / name).read_bytes() == (whole / name).read_bytes()
  resumed = (parts / "metrics.jsonl").read_text().splitlines()
  resumed = [line for line in map(json.loads, resumed) if "train/loss" in line]
  for a, b in zip(losses, resumed, strict=True):
    a.pop("train/images_per_second"), b.pop("train/images_per_second")
    assert a == b


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_devices(card, cache, tmp_path):
  """The same data and random numbers; sums in another order."""
  found = {}
  for name, counts in (("same", (1, 1)), ("fewer", (4, 2))):
    for steps, devices in zip((2, 4), counts, strict=True):
      flags = ("--config", card, "--workdir", tmp_path / name)
      flags += ("--run.steps", steps)
      done = train(*flags, devices=devices, cache=cache)
      assert done.returncode == 0, done.stderr
    told = f"{devices} CPU device{'s' * (devices != 1)}, from step 2 to 4"
    assert told in done.stdout
    found[name] = losses_of(tmp_path / name)
  assert [step for step, *_ in found["fewer"]] == [1, 2, 3, 4]
  np.testing.assert_allclose(found["fewer"], found["same"], rtol=1e-3)


@pytest.mark.slow
def test_a_run_looks_through_networks_and_trains_the_generator(
  card, cache, tmp_path
):
  """Resumed in between."""
  nets, workdir = tmp_path / "nets", tmp_path / "run"
  nets.mkdir()
  arcface = ArcFace(
    10,
    input_size=32,
    embedding_dim=8,
    channels=(4, 4, 8, 8),
    rngs=nnx.Rngs(0),
  )
  weights.save(arcface, weights_folder.path_of(nets, "arcface_ir_se50"))
  flags = ["--config", card, "--workdir", workdir, "--weights.dir", nets]
  flags += ["--loss.identity", 0.5, "--model.train_decoder", True]
  for steps in (1, 2):
    done = train(*flags, "--run.steps", steps, cache=cache)
    assert done.returncode == 0, done.stderr
  assert "from step 1 to 2" in done.stdout
  line = (workdir / "metrics.jsonl").read_text().splitlines()[-2:]
  assert "train/loss_id" in "".join(line)
  ours = weights.load(workdir / "inverter.safetensors").generator
  theirs = weights.load(card.parent / "generator.safetensors")
  same = jax.tree.map(
    lambda a, b: np.array_equal(a, b), nnx.state(ours), nnx.state(theirs)
  )
  assert all(jax.tree.leaves(same["mapping"]))
  assert not all(jax.tree.leaves(same["synthesis"]))


ENDLESS = ("--run.eval_every", 10**6, "--run.save_every", 10**6)


def wait_for(process, text):
  """Reads what a process says until a line has a text in it."""
  return any(text in line for line in process.stdout)


def test_sigterm_saves_and_the_same_command_goes_on(card, cache, tmp_path):
  flags = ("--config", card, "--workdir", tmp_path / "run", *ENDLESS)
  flags += ("--run.steps", 100_000)
  with start(*flags, cache=cache) as first:
    assert wait_for(first, "step 3/")
    first.send_signal(signal.SIGTERM)
    said = first.communicate(timeout=300)[1]
  assert first.returncode == 143, said
  step = int(re.search(r"by SIGTERM after step (\d+), which is saved", said)[1])
  assert [p.name for p in (tmp_path / "run/checkpoints").iterdir()] == [
    str(step)
  ]
  with start(*flags, cache=cache) as second:
    assert wait_for(second, f"continuing from the checkpoint of step {step}")
    assert wait_for(second, f"step {step + 1}/")
    second.send_signal(signal.SIGINT)
    said = second.communicate(timeout=300)[1]
  assert second.returncode == 130, said
  assert "the same command goes on from step" in said


INTERRUPTED = """
import sys
import time

import jax

from encoder4editing_jax.cli.train import train_command
from encoder4editing_jax.training import loop

def interrupted(*_):
  raise KeyboardInterrupt

jax.stages.Lowered.compile = lambda self: time.sleep(3600)
loop.render_missing = interrupted
sys.exit(train_command(["--config", "toy", "--workdir", sys.argv[1]]))
"""


def test_an_end_while_faces_are_drawn_does_not_wait_for_the_compiler(tmp_path):
  done = subprocess.run(
    [sys.executable, "-c", INTERRUPTED, tmp_path / "run"],
    cwd=ROOT,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert done.returncode == 130, done.stderr
  assert done.stderr.strip() == "interrupted; no file is half written"


@pytest.mark.slow
def test_a_second_signal_ends_at_once(card, tmp_path):
  """Though XLA compiles: there is no step to finish for a long time."""
  with start("--config", card, "--workdir", tmp_path / "run") as process:
    assert wait_for(process, "from step 0 to")
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    assert "finishing the step" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert process.wait(60) == 143
    assert time.monotonic() - began < 2


@pytest.mark.slow
def test_kills_and_signals_leave_no_seam(card, cache, tmp_path):
  """20 kills and 5 signals at random moments of one run."""
  flags = ("--config", card, "--run.steps", 600, "--run.save_every", 7)
  flags += ("--run.eval_every", 50)
  whole, parts = tmp_path / "whole", tmp_path / "parts"
  done = train(*flags, "--workdir", whole, cache=cache)
  assert done.returncode == 0, done.stderr
  random = np.random.default_rng(0)
  kinds = [signal.SIGKILL] * 20 + [signal.SIGTERM] * 5
  for kind in random.permutation(kinds):
    with start(*flags, "--workdir", parts, cache=cache) as process:
      assert wait_for(process, "from step ")
      time.sleep(random.uniform(0, 8))
      process.send_signal(kind)
      process.communicate(timeout=300)
    assert process.returncode in (-signal.SIGKILL, 143, -signal.SIGTERM, 0)
  done = train(*flags, "--workdir", parts, cache=cache)
  assert done.returncode == 0, done.stderr
  for name in ("inverter.safetensors", "best.safetensors"):
    assert (parts / name).read_bytes() == (whole / name).read_bytes()
  assert losses_of(parts) == losses_of(whole)


def losses_of(workdir):
  lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  return [
    (x["step"], x["train/loss"], x["train/gradient_norm"])
    for x in lines
    if "train/loss" in x
  ]


@pytest.mark.parametrize(
  ("flags", "words"),
  [
    (["--optim.lrr", "3"], "did you mean --optim.lr?"),
    (["--optim.lr", "fast"], "--optim.lr"),
    (["--optim.name", "adm"], "'adam'"),
    (["--run.batch_size", "0"], "run.batch_size is 0; set it to"),
    (["--data.train", "nowhere"], "nowhere does not exist; check"),
    (
      ["--model.generator", "no.safetensors"],
      "no.safetensors is not there; name",
    ),
    (["--model.n_styles", "18"], "takes 6; set it to 6"),
    (["--data.size", "32", "32"], "set data.size to 16 16"),
    (
      ["--loss.identity", "0.1", "--weights.dir", "nets"],
      "nets/arcface_ir_se50.safetensors is not there (ArcFace",
    ),
    (
      ["--loss.moco", "0.5"],
      "`e4e weights FILE... --dir weights` makes it. Without it, set loss.moco",
    ),
    (["--progressive.start", "None", "--progressive.steps", "0", "9"], "has 2"),
  ],
)
def test_mistakes_end_at_once_with_one_line(
  card, tmp_path, capsys, flags, words
):
  workdir = tmp_path / "run"
  status = train_command(
    ["--config", str(card), "--workdir", str(workdir), *flags]
  )
  said = capsys.readouterr().err
  assert status == 2
  assert said.startswith("error: ") and said.count("\n") == 1, said
  assert words in said
  assert not workdir.exists()


def test_batches_must_divide_among_devices(card, tmp_path):
  workdir = tmp_path / "run"
  done = train("--config", card, "--workdir", workdir, devices=3)
  assert done.returncode == 2
  assert "8, which is not divisible by 3 devices" in done.stderr
  assert not workdir.exists()


def test_empty_folders_and_unreadable_files_stop_the_run(
  card, tmp_path, capsys
):
  images, workdir = tmp_path / "images", tmp_path / "run"
  images.mkdir()
  flags = ["--config", card, "--workdir", workdir, "--data.train", images]
  flags = list(map(str, flags))
  assert train_command(flags) == 2
  assert "holds no images; put" in capsys.readouterr().err
  Image.new("RGB", (8, 8)).save(images / "good.png")
  (images / "bad.png").write_bytes(b"\x89PNG nothing")
  assert train_command(flags) == 2
  said = capsys.readouterr().err
  assert "1 of 2 images cannot be read" in said
  assert "bad.png" in said and "skip" in said
  assert not workdir.exists()


def test_a_disk_that_takes_no_more_is_one_line(
  card, tmp_path, capsys, monkeypatch
):
  def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device", "x.safetensors")

  monkeypatch.setattr(loop, "run", full)
  flags = ["--config", str(card), "--workdir", str(tmp_path / "run")]
  assert train_command(flags) == 1
  said = capsys.readouterr().err
  assert said.count("\n") == 1 and "x.safetensors" in said
  assert "the same command" in said


def test_unknown_fields_in_a_config_file_are_named(tmp_path):
  path = tmp_path / "wrong.py"
  path.write_text(
    "from encoder4editing_jax.config import *\n"
    "def get_config():\n  return Config(optim=Optim(learning=1))\n"
  )
  # In a process without the type checks, which say it in other words.
  done = train("--config", path, "--workdir", tmp_path / "run")
  assert done.returncode == 2
  assert "unknown config field optim.learning" in done.stderr
  assert "Traceback" not in done.stderr


def test_help_names_every_field():
  done = train("--config", "toy", "--help")
  assert done.returncode == 0
  for flag in ("--optim.lr", "--data.train", "--workdir", "--run.batch_size"):
    assert flag in done.stdout


def test_run_cards_are_listed_with_a_line_each(capsys):
  assert train_command(["--list"]) == 0
  lines = capsys.readouterr().out.splitlines()
  names = [line.split()[0] for line in lines]
  cards = sorted(p.stem for p in (ROOT / "configs").glob("[a-z]*.py"))
  assert names == cards
  assert "arXiv 2102.02766" in lines[names.index("ffhq")]
  assert max(map(len, lines)) < 110
