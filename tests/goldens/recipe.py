# ruff: noqa
"""Deterministic "recipe" weights and inputs for numerical parity tests.

Every tensor of an official state_dict is drawn from a pseudo-random recipe that
depends only on the tensor's official name (and an optional salt), so the same
weights can be rebuilt anywhere with NumPy alone.  The reference outputs stored
in ``goldens/`` were computed by the official PyTorch code with these weights.

Public functions
----------------
recipe_tensor(name, shape, salt="", dtype="float32")  one tensor of a state_dict
recipe_state_dict(kind, salt="", prefix=None)         a full state_dict, from keys/<kind>.json
recipe_normal(name, shape, salt="", scale=1.0)        standard normal test input
recipe_images(n, size, salt="")                       smooth images, NCHW float32 in [-1, 1]
recipe_uint8(height, width, salt="", channels=3)      one smooth image, HWC uint8
recipe_labels(height, width, n_classes, salt="")      one label map, HW uint8

``np.random.RandomState`` is used throughout: its streams are frozen across
NumPy versions.  Draws are made in float64 and cast to float32 at the end.
"""

import json
import os
import re
import zlib

import numpy as np

KEYS_DIR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "keys")

_LR_MLP = 0.01  # learning-rate multiplier of the mapping network
_FIR = np.outer([1.0, 3.0, 3.0, 1.0], [1.0, 3.0, 3.0, 1.0]) / 64.0

_PRELU = re.compile(r"(^|\.)(input_layer\.2|res_layer\.2|relu)\.weight$")
_MAPPING = re.compile(r"(^|\.)style\.\d+\.(weight|bias)$")
_EQUAL_LINEAR = re.compile(
  r"(^|\.)(linear|modulation|final_linear\.\d+)\.weight$"
)
_EQUAL_CONV = re.compile(  # StyleGAN2 image discriminator
  r"^(convs\.\d+\.(\d+|conv[12]\.\d+|skip\.\d+)|final_conv\.\d+)\.weight$"
)
_RESIDUAL = re.compile(r"\.(res_layer|shortcut_layer)\.\d+\.weight$")
_SE_OUT = re.compile(r"\.fc2\.weight$")
_LPIPS_LIN = re.compile(r"(^|\.)lin\d+\.model\.1\.weight$")


def _rng(name, salt=""):
  return np.random.RandomState(zlib.crc32((salt + name).encode("utf-8")))


def _conv_gain(name):
  """Variance gain c in N(0, c / fan_in) for ordinary (not equalised) convolutions."""
  if _RESIDUAL.search(name) or _SE_OUT.search(name) or "latlayer" in name:
    return 1.0  # IR-SE residual branches, SE gates, FPN laterals
  return 2.0


def recipe_tensor(name, shape, salt="", dtype="float32"):
  """The tensor called ``name`` (official state_dict name) with shape ``shape``."""
  shape = tuple(int(s) for s in shape)
  rng = _rng(name, salt)

  def normal(scale=1.0, shift=0.0):
    return (shift + scale * rng.standard_normal(shape)).astype(np.float32)

  if name.endswith("num_batches_tracked"):
    return np.zeros(shape, np.int64)
  if name.endswith("kernel"):  # fixed FIR buffers, not random
    up = name.endswith("blur.kernel") or name.endswith("upsample.kernel")
    return (_FIR * (4.0 if up else 1.0)).astype(np.float32)
  if name.endswith("running_mean"):
    return normal(0.1)
  if name.endswith("running_var"):
    return rng.uniform(0.8, 1.2, shape).astype(np.float32)
  if name.endswith("latent_avg"):
    return normal(0.5)
  if ".noise_" in name or name.endswith("input.input"):
    return normal()  # noise buffers, constant input
  if name.endswith("noise.weight"):
    return normal(0.1)  # noise injection strength
  if name.endswith("modulation.bias"):
    return normal(0.1, 1.0)
  if _MAPPING.search(name):
    return normal((1.0 if name.endswith("weight") else 0.1) / _LR_MLP)
  if len(shape) == 5:  # modulated convolution (1, O, I, k, k)
    return normal(0.3 if "to_rgb" in name else 1.0)
  if _EQUAL_LINEAR.search(name) or _EQUAL_CONV.search(name):
    return normal()
  if _LPIPS_LIN.search(name):
    return np.abs(normal(0.1))
  if name.endswith("bias"):
    return normal(0.1)
  if len(shape) == 4:  # ordinary convolution, OIHW
    weight = np.sqrt(
      _conv_gain(name) / np.prod(shape[1:])
    ) * rng.standard_normal(shape)
    if "encoder_q" in name:  # ResNet-50: zero-mean filters keep
      weight -= weight.mean(
        axis=(1, 2, 3), keepdims=True
      )  # features image dependent
    return weight.astype(np.float32)
  if len(shape) == 2:  # ordinary linear layer, (out, in)
    return normal(np.sqrt((2.0 if "mlp" in name else 1.0) / shape[1]))
  if _PRELU.search(name):
    return normal(0.05, 0.25)
  if len(shape) == 1 and name.endswith("weight"):  # batch normalisation scale
    return rng.uniform(0.8, 1.2, shape).astype(np.float32)
  raise KeyError("no recipe rule for %s %s" % (name, shape))


def recipe_keys(kind, keys_dir=None):
  """Ordered list of (name, shape, dtype) read from keys/<kind>.json."""
  with open(os.path.join(keys_dir or KEYS_DIR, kind + ".json")) as f:
    table = json.load(f)
  out = []
  for name, spec in table.items():
    if isinstance(spec, dict):
      out.append((name, tuple(spec["shape"]), spec["dtype"]))
    else:
      out.append((name, tuple(spec), "float32"))
  return out


def recipe_state_dict(kind, salt="", prefix=None, keys_dir=None):
  """Full official state_dict of ``kind`` as {name: numpy array}.

  With ``prefix`` (e.g. "encoder.") only the entries below it are built and the
  prefix is dropped from the returned names; the draws still use the full name.
  """
  out = {}
  for name, shape, dtype in recipe_keys(kind, keys_dir):
    if prefix is not None:
      if not name.startswith(prefix):
        continue
      out[name[len(prefix) :]] = recipe_tensor(name, shape, salt, dtype)
    else:
      out[name] = recipe_tensor(name, shape, salt, dtype)
  return out


def recipe_normal(name, shape, salt="", scale=1.0):
  """Standard normal float32 array times ``scale``."""
  return (
    scale * _rng("normal/" + name, salt).standard_normal(tuple(shape))
  ).astype(np.float32)


def _wave_field(height, width, rng, waves=6):
  y = (np.arange(height) + 0.5)[:, None] / height
  x = (np.arange(width) + 0.5)[None, :] / width
  total = np.zeros((height, width))
  weight = 0.0
  for _ in range(waves):
    fy, fx = rng.uniform(-6.0, 6.0, 2)
    phase = rng.uniform(0.0, 2.0 * np.pi)
    amp = rng.uniform(0.3, 1.0)
    total += amp * np.cos(2.0 * np.pi * (fy * y + fx * x) + phase)
    weight += amp
  return np.clip(1.6 * total / weight, -1.0, 1.0)


def recipe_images(n, size, salt="", channels=3):
  """``n`` smooth images (n, channels, H, W), float32 in [-1, 1].

  ``size`` is an int or (H, W).  Image i depends only on (salt, i, H, W).
  """
  height, width = (size, size) if np.isscalar(size) else size
  out = np.empty((n, channels, height, width), np.float32)
  for i in range(n):
    for c in range(channels):
      out[i, c] = _wave_field(height, width, _rng("image/%d/%d" % (i, c), salt))
  return out


def recipe_uint8(height, width, salt="", channels=3):
  """One smooth image (H, W, channels) in uint8."""
  planes = [
    _wave_field(height, width, _rng("uint8/%d" % c, salt))
    for c in range(channels)
  ]
  return np.rint((np.stack(planes, -1) + 1.0) * 127.5).astype(np.uint8)


def recipe_labels(height, width, n_classes, salt=""):
  """One label map (H, W), uint8 in [0, n_classes)."""
  field = (
    _wave_field(height, width, _rng("labels", salt), waves=3) + 1.0
  ) * 0.5
  return np.minimum(np.floor(field * n_classes), n_classes - 1).astype(np.uint8)
