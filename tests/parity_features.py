"""Parity of the networks that losses look through, and of what they compare.

A loss is here what the network alone computes: a distance, or one minus a
cosine, averaged over the batch.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from goldens.recipe import recipe_state_dict
from parity import call, case, nchw
from parity_networks import images

from encoder4editing_jax import converters
from encoder4editing_jax.models.arcface import face_crop

TRUNKS = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet"}


def value_and_grad(net, function, x, *others):
  """`function(net, x, *others)` and its gradient by x, compiled."""
  graph, state = nnx.split(net)

  def total(x, state, others):
    return function(nnx.merge(graph, state), x, *others)

  return jax.jit(jax.value_and_grad(total))(x, state, others)


def exact_grad(net, function, *inputs):
  """The gradient by the first input, computed in float64.

  In float32 a near-tie in a pool or at a rectifier falls either way, and a
  patch of the gradient with it: one of VGG's differs from the float64 one by
  0.0075 %, another by 0.36 %. The reference outputs have float32 gradients
  too, whose distance from float64 their noise floors are.
  """
  with jax.enable_x64(True):
    widened = nnx.clone(net)
    nnx.update(widened, jax.tree.map(_widen, nnx.state(net)))
    return np.asarray(
      value_and_grad(widened, function, *map(_widen, inputs))[1]
    )


def _widen(x):
  return np.asarray(x, np.float64)


# LPIPS.


def _lpips(net):
  """The network, two images, and the loss of whole images and of faces."""
  lpips = converters.to_lpips(
    recipe_state_dict(f"{TRUNKS[net]}_features"),
    recipe_state_dict(f"lpips_lin_{net}"),
    net,
  )

  def whole(lpips, x, y):
    return lpips(x, y).mean()

  def cropped(lpips, x, y):
    return lpips(face_crop(x), face_crop(y)).mean()

  inputs = images(2, 256, "loss/y_hat"), images(2, 256, "loss/y")
  return lpips, inputs, {net: whole, f"{net}_crop": cropped}


def _values(net):
  lpips, inputs, losses = _lpips(net)

  def terms(lpips, x, y):
    return lpips.distances(lpips.features(x), lpips.features(y)).mean(0)

  for name, loss in losses.items():
    yield f"{name}/loss", call(lpips, loss, *inputs)
  yield f"{net}/per_layer", call(lpips, terms, *inputs)


def _fields(*nets, ends):
  return [
    f"{net}{part}/{e}" for net in nets for part in ("", "_crop") for e in ends
  ]


VALUES = ("loss", "per_layer")


@case("loss_lpips", *_fields("alex", ends=VALUES), network="LPIPS (AlexNet)")
def lpips_alex():
  yield from _values("alex")


@case(
  "loss_lpips", *_fields("squeeze", ends=VALUES), network="LPIPS (SqueezeNet)"
)
def lpips_squeeze():
  yield from _values("squeeze")


@case(
  "loss_lpips",
  *_fields("vgg", ends=VALUES),
  network="LPIPS (VGG16)",
  slow=True,
)
def lpips_vgg():
  yield from _values("vgg")


@case(
  "loss_lpips", *_fields(*TRUNKS, ends=["grad"]), network="LPIPS", slow=True
)
def lpips_gradients():
  for net in TRUNKS:
    lpips, inputs, losses = _lpips(net)
    for name, loss in losses.items():
      yield f"{name}/grad_y_hat", nchw(exact_grad(lpips, loss, *inputs))


# Unit vectors and their cosines.


def _similarity(prefix, net, embed, y_hat, y, x):
  vectors = [call(net, embed, image) for image in (y_hat, y, x)]
  for name, value in zip(("y_hat", "y", "x"), vectors, strict=True):
    yield f"{prefix}/feat_{name}", value

  def cosine(a, b):
    return (vectors[a] * vectors[b]).sum(-1)

  target, start, views = cosine(0, 1), cosine(0, 2), cosine(1, 2)
  yield f"{prefix}/logs_diff_target", target
  yield f"{prefix}/logs_diff_input", start
  yield f"{prefix}/logs_diff_views", views
  yield f"{prefix}/improvement", (target - views).mean()

  def distance(net, image, other):
    return (1 - (embed(net, image) * other).sum(-1)).mean()

  loss, gradient = value_and_grad(net, distance, y_hat, vectors[1])
  yield f"{prefix}/loss", loss
  yield f"{prefix}/grad_y_hat", nchw(gradient)


def _images(size):
  return [images(2, size, f"loss/{name}") for name in ("y_hat", "y", "x")]


@case("loss_id", "id/", network="ArcFace", slow=True)
def identity():
  net = converters.to_arcface(recipe_state_dict("ir_se50"))

  def embed(net, image):
    return net.embed_portrait(image)

  yield from _similarity("id", net, embed, *_images(256))


@case("loss_moco", "moco", network="MoCo", slow=True)
def moco():
  net = converters.to_moco({"state_dict": recipe_state_dict("moco_resnet50")})

  def embed(net, image):
    return net(jnp.asarray(image))

  yield from _similarity("moco", net, embed, *_images(256))
  yield from _similarity("moco_192x256", net, embed, *_images((192, 256)))
