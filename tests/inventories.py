"""Names and shapes of published checkpoints that have no golden files.

Values are zeros that take no memory. Nests of NVIDIA's pickles are as `read`
returns them.
"""

import numpy as np

ALEXNET = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3)}
ALEXNET |= {10: (256, 256, 3)}
VGG16 = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128)}
VGG16 |= {12: (256, 256), 14: (256, 256), 17: (512, 256)}
VGG16 |= dict.fromkeys((19, 21, 24, 26, 28), (512, 512))
FIRES = {3: 16, 4: 16, 6: 32, 7: 32, 9: 48, 10: 48, 11: 64, 12: 64}
TAPS = {
  "alex": (64, 192, 384, 256, 256),
  "vgg": (64, 128, 256, 512, 512),
  "squeeze": (64, 128, 256, 384, 384, 512, 512),
}


def zeros(*shape):
  return np.broadcast_to(np.float32(0), shape)


def layer(name, *shape):
  return {f"{name}.weight": zeros(*shape), f"{name}.bias": zeros(shape[0])}


def norm(name, n):
  names = ("weight", "bias", "running_mean", "running_var")
  counter = {f"{name}.num_batches_tracked": np.int64(0)}
  return {f"{name}.{k}": zeros(n) for k in names} | counter


def alexnet():
  out = {}
  for i, (o, c, k) in ALEXNET.items():
    out |= layer(f"features.{i}", o, c, k, k)
  out |= layer("classifier.1", 4096, 9216) | layer("classifier.4", 4096, 4096)
  return out | layer("classifier.6", 1000, 4096)


def vgg16():
  out = {}
  for i, (o, c) in VGG16.items():
    out |= layer(f"features.{i}", o, c, 3, 3)
  out |= layer("classifier.0", 4096, 25088) | layer("classifier.3", 4096, 4096)
  return out | layer("classifier.6", 1000, 4096)


def squeezenet():
  out, channels = layer("features.0", 64, 3, 3, 3), 64
  for i, n in FIRES.items():
    out |= layer(f"features.{i}.squeeze", n, channels, 1, 1)
    for k in (1, 3):
      out |= layer(f"features.{i}.expand{k}x{k}", 4 * n, n, k, k)
    channels = 8 * n
  return out | layer("classifier.1", 1000, 512, 1, 1)


def resnet(depths, bottleneck, prefix="", fc=("fc",)):
  """torchvision's ResNet of these depths."""
  out, width = {"conv1.weight": zeros(64, 3, 7, 7)} | norm("bn1", 64), 64
  grow = 4 if bottleneck else 1
  for s, depth in enumerate(depths):
    n = 64 << s
    for b in range(depth):
      sizes = ((n, 1), (n, 3), (4 * n, 1)) if bottleneck else ((n, 3), (n, 3))
      block, c = f"layer{s + 1}.{b}", width
      for i, (o, k) in enumerate(sizes, 1):
        out[f"{block}.conv{i}.weight"] = zeros(o, c, k, k)
        out |= norm(f"{block}.bn{i}", o)
        c = o
      if b == 0 and (s or bottleneck):
        out[f"{block}.downsample.0.weight"] = zeros(c, width, 1, 1)
        out |= norm(f"{block}.downsample.1", c)
      width = grow * n
  for name in fc:
    out |= layer(name, 1000, width)
  return {prefix + k: v for k, v in out.items()}


def iresnet():
  """InsightFace's iresnet34, whose names are much like ResNet-34's."""
  out = resnet((3, 4, 6, 3), False, fc=("fc", "features"))
  for name in [name for name in out if name.endswith("conv1.weight")]:
    out[name.replace("conv1", "prelu")] = zeros(64)
  return out


def moco(prefix="module."):
  depths, fc = (3, 4, 6, 3), ("fc.0", "fc.2")
  out = resnet(depths, True, f"{prefix}encoder_q.", fc)
  out |= resnet(depths, True, f"{prefix}encoder_k.", fc)
  state = out | {f"{prefix}queue": zeros(128, 65536)}
  return {
    "epoch": 800,
    "arch": "resnet50",
    "state_dict": state,
    "optimizer": {},
  }


def inception(classes=1008):
  """FID's network, whose names are those of torchvision's."""
  out = {"Conv2d_1a_3x3.conv.weight": zeros(32, 3, 3, 3)}
  out |= norm("Conv2d_1a_3x3.bn", 32)
  out["Mixed_7c.branch_pool.conv.weight"] = zeros(192, 2048, 1, 1)
  return out | layer("fc", classes, 2048)


def lpips(net):
  """The linear layers of LPIPS."""
  heads = enumerate(TAPS[net])
  return {f"lin{i}.model.1.weight": zeros(1, n, 1, 1) for i, n in heads}


def ada_generator():
  """The state_dict of a generator of stylegan2-ada-pytorch, 16 x 16."""
  out = {"synthesis.b4.const": zeros(512, 4, 4), "mapping.w_avg": zeros(512)}
  for r in (4, 8, 16):
    block = f"synthesis.b{r}"
    out[f"{block}.resample_filter"] = zeros(4, 4)
    for name in ("conv0", "conv1", "torgb")[r == 4 :]:
      out |= layer(f"{block}.{name}", 512, 512, 3, 3)
      out |= layer(f"{block}.{name}.affine", 512, 512)
      if name != "torgb":
        out[f"{block}.{name}.noise_const"] = zeros(r, r)
  return out | layer("mapping.fc0", 512, 512) | layer("mapping.fc1", 512, 512)


def ada_discriminator():
  """The state_dict of a discriminator of stylegan2-ada-pytorch, 16 x 16."""
  out = layer("b16.fromrgb", 512, 3, 1, 1)
  for r in (16, 8):
    for name in ("conv0", "conv1", "skip"):
      out |= layer(f"b{r}.{name}", 512, 512, 3, 3)
  out |= layer("b4.conv", 512, 513, 3, 3) | layer("b4.fc", 512, 8192)
  return out | layer("b4.out", 1, 512)


def nvidia(name, modules=None, **state):
  """A persistent object of NVIDIA's PyTorch code."""
  nest = {"_parameters": {}, "_buffers": {}, "_modules": modules or {}}
  return {"class": name, "state": nest | state}


def nvidia_pickle(**block):
  """A file of a StyleGAN2 generator and discriminator; `block` its state."""
  made = nvidia("SynthesisBlock", resolution=4, **block)
  synthesis = nvidia("SynthesisNetwork", {"b4": made, "b8": made})
  modules = {"synthesis": synthesis, "mapping": nvidia("MappingNetwork")}
  generator = nvidia("Generator", modules, c_dim=0)
  blocks = {"b8": nvidia("DiscriminatorBlock"), "b4": nvidia("Epilogue")}
  discriminator = nvidia("Discriminator", blocks, c_dim=0)
  nets = {"G": generator, "D": discriminator, "G_ema": generator}
  return nets | {"training_set_kwargs": None, "augment_pipe": None}


def stylegan3_pickle():
  inside = {"input": nvidia("SynthesisInput"), "L0_36_512": nvidia("Layer")}
  modules = {"synthesis": nvidia("SynthesisNetwork", inside)}
  return {"G": None, "D": None, "G_ema": nvidia("Generator", modules)}


def tf_variables():
  """Generator variables of NVIDIA's TensorFlow code."""
  out = {"dlatent_avg": zeros(512), "lod": zeros()}
  out["synthesis/4x4/Const/const"] = zeros(1, 512, 4, 4)
  for name in ("4x4/Conv", "8x8/Conv0_up", "8x8/Conv1"):
    out[f"synthesis/{name}/weight"] = zeros(3, 3, 512, 512)
    out[f"synthesis/{name}/mod_weight"] = zeros(512, 512)
  return out | {"mapping/Dense0/weight": zeros(512, 512)}


def tf_pickle():
  """The tuple (G, D, Gs) of NVIDIA's TensorFlow code."""

  def network(**components):
    state = {"version": 4, "name": "G", "static_kwargs": {}}
    state |= {"components": components, "variables": []}
    return {"class": "Network", "state": state}

  full = network(synthesis=network(), mapping=network())
  return full, network(), full
