"""Parity of the measures of how well codes bear editing."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from goldens.recipe import recipe_normal
from parity import case
from parity_networks import D, images, make_inverter, mean_code

from encoder4editing_jax import editing
from encoder4editing_jax.metrics import editability

STYLES = 10  # of a generator of side 64
BATCH, BATCHES, STRENGTH = 2, 3, 3


@case("lec", "distances", "value", network="LEC", slow=True)
def consistency():
  net = make_inverter("e4e_64", "Encoder4Editing", mean_code(STYLES, D))
  direction = jnp.asarray(recipe_normal("editing/direction", (1, D), scale=0.3))
  graph, state = nnx.split(net)

  def edit(w_plus, sign):
    return editing.move(w_plus, direction, STRENGTH * sign)

  @jax.jit
  def measure(state, x):
    net = nnx.merge(graph, state)
    return editability.lec_distances(
      net.encode, edit, lambda w: net.decode(w, resize=True), x
    )

  batches = [images(BATCH, 256, f"lec/{i}") for i in range(BATCHES)]
  distances = np.concatenate([measure(state, x) for x in batches])
  yield "distances", distances.reshape(BATCHES, BATCH).mean(1)
  yield "value", np.float32(editability.lec(distances, legacy_batch=BATCH))


@case("lec", "filter/", network="LEC")
def outliers():
  drawn = recipe_normal("lec/outliers", (250,))
  yield "filter/kept", editability.without_outliers(drawn)
