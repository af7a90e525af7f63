"""The training step of e4e as the original takes it, in plain PyTorch.

Two passes of the encoder over a batch (one for the discriminator, without
gradients), losses through AlexNet (LPIPS) and ArcFace (three pictures), Ranger
tensor by tensor. Written from the papers: e4e 2102.02766, LPIPS 1801.03924,
ArcFace 1801.07698, Ranger's parts 1908.03265, 1907.08610, 2004.01461.
"""

import itertools
import math
import random

import baseline
import baseline_encoder
import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROWS, COLUMNS = (35, 223), (32, 220)  # of the face, in 256


class Lpips(nn.Module):
  """AlexNet up to its fifth map, and the weights of their differences."""

  taps = (1, 4, 7, 9, 11)
  widths = (64, 192, 384, 256, 256)

  def __init__(self):
    super().__init__()
    shift = torch.tensor([-0.030, -0.088, -0.188])
    scale = torch.tensor([0.458, 0.448, 0.450])
    self.register_buffer("shift", shift.reshape(1, 3, 1, 1), persistent=False)
    self.register_buffer("scale", scale.reshape(1, 3, 1, 1), persistent=False)
    a, b, c, d, e = self.widths
    self.features = nn.Sequential(
      *(nn.Conv2d(3, a, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
      *(nn.Conv2d(a, b, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
      *(nn.Conv2d(b, c, 3, 1, 1), nn.ReLU()),
      *(nn.Conv2d(c, d, 3, 1, 1), nn.ReLU()),
      *(nn.Conv2d(d, e, 3, 1, 1), nn.ReLU()),
    )
    for k, width in enumerate(self.widths):
      lin = nn.Module()
      conv = nn.Conv2d(width, 1, 1, bias=False)
      lin.model = nn.Sequential(nn.Dropout(), conv)
      self.add_module(f"lin{k}", lin)

  def maps(self, x: Tensor) -> list[Tensor]:
    x, found = (x - self.shift) / self.scale, []
    for k, layer in enumerate(self.features):
      x = layer(x)
      if k in self.taps:
        found.append(x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10))
    return found

  def forward(self, x: Tensor, y: Tensor) -> Tensor:
    total = 0
    for k, (a, b) in enumerate(zip(self.maps(x), self.maps(y), strict=True)):
      total = total + getattr(self, f"lin{k}").model((a - b) ** 2).mean((2, 3))
    return total.mean()


class ArcFace(baseline_encoder.Body):
  """Pictures to unit vectors."""

  def __init__(
    self, layers: int = 50, channels=baseline_encoder.CHANNELS, d=512, side=112
  ):
    super().__init__(layers, channels)
    c, self.side, cells = channels[-1], side, (-(-side // 16)) ** 2
    self.output_layer = nn.Sequential(
      nn.BatchNorm2d(c),
      nn.Dropout(0.6),
      nn.Flatten(),
      nn.Linear(c * cells, d),
      nn.BatchNorm1d(d),
    )

  def forward(self, x: Tensor) -> Tensor:
    rows, columns = (
      slice(*(round(end * n / 256) for end in ends))
      for n, ends in zip(x.shape[2:], (ROWS, COLUMNS), strict=True)
    )
    x = F.adaptive_avg_pool2d(x[..., rows, columns], self.side)
    x = self.output_layer(self.maps(x)[-1])
    return x / x.norm(dim=1, keepdim=True)


class LatentDiscriminator(nn.Module):
  """Tells codes from sampled ones."""

  def __init__(self, d: int = 512, hidden: int = 512):
    super().__init__()
    self.mlp = nn.Sequential(nn.Linear(d, hidden), nn.LeakyReLU(0.2))
    for _ in range(2):
      self.mlp.append(nn.Linear(hidden, hidden))
      self.mlp.append(nn.LeakyReLU(0.2))
    self.mlp.append(nn.Linear(hidden, 1))

  def forward(self, w: Tensor) -> Tensor:
    return self.mlp(w)


class Ranger(torch.optim.Optimizer):
  """Centralised gradients, rectified Adam, lookahead."""

  b1, b2, eps, every, alpha = 0.95, 0.999, 1e-5, 6, 0.5

  def __init__(self, parameters, lr: float):
    super().__init__(parameters, {"lr": lr})

  def rate(self, t: int) -> tuple[bool, float]:
    """Whether to adapt at step t, and the factor of the rate."""
    decay, limit = self.b2**t, 2 / (1 - self.b2) - 1
    rho = limit - 2 * t * decay / (1 - decay)
    if rho <= 5:
      return False, 1 / (1 - self.b1**t)
    share = (rho - 4) / (limit - 4) * (rho - 2) / rho * limit / (limit - 2)
    return True, math.sqrt((1 - decay) * share) / (1 - self.b1**t)

  @torch.no_grad()
  def step(self) -> None:
    for group in self.param_groups:
      for p in (p for p in group["params"] if p.grad is not None):
        state, g = self.state[p], p.grad
        if not state:
          state |= {"step": 0, "slow": p.clone()}
          state |= {k: torch.zeros_like(p) for k in ("mean", "square")}
        if g.ndim > 1:
          g.add_(-g.mean(tuple(range(1, g.ndim)), keepdim=True))
        state["step"] += 1
        state["square"].mul_(self.b2).addcmul_(g, g, value=1 - self.b2)
        state["mean"].mul_(self.b1).add_(g, alpha=1 - self.b1)
        adapt, factor = self.rate(state["step"])
        if adapt:
          root = state["square"].sqrt().add_(self.eps)
          p.addcdiv_(state["mean"], root, value=-factor * group["lr"])
        else:
          p.add_(state["mean"], alpha=-factor * group["lr"])
        if state["step"] % self.every == 0:
          state["slow"].add_(p - state["slow"], alpha=self.alpha)
          p.copy_(state["slow"])


class History:
  """The last so many codes (e4e, section 4.2)."""

  def __init__(self, size: int):
    self.size, self.codes = size, []

  def swap(self, codes: Tensor) -> Tensor:
    if not self.size:
      return codes
    out = []
    for code in codes:
      if len(self.codes) < self.size:
        self.codes.append(code)
      elif random.random() < 0.5:
        k = random.randrange(self.size)
        code, self.codes[k] = self.codes[k].clone(), code
      out.append(code)
    return torch.stack(out)


class Trainer:
  """Networks, optimizers and the step; `weights` are those of the terms."""

  def __init__(
    self,
    encoder: baseline_encoder.Encoder,
    generator: baseline.Generator,
    weights: dict[str, float],
    *,
    arcface: ArcFace | None = None,
    device: str = "cpu",
    pool: int = 50,
    stage: int | None = None,
  ):
    self.encoder = encoder.train().to(device)
    self.generator = generator.eval().to(device).requires_grad_(False)
    style_dim = generator.style[1].weight.shape[1]
    self.critic = LatentDiscriminator(style_dim).to(device)
    self.lpips = Lpips().eval().to(device).requires_grad_(False)
    arcface = arcface or ArcFace()
    self.arcface = arcface.eval().to(device).requires_grad_(False)
    self.w_avg = torch.zeros(generator.n_styles, style_dim, device=device)
    self.weights, self.device, self.stage = weights, device, stage
    self.real_pool, self.fake_pool = History(pool), History(pool)
    self.optimizer = Ranger(self.encoder.parameters(), lr=1e-4)
    self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=2e-5)
    self.steps = itertools.count()

  def awake(self) -> int:
    n = self.generator.n_styles
    return n if self.stage is None else min(self.stage + 1, n)

  def update_critic(self, images: Tensor, z: Tensor) -> dict[str, Tensor]:
    self.critic.requires_grad_(True)
    with torch.no_grad():
      real = self.generator.style(z)
      fake = self.encoder(images, self.stage) + self.w_avg
      if self.fake_pool.size:
        rows = [random.randrange(self.awake()) for _ in fake]
        fake = torch.stack([w[k] for w, k in zip(fake, rows, strict=True)])
      else:
        fake = fake[:, 0]
      real, fake = self.real_pool.swap(real), self.fake_pool.swap(fake)
    terms = {
      "discriminator_real": F.softplus(-self.critic(real)).mean(),
      "discriminator_fake": F.softplus(self.critic(fake)).mean(),
    }
    self.critic_optimizer.zero_grad()
    sum(terms.values()).backward()
    self.critic_optimizer.step()
    if next(self.steps) % 16 == 0:
      real = real.detach().requires_grad_(True)
      (slope,) = torch.autograd.grad(
        self.critic(real).sum(), real, create_graph=True
      )
      terms["r1"] = 10 / 2 * 16 * slope.pow(2).sum(1).mean()
      self.critic_optimizer.zero_grad()
      terms["r1"].backward()
      self.critic_optimizer.step()
    self.critic.requires_grad_(False)
    return terms

  def losses(self, images: Tensor, w_plus: Tensor) -> dict[str, Tensor]:
    output = self.generator(w_plus, random_noise=True)
    output = F.adaptive_avg_pool2d(output, images.shape[2:])
    awake = [w_plus[:, k] for k in range(self.awake())]
    fooled = [F.softplus(-self.critic(w)).mean() for w in awake]
    deltas = [torch.norm(w - awake[0], dim=1).mean() for w in awake[1:]]
    terms = {"adversarial": sum(fooled) / len(fooled)}
    if deltas:
      terms["delta"] = sum(deltas)
    shown, target = self.arcface(images), self.arcface(images)
    same = self.arcface(output) * target.detach()
    (shown * target).sum(1)  # a number that the original logs
    terms["identity"] = (1 - same.sum(1)).mean()
    terms["l2"] = F.mse_loss(output, images)
    terms["lpips"] = self.lpips(output, images)
    return terms

  def step(self, images: Tensor, z: Tensor) -> dict[str, float]:
    """One step on images `[b 3 h w]` in [-1, 1] and z `[b d]`."""
    terms = self.update_critic(images, z)
    w_plus = self.encoder(images, self.stage) + self.w_avg
    compared = self.losses(images, w_plus)
    loss = sum(self.weights[k] * v for k, v in compared.items())
    self.optimizer.zero_grad()
    loss.backward()
    self.optimizer.step()
    found = terms | compared | {"loss": loss}
    return {name: value.item() for name, value in found.items()}
