"""SIGTERM and SIGINT: a run finishes its step, saves, and ends."""

import contextlib
import os
import signal
import socket
import sys
import threading

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(Exception):
  """A signal has ended a run, whose state is saved.

  Args:
    number: of the signal; the exit status is 128 more.
    message: what was saved, and how to go on.
  """

  def __init__(self, number: int, message: str):
    super().__init__(message)
    self.status = 128 + number


class Stopping:
  """Notes the first signal, and lets a second one end the process at once.

  A thread reads them: Python's own handlers wait while XLA compiles or runs.
  Before and after the `with` block, and outside of the main thread, where
  Python takes no signals, they do what they did before.
  """

  def __init__(self) -> None:
    self.signal: signal.Signals | None = None
    """The signal that has come."""

  def __enter__(self) -> "Stopping":
    self._left = contextlib.ExitStack()
    if threading.current_thread() is threading.main_thread():
      self._listen()
    return self

  def __exit__(self, *error: object) -> None:
    self._left.close()

  def _listen(self) -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    thread = threading.Thread(target=self._read, args=(ours,), daemon=True)
    thread.start()
    self._left.callback(theirs.close)  # which ends the thread
    before = signal.set_wakeup_fd(theirs.fileno())
    self._left.callback(signal.set_wakeup_fd, before)
    for number in SIGNALS:
      handler = signal.signal(number, lambda *_: None)
      self._left.callback(signal.signal, number, handler)

  def _read(self, signals: socket.socket) -> None:
    with signals:
      while found := signals.recv(1):
        if found[0] not in SIGNALS:
          continue
        if self.signal is not None:
          os._exit(128 + found[0])
        self.signal = signal.Signals(found[0])
        sys.stderr.write(
          f"{self.signal.name}: finishing the step, then saving; once more to "
          "end at once\n"
        )
        sys.stderr.flush()
