"""Official training runs go on here, and encoders start from trained bodies.

The law: to leave a run as an official checkpoint and to start from that is the
same as not to have left it.
"""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from changing import change
from flax import nnx
from PIL import Image
from test_training_state import ADAM, RANGER

from encoder4editing_jax import converters, weights, weights_folder
from encoder4editing_jax.config import (
  Config,
  ConfigError,
  Data,
  Discriminator,
  Model,
  Optim,
  Progressive,
  Run,
)
from encoder4editing_jax.converters import (
  discriminators,
  inverter as frameworks,
  irse,
  optimizers,
  transfer,
)
from encoder4editing_jax.converters.start import load_start
from encoder4editing_jax.models.arcface import ArcFace
from encoder4editing_jax.models.encoders import ResNetBackboneEncoder
from encoder4editing_jax.models.inverter import Inverter
from encoder4editing_jax.models.resnet import ResNet
from encoder4editing_jax.models.stylegan2 import Generator
from encoder4editing_jax.training import (
  adam,
  backbone,
  loop,
  opening,
  parallel,
  ranger,
  settings,
  start,
  state as states,
)
from encoder4editing_jax.training.preparation import Plan
from encoder4editing_jax.training.step import make_train_step

SIDE, BATCH, LEFT, STEPS = 32, 2, 7, 13  # over two lookaheads of Ranger

# Pools are not in official files. Heads wake before and after the run is left.
CONFIG = Config(
  data=Data(size=(SIDE, SIDE)),
  model=Model(num_layers=10, channels=(4, 4, 8, 8), generator="g"),
  optim=Optim(lr=1e-3, schedule="cosine", warmup=2),
  discriminator=Discriminator(
    lr=1e-3, hidden=8, n_layers=3, r1_every=3, pool=0
  ),
  progressive=Progressive(steps=(0, 1, 2, 4, 6, 8, 10, 99)),
  run=Run(steps=STEPS, batch_size=BATCH, seed=3),
)


def make_generator():
  net = Generator(
    SIDE, channel_base=64, channel_max=4, style_dim=8, n_mlp=1, rngs=nnx.Rngs(7)
  )
  net.w_avg[...] = jnp.linspace(-1, 1, 8)
  return net


def fresh(config):
  """A run that starts from nothing."""
  return start.begin(config, Plan(make_generator(), None, None))


def batch(step):
  random = np.random.default_rng(step)
  shape = (BATCH, SIDE, SIDE, 3)
  return {"image": random.integers(0, 256, shape, dtype=np.uint8)}


def compiled(config, networks):
  """One compilation serves a run and the one that goes on with it."""
  mapped = jax.vmap(
    make_train_step(config, networks),
    axis_name=parallel.AXIS,
    in_axes=(None, None, 0),
    out_axes=None,
  )
  return jax.jit(lambda s, f, b: mapped(s, f, parallel.split(b, 1)))


def encoder_refines(networks):
  return networks.encoder.input_channels == 6


def go_on(step, networks, state, last):
  size = (SIDE, SIDE) if encoder_refines(networks) else None
  frozen = states.create_frozen(networks, size)
  state, frozen = jax.device_get((state, frozen))  # no weak types: no compiling
  while int(state.step) < last:
    state, _ = step(state, frozen, batch(int(state.step)))
  return state


def parts_of(optimizer, kind):
  leaves = jax.tree.leaves(optimizer, is_leaf=lambda x: isinstance(x, kind))
  return [part for part in leaves if isinstance(part, kind)]


def official_optimizer(module, table, optimizer, group, locate, names):
  """What PyTorch would save of the state of an optimizer of ours."""
  (moments,) = parts_of(optimizer, adam.Moments)
  kinds = {"exp_avg": moments.mean, "exp_avg_sq": moments.square}
  for slow in parts_of(optimizer, ranger.SlowWeights):
    kinds["slow_buffer"] = slow.slow
  values = {}
  for kind, tree in kinds.items():
    net = nnx.clone(module)
    nnx.update(net, locate(tree))
    values[kind] = transfer.extract(net, table)
  counts = {
    ".".join(map(str, path)): np.asarray(n)
    for path, n in nnx.traversals.flatten_mapping(locate(moments.count)).items()
  }
  rows = {row.source: row for row in table.rows}
  entries = {}
  for number, name in enumerate(names):
    row = rows[name]
    steps = counts.get(row.target, np.zeros((), int))
    steps = steps if row.index is None else steps[row.index]
    if steps:
      entry = {kind: found[name] for kind, found in values.items()}
      entries[number] = {"step": int(steps)} | entry
  numbers = list(range(len(names)))
  return {"state": entries, "param_groups": [group | {"params": numbers}]}


def official(config, networks, state, **opts):
  """A state of ours as e4e with `--save_training_data` leaves it."""
  encoder = nnx.clone(networks.encoder)
  nnx.update(encoder, state.encoder)
  nnx.update(encoder, state.statistics)
  generator = nnx.clone(networks.generator)
  nnx.update(generator, state.generator)
  critic = nnx.clone(networks.discriminator)
  nnx.update(critic, state.discriminator)
  restyle = config.model.refinements > 0
  inverter = Inverter(encoder, generator, restyle=restyle)
  found = converters.from_inverter(inverter, {"optim_name": config.optim.name})
  found["opts"] |= opts
  names = optimizers.parameter_names(found["state_dict"], "e4e")
  if not state.generator:
    names = [name for name in names if name.startswith("encoder.")]
  table = discriminators.latent_discriminator_table(critic)
  found |= converters.from_latent_discriminator(critic)
  weights_of = found["discriminator_state_dict"]
  group = RANGER if config.optim.name == "ranger" else ADAM
  return found | {
    "global_step": int(state.step) - 1,
    "best_val_loss": 0.5,
    "optimizer": official_optimizer(
      inverter,
      frameworks.inverter_table(inverter),
      state.optimizer,
      group | {"lr": config.optim.lr},
      lambda tree: tree if state.generator else {"encoder": tree},
      names,
    ),
    "discriminator_optimizer_state_dict": official_optimizer(
      critic,
      table,
      state.discriminator_optimizer,
      ADAM | {"lr": config.discriminator.lr},
      lambda tree: tree,
      list(weights_of),
    ),
  }


def continued(config, path, found=None):
  """The run in a file, as the trainer begins it."""
  config = change(config, weights={"start_from": str(path)})
  found = found or opening.load_start(config, load_start)
  return start.begin(config, Plan(make_generator(), None, None, start=found))


def assert_equal(found, expected, atol=0.0):
  theirs = jax.tree_util.tree_flatten_with_path(expected)[0]
  ours = jax.tree.leaves(found)
  assert len(ours) == len(theirs)
  for a, (path, b) in zip(ours, theirs, strict=True):
    if jnp.issubdtype(b.dtype, jax.dtypes.prng_key):
      a, b = map(jax.random.key_data, (a, b))
    name = jax.tree_util.keystr(path)
    np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=name)


CASES = {
  "ranger": {},
  "adam": {"optim": {"name": "adam"}},
  "ranger and decoder": {"model": {"train_decoder": True}},
  "adam and decoder": {
    "optim": {"name": "adam"},
    "model": {"train_decoder": True},
  },
  "no discriminator": {"loss": {"adversarial": 0.0}},
  "restyle": {
    "model": {"encoder": "ProgressiveBackboneEncoder", "refinements": 2}
  },
}


def leave(config, networks, state, path):
  """Writes the checkpoint that e4e would have written."""
  checkpoint = official(config, networks, state)
  if not config.loss.adversarial:
    del checkpoint["discriminator_state_dict"]
    del checkpoint["discriminator_optimizer_state_dict"]
  converters.write(checkpoint, path)


def assert_same_run(found, expected):
  """Networks and state, to the bit."""
  (again, resumed), (networks, state) = found, expected
  assert_equal(resumed, state)
  assert_equal(
    *(
      states.with_generator(states.create_frozen(nets), state.generator)
      for nets in (again, networks)
    )
  )


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_run_that_left_as_an_official_checkpoint_goes_on(case, tmp_path):
  config = change(CONFIG, **CASES[case])
  networks, state = fresh(config)
  step = compiled(config, networks)
  state = go_on(step, networks, state, LEFT)
  (moments,) = parts_of(state.optimizer, adam.Moments)
  encoder = moments.count["encoder"] if state.generator else moments.count
  heads = [encoder[name]["linear_bias"] for name in encoder if "head" in name]
  assert len(set(np.concatenate(heads).tolist())) > 3  # of different ages
  leave(config, networks, state, tmp_path / "run.pt")
  again, resumed = continued(config, tmp_path / "run.pt")
  assert_same_run((again, resumed), (networks, state))
  whole = go_on(step, networks, state, STEPS)
  assert_equal(go_on(step, again, resumed, STEPS), whole, atol=1e-6)


def drawn(tree, seed):
  """Other numbers, of the same kinds: counts stay counts."""
  random = np.random.default_rng(seed)

  def draw(x):
    if jnp.issubdtype(x.dtype, jnp.integer):
      return jnp.asarray(random.integers(1, 9, x.shape), x.dtype)
    return jnp.asarray(random.uniform(0.1, 1, x.shape), x.dtype)

  return jax.tree.map(draw, tree)


def mid_run(config, step=LEFT):
  """A run between two steps that nobody took: quick to have."""
  networks, state = fresh(config)
  both = "optimizer", "discriminator_optimizer"
  trained = {"encoder", "statistics", "discriminator", "generator"}
  values = {name: drawn(getattr(state, name), 1) for name in {*both, *trained}}
  if not config.loss.adversarial:
    del values["discriminator"], values["discriminator_optimizer"]
  state = dataclasses.replace(state, step=jnp.int32(step), **values)
  counts = parts_of(state.optimizer, adam.Moments)[0].count
  known = (ranger.SlowWeights, optax.ScaleByScheduleState)

  def agree(part):
    """One count for all parts, as in every real run."""
    if isinstance(part, ranger.SlowWeights):
      return part._replace(count=counts)
    if isinstance(part, optax.ScaleByScheduleState):
      return part._replace(count=state.step)
    return part

  optimizer = jax.tree.map(
    agree, state.optimizer, is_leaf=lambda x: isinstance(x, known)
  )
  return networks, dataclasses.replace(state, optimizer=optimizer)


@pytest.mark.parametrize(
  "case",
  [
    "ranger",
    pytest.param("adam and decoder", marks=pytest.mark.slow),
    pytest.param("restyle", marks=pytest.mark.slow),
  ],
)
def test_a_run_between_two_steps_comes_back_to_the_bit(case, tmp_path):
  config = change(CONFIG, **CASES[case])
  networks, state = mid_run(config)
  leave(config, networks, state, tmp_path / "run.pt")
  found = continued(config, tmp_path / "run.pt")
  assert_same_run(found, (networks, state))


@pytest.fixture(scope="module")
def left(tmp_path_factory):
  """The file of a run, and the same without training data in our format."""
  folder = tmp_path_factory.mktemp("left")
  networks, state = mid_run(CONFIG)
  leave(CONFIG, networks, state, folder / "run.pt")
  found = load_start(folder / "run.pt").inverter
  weights.save(found, folder / "weights.safetensors")
  return folder


@pytest.fixture(scope="module")
def found(left):
  """The run in the file; nobody changes it."""
  return load_start(left / "run.pt")


def test_weights_alone_begin_at_step_0(left):
  config = change(CONFIG, weights={"start_from": f"{left}/weights.safetensors"})
  found = opening.load_start(config, load_start)
  found.w_avg[...] = found.w_avg[...] + 1  # learned from other mean codes
  plan = Plan(make_generator(), None, None, start=found)
  networks, state = start.begin(config, plan)
  assert int(state.step) == 0
  assert_equal(state.encoder, states.split_encoder(found.encoder)[0])
  assert_equal(state.statistics, states.split_encoder(found.encoder)[1])
  (slow,) = parts_of(state.optimizer, ranger.SlowWeights)
  assert_equal(slow.slow, state.encoder)
  assert not any(x.any() for x in jax.tree.leaves(slow.count))
  assert_equal(states.create_frozen(networks).w_avg, found.w_avg[...])
  (line,) = start.describe(config, networks, plan)
  assert "starting at step 0 with the weights of" in line


def test_what_is_otherwise_is_said(left):
  config = change(
    CONFIG,
    optim={"lr": 5e-4},
    loss={"l2": 0.5},
    weights={"start_from": f"{left}/run.pt"},
  )
  found = opening.load_start(config, load_start)
  found.optimizer.hyperparameters["b1"] = 0.9
  opts = {"batch_size": BATCH, "l2_lambda": 1.0, "use_w_pool": True}
  opts |= {"progressive_steps": list(CONFIG.progressive.steps)}
  found = dataclasses.replace(found, opts=opts)
  other = make_generator()
  other.synthesis.constant[...] += 1
  plan = Plan(other, None, None, start=found)
  networks, _ = start.begin(config, plan)
  begun, changed, generator = start.describe(config, networks, plan)
  assert f"from step {LEFT} (best validation loss 0.5)" in begun
  assert changed.endswith(
    "optim.lr 0.001 -> 0.0005; optim's b1 0.9 -> 0.95; loss.l2 1 -> 0.5; "
    "discriminator.pool 50 -> 0"
  )
  assert "is another one than model.generator" in generator


def test_constants_are_those_of_our_optimizers():
  renamed = {"k": "every", "n_sma_threshold": "threshold"}
  for name, makers in (
    ("adam", (adam.scale_by_adam,)),
    ("ranger", (ranger.scale_by_rectified_adam, ranger.lookahead)),
  ):
    given = {
      key: parameter.default
      for make in makers
      for key, parameter in inspect.signature(make).parameters.items()
    } | ({"weight_decay": 0.0} if name == "adam" else {})
    for key, value in settings.CONSTANTS[name].items():
      assert given[renamed.get(key, key)] == value, key


@pytest.mark.parametrize(
  ("sections", "match"),
  [
    (
      {
        "model": {"encoder": "GradualStyleEncoder"},
        "progressive": {"steps": ()},
      },
      "holds the encoder Encoder4Editing, but model.encoder is Gradual",
    ),
    ({"model": {"num_layers": 18}}, "num_layers 10, but .* with 18; change"),
    ({"model": {"channels": (4, 4, 8, 4)}}, "channels .*; change model.chan"),
    ({"data": {"task": "sketch"}}, "input_channels 3, but .*change data.task"),
    ({"data": {"size": (64, 64)}}, "does not fit .*; change data.size"),
    ({"optim": {"name": "adam"}}, "by ranger, but optim.name is adam; set"),
    ({"model": {"train_decoder": True}}, "without its generator, but model"),
    ({"discriminator": {"hidden": 9}}, "set discriminator.hidden to 8"),
    ({"run": {"steps": 6}}, "at step 7 already; set run.steps to 7 or more"),
  ],
)
def test_what_does_not_fit_is_one_line(left, found, sections, match):
  with pytest.raises(ConfigError, match=match) as error:
    continued(change(CONFIG, **sections), left / "run.pt", found)
  assert "\n" not in str(error.value)


def test_other_generators_do_not_fit(left, found):
  config = change(CONFIG, weights={"start_from": f"{left}/run.pt"})
  wider = Generator(
    64, channel_base=64, channel_max=4, style_dim=8, n_mlp=1, rngs=nnx.Rngs(7)
  )
  with pytest.raises(ConfigError, match=r"n_styles 8, .*change model\.gener"):
    start.begin(config, Plan(wider, None, None, start=found))


def test_a_generator_may_come_from_a_whole_model(left):
  for name in ("run.pt", "weights.safetensors"):
    config = change(CONFIG, model={"generator": str(left / name)})
    found = opening.load_generator(config, load_start)
    np.testing.assert_array_equal(
      found.mapping.layers[0].kernel, make_generator().mapping.layers[0].kernel
    )


def test_files_that_do_not_serve_are_one_line(left, tmp_path):
  weights.save(make_generator(), tmp_path / "g.safetensors")
  for section, field, load in (
    ("weights", "start_from", opening.load_start),
    ("weights", "backbone", opening.load_backbone),
    ("model", "generator", opening.load_generator),
  ):
    config = change(CONFIG, **{section: {field: "no.pt"}})
    with pytest.raises(
      ConfigError, match=f"^{section}.{field}: no.pt is not there; name"
    ):
      load(config, load_start)
  for field, load in (
    ("start_from", opening.load_start),
    ("backbone", opening.load_backbone),
  ):
    config = change(CONFIG, weights={field: f"{tmp_path}/g.safetensors"})
    with pytest.raises(
      ConfigError, match=r"holds (no .* but a )?Generator.*; "
    ):
      load(config, load_start)
  whole = {"backbone": f"{left}/weights.safetensors"}
  with pytest.raises(ConfigError, match="whole model as weights"):
    opening.load_backbone(change(CONFIG, weights=whole), load_start)
  checkpoint = dict(converters.read(left / "run.pt"))
  group = ADAM | {"amsgrad": True, "params": []}
  checkpoint["optimizer"] = {"state": {}, "param_groups": [group]}
  converters.write(checkpoint, tmp_path / "bad.pt")
  config = change(CONFIG, weights={"start_from": f"{tmp_path}/bad.pt"})
  with pytest.raises(
    ConfigError, match=r"has 'amsgrad' set.*`e4e convert` makes"
  ):
    opening.load_start(config, load_start)


# Bodies.


def make_arcface(**options):
  net = ArcFace(
    10,
    input_size=32,
    embedding_dim=8,
    channels=(4, 4, 8, 8),
    rngs=nnx.Rngs(4),
    **options,
  )
  net.backbone.input_norm.mean[...] += 0.5
  return net


def with_body(config, body):
  """Ours before, and with the body."""
  before = fresh(config)[0].encoder
  plan = Plan(make_generator(), None, None, backbone=body)
  return before, start.begin(config, plan)[0].encoder


def test_a_body_comes_with_statistics_and_leaves_the_heads(tmp_path):
  folder = {"dir": str(tmp_path), "backbone": "arcface_ir_se50"}
  config = change(CONFIG, weights=folder)
  with pytest.raises(
    ConfigError, match=r"weights\.backbone is arc.*e4e weights"
  ):
    opening.load_backbone(config, load_start)
  arcface = make_arcface()
  weights.save(arcface, weights_folder.path_of(tmp_path, "arcface_ir_se50"))
  body = opening.load_backbone(config, load_start)
  before, after = with_body(config, body)
  assert_equal(nnx.state(after.body), nnx.state(arcface.backbone))
  drawn_before, drawn_after = map(weights.leaves, (before, after))
  for name, leaf in drawn_before.items():
    if not name.startswith("body."):
      np.testing.assert_array_equal(leaf[...], drawn_after[name][...])
  both = change(config, weights=folder | {"start_from": "other.pt"})
  assert opening.load_backbone(both, load_start) is None


def test_sketches_and_maps_keep_the_input_layer_that_was_drawn():
  config = change(CONFIG, data={"task": "sketch"})
  given = make_arcface().backbone
  before, after = (net.body for net in with_body(config, given))
  kept = ("input_conv", "input_norm", "input_act")
  for name in kept:
    ours, theirs = (nnx.state(getattr(net, name)) for net in (after, before))
    assert_equal(ours, theirs)
  assert_equal(nnx.state(after.blocks), nnx.state(given.blocks))


def test_inputs_of_restyle_add_channels_of_normal_numbers():
  given = ResNet(10, input_channels=3, channels=(64, 4, 4, 4), rngs=nnx.Rngs(4))
  encoder = ResNetBackboneEncoder(
    2,
    input_size=SIDE,
    num_layers=10,
    channels=(64, 4, 4, 4),
    style_dim=4,
    rngs=nnx.Rngs(5),
  )
  backbone.fill_body(CONFIG, encoder, given)
  kernel = np.asarray(encoder.body.input_conv.kernel[...])
  np.testing.assert_array_equal(kernel[:, :, :3], given.input_conv.kernel[...])
  assert abs(kernel[:, :, 3:].std() - 1) < 0.05
  assert_equal(nnx.state(encoder.body.blocks), nnx.state(given.blocks))


def test_torchvisions_resnet_is_a_body(tmp_path):
  net = ResNet(34, input_channels=3, channels=(4, 4, 4, 4), rngs=nnx.Rngs(4))
  state = transfer.extract(net, irse.resnet_table(net))
  state |= {"fc.weight": np.zeros((2, 4)), "fc.bias": np.zeros(2)}
  converters.write(state, tmp_path / "resnet34.pth")
  file = str(tmp_path / "resnet34.pth")
  config = change(CONFIG, weights={"backbone": file})
  found = opening.load_backbone(config, load_start)
  assert_equal(nnx.state(found), nnx.state(net))


@pytest.mark.parametrize(
  "body",
  [
    lambda: make_arcface(squeeze_excite=False).backbone,
    lambda: make_arcface(input_channels=1).backbone,
    lambda: ResNet(10, channels=(4, 4, 8, 8), rngs=nnx.Rngs(4)),
  ],
)
def test_other_bodies_are_one_line(body):
  with pytest.raises(ConfigError, match="but the encoder begins with a Back"):
    with_body(change(CONFIG, weights={"backbone": "file.pt"}), body())


@pytest.mark.slow
def test_a_command_goes_on_and_then_resumes_its_own_folder(
  left, tmp_path, capsys
):
  for i in range(20):
    picture = np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8)
    (tmp_path / "images").mkdir(exist_ok=True)
    Image.fromarray(picture).save(tmp_path / "images" / f"{i}.png")
  file = str(left / "run.pt")
  config = change(
    CONFIG,
    data={"train": str(tmp_path / "images"), "eval_images": 0},
    model={"generator": file},
    weights={"start_from": file},
    run={"batch_size": 8, "save_every": 1, "steps": LEFT + 1},
  )
  results = loop.run(config, tmp_path / "run", load_start)
  assert results["step"] == LEFT + 1
  said = capsys.readouterr().out
  assert f"continuing the run in {file} from step {LEFT}" in said
  longer = change(config, run={"steps": LEFT + 2})
  assert loop.run(longer, tmp_path / "run", load_start)["step"] == LEFT + 2
  said = capsys.readouterr().out
  assert f"continuing from the checkpoint of step {LEFT + 1}" in said
  assert file not in said
  anew = change(longer, weights={"start_from": ""}, run={"steps": LEFT + 3})
  with pytest.raises(ConfigError, match=r"weights\.start_from: .* -> \)"):
    loop.run(anew, tmp_path / "run", load_start)
  nothing = change(config, optim={"name": "adam"})
  with pytest.raises(ConfigError, match="by ranger"):
    loop.run(nothing, tmp_path / "none", load_start)
  assert not (tmp_path / "none").exists()
