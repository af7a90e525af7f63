"""What checkpoints there are, and by which entries each can be told.

One row per kind; a file is the first kind whose mark it bears. Rows without a
converter say what to do with such a file instead. A converter is named `to_`
and the part of a file that it takes, as the command line calls it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from encoder4editing_jax.converters.discriminators import (
  to_discriminator,
  to_latent_discriminator,
)
from encoder4editing_jax.converters.features import to_arcface, to_moco
from encoder4editing_jax.converters.generators import to_generator
from encoder4editing_jax.converters.inverter import to_inverter
from encoder4editing_jax.converters.table import Shape

ALONE = "tensor"  # the entry of a checkpoint that is one array


@dataclasses.dataclass(frozen=True)
class Mark:
  """Entries by which a kind is told.

  Args:
    place: names on the way to the entries, joined by "/"; "" is the top.
    has: entries that are all there; "a|b" is either.
    lacks: entries of which none is there.
    shapes: of entries that are there.
  """

  place: str
  has: tuple[str, ...]
  lacks: tuple[str, ...] = ()
  shapes: Mapping[str, Shape] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Kind:
  """One kind of checkpoint.

  Args:
    name: short, for programs.
    what: it is, for people.
    marks: one is enough.
    convert: the checkpoint's way to a network; None if there is none.
    advice: what to do with it where there is no converter.
  """

  name: str
  what: str
  marks: tuple[Mark, ...]
  convert: Callable[..., Any] | None = None
  advice: str = "this version has no converter for it"

  @property
  def part(self) -> str:
    """What the command line calls this part of a file; "" if it has none."""
    return getattr(self.convert, "__name__", "").removeprefix("to_")


def _at(
  *places: str,
  has: str,
  lacks: str = "",
  shapes: Mapping[str, Shape] | None = None,
) -> tuple[Mark, ...]:
  """The same mark at several places; names are separated by blanks."""
  names = tuple(has.split()), tuple(lacks.split())
  return tuple(Mark(place, *names, shapes or {}) for place in places)


def _lpips(net: str, title: str, **channels: int) -> Kind:
  """The linear layers of LPIPS for one network."""
  shapes = {f"{k}.model.1.weight": (1, n, 1, 1) for k, n in channels.items()}
  return Kind(
    f"lpips-{net}-linear",
    f"the linear layers of LPIPS for {title}",
    _at("", has=" ".join(shapes), shapes=shapes),
    advice=f"give it to `e4e weights` together with torchvision's {title}",
  )


def _trunk(name: str, title: str, has: str) -> Kind:
  """A torchvision network through which LPIPS looks."""
  return Kind(
    f"torchvision-{name}",
    f"torchvision's {title}",
    _at("", "state_dict", has=has),
    advice="give it to `e4e weights` together with the linear layers of LPIPS",
  )


_STATE = ("state_dict", "")
_G = tuple(
  f"{g}/state/_modules/synthesis/state/_modules" for g in ("G_ema", "G")
)
_BLOCKS = tuple(f"{place}/b4/state" for place in _G)
_DIRECTIONS = "it is no network; converters.to_directions opens it in Python"

KINDS = (
  Kind(
    "framework",
    "an e4e, pSp or ReStyle model",
    _at(
      *_STATE,
      has="encoder.input_layer.0.weight|encoder.conv1.weight "
      "decoder.input.input",
    ),
    to_inverter,
  ),
  Kind(
    "decoder",
    "the generator of an e4e, pSp or ReStyle model",
    _at(*_STATE, has="decoder.input.input decoder.style.1.weight"),
    to_generator,
  ),
  Kind(
    "rosinality-generator",
    "a StyleGAN2 generator of rosinality/stylegan2-pytorch",
    _at("g_ema", *_STATE, has="input.input style.1.weight to_rgb1.bias"),
    to_generator,
  ),
  Kind(
    "rosinality-discriminator",
    "a StyleGAN2 discriminator of rosinality/stylegan2-pytorch",
    _at(
      "d", "", has="convs.0.0.weight final_conv.0.weight final_linear.1.bias"
    ),
    to_discriminator,
  ),
  Kind(
    "latent-discriminator",
    "e4e's discriminator of style vectors",
    _at("discriminator_state_dict", "", has="mlp.0.weight mlp.2.weight"),
    to_latent_discriminator,
  ),
  Kind(
    "encoder",
    "an encoder of e4e, pSp or ReStyle without its generator",
    _at(*_STATE, has="encoder.input_layer.0.weight|encoder.conv1.weight")
    + _at(
      *_STATE,
      has="body.0.res_layer.0.weight|body.0.conv1.weight "
      "styles.0.linear.weight|output_layer_2.3.weight|linear.weight",
    ),
    advice="give the whole checkpoint, whose state_dict has encoder.* and "
    "decoder.*",
  ),
  Kind(
    "arcface-ir-se50",
    "ArcFace's IR-SE50, a face recognition network",
    _at(
      *_STATE,
      has="output_layer.3.weight body.0.res_layer.5.fc1.weight "
      "body.23.res_layer.0.weight",
      lacks="body.24.res_layer.0.weight",
    ),
    to_arcface,
  ),
  Kind(
    "curricularface-ir101",
    "CurricularFace's IR-101, a face recognition network",
    _at(
      *_STATE,
      has="output_layer.3.weight body.48.res_layer.0.weight",
      lacks="body.0.res_layer.5.fc1.weight body.49.res_layer.0.weight",
    ),
    to_arcface,
  ),
  Kind(
    "arcface",
    "a face recognition network, IR or IR-SE",
    _at(*_STATE, has="output_layer.3.weight body.0.res_layer.0.weight"),
    to_arcface,
  ),
  Kind(
    "moco",
    "MoCo's ResNet-50, trained without labels",
    _at(*_STATE, has="module.encoder_q.conv1.weight|encoder_q.conv1.weight"),
    to_moco,
  ),
  _lpips("alex", "AlexNet", lin0=64, lin1=192, lin4=256),
  _lpips("vgg", "VGG-16", lin0=64, lin1=128, lin4=512),
  _lpips("squeeze", "SqueezeNet 1.1", lin0=64, lin1=128, lin6=512),
  _trunk(
    "alexnet", "AlexNet", "features.3.bias features.6.bias features.10.bias"
  ),
  _trunk("vgg16", "VGG-16", "features.0.bias features.26.bias"),
  _trunk(
    "squeezenet1_1",
    "SqueezeNet 1.1",
    "features.6.squeeze.bias features.12.squeeze.bias",
  ),
  Kind(
    "torchvision-resnet50",
    "torchvision's ResNet-50",
    _at(
      *_STATE,
      has="layer1.0.conv3.weight layer3.5.conv3.weight fc.weight",
      lacks="layer3.6.conv3.weight",
    ),
    advice="no network here uses it; the similarity loss of pictures other "
    "than faces wants MoCo's (moco_v2_800ep_pretrain)",
  ),
  Kind(
    "torchvision-resnet34",
    "torchvision's ResNet-34",
    _at(
      *_STATE,
      has="layer1.2.conv2.weight layer3.5.conv2.weight fc.weight",
      lacks="layer1.0.conv3.weight layer3.6.conv2.weight",
    ),
    advice="ReStyle's ResNet encoders start their training from it "
    "(--weights.backbone); their own checkpoints hold all of their weights",
  ),
  Kind(
    "stylegan3",
    "a StyleGAN3 generator",
    _at(*_G, has="input") + _at(*_STATE, has="synthesis.input.weight"),
    advice="its layers are other ones than StyleGAN2's, which alone this "
    "library has; use a StyleGAN2 generator",
  ),
  Kind(
    "stylegan3-repo-stylegan2",
    "a StyleGAN2 generator of NVIDIA's stylegan3 code",
    _at(*_BLOCKS, has="fused_modconv_default"),
    to_generator,
  ),
  Kind(
    "ada-generator",
    "a StyleGAN2 generator of NVIDIA's stylegan2-ada-pytorch",
    _at(*_G, has="b4") + _at("G_ema", *_STATE, has="synthesis.b4.const"),
    to_generator,
  ),
  Kind(
    "ada-discriminator",
    "a StyleGAN2 discriminator of NVIDIA's PyTorch code",
    _at("D/state/_modules", has="b4 b8")
    + _at("D", *_STATE, has="b4.fc.weight b4.out.weight"),
    to_discriminator,
  ),
  Kind(
    "tf-generator",
    "a StyleGAN2 generator of NVIDIA's TensorFlow code",
    _at("2/state", has="static_kwargs variables")
    + _at("", has="synthesis/4x4/Const/const"),
    to_generator,
  ),
  Kind(
    "tf-discriminator",
    "a StyleGAN2 discriminator of NVIDIA's TensorFlow code",
    _at("", has="4x4/Dense0/weight Output/weight"),
    to_discriminator,
  ),
  Kind(
    "pca",
    "principal components of styles (GANSpace)",
    _at("", has="comp mean std"),
    advice=_DIRECTIONS,
  ),
  Kind(
    "direction",
    "a tensor alone, such as a direction in the space of styles",
    _at("", has=ALONE),
    advice=_DIRECTIONS,
  ),
  Kind(
    "native",
    "arrays of this library without the header that says which network",
    _at("", has="synthesis.constant|generator.synthesis.constant")
    + _at("", has="body.input_conv.kernel|backbone.input_conv.kernel"),
    advice="give the file that encoder4editing_jax.save wrote",
  ),
  Kind(
    "training-state",
    "the state of a training run",
    _at("", has="optimizer global_step|epoch") + _at("", has="g_optim d_optim"),
    advice="training goes on from those of e4e that have their networks "
    "(--weights.start_from)",
  ),
)
