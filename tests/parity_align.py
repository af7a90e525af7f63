"""Parity of the FFHQ crop; bytes agree to the last one."""

import parity
from goldens.recipe import recipe_uint8
from parity import case

from encoder4editing_jax import align

SIZES = ((360, 300), (900, 760))
PLACES = ("center", "corner", "small")
NAMES = {f"{h}x{w}/{p}": (h, w) for h, w in SIZES for p in PLACES}


@case(
  "alignment",
  *(f"{name}/aligned_uint8" for name in NAMES),
  network="images",
  floor=1e-12,
)
def crops():
  golden = parity.load("alignment")
  for name, (h, w) in NAMES.items():
    image = recipe_uint8(h, w, "align/")
    landmarks = golden[f"{name}/landmarks"]
    yield f"{name}/aligned_uint8", align.align(image, landmarks)
