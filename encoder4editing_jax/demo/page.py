"""The page: what its controls do."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from encoder4editing_jax.demo import session as visits
from encoder4editing_jax.demo.engine import Engine
from encoder4editing_jax.demo.layout import TO_MIX, Controls, place_controls
from encoder4editing_jax.demo.session import POINTS, Session

QUIET: dict[str, Any] = {
  "show_progress": "hidden",
  "api_visibility": "private",
}
KEPT = 3600  # seconds that files of visitors stay


def make_page(
  engine: Engine, reach: float, examples: Sequence[tuple[str, str]]
) -> Any:
  """The page, not yet served.

  Args:
    engine: inverts and paints.
    reach: where sliders end, in units of the directions.
    examples: picture files and what they are called; may be none.

  Returns:
    `gradio.Blocks`.
  """
  import gradio as gr

  with gr.Blocks(
    title="Invert and edit", analytics_enabled=False, delete_cache=(600, KEPT)
  ) as page:
    controls = place_controls(engine, reach, examples)
    _connect_photo(engine, controls)
    _connect_examples(engine, controls, [path for path, _ in examples])
    _connect_codes(engine, controls)
    _connect_edits(engine, controls)
  return page


def _question(session: Session) -> str:
  """What is to be done next with a photo."""
  if len(session.points) < len(POINTS):
    k = len(session.points)
    return (
      f"**Align:** click {POINTS[k]} ({k + 1} of {len(POINTS)}; left and "
      "right as you see them). Or skip alignment: the whole photo is taken."
    )
  return "All points are placed. Invert, or click to begin anew."


def _refused(c: Controls, error: Exception) -> dict[Any, Any]:
  return {c.message: f"⚠️ **This does not work:** {error}"}


def _photo_shown(c: Controls, session: Session) -> dict[Any, Any]:
  import gradio as gr

  complete = len(session.points) == len(POINTS)
  return {
    c.state: session,
    c.photo: gr.update(value=visits.shown(session), visible=True),
    c.message: _question(session),
    c.undo: gr.update(interactive=bool(session.points)),
    c.align: gr.update(interactive=complete),
    c.skip: gr.update(interactive=True),
  }


def _seen(c: Controls) -> list[Any]:
  photo = [c.photo, c.message, c.undo, c.align, c.skip]
  return [c.state, *photo, c.upload, c.camera]


def _taken(
  engine: Engine, c: Controls, session: Session, path: str | None
) -> dict[Any, Any]:
  """What the page shows when a file has come; its place is free again."""
  emptied = {c.upload: None, c.camera: None}
  if path is None:
    return emptied
  try:
    data = Path(path).read_bytes()
    session = visits.open_photo(session, data, path, engine.size)
  except (OSError, ValueError) as error:
    return emptied | _refused(c, error)
  return emptied | _photo_shown(c, session)


def _connect_photo(engine: Engine, c: Controls) -> None:
  """Photos that come, and points on them."""
  import gradio as gr

  def take(session: Session, path: str | None) -> dict[Any, Any]:
    return _taken(engine, c, session, path)

  def click(session: Session, event: gr.SelectData) -> dict[Any, Any]:
    if session.photo is None:  # the server has begun anew
      return _refused(
        c, ValueError("this visit is over; open the photo again.")
      )
    return _photo_shown(c, visits.place(session, *map(float, event.index)))

  def undo(session: Session) -> dict[Any, Any]:
    return _photo_shown(c, visits.take_back(session))

  seen = _seen(c)
  c.upload.upload(take, [c.state, c.upload], seen, api_name="photo")
  c.camera.input(take, [c.state, c.camera], seen, api_visibility="private")
  c.photo.select(click, c.state, seen, **QUIET)
  c.undo.click(undo, c.state, seen, **QUIET)


def _connect_examples(engine: Engine, c: Controls, paths: list[str]) -> None:
  """Examples are inverted at once."""
  import gradio as gr

  def take(session: Session, event: gr.SelectData) -> dict[Any, Any]:
    return _taken(engine, c, session, paths[event.index])

  def invert(session: Session, role: str) -> dict[Any, Any]:
    return _inverted(engine, c, session, role)

  c.examples.select(take, c.state, _seen(c), **QUIET).then(
    invert, [c.state, c.role], _code_outputs(c), **QUIET
  )


def _code_outputs(c: Controls) -> list[Any]:
  faces = [c.before, c.inverted, c.after]
  return [c.state, c.message, *faces, *c.sliders, c.share, c.mixing, c.files]


def _inverted(
  engine: Engine, c: Controls, session: Session, role: str
) -> dict[Any, Any]:
  """What the page shows when a face has been inverted."""
  import gradio as gr

  to_mix = role == TO_MIX
  try:
    session = visits.find_codes(session, engine, to_mix)
  except ValueError as error:
    return _refused(c, error)
  if to_mix:
    return {
      c.state: session,
      c.share: gr.update(value=0.5),
      c.mixing: gr.update(open=True),
      c.message: "This face is mixed in now; the slider says how much of it.",
    }
  assert session.w_plus is not None
  again = engine.paint(session.w_plus)
  return {
    c.state: session,
    c.message: "Move the sliders to edit, or open another photo.",
    c.before: session.face,
    c.inverted: again,
    c.after: again,
    c.share: 0,
    c.files: gr.update(value=None, visible=False),
    **dict.fromkeys(c.sliders, 0),
  }


def _connect_codes(engine: Engine, c: Controls) -> None:
  """The two ways to invert, with alignment and without."""

  def align(session: Session, role: str) -> dict[Any, Any]:
    return _inverted(engine, c, session, role)

  def skip(session: Session, role: str) -> dict[Any, Any]:
    return _inverted(engine, c, visits.without_points(session), role)

  for button, function, name in (
    (c.align, align, "align"),
    (c.skip, skip, "skip"),
  ):
    button.click(function, [c.state, c.role], _code_outputs(c), api_name=name)


def _fresh_folder() -> Path:
  """A folder for files to download; those of an hour ago go."""
  for old in Path(tempfile.gettempdir()).glob("made-*"):
    with contextlib.suppress(OSError):
      if time.time() - old.stat().st_mtime > KEPT:
        shutil.rmtree(old)
  return Path(tempfile.mkdtemp(prefix="made-"))


def _connect_edits(engine: Engine, c: Controls) -> None:
  """Whatever moves the code, and the files made of it."""
  import gradio as gr

  live = [*c.sliders, c.layers, c.share]
  names = list(engine.directions)

  def asked(session: Session, values: Sequence[Any]) -> Any:
    *strengths, layers, share = values
    pairs = dict(zip(names, strengths, strict=True))
    return visits.codes(session, engine, pairs, layers, share)

  def edit(session: Session, *values: Any) -> Any:
    if session.w_plus is None:
      return gr.skip()
    return engine.paint(asked(session, values))

  def make(session: Session, *values: Any) -> dict[Any, Any]:
    try:
      w_plus = asked(session, values)
    except ValueError as error:
      return _refused(c, error)
    paths = visits.save(session, engine, w_plus, _fresh_folder())
    return {c.files: gr.update(value=list(map(str, paths)), visible=True)}

  gr.on(
    [control.input for control in live] + [c.share.change],
    edit,
    [c.state, *live],
    c.after,
    trigger_mode="always_last",
    show_progress="hidden",
    api_name="edit",
  )
  c.reset.click(
    lambda *values: [0] * len(values), c.sliders, c.sliders, **QUIET
  ).then(edit, [c.state, *live], c.after, **QUIET)
  c.make.click(make, [c.state, *live], [c.files, c.message], api_name="files")
