"""What the compiler for TPUs makes of training and inference, without a TPU.

    python benchmarks/tpu_aot.py [--parts PART,...] [--targets TARGET,...]
        [--batch 8] [--dtype bfloat16] [--options NAME=VALUE ...]
        [--out FILE.json] [--again] [--table]

Parts: synthesis (forward), gradient (synthesis forward and its gradient with
respect to the codes), invert (encoder and synthesis), step (the whole training
step of configs/ffhq.py: LPIPS, identity, discriminator). Each is compiled for
the FFHQ networks at 1024 x 1024, `--batch` pictures for each chip. toy, if it
is asked for, is the step of configs/toy.py, which compiles in minutes.

`--options` are the compiler's own. "beside work" counts the collectives that
the schedule lets run while something else is computed.

Takes minutes for each row (jax[tpu] brings the compiler). Rows are written to
the file as they come, and not compiled again unless `--again` is said;
`--table` only prints what is there, as Markdown.
"""

import argparse
import dataclasses
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # no TPU is looked for

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

from encoder4editing_jax.cli.train import load_config
from encoder4editing_jax.converters.start import load_start
from encoder4editing_jax.models.inverter import Inverter
from encoder4editing_jax.training import ahead, outline
from encoder4editing_jax.training.state import Networks

PARTS = ("gradient", "step", "synthesis", "invert")
TARGETS = ("v5e:1", "v5e:8", "v6e:1", "v6e:8", "v4:1", "v5e:64", "v6e:64")
OUT = Path(__file__).with_suffix(".json")
COLUMNS = {
  "T operations": ("operations", 1e12),
  "GB accessed": ("bytes", 1e9),
  "GB temporary": ("temporary", 1e9),
  "GB arguments": ("arguments", 1e9),
}


def lowered(part: str, target: str, batch: int, dtype: str) -> Any:
  """A part, traced for the chips of a target."""
  devices = ahead.topology(target)
  card = load_config("toy" if part == "toy" else "ffhq")
  config = dataclasses.replace(
    card,
    model=dataclasses.replace(card.model, dtype=dtype),
    run=dataclasses.replace(card.run, batch_size=batch * len(devices)),
  )
  made = outline.outline(config, load_start)
  if part in ("step", "toy"):
    return ahead.lower_step(config, made.build, devices)
  return _lower_network(part, made.networks, devices, config.run.batch_size)


def _lower_network(
  part: str, networks: Networks, devices: Any, batch: int
) -> Any:
  function, state, shapes = _function(part, networks, batch)
  mesh = Mesh(np.asarray(devices), ("batch",))

  def placed(x: Any, spec: P) -> jax.ShapeDtypeStruct:
    sharding = NamedSharding(mesh, spec)
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

  mapped = jax.shard_map(
    function,
    mesh=mesh,
    in_specs=(P(), *(P("batch") for _ in shapes)),
    out_specs=P("batch"),
    check_vma=False,
  )
  arrays = (jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes)
  return jax.jit(mapped).lower(
    jax.tree.map(lambda x: placed(x, P()), state),
    *(placed(x, P("batch")) for x in arrays),
  )


def _function(
  part: str, networks: Networks, batch: int
) -> tuple[Callable[..., Any], Any, tuple[tuple[int, ...], ...]]:
  """What a part computes: a function of the networks' state and of arrays,
  the state, and the shapes of the arrays."""
  generator, encoder = networks.generator, networks.encoder
  graph, state = nnx.split((generator, encoder))
  size, n = generator.size, generator.n_styles

  def forward(state: Any, w_plus: jax.Array) -> jax.Array:
    return nnx.merge(graph, state)[0].synthesis(w_plus)

  def gradient(state: Any, w_plus: jax.Array, image: jax.Array) -> Any:
    made, back = jax.vjp(lambda w: forward(state, w), w_plus)
    return made, back(image)[0]

  def invert(state: Any, images: jax.Array) -> Any:
    inverter = Inverter(*nnx.merge(graph, state)[::-1])
    codes = inverter.encode(images)
    return codes, inverter.decode(codes)

  w_plus, image = (batch, n, generator.style_dim), (batch, size, size, 3)
  parts = {
    "synthesis": (forward, (w_plus,)),
    "gradient": (gradient, (w_plus, image)),
    "invert": (invert, ((batch, 256, 256, 3),)),
  }
  function, shapes = parts[part]
  return function, state, shapes


def table(rows: dict[str, dict]) -> str:
  """All rows as Markdown; numbers are those of one chip."""
  head = ["part", "target", "batch", "type", *COLUMNS, "GB in all"]
  head += ["all-reduces, MB", "beside work, MB", "compiled in s", "options"]
  lines = [" | ".join(head), " | ".join("---" for _ in head)]
  for key, row in sorted(rows.items()):
    part, target, batch, dtype, *options = key.split()
    cells = [part, target, batch, dtype]
    for name, unit in COLUMNS.values():
      cells.append(f"{row[name] / unit:.2f}" if row["fits"] else "-")
    fits = "" if row["fits"] else ", does not fit"
    cells += [f"{row['memory'] / 1e9:.2f}{fits}"]
    reduced = row["collectives"].get("all-reduce", (0, 0))
    cells += [_counted(reduced), _counted(row.get("overlapped"))]
    cells += [f"{row['seconds']:.0f}", ", ".join(options)]
    lines.append(" | ".join(cells))
  return "\n".join(f"| {line} |" for line in lines)


def _counted(found: Sequence[int] | None) -> str:
  return f"{found[0]}, {found[1] / 1e6:.1f}" if found else "-"


def main() -> None:
  """Compiles what is asked for and not there yet."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--parts", default=",".join(PARTS))
  parser.add_argument("--targets", default=",".join(TARGETS))
  parser.add_argument("--batch", type=int, default=8)
  parser.add_argument("--dtype", default="bfloat16")
  parser.add_argument("--options", nargs="+", default=[])
  parser.add_argument("--out", type=Path, default=OUT)
  parser.add_argument("--again", action="store_true")
  parser.add_argument("--table", action="store_true")
  asked = parser.parse_args()
  found = json.loads(asked.out.read_text()) if asked.out.exists() else {}
  wanted = [
    (part, target)
    for target in asked.targets.split(",")
    for part in asked.parts.split(",")
  ]
  for part, target in [] if asked.table else wanted:
    key = " ".join(
      [part, target, str(asked.batch), asked.dtype, *asked.options]
    )
    if key in found and not asked.again:
      continue
    began = time.perf_counter()
    program = lowered(part, target, asked.batch, asked.dtype)
    traced = time.perf_counter() - began
    options = dict(option.split("=", 1) for option in asked.options)
    found[key] = ahead.measure(program, options)._asdict() | {
      "traced": traced,
      "jax": jax.__version__,
      "libtpu": version("libtpu"),
    }
    asked.out.write_text(json.dumps(found, indent=1) + "\n")
    print(key, found[key], flush=True)
  where = f"{platform.machine()}, {os.cpu_count()} cores"
  print(f"\n{where}, jax {jax.__version__}, libtpu {version('libtpu')}\n")
  print(table(found))


if __name__ == "__main__":
  main()
