"""Parity of operations and layers, values and gradients (goldens/ops.npz)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from goldens.recipe import recipe_normal, recipe_tensor
from parity import (
  call,
  case,
  convert,
  differentiable,
  names,
  nchw,
  nhwc,
)

from encoder4editing_jax import ops
from encoder4editing_jax.converters import (
  discriminators,
  inverter,
  irse as irse_tables,
  stylegan2 as tables,
  table,
  transfer,
)
from encoder4editing_jax.models import (
  discriminator,
  heads,
  irse,
  layers,
  synthesis,
)

B, H, W = 2, 9, 7
FIR = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


def value_and_gradients(name, function, inputs):
  """`name`, and `name/grad_<input>` for the gradients that are stored."""
  inputs = {k: jnp.asarray(v) for k, v in inputs.items()}
  start = f"{name}/grad_"
  wanted = [f.removeprefix(start) for f in names("ops") if f.startswith(start)]
  chosen = {k: inputs.pop(k) for k in sorted(wanted)}
  shape = jax.eval_shape(function, {**inputs, **chosen}).shape
  seed = recipe_normal(f"{name}/g", shape)

  def total(chosen, rest):
    y = function({**rest, **chosen})
    return (y * seed).sum(), y

  run = jax.jit(jax.value_and_grad(total, has_aux=True))
  (_, y), gradients = run(chosen, inputs)
  yield name, y
  yield from ((start + k, g) for k, g in gradients.items())


@case("ops", "upfirdn2d/", network="operations")
def upfirdn2d():
  kernels = {"fir": FIR, "asym": recipe_normal("ops/upfirdn2d/kernel", (4, 3))}
  x = recipe_normal("ops/upfirdn2d/x", (B, 3, H, W))
  for name in sorted(f for f in names("ops") if f.startswith("upfirdn2d/")):
    if "/grad_" in name:
      continue
    kind, up, down, before, after = name.split("/")[1].split("_")
    pad = int(before.removeprefix("pad")), int(after)

    def function(v, kind=kind, up=int(up[2:]), down=int(down[4:]), pad=pad):
      kernel = jnp.asarray(kernels[kind], jnp.float32)
      return nchw(ops.upfirdn2d(nhwc(v["x"]), kernel, up, down, pad))

    yield from value_and_gradients(name, function, {"x": x})


@case("ops", "blur/", network="operations")
def blur():
  x = nhwc(jnp.asarray(recipe_normal("ops/blur/x", (B, 4, H, W))))
  yield "blur/pad1_1", nchw(ops.blur(x, (1, 1)))
  yield "blur/pad2_2", nchw(ops.blur(x, (2, 2)))
  yield "blur/pad2_1_up2", nchw(ops.blur(x, (2, 1), gain=4.0))
  yield "blur/upsample", nchw(ops.upsample2d(x))
  yield "blur/downsample", nchw(ops.downsample2d(x))


@case("ops", "flrelu_", "pixelnorm", network="operations")
def pointwise():
  for name, shape in (("flrelu_4d", (B, 6, H, W)), ("flrelu_2d", (B, 6))):

    def function(v):
      x = jnp.moveaxis(v["x"], 1, -1)
      return jnp.moveaxis(ops.fused_leaky_relu(x, v["bias"]), -1, 1)

    inputs = {
      "x": recipe_normal(f"ops/{name}/x", shape),
      "bias": recipe_normal(f"ops/{name}/b", (6,)),
    }
    yield from value_and_gradients(name, function, inputs)
  inputs = {"x": recipe_normal("ops/pixelnorm/x", (B, 16))}
  yield from value_and_gradients(
    "pixelnorm", lambda v: ops.pixel_norm(v["x"]), inputs
  )


@case("ops", "equal_linear_", network="operations")
def equal_linear():
  for name in ("lr1", "lr1_bias1", "lr001", "lr1_lrelu", "lr001_lrelu"):
    lr_mul = 0.01 if "lr001" in name else 1.0
    name = f"equal_linear_{name}"
    scale = 1 / lr_mul
    source = {
      "weight": recipe_normal(f"ops/{name}/weight", (7, 10), scale=scale),
      "bias": recipe_normal(f"ops/{name}/bias", (7,), scale=scale),
    }

    def build(lr_mul=lr_mul, activate="lrelu" in name):
      return layers.EqualLinear(
        10, 7, lr_mul=lr_mul, activate=activate, rngs=nnx.Rngs(0)
      )

    rows = (
      table.Row("weight", "kernel", table.LINEAR),
      table.Row("bias", "bias"),
    )
    net = convert(build, table.Table(rows), source)
    rebuild = differentiable(net, table.Table(rows))

    def function(v, rebuild=rebuild):
      return rebuild(v)(v["x"])

    x = recipe_normal(f"ops/{name}/x", (B, 10))
    yield from value_and_gradients(name, function, source | {"x": x})


@case("ops", "modconv_", network="operations")
def modulated_conv2d():
  cases = ("plain3", "plain1", "up3", "down3", "down1", "nodemod1", "nodemod3")
  for kind in cases:
    name, k = f"modconv_{kind}", int(kind[-1])
    bias = f"ops/{name}/modulation.bias"
    inputs = {
      "x": recipe_normal(f"ops/{name}/x", (B, 8, H, W)),
      "style": recipe_normal(f"ops/{name}/style", (B, 16)),
      "weight": recipe_normal(f"ops/{name}/weight", (1, 6, 8, k, k)),
      "modulation.weight": recipe_normal(
        f"ops/{name}/modulation.weight", (8, 16)
      ),
      "modulation.bias": 1 + recipe_normal(bias, (8,), scale=0.1),
    }

    def function(v, kind=kind):
      up = 2 if "up" in kind else 1
      layout = tables.MODULATED_UP if up == 2 else tables.MODULATED
      style = v["style"] @ v["modulation.weight"].T / 4  # 4 is sqrt(16)
      y = ops.modulated_conv2d(
        nhwc(v["x"]),
        layout.forward(v["weight"]),
        style + v["modulation.bias"][None],
        demodulate="nodemod" not in kind,
        up=up,
        down=2 if "down" in kind else 1,
      )
      return nchw(y)

    yield from value_and_gradients(name, function, inputs)


def _recipe(layer, build, rows, prefix=""):
  """Recipe weights, by official name, of the layer that `build()` makes."""
  shapes = transfer.source_shapes(transfer.abstract(build), rows)
  return {
    name: recipe_tensor(f"ops.{layer}.{name.removeprefix(prefix)}", shape)
    for name, shape in shapes.items()
  }


@case("ops", "styled_conv", "to_rgb", network="operations")
def styled_layers():
  x = nhwc(recipe_normal("ops/styled/x", (B, 8, H, W)))
  style = recipe_normal("ops/styled/style", (B, 16))
  for name, up in (("styled_conv", 1), ("styled_conv_up", 2)):
    shape = (H * up, W * up)

    def build(up=up, shape=shape):
      return synthesis.StyledConv(8, 6, shape, 16, up=up, rngs=nnx.Rngs(0))

    rows = tables.styled_table(up == 2)
    given = {"noise": np.zeros((*shape, 1))}
    net = convert(build, rows, _recipe(name, build, rows), given)
    noise = "ops/styled/noise_up" if up == 2 else "ops/styled/noise"
    noise = nhwc(recipe_normal(noise, (B, 1, *shape)))
    yield name, nchw(call(net, lambda m, *v: m(*v), x, style, noise))

  def build_rgb():
    return synthesis.ToRGB(8, 16, rngs=nnx.Rngs(0))

  rows = tables.rgb_table()
  net = convert(build_rgb, rows, _recipe("to_rgb", build_rgb, rows))
  yield "to_rgb_noskip", nchw(call(net, lambda m, *v: m(*v), x, style))
  x = nhwc(recipe_normal("ops/to_rgb/x", (B, 8, 2 * H, 2 * W)))
  skip = jnp.asarray(nhwc(recipe_normal("ops/to_rgb/skip", (B, 3, H, W))))
  image = call(net, lambda m, *v: m(*v), x, style) + ops.upsample2d(skip)
  yield "to_rgb_skip", nchw(image)


@case("ops", "conv_layer", "res_block", "equal_conv", network="operations")
def discriminator_layers():
  x = recipe_normal("ops/equal_conv/x", (B, 5, H, W))
  weight = recipe_normal("ops/equal_conv/weight", (6, 5, 3, 3))
  bias = recipe_normal("ops/equal_conv/bias", (6,))

  def build(i=5, **options):
    return layers.EqualConv(i, 6, 3, rngs=nnx.Rngs(0), **options)

  def one(weight, bias, **options):
    leaves = {"kernel": table.CONV.forward(weight), "bias": bias}
    return convert(
      lambda: build(weight.shape[1], **options), table.Table(), {}, leaves
    )

  net = one(weight, bias, stride=2, padding=1)
  yield "equal_conv_s2p1", nchw(call(net, lambda m, v: m(v), nhwc(x)))
  x = nhwc(recipe_normal("ops/disc/x", (B, 8, 12, 10)))
  for name, at, stride in (("conv_layer", 0, 1), ("conv_layer_down", 1, 2)):
    weight = recipe_normal(f"ops/{name}/{at}.weight", (6, 8, 3, 3))
    bias = recipe_normal(f"ops/{name}/{at + 1}.bias", (6,))
    net = one(weight, bias, stride=stride, padding=2 - stride)
    y = ops.blur(jnp.asarray(x), (2, 2)) if stride == 2 else jnp.asarray(x)
    yield name, nchw(ops.fused_leaky_relu(call(net, lambda m, v: m(v), y)))

  def block():
    return discriminator.ResidualBlock(8, 6, rngs=nnx.Rngs(0))

  rows = discriminators.block_table()
  shapes = transfer.source_shapes(transfer.abstract(block), rows)
  source = {
    k: recipe_normal(f"ops/res_block/{k}", shape) for k, shape in shapes.items()
  }
  net = convert(block, rows, source)
  yield "res_block", nchw(call(net, lambda m, v: m(v), x))


@case("ops", "se/", "ir_", "irse_", network="operations")
def residual_units():
  def squeeze():
    return irse.SqueezeExcite(32, dtype=None, rngs=nnx.Rngs(0))

  rows = table.kernel("fc1", "fc1") + table.kernel("fc2", "fc2")
  net = convert(squeeze, rows, _recipe("se", squeeze, rows))
  x = recipe_normal("ops/se/x", (B, 32, 6, 5))
  yield from _eval(net, "se", x)
  units = {
    "ir_same_s1": ((32, 32, 1), False, (6, 6)),
    "irse_same_s1": ((32, 32, 1), True, (7, 6)),
    "irse_same_s2": ((32, 32, 2), True, (9, 8)),
    "irse_wide_s2": ((32, 64, 2), True, (8, 7)),
  }
  for name, (arguments, squeeze_excite, size) in units.items():

    def build(arguments=arguments, squeeze_excite=squeeze_excite):
      return irse.Bottleneck(
        *arguments, squeeze_excite=squeeze_excite, rngs=nnx.Rngs(0)
      )

    rows = irse_tables.unit_table(transfer.abstract(build))
    net = convert(build, rows, _recipe(name, build, rows))
    x = recipe_normal(f"ops/{name}/x", (B, 32, *size))
    yield from _eval(net, name, x)
    yield from _train(net, name, x, rows)


def _eval(net, name, x):
  def function(v):
    return nchw(net(nhwc(v["x"])))

  yield from value_and_gradients(f"{name}/eval", function, {"x": x})


def _train(net, name, x, rows):
  """Values and gradients with batch statistics, and the running ones after."""
  net.train()
  graph, state = nnx.split(net)

  def function(v):
    return nchw(nnx.merge(graph, state, copy=True)(nhwc(v["x"])))

  yield from value_and_gradients(f"{name}/train", function, {"x": x})

  def after(state, x):
    net = nnx.merge(graph, state, copy=True)
    net(x)
    return nnx.state(net)

  new = nnx.merge(graph, jax.jit(after)(state, nhwc(x)))
  official = transfer.extract(new, rows)
  start = f"{name}/after."
  for field in names("ops"):
    if field.startswith(start):
      yield field, official[field.removeprefix(start)]


@case("ops", "style_block_", network="operations")
def style_heads():
  def build():
    return heads.StyleHeads(1, 24, 24, 16, rngs=nnx.Rngs(0))

  rows = inverter.heads_table(0, 1, 4)
  source = _recipe("style_block_16", build, rows, "styles.0.")
  net = convert(build, rows, source)
  for name, h in (("style_block_16", 16), ("style_block_16_12x16", 12)):
    x = recipe_normal(f"ops/{name}/x", (B, 24, h, 16))

    def function(v):
      return net(nhwc(v["x"]))[:, 0]

    yield from value_and_gradients(f"{name}/eval", function, {"x": x})


def _sizes(name):
  """The two sizes of a field `.../5x7_to_11x13`."""
  return [
    tuple(map(int, size.split("x")))
    for size in name.split("/")[1].split("_to_")
  ]


@case(
  "ops",
  "upsample_add/",
  "adaptive_pool/",
  "nearest_index/",
  network="operations",
)
def resampling():
  for name in sorted(names("ops")):
    if not name.startswith(("upsample_add/", "adaptive_pool/")):
      continue
    if "/grad_" in name:
      continue
    small, large = _sizes(name)
    a, b = name.split("/")[1].split("_to_")
    if name.startswith("upsample_add"):
      inputs = {
        "x": recipe_normal(f"ops/upsample_add/x{a}", (B, 4, *small)),
        "y": recipe_normal(f"ops/upsample_add/y{b}", (B, 4, *large)),
      }

      def function(v, size=large):
        x = ops.resize_align_corners(nhwc(v["x"]), size)
        return nchw(x) + v["y"]

    else:
      inputs = {"x": recipe_normal(f"ops/adaptive_pool/x{a}", (1, 2, *small))}

      def function(v, size=large):
        return nchw(ops.adaptive_avg_pool(nhwc(v["x"]), size))

    yield from value_and_gradients(name, function, inputs)
  for name in names("ops"):
    if name.startswith("nearest_index/"):
      n, m = map(int, name.split("/")[1].split("_to_"))
      rows = jnp.arange(n, dtype=jnp.float32).reshape(1, n, 1, 1)
      resized = ops.resize_nearest(rows, (m, 1))
      yield name, np.asarray(resized[0, :, 0, 0]).astype(np.int64)
