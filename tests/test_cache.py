"""What is compiled is kept, and nothing but a note comes of it if it cannot."""

import os
import subprocess
import sys

import jax
import pytest

from encoder4editing_jax.cli.cache import keep_compiled

NAMES = (
  "jax_enable_compilation_cache",
  "jax_compilation_cache_dir",
  "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture
def settings(monkeypatch, tmp_path):
  """JAX's own, switched on and put back; a home of one's own."""
  before = {name: getattr(jax.config, name) for name in NAMES}
  jax.config.update("jax_enable_compilation_cache", True)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  yield
  for name, value in before.items():
    jax.config.update(name, value)


def test_the_folder_is_the_users_and_the_processors(settings, tmp_path):
  folder = keep_compiled()
  assert folder.is_dir()
  assert folder.parent == tmp_path / "cache/encoder4editing_jax/compiled"
  assert jax.config.jax_compilation_cache_dir == str(folder)
  assert keep_compiled() == folder


def test_a_folder_that_is_named_counts(settings, tmp_path):
  jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
  assert keep_compiled() == tmp_path / "mine"
  assert not (tmp_path / "cache").exists()


def test_it_can_be_switched_off(settings, tmp_path):
  jax.config.update("jax_enable_compilation_cache", False)
  assert keep_compiled() is None
  assert not (tmp_path / "cache").exists()


def test_a_home_that_takes_nothing_is_a_note(settings, tmp_path, capsys):
  (tmp_path / "cache").write_text("in the way")
  assert keep_compiled() is None
  assert not jax.config.jax_enable_compilation_cache
  told = capsys.readouterr().err
  assert told.count("\n") == 1 and "JAX_COMPILATION_CACHE_DIR" in told


def test_a_second_process_compiles_nothing(tmp_path):
  code = """
import jax
from encoder4editing_jax.cli.cache import keep_compiled
keep_compiled()
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
jax.jit(lambda x: (x @ x.T).sum())(jax.numpy.ones((7, 5)))
print(*(events.count(f"/jax/compilation_cache/cache_{x}")
        for x in ("hits", "misses")))
"""
  environment = os.environ | {
    "XDG_CACHE_HOME": str(tmp_path),
    "JAX_ENABLE_COMPILATION_CACHE": "true",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }

  def run():
    command = [sys.executable, "-c", code]
    told = subprocess.check_output(command, env=environment, text=True)
    return tuple(map(int, told.split()))

  (hits, misses), again = run(), run()
  assert hits == 0 and misses > 0
  assert again == (misses, 0)
