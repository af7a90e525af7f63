"""Parity of whole networks, converted from official state dicts."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from goldens.recipe import (
  recipe_images,
  recipe_normal,
  recipe_state_dict,
  recipe_tensor,
)
from parity import call, case, differentiable, names, nchw, nhwc

from encoder4editing_jax import converters, losses
from encoder4editing_jax.converters import (
  discriminators,
  inverter as inverter_tables,
  stylegan2,
  table,
  transfer,
)

D = 512


def images(n, size, salt):
  return jnp.asarray(nhwc(recipe_images(n, size, salt)))


def make_generator(size):
  state = recipe_state_dict(f"generator_{size}")
  return converters.to_generator({"g_ema": state, "latent_avg": np.zeros(D)})


def make_inverter(kind, encoder_type, latent_avg=None):
  """The inverter of recipe weights; a zero mean code unless one is given."""
  checkpoint = {
    "state_dict": recipe_state_dict(kind),
    "opts": {"encoder_type": encoder_type},
    "latent_avg": np.zeros(D) if latent_avg is None else latent_avg,
  }
  return converters.to_inverter(checkpoint)


def mean_code(*shape):
  return recipe_tensor("latent_avg", shape)


# Generators.


def _generator(size, batch, crossover):
  net = make_generator(size)
  n = net.n_styles
  z1, z2 = (
    jnp.asarray(recipe_normal(f"generator/{z}", (batch, D)))
    for z in ("z1", "z2")
  )
  w_plus = jnp.asarray(recipe_normal(f"generator/wplus_{n}", (batch, n, D)))
  z16 = jnp.asarray(recipe_normal("generator/trunc_z", (16, D)))
  noise = []
  for i in range(n - 1):
    side = 4 << ((i + 1) // 2)
    array = recipe_normal(f"generator/noise_{i}", (1, 1, side, side))
    noise.append(jnp.asarray(nhwc(array)))
  yield "w", call(net, lambda g, z: g.mapping(z), z1)
  centre = call(net, lambda g, z: g.mapping(z).mean(0), z16)
  yield "trunc/latent_center", centre[None]

  def images_of(styles, **options):
    def function(g, styles, options):
      return g(
        styles,
        return_latents=True,
        return_features=True,
        **options,
        **static,
      )

    static = {"input_is_latent": options.pop("input_is_latent", False)}
    static |= {k: options.pop(k) for k in ("inject_index",) if k in options}
    static |= {k: options.pop(k) for k in ("truncation_psi",) if k in options}
    image, latent, features = call(net, function, styles, options)
    return nchw(image), latent, nchw(features)

  image, latent, _ = images_of([z1])
  yield "z/image", image
  yield "z/latent", latent
  yield "wplus/image", images_of([w_plus], input_is_latent=True)[0]
  image, latent, _ = images_of(
    [z1], truncation_psi=0.7, truncation_latent=centre[None]
  )
  yield "trunc/image", image
  yield "trunc/latent", latent[:, 0]
  image, latent, _ = images_of([z1, z2], inject_index=crossover)
  yield "mix/image", image
  yield "mix/latent", latent
  image, _, features = images_of([w_plus], input_is_latent=True, noise=noise)
  yield "noise_list/image", image
  yield "noise_list/features", features


NOT_GRADIENTS = ("w", "z/", "trunc/", "mix/", "noise_list/")


@case("generator_32", *NOT_GRADIENTS, network="generator")
def generator_32():
  yield from _generator(32, 2, 3)


@case("generator_256", "", network="generator", slow=True)
def generator_256():
  yield from _generator(256, 2, 5)


@case("generator_1024", "", network="generator", slow=True)
def generator_1024():
  yield from _generator(1024, 1, 8)


@case("generator_32", "grad/", network="generator", slow=True)
def gradients():
  """Of the sum of image * g, by official tensors and by w_plus."""
  net = make_generator(32)
  rebuild = differentiable(net, stylegan2.generator_table(net))
  source = recipe_state_dict("generator_32")
  fields = [f.removeprefix("grad/") for f in names("generator_32")]
  inputs = {f: jnp.asarray(source[f]) for f in fields if f in source}
  inputs["wplus"] = jnp.asarray(recipe_normal("generator/wplus_8", (2, 8, D)))
  seed = recipe_normal("generator/gout", (2, 3, 32, 32))

  def total(inputs):
    image = rebuild(inputs).synthesis(inputs["wplus"])
    return (nchw(image) * seed).sum()

  for name, gradient in jax.jit(jax.grad(total))(inputs).items():
    yield f"grad/{name}", gradient


# Discriminators.


@case("loss_simple", "disc/", "r1/", network="latent discriminator")
def latent_discriminator():
  source = recipe_state_dict("latent_discriminator")
  net = converters.to_latent_discriminator(source)
  rows = discriminators.latent_discriminator_table(net)
  rebuild = differentiable(net, rows)
  real = jnp.asarray(recipe_normal("loss/real_w", (3, D)))
  fake = jnp.asarray(recipe_normal("loss/fake_w", (3, D), scale=1.5))
  source = {k: jnp.asarray(v) for k, v in source.items()}

  def logistic(source):
    net = rebuild(source)
    one_style = fake[:, None], jnp.ones(1)
    terms = {
      "real_logits": net(real),
      "fake_logits": net(fake),
      "d_real_loss": losses.discriminator_real(net, real),
      "d_fake_loss": losses.discriminator_fake(net, fake),
      "encoder_loss": losses.encoder_adversarial(net, *one_style),
    }
    terms["loss"] = terms["d_real_loss"] + terms["d_fake_loss"]
    return terms["loss"], terms

  def penalty(source):
    value = losses.r1(rebuild(source), real)
    return value, {"loss": value}

  for prefix, function in (("disc/", logistic), ("r1/", penalty)):
    run = jax.jit(jax.value_and_grad(function, has_aux=True))
    (_, terms), gradients = run(source)
    terms |= {f"grad_{name}": g for name, g in gradients.items()}
    for field in sorted(names("loss_simple")):
      if field.startswith(prefix):
        yield field, terms[field.removeprefix(prefix)]


def _discriminator(size):
  state = recipe_state_dict(f"discriminator_{size}")
  return converters.to_discriminator({"d": state})


@case("image_discriminator", "256/", network="image discriminator", slow=True)
def discriminator_256():
  net = _discriminator(256)
  x = images(4, 256, "discriminator/x")

  def logits_and_slope(net, x):
    def total(x):
      logits = net(x)
      return logits.sum(), logits

    return jax.grad(total, has_aux=True)(x)

  slope, logits = call(net, logits_and_slope, x)
  yield "256/logits", logits
  yield "256/grad_x", nchw(slope)


@case("image_discriminator", "1024/", network="image discriminator", slow=True)
def discriminator_1024():
  x = images(2, 1024, "discriminator/x")
  yield "1024/logits", call(_discriminator(1024), lambda net, x: net(x), x)


# Encoders.


@case("encoder_e4e", "", network="Encoder4Editing", slow=True)
def stages():
  """One compiled function serves all stages; the maps of the body too."""
  net = make_inverter("e4e_1024", "Encoder4Editing").encoder
  graph, state = nnx.split(net)
  x = images(2, 256, "encoder/x")
  encode = jax.jit(lambda s, x, stage: nnx.merge(graph, s)(x, stage))
  for stage in (0, 1, 3, 7, 12, 17):
    yield f"stage{stage}/w", encode(state, x, jnp.int32(stage))
  yield "inference/w", encode(state, x, None)
  maps = call(net, lambda net, x: net.body(x), x)
  for name, features in zip(("c1", "c2", "c3"), maps[1:], strict=True):
    yield f"inference/{name}", nchw(features)


@case("encoder_e4e_train", "", network="Encoder4Editing", slow=True)
def batch_statistics():
  net = make_inverter("e4e_1024", "Encoder4Editing").encoder
  x = images(2, 256, "encoder/x")
  net.train()
  graph, statistics, rest = nnx.split(net, nnx.BatchStat, ...)

  @jax.jit
  def train(statistics, rest, x):
    net = nnx.merge(graph, statistics, rest)
    return net(x), nnx.state(net, nnx.BatchStat)

  codes, statistics = train(statistics, rest, x)
  yield "train/w", codes
  nnx.update(net, statistics)
  rows = inverter_tables.encoder_table(net).rows
  fields = names("encoder_e4e_train")
  rows = tuple(r for r in rows if f"after/{r.source}" in fields)
  for name, value in transfer.extract(net, table.Table(rows)).items():
    yield f"after/{name}", value
  net.eval()
  yield "eval_after_train/w", call(net, lambda net, x: net(x), x)


def _codes(kind, encoder_type, size):
  net = make_inverter(kind, encoder_type)
  x = images(2, size, "encoder/x")
  return call(net, lambda net, x: net.encoder(x), x)


@case("encoder_others", "gradual/", network="GradualStyleEncoder", slow=True)
def gradual():
  yield "gradual/w", _codes("psp_1024", "GradualStyleEncoder", 256)


@case(
  "encoder_others", "single_style/", network="SingleStyleEncoder", slow=True
)
def single_style():
  codes = _codes("single_style_1024", "SingleStyleCodeEncoder", 256)
  yield "single_style/w", codes


@case("encoder_style_counts", "e4e_256", network="Encoder4Editing", slow=True)
def fourteen_styles():
  codes = _codes("e4e_256", "Encoder4Editing", 256)
  yield "e4e_256_256x256/w", codes
  yield "e4e_256_256x256/style_count", np.array(codes.shape[1])


@case("encoder_style_counts", "e4e_512", network="Encoder4Editing", slow=True)
def sixteen_styles_of_cars():
  codes = _codes("e4e_512", "Encoder4Editing", (192, 256))
  yield "e4e_512_192x256/w", codes
  yield "e4e_512_192x256/style_count", np.array(codes.shape[1])


def _arcface(kind):
  net = converters.to_arcface(recipe_state_dict(kind))

  def outputs(net, x):
    body = net.backbone(x)[-1]
    flat = net.norm_in(body).reshape(x.shape[0], -1)
    return net(x), net.norm_out(net.linear(flat)), nchw(body)

  fields = ("embedding", "embedding_unnormalised", "body")
  values = call(net, outputs, images(2, 112, "irse/x"))
  for field, value in zip(fields, values, strict=True):
    yield f"{kind}/{field}", value
  yield f"{kind}/blocks", np.array(len(net.backbone.blocks))


@case("encoder_irse100", "ir100/", network="ArcFace", slow=True)
def ir100():
  yield from _arcface("ir100")


@case("encoder_irse100", "ir_se152/", network="ArcFace", slow=True)
def ir_se152():
  yield from _arcface("ir_se152")
