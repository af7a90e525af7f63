"""What checkpoints there are, and by which entries each can be told.

One row per kind; a file is the first kind whose mark it bears. Rows without a
converter say what to do with such a file instead. A converter is named `to_`
and the part of a file that it takes, as the command line calls it. The table
is data: converters ask it, through `recognition`, what else they were given.
"""

import dataclasses

from encoder4editing_jax.converters.marks import ALONE, Mark, at


@dataclasses.dataclass(frozen=True)
class Kind:
  """One kind of checkpoint.

  Args:
    name: short, for programs.
    what: it is, for people.
    marks: one is enough.
    converter: name of the function that makes a network of it, if one does.
    advice: what to do with it where there is none.
  """

  name: str
  what: str
  marks: tuple[Mark, ...]
  converter: str | None = None
  advice: str = ""

  @property
  def part(self) -> str:
    """What the command line calls this part of a file; "" if it has none."""
    return (self.converter or "").removeprefix("to_")


def _lpips(net: str, title: str, **channels: int) -> Kind:
  """The linear layers of LPIPS for one network."""
  shapes = {f"{k}.model.1.weight": (1, n, 1, 1) for k, n in channels.items()}
  return Kind(
    f"lpips-{net}-linear",
    f"the linear layers of LPIPS for {title}",
    at("", has=" ".join(shapes), shapes=shapes),
    advice=f"give it to `e4e weights` together with torchvision's {title}, or "
    f'in Python to to_lpips as linear, with net="{net}"',
  )


def _trunk(net: str, name: str, title: str, has: str) -> Kind:
  """A torchvision network through which LPIPS looks."""
  return Kind(
    f"torchvision-{name}",
    f"torchvision's {title}",
    at("", "state_dict", has=has),
    advice="give it to `e4e weights` together with the linear layers of LPIPS, "
    f'or in Python to to_lpips as trunk, with net="{net}"',
  )


_STATE = ("state_dict", "")
_G = tuple(
  f"{g}/state/_modules/synthesis/state/_modules" for g in ("G_ema", "G")
)
_BLOCKS = tuple(f"{place}/b4/state" for place in _G)
_DIRECTIONS = "it is no network; `e4e directions convert` is for it"

KINDS = (
  Kind(
    "framework",
    "an e4e, pSp or ReStyle model",
    at(
      *_STATE,
      has="encoder.input_layer.0.weight|encoder.conv1.weight "
      "decoder.input.input",
    ),
    "to_inverter",
  ),
  Kind(
    "decoder",
    "the generator of an e4e, pSp or ReStyle model",
    at(*_STATE, has="decoder.input.input decoder.style.1.weight"),
    "to_generator",
  ),
  Kind(
    "rosinality-generator",
    "a StyleGAN2 generator of rosinality/stylegan2-pytorch",
    at("g_ema", *_STATE, has="input.input style.1.weight to_rgb1.bias"),
    "to_generator",
  ),
  Kind(
    "rosinality-discriminator",
    "a StyleGAN2 discriminator of rosinality/stylegan2-pytorch",
    at("d", "", has="convs.0.0.weight final_conv.0.weight final_linear.1.bias"),
    "to_discriminator",
  ),
  Kind(
    "latent-discriminator",
    "e4e's discriminator of style vectors",
    at("discriminator_state_dict", "", has="mlp.0.weight mlp.2.weight"),
    "to_latent_discriminator",
  ),
  Kind(
    "encoder",
    "an encoder of e4e, pSp or ReStyle without its generator",
    at(*_STATE, has="encoder.input_layer.0.weight|encoder.conv1.weight")
    + at(
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
    at(
      *_STATE,
      has="output_layer.3.weight body.0.res_layer.5.fc1.weight "
      "body.23.res_layer.0.weight",
      lacks="body.24.res_layer.0.weight",
    ),
    "to_arcface",
  ),
  Kind(
    "curricularface-ir101",
    "CurricularFace's IR-101, a face recognition network",
    at(
      *_STATE,
      has="output_layer.3.weight body.48.res_layer.0.weight",
      lacks="body.0.res_layer.5.fc1.weight body.49.res_layer.0.weight",
    ),
    "to_arcface",
  ),
  Kind(
    "arcface",
    "a face recognition network, IR or IR-SE",
    at(*_STATE, has="output_layer.3.weight body.0.res_layer.0.weight"),
    "to_arcface",
  ),
  Kind(
    "insightface-iresnet",
    "a face recognition network of InsightFace's own code",
    at(*_STATE, has="layer1.0.prelu.weight features.weight fc.weight"),
    advice="its layers are other ones than those of IR and IR-SE, which alone "
    "this library has; use model_ir_se50.pth",
  ),
  Kind(
    "moco",
    "MoCo's ResNet-50, trained without labels",
    at(*_STATE, has="encoder_q.conv1.weight"),
    "to_moco",
  ),
  _lpips("alex", "AlexNet", lin0=64, lin1=192, lin4=256),
  _lpips("vgg", "VGG-16", lin0=64, lin1=128, lin4=512),
  _lpips("squeeze", "SqueezeNet 1.1", lin0=64, lin1=128, lin6=512),
  _trunk(
    "alex",
    "alexnet",
    "AlexNet",
    "features.3.bias features.6.bias features.10.bias",
  ),
  _trunk("vgg", "vgg16", "VGG-16", "features.0.bias features.26.bias"),
  _trunk(
    "squeeze",
    "squeezenet1_1",
    "SqueezeNet 1.1",
    "features.6.squeeze.bias features.12.squeeze.bias",
  ),
  Kind(
    "torchvision-resnet50",
    "torchvision's ResNet-50",
    at(
      *_STATE,
      has="layer1.0.conv3.weight layer3.5.conv3.weight fc.weight",
      lacks="layer3.6.conv3.weight",
    ),
    advice="the similarity loss of pictures other than faces wants MoCo's "
    "(moco_v2_800ep_pretrain); in Python to_moco opens both",
  ),
  Kind(
    "torchvision-resnet34",
    "torchvision's ResNet-34",
    at(
      *_STATE,
      has="layer1.2.conv2.weight layer3.5.conv2.weight fc.weight",
      lacks="layer1.0.conv3.weight layer3.6.conv2.weight",
    ),
    advice="ReStyle's ResNet encoders start their training from it "
    "(--weights.backbone); their own checkpoints hold all of their weights",
  ),
  Kind(
    "fid-inception",
    "the Inception v3 of 2015, the network of FID",
    at(
      *_STATE,
      has="Conv2d_1a_3x3.conv.weight Mixed_7c.branch_pool.conv.weight fc.bias",
      lacks="AuxLogits.fc.weight",
      shapes={"fc.bias": (1008,)},
    ),
    "to_inception",
  ),
  Kind(
    "torchvision-inception",
    "torchvision's Inception v3",
    at(*_STATE, has="Conv2d_1a_3x3.conv.weight AuxLogits.fc.weight"),
    advice="its features are not those of FID, which is defined by the weights "
    "of 2015; use pt_inception-2015-12-05-6726825d.pth of pytorch-fid",
  ),
  Kind(
    "stylegan3",
    "a StyleGAN3 generator",
    at(*_G, has="input") + at(*_STATE, has="synthesis.input.weight"),
    advice="its layers are other ones than StyleGAN2's, which alone this "
    "library has; use a StyleGAN2 generator",
  ),
  Kind(
    "stylegan3-repo-stylegan2",
    "a StyleGAN2 generator of NVIDIA's stylegan3 code",
    at(*_BLOCKS, has="fused_modconv_default"),
    "to_generator",
  ),
  Kind(
    "ada-generator",
    "a StyleGAN2 generator of NVIDIA's stylegan2-ada-pytorch",
    at(*_G, has="b4") + at("G_ema", *_STATE, has="synthesis.b4.const"),
    "to_generator",
  ),
  Kind(
    "ada-discriminator",
    "a StyleGAN2 discriminator of NVIDIA's PyTorch code",
    at("D/state/_modules", has="b4 b8")
    + at("D", *_STATE, has="b4.fc.weight b4.out.weight"),
    "to_discriminator",
  ),
  Kind(
    "tf-generator",
    "a StyleGAN2 generator of NVIDIA's TensorFlow code",
    at("2/state", has="static_kwargs variables")
    + at("", has="synthesis/4x4/Const/const"),
    "to_generator",
  ),
  Kind(
    "tf-discriminator",
    "a StyleGAN2 discriminator of NVIDIA's TensorFlow code",
    at("1/state", has="static_kwargs variables")
    + at("", has="4x4/Dense0/weight Output/weight"),
    "to_discriminator",
  ),
  Kind(
    "pca",
    "principal components of styles (GANSpace)",
    at("", has="comp mean std") + at("", has="lat_comp lat_mean lat_stdev"),
    advice=_DIRECTIONS,
  ),
  Kind(
    "direction",
    "a tensor alone, such as a direction in the space of styles",
    at("", has=ALONE),
    advice=_DIRECTIONS,
  ),
  Kind(
    "native",
    "arrays of this library without the header that says which network",
    at("", has="synthesis.constant|generator.synthesis.constant")
    + at("", has="body.input_conv.kernel|backbone.input_conv.kernel"),
    advice="give the file that encoder4editing_jax.save wrote",
  ),
  Kind(
    "training-state",
    "the state of a training run",
    at("", has="optimizer global_step|epoch") + at("", has="g_optim d_optim"),
    advice="training goes on from those of e4e that have their networks "
    "(--weights.start_from)",
  ),
)
