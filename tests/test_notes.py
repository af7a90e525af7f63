"""What converters say reaches those who collect it, else the log."""

import threading

import pytest

from encoder4editing_jax.converters import notes


def test_notes_are_of_their_context(caplog):
  with notes.collected() as outer:
    notes.unused(["a"])
    with notes.collected() as inner:
      notes.unused(["b"])
      notes.warn("computed", w_avg="how")
    notes.unused(["c"])
  assert outer == notes.Notes(["a", "c"])
  assert inner == notes.Notes(["b"], {"w_avg": "how"}, ["computed"])
  assert not caplog.records


def test_without_a_collector_only_warnings_are_told(caplog):
  with pytest.raises(RuntimeError), notes.collected() as lost:
    raise RuntimeError
  notes.unused(["a"])
  notes.warn("computed", w_avg="how")
  assert [r.getMessage() for r in caplog.records] == ["computed"]
  assert lost == notes.Notes()


def test_threads_do_not_mix():
  def other():
    with notes.collected() as theirs:
      notes.unused(["b"])
    found.append(theirs.unused)

  found = []
  with notes.collected() as mine:
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
  assert found == [["b"]] and not mine.unused
