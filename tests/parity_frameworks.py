"""Parity of whole frameworks: encoder, mean code and generator together."""

import jax.numpy as jnp
import numpy as np
from goldens.recipe import recipe_normal
from parity import call, case, nchw
from parity_networks import D, images, make_inverter, mean_code

STYLES = 10  # of a generator of side 64
MASK = [2, 5, 8]


def _invert(net, x, **options):
  image, w_plus = call(net, lambda net, x: net(x, **options), x)
  return nchw(image), w_plus


@case(
  "psp_forward_e4e",
  "resize/",
  "noresize/",
  "in",
  "mask",
  "no_latent",
  network="Inverter (e4e)",
  slow=True,
)
def forward_e4e():
  net = make_inverter("e4e_64", "Encoder4Editing", mean_code(STYLES, D))
  x = images(2, 256, "psp/x")
  image, w_plus = _invert(net, x)
  yield "resize/image", image
  yield "resize/latent", w_plus
  yield "noresize/image", _invert(net, w_plus, resize=False)[0]
  inject = jnp.asarray(recipe_normal("psp/inject", (2, STYLES, D)))
  mixes = {
    "inject": {"inject": inject},
    "inject_alpha": {"inject": inject, "alpha": 0.3},
    "mask_zero": {},
  }
  for name, options in mixes.items():
    options |= {"latent_mask": MASK, "resize": False}
    image, latent = _invert(net, w_plus, **options)
    yield f"{name}/image", image
    yield f"{name}/latent", latent
  z = jnp.asarray(recipe_normal("psp/z", (2, D)))
  image, latent = _invert(net, z, resize=False)
  yield "input_code/image", image
  yield "input_code/latent", latent[:, 0]
  net.w_avg[...] = jnp.zeros((STYLES, D))
  image, latent = _invert(net, x, resize=False)
  yield "no_latent_avg/image", image
  yield "no_latent_avg/latent", latent


@case("psp_forward_e4e", "big/", network="Inverter (e4e)", slow=True)
def forward_e4e_256():
  net = make_inverter("e4e_256", "Encoder4Editing", mean_code(14, D))
  image, w_plus = _invert(net, images(2, 256, "psp/x")[:1])
  yield "big/image", image
  yield "big/latent", w_plus


def _psp(name, kind, encoder_type, latent_avg):
  net = make_inverter(kind, encoder_type, latent_avg)
  x = images(2, 256, "psp/x")
  codes = call(net, lambda net, x: net.encoder(x), x)
  yield f"{name}/codes", codes
  image, w_plus = _invert(net, codes + net.w_avg[...][None], resize=False)
  yield f"{name}/image", image
  yield f"{name}/latent", w_plus
  if name == "gradual":
    inject = jnp.asarray(recipe_normal("psp/inject", (2, STYLES, D)))
    options = {"latent_mask": MASK, "inject": inject, "alpha": 0.3}
    yield "gradual_mix/image", _invert(net, w_plus, resize=False, **options)[0]


@case("psp_forward_psp", "gradual", network="Inverter (pSp)", slow=True)
def gradual():
  avg = mean_code(STYLES, D)
  yield from _psp("gradual", "psp_64", "GradualStyleEncoder", avg)


@case("psp_forward_psp", "last_layer_w/", network="Inverter (pSp)", slow=True)
def last_layer_w():
  encoder_type = "BackboneEncoderUsingLastLayerIntoW"
  for name, value in _psp(
    "last_layer_w", "psp_w_64", encoder_type, mean_code(1, D)
  ):
    if name.endswith("codes"):  # pSp returns one row, this library n equal ones
      assert np.array_equal(value, jnp.repeat(value[:, :1], STYLES, 1))
      value = value[:, 0]
    yield name, value


@case(
  "psp_forward_psp", "last_layer_wplus/", network="Inverter (pSp)", slow=True
)
def last_layer_wplus():
  encoder_type = "BackboneEncoderUsingLastLayerIntoWPlus"
  avg = mean_code(STYLES, D)
  yield from _psp("last_layer_wplus", "psp_wplus_64", encoder_type, avg)


def _restyle(name, kind, encoder_type):
  net = make_inverter(kind, encoder_type, mean_code(STYLES, D))
  assert net.restyle
  average = call(net, lambda net: net.average_image())
  yield f"{name}/average_image", nchw(average)[0]

  def refine(net, x):
    return net.invert(x, iterations=3, all_steps=True)

  steps, w_plus = call(net, refine, images(2, 256, "restyle/x"))
  yield f"{name}/images", jnp.moveaxis(steps, -1, 2)
  yield f"{name}/latents", w_plus


@case("restyle", "e4e/", network="Inverter (ReStyle)", slow=True)
def restyle_e4e():
  kind = "restyle_e4e_64"
  yield from _restyle("e4e", kind, "ProgressiveBackboneEncoder")


@case("restyle", "psp/", network="Inverter (ReStyle)", slow=True)
def restyle_psp():
  yield from _restyle("psp", "restyle_psp_64", "BackboneEncoder")
