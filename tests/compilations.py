"""How often XLA compiles."""

import contextlib

import jax

BUILT = "/jax/core/compile/backend_compile_duration"


@contextlib.contextmanager
def compilations():
  """A list that has one entry for each compilation in the block."""
  found = []

  def listen(event, seconds, **facts):
    if event == BUILT:
      found.append(facts)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield found
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
