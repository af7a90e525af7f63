"""`e4e export` in a process of its own, with files of tiny networks."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import QUICK
from test_architecture import ROOT
from test_exporting import DIRECTIONS
from test_inverter import inverter

import encoder4editing_jax as e4e
from encoder4editing_jax import cli


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  folder = tmp_path_factory.mktemp("files")
  e4e.save(inverter(), folder / "inverter.safetensors")
  e4e.save(inverter().generator, folder / "generator.safetensors")
  e4e.save(inverter().encoder, folder / "encoder.safetensors")
  np.savez(folder / "directions.npz", **DIRECTIONS)
  return folder


def run(*argv):
  """The command as a user starts it."""
  code = (
    "import sys; from encoder4editing_jax.cli import main; sys.exit(main())"
  )
  return subprocess.run(
    [sys.executable, "-c", code, "export", *map(str, argv)],
    cwd=ROOT,
    env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join(QUICK)},
    capture_output=True,
    text=True,
    check=False,
  )


def test_the_command_writes_compares_and_reports(files, tmp_path):
  out = tmp_path / "served"
  model = ["--model", files / "generator.safetensors", "--out", out]
  done = run(*model, "--directions", files / "directions.npz", "--json")
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout)
  assert found["wrong"] == []
  assert list(found["programs"]) == ["generator", "edit_codes"]
  for row in found["programs"].values():
    assert set(row["relative_error"]) == {"1", "3"}
    assert max(row["relative_error"].values()) < 1e-5
    assert 1000 < row["bytes"] < 100_000
  assert {path.name for path in out.iterdir()} == {
    "manifest.json",
    "weights.safetensors",
    "generator.jaxexport",
    "edit_codes.jaxexport",
  }
  before = (out / "manifest.json").read_bytes()
  again = run(*model, "--parts", "generator")
  assert again.returncode == 2
  assert "there already" in again.stderr
  assert (out / "manifest.json").read_bytes() == before


def test_what_is_for_other_machines_is_written_and_not_compared(
  files, tmp_path, capsys
):
  model = str(files / "generator.safetensors")
  argv = ["export", "--model", model, "--out", str(tmp_path / "served")]
  assert cli.main([*argv, "--platforms", "tpu,cuda"]) == 0
  text = capsys.readouterr().out
  assert "not compared" in text
  assert "no edit: no directions were given" in text


def test_a_program_that_differs_is_exit_status_1(
  files, tmp_path, capsys, monkeypatch
):
  from encoder4editing_jax import serving

  monkeypatch.setattr(
    serving,
    "compare",
    lambda *_: [serving.Comparison("generator", {1: 0.0, 3: float("nan")})],
  )
  model = str(files / "generator.safetensors")
  argv = ["export", "--model", model, "--out", str(tmp_path / "served")]
  assert cli.main([*argv, "--platforms", "cpu"]) == 1
  captured = capsys.readouterr()
  assert "generator differ" in captured.err
  assert "NaN" in captured.out


@pytest.mark.parametrize(
  ("argv", "message"),
  [
    (["--demo"], "--out is missing"),
    (["--out", "NEW"], "--model FILE or --demo"),
    (["--model", "none.safetensors", "--out", "NEW"], "none.safetensors"),
    (["--model", "ENCODER", "--out", "NEW"], "an Inverter"),
    (["--model", "GENERATOR", "--parts", "encoder", "--out", "NEW"], "no enc"),
    (["--model", "GENERATOR", "--parts", "edit", "--out", "NEW"], "directions"),
    (["--model", "GENERATOR", "--parts", "mixer", "--out", "NEW"], "'mixer'"),
    (["--demo", "--platforms", "gpu", "--out", "NEW"], "'gpu' is unknown"),
    (["--demo", "--iterations", "3", "--out", "NEW"], "ReStyle"),
    (["--demo", "--tolerance", "0", "--out", "NEW"], "--tolerance is 0"),
    (["--demo", "--dtype", "float16", "--out", "NEW"], "float16"),
    (["--demo", "--out", "GENERATOR"], "is a file"),
    (["--demo", "--directions", "WRONG", "--out", "NEW"], "'smile' has shape"),
  ],
)
def test_mistakes_write_nothing(argv, message, files, tmp_path, capsys):
  np.savez(tmp_path / "wrong.npz", smile=np.ones(7, np.float32))
  paths = {
    "NEW": tmp_path / "new",
    "ENCODER": files / "encoder.safetensors",
    "GENERATOR": files / "generator.safetensors",
    "WRONG": tmp_path / "wrong.npz",
  }
  words = [str(paths.get(word, word)) for word in argv]
  assert cli.main(["export", *words]) == 2
  captured = capsys.readouterr()
  assert message in captured.err
  assert captured.err.count("\n") == 1
  assert not (tmp_path / "new").exists()
