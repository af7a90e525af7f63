"""The sections of the configuration about losses and weights; see `config`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Loss:
  """Weights of the terms of the encoder's loss, and how these are taken. A
  term of weight 0 is left out.

  Terms that look through a network are off by default, because its weights
  have to be there first (see weights.dir)."""

  l2: float = 1.0
  """Mean squared error of the reconstruction, images in [-1, 1]."""

  lpips: float = 0.0
  """Perceptual distance (LPIPS) of the reconstruction; published: 0.8. Needs
  a network, see loss.lpips_net."""

  identity: float = 0.0
  """Dissimilarity of faces, through ArcFace, in pictures aligned like FFHQ;
  published: 0.1 (e4e, pSp). Needs the network arcface_ir_se50."""

  moco: float = 0.0
  """Dissimilarity of other pictures than faces, through MoCo, in the place of
  identity; published: 0.5. Needs the network moco."""

  l2_crop: float = 0.0
  """Mean squared error of the face alone, in pictures aligned like FFHQ (pSp:
  frontalization, 0.01)."""

  lpips_crop: float = 0.0
  """LPIPS of the face alone (pSp: frontalization, 0.8)."""

  w_norm: float = 0.0
  """Norm of what the encoder adds to the mean code (pSp: L_reg, 0.005)."""

  delta: float = 2e-4
  """Norms of the styles' offsets from the first style (e4e: L_d-reg); acts
  with progressive training only."""

  adversarial: float = 0.1
  """Pull of the latent discriminator towards W (e4e: L_adv); 0 trains
  without a discriminator."""

  lpips_net: Literal["alex", "vgg", "squeeze"] = "alex"
  """Network of both LPIPS terms: lpips_alex, lpips_vgg or lpips_squeeze."""

  delta_norm: float = 2.0
  """Which norm loss.delta takes: p of the p-norm."""


@dataclass(frozen=True)
class Weights:
  """What was trained before: networks that losses look through, and what the
  encoder starts from."""

  dir: str = "weights"
  """Folder of networks, which `e4e weights FILE... --dir DIR` fills; needed
  only if loss.lpips, lpips_crop, identity or moco is on, or weights.backbone
  names a network of it."""

  backbone: str = ""
  """What the body of the encoder starts from, as published: "arcface_ir_se50"
  (a network in weights.dir), or a file such as torchvision's ResNet-34 for
  ReStyle's ResNet encoders. "" draws it. The heads are always drawn."""

  start_from: str = ""
  """File of an e4e, pSp or ReStyle model to start from, of this library or
  official, in the place of weights.backbone. If it was saved with
  --save_training_data, the run in it continues: step, optimizers and
  discriminator too. Otherwise training begins at step 0 with its weights. A
  checkpoint in the folder of the run comes before it. "" starts anew."""
