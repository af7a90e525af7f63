"""Speed and memory of the whole training step of e4e, beside plain PyTorch.

    python benchmarks/training_step.py --baseline [--size 256] [--batches 2]

The run card of FFHQ (Ranger, LPIPS, identity, discriminator with pools, all
styles awake) on noise, with networks of drawn weights; `--size` is that of the
generator, and images have 256 pixels. Both sides in processes of their own, in
turn; "CPU ratio" is that of processor times. "cold" is what tracing and
compiling take, "warm" the same from a persistent cache that the cold one
filled. Needs 10 GB at 256 pixels, 12 GB at 1024.

Accelerators: `--size 1024 --batches 2 8 --dtypes float32 bfloat16`. PyTorch
computes in float32 in any case, with TF32 where `--tf32` says so.
"""

import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]

import bounds  # noqa: E402
import networks  # noqa: E402
import timing  # noqa: E402

IMAGE = 256
AWAKE = 100_000  # a step at which all styles are
TINY = {"num_layers": 10, "channels": (4, 4, 8, 8)}
COLUMNS = (
  *("step", "batch", "type", "ms", "baseline ms", "ratio", "CPU ratio"),
  *("Gop", "GB", "bound ms", "share", "cold s", "warm s", "MB", "baseline MB"),
)


def card(batch: int, dtype: str, image: int, tiny: bool) -> Any:
  """FFHQ's."""
  import dataclasses

  from encoder4editing_jax.configs import ffhq

  config = ffhq.get_config()
  model = dataclasses.replace(
    config.model, dtype=dtype, **(TINY if tiny else {})
  )
  return dataclasses.replace(
    config,
    data=dataclasses.replace(config.data, size=(image, image)),
    model=model,
    run=dataclasses.replace(config.run, batch_size=batch),
  )


def build(config: Any, size: int, tiny: bool) -> Any:
  """The networks of a run with that card."""
  from flax import nnx
  from random_weights import randomised

  from encoder4editing_jax.architectures import with_dtype
  from encoder4editing_jax.models.arcface import ArcFace
  from encoder4editing_jax.models.discriminator import LatentDiscriminator
  from encoder4editing_jax.models.lpips import LPIPS
  from encoder4editing_jax.models.stylegan2 import Generator
  from encoder4editing_jax.training import state as states

  small = {"channel_base": 256, "channel_max": 8, "style_dim": 8, "n_mlp": 2}
  face = TINY | {"input_size": config.data.size[0] // 2}
  generator = randomised(
    lambda: Generator(size, **(small if tiny else {}), rngs=nnx.Rngs(0))
  )
  made = {
    "lpips": lambda: LPIPS(rngs=nnx.Rngs(1)),
    "arcface": lambda: ArcFace(**(face if tiny else {}), rngs=nnx.Rngs(2)),
  }
  dtype = config.model.dtype
  return states.Networks(
    randomised(lambda: states.build_encoder(config, generator)),
    with_dtype(generator, dtype),
    LatentDiscriminator(generator.style_dim, rngs=nnx.Rngs(3)),
    {name: with_dtype(randomised(net), dtype) for name, net in made.items()},
  )


def make_jax(
  size: int,
  batch: int,
  dtype: str = "float32",
  image: int = IMAGE,
  tiny: bool = False,
) -> tuple[Callable[[], Any], dict[str, Any]]:
  """Ours, compiled, and what it must do."""
  import dataclasses

  import jax
  import jax.numpy as jnp
  import numpy as np

  from encoder4editing_jax.training import state as states
  from encoder4editing_jax.training.parallel import shard_map_step
  from encoder4editing_jax.training.step import make_train_step

  config = card(batch, dtype, image, tiny)
  nets = build(config, size, tiny)
  state = states.create_state(config, nets)
  held = {"state": dataclasses.replace(state, step=jnp.int32(AWAKE))}
  frozen = states.create_frozen(nets)
  shape = (batch, image, image, 3)
  pixels = np.random.RandomState(0).randint(0, 256, shape, np.uint8)
  data = {"image": jnp.asarray(pixels)}
  step = shard_map_step(make_train_step(config, nets), jax.devices()[:1])
  del nets, state
  compiled, facts = _compiled(step, held["state"], frozen, data)

  def run() -> Any:
    held["state"], metrics = compiled(held["state"], frozen, data)
    return jax.block_until_ready(metrics)

  return run, facts


def _compiled(step: Any, *arguments: Any) -> tuple[Any, dict[str, Any]]:
  """A step for such arguments, and what it takes to make and to run it."""
  began = time.perf_counter()
  traced = step.trace(*arguments)
  lowered = traced.lower()
  ready = time.perf_counter()
  compiled = lowered.compile()
  facts = {
    "trace_s": ready - began,
    "compile_s": time.perf_counter() - ready,
  }
  return compiled, facts | bounds.count_traced(traced.jaxpr)._asdict()


def make_torch(
  size: int,
  batch: int,
  dtype: str = "float32",
  image: int = IMAGE,
  tiny: bool = False,
  tf32: bool = False,
) -> tuple[Callable[[], Any], dict[str, Any]]:
  """The baseline."""
  import baseline
  import baseline_encoder
  import baseline_training as training
  import torch

  del dtype
  torch.backends.cuda.matmul.allow_tf32 = tf32
  device = "cuda" if torch.cuda.is_available() else "cpu"
  n = networks.styles(size)
  if tiny:
    layers, channels = TINY["num_layers"], TINY["channels"]
    encoder = baseline_encoder.Encoder(n, image, 8, layers, channels)
    generator = baseline.Generator(size, 256, 8, 8, 2)
    face = training.ArcFace(layers, channels, side=image // 2)
  else:
    encoder, generator, face = (
      baseline_encoder.Encoder(n),
      baseline.Generator(size),
      None,
    )
  weights = {"l2": 1.0, "lpips": 0.8, "identity": 0.1}
  weights |= {"adversarial": 0.1, "delta": 2e-4}
  trainer = training.Trainer(
    encoder, generator, weights, arcface=face, device=device
  )
  images = torch.rand(batch, 3, image, image, device=device) * 2 - 1
  d = len(encoder.styles[0].linear.bias)
  return lambda: trainer.step(images, torch.randn(batch, d, device=device)), {}


def make(side: str, kind: str = "", **case: Any) -> Any:
  """One side; see `timing.serve`."""
  if kind:
    return networks.make(side, kind, **case)
  if side == "torch":
    return make_torch(**case)
  return make_jax(**{k: v for k, v in case.items() if k != "tf32"})


def measured(
  sides: list[str], case: dict[str, Any], options: Any
) -> tuple[dict[str, Any], dict[str, float]]:
  """What is found of a case, and the seconds of tracing and compiling: the
  measured side's, or where caches are asked for without and with one."""

  def making(facts: dict[str, Any]) -> float:
    return facts["trace_s"] + facts["compile_s"]

  if not options.caches:
    found = timing.compare(__file__, sides, case, options)
    return found, {"cold": making(found["jax"])}
  name = "JAX_COMPILATION_CACHE_DIR"
  with tempfile.TemporaryDirectory() as folder:
    os.environ[name] = folder
    first = timing.Side(__file__, "jax", case)
    first.close()
    found = timing.compare(__file__, sides, case, options)
    del os.environ[name]
  return found, {"cold": making(first.facts), "warm": making(found["jax"])}


def row(
  case: dict[str, Any],
  found: dict[str, Any],
  least: float,
  times: dict[str, float],
) -> None:
  """Prints what was found of a case."""
  ours, theirs = found["jax"], found.get("torch")
  timing.row(
    *(f"e4e {case['size']}", case["batch"], case["dtype"]),
    1e3 * ours["seconds"],
    1e3 * theirs["seconds"] if theirs else None,
    timing.ratio(found, "jax", "torch") if theirs else None,
    theirs["cpu_s"] / ours["cpu_s"] if theirs else None,
    *(ours["operations"] / 1e9, ours["bytes"] / 1e9, 1e3 * least),
    least / ours["seconds"],
    *(times["cold"], times.get("warm")),
    *(ours["peak_mb"], theirs["peak_mb"] if theirs else None),
  )


def main() -> None:
  """The command."""
  parser = timing.parser(__doc__)
  parser.add_argument("--size", type=int, default=256)
  parser.add_argument("--batches", nargs="+", type=int, default=[2])
  parser.add_argument("--dtypes", nargs="+", default=["float32"])
  parser.add_argument("--image", type=int, default=IMAGE)
  parser.add_argument("--tf32", action="store_true", help="for PyTorch on CUDA")
  parser.add_argument("--tiny", action="store_true", help="very small networks")
  parser.add_argument("--caches", action="store_true", help="cold and warm")
  options = parser.parse_args()
  if options.side:
    timing.serve(make, {"side": options.side} | options.case)
    return
  sides = ["jax", "torch"] if options.baseline else ["jax"]
  head = timing.header(timing.device())
  timing.say(head)
  rates = {dtype: networks.roof(sides, dtype) for dtype in options.dtypes}
  done = []
  for dtype, found in rates.items():
    print(f"{dtype}: {networks.told(found)}\n")
  timing.heading(*COLUMNS)
  for batch, dtype in itertools.product(options.batches, options.dtypes):
    case = {"size": options.size, "batch": batch, "dtype": dtype}
    case |= {"image": options.image, "tiny": options.tiny}
    shared = case | {"tf32": options.tf32}
    found, times = measured(sides, shared, options)
    least = networks.bound(found["jax"], rates[dtype])
    done.append({"case": shared, "bound_s": least, "start": times} | found)
    row(case, found, least, times)
  timing.save(options.json, head, {"rates": rates, "rows": done})


if __name__ == "__main__":
  main()
