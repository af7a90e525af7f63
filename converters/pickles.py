"""A pickle machine that imports nothing and calls nothing a file names.

Pickle is a small stack language (PEP 307, 3154); `pickletools` documents its
instructions. Names of classes and functions stay strings here; the few that
checkpoints need have handlers, which the caller passes. Work and memory are
bounded by the number of instructions and by the size of the file.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from encoder4editing_jax.converters.limits import CheckpointError, Limits

LARGE = 4096  # longer strings of bytes stay views of the file
LONGEST_INTEGER = 64  # bytes


class Name(NamedTuple):
  """A class or function that a pickle refers to; only its name."""

  module: str
  name: str

  def __str__(self) -> str:
    return f"{self.module}.{self.name}"[:80]


@dataclass(eq=False)
class Object:
  """An instance of a class that stays unknown: its name and its state."""

  kind: Name
  state: Any = None


@dataclass(frozen=True)
class Handlers:
  """What may be built.

  Args:
    call: by name of a function or class, what its call makes of arguments.
    build: `build(object, state)`, sets the state of an object, or returns
      another one in its place; None if it cannot.
    persistent: resolves persistent ids.
  """

  call: Mapping[str, Callable[..., Any]]
  build: Callable[[Any, Any], Any]
  persistent: Callable[[Any], Any]


_MARK = object()


@dataclass
class Machine:
  """Runs the pickles of one file, one after another.

  Args:
    data: the file.
    handlers: what may be built.
    limits: its instructions are used up.
    position: of the next pickle.
  """

  data: memoryview
  handlers: Handlers
  limits: Limits
  position: int = 0
  stack: list[Any] = field(default_factory=list)
  memo: dict[int, Any] = field(default_factory=dict)

  def load(self) -> Any:
    """The object of the next pickle.

    Raises:
      CheckpointError: it names what has no handler, or asks for too much.
      IndexError, KeyError, ...: it is damaged.
    """
    self.stack, self.memo = [], {}
    while True:
      self.limits.instructions -= 1
      if self.limits.instructions < 0:
        raise CheckpointError("it has too many pickle instructions")
      code = self.take(1)[0]
      if code == 0x2E:  # STOP
        if len(self.stack) != 1:
          raise CheckpointError("its pickle is damaged")
        return self.stack.pop()
      instruction = INSTRUCTIONS.get(code)
      if instruction is None:
        raise CheckpointError(f"its pickle has an instruction {code:#04x}")
      instruction(self)

  def take(self, n: int) -> memoryview:
    """The next n bytes."""
    start, self.position = self.position, self.position + n
    if n < 0 or self.position > len(self.data):
      raise CheckpointError("it ends in the middle of a pickle")
    return self.data[start : self.position]

  def number(self, form: str) -> Any:
    """The next number, in a format of `struct`."""
    return struct.unpack(form, self.take(struct.calcsize(form)))[0]

  def line(self) -> str:
    """Text up to the end of a line."""
    for length in range(512):
      if self.take(1)[0] == 0x0A:
        end = self.position
        return bytes(self.data[end - length - 1 : end - 1]).decode()
    raise CheckpointError("its pickle has a name that does not end")

  def pop(self) -> Any:
    """The top of the stack."""
    self.top(object)
    return self.stack.pop()

  def top(self, kind: type) -> Any:
    """The top of the stack, which stays there."""
    found = self.stack[-1]
    if found is _MARK or not isinstance(found, kind):
      raise CheckpointError("its pickle is damaged")
    return found

  def pop_to_mark(self) -> list[Any]:
    """What lies above the last mark."""
    at = len(self.stack) - 1
    while self.stack[at] is not _MARK:
      at -= 1  # without a mark, past the start: IndexError
    items = self.stack[at + 1 :]
    del self.stack[at:]
    return items

  def set_items(self, items: list[Any]) -> None:
    """Adds keys and values, alternating, to the dictionary on top."""
    target = self.top(dict)
    for key, value in zip(items[::2], items[1::2], strict=True):
      add_item(target, key, value)

  def call(self, function: Any, arguments: Any) -> Any:
    """What the handler of a name makes of its arguments."""
    if not isinstance(function, Name) or not isinstance(arguments, tuple):
      raise CheckpointError("its pickle calls something that has no name")
    handler = self.handlers.call.get(str(function))
    if handler is None:
      raise CheckpointError(
        f"it refers to {function}, which no file of weights needs; nothing of "
        "it was run. If it is a whole model, load it where it was made and "
        "save its state_dict()"
      )
    return handler(*arguments)


def add_item(target: dict[Any, Any], key: Any, value: Any) -> None:
  """Sets a new key; keys are plain values, so that hashing them is cheap."""
  if isinstance(key, memoryview):
    raise CheckpointError("its pickle has a key that is very long")
  if key is not None and not isinstance(key, (str, bytes, int, float)):
    raise CheckpointError(f"its pickle has a {type(key).__name__} as a key")
  if key in target:
    raise CheckpointError(f"its pickle has the key {str(key)[:60]!r} twice")
  target[key] = value


def _text(raw: memoryview) -> str:
  return str(raw, "utf-8", "surrogatepass")


def _python_2_string(raw: memoryview) -> str | bytes:
  try:
    return str(raw, "utf-8")
  except UnicodeDecodeError:
    return bytes(raw)


def _blob(raw: memoryview) -> bytes | memoryview:
  return raw if len(raw) > LARGE else bytes(raw)


def _integer(m: Machine, form: str) -> int:
  size = m.number(form)
  if size > LONGEST_INTEGER:
    raise CheckpointError(f"its pickle has an integer of {size} bytes")
  return int.from_bytes(m.take(size), "little", signed=True)


def _tuple(m: Machine, n: int) -> None:
  items = [m.pop() for _ in range(n)]
  m.stack.append(tuple(items[::-1]))


def _global(m: Machine) -> None:
  module = m.line()
  m.stack.append(Name(module, m.line()))


def _stack_global(m: Machine) -> None:
  name, module = m.pop(), m.pop()
  if not isinstance(name, str) or not isinstance(module, str):
    raise CheckpointError("its pickle is damaged")
  m.stack.append(Name(module, name))


def _reduce(m: Machine) -> None:
  arguments, function = m.pop(), m.pop()
  m.stack.append(m.call(function, arguments))


def _build(m: Machine) -> None:
  state, target = m.pop(), m.pop()
  built = m.handlers.build(target, state)
  if built is None:
    what = target if isinstance(target, Name) else type(target).__name__
    raise CheckpointError(f"its pickle sets attributes of {what}")
  m.stack.append(built)


def _append(m: Machine, items: list[Any]) -> None:
  m.top(list).extend(items)


def _add(m: Machine) -> None:
  for item in (items := m.pop_to_mark()):
    add_item({}, item, None)
  m.top(set).update(items)


def _put(m: Machine, index: int) -> None:
  m.memo[index] = m.top(object)


def _push(value: Callable[[Machine], Any]) -> Callable[[Machine], None]:
  return lambda m: m.stack.append(value(m))


def _sized(form: str, convert: Callable[[memoryview], Any]) -> Any:
  return _push(lambda m: convert(m.take(m.number(form))))


def _dict(m: Machine) -> None:
  items = m.pop_to_mark()
  m.stack.append({})
  m.set_items(items)


INSTRUCTIONS: dict[int, Callable[[Machine], Any]] = {
  0x80: lambda m: m.take(1),  # PROTO
  0x95: lambda m: m.take(8),  # FRAME
  ord("("): _push(lambda m: _MARK),
  ord("0"): lambda m: m.stack.pop(),
  ord("1"): lambda m: m.pop_to_mark(),
  ord("2"): lambda m: m.stack.append(m.top(object)),
  ord("N"): _push(lambda m: None),
  0x88: _push(lambda m: True),
  0x89: _push(lambda m: False),
  ord("J"): _push(lambda m: m.number("<i")),
  ord("K"): _push(lambda m: m.number("<B")),
  ord("M"): _push(lambda m: m.number("<H")),
  0x8A: _push(lambda m: _integer(m, "<B")),
  0x8B: _push(lambda m: _integer(m, "<i")),
  ord("G"): _push(lambda m: m.number(">d")),
  ord("U"): _sized("<B", _python_2_string),
  ord("T"): _sized("<i", _python_2_string),
  0x8C: _sized("<B", _text),
  ord("X"): _sized("<I", _text),
  0x8D: _sized("<Q", _text),
  ord("C"): _sized("<B", _blob),
  ord("B"): _sized("<I", _blob),
  0x8E: _sized("<Q", _blob),
  0x96: _sized("<Q", _blob),
  ord(")"): _push(lambda m: ()),
  0x85: lambda m: _tuple(m, 1),
  0x86: lambda m: _tuple(m, 2),
  0x87: lambda m: _tuple(m, 3),
  ord("t"): _push(lambda m: tuple(m.pop_to_mark())),
  ord("]"): _push(lambda m: []),
  ord("l"): _push(lambda m: m.pop_to_mark()),
  ord("a"): lambda m: _append(m, [m.pop()]),
  ord("e"): lambda m: _append(m, m.pop_to_mark()),
  ord("}"): _push(lambda m: {}),
  ord("d"): _dict,
  ord("s"): lambda m: m.set_items([m.pop(), m.pop()][::-1]),
  0x8F: _push(lambda m: set()),
  0x90: _add,
  ord("u"): lambda m: m.set_items(m.pop_to_mark()),
  ord("c"): _global,
  0x93: _stack_global,
  ord("R"): _reduce,
  0x81: _reduce,  # NEWOBJ
  ord("b"): _build,
  ord("q"): lambda m: _put(m, m.number("<B")),
  ord("r"): lambda m: _put(m, m.number("<I")),
  0x94: lambda m: _put(m, len(m.memo)),
  ord("h"): _push(lambda m: m.memo[m.number("<B")]),
  ord("j"): _push(lambda m: m.memo[m.number("<I")]),
  ord("Q"): _push(lambda m: m.handlers.persistent(m.pop())),
}
