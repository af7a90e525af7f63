"""The states of PyTorch's optimizers, by the leaves of our networks.

PyTorch numbers the state of an optimizer by the order of its parameters, which
is that of the state_dict without its buffers. From there the tables for the
weights lead to our leaves.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import nnx

from encoder4editing_jax import weights
from encoder4editing_jax.converters import official, transfer
from encoder4editing_jax.converters.sources import Source
from encoder4editing_jax.converters.table import Array, Table
from encoder4editing_jax.training.snapshots import OptimizerState

_BUFFERS = re.compile(
  r"(.*\.)?(running_mean|running_var|num_batches_tracked|kernel|noise_\d+)"
)
_MOMENTS = {"exp_avg": "mu", "exp_avg_sq": "nu", "slow_buffer": "slow"}
# Numbers of a parameter group, and what we call them.
_NUMBERS = {
  "lr": "lr",
  "eps": "eps",
  "weight_decay": "weight_decay",
  "alpha": "alpha",
  "k": "k",
  "N_sma_threshhold": "n_sma_threshold",
}
_RANGER = {"alpha", "k", "N_sma_threshhold"}
# Without influence on the result, or only where it is set.
_HARMLESS = {"foreach", "capturable", "differentiable", "fused", "initial_lr"}
_HARMLESS |= {"step_counter", "decoupled_weight_decay"}
_MUST_BE_OFF = {"amsgrad", "maximize"}


def parameter_names(state: Source, what: str) -> list[str]:
  """The parameters of a state_dict in the order of the published code.

  Raises:
    ValueError: the state_dict has another order.
  """
  found = [name for name in state if not _BUFFERS.fullmatch(name)]
  expected = sorted(found, key=official.order)
  for name, other in zip(found, expected, strict=True):
    if name != other:
      raise ValueError(
        f"{name!r} stands where {what} of the published code has {other!r}, so "
        "that numbered optimizer states cannot be told apart; pass the "
        "checkpoint as it was saved, or its networks alone to `to_inverter`."
      )
  return found


def refusal(what: str, reason: str) -> ValueError:
  """The error for a state that cannot be taken over, and why."""
  return ValueError(
    f"{what!r} {reason}; the state of such an optimizer cannot be taken over. "
    "Pass the networks alone to `to_inverter`."
  )


def parameter_group(state: Mapping[str, Any], what: str) -> Mapping[str, Any]:
  """The only group of parameters of an optimizer's state."""
  groups = state.get("param_groups") if isinstance(state, Mapping) else None
  if not isinstance(groups, Sequence) or "state" not in state:
    raise refusal(what, "is no state_dict of a PyTorch optimizer")
  if len(groups) != 1:
    raise refusal(what, f"has {len(groups)} groups of parameters, expected 1")
  return groups[0]


def _hyperparameters(
  group: Mapping[str, Any], what: str
) -> tuple[str, dict[str, float]]:
  """Adam or Ranger, and its numbers."""
  ranger = bool(_RANGER & set(group))
  needed = {"lr", "betas", "eps", "weight_decay", "params"}
  needed |= _RANGER if ranger else {"amsgrad"}
  for key in sorted(needed ^ set(group)):
    if key in needed:
      raise refusal(what, f"lacks {key!r}, so it is neither Adam nor Ranger")
    if key not in _HARMLESS | _MUST_BE_OFF:
      raise refusal(what, f"has {key!r}, so it is neither Adam nor Ranger")
  for key in sorted(_MUST_BE_OFF & set(group)):
    if group[key]:
      raise refusal(what, f"has {key!r} set")
  given = {ours: group[k] for k, ours in _NUMBERS.items() if k in group}
  try:
    given["b1"], given["b2"] = group["betas"]
    numbers = {k: float(value) for k, value in given.items()}
  except (TypeError, ValueError):
    raise refusal(what, "has hyperparameters that are no numbers") from None
  if not all(map(np.isfinite, numbers.values())):
    raise refusal(what, "has hyperparameters that are not finite")
  if numbers["weight_decay"] and not ranger:
    raise refusal(what, "has 'weight_decay', which Adam and AdamW apply unlike")
  return "ranger" if ranger else "adam", numbers


def read_steps(value: Any, name: str) -> int:
  """The count of steps of one parameter; newer PyTorch makes it a tensor."""
  number = np.asarray(value)
  if number.size != 1 or number.dtype.kind not in "iuf":
    raise ValueError(f"{name!r} is no number; expected one of steps.")
  count = number.item()
  if not 0 <= count < 2**31 or count != int(count):
    raise ValueError(f"{name!r} is {count}; expected a number of steps.")
  return int(count)


def _numbered(
  state: Mapping[str, Any], names: Sequence[str], what: str
) -> dict[str, Mapping[str, Any]]:
  """The entries of an optimizer's state by the names of their parameters."""
  numbers = parameter_group(state, what)["params"]
  if len(numbers) != len(names):
    raise refusal(
      what, f"numbers {len(numbers)} tensors, expected {len(names)}"
    )
  entries = dict(state["state"])
  found = {
    name: entries.pop(number)
    for number, name in zip(numbers, names, strict=True)
    if number in entries
  }
  if entries:
    raise refusal(what, f"has a state {next(iter(entries))!r} of no parameter")
  return found


def _start(leaf: nnx.Variable, kind: str) -> Array:
  """A moment before the first step; the slow weights start as the others."""
  if kind == "slow":
    return np.array(leaf[...])
  return np.zeros(leaf.shape, np.float32)


def to_optimizer_state(
  state: Mapping[str, Any],
  module: nnx.Module,
  table: Table,
  names: Sequence[str],
  what: str = "optimizer",
) -> OptimizerState:
  """An optimizer's state, by the leaves of a module.

  Args:
    state: `state_dict()` of a `torch.optim.Adam` or of e4e's `Ranger`.
    module: the network, already with its weights.
    table: of that network.
    names: its parameters, as the optimizer was given them.
    what: how errors name the state.

  Raises:
    ValueError: another optimizer, other parameters, or moments that do not fit
      theirs, are missing or not finite.
  """
  name, numbers = _hyperparameters(parameter_group(state, what), what)
  keys = [key for key in _MOMENTS if key != "slow_buffer" or name == "ranger"]
  entries = _numbered(state, names, what)
  shapes = transfer.source_shapes(module, table)
  leaves = weights.leaves(module)
  rows = [row for row in table.rows if row.source in set(names)]
  steps: dict[str, Array] = {}
  moments: dict[str, dict[str, Array]] = {_MOMENTS[key]: {} for key in keys}
  for row in rows:
    leaf, part = leaves[row.target], ... if row.index is None else row.index
    n = () if row.index is None else leaf.shape[:1]
    count = steps.setdefault(row.target, np.zeros(n, np.int32))
    entry, where = entries.get(row.source), f"{what}.{row.source}"
    if entry is not None:
      _check_keys(entry, {"step", *keys}, where)
      count[part] = read_steps(entry["step"], f"{where}.step")
    for key in keys:
      found, name_of = moments[_MOMENTS[key]], f"{where}.{key}"
      if row.target not in found:
        found[row.target] = _start(leaf, _MOMENTS[key])
      if entry is not None:
        named = dataclasses.replace(row, source=name_of)
        value = transfer.take({name_of: entry[key]}, named, shapes[row.source])
        found[row.target][part] = value
  return OptimizerState(name, numbers, steps, moments)


def _check_keys(
  entry: Mapping[str, Any], expected: set[str], where: str
) -> None:
  for key in sorted(expected ^ set(entry)):
    has = "has" if key in entry else "lacks"
    raise refusal(where, f"{has} {key!r}")
