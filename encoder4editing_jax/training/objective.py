"""What the encoder is trained for: named terms of its codes and pictures.

Terms that look through a network take its arrays from `frozen.features`, and
its graph from `networks.features`, where `FEATURES` says which term needs
which. Where the terms are from is said in `losses`.
"""

from collections.abc import Callable
from functools import partial

import jax
from flax import nnx
from jaxtyping import Array, Float

from encoder4editing_jax import losses
from encoder4editing_jax.config import Config
from encoder4editing_jax.config_rules import NEEDS_SOURCE
from encoder4editing_jax.models.arcface import face_crop
from encoder4editing_jax.models.inverter import crop_and_pool
from encoder4editing_jax.models.layers import KEPT
from encoder4editing_jax.training.state import (
  Arrays,
  Frozen,
  Metrics,
  Networks,
  with_generator,
)

# The terms that compare pictures through a network, and the network of each.
FEATURES = {
  "lpips": "lpips",
  "lpips_crop": "lpips",
  "identity": "arcface",
  "moco": "moco",
}
EMBED = {"identity": "embed_portrait", "moco": "__call__"}


def make_encoder_loss(config: Config, networks: Networks) -> Callable:
  """The encoder's loss as a function of its codes.

  Returns:
    `encoder_loss(w_plus, generator, images, source, discriminator, frozen,
    stage, noise) -> (total, (metrics, pictures))`, where `generator` is what is
    trained of it (nothing, as a rule), `source` what the encoder was shown (of
    the shape of the images, or it is not compared with them), and `noise` the
    keys of the generator's noise.
  """
  discriminator_graph = nnx.graphdef(networks.discriminator)
  decode = make_decode(networks)
  compare = rematerialised(config, make_comparison(config, networks))
  weights = config.loss

  def encoder_loss(
    w_plus: Array,
    generator: Arrays,
    images: Array,
    source: Array,
    discriminator: Arrays,
    frozen: Frozen,
    stage: Array | None,
    noise: Array,
  ) -> tuple[Array, tuple[Metrics, Array]]:
    active = losses.active_styles(w_plus.shape[1], stage)
    terms = {}
    if weights.adversarial:
      critic = nnx.merge(discriminator_graph, discriminator)
      terms["adversarial"] = losses.encoder_adversarial(critic, w_plus, active)
    if weights.delta and stage is not None:
      terms["delta"] = losses.delta(w_plus, active, weights.delta_norm)
    if weights.w_norm:
      terms["w_norm"] = losses.w_norm(w_plus, frozen.w_avg)
    trained = with_generator(frozen, generator)
    paint = partial(decode, size=images.shape[1:3], keys=noise)
    output = rematerialised(config, paint)(trained, w_plus)
    compared, seen = compare(frozen, output, images, source)
    terms |= compared
    return losses.weighted_sum(terms, weights), (terms | seen, output)

  return encoder_loss


def rematerialised(config: Config, function: Callable) -> Callable:
  """The function as `run.rematerialise` wants it: for its gradient it keeps
  only what its networks mark (`layers.keep`)."""
  if not config.run.rematerialise:
    return function
  policy = jax.checkpoint_policies.save_only_these_names(KEPT)
  return jax.checkpoint(function, policy=policy)


def make_decode(networks: Networks) -> Callable:
  """`decode(frozen, w_plus, size, keys)`: pictures with fresh noise."""
  graph = nnx.graphdef(networks.generator)

  def decode(
    frozen: Frozen, w_plus: Array, size: tuple[int, int], keys: Array
  ) -> Float[Array, "b h w c"]:
    generator = nnx.merge(graph, frozen.generator)
    output = generator.synthesis(w_plus, noise="random", key=keys)
    return crop_and_pool(output, size)

  return decode


def make_comparison(config: Config, networks: Networks) -> Callable:
  """Named terms that compare pictures; those of weight 0 are left out.

  Returns:
    `compare(frozen, output, target, source) -> (terms, seen)` for pictures
    `[b h w 3]`; `seen` are metrics that are not part of the loss.
  """
  weights = config.loss
  graphs = {k: nnx.graphdef(net) for k, net in networks.features.items()}

  def compare(
    frozen: Frozen, output: Array, target: Array, source: Array
  ) -> tuple[Metrics, Metrics]:
    nets = {
      name: nnx.merge(graph, frozen.features[name])
      for name, graph in graphs.items()
    }
    plain: dict[str, Callable] = {"l2": losses.l2}
    if "lpips" in nets:
      plain["lpips"] = lambda x, y: losses.lpips(nets["lpips"], x, y)
    terms = {
      name: function(output, target)
      for name, function in plain.items()
      if getattr(weights, name)
    }
    faces = {k: f for k, f in plain.items() if getattr(weights, f"{k}_crop")}
    for name, function in faces.items():
      cut = face_crop(output), face_crop(target)
      terms[f"{name}_crop"] = function(*cut)
    seen: Metrics = {}
    for name, method in EMBED.items():
      if getattr(weights, name):
        embed = getattr(nets[FEATURES[name]], method)
        shown = None if config.data.task in NEEDS_SOURCE else source
        terms[name], seen = similarity(embed, output, target, shown)
    return terms, {k: v.mean() for k, v in seen.items()}

  return compare


def similarity(
  embed: Callable, output: Array, target: Array, source: Array | None
) -> tuple[Array, Metrics]:
  """The dissimilarity, and cosines under the names that the originals log.

  Each cosine `[b]`: of output and target, output and source, target and
  source; and by how much the first beats the last. Sources that are no
  pictures are None.
  """
  ours, theirs = embed(output), embed(target)
  seen = {"diff_target": losses.cosine(ours, theirs)}
  if source is not None:
    shown = theirs if source is target else embed(source)
    seen["diff_input"] = losses.cosine(ours, shown)
    seen["diff_views"] = losses.cosine(theirs, shown)
    seen["improvement"] = seen["diff_target"] - seen["diff_views"]
  return losses.dissimilarity(ours, theirs), seen
