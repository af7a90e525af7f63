"""What a state_dict is, told by one name, so that errors can say it."""

from collections.abc import Container

# The first name that it has decides.
KINDS = (
  *(
    (name, "an e4e, pSp or ReStyle checkpoint", "to_inverter")
    for name in ("encoder.input_layer.0.weight", "encoder.conv1.weight")
  ),
  *(
    (name, "a MoCo checkpoint", "to_moco")
    for name in ("module.encoder_q.conv1.weight", "encoder_q.conv1.weight")
  ),
  ("layer1.0.conv3.weight", "a ResNet-50", "to_moco"),
  ("layer1.0.conv2.weight", "a ResNet-34", "to_backbone"),
  ("output_layer.3.weight", "an ArcFace network", "to_arcface"),
  ("input.input", "a StyleGAN2 generator", "to_generator"),
  ("final_linear.0.weight", "a StyleGAN2 discriminator", "to_discriminator"),
  ("mlp.0.weight", "a latent discriminator", "to_latent_discriminator"),
  ("features.3.squeeze.weight", "SqueezeNet", 'to_lpips with net="squeeze"'),
  ("features.2.weight", "VGG", 'to_lpips with net="vgg"'),
  ("features.3.weight", "AlexNet", 'to_lpips with net="alex"'),
  ("lin0.model.1.weight", "the heads of LPIPS", "to_lpips as linear"),
  ("comp", "a GANSpace file", "to_directions"),
)


def advice(names: Container[str]) -> str | None:
  """What these are names of, and its converter; None if unknown."""
  for name, kind, converter in KINDS:
    if name in names:
      return f"it has names of {kind}: pass all of it to {converter}"
  return None
