"""The generator as the originals run it, operation by operation, in PyTorch.

Written from the paper (StyleGAN2, 1912.04958), to be measured against: maps `[b
c h w]`, one kernel per sample and a grouped convolution for modulation, a
transposed convolution and then the FIR filter by padding and a convolution, as
without compiled extensions. Tensors have the published names, so that
`converters.from_inverter` fills them.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE, GAIN = 0.2, math.sqrt(2)
DEPTHWISE = False


def upfirdn2d(
  x: Tensor, kernel: Tensor, up: int = 1, pad: tuple[int, int] = (0, 0)
) -> Tensor:
  """Zeros inserted, padded, filtered: three passes over the map.

  The filter is one of a single channel, for which maps are so many samples.
  With `DEPTHWISE` it is a grouped convolution, which is faster on CPUs.
  """
  b, c, h, w = x.shape
  if up > 1:
    x = F.pad(x.reshape(b, c, h, 1, w, 1), (0, up - 1, 0, 0, 0, up - 1))
    x = x.reshape(b, c, h * up, w * up)
  x = F.pad(x, (*pad, *pad))
  kernel = kernel.flip(0, 1)[None, None]
  if DEPTHWISE:
    return F.conv2d(x, kernel.expand(c, -1, -1, -1), groups=c)
  x = F.conv2d(x.reshape(b * c, 1, *x.shape[2:]), kernel)
  return x.reshape(b, c, *x.shape[2:])


class Fir(nn.Module):
  """The filter `[1 3 3 1]` with gain 4."""

  def __init__(self, up: int, pad: tuple[int, int]):
    super().__init__()
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    self.register_buffer("kernel", taps.outer(taps) / 16)
    self.up, self.pad = up, pad

  def forward(self, x: Tensor) -> Tensor:
    return upfirdn2d(x, self.kernel, self.up, self.pad)


def fused_leaky_relu(x: Tensor, bias: Tensor) -> Tensor:
  """Bias, leaky ReLU, gain: three passes."""
  bias = bias.reshape(1, -1, *[1] * (x.ndim - 2))
  return F.leaky_relu(x + bias, SLOPE) * GAIN


class EqualLinear(nn.Module):
  """Equalised learning rate."""

  def __init__(
    self, i: int, o: int, lr_mul: float = 1.0, bias: float = 0.0, act=False
  ):
    super().__init__()
    self.weight = nn.Parameter(torch.randn(o, i) / lr_mul)
    self.bias = nn.Parameter(torch.full((o,), bias))
    self.lr_mul, self.act = lr_mul, act

  def forward(self, x: Tensor) -> Tensor:
    scale = self.lr_mul / math.sqrt(x.shape[-1])
    bias = self.bias * self.lr_mul
    if self.act:
      return fused_leaky_relu(F.linear(x, self.weight * scale), bias)
    return F.linear(x, self.weight * scale, bias)


class ModulatedConv2d(nn.Module):
  """One kernel per sample, all samples as groups of one convolution."""

  def __init__(
    self, i: int, o: int, k: int, d: int, demodulate=True, up: bool = False
  ):
    super().__init__()
    self.weight = nn.Parameter(torch.randn(1, o, i, k, k))
    self.modulation = EqualLinear(d, i, bias=1.0)
    self.demodulate, self.up = demodulate, up
    if up:
      self.blur = Fir(1, (1, 1))

  def forward(self, x: Tensor, style: Tensor) -> Tensor:
    b, i, h, w = x.shape
    _, o, _, k, _ = self.weight.shape
    style = self.modulation(style).reshape(b, 1, i, 1, 1)
    kernel = self.weight / math.sqrt(i * k * k) * style
    if self.demodulate:
      gain = torch.rsqrt(kernel.pow(2).sum([2, 3, 4]) + 1e-8)
      kernel = kernel * gain.reshape(b, o, 1, 1, 1)
    x = x.reshape(1, b * i, h, w)
    if self.up:
      kernel = kernel.transpose(1, 2).reshape(b * i, o, k, k)
      x = F.conv_transpose2d(x, kernel, stride=2, groups=b)
      return self.blur(x.reshape(b, o, *x.shape[2:]))
    kernel = kernel.reshape(b * o, i, k, k)
    x = F.conv2d(x, kernel, padding=k // 2, groups=b)
    return x.reshape(b, o, h, w)


class Noise(nn.Module):
  """Adds noise, with one strength for the layer."""

  def __init__(self):
    super().__init__()
    self.weight = nn.Parameter(torch.zeros(1))

  def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
    if noise is None:
      noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device)
    return x + self.weight * noise


class Activate(nn.Module):
  """Bias, leaky ReLU, gain."""

  def __init__(self, features: int):
    super().__init__()
    self.bias = nn.Parameter(torch.zeros(features))

  def forward(self, x: Tensor) -> Tensor:
    return fused_leaky_relu(x, self.bias)


class StyledConv(nn.Module):
  """Modulated convolution, noise, activation."""

  def __init__(self, i: int, o: int, d: int, up: bool = False):
    super().__init__()
    self.conv = ModulatedConv2d(i, o, 3, d, up=up)
    self.noise, self.activate = Noise(), Activate(o)

  def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
    return self.activate(self.noise(self.conv(x, style), noise))


class ToRGB(nn.Module):
  """To colours, on top of the enlarged skip."""

  def __init__(self, i: int, d: int, upsample: bool = True):
    super().__init__()
    self.conv = ModulatedConv2d(i, 3, 1, d, demodulate=False)
    self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
    if upsample:
      self.upsample = Fir(2, (2, 1))

  def forward(self, x: Tensor, style: Tensor, skip: Tensor | None) -> Tensor:
    x = self.conv(x, style) + self.bias
    return x if skip is None else x + self.upsample(skip)


class PixelNorm(nn.Module):
  """To unit mean square."""

  def forward(self, x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-8)


class Constant(nn.Module):
  """The learned input."""

  def __init__(self, c: int):
    super().__init__()
    self.input = nn.Parameter(torch.randn(1, c, 4, 4))


class Generator(nn.Module):
  """StyleGAN2 in the skip architecture; `style` is the mapping network."""

  def __init__(
    self, size: int, base: int = 32768, most: int = 512, d: int = 512, n_mlp=8
  ):
    super().__init__()
    widths = [min(base >> k, most) for k in range(2, size.bit_length())]
    mlp = (EqualLinear(d, d, 0.01, act=True) for _ in range(n_mlp))
    self.style = nn.Sequential(PixelNorm(), *mlp)
    self.input = Constant(widths[0])
    self.conv1 = StyledConv(widths[0], widths[0], d)
    self.to_rgb1 = ToRGB(widths[0], d, upsample=False)
    self.convs, self.to_rgbs = nn.ModuleList(), nn.ModuleList()
    self.noises = nn.Module()
    self.noises.register_buffer("noise_0", torch.randn(1, 1, 4, 4))
    for k, (i, o) in enumerate(pairwise(widths)):
      self.convs.append(StyledConv(i, o, d, up=True))
      self.convs.append(StyledConv(o, o, d))
      self.to_rgbs.append(ToRGB(o, d))
      for j in (2 * k + 1, 2 * k + 2):
        noise = torch.randn(1, 1, 8 << k, 8 << k)
        self.noises.register_buffer(f"noise_{j}", noise)
    self.n_styles = 2 * len(widths)

  def forward(self, w_plus: Tensor, random_noise: bool = False) -> Tensor:
    noise = [None] * (self.n_styles - 1)
    if not random_noise:
      noise = [getattr(self.noises, f"noise_{i}") for i in range(len(noise))]
    x = self.input.input.repeat(len(w_plus), 1, 1, 1)
    x = self.conv1(x, w_plus[:, 0], noise[0])
    skip = self.to_rgb1(x, w_plus[:, 1], None)
    for k, to_rgb in enumerate(self.to_rgbs):
      for j in (2 * k + 1, 2 * k + 2):
        x = self.convs[j - 1](x, w_plus[:, j], noise[j])
      skip = to_rgb(x, w_plus[:, 2 * k + 3], skip)
    return skip
