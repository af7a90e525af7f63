"""Edits of codes, and how directions are found: laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from encoder4editing_jax import editing, faceworld, finding

B, N, D = 3, 10, 6


def drawn(seed, *shape):
  values = np.random.default_rng(seed).normal(size=shape)
  return jnp.asarray(values, jnp.float32)


CODES = drawn(0, B, N, D)
PCA = editing.Components(
  drawn(1, D), jnp.eye(D)[:3], jnp.asarray([2.0, 1.0, 0.5])
)


def test_edits_add_up_in_any_order_and_can_be_taken_back():
  directions = {"a": drawn(2, D), "b": drawn(3, N, D)}
  edits = [("a", 2.0), ("b", -1.0, [0, 3])]
  there = editing.apply(CODES, edits, directions)
  np.testing.assert_allclose(
    there, editing.apply(CODES, edits[::-1], directions), atol=1e-5
  )
  back = editing.apply(there, [("a", -2.0), ("b", 1.0, [0, 3])], directions)
  np.testing.assert_allclose(back, CODES, atol=1e-5)
  assert jnp.abs(there - CODES).min() > 0
  with pytest.raises(ValueError, match="no direction 'c'; use a, b"):
    editing.apply(CODES, [("c", 1.0)], directions)


def test_coordinates_become_what_was_asked_for():
  moved = editing.set_coordinates(CODES, PCA, [(0, 0, 4, 1.5), (2, 0, 2, -3.0)])
  at = (moved[:, 0] - PCA.mean[None]) @ PCA.components.T / PCA.std[None]
  np.testing.assert_allclose(at[:, 0], 1.5, atol=1e-5)
  np.testing.assert_allclose(at[:, 2], -3, atol=1e-5)
  np.testing.assert_array_equal(moved[:, 4:], CODES[:, 4:])
  for edit in ((3, 0, 1, 0.0), (0, 2, 2, 0.0), (0, 0, N + 1, 0.0)):
    with pytest.raises(ValueError, match=r"component|layers"):
      editing.set_coordinates(CODES, PCA, [edit])


def test_mixing_takes_the_named_layers():
  other = drawn(4, 1, N, D)
  mixed = editing.mix(CODES, other, [8, 9])
  np.testing.assert_array_equal(mixed[:, :8], CODES[:, :8])
  np.testing.assert_array_equal(mixed[1, 8:], other[0, 8:])
  half = editing.mix(CODES, other, range(N), 0.5)
  np.testing.assert_allclose(half[2], (CODES[2] + other[0]) / 2, atol=1e-6)
  with pytest.raises(ValueError, match="as many, or one"):
    editing.mix(CODES, drawn(5, 2, N, D), [0])


def test_paths_go_through_every_code():
  path = editing.interpolate(CODES, 4, hold=2, loop=True)
  assert len(path) == 3 + 3 * 6
  for k in range(3):
    np.testing.assert_array_equal(path[6 * k], CODES[k])
    np.testing.assert_array_equal(path[6 * k + 2], CODES[k])
  np.testing.assert_allclose(path[4], (CODES[0] + CODES[1]) / 2, atol=1e-6)
  np.testing.assert_array_equal(path[-1], CODES[0])
  with pytest.raises(ValueError, match="1 codes"):
    editing.interpolate(CODES[:1], 4)


def test_layers_have_names():
  assert editing.parse_layers("coarse", 10) == [0, 1, 2, 3]
  assert editing.parse_layers("0-2,9,fine", 10) == [0, 1, 2, 8, 9]
  for text in ("10", "9-3", "", "smile", "-1", "fine,77"):
    with pytest.raises(ValueError, match="layers"):
      editing.parse_layers(text, 10)


@pytest.mark.parametrize("method", finding.METHODS)
def test_a_known_direction_is_found(method):
  codes, truth = drawn(6, 600, D), np.array([3.0, 0, -4, 0, 0, 0]) / 5
  labels = np.asarray(codes) @ truth + 0.4
  if method != "ridge":
    labels = labels > 0
  found = finding.from_labels(codes + 7, labels, method)
  assert found @ truth > 0.98
  np.testing.assert_allclose(jnp.linalg.norm(found), 1, rtol=1e-5)
  opposite = finding.from_labels(codes, 1.0 - labels, method)
  assert opposite @ truth < -0.98


@pytest.mark.parametrize(
  ("labels", "method", "message"),
  [
    (np.ones(4), "svm", "all labels are the same"),
    (np.arange(4), "svm", "take ridge"),
    (np.arange(3), "ridge", "one for each"),
    (np.array([0, 1, np.nan, 1]), "ridge", "NaN"),
    (np.arange(4), "forest", "unknown"),
  ],
)
def test_labels_that_say_nothing_are_refused(labels, method, message):
  with pytest.raises(ValueError, match=message):
    finding.from_labels(drawn(7, 4, D), labels, method)


def test_principal_components_are_those_of_the_data():
  w = drawn(8, 4000, D) * jnp.asarray([[5.0, 1, 3, 0.1, 0.2, 0.3]])
  pca = finding.components_of(w + 2, 2)
  np.testing.assert_allclose(jnp.abs(pca.components[0, 0]), 1, atol=0.02)
  np.testing.assert_allclose(jnp.abs(pca.components[1, 2]), 1, atol=0.02)
  np.testing.assert_allclose(pca.std, [5, 3], rtol=0.05)
  np.testing.assert_allclose(pca.mean, 2, atol=0.3)


def test_directions_of_the_shipped_generator():
  net, key = faceworld.load_generator(), jax.random.key(0)
  pca = finding.principal(net, 500, 5, key=key)
  np.testing.assert_allclose(
    pca.components @ pca.components.T, np.eye(5), atol=1e-5
  )
  found = finding.factorize(net, [2, 3])
  assert found.layers == (2, 3)
  assert (jnp.diff(found.eigenvalues) <= 0).all()
  codes = jnp.zeros((2, net.n_styles, net.style_dim))
  several = editing.multi_modal(net, codes, range(8, net.n_styles), key, 3)
  assert several.shape == (2, 3, *codes.shape[1:])
  assert not several[:, :, :8].any()
  assert jnp.abs(several[0, 0] - several[0, 1]).max() > 0
  np.testing.assert_array_equal(several[0], several[1])
  with pytest.raises(ValueError, match="layers are"):
    finding.factorize(net, [99])
