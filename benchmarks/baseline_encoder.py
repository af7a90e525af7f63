"""The encoder as the originals run it, operation by operation, in PyTorch.

Written from the papers (pSp 2008.00951, e4e 2102.02766), as `baseline` is the
generator: the heads run one after another.
"""

from itertools import accumulate

import torch
from baseline import EqualLinear
from torch import Tensor, nn
from torch.nn import functional as F

UNITS = {10: (1, 1, 1, 1), 50: (3, 4, 14, 3)}
CHANNELS = (64, 128, 256, 512)
FIRST_MIDDLE, FIRST_FINE = 3, 7


class Gate(nn.Module):
  """Squeeze and excitation."""

  def __init__(self, c: int):
    super().__init__()
    self.fc1 = nn.Conv2d(c, max(c // 16, 1), 1, bias=False)
    self.fc2 = nn.Conv2d(max(c // 16, 1), c, 1, bias=False)

  def forward(self, x: Tensor) -> Tensor:
    gate = F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))
    return x * torch.sigmoid(self.fc2(gate))


class Unit(nn.Module):
  """IR-SE bottleneck."""

  def __init__(self, i: int, o: int, stride: int):
    super().__init__()
    self.shortcut_layer = nn.MaxPool2d(1, stride)
    if i != o:
      conv = nn.Conv2d(i, o, 1, stride, bias=False)
      self.shortcut_layer = nn.Sequential(conv, nn.BatchNorm2d(o))
    self.res_layer = nn.Sequential(
      nn.BatchNorm2d(i),
      nn.Conv2d(i, o, 3, 1, 1, bias=False),
      nn.PReLU(o),
      nn.Conv2d(o, o, 3, stride, 1, bias=False),
      nn.BatchNorm2d(o),
      Gate(o),
    )

  def forward(self, x: Tensor) -> Tensor:
    return self.res_layer(x) + self.shortcut_layer(x)


class Body(nn.Module):
  """IR-SE, giving the maps after the last three stages."""

  def __init__(self, layers: int = 50, channels: tuple[int, ...] = CHANNELS):
    super().__init__()
    width = channels[0]
    first = nn.Conv2d(3, width, 3, 1, 1, bias=False)
    self.input_layer = nn.Sequential(
      first, nn.BatchNorm2d(width), nn.PReLU(width)
    )
    self.body = nn.Sequential()
    for depth, o in zip(UNITS[layers], channels, strict=True):
      for k in range(depth):
        self.body.append(Unit(width, o, 1 if k else 2))
        width = o
    self.taps = [n - 1 for n in accumulate(UNITS[layers])][1:]

  def maps(self, x: Tensor) -> list[Tensor]:
    x, found = self.input_layer(x), []
    for k, unit in enumerate(self.body):
      x = unit(x)
      if k in self.taps:
        found.append(x)
    return found


class Head(nn.Module):
  """Convolutions of stride 2 down to one pixel, and a linear layer."""

  def __init__(self, c: int, d: int, side: int):
    super().__init__()
    self.convs = nn.Sequential()
    for _ in range(max((side - 1).bit_length(), 1)):
      self.convs.append(nn.Conv2d(c, d, 3, 2, 1))
      self.convs.append(nn.LeakyReLU())
      c = d
    self.linear = EqualLinear(d, d)

  def forward(self, x: Tensor) -> Tensor:
    return self.linear(self.convs(x).reshape(len(x), -1))


def enlarge_add(x: Tensor, y: Tensor) -> Tensor:
  """x enlarged to the size of y, corners on corners, and y."""
  size = y.shape[2:]
  x = F.interpolate(x, size=size, mode="bilinear", align_corners=True)
  return x + y


class Encoder(Body):
  """Encoder4Editing: the heads one after another."""

  def __init__(
    self, n: int, size: int = 256, d: int = 512, layers=50, channels=CHANNELS
  ):
    super().__init__(layers, channels)
    c1, c2, c3 = channels[1:]
    reductions = [16 if k < 3 else 8 if k < 7 else 4 for k in range(n)]
    self.styles = nn.ModuleList(Head(c3, d, size // r) for r in reductions)
    self.latlayer1, self.latlayer2 = nn.Conv2d(c2, c3, 1), nn.Conv2d(c1, c3, 1)

  def forward(self, x: Tensor, stage: int | None = None) -> Tensor:
    c1, c2, c3 = self.maps(x)
    n = len(self.styles)
    w = self.styles[0](c3).repeat(n, 1, 1).permute(1, 0, 2).clone()
    features = c3
    for k in range(1, n if stage is None else min(stage + 1, n)):
      if k == FIRST_MIDDLE:
        features = p2 = enlarge_add(c3, self.latlayer1(c2))
      elif k == FIRST_FINE:
        features = enlarge_add(p2, self.latlayer2(c1))
      w[:, k] += self.styles[k](features)
    return w
