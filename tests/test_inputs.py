"""Wrong inputs get their message where no types are checked, as users run."""

import subprocess
import sys

from test_architecture import ROOT

CODE = """
import jax.numpy as jnp
from flax import nnx
import encoder4editing_jax as e4e

# Without weights: nothing gets as far as computing.
encoder = nnx.eval_shape(lambda: e4e.SingleStyleEncoder(4, rngs=nnx.Rngs(0)))
generator = nnx.eval_shape(lambda: e4e.Generator(8, rngs=nnx.Rngs(0)))
images = jnp.zeros((1, 16, 16, 3))
kernel, style = jnp.zeros((3, 3, 3, 2)), jnp.zeros((1, 3))

for call in (
  lambda: encoder(images[0]),
  lambda: encoder((images * 255).astype("uint8")),
  lambda: encoder(images[..., :1]),
  lambda: generator.synthesis(jnp.zeros((1, 4))),
  lambda: generator.synthesis(jnp.zeros((1, 6, 4))),
  lambda: e4e.ops.modulated_conv2d(images, kernel, style, up=4),
  lambda: e4e.ops.modulated_conv2d(images, kernel, style, up=2, down=2),
  lambda: e4e.ops.upfirdn2d(images, (1.0, 1.0), down=0),
):
  try:
    call()
  except ValueError as error:
    print(error)
  else:
    print("nothing was raised")
"""

WORDS = (
  "images of shape (16, 16, 3) are no batch; pass [b h w 3]",
  "images are uint8; pass floats in [-1, 1]",
  "do not have 3 channels",
  "w_plus has shape (1, 4); pass [b n d]",
  "w_plus has 6 styles, this generator takes 4",
  "up=4, down=1: pass 1 or 2",
  "up=2, down=2: pass 1 or 2",
  "up=1, down=0: pass 1 or more",
)


def test_wrong_inputs_say_what_to_pass():
  done = subprocess.run(
    [sys.executable, "-c", CODE],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  told = done.stdout.splitlines()
  assert len(told) == len(WORDS), told
  for line, words in zip(told, WORDS, strict=True):
    assert words in line
