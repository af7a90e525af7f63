"""Files rebuild their networks, and refuse everything else."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from random_weights import randomised

import encoder4editing_jax as e4e
from encoder4editing_jax import architectures, reports, weights


@pytest.fixture(scope="module")
def generator():
  return randomised(
    lambda: e4e.Generator(
      8, channel_base=64, channel_max=8, style_dim=4, n_mlp=1, rngs=nnx.Rngs(1)
    )
  )


@pytest.fixture
def path(generator, tmp_path):
  weights.save(generator, tmp_path / "g.safetensors")
  return tmp_path / "g.safetensors"


def leaves(module):
  flat = nnx.to_flat_state(nnx.state(module))
  return {".".join(map(str, k)): np.asarray(v[...]) for k, v in flat}


def rewrite(path, change=None, header=None):
  """The same file with other tensors or another header."""
  with safetensors.safe_open(path, framework="numpy") as file:
    tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    metadata = json.loads(file.metadata()["encoder4editing_jax"])
  if change:
    change(tensors)
  if header:
    header(metadata)
  metadata = {"encoder4editing_jax": json.dumps(metadata)}
  safetensors.numpy.save_file(tensors, path, metadata)


def test_a_loaded_network_is_the_saved_one(generator, path):
  loaded = weights.load(path)
  assert type(loaded) is type(generator)
  assert architectures.architecture(loaded) == architectures.architecture(
    generator
  )
  assert loaded.constant_shape == (4, 4)
  kinds = zip(
    jax.tree.leaves(nnx.state(generator), is_leaf=is_variable),
    jax.tree.leaves(nnx.state(loaded), is_leaf=is_variable),
    strict=True,
  )
  assert all(type(a) is type(b) for a, b in kinds)
  ours, theirs = leaves(generator), leaves(loaded)
  assert ours.keys() == theirs.keys()
  for name, value in ours.items():
    np.testing.assert_array_equal(theirs[name], value)
    assert theirs[name].dtype == value.dtype


def is_variable(x):
  return isinstance(x, nnx.Variable)


def test_an_inverter_keeps_encoder_generator_and_mean(generator, tmp_path):
  encoder = randomised(
    lambda: e4e.Encoder4Editing(
      4,
      input_size=32,
      style_dim=4,
      num_layers=10,
      channels=(4, 4, 8, 8),
      rngs=nnx.Rngs(2),
    )
  )
  w_avg = jnp.arange(16.0).reshape(4, 4)
  inverter = e4e.Inverter(encoder, generator, w_avg)
  weights.save(inverter, tmp_path / "i.safetensors")
  loaded = weights.load(tmp_path / "i.safetensors")
  np.testing.assert_array_equal(loaded.w_avg[...], w_avg)
  ours, theirs = leaves(inverter), leaves(loaded)
  assert ours.keys() == theirs.keys()
  assert all(np.array_equal(theirs[k], ours[k]) for k in ours)
  about = weights.describe(tmp_path / "i.safetensors")
  assert about["module"] == "Inverter"
  assert about["n_styles"] == 4
  assert about["architecture"]["encoder"]["module"] == "Encoder4Editing"


def test_the_same_network_gives_the_same_bytes(generator, path, tmp_path):
  weights.save(generator, tmp_path / "again.safetensors")
  assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_half_precision_files_load_as_float32(generator, path, tmp_path):
  small = tmp_path / "small.safetensors"
  weights.save(generator, small, dtype="float16")
  assert small.stat().st_size < 0.75 * path.stat().st_size
  ours, theirs = leaves(generator), leaves(weights.load(small))
  for name, value in ours.items():
    assert theirs[name].dtype == np.float32
    np.testing.assert_allclose(theirs[name], value, rtol=2**-11, atol=1e-7)


def test_half_precision_refuses_what_it_cannot_hold(generator, tmp_path):
  large = nnx.clone(generator)
  large.w_avg[...] = jnp.full(4, 1e5)
  with pytest.raises(ValueError, match=r"w_avg .* 1e\+05"):
    weights.save(large, tmp_path / "large.safetensors", dtype="float16")
  assert not list(tmp_path.iterdir())


def test_a_failed_save_leaves_the_old_file(generator, path, monkeypatch):
  before = path.read_bytes()

  def full(tensors, filename, metadata):
    filename.write_bytes(b"half")
    raise OSError("disk full")

  monkeypatch.setattr(safetensors.numpy, "save_file", full)
  with pytest.raises(OSError, match="disk full"):
    weights.save(generator, path)
  assert path.read_bytes() == before
  assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda t: t.pop("w_avg"), "w_avg is not in the file"),
    (lambda t: t.update(extra=np.ones(1)), "extra is not in the module"),
    (lambda t: t.update(w_avg=np.ones(5, "f4")), r"w_avg has shape \(5,\)"),
    (lambda t: t.update(w_avg=np.ones(4)), "w_avg is float64"),
    (lambda t: t.update(w_avg=np.ones(4, "f2")), "w_avg is float16"),
  ],
)
def test_a_wrong_leaf_is_named(path, change, message):
  rewrite(path, change)
  with pytest.raises(ValueError, match=message):
    weights.load(path)


@pytest.mark.parametrize(
  ("header", "message"),
  [
    (lambda h: h.update(format=2), "format 2"),
    (lambda h: h.pop("architecture"), "another program"),
    (lambda h: h.update(architecture={}), "names no module"),
    (lambda h: h["architecture"].update(module="os"), "'os' is not a network"),
    (lambda h: h["architecture"].update(module="jax"), "not a network"),
    (lambda h: h["architecture"].update(depth=3), "no argument 'depth'"),
    (lambda h: h["architecture"].update(size=9), "size 9"),
    (lambda h: h["architecture"].update(size=16), "is not in the file"),
    (lambda h: h.update(provenence={}), "unknown entry 'provenence'"),
    (lambda h: h.update(provenance="me"), "provenance is 'me'"),
    (lambda h: h.update(provenance={"a": {}}), "texts and whole numbers"),
  ],
)
def test_a_wrong_header_is_refused(path, header, message):
  rewrite(path, header=header)
  with pytest.raises(ValueError, match=message):
    weights.load(path)


def test_foreign_and_damaged_files_say_what_they_are(path, tmp_path):
  foreign = tmp_path / "foreign.safetensors"
  safetensors.numpy.save_file({"a": np.ones(2)}, foreign)
  with pytest.raises(ValueError, match="another program"):
    weights.load(foreign)
  path.write_bytes(path.read_bytes()[:-7])
  with pytest.raises(ValueError, match="not a whole safetensors file"):
    weights.load(path)
  path.write_bytes(b"")
  with pytest.raises(ValueError, match="not a whole safetensors file"):
    weights.load(path)
  with pytest.raises(FileNotFoundError, match="not there"):
    weights.load(tmp_path / "absent.safetensors")
  with pytest.raises(FileNotFoundError, match="a folder"):
    weights.load(tmp_path)


def test_networks_that_cannot_be_rebuilt_are_not_saved(generator, tmp_path):
  class Mine(nnx.Module):
    pass

  with pytest.raises(ValueError, match="Mine"):
    weights.save(Mine(), tmp_path / "m.safetensors")
  changed = nnx.clone(generator)
  changed.size = 16
  with pytest.raises(ValueError, match="is not in the file"):
    weights.save(changed, tmp_path / "m.safetensors")
  changed.size = {8}
  with pytest.raises(ValueError, match=r"Generator\.size"):
    weights.save(changed, tmp_path / "m.safetensors")
  with pytest.raises(ValueError, match="float8"):
    weights.save(generator, tmp_path / "m.safetensors", dtype="float8")
  assert not list(tmp_path.iterdir())


def test_provenance_is_kept_shown_and_changes_nothing_else(
  generator, path, tmp_path
):
  other = tmp_path / "from.safetensors"
  provenance = {"source": "stylegan2.pt", "w_avg_seed": 0}
  weights.save(generator, other, provenance=provenance)
  assert weights.describe(other)["provenance"] == provenance
  assert weights.describe(path)["provenance"] == {}
  ours, theirs = leaves(weights.load(path)), leaves(weights.load(other))
  assert all(np.array_equal(theirs[k], ours[k]) for k in ours)
  text = reports.file_text(weights.describe(other))
  assert "source      stylegan2.pt" in text
  for bad in ({"seconds": 1.5}, {"a": None}):
    with pytest.raises(ValueError, match="provenance is"):
      weights.save(generator, tmp_path / "bad.safetensors", provenance=bad)
  assert not (tmp_path / "bad.safetensors").exists()


def test_native_files_are_told_by_their_content(path, tmp_path):
  assert weights.is_native(path)
  renamed = path.rename(tmp_path / "weights.pt")
  assert weights.is_native(renamed)
  safetensors.numpy.save_file({"a": np.ones(2)}, tmp_path / "b.safetensors")
  for other in (tmp_path / "b.safetensors", tmp_path, tmp_path / "absent"):
    assert not weights.is_native(other)
