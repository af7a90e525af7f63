"""What setup.cfg and the stub say is what the tree holds."""

import ast
import configparser
import importlib.metadata
import re
import sys
from pathlib import Path

from test_architecture import PACKAGE, ROOT, imports, sources

import encoder4editing_jax as e4e

# Packages that are perhaps not installed, by what they are imported as.
NOT_HERE = {"cv2": "opencv-python-headless"}


def setup():
  parser = configparser.ConfigParser()
  parser.read(ROOT / "setup.cfg")
  return parser


def lines(section, key):
  return setup()[section][key].split("\n")[1:]


def test_every_folder_of_the_library_is_installed():
  folders = {Path(place).parent for place in sources()} - {Path(".")}
  dotted = {".".join((PACKAGE, *folder.parts)) for folder in folders}
  assert set(lines("options", "packages")) == dotted | {PACKAGE}


def test_every_folder_of_the_library_is_a_package():
  for folder in {path.parent for path in sources().values()} - {ROOT}:
    assert (folder / "__init__.py").is_file(), folder


def packages(*entries):
  """Names of the packages that entries of setup.cfg ask for."""
  return {
    re.split(r"[<>=\[]", line)[0].lower().replace("_", "-")
    for entry in entries
    for line in lines(*entry)
  }


def test_every_imported_package_is_required():
  """Or belongs to an extra, and is then imported by whoever calls for it."""
  required = packages(("options", "install_requires"))
  names = (
    "demo",
    "directions",
    "dlib",
    "mediapipe",
    "plot",
    "video",
    "wandb",
    "yunet",
  )
  extras = packages(*(("options.extras_require", name) for name in names))
  owners = importlib.metadata.packages_distributions()
  for place, path in sources().items():
    at_once = {ast.unparse(node) for node in ast.parse(path.read_text()).body}
    for name in imports(path):
      top = name.split(".")[0]
      if top not in {PACKAGE, *sys.stdlib_module_names}:
        here = owners.get(top, [NOT_HERE.get(top, top)])
        names = {d.lower().replace("_", "-") for d in here}
        found = names & (required | extras)
        assert found, f"{place} imports {top}; setup.cfg lacks it"
        if not names & required:
          lazy = not any(
            f"import {top}" in text
            for text in at_once
            if text.startswith(("import", "from"))
          )
          assert lazy, f"{place}: import {top} where it is needed"


def test_the_stub_names_what_loads():
  tree = ast.parse((ROOT / PACKAGE / "__init__.pyi").read_text())
  found = {
    alias.asname: node.module
    for node in ast.walk(tree)
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
  }
  names = {k: f"{PACKAGE}.{v}" for k, v in e4e._NAMES.items()}
  assert found == names | dict.fromkeys(e4e._MODULES, PACKAGE)


def test_every_public_name_loads():
  for name in (*e4e._NAMES, *e4e._MODULES):
    assert getattr(e4e, name) is not None
  assert set(e4e._NAMES) <= set(dir(e4e))


def test_an_unknown_name_is_an_attribute_error():
  assert not hasattr(e4e, "encoder5editing")
