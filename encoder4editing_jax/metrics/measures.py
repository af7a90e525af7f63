"""Metrics of pairs of pictures by their short names, each with its protocol."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from flax import nnx

from encoder4editing_jax import losses, weights_folder
from encoder4editing_jax.compiling import call, compiled
from encoder4editing_jax.metrics import pixels, structure

METRICS = ("l2", "psnr", "ssim", "ms_ssim", "lpips", "id", "fid", "lec")
ID_NETS = ("curricularface_ir101", "arcface_ir_se50")
Size = tuple[int, int]


class Measure(NamedTuple):
  """A number for each pair of pictures `[b h w 3]` in [-1, 1]."""

  name: str
  protocol: dict[str, Any]
  compute: Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Wanted:
  """What is to be measured.

  Args:
    metrics: of `METRICS`.
    size: height and width of all pictures.
    weights: the folder of networks, see `weights_folder`.
    lpips_net: "alex", "vgg" or "squeeze".
    id_net: of `ID_NETS`.
  """

  metrics: tuple[str, ...]
  size: Size
  weights: str = ""
  lpips_net: str = "alex"
  id_net: str = ID_NETS[0]

  def __post_init__(self) -> None:
    for name in self.metrics:
      if name not in METRICS:
        raise ValueError(f"no metric {name!r}; use {', '.join(METRICS)}.")
    side = min(self.size)
    least = {"ssim": structure.WINDOW, "ms_ssim": structure.least_side()}
    for name, n in (least | {"lpips": 32}).items():
      if name in self.metrics and side < n:
        h, w = self.size
        raise ValueError(
          f"pictures of {h} x {w} are too small for {name}, which takes {n} x "
          f"{n} or more; leave it out, or resize with --size."
        )

  def name(self, what: str) -> str:
    """With the size of the pictures."""
    return f"{what}_{self.size[0]}x{self.size[1]}"

  def network(self, name: str) -> Any:
    """A network of the folder.

    Raises:
      FileNotFoundError, ValueError: no folder, or it is not in it.
    """
    if not self.weights:
      raise ValueError(
        f"{name} is needed ({weights_folder.NETWORKS[name]}); name the folder "
        "of networks with --weights, or leave the metric out."
      )
    return weights_folder.load(self.weights, name)


def measures(wanted: Wanted) -> tuple[Measure, ...]:
  """The numbers that each pair of pictures has by itself.

  Raises:
    FileNotFoundError, ValueError: a network is missing.
  """
  plain: dict[str, tuple[tuple[str, str, bool, Callable[..., Any]], ...]] = {
    "l2": (
      ("l2_minus1to1", "[-1, 1]", False, pixels.l2),
      ("l2_0to1", "[0, 1]", False, pixels.l2_unit),
    ),
    "psnr": (("psnr", "any", True, functools.partial(pixels.psnr, least=0.0)),),
    "ssim": (("ssim_0to1", "[0, 1]", True, structure.ssim),),
    "ms_ssim": (("ms_ssim_0to1", "[0, 1]", True, structure.ms_ssim),),
  }
  found = []
  for metric in dict.fromkeys(wanted.metrics):
    for name, span, more, compute in plain.get(metric, ()):
      facts = {"net": None, "range": span} | stated(wanted, more)
      found.append(Measure(wanted.name(name), facts, nnx.jit(compute)))
    if metric == "lpips":
      found.append(_lpips(wanted))
    if metric == "id":
      found.append(_identity(wanted))
  return tuple(found)


def stated(wanted: Wanted, more_is_better: bool) -> dict[str, Any]:
  """What every protocol says."""
  better = "more" if more_is_better else "less"
  return {"size": list(wanted.size), "bits": 8, "better": better}


def _lpips(wanted: Wanted) -> Measure:
  net = wanted.network(f"lpips_{wanted.lpips_net}")
  distance = compiled(call, net)
  facts = {"net": f"{wanted.lpips_net}, version 0.1", "range": "[-1, 1]"}
  name = wanted.name(f"lpips_{wanted.lpips_net}")
  return Measure(name, facts | stated(wanted, False), distance)


def _identity(wanted: Wanted) -> Measure:
  if wanted.id_net not in ID_NETS:
    raise ValueError(f"no face network {wanted.id_net}; use {ID_NETS}.")
  net = wanted.network(wanted.id_net)

  facts = {
    "net": wanted.id_net,
    "range": "[-1, 1]",
    "crop": "the face of pictures aligned like FFHQ, by position; no detector",
  }
  compute = compiled(_cosine, net)
  name = wanted.name(f"id_{wanted.id_net}")
  return Measure(name, facts | stated(wanted, True), compute)


def _cosine(net: Any, x: Any, y: Any) -> Any:
  return losses.cosine(net.embed_portrait(x), net.embed_portrait(y))
