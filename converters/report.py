"""What a conversion found and did, as plain values and as text."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flax import nnx

from encoder4editing_jax import architectures

# Why a tensor has no use here, by the end of its name.
TENSORS = (
  (r"num_batches_tracked", "counts the batches of a training run"),
  (r"kernel|resample_filter", "a filter, equal to the built-in one"),
  (r"latlayer\d\.(weight|bias)", "of a layer that this encoder does not use"),
)
# Why an entry beside the network has none.
ENTRIES = (
  (r".*optim(izer)?(_state_dict)?", "state of an optimizer"),
  (r"discriminator_state_dict|[dD]|[01]", "another network"),
  (r"[gG]_ema", "another network"),
  (r"[gG]", "the generator before averaging over steps"),
  (r"global_step|best_val_loss|epoch|args|ada_aug_p", "about a training run"),
)
OTHERWISE = "of no use here"


def grouped(
  tensors: Iterable[str], entries: Iterable[str]
) -> dict[str, list[str]]:
  """Names by the reason for which they have no use here.

  Args:
    tensors: of the network that was converted.
    entries: of the file, beside that network.
  """
  groups: dict[str, list[str]] = {}
  for name in tensors:
    groups.setdefault(_reason(name, TENSORS, r"(.*\.)?"), []).append(name)
  for name in entries:
    groups.setdefault(_reason(name, ENTRIES), []).append(name)
  return groups


def _reason(
  name: str, reasons: tuple[tuple[str, str], ...], before: str = ""
) -> str:
  for pattern, why in reasons:
    if re.fullmatch(f"{before}({pattern})", name):
      return why
  return OTHERWISE


def module_facts(module: nnx.Module) -> dict[str, Any]:
  """Class, size, styles and number of parameters of a network.

  Returns:
    `module`, `encoder` (class, or None), `size` (side of the pictures, or
    None), `n_styles` (or None), `parameters`.
  """
  generator = getattr(module, "generator", module)
  encoder = getattr(module, "encoder", None)
  leaves = dict(nnx.to_flat_state(nnx.state(module, nnx.Param))).values()
  return {
    "module": type(module).__name__,
    "encoder": encoder and type(encoder).__name__,
    "restyle": getattr(module, "restyle", None),
    "size": getattr(generator, "size", None),
    "n_styles": getattr(generator, "n_styles", None),
    "parameters": sum(math.prod(leaf.shape) for leaf in leaves),
    "architecture": architectures.architecture(module),
  }


def text(report: Mapping[str, Any]) -> str:
  """A report for people."""
  r = report
  encoder = f" with {r['encoder']}" if r["encoder"] else ""
  steps = ", refines (ReStyle)" if r["restyle"] else ""
  rows = [
    ("is", r["what"]),
    ("sha256", r["sha256"]),
    ("network", f"{r['module']}{encoder}{steps}"),
    ("size", r["size"]),
    ("styles", r["n_styles"]),
    ("parameters", f"{r['parameters']:,}"),
  ]
  rows += [("also", f"{x} (--part {part})") for part, x in r["also"].items()]
  rows += [("left out", _few(names, why)) for why, names in r["unused"].items()]
  rows += [("note", words) for words in r["warnings"]]
  rows += [("picture", words) for words in _picture(r["verification"])]
  rows += [("seconds", f"{r['seconds']:.1f}"), ("result", r["result"])]
  lines = [f"  {name:11} {value}" for name, value in rows if value]
  return "\n".join((f"{r['file']} ({r['bytes'] / 1e6:.1f} MB)", *lines))


def _few(names: list[str], why: str) -> str:
  some = (
    names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
  )
  return f"{some}: {why}"


def _picture(found: Mapping[str, Any] | None) -> Iterator[str]:
  if found is None:
    return
  if found["finite"]:
    yield (
      "values {image_min:.2f} to {image_max:.2f}; codes {distance:.1f} from "
      "the mean code (random codes {random_distance:.1f})"
    ).format_map(found)
    yield (
      "L2 {l2:.3g}, PSNR {psnr_db:.1f} dB (of the mean code "
      "{mean_code_psnr_db:.1f} dB, of one flat colour {flat_psnr_db:.1f} dB)"
    ).format_map(found)
  yield found["verdict"]
