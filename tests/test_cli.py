"""The console command: one screen of help, one line for every mistake."""

import json
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from random_weights import randomised

import encoder4editing_jax as e4e
from encoder4editing_jax import cli

VERBS = (
  "train",
  "convert",
  "weights",
  "data",
  "plan",
  "align",
  "unalign",
  "invert",
  "edit",
  "mix",
  "animate",
  "demo",
  "export",
  "evaluate",
  "info",
  "doctor",
)


def test_help_fits_one_screen_and_names_every_verb(capsys):
  assert cli.main(["--help"]) == 0
  out = capsys.readouterr().out
  assert len(out.splitlines()) < 24
  assert max(map(len, out.splitlines())) < 80
  assert all(f"  {verb} " in out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb, capsys):
  with pytest.raises(SystemExit) as stop:
    cli.main([verb, "--help"])
  assert not stop.value.code
  assert "usage:" in capsys.readouterr().out


def run_without_jax(words):
  """What a command says that ends before JAX is imported."""
  program = (
    "import sys; from encoder4editing_jax import cli\n"
    "try: sys.exit(cli.main(sys.argv[1:]))\n"
    "finally: assert not {'jax', 'numpy'} & set(sys.modules)"
  )
  command = [sys.executable, "-c", program, *words]
  done = subprocess.run(command, capture_output=True, text=True)
  assert "Traceback" not in done.stderr, done.stderr
  return done


@pytest.mark.parametrize(
  "words", ["--help", "invert --help", "train --help", "plan --help", "inf"]
)
def test_help_does_not_wait_for_jax(words):
  run_without_jax(words.split())


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ("train --optim.lrr 1", "did you mean --optim.lr?"),
    ("train --config toy", "--workdir is missing"),
    ("train --config toy --workdir {} --optim.lr fast", "--optim.lr"),
    ("train --config toy --workdir {} --run.batch_size 0", "batch_size is 0"),
    ("train --config toy --workdir {} --process 1", "need --coordinator"),
    ("plan toy --target cpu --run.batch 4", "run.batch"),
    ("plan toy --target v3", "v5e"),
  ],
)
def test_wrong_flags_do_not_wait_for_jax(words, message, tmp_path):
  done = run_without_jax(words.format(tmp_path / "run").split())
  assert done.returncode == 2
  assert message in done.stderr and done.stderr.count("\n") == 1


def test_folders_that_cannot_be_written_are_refused(
  tmp_path, capsys, monkeypatch
):
  (tmp_path / "file").touch()
  for words in (["invert", "--demo"], ["align", "--demo"]):
    assert cli.main([*words, "--out", str(tmp_path / "file" / "x")]) == 2
    assert f"{tmp_path / 'file'} is no folder" in capsys.readouterr().err
    monkeypatch.setattr("os.access", lambda *_: False)
    assert cli.main([*words, "--out", str(tmp_path / "x")]) == 2
    assert f"{tmp_path} cannot be written to" in capsys.readouterr().err
    monkeypatch.undo()


def test_the_version(capsys):
  assert cli.main(["--version"]) == 0
  assert e4e.__version__ in capsys.readouterr().out


@pytest.mark.parametrize(
  ("argv", "message"),
  [
    ([], "a command is missing"),
    (["inf"], "did you mean info?"),
    (["info"], "file"),
    (["info", "nowhere.safetensors"], "nowhere.safetensors is not there"),
    (["info", "setup.cfg"], "setup.cfg is none of what this library"),
    (["info", "a", "--colour"], "--colour (--help explains)"),
    (["edit", "a", "--ot", "x"], "--ot, x; did you mean --out? (--help"),
    (["doctor", "--jsn"], "--jsn"),
  ],
)
def test_mistakes_end_with_one_line_and_status_2(argv, message, capsys):
  assert cli.main(argv) == 2
  captured = capsys.readouterr()
  assert captured.out == ""
  assert captured.err.startswith("error: ")
  assert len(captured.err.splitlines()) == 1
  assert message in captured.err


@pytest.fixture
def path(tmp_path):
  generator = randomised(
    lambda: e4e.Generator(
      8, channel_base=64, channel_max=8, style_dim=4, n_mlp=1, rngs=nnx.Rngs(1)
    )
  )
  e4e.save(generator, tmp_path / "g.safetensors")
  return str(tmp_path / "g.safetensors")


def test_info_says_what_a_file_holds(path, capsys):
  assert cli.main(["info", path]) == 0
  out = capsys.readouterr().out
  assert "Generator" in out
  assert "styles      4" in out
  assert cli.main(["info", path, "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  generator = e4e.load(path)
  sizes = jax.tree.map(jnp.size, nnx.state(generator, nnx.Param))
  assert found["parameters"] == sum(jax.tree.leaves(sizes))
  assert found["architecture"]["size"] == generator.size


def test_doctor_says_what_is_broken(monkeypatch, capsys):
  def broken():
    raise RuntimeError("no such\ndevice")

  world = types.SimpleNamespace(load_generator=broken)
  monkeypatch.setattr(e4e, "faceworld", world, raising=False)
  assert cli.main(["doctor"]) == 1
  assert "FAILED: RuntimeError: no such device" in capsys.readouterr().out
  assert cli.main(["doctor", "--json"]) == 1
  found = json.loads(capsys.readouterr().out)
  assert found["self_test"]["ok"] is False


@pytest.mark.parametrize(("error", "status"), [(0.0, 0), (1.0, 1)])
def test_doctor_tells_a_right_picture_from_a_wrong(
  error, status, monkeypatch, capsys
):
  class Generator:
    size, style_dim = 4, 4

    def __call__(self, z, noise):
      return jnp.full((1, 4, 4, 3), z.mean() + error)

  world = types.SimpleNamespace(
    load_generator=Generator,
    attributes=lambda z: z,
    render=lambda a, size: jnp.full((1, size, size, 3), a.mean()),
  )
  monkeypatch.setattr(e4e, "faceworld", world, raising=False)
  assert cli.main(["doctor", "--json"]) == status
  found = json.loads(capsys.readouterr().out)
  assert found["self_test"]["ok"] is (status == 0)
  assert found["versions"]["jax"] == jax.__version__
  assert len(found["devices"]) == jax.device_count()
  assert cli.main(["doctor"]) == status
  assert ("WRONG" in capsys.readouterr().out) is (status == 1)
