"""The house rules: floors, owners of heavy packages, sizes, cheap imports."""

import ast
import graphlib
import importlib
import subprocess
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "encoder4editing_jax"

# A unit (a file or a folder) imports only from units on lower floors, or from
# units to its left on its own floor.
FLOORS = (
  (
    "files",
    "config_types",
    "config_rules",
    "config_losses",
    "config_optim",
    "config_data",
    "config",
    "phases",
    "winograd",
    "resampling",
    "ops",
    "compiling",
  ),
  ("models", "architectures", "weights", "weights_folder"),
  (
    "losses",
    "editing",
    "finding",
    "metrics",
    "align",
    "landmarks",
    "data",
    "faceworld",
  ),
  ("training",),
  (
    "configs",
    "converters",
    "directions",
    "reports",
    "runs",
    "plotting",
    "clips",
    "optimising",
    "inference",
    "programs",
    "exporting",
    "serving",
    "detectors",
    "evaluating",
    "identifying",
    "demo",
    "cli",
    "train",
  ),
  ("__main__",),
)
RANKS = {
  unit: (floor, place)
  for floor, units in enumerate(FLOORS)
  for place, unit in enumerate(units)
}

# Package: where alone it may be imported.
OWNERS = {
  "av": ("clips.py",),
  "array_record": ("data/",),
  "cv2": ("detectors.py",),
  "dlib": ("detectors.py",),
  "gradio": ("demo/",),
  "grain": ("data/",),
  "mediapipe": ("detectors.py",),
  "orbax": ("training/checkpoint.py",),
  "safetensors": ("weights.py",),
  "matplotlib": ("plotting.py",),
  "sklearn": ("finding.py",),
  "tensorboardX": ("training/boards.py",),
  "tensorflow": (),
  "tensorflow_datasets": ("data/",),
  "torch": (),
  "tyro": ("cli/",),
  "wandb": ("training/boards.py",),
}

# What the library itself has to work without.
ABSENT = ("grain", "tensorflow", "tensorflow_datasets", "torch", "tyro")


def sources():
  """The files of the library by their place in the installed package."""
  found = {"train.py": ROOT / "train.py"}
  for path in (ROOT / PACKAGE).rglob("*.py"):
    place = path.relative_to(ROOT / PACKAGE)
    if place.parts[0] not in ("configs", "converters", "__init__.py"):
      found[place.as_posix()] = path
  for folder in ("configs", "converters"):
    for path in (ROOT / folder).rglob("*.py"):
      found[path.relative_to(ROOT).as_posix()] = path
  return found


def imports(path):
  """Every absolute name that a file imports, inside functions too."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{path}: relative import; write the full name"
      yield from (f"{node.module}.{alias.name}" for alias in node.names)


def unit(place):
  if place.endswith("__main__.py"):  # a command: nobody imports it
    return "__main__"
  return place.split("/")[0].removesuffix(".py")


@pytest.mark.parametrize("place", sorted(sources()))
def test_files_import_from_lower_floors_only(place):
  mine = unit(place)
  for name in imports(sources()[place]):
    package, _, rest = name.partition(".")
    if package != PACKAGE or rest == "__version__":
      continue
    theirs = rest.split(".")[0]
    assert theirs in RANKS, f"{place} imports {name}: not a unit of the house"
    if theirs != mine:
      assert RANKS[theirs] < RANKS[mine], f"{place} imports {name}: not below"


def test_files_of_a_folder_do_not_import_each_other_in_circles():
  graph = {}
  for place, path in sources().items():
    if path.name != "__init__.py":
      module = f"{PACKAGE}.{place.removesuffix('.py').replace('/', '.')}"
      graph[module] = set(imports(path))
  for module, names in graph.items():
    parents = {name.rpartition(".")[0] for name in names}
    graph[module] = (names | parents) & set(graph) - {module}
  graphlib.TopologicalSorter(graph).prepare()


def test_names_of_packages_do_not_hide_their_files():
  for place in sources():
    folder, _, file = place.rpartition("/")
    if folder and not file.startswith("__"):
      package = importlib.import_module(f"{PACKAGE}.{folder}")
      value = getattr(package, file.removesuffix(".py"), None)
      assert value is None or isinstance(value, types.ModuleType), place


@pytest.mark.parametrize("place", sorted(sources()))
def test_heavy_packages_have_one_owner(place):
  for name in imports(sources()[place]):
    owners = OWNERS.get(name.split(".")[0], ("",))
    assert place.startswith(owners), (
      f"{place} imports {name}; only {owners} may"
    )


@pytest.mark.parametrize(
  "file",
  [
    "config.py",
    "config_data.py",
    "config_losses.py",
    "config_optim.py",
    "config_rules.py",
  ],
)
def test_the_config_needs_only_the_standard_library(file):
  for name in imports(ROOT / PACKAGE / file):
    assert name.split(".")[0] in {*sys.stdlib_module_names, PACKAGE}, name


@pytest.mark.parametrize("place", sorted(sources()))
def test_files_are_short(place):
  lines = len(sources()[place].read_text().splitlines())
  assert lines <= 300, f"{place} has {lines} lines; split it by its nouns"


def python(code):
  """Runs code in a fresh interpreter at the root; returns what it prints."""
  done = subprocess.run(
    [sys.executable, "-c", code],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_importing_the_package_imports_none_of_its_requirements():
  out = python(
    "import sys; before = set(sys.modules)\n"
    f"import {PACKAGE}\n"
    "print(*{m.split('.')[0] for m in set(sys.modules) - before})"
  )
  assert set(out.split()) <= {PACKAGE, *sys.stdlib_module_names}


def test_the_library_works_without_its_heavier_requirements():
  python(f"""
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
  def find_spec(self, name, path=None, target=None):
    if name.split(".")[0] in {ABSENT}:
      raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import {PACKAGE} as e4e
for name in e4e._NAMES:
  getattr(e4e, name)
for name in e4e._MODULES:
  getattr(e4e, name)
""")
