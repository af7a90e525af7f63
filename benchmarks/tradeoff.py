"""Distortion against editability: e4e and pSp with the same budget.

    python benchmarks/tradeoff.py [--steps 300] [--seeds 0 1] [--folder DIR]

Trains `configs/toy.py` (e4e) and `configs/toy_psp.py` (pSp) for each seed, with
the generator, data and number of steps the same, and measures them on the same
held-out faces. The third method knows the faces' true codes: what the generator
and the measuring allow. Runs and measurements that are finished are read, so
the command goes on where it was cut off. Fills the tables of docs/tradeoff.md
and draws docs/tradeoff.png.
"""

import argparse
import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scatter import Panel, draw

import encoder4editing_jax as e4e
from encoder4editing_jax import editing, faceworld
from encoder4editing_jax.metrics import editability, pixels

ROOT = Path(__file__).parents[1]
CARDS = {"e4e": "toy", "pSp": "toy_psp"}
TRUE = "true codes"
FACES, SEED = 256, 1_000_003  # those of the toys' own evaluations
STRENGTHS = (-1.5, -0.75, 0.0, 0.75, 1.5)  # standard deviations of attributes
DEVIATION = 3**-0.5  # attributes are uniform on [-1, 1]
BEGIN, END = "<!-- tables -->\n", "<!-- /tables -->"
COLUMNS = {
  "psnr": ("PSNR dB", ".2f"),
  "l2": ("L2", ".4f"),
  "moved": ("moved", ".3f"),
  "disturbed": ("disturbed", ".3f"),
  "ratio": ("moved / disturbed", ".2f"),
  "monotone": ("monotone", ".3f"),
  "edited_psnr": ("PSNR of edits dB", ".2f"),
  "lec": ("LEC", ".3f"),
  "spread": ("spread of styles", ".3f"),
}
Decode = Callable[[jax.Array], jax.Array]


def train(method: str, seed: int, steps: int, folder: Path) -> Path:
  """The folder of a run that has ended."""
  card = CARDS[method]
  workdir = folder / str(steps) / f"{card}-{seed}"
  results = workdir / "eval.json"
  if results.exists() and json.loads(results.read_text())["step"] == steps:
    return workdir
  command = [sys.executable, str(ROOT / "train.py")]
  command += ["--config", str(ROOT / "configs" / f"{card}.py")]
  command += ["--workdir", str(workdir), "--run.seed", str(seed)]
  subprocess.run([*command, "--run.steps", str(steps)], check=True)
  return workdir


@functools.cache
def faces() -> tuple[jax.Array, jax.Array, jax.Array]:
  """Held-out faces, their attributes and their codes z."""
  return faceworld.sample(SEED, FACES)


@functools.cache
def edited_face(attribute: int, strength: float) -> jax.Array:
  """The faces as they would be drawn with one attribute moved."""
  _, truth, _ = faces()
  step = jnp.zeros_like(truth).at[:, attribute].set(strength * DEVIATION)
  return faceworld.render(jnp.clip(truth + step, -1, 1))


def in_batches(function: Callable, inputs: jax.Array) -> jax.Array:
  """`function`, compiled, of 64 examples at a time."""
  size = 64
  parts = [function(inputs[i : i + size]) for i in range(0, len(inputs), size)]
  return jnp.concatenate(parts)


def measure_edits(w_plus: jax.Array, decode: Decode) -> dict[str, list[float]]:
  """For each attribute, what its direction does; means over the faces."""
  measure = jax.jit(faceworld.measure)
  directions = faceworld.load_directions()
  found: dict[str, list[float]] = {}
  for k, name in enumerate(faceworld.ATTRIBUTES):
    series, errors = [], []
    for strength in STRENGTHS:
      images = decode(editing.move(w_plus, directions[name], strength))
      series.append(measure(images))
      if abs(strength) == max(STRENGTHS):
        errors.append(pixels.psnr(images, edited_face(k, strength)).mean())
    moved, disturbed = editability.effect(series[0], series[-1], k)
    rising = editability.rises(jnp.stack(series)[:, :, k])
    row = {
      "moved": moved.mean(),
      "disturbed": disturbed.mean(),
      "monotone": rising.mean(),
      "edited_psnr": jnp.stack(errors).mean(),
    }
    for key, value in row.items():
      found.setdefault(key, []).append(float(value))
  return found


def summarize(
  w_plus: jax.Array, decode: Decode, encode: Callable | None
) -> dict:
  """All numbers of one method; those of each attribute under `edits`."""
  images, _, _ = faces()
  output = decode(w_plus)
  edits = measure_edits(w_plus, decode)
  found = {name: float(np.mean(value)) for name, value in edits.items()}
  found |= {
    "psnr": float(pixels.psnr(output, images).mean()),
    "l2": float(jnp.square(output - images).mean()),
    "ratio": found["moved"] / found["disturbed"],
    "spread": float(editability.spread(w_plus).mean()),
  }
  if encode is not None:
    found["lec"] = float(np.mean(consistency(encode, decode)))
  return found | {"edits": edits}


def consistency(encode: Callable, decode: Decode) -> list[float]:
  """LEC of each direction at the largest strength."""
  images, _, _ = faces()
  found = []
  for direction in faceworld.load_directions().values():
    step = max(STRENGTHS) * direction
    distances = editability.lec_distances(
      encode,
      lambda w, sign, step=step: editing.move(w, step, sign),
      decode,
      images,
    )
    found.append(editability.lec(distances))
  return found


def measure_run(workdir: Path) -> dict:
  """The numbers of a trained encoder; kept in its folder."""
  path = workdir / "tradeoff.json"
  if not path.exists():
    graph, state = nnx.split(e4e.load(workdir / "inverter.safetensors"))
    encoder = jax.jit(lambda s, x: nnx.merge(graph, s).encode(x))
    decoder = jax.jit(lambda s, w: nnx.merge(graph, s).decode(w))
    encode = functools.partial(in_batches, functools.partial(encoder, state))
    decode = functools.partial(in_batches, functools.partial(decoder, state))
    found = summarize(encode(faces()[0]), decode, encode)
    path.write_text(json.dumps(found, indent=1))
  return json.loads(path.read_text())


def measure_truth(folder: Path) -> dict:
  """The numbers of the codes that the faces were drawn from."""
  path = folder / "true_codes.json"
  if not path.exists():
    graph, state = nnx.split(faceworld.load_generator())
    w = faceworld.load_generator().mapping(faces()[2])
    decoder = jax.jit(lambda s, w: nnx.merge(graph, s).synthesis(w))
    decode = functools.partial(in_batches, functools.partial(decoder, state))
    w_plus = jnp.repeat(w[:, None], faceworld.load_generator().n_styles, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(summarize(w_plus, decode, None), indent=1))
  return json.loads(path.read_text())


def table(rows: dict[tuple[str, str], dict]) -> str:
  """The numbers of each run, a line each."""
  titles = ["method", "seed", *(title for title, _ in COLUMNS.values())]
  lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
  for labels, found in rows.items():
    cells = [
      format(found[k], form) if k in found else "-"
      for k, (_, form) in COLUMNS.items()
    ]
    lines.append("| " + " | ".join((*labels, *cells)) + " |")
  return "\n".join(lines)


def table_of_edits(rows: dict[tuple[str, str], dict]) -> str:
  """Each direction's effect by method, means over the seeds."""
  methods = list(dict.fromkeys(method for method, _ in rows))
  titles = " | ".join(f"{m}: moved | disturbed" for m in methods)
  lines = [f"| direction | {titles} |", "|---" * (1 + 2 * len(methods)) + "|"]
  for k, name in enumerate(faceworld.ATTRIBUTES):
    cells = []
    for method in methods:
      edits = [v["edits"] for (m, _), v in rows.items() if m == method]
      for key in ("moved", "disturbed"):
        cells.append(f"{np.mean([found[key][k] for found in edits]):.2f}")
    lines.append("| " + " | ".join((name, *cells)) + " |")
  return "\n".join(lines)


def write(rows: dict[tuple[str, str], dict], steps: int) -> None:
  """The tables and the picture in docs/."""
  page = ROOT / "docs" / "tradeoff.md"
  before, _, rest = page.read_text().partition(BEGIN)
  _, _, after = rest.partition(END)
  text = f"{steps} steps:\n\n{table(rows)}\n\n{table_of_edits(rows)}\n"
  page.write_text(f"{before}{BEGIN}{text}{END}{after}")
  points = {
    key: [(m, v["psnr"], v[key]) for (m, _), v in rows.items() if key in v]
    for key in ("ratio", "edited_psnr", "lec")
  }
  panels = [
    Panel("PSNR dB (better: right)", f"{COLUMNS[k][0]} (better: {way})", p)
    for (k, p), way in zip(points.items(), ("up", "up", "down"), strict=True)
  ]
  draw(ROOT / "docs" / "tradeoff.png", panels)


def main() -> None:
  """The command."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--steps", type=int, default=300)
  parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
  parser.add_argument("--folder", type=Path, default=ROOT / "runs/tradeoff")
  options = parser.parse_args()
  rows = {(TRUE, "-"): measure_truth(options.folder)}
  for method in CARDS:
    for seed in options.seeds:
      workdir = train(method, seed, options.steps, options.folder)
      rows[method, str(seed)] = measure_run(workdir)
      print(workdir, {k: v for k, v in rows[method, str(seed)].items()})
  write(rows, options.steps)


if __name__ == "__main__":
  main()
