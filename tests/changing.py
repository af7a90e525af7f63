"""Configs with some fields changed."""

import dataclasses


def change(config, **sections):
  """A config with some fields of some sections changed."""
  changed = {
    name: dataclasses.replace(getattr(config, name), **fields)
    for name, fields in sections.items()
  }
  return dataclasses.replace(config, **changed)
