"""The controls of the page, and where they stand."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from encoder4editing_jax.demo.engine import Engine
from encoder4editing_jax.demo.session import Session

# Small pictures fill their place; what edits do stays in sight while sliders
# are moved.
STYLE = """
.gradio-container {max-width: 1180px !important; margin: auto !important;
  overflow: clip !important}
#faces {position: sticky; top: 0; z-index: 1000; flex-wrap: nowrap; gap: 8px;
  background: var(--body-background-fill); padding: 4px 0 8px}
#faces > * {min-width: 0 !important}
.face {aspect-ratio: 1}
.face * {max-height: 100%}
.face .image-container, .face .image-frame, .face button {
  width: 100%; height: 100%}
.face img {width: 100% !important; height: 100% !important;
  object-fit: contain}
#photo img {max-height: 60vh; object-fit: contain}
#examples, #examples * {min-height: 0 !important}
#examples, #examples .grid-wrap {height: auto !important; max-height: none}
#examples button {height: auto !important; aspect-ratio: 1}
#examples .grid-container {height: auto !important;
  grid-template-columns: repeat(4, minmax(0, 1fr)) !important}
#message {min-height: 3em}
#faces p {text-align: center; font-weight: 600; margin: 0}
"""
TO_EDIT, TO_MIX = "edit this face", "mix it into the face"
WELCOME = "Drop a photo, take one, or click one of the examples."


class Controls(NamedTuple):
  """The components that events read or write."""

  state: Any
  upload: Any
  camera: Any
  examples: Any
  role: Any
  photo: Any
  message: Any
  undo: Any
  align: Any
  skip: Any
  before: Any
  inverted: Any
  after: Any
  sliders: list[Any]
  reset: Any
  layers: Any
  share: Any
  make: Any
  files: Any
  mixing: Any


def place_controls(
  engine: Engine, reach: float, examples: Sequence[tuple[str, str]]
) -> Controls:
  """Puts the controls on the `gradio.Blocks` that are being made."""
  import gradio as gr

  gr.Markdown("# Invert and edit")
  with gr.Row():
    with gr.Column(scale=2, min_width=300):
      left = _upload_controls(examples) | _point_controls()
    with gr.Column(scale=3, min_width=300):
      right = _edit_controls(engine, reach)
  return Controls(state=gr.State(Session()), **left, **right)


def _upload_controls(examples: Sequence[tuple[str, str]]) -> dict[str, Any]:
  import gradio as gr

  found: dict[str, Any] = {}
  found["upload"] = gr.File(
    label="Photo", file_types=["image"], height=130, elem_id="upload"
  )
  with gr.Accordion("Take a photo", open=False):
    found["camera"] = gr.Image(
      sources=["webcam"],
      type="filepath",
      image_mode=None,
      show_label=False,
      elem_id="camera",
    )
  found["examples"] = gr.Gallery(
    list(examples),
    columns=4,
    height="auto",
    show_label=False,
    allow_preview=False,
    interactive=False,
    object_fit="contain",
    visible=bool(examples),
    elem_id="examples",
    buttons=[],
  )
  found["role"] = gr.Radio(
    [TO_EDIT, TO_MIX], value=TO_EDIT, label="What it is for", elem_id="role"
  )
  return found


def _point_controls() -> dict[str, Any]:
  """What aligns an opened photo."""
  import gradio as gr

  found: dict[str, Any] = {}
  found["message"] = gr.Markdown(WELCOME, elem_id="message")
  found["photo"] = gr.Image(
    label="Click the five points here",
    interactive=False,
    format="jpeg",
    elem_id="photo",
    buttons=[],
    visible=False,
  )
  with gr.Row():
    names = {"undo": "Undo", "align": "Align", "skip": "Skip alignment"}
    for key, text in names.items():
      found[key] = gr.Button(
        text,
        interactive=False,
        min_width=60,
        scale=2 if key == "skip" else 1,
        size="md",
        elem_id=key,
        variant="secondary" if key == "undo" else "primary",
      )
  return found


def _mixing_controls(engine: Engine) -> dict[str, Any]:
  import gradio as gr

  found: dict[str, Any] = {}
  found["mixing"] = gr.Accordion("Mix with another face", open=False)
  with found["mixing"]:
    gr.Markdown(f"Open a second photo with *{TO_MIX}* chosen beside it.")
    with gr.Row():
      found["share"] = gr.Slider(
        0, 1, 0, step=0.05, label="Share of the other face", elem_id="share"
      )
      found["layers"] = gr.Dropdown(
        list(engine.layers),
        value=engine.layers[-2 if len(engine.layers) > 2 else -1],
        label="In which layers",
        min_width=120,
      )
  return found


def _slider(k: int, name: str, reach: float) -> Any:
  import gradio as gr

  return gr.Slider(
    -reach,
    reach,
    0,
    step=reach / 30,
    label=name.replace("_", " "),
    min_width=210,
    elem_id=f"slider-{k}",
    buttons=[],
  )


def _edit_controls(engine: Engine, reach: float) -> dict[str, Any]:
  import gradio as gr

  found: dict[str, Any] = {}
  with gr.Row(elem_id="faces"):
    names = {"before": "Photo", "inverted": "Inverted", "after": "Edited"}
    for key, text in names.items():
      with gr.Column(min_width=90):
        gr.Markdown(text)
        found[key] = gr.Image(
          show_label=False,
          interactive=False,
          format="png",
          elem_id=key,
          elem_classes="face",
          buttons=[],
        )
  found |= _mixing_controls(engine)
  with gr.Row():
    found["sliders"] = [
      _slider(k, name, reach) for k, name in enumerate(engine.directions)
    ]
  with gr.Row():
    found["reset"] = gr.Button("All sliders to 0", elem_id="reset")
    found["make"] = gr.Button(
      "Picture and codes as files", variant="primary", elem_id="make"
    )
  found["files"] = gr.File(
    label="Download",
    file_count="multiple",
    interactive=False,
    visible=False,
    elem_id="files",
  )
  return found
