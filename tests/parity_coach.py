"""Parity of whole training steps, and of losses that need no network.

The originals' loops, step by step: losses, codes and pictures of each step, and
after the last one the parameters, their change and the running statistics. The
originals' images are floats, and the codes that they draw are given: both enter
the step by its arguments. The strength of the noise is 0, so that drawing it
otherwise changes nothing.

A step makes more of a small error than a forward pass does (a nearly vanishing
gradient moves a weight by a whole step, either way): fields may be apart by
1e-3 where three times their noise floor is less.
"""

import jax
import jax.numpy as jnp
from changing import change
from goldens.recipe import recipe_normal
from parity import case
from parity_networks import D, images, mean_code
from replay import BATCH, Coach, run

from encoder4editing_jax import losses
from encoder4editing_jax.config import (
  Config,
  Data,
  Discriminator,
  Loss,
  Optim,
  Progressive,
  Run,
)
from encoder4editing_jax.models.arcface import face_crop

LOOSE = 1e-3
FIELDS = ("loss_dict/", "present/", "id_logs/", "latent", "y_hat", "after/")
FIELDS += ("delta/", "checksum/sum", "checksum/norm", "checksum/delta_norm")

E4E = Config(
  data=Data(size=(256, 256)),
  loss=Loss(lpips=0.8, identity=0.5),
  optim=Optim(lr=1e-4, batch_statistics="published"),
  discriminator=Discriminator(lr=2e-5, r1_every=4, pool=0),
  progressive=Progressive(steps=(0, 2, 3, 4, 5, 6, 7, 7, 1000, 1001)),
  run=Run(batch_size=BATCH),
)


FAST = change(
  E4E,
  optim={"lr": 1e-3},
  discriminator={"lr": 2e-4},
  progressive={"steps": (0, 1, 2, 3, 4, 4, 4, 4, 1000, 1001)},
)
CARS = change(
  E4E,
  data={"size": (192, 256)},
  loss={"identity": 0.0, "moco": 0.5},
  discriminator={"r1_every": 2},
  progressive={"steps": ()},
)
DECODER = change(
  E4E,
  model={"train_decoder": True},
  optim={"lr": 1e-3},
  discriminator={"r1_every": 2},
  progressive={"steps": ()},
)
PSP = change(
  E4E,
  model={"encoder": "GradualStyleEncoder"},
  loss={"identity": 0.1, "w_norm": 0.005, "adversarial": 0.0},
  progressive={"steps": ()},
)


def coach_case(golden, *more):
  return case(
    golden, *FIELDS, *more, network="training", slow=True, floor=LOOSE
  )


def same(steps, size, salt="coach/{}"):
  """Batches whose source is the target."""
  for t in range(steps):
    image = images(BATCH, size, salt.format(t))
    yield {"image": image, "source": image}


@coach_case("coach_e4e")
def e4e():
  coach = Coach(E4E, "e4e_64")
  yield from run("coach_e4e", coach, same(8, (256, 256)))


@coach_case("coach_e4e_fast")
def e4e_fast():
  batch = {
    "image": images(BATCH, (256, 256), "coach/0"),
    "source": images(BATCH, (256, 256), "coach/src0"),
  }
  yield from run("coach_e4e_fast", Coach(FAST, "e4e_64"), [batch] * 8)


@coach_case("coach_cars")
def cars():
  coach = Coach(CARS, "e4e_64")
  yield from run("coach_cars", coach, same(3, (192, 256)))


@coach_case("coach_psp")
def psp():
  yield from run("coach_psp", Coach(PSP, "psp_64"), same(4, (256, 256)))


MORE = ("grad0/", "exp_avg1/", "exp_avg/")
MORE += tuple(f"checksum_decoder/{k}" for k in ("sum", "norm", "delta_norm"))


@coach_case("coach_decoder", *MORE)
def decoder():
  image = images(BATCH, (256, 256), "coach/0")
  batches = [{"image": image, "source": image}] * 4
  yield from run("coach_decoder", Coach(DECODER, "e4e_64"), batches)


# Plain losses.


@case("loss_simple", "l2", "w_norm", "delta_norm", network="losses")
def plain_losses():
  y_hat, y = (images(BATCH, 256, f"loss/{name}") for name in ("y_hat", "y"))
  codes = jnp.asarray(recipe_normal("loss/latent", (BATCH, 18, D)))
  average = jnp.asarray(mean_code(18, D))
  value, gradient = jax.value_and_grad(losses.l2)(y_hat, y)
  yield "l2/loss", value
  yield "l2/grad_y_hat", gradient.transpose(0, 3, 1, 2)
  yield "l2_crop/loss", losses.l2(face_crop(y_hat), face_crop(y))
  first = losses.active_styles(18, jnp.int32(5))
  for name, function in (
    ("w_norm_avg", lambda w: losses.w_norm(w, average)),
    ("w_norm_noavg", lambda w: losses.w_norm(w, jnp.zeros_like(average))),
    ("delta_norm1", lambda w: losses.delta(w, first, 1.0)),
    ("delta_norm2", lambda w: losses.delta(w, first, 2.0)),
  ):
    value, gradient = jax.value_and_grad(function)(codes)
    yield f"{name}/loss", value
    yield f"{name}/grad_latent", gradient
