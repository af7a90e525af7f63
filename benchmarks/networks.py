"""Speed and memory of the networks, beside plain PyTorch and beside bounds.

    python benchmarks/networks.py --baseline [--only synthesis] [--json FILE]

Encoder (IR-SE50, 18 heads, 256 pixels), synthesis, its gradient to the codes,
and inversion (encoder, then synthesis). Every row is measured in processes of
its own, in turn with the baseline; memory is the process's, or the device's
where there is one. Before it is timed the baseline is compared with our
networks (`--no-check` leaves that out).

"CPU ratio" is that of processor times, which a busy machine changes less.
"bound" is the larger of operations / plain rate and bytes / copy rate, as
`bounds` counts and measures them; "share" is the bound over our time.
"""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]

import bounds  # noqa: E402
import timing  # noqa: E402
from network_cases import (  # noqa: E402
  CASES,
  Case,
  function,
  inverter,
  shape,
  styles,
)

TOLERANCE = 1e-4


def make_jax(case: Case) -> tuple[Callable[[], Any], dict[str, Any]]:
  """Ours, compiled, and what it must do."""
  import jax
  import numpy as np
  from flax import nnx

  from encoder4editing_jax.architectures import with_dtype

  net = inverter(case.kind, case.size)
  if case.dtype != "float32":
    net = with_dtype(net, case.dtype)
  graph, state = nnx.split(net)
  apply = function(case.kind)

  def run(state: Any, x: Any) -> Any:
    return apply(nnx.merge(graph, state), x)

  rng = np.random.RandomState(1)
  x = jax.device_put(rng.randn(*shape(case)).astype(np.float32))
  traced = jax.jit(run).trace(state, x)
  least = bounds.count_traced(traced.jaxpr)
  lowered = traced.lower()
  began = time.perf_counter()
  compiled = lowered.compile()
  facts = {"compile_s": time.perf_counter() - began, **least._asdict()}
  return lambda: jax.block_until_ready(compiled(state, x)), facts


def make_torch(case: Case) -> tuple[Callable[[], Any], dict[str, Any]]:
  """The baseline, in float32 whatever the type is."""
  import baseline
  import baseline_encoder
  import torch

  kind, size = case.kind, case.size
  baseline.DEPTHWISE = case.depthwise
  device = "cuda" if torch.cuda.is_available() else "cpu"
  x = torch.randn(*shape(case), device=device)
  if kind in ("encoder", "invert"):
    encoder = baseline_encoder.Encoder(
      18 if kind == "encoder" else styles(size)
    )
    encoder = encoder.eval().to(device)
    x = x.permute(0, 3, 1, 2).contiguous()
  if kind != "encoder":
    generator = baseline.Generator(size).eval().to(device)
    generator.requires_grad_(False)

  def run() -> None:
    if kind == "gradient":
      w = x.detach().requires_grad_(True)
      generator(w).square().mean().backward()
    else:
      with torch.no_grad():
        w = x if kind == "synthesis" else encoder(x)
        if kind != "encoder":
          generator(w)
    if device == "cuda":
      torch.cuda.synchronize()

  return run, {}


def make(side: str, kind: str, **case: Any) -> Any:
  """One side of a row; see `timing.serve`."""
  if kind == "roof":
    return bounds.make_roof(side, case["dtype"])
  if kind == "check":
    return (lambda: None), {"difference": difference(**case)}
  return {"jax": make_jax, "torch": make_torch}[side](Case(kind, **case))


def difference(size: int) -> float:
  """The largest difference, relative to the largest value, of both sides."""
  import baseline
  import baseline_encoder
  import jax
  import numpy as np
  import torch
  from flax import nnx

  from encoder4editing_jax import converters

  net = inverter("invert", size)
  state = converters.from_inverter(net)["state_dict"]
  mean = torch.from_numpy(np.array(net.w_avg[...]))
  theirs = torch.nn.ModuleDict(
    {
      "encoder": baseline_encoder.Encoder(len(mean)),
      "decoder": baseline.Generator(size),
    }
  ).eval()
  tensors = {k: torch.from_numpy(np.array(v)) for k, v in state.items()}
  theirs.load_state_dict(tensors, strict=True)
  x = np.random.RandomState(1).randn(1, 256, 256, 3).astype(np.float32)
  graph, arrays = nnx.split(net)
  encode, decode = (
    jax.jit(lambda s, x, f=f: f(nnx.merge(graph, s), x))
    for f in (type(net).encode, type(net).decode)
  )
  codes = np.asarray(encode(arrays, x))
  with torch.no_grad():
    w = theirs["encoder"](torch.from_numpy(x.transpose(0, 3, 1, 2))) + mean
    picture = theirs["decoder"](torch.from_numpy(codes.copy())).numpy()
  ours = np.asarray(decode(arrays, codes)).transpose(0, 3, 1, 2)
  pairs = ((w.numpy(), codes), (picture, ours))
  return float(max(np.abs(a - b).max() / np.abs(a).max() for a, b in pairs))


def rows(options: Any) -> Iterator[Case]:
  """The cases that were asked for."""
  for kind, (sizes, batches) in CASES.items():
    if options.only and kind not in options.only:
      continue
    if kind != "encoder" and options.sizes:
      sizes = tuple(options.sizes)
    for size in sizes:
      for batch in options.batches or batches:
        yield Case(kind, size, batch, options.dtype, options.depthwise)


def roof(sides: list[str], dtype: str) -> dict[str, float]:
  """The best rates of any side, with numbers of a type."""
  found: dict[str, float] = {}
  for side in sides:
    process = timing.Side(__file__, side, {"kind": "roof", "dtype": dtype})
    process.close()
    for kind, rate in process.facts["rates"].items():
      found[kind] = max(rate, found.get(kind, 0))
  return found


def told(rates: dict[str, float]) -> str:
  """Rates in words."""
  return (
    f"plain 3x3 convolution {rates['convolution'] / 1e9:.0f} Gop/s, matrix "
    f"product {rates['matrix'] / 1e9:.0f} Gop/s, copy "
    f"{rates['copy'] / 1e9:.1f} GB/s"
  )


def bound(facts: dict[str, Any], rates: dict[str, float]) -> float:
  """Seconds."""
  return max(
    facts["operations"] / rates["convolution"], facts["bytes"] / rates["copy"]
  )


def check(size: int) -> None:
  """Ends the command if the baseline is not the same mathematics."""
  side = timing.Side(__file__, "jax", {"kind": "check", "size": size})
  side.close()
  found = side.facts["difference"]
  print(f"baseline and ours differ by {found:.1e} of the largest value\n")
  if found > TOLERANCE:
    raise SystemExit(f"that is more than {TOLERANCE}; mend the baseline.")


def show(case: Case, found: dict[str, dict[str, Any]], least: float) -> None:
  """A row of the table; `least` is the bound in seconds."""
  ours, theirs = found["jax"], found.get("torch")
  timing.row(
    f"{case.kind} {case.size}",
    *(case.batch, 1e3 * ours["seconds"]),
    1e3 * theirs["seconds"] if theirs else None,
    timing.ratio(found, "jax", "torch") if theirs else None,
    theirs["cpu_s"] / ours["cpu_s"] if theirs else None,
    *(ours["operations"] / 1e9, ours["bytes"] / 1e9, 1e3 * least),
    *(least / ours["seconds"], ours["compile_s"], ours["peak_mb"]),
    theirs["peak_mb"] if theirs else None,
  )


def main() -> None:
  """The command."""
  parser = timing.parser(__doc__)
  parser.add_argument("--only", nargs="+", choices=CASES)
  parser.add_argument("--sizes", nargs="+", type=int)
  parser.add_argument("--batches", nargs="+", type=int)
  parser.add_argument("--dtype", default="float32")
  parser.add_argument("--no-check", action="store_true")
  parser.add_argument(
    "--depthwise",
    action="store_true",
    help="the baseline filters by a depthwise convolution",
  )
  options = parser.parse_args()
  if options.side:
    timing.serve(make, {"side": options.side} | options.case)
    return
  sides = ["jax", "torch"] if options.baseline else ["jax"]
  head = timing.header(timing.device())
  timing.say(head)
  if options.baseline and not options.no_check:
    check(max(options.sizes or (1024,)))
  rates, done = roof(sides, options.dtype), []
  print(told(rates) + "\n")
  timing.heading(
    *("row", "batch", "ms", "baseline ms", "ratio", "CPU ratio", "Gop", "GB"),
    *("bound ms", "share", "compile s", "MB", "baseline MB"),
  )
  for case in rows(options):
    each = case._asdict()
    found = timing.compare(__file__, sides, each, options)
    least = bound(found["jax"], rates)
    done.append({"case": each, "bound_s": least} | found)
    show(case, found, least)
  timing.save(options.json, head, {"rates": rates, "rows": done})


if __name__ == "__main__":
  main()
