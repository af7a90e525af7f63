"""Several processes train as one: real ones, on fake devices of a CPU."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import conftest
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from test_train_cli import ROOT

from encoder4editing_jax import weights
from encoder4editing_jax.cli.train import train_command
from encoder4editing_jax.config import ConfigError
from encoder4editing_jax.models.stylegan2 import Generator
from encoder4editing_jax.training import hosts

# Two batches of held-out images, the last of them not full.
CARD = """
from encoder4editing_jax.config import *

def get_config():
  return Config(
    data=Data(
      train={images!r}, eval={images!r}, size=(16, 16), eval_images=9
    ),
    model=Model(
      generator={generator!r}, encoder="SingleStyleEncoder", num_layers=10,
      channels=(4, 4, 8, 8),
    ),
    discriminator=Discriminator(hidden=8, n_layers=1, pool=4, r1=0.0),
    run=Run(steps=2, batch_size=8, log_every=1, eval_every=2, save_every=2),
  )
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def card(root):
  random = np.random.default_rng(0)
  (root / "images").mkdir()
  for i in range(33):
    noise = random.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((20, 18)).save(root / f"images/{i:02d}.png")
  generator = Generator(
    16, channel_base=64, channel_max=4, style_dim=8, n_mlp=1, rngs=nnx.Rngs(0)
  )
  weights.save(generator, root / "generator.safetensors")
  files = {k: str(root / v) for k, v in FILES.items()}
  (root / "card.py").write_text(CARD.format(**files))
  return root / "card.py"


FILES = {"images": "images", "generator": "generator.safetensors"}


@contextlib.contextmanager
def started(card, workdir, *flags, processes):
  """The processes of a run on four devices in all."""
  devices = 4 // processes
  environment = os.environ | {
    "XLA_FLAGS": " ".join(
      (*conftest.QUICK, f"--xla_force_host_platform_device_count={devices}")
    ),
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(card.parent / "cache"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }
  command = [sys.executable, "train.py", "--config", card, "--workdir", workdir]
  address = f"localhost:{free_port()}"
  running = []
  for i in range(processes):
    more = ("--coordinator", address, "--processes", processes, "--process", i)
    running.append(
      subprocess.Popen(
        list(map(str, (*command, *flags, *(more if processes > 1 else ())))),
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
      )
    )
  try:
    yield running
  finally:
    for process in running:
      process.kill()
      process.communicate()


def free_port():
  with socket.socket() as found:
    found.bind(("localhost", 0))
    return found.getsockname()[1]


def train(card, workdir, *flags, processes):
  """What each process said, once all have ended well."""
  with started(card, workdir, *flags, processes=processes) as running:
    said = [process.communicate(timeout=300)[0] for process in running]
    assert [p.returncode for p in running] == [0] * processes, "\n".join(said)
  return said


def results(workdir):
  found = json.loads((workdir / "eval.json").read_text())
  del found["seconds"]
  return found


def numbers(workdir):
  """What metrics.jsonl holds of steps, but for their speed."""
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [
    {k: v for k, v in line.items() if "per_second" not in k}
    for line in map(json.loads, lines)
    if "train/loss" in line
  ]


def assert_same(one, other):
  """The same weights and numbers, to rounding."""
  pair = [weights.load(w / "inverter.safetensors") for w in (one, other)]
  leaves = [weights.leaves(inverter) for inverter in pair]
  assert leaves[0].keys() == leaves[1].keys()
  for name, leaf in leaves[0].items():
    np.testing.assert_allclose(
      leaf[...], leaves[1][name][...], rtol=1e-4, atol=1e-5, err_msg=name
    )
  assert results(one) == pytest.approx(results(other), rel=1e-4)
  for line, same in zip(numbers(one), numbers(other), strict=True):
    assert line == pytest.approx(same, rel=1e-3)


@pytest.fixture(scope="module")
def alone(root, card):
  """Four steps of one process."""
  train(card, root / "alone", "--run.steps", 4, processes=1)
  return root / "alone"


def test_two_processes_do_what_one_does_and_one_goes_on(root, card, alone):
  together = root / "together"
  said = train(card, together, processes=2)
  assert "step 2/2" in said[0]
  quiet = [x for x in said[1].splitlines() if not x.startswith("[Gloo]")]
  assert quiet == []
  assert results(together)["images"] == 9

  said = train(card, together, "--run.steps", 4, processes=1)
  assert "continuing from the checkpoint of step 2" in said[0]
  assert_same(alone, together)
  names = [{x.name for x in workdir.iterdir()} for workdir in (alone, together)]
  assert names[0] == names[1]


@pytest.mark.slow
def test_two_processes_go_on_where_one_stood(root, card, alone):
  cut = root / "cut"
  shutil.copytree(alone, cut)
  shutil.rmtree(cut / "checkpoints" / "4")
  said = train(card, cut, "--run.steps", 4, processes=2)
  assert "continuing from the checkpoint of step 2" in said[0]
  assert_same(alone, cut)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_the_others_end_when_one_dies(root, card, lost):
  workdir, flags = root / f"lost-{lost}", ("--run.steps", 10**6)
  with started(card, workdir, *flags, processes=2) as running:
    until_saved(workdir, running)
    running[lost].kill()
    said, _ = running[1 - lost].communicate(timeout=60)
  assert running[1 - lost].returncode not in (0, None)
  # The first is ours; the second JAX's, where its own thread is faster.
  complaints = ("error: process", "Terminating process because")
  assert any(text in said for text in complaints), said[-2000:]
  assert "Traceback" not in said


def until_saved(workdir, running, step="4"):
  """Returns once a checkpoint is there and all processes are at work."""
  deadline = time.monotonic() + 300
  while not (workdir / "checkpoints" / step).exists():
    assert time.monotonic() < deadline
    assert [p.poll() for p in running] == [None] * len(running)
    time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("told", [0, 1])
def test_a_signal_to_one_is_heard_by_all(root, card, told):
  workdir, flags = root / f"signal-{told}", ("--run.steps", 10**6)
  with started(card, workdir, *flags, processes=2) as running:
    until_saved(workdir, running)
    running[told].send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=60)[0] for process in running]
  assert [p.returncode for p in running] == [143, 143], said
  step = int(re.search(r"SIGTERM after step (\d+), which is saved", said[0])[1])
  assert (workdir / "checkpoints" / str(step)).is_dir()


@pytest.mark.slow
def test_a_folder_in_use_is_refused_by_all(root, card):
  workdir, flags = root / "used", ("--run.steps", 10**6)
  with started(card, workdir, *flags, processes=2) as running:
    until_saved(workdir, running)
    with started(card, workdir, *flags, processes=2) as others:
      said = [process.communicate(timeout=120)[0] for process in others]
      status = [p.returncode for p in others]
    assert [p.poll() for p in running] == [None, None]
  assert status[0] == 2 and "another run is at work there" in said[0]
  assert status[1] not in (0, None) and "Traceback" not in said[1], said[1]


@pytest.mark.slow
def test_a_damaged_checkpoint_is_set_aside_by_all(root, card, alone):
  workdir = root / "damaged"
  shutil.copytree(alone, workdir)
  shutil.rmtree(workdir / "checkpoints" / "4" / "encoder")
  said = train(card, workdir, "--run.steps", 4, processes=2)
  assert "damaged-4" in said[0] and "checkpoint of step 2" in said[0]
  assert_same(alone, workdir)


@pytest.mark.slow
@pytest.mark.parametrize("silent", [0, 1])
def test_silence_ends_the_others_within_a_minute(root, card, silent):
  workdir, flags = root / f"silent-{silent}", ("--run.steps", 10**6)
  with started(card, workdir, *flags, processes=2) as running:
    until_saved(workdir, running)
    running[silent].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    said, _ = running[1 - silent].communicate(timeout=90)
    assert time.monotonic() - began < 60
  assert running[1 - silent].returncode not in (0, None)
  complaints = ("error: process", "Terminating process because")
  assert any(text in said for text in complaints), said[-2000:]


@pytest.mark.parametrize(
  ("given", "complaint"),
  [
    ({"process": 1}, "need --coordinator HOST:PORT"),
    ({"coordinator": "auto", "processes": 2}, "need --coordinator HOST:PORT"),
    ({"coordinator": "somewhere"}, "give HOST:PORT"),
    ({"coordinator": "somewhere:0"}, "give HOST:PORT"),
    ({"coordinator": "a:1", "processes": 2}, "needs --processes and --process"),
    ({"coordinator": "a:1", "processes": 2, "process": 2}, "2 of 2"),
  ],
)
def test_flags_that_do_not_fit_together(given, complaint):
  with pytest.raises(ConfigError, match=complaint) as caught:
    hosts.Hosts(**given).validate()
  assert "\n" not in str(caught.value)


def test_wrong_flags_end_before_anything_is_made(tmp_path, capsys):
  flags = ("--config", "toy", "--workdir", str(tmp_path / "run"))
  assert train_command([*flags, "--process", "1"]) == 2
  assert capsys.readouterr().err.count("\n") == 1
  assert not (tmp_path / "run").exists()


def test_one_process_has_nothing_to_ask():
  assert hosts.gather({"a": 1}) == [{"a": 1}]
  assert hosts.in_turn([1, 2, 3]) == [1, 2, 3]
  hosts.agree({"anything": 1})
  hosts.wait("for nobody")


def test_parts_of_several_come_in_turn(monkeypatch):
  monkeypatch.setattr(hosts, "gather", lambda mine: [mine, ["b", "d"], []])
  assert hosts.in_turn(["a", "c", "e"]) == ["a", "b", "c", "d", "e"]


def test_processes_that_differ_are_named(monkeypatch):
  monkeypatch.setattr(hosts.jax, "process_count", lambda: 3)

  def gather(mine):
    return [mine, mine, mine | {"images": "other"}]

  monkeypatch.setattr(hosts, "gather", gather)
  with pytest.raises(ConfigError, match="process 2 has other images"):
    hosts.agree({"settings": {"a": 1}, "images": ["x"]})


def test_a_digest_sees_every_bit():
  one = {"x": np.float32([0.0, 1.0])}
  digest = hosts._digest
  assert digest(one) == digest({"x": np.float32([0.0, 1.0])})
  assert digest(one) != digest({"x": np.float32([-0.0, 1.0])})
  assert digest(one) != digest({"x": np.float32([[0.0, 1.0]])})
