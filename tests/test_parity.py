"""Networks and their training agree with reference outputs, see parity.py."""

from collections.abc import Mapping

import numpy as np
import parity
import parity_align  # (each registers its cases)
import parity_coach  # noqa: F401
import parity_editability  # noqa: F401
import parity_editing  # noqa: F401
import parity_features  # noqa: F401
import parity_frameworks  # noqa: F401
import parity_networks  # noqa: F401
import parity_ops  # noqa: F401
import parity_training  # noqa: F401
import parity_transforms  # noqa: F401
import pytest

from encoder4editing_jax import converters, weights

NETWORKS = [
  name
  for name in vars(converters)
  if name.startswith("to_")
  and name not in ("to_directions", "to_training_state")
]
PARAMETERS = [
  pytest.param(case, id=name, marks=[pytest.mark.slow] * case.slow)
  for name, case in parity.CASES.items()
]
# Fields that are not numbers: a case looks them up itself.
ELSEWHERE = {
  f"coach_{name}": ("checksum/names", "checksum_decoder/names")  # by the case
  for name in ("cars", "e4e", "e4e_fast", "psp", "decoder")
} | {"alignment": tuple(f"{name}/landmarks" for name in parity_align.NAMES)}


@pytest.fixture
def through_files(monkeypatch, tmp_path):
  """Converters get their checkpoints from files on the disk, and make of them
  what they make of the mappings."""
  made = []

  def through(value):
    if not isinstance(value, Mapping):
      return value
    path = tmp_path / f"{len(made)}.pt"
    converters.write(value, path)
    read = converters.read(path)
    path.unlink()  # stays mapped
    return read

  def wrapped(convert):
    def run(*arguments, **options):
      ours = convert(*map(through, arguments), **options)
      assert_same_leaves(ours, convert(*arguments, **options))
      made.append(ours)
      return ours

    return run

  for name in NETWORKS:
    monkeypatch.setattr(converters, name, wrapped(getattr(converters, name)))
  return made


def assert_same_leaves(ours, theirs):
  ours, theirs = weights.leaves(ours), weights.leaves(theirs)
  assert ours.keys() == theirs.keys()
  for name, leaf in ours.items():
    np.testing.assert_array_equal(leaf[...], theirs[name][...], name)


@pytest.mark.parametrize("case", PARAMETERS)
def test_parity(case, through_files):
  failed = [r for r in parity.run(case) if not r.passed]
  converted = case.golden.startswith(("generator", "encoder", "psp", "restyle"))
  assert through_files or not converted
  assert not failed, "\n".join(map(str, failed))


@pytest.mark.parametrize(
  "golden", sorted(path.stem for path in parity.FOLDER.glob("*.npz"))
)
def test_every_field_belongs_to_one_case(golden):
  cases = [c for c in parity.CASES.values() if c.golden == golden]
  for field in parity.names(golden):
    owners = [c.name for c in cases if field in parity.expected_fields(c)]
    elsewhere = field.startswith(ELSEWHERE.get(golden, ("no field",)))
    assert len(owners) + elsewhere == 1, (field, owners)


def test_a_small_error_is_noticed():
  golden = parity.load("encoder_e4e")
  whole = golden["inference/w"]
  assert parity._error(golden, "inference/w", whole) == 0
  assert parity._error(golden, "inference/w", whole * (1 + 1e-4)) > 5e-5
  part = parity.load("psp_forward_psp")
  codes = part["gradual/latent__stats"]
  ours = codes[0] * np.ones(tuple(part["gradual/latent__shape"]))
  assert parity._error(part, "gradual/latent", ours) > 0.1


def test_nan_does_not_pass():
  assert not parity.Result("field", float("nan"), 1.0).passed
