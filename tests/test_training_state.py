"""e4e's training states: moments go where their weights go."""

import functools

import numpy as np
import pytest
from goldens.recipe import recipe_normal, recipe_tensor
from test_official import small

from encoder4editing_jax import converters
from encoder4editing_jax.converters import (
  discriminators,
  optimizers,
  transfer,
)

MOMENTS = {"exp_avg": "mu", "exp_avg_sq": "nu", "slow_buffer": "slow"}
ADAM = {"lr": 1e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0}
ADAM |= {"amsgrad": False, "foreach": None, "maximize": False}
RANGER = {"lr": 1e-4, "alpha": 0.5, "k": 6, "step_counter": 0}
RANGER |= {"betas": (0.95, 0.999), "N_sma_threshhold": 5, "eps": 1e-5}
RANGER |= {"weight_decay": 0}
# Heads whose stage has not come have no gradients, and so no state.
SLEEPING = ("encoder.styles.5.", "encoder.styles.7.", "encoder.latlayer2")
STEP = 41


def moment(name, kind, shape):
  value = recipe_normal(f"{kind}/{name}", shape, scale=0.1)
  return np.square(value) if kind == "exp_avg_sq" else value


def optimizer_state(state, names, group, kinds, first=0):
  """What PyTorch saves for these parameters; numbers start at `first`."""
  entries = {}
  for number, name in enumerate(names, first):
    if name.startswith(SLEEPING):
      continue
    shape = state[name].shape
    steps = {"step": number + 1}
    entries[number] = steps | {k: moment(name, k, shape) for k in kinds}
  numbers = list(range(first, first + len(names)))
  return {"state": entries, "param_groups": [group | {"params": numbers}]}


def parameters(state, prefix=""):
  """Official parameters in their order, said without the library."""
  ends = ("running_mean", "running_var", "num_batches_tracked", "kernel")
  return [
    name
    for name in state
    if name.startswith(prefix)
    and not name.endswith(ends)
    and ".noises." not in name
  ]


@functools.cache
def networks():
  return small("Encoder4Editing")


def training_checkpoint(group=RANGER, kinds=tuple(MOMENTS), prefix="encoder."):
  checkpoint = networks()
  state = checkpoint["state_dict"]
  shapes = {"mlp.0.weight": (5, 6), "mlp.0.bias": (5,)}
  shapes |= {"mlp.2.weight": (1, 5), "mlp.2.bias": (1,)}
  d = {name: recipe_tensor(name, shape) for name, shape in shapes.items()}
  adam = ("exp_avg", "exp_avg_sq")
  return checkpoint | {
    "global_step": STEP,
    "best_val_loss": np.float64(0.75),
    "optimizer": optimizer_state(
      state, parameters(state, prefix), group, kinds
    ),
    "discriminator_state_dict": d,
    "discriminator_optimizer_state_dict": optimizer_state(d, d, ADAM, adam),
  }


def moments_as_weights(kind, checkpoint, missing):
  """The leaves of a network whose weights are moments."""
  state = dict(checkpoint["state_dict"])
  for name in parameters(state):
    if name.startswith(SLEEPING):
      state[name] = missing(state[name])
    else:
      state[name] = moment(name, kind, state[name].shape)
  net = converters.to_inverter({**checkpoint, "state_dict": state})
  return transfer.leaves(net)


@pytest.fixture(scope="module")
def ranger():
  return converters.to_training_state(training_checkpoint())


def test_moments_go_where_their_weights_go(ranger):
  assert set(ranger.optimizer.moments) == set(MOMENTS.values())
  for kind, ours in MOMENTS.items():
    missing = np.asarray if kind == "slow_buffer" else np.zeros_like
    expected = moments_as_weights(kind, networks(), missing)
    found = ranger.optimizer.moments[ours]
    assert all(name.startswith("encoder.") for name in found)
    for name, value in found.items():
      assert value.dtype == np.float32
      np.testing.assert_array_equal(value, expected[name][...], name)


def test_every_trained_leaf_has_its_steps(ranger):
  names = parameters(networks()["state_dict"], "encoder.")
  steps = ranger.optimizer.steps
  assert steps["encoder.body.input_conv.kernel"].shape == ()
  number = names.index("encoder.input_layer.0.weight") + 1
  assert steps["encoder.body.input_conv.kernel"] == number
  heads = steps["encoder.heads_middle.linear_bias"]
  number = names.index("encoder.styles.3.linear.bias") + 1
  assert heads.shape == (4,)
  assert heads[0] == number
  assert heads[2] == 0  # style 5, of a later stage
  trained = {
    name
    for name, leaf in transfer.leaves(ranger.inverter).items()
    if type(leaf).__name__ == "Param" and name.startswith("encoder.")
  }
  assert set(steps) == set(ranger.optimizer.moments["mu"]) == trained


def test_numbers_and_networks_of_a_run(ranger):
  assert ranger.step == STEP + 1
  assert ranger.best_val_loss == 0.75
  assert ranger.opts["encoder_type"] == "Encoder4Editing"
  assert ranger.optimizer.name == "ranger"
  assert ranger.optimizer.hyperparameters == {
    "lr": 1e-4,
    "b1": 0.95,
    "b2": 0.999,
    "eps": 1e-5,
    "weight_decay": 0,
    "alpha": 0.5,
    "k": 6,
    "n_sma_threshold": 5,
  }
  kernel = networks()["state_dict"]["encoder.input_layer.0.weight"]
  np.testing.assert_array_equal(
    ranger.inverter.encoder.body.input_conv.kernel[...],
    kernel.transpose(2, 3, 1, 0),
  )
  optimizer = ranger.discriminator_optimizer
  assert optimizer.name == "adam"
  assert set(optimizer.hyperparameters) == {"lr", "b1", "b2", "eps"} | {
    "weight_decay"
  }
  assert set(optimizer.moments) == {"mu", "nu"}
  assert optimizer.steps["layers.1.bias"] == 4
  np.testing.assert_array_equal(
    optimizer.moments["mu"]["layers.0.kernel"],
    moment("mlp.0.weight", "exp_avg", (5, 6)).T,
  )


def test_adam_over_encoder_and_decoder():
  checkpoint = training_checkpoint(ADAM, ("exp_avg", "exp_avg_sq"), prefix="")
  for name in list(checkpoint):
    if name.startswith("discriminator"):
      del checkpoint[name]
  checkpoint["best_val_loss"] = None
  checkpoint["opts"] = checkpoint["opts"] | {"optim_name": "adam"}
  state = converters.to_training_state(checkpoint)
  expected = moments_as_weights("exp_avg", networks(), np.zeros_like)
  found = state.optimizer.moments["mu"]
  assert "generator.synthesis.blocks.0.conv0.kernel" in found
  assert "generator.synthesis.conv.noise" not in found
  for name, value in found.items():
    np.testing.assert_array_equal(value, expected[name][...], name)
  assert state.discriminator is state.discriminator_optimizer is None
  assert state.best_val_loss is None


# The small discriminator stands for all networks.

KINDS = ("exp_avg", "exp_avg_sq")


@pytest.fixture
def weights():
  return training_checkpoint()["discriminator_state_dict"]


@pytest.fixture
def adam(weights):
  return optimizer_state(weights, weights, ADAM, KINDS)


def convert(state, weights):
  net = converters.to_latent_discriminator(weights)
  table = discriminators.latent_discriminator_table(net)
  names = optimizers.parameter_names(weights, "the network")
  return optimizers.to_optimizer_state(state, net, table, names)


def test_numbers_may_start_anywhere_and_steps_may_be_tensors(weights, adam):
  other = optimizer_state(weights, weights, ADAM, KINDS, first=140_000_000)
  for number, entry in other["state"].items():
    entry["step"] = np.array(number - 140_000_000 + 1, np.float32)
  found, expected = convert(other, weights), convert(adam, weights)
  assert found.steps == expected.steps
  assert found.steps["layers.1.kernel"] == 3
  for kind, leaves in expected.moments.items():
    for name, value in leaves.items():
      np.testing.assert_array_equal(found.moments[kind][name], value)


def test_an_optimizer_that_has_not_begun(weights, adam):
  adam["state"] = {}
  found = convert(adam, weights)
  assert not any(found.steps.values())
  assert not any(value.any() for value in found.moments["mu"].values())


@pytest.mark.parametrize(
  ("change", "match"),
  [
    ({"amsgrad": True}, "has 'amsgrad' set"),
    ({"maximize": True}, "has 'maximize' set"),
    ({"weight_decay": 0.1}, "'weight_decay', which Adam and AdamW"),
    ({"momentum": 0.9}, "has 'momentum', so it is neither"),
    ({"eps": float("nan")}, "hyperparameters that are not finite"),
    ({"lr": "fast"}, "hyperparameters that are no numbers"),
    ({"betas": 0.9}, "hyperparameters that are no numbers"),
    ({"k": 6}, "lacks 'N_sma_threshhold'"),
    ({"params": [0, 1, 2]}, "numbers 3 tensors, expected 4"),
    ({"params": [0, 1, 2, 7]}, "has a state 3 of no parameter"),
  ],
)
def test_other_optimizers_are_refused(weights, adam, change, match):
  adam["param_groups"][0] |= change
  with pytest.raises(ValueError, match=f"'optimizer' .*{match}"):
    convert(adam, weights)


def test_what_is_no_optimizer(weights, adam):
  del adam["param_groups"][0]["betas"]
  with pytest.raises(ValueError, match="lacks 'betas', so it is neither"):
    convert(adam, weights)
  with pytest.raises(ValueError, match="is no state_dict of a PyTorch"):
    convert({"fast_state_dict": {}}, weights)
  with pytest.raises(ValueError, match="has 2 groups of parameters"):
    convert({"state": {}, "param_groups": [{}, {}]}, weights)


@pytest.mark.parametrize(
  ("key", "value", "match"),
  [
    ("exp_avg", None, "'optimizer.mlp.2.weight' lacks 'exp_avg'"),
    ("momentum_buffer", 1, "'optimizer.mlp.2.weight' has 'momentum_buffer'"),
    ("exp_avg", np.ones((5, 1)), r"weight.exp_avg' has shape \(5, 1\)"),
    ("exp_avg_sq", np.full((1, 5), np.nan), "weight.exp_avg_sq' holds NaN"),
    ("exp_avg", np.ones((1, 5), int), "weight.exp_avg' is int64"),
    ("step", -1, "weight.step' is -1"),
    ("step", 1.5, "weight.step' is 1.5"),
    ("step", "three", "weight.step' is no number"),
  ],
)
def test_damaged_moments_are_named(weights, adam, key, value, match):
  entry = adam["state"][2]
  entry.pop(key, None)
  if value is not None:
    entry[key] = value
  with pytest.raises(ValueError, match=match):
    convert(adam, weights)


def test_a_state_dict_in_another_order_numbers_nothing(weights, adam):
  shuffled = dict(sorted(weights.items()))
  with pytest.raises(ValueError, match=r"'mlp\.0\.bias' stands where"):
    convert(adam, shuffled)


@pytest.mark.parametrize(
  ("without", "match"),
  [
    ("optimizer", "lacks 'optimizer': it was saved without training data"),
    ("global_step", "lacks 'global_step'"),
    ("discriminator_state_dict", "lacks 'discriminator_state_dict'"),
    (
      "discriminator_optimizer_state_dict",
      "lacks 'discriminator_optimizer_state_dict'",
    ),
  ],
)
def test_half_a_training_state(without, match):
  checkpoint = training_checkpoint()
  del checkpoint[without]
  with pytest.raises(ValueError, match=match):
    converters.to_training_state(checkpoint)


def test_options_of_another_run():
  checkpoint = training_checkpoint()
  checkpoint["opts"] = checkpoint["opts"] | {"optim_name": "adam"}
  with pytest.raises(
    ValueError, match=r"'optim_name'.* is 'adam', but .*ranger"
  ):
    converters.to_training_state(checkpoint)
