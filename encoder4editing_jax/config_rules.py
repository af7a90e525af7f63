"""What a training config may say: ranges, and what fits together.

Standard library only, and nothing of `config`, which asks this file.
"""

import math
from collections.abc import Iterator
from typing import Any

from encoder4editing_jax.config_types import mistyped

FACEWORLD = "faceworld"
STAGED_ENCODERS = (
  "Encoder4Editing",
  "ProgressiveBackboneEncoder",
  "ResNetProgressiveBackboneEncoder",
)
DEPTHS = (10, 18, 34, 50, 100, 152)
RESNET_DEPTHS = (10, 18, 34)
NEEDS_SOURCE = ("sketch", "segmentation")  # tasks whose sources are files
TAKES_SOURCE = (*NEEDS_SOURCE, "frontalization")
LEAST_LPIPS = 32  # pixels, for AlexNet's pools
MOST_LABELS = 256  # ids are bytes

# The least value of a number.
LEAST = {
  "data": {"workers": 1, "rendered_images": 1, "eval_images": 0, "labels": 1}
  | {"max_megapixels": 0, "read_timeout": 1},
  "loss": dict.fromkeys(
    (
      "l2",
      "lpips",
      "identity",
      "moco",
      "l2_crop",
      "lpips_crop",
      "w_norm",
      "delta",
      "adversarial",
    ),
    0,
  )
  | {"delta_norm": 1},
  "optim": {"lr": 0, "warmup": 0, "ema": 0},
  "discriminator": dict.fromkeys(("lr", "r1", "pool"), 0)
  | dict.fromkeys(("hidden", "n_layers", "r1_every"), 1),
  "progressive": {"every": 1},
  "run": dict.fromkeys(
    (
      "steps",
      "batch_size",
      "log_every",
      "eval_every",
      "save_every",
      "most_skipped",
      "keep",
      "microbatches",
      "profile_after",  # the first step compiles
    ),
    1,
  )
  | dict.fromkeys(("seed", "keep_best", "keep_pictures", "profile_steps"), 0),
  "model": {"refinements": 0},
}


def problems(config: Any) -> list[str]:
  """One line for each thing that is wrong with a config, with its fix.

  Values of the wrong type are told alone: the other rules would trip over
  them.
  """
  told = list(mistyped(config))
  return told or [text for bad, text in _rules(config) if bad]


def _rules(c: Any) -> Iterator[tuple[bool, str]]:
  """Pairs of a test that is true when something is wrong, and the words."""
  for section, limits in LEAST.items():
    for name, least in limits.items():
      value = getattr(getattr(c, section), name)
      if math.isinf(value):
        yield True, f"{section}.{name} is {value}; set it to a finite number."
      text = f"{section}.{name} is {value}; set it to {least} or more."
      yield not value >= least, text  # also true for NaN
  strength = c.run.edit_strength
  bad = not math.isfinite(strength)
  yield bad, f"run.edit_strength is {strength}; set it to a finite number."
  h, w = c.data.size
  yield not c.data.train, f"data.train is empty; name a folder or {FACEWORLD}."
  yield min(h, w) < 16, f"data.size is {h} x {w}; set both to 16 or more."
  yield from _encoder_rules(c)
  bad = len(c.model.channels) != 4 or min(c.model.channels, default=0) < 1
  yield bad, f"model.channels is {c.model.channels}; give four, 1 or more each."
  clip = c.optim.clip_norm
  bad = clip is not None and not clip > 0
  yield bad, f"optim.clip_norm is {clip}; set it above 0, or to None."
  bad = c.optim.ema >= 1
  yield (
    bad,
    f"optim.ema is {c.optim.ema}; set it below 1, as in 0.999, or to 0.",
  )
  run = c.run
  yield (
    run.profile_steps > 0 and run.profile_after >= run.steps,
    f"run.profile_after is {run.profile_after}, but the run ends at step "
    f"{run.steps}; set it below.",
  )
  yield from _task_rules(c.data)
  yield from _loss_rules(c)
  yield from _progressive_rules(c)


def _encoder_rules(c: Any) -> Iterator[tuple[bool, str]]:
  """The same for the encoder."""
  encoder, layers, n = c.model.encoder, c.model.num_layers, c.model.refinements
  depths = RESNET_DEPTHS if encoder.startswith("ResNet") else DEPTHS
  yield (
    layers is not None and layers not in depths,
    f"model.num_layers is {layers}; for {encoder} use one of "
    f"{', '.join(map(str, depths))}, or None.",
  )
  yield (
    ("Backbone" in encoder or "ResNet" in encoder) and not n,
    f"model.encoder {encoder} is ReStyle's, which betters its own "
    "reconstruction; set model.refinements to 1 or more (published: 5).",
  )
  yield (
    n > 0 and c.model.train_decoder,
    f"model.refinements is {n}, and starts from a picture that "
    "model.train_decoder changes; set one of them to 0 or False.",
  )
  yield (
    n > 0 and c.data.task in NEEDS_SOURCE,
    f"model.refinements is {n}, but a {c.data.task} cannot be compared with a "
    "reconstruction; set it to 0.",
  )


def is_progressive(progressive: Any) -> bool:
  """Whether styles wake one by one."""
  return progressive.start is not None or bool(progressive.steps)


def _loss_rules(c: Any) -> Iterator[tuple[bool, str]]:
  loss, least = c.loss, min(c.data.size)
  always = ("l2", "lpips", "identity", "moco", "l2_crop", "lpips_crop")
  terms = [getattr(loss, name) for name in (*always, "adversarial")]
  terms.append(loss.delta and is_progressive(c.progressive))
  yield not any(terms), "no term of the loss is on; set loss.l2 to 1."
  yield (
    loss.identity > 0 and loss.moco > 0,
    "loss.identity and loss.moco are both on, and are alternatives; set "
    "loss.moco to 0 for faces, loss.identity to 0 for other pictures.",
  )
  for name, side in (
    ("lpips", least),
    ("lpips_crop", round(least * 188 / 256)),
  ):
    yield (
      getattr(loss, name) > 0 and side < LEAST_LPIPS,
      f"loss.{name} compares pictures of {side} pixels here, and needs "
      f"{LEAST_LPIPS}; set it to 0, or enlarge data.size.",
    )


def _progressive_rules(c: Any) -> Iterator[tuple[bool, str]]:
  progressive, start = c.progressive, c.progressive.start
  early = start is not None and start < 1
  yield early, f"progressive.start is {start}; set it to 1 or more, or None."
  steps = progressive.steps
  yield (
    bool(steps) and (steps[0] != 0 or list(steps) != sorted(steps)),
    f"progressive.steps is {steps}; begin with 0, and let no step be smaller "
    "than the one before it.",
  )
  yield (
    bool(steps) and start is not None,
    "progressive.start and progressive.steps are both set; set start to None "
    "or steps to ().",
  )
  name = "start" if start is not None else "steps"
  yield (
    is_progressive(progressive) and c.model.encoder not in STAGED_ENCODERS,
    f"progressive.{name} is set, but {c.model.encoder} has no stages; use "
    f"model.encoder {' or '.join(STAGED_ENCODERS)}, or progressive.start None.",
  )


def largest_factor(side: int) -> int:
  """The largest factor by which super-resolution shrinks a side of an image:
  its widest kernels reach over the border, into a reflection."""
  return 2 * (side - 1) // 3


def _task_rules(data: Any) -> Iterator[tuple[bool, str]]:
  """The same for the task."""
  task, labels, factors = data.task, data.labels, data.resize_factors
  yield (
    labels > MOST_LABELS,
    f"data.labels is {labels}; set it to {MOST_LABELS} or less.",
  )
  most = largest_factor(min(data.size))
  bad = not factors or not all(1 <= f <= most for f in factors)
  yield (
    task == "super_resolution" and bad,
    f"data.resize_factors is {factors}; give one or more from 1 to {most} (for "
    "images of this data.size).",
  )
  yield (
    task == "frontalization" and not data.flip and not data.source,
    "the task frontalization without data.flip shows the encoder what it is to "
    "paint; leave data.flip on, or name other pictures in data.source.",
  )
  for place, split in (("train", "split"), ("eval", "eval_split")):
    yield (
      bool(getattr(data, split)) and getattr(data, place) in ("", FACEWORLD),
      f"data.{split} is set, but data.{place} names no data set; leave it "
      "empty.",
    )
  if task in TAKES_SOURCE:
    yield from _source_rules(data)
  else:
    yield (
      bool(data.source or data.eval_source),
      f"the task {task} makes its sources itself; leave data.source and "
      "data.eval_source empty.",
    )


def _source_rules(data: Any) -> Iterator[tuple[bool, str]]:
  """The same for the folders of sources."""
  task, source, rendered = data.task, data.source, data.train == FACEWORLD
  yield (
    task in NEEDS_SOURCE and not source and not rendered,
    f"data.task is {task}, but data.source is empty; name the folder of what "
    "the encoder is shown.",
  )
  yield (
    bool(source) and rendered,
    f"data.train is {FACEWORLD}, which draws its own sources; leave "
    "data.source empty.",
  )
  apart = bool(data.eval) and data.eval != FACEWORLD
  wanted = apart and bool(source or task in NEEDS_SOURCE)
  yield (
    wanted and not data.eval_source,
    "data.eval is a folder of its own, and data.eval_source is empty; name the "
    "folder of its sources.",
  )
  yield (
    bool(data.eval_source) and not wanted,
    "data.eval_source is set without a folder in data.eval that needs it; "
    "leave it empty.",
  )
