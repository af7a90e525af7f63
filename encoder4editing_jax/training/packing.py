"""A training state as flat dictionaries of arrays, and records of these."""

import dataclasses
import hashlib
from typing import Any

import jax
import numpy as np

from encoder4editing_jax.training.state import TrainState

Items = dict[str, dict[str, np.ndarray]]
"""Arrays by item and path ("body/blocks/0/...")."""

Records = dict[str, list[Any]]
"""Shape, dtype and digest of arrays, by "ITEM/PATH", as JSON keeps them."""


def pack(state: TrainState) -> Items:
  """A state as items; pools, step and key share one, "progress"."""
  own_item = (
    "encoder",
    "statistics",
    "average",
    "generator",
    "optimizer",
    "discriminator",
    "discriminator_optimizer",
  )
  items = {name: _flat(getattr(state, name)) for name in own_item}
  items["progress"] = _flat(
    {
      "step": state.step,
      "skipped": state.skipped,
      "key": jax.random.key_data(state.key),
      "real_pool": state.real_pool,
      "fake_pool": state.fake_pool,
    }
  )
  return {name: arrays for name, arrays in items.items() if arrays}


def unpack(template: TrainState, items: Items) -> TrainState:
  """The state of a template with the arrays of items."""
  progress = _filled(
    {
      "step": template.step,
      "skipped": template.skipped,
      "key": jax.random.key_data(template.key),
      "real_pool": template.real_pool,
      "fake_pool": template.fake_pool,
    },
    items.pop("progress"),
  )
  progress["key"] = jax.random.wrap_key_data(progress["key"])
  modules = {
    name: _filled(getattr(template, name), arrays)
    for name, arrays in items.items()
  }
  return dataclasses.replace(template, **progress, **modules)


def _flat(tree: Any) -> dict[str, np.ndarray]:
  """Copies of the arrays on the host, by path; Orbax refuses empty ones."""
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {_path(path): np.array(x) for path, x in leaves if np.size(x)}


def _filled(template: Any, arrays: dict[str, np.ndarray]) -> Any:
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: arrays.get(_path(path), leaf), template
  )


def records(items: Items) -> Records:
  """What every array is."""
  return {
    f"{item}/{name}": [list(x.shape), str(x.dtype), _digest(x)]
    for item, arrays in items.items()
    for name, x in arrays.items()
  }


def _digest(x: np.ndarray) -> str:
  data = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
  return hashlib.blake2b(data, digest_size=16).hexdigest()


def first_difference(one: Records, other: Records) -> str | None:
  """The first name, in order, under which the two differ."""
  names = sorted({*one, *other})
  return next((n for n in names if one.get(n) != other.get(n)), None)


def _path(path: Any) -> str:
  return jax.tree_util.keystr(path, simple=True, separator="/")
