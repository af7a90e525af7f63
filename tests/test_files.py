"""Files have their old content or their new."""

import os

import pytest

from encoder4editing_jax import files


def test_a_file_appears_whole_with_the_usual_rights(tmp_path):
  path, other = tmp_path / "a.txt", tmp_path / "b.txt"
  other.write_text("usual")
  with files.replacing(path) as unfinished:
    assert unfinished.suffix == ".txt"
    unfinished.unlink()  # as writers do that make a file of their own
    unfinished.write_text("new")
    unfinished.chmod(0o600)
    assert not path.exists()
  assert path.read_text() == "new"
  assert path.stat().st_mode == other.stat().st_mode
  assert sorted(os.listdir(tmp_path)) == ["a.txt", "b.txt"]


def test_what_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
  path = tmp_path / "a.txt"
  files.replace_text(path, "old")
  with (
    pytest.raises(RuntimeError, match="half"),
    files.replacing(path) as unfinished,
  ):
    unfinished.write_text("ne")
    raise RuntimeError("half")
  assert path.read_text() == "old"
  assert os.listdir(tmp_path) == ["a.txt"]


def test_what_is_removed_leaves_the_old_file(tmp_path):
  path = tmp_path / "a.txt"
  files.replace_text(path, "old")
  with files.replacing(path) as unfinished:
    unfinished.unlink()
  assert path.read_text() == "old"
  assert os.listdir(tmp_path) == ["a.txt"]


def test_of_several_files_none_is_replaced_unless_all_can_be(
  tmp_path, monkeypatch
):
  from encoder4editing_jax.converters import writing

  one, two = tmp_path / "one.txt", tmp_path / "two.txt"
  one.write_text("old")
  writers = {
    one: lambda path: path.write_text("new"),
    two: lambda path: path.write_text("new"),
  }
  done = []

  def to_disk(path):
    done.append(path)
    if len(done) == 2:
      raise OSError(5, "Input/output error")

  monkeypatch.setattr(files, "to_disk", to_disk)
  with pytest.raises(OSError, match=r"two.txt cannot be written"):
    writing.put(writers, force=True)
  assert one.read_text() == "old" and sorted(tmp_path.iterdir()) == [one]


def test_reasons_are_one_line_without_the_path(tmp_path):
  with pytest.raises(OSError) as found:
    (tmp_path / "none").read_bytes()
  assert files.reason(found.value) == "no such file or directory"
  assert files.reason(ValueError("two\n  lines")) == "two lines"
  assert files.reason(ValueError()) == "ValueError"


def test_names_that_are_no_text_are_spelled_out(tmp_path):
  path = tmp_path / "table.csv"
  files.replace_text(path, os.fsdecode(b"caf\xe9,\xc3\xa9\n"))
  assert path.read_text("utf-8") == "caf\\udce9,é\n"
