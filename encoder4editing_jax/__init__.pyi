from encoder4editing_jax import (
  align as align,
  config as config,
  configs as configs,
  converters as converters,
  data as data,
  detectors as detectors,
  directions as directions,
  editing as editing,
  exporting as exporting,
  faceworld as faceworld,
  finding as finding,
  inference as inference,
  landmarks as landmarks,
  losses as losses,
  models as models,
  ops as ops,
  optimising as optimising,
  programs as programs,
  serving as serving,
  training as training,
  weights as weights,
  weights_folder as weights_folder,
)
from encoder4editing_jax.config import Config as Config
from encoder4editing_jax.converters.loading import load as load
from encoder4editing_jax.models.arcface import ArcFace as ArcFace
from encoder4editing_jax.models.discriminator import (
  Discriminator as Discriminator,
  LatentDiscriminator as LatentDiscriminator,
)
from encoder4editing_jax.models.encoders import (
  BackboneEncoder as BackboneEncoder,
  Encoder4Editing as Encoder4Editing,
  GradualStyleEncoder as GradualStyleEncoder,
  ProgressiveBackboneEncoder as ProgressiveBackboneEncoder,
  ResNetBackboneEncoder as ResNetBackboneEncoder,
  ResNetGradualStyleEncoder as ResNetGradualStyleEncoder,
  ResNetProgressiveBackboneEncoder as ResNetProgressiveBackboneEncoder,
  SingleStyleEncoder as SingleStyleEncoder,
  WPlusEncoder as WPlusEncoder,
)
from encoder4editing_jax.models.inverter import Inverter as Inverter
from encoder4editing_jax.models.irse import Backbone as Backbone
from encoder4editing_jax.models.lpips import LPIPS as LPIPS
from encoder4editing_jax.models.moco import MoCo as MoCo
from encoder4editing_jax.models.stylegan2 import Generator as Generator
from encoder4editing_jax.weights import save as save

__version__: str
