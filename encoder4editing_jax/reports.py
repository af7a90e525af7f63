"""What a file holds, what runs here, and whether it computes what it should."""

import importlib.metadata
import platform
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from encoder4editing_jax.metrics import pixels

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
ENOUGH = 20.0  # dB; less means that something computes wrongly


def columns(rows: Sequence[Sequence[str]]) -> str:
  """Rows of texts as lines, each column as wide as its longest text."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return "\n".join(
    "  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)).rstrip()
    for row in rows
  )


def file_text(found: dict[str, Any]) -> str:
  """The result of `weights.describe` for people."""
  lines = [
    f"{found['file']}: {found['module']}, {found['bytes'] / 1e6:.1f} MB, "
    f"{found['dtype']}",
    f"  parameters  {found['parameters']:,}",
    f"  buffers     {found['buffers']:,}",
  ]
  if found["n_styles"]:
    lines.append(f"  styles      {found['n_styles']}")
  lines += [f"  {k:10}  {v}" for k, v in found["provenance"].items()]
  return "\n".join((*lines, *_tree(found["architecture"], "  ")))


def _tree(architecture: dict[str, Any], indent: str) -> Iterator[str]:
  yield f"{indent}{architecture['module']}"
  for name, value in architecture.items():
    if isinstance(value, dict):
      yield from _tree(value, indent + "  ")
    elif name != "module":
      yield f"{indent}  {name} = {value}"


def machine() -> dict[str, Any]:
  """Versions, devices and the self-test.

  Returns:
    `versions` by name (None for what is not installed), `backend`, `devices`
    and `self_test` (see there; with `error` alone if it could not run).
  """
  found: dict[str, Any] = {
    "versions": {"python": platform.python_version()}
    | {name: _version(name) for name in PACKAGES},
    "backend": None,
    "devices": [],
  }
  try:
    found["backend"] = jax.default_backend()
    found["devices"] = [str(device) for device in jax.devices()]
    found["self_test"] = self_test()
  except Exception as error:  # a broken machine is what this looks for
    text = " ".join(f"{type(error).__name__}: {error}".split())
    found["self_test"] = {"ok": False, "error": text}
  return found


def _version(package: str) -> str | None:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None


def machine_text(found: dict[str, Any]) -> str:
  """The result of `machine` for people."""
  devices = ", ".join(found["devices"]) or "none"
  rows = {name: v or "not installed" for name, v in found["versions"].items()}
  rows |= {
    "devices": f"{devices} ({found['backend'] or 'no backend'})",
    "self-test": _test_text(found["self_test"]),
  }
  return "\n".join(f"{name:17} {value}" for name, value in rows.items())


def _test_text(test: dict[str, Any]) -> str:
  if "error" in test:
    return f"FAILED: {test['error']}"
  return (
    f"{'ok' if test['ok'] else 'WRONG PICTURE'}: {test['psnr_db']} dB from "
    f"the true picture, {test['first_s']} s with compilation, "
    f"{test['again_ms']} ms without"
  )


def self_test() -> dict[str, Any]:
  """Synthesises one face whose true picture is known, and compares.

  Returns:
    `ok`, `psnr_db` against the renderer (peak 2), `first_s` (with compilation)
    and `again_ms`, the times of one picture.
  """
  from encoder4editing_jax import faceworld

  generator = faceworld.load_generator()
  z = jax.random.normal(jax.random.key(0), (1, generator.style_dim))
  synthesize = jax.jit(lambda z: generator(z, noise="none"))
  began = time.perf_counter()
  image = synthesize(z).block_until_ready()
  first = time.perf_counter()
  synthesize(z).block_until_ready()
  again = time.perf_counter()
  truth = faceworld.render(faceworld.attributes(z), size=generator.size)
  decibel = pixels.psnr(image, truth).item()
  return {
    "ok": decibel >= ENOUGH,
    "psnr_db": round(decibel, 2),
    "first_s": round(first - began, 3),
    "again_ms": round(1e3 * (again - first), 2),
  }
