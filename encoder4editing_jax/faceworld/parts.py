"""The parts of a drawn face, from the background to the glasses.

Every part is a few layers, to be laid over what is there. `a` holds the
attributes by name, each `[b 1 1]` in [-1, 1]. Three frames are used: the whole
picture, the head (moves little with yaw and pitch) and the front of the face
(moves more: parallax).
"""

from collections.abc import Iterator

import jax.numpy as jnp

from encoder4editing_jax.faceworld.painting import (
  Canvas,
  Field,
  Layer,
  Picture,
  Value,
  box,
  ellipse,
  inside,
  parabola,
  ramp,
  rgb,
)

Attributes = dict[str, Value]
Layers = Iterator[Layer]


def skin(a: Attributes) -> Picture:
  """Skin colour by tone."""
  return parabola(
    ((0.97, 0.82, 0.72), (0.83, 0.62, 0.48), (0.53, 0.36, 0.26)),
    a["skin_tone"],
  )


def hair(a: Attributes) -> Picture:
  """Hair colour, greying with age."""
  dark, mid, blond = (0.25, 0.20, 0.19), (0.44, 0.28, 0.18), (0.85, 0.68, 0.40)
  grey = rgb(0.72, 0.72, 0.74)
  colour = parabola((dark, mid, blond), a["hair_colour"])
  return colour + 0.75 * ramp(a["age"], -0.1, 1.0)[:, None] * (grey - colour)


def background(c: Canvas, a: Attributes) -> Picture:
  """The wall: a colour, and a soft light from one side."""
  colour = parabola(
    ((0.46, 0.62, 0.82), (0.86, 0.80, 0.70), (0.50, 0.72, 0.58)),
    a["background"],
  )
  light = 0.10 * c.x * a["light_direction"] - 0.14 * c.y - 0.06 * c.x**2
  return colour + light[:, None]


def hair_behind(head: Canvas, a: Attributes, hair: Picture) -> Layers:
  """The hair behind head and neck, as long as it is."""
  top, bottom = -0.72, 0.38 + 0.36 * a["hair_length"]
  half = (bottom - top) / 2
  shape = head.moved(0.0, (top + bottom) / 2)
  width = 0.53 + 0.03 * a["hair_length"] + 0.03 * a["face_width"]
  radius = jnp.minimum(0.42, half - 0.02)
  alpha = inside(box(shape, width, half, radius), 1.5 * head.pixel)
  shade = 0.82 + 0.08 * a["light_direction"] * head.x
  yield Layer(hair * shade[:, None], alpha, "hair")


def body(c: Canvas, a: Attributes, skin: Picture) -> Layers:
  """Neck, shoulders and collar."""
  cloth = parabola(
    ((0.80, 0.52, 0.42), (0.36, 0.46, 0.58), (0.66, 0.50, 0.62)),
    a["background"],
  )
  light = 1 + 0.18 * a["light_direction"] * c.x
  neck = box(c.moved(0.02 * a["yaw"], 0.60), 0.17, 0.30, 0.1)
  shadow = 0.68 + 0.35 * ramp(c.y, 0.50, 0.95)
  shaded = skin * (shadow * light)[:, None]
  yield Layer(shaded, inside(neck, c.pixel), "skin")
  shoulders = ellipse(c.moved(0.0, 1.16), 0.86, 0.42)
  yield Layer(cloth * light[:, None], inside(shoulders, c.pixel), "clothes")
  collar = ellipse(c.moved(0.02 * a["yaw"], 0.76), 0.20, 0.11)
  shaded = skin * (0.82 * light)[:, None]
  yield Layer(shaded, inside(collar, c.pixel), "skin")


def face_shape(head: Canvas, a: Attributes) -> Field:
  """Coverage of the head without ears; its jaw narrows below the eyes."""
  narrow = 1 - 0.22 * ramp(head.y, 0.0, 0.75)
  shape = Canvas(head.x / narrow, head.y, head.pixel)
  return inside(ellipse(shape, _half_width(a), 0.58), head.pixel)


def _half_width(a: Attributes) -> Value:
  return 0.41 + 0.05 * a["face_width"]


def face(head: Canvas, face: Field, a: Attributes, skin: Picture) -> Layers:
  """The lit head with ears."""
  for side in (-1.0, 1.0):
    ear = ellipse(head.moved(side * (_half_width(a) + 0.01), 0.06), 0.07, 0.12)
    yield Layer(0.86 * skin, inside(ear, head.pixel), "skin")
  across = head.x / 0.46
  light = 1.0 + 0.22 * a["light_direction"] * across - 0.10 * across**2
  light = light - 0.12 * ramp(head.y, 0.15, 0.62)
  colour = jnp.minimum(skin * light[:, None], 1.0)
  for side in (-1.0, 1.0):
    cheek = head.moved(0.06 * a["yaw"] + side * 0.24, 0.17)
    blush = jnp.exp(-(cheek.x**2 + cheek.y**2) / 0.018)
    blush = blush * (0.16 + 0.10 * a["smile"])
    colour = colour + blush[:, None] * rgb(0.10, -0.22, -0.18)
  yield Layer(colour, face, "skin")


def folds(front: Canvas, a: Attributes, skin: Picture) -> Layers:
  """Age: folds beside the mouth and lines on the forehead."""
  alpha = 0.0
  for side in (-1.0, 1.0):
    fold = front.moved(side * 0.19, 0.24)
    line = jnp.abs(fold.x - side * (0.35 * fold.y + 0.02)) - 0.004
    alpha += inside(line, 0.06) * jnp.exp(-((fold.y / 0.10) ** 2))
    bag = front.moved(side * 0.19, 0.055)
    arc = jnp.abs(bag.y + 1.5 * bag.x**2) - 0.004
    alpha += inside(arc, 0.06) * jnp.exp(-((bag.x / 0.09) ** 2))
  for height in (-0.29, -0.36):
    line = jnp.abs(front.y - height + 0.3 * front.x**2) - 0.004
    alpha += 0.8 * inside(line, 0.055) * jnp.exp(-((front.x / 0.20) ** 2))
  alpha = alpha * 0.6 * ramp(a["age"], -0.3, 1.0)
  yield Layer(0.62 * skin, alpha)


def beard(front: Canvas, face: Field, a: Attributes, hair: Picture) -> Layers:
  """Covers jaw and upper lip; the painted mouth comes later, on top."""
  jaw = inside(-ellipse(front.moved(0.0, -0.08), 0.37, 0.37), 0.12)
  jaw = jaw * ramp(front.y, -0.02, 0.20)
  lip = inside(ellipse(front.moved(0.0, 0.215), 0.19, 0.05), 0.05)
  alpha = jnp.maximum(jaw, lip) * face * 0.75 * ramp(a["beard"], -0.1, 1.0)
  yield Layer(0.85 * hair, alpha, "beard")


def nose(front: Canvas, a: Attributes, skin: Picture) -> Layers:
  """A shaded ridge and the shadow below the tip."""
  tip = front.moved(0.03 * a["yaw"], 0.10 + 0.015 * a["pitch"])
  side = tip.moved(-0.05 * a["light_direction"], -0.07)
  shade = jnp.exp(-((side.x / 0.05) ** 2) - (side.y / 0.13) ** 2)
  yield Layer(0.74 * skin, 0.55 * shade)
  under = jnp.exp(-((tip.x / 0.075) ** 2) - ((tip.y - 0.035) / 0.028) ** 2)
  yield Layer(0.55 * skin, 0.75 * under)


def mouth(front: Canvas, a: Attributes) -> Layers:
  """A curved slit: the corners rise and the lips part with the smile."""
  smile = a["smile"]
  mouth = front.moved(0.0, 0.325 - 0.01 * smile)
  width = 0.16 + 0.045 * smile
  # a parabola, lower in the middle of a smile, that flattens outside
  bow = 1 - 1.7 * jnp.minimum((mouth.x / width) ** 2, 1.2)
  bend = (0.062 * smile + 0.018 * smile**2) * bow
  line = Canvas(mouth.x, mouth.y - bend, mouth.pixel)
  opening = 0.012 + 0.052 * ramp(smile, -0.3, 1.0)
  lips = inside(ellipse(line, width, opening + 0.03), 1.2 * front.pixel)
  yield Layer(rgb(0.74, 0.36, 0.34), lips, "mouth")
  inner = inside(ellipse(line, 0.86 * width, opening), 1.2 * front.pixel)
  yield Layer(rgb(0.33, 0.12, 0.13), inner, "mouth")
  upper = ramp(-line.y, -0.02, 0.01) * ramp(smile, -0.2, 0.3)
  yield Layer(rgb(0.97, 0.95, 0.92), inner * upper, "teeth")


def eye(
  front: Canvas, a: Attributes, side: float, skin: Picture, hair: Picture
) -> Layers:
  """One eye (side -1 left of the picture, 1 right) and its brow."""
  eye = front.moved(side * 0.185, -0.06)
  opening = 0.062 + 0.036 * a["eye_openness"]
  opening = opening - 0.008 * ramp(a["smile"], 0.0, 1.0)
  lid = inside(
    ellipse(eye.moved(0.0, -0.012), 0.118, opening + 0.012), eye.pixel
  )
  yield Layer(0.36 * skin, lid, "eyes")
  white = inside(ellipse(eye, 0.105, opening), eye.pixel)
  yield Layer(rgb(0.97, 0.97, 0.97), white, "eyes")
  iris = eye.moved(0.045 * a["gaze"], 0.004)
  ring = inside(ellipse(iris, 0.060, 0.060), eye.pixel)
  yield Layer(rgb(0.30, 0.42, 0.46), ring * white, "irises")
  pupil = inside(ellipse(iris, 0.030, 0.030), eye.pixel)
  yield Layer(rgb(0.05, 0.05, 0.07), pupil * white, "irises")
  glint = inside(ellipse(iris.moved(-0.02, -0.02), 0.014, 0.014), eye.pixel)
  yield Layer(rgb(1.0, 1.0, 1.0), 0.9 * glint * white)
  brow = front.moved(side * 0.19, -0.20 - 0.02 * a["eye_openness"])
  bent = brow.y + 0.06 * side * brow.x + 1.6 * brow.x**2
  arch = Canvas(brow.x, bent, brow.pixel)
  shape = inside(ellipse(arch, 0.125, 0.022), 1.2 * eye.pixel)
  yield Layer(0.6 * hair, 0.85 * shape, "brows")


def hair_before(head: Canvas, a: Attributes, hair: Picture) -> Layers:
  """The cap of hair above the hairline, with a soft sheen."""
  width = 0.45 + 0.05 * a["face_width"]
  cap = ellipse(head.moved(0.0, -0.06), width + 0.03, 0.62)
  hairline = -0.37 + 0.9 * (head.x + 0.08) ** 2
  alpha = inside(jnp.maximum(cap, head.y - hairline), 1.2 * head.pixel)
  sheen = head.moved(0.2 * a["light_direction"], -0.52)
  light = 0.95 + 0.25 * jnp.exp(-(sheen.x**2 / 0.06) - sheen.y**2 / 0.012)
  light = light + 0.12 * a["light_direction"] * head.x
  yield Layer(hair * light[:, None], alpha, "hair")


def glasses(front: Canvas, a: Attributes) -> Layers:
  """Frames with bridge and arms, and a little reflection."""
  there = ramp(a["glasses"], -0.1, 0.5)
  frame, lens = 0.0, 0.0
  for side in (-1.0, 1.0):
    rim = box(front.moved(side * 0.20, -0.045), 0.155, 0.120, 0.08)
    frame = jnp.maximum(frame, inside(jnp.abs(rim) - 0.012, front.pixel))
    lens = jnp.maximum(lens, inside(rim, front.pixel))
    arm = front.moved(side * 0.40, -0.07)
    frame = jnp.maximum(frame, inside(box(arm, 0.05, 0.012, 0.01), front.pixel))
  bridge = box(front.moved(0.0, -0.07), 0.05, 0.014, 0.01)
  frame = jnp.maximum(frame, inside(bridge, front.pixel))
  yield Layer(rgb(0.80, 0.88, 0.95), 0.16 * lens * there)
  yield Layer(rgb(0.24, 0.21, 0.25), frame * there, "glasses")


def layers(whole: Canvas, a: Attributes) -> Layers:
  """All layers of a face over its `background`, from back to front."""
  head = whole.moved(0.04 * a["yaw"], 0.02 + 0.025 * a["pitch"])
  front = head.moved(0.065 * a["yaw"], 0.045 * a["pitch"])
  skin_colour, hair_colour = skin(a), hair(a)
  shape = face_shape(head, a)
  yield from hair_behind(head, a, hair_colour)
  yield from body(whole, a, skin_colour)
  yield from face(head, shape, a, skin_colour)
  yield from folds(front, a, skin_colour)
  yield from beard(front, shape, a, hair_colour)
  yield from nose(front, a, skin_colour)
  yield from mouth(front, a)
  for side in (-1.0, 1.0):
    yield from eye(front, a, side, skin_colour, hair_colour)
  yield from hair_before(head, a, hair_colour)
  yield from glasses(front, a)
