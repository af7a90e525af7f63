"""`e4e directions`: from labels, weights and published files to edits."""

import json
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_architecture import ROOT
from test_demo_session import tiny_inverter

import encoder4editing_jax as e4e
from encoder4editing_jax import cli, converters, editing, faceworld, inference
from encoder4editing_jax.cli.edit import open_directions
from encoder4editing_jax.cli.labels import Codes, paired
from encoder4editing_jax.demo.engine import Engine
from encoder4editing_jax.editing import Direction

N, D = 120, 64
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def world():
  """The generator, some of its codes `[b d]`, and the truth about them."""
  net = faceworld.load_generator()
  z = jax.random.normal(jax.random.key(5), (N, D))
  truth = np.asarray(faceworld.attributes(z))
  return net, np.asarray(net.mapping(z)), truth


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory):
  """latents.npz, and labels.csv of all but the last with two strangers."""
  net, w, truth = world
  place = tmp_path_factory.mktemp("labelled")
  names = tuple(f"face{k}" for k in range(N))
  w_plus = np.repeat(w[:, None], net.n_styles, 1)
  digest = inference.fingerprint(net)
  latents = inference.Latents(names, w_plus, None, digest, 8)
  inference.save_latents(place / "latents.npz", latents)
  lines = ["name,hair_length,background,long"]
  for name, row in zip(names[:-1], truth, strict=False):
    hair, ground = (row[faceworld.ATTRIBUTES.index(x)] for x in HEADS)
    lines.append(f"{name}.png,{hair},{ground},{'yes' if hair > 0 else 'no'}")
  lines += ["stranger.png,0.1,0.2,no", "other.jpg,,,"]
  (place / "labels.csv").write_text("\n".join(lines), "utf-8-sig")
  return place


HEADS = ("hair_length", "background")


def run(*words):
  return cli.main(["directions", *map(str, words)])


def test_from_labels_to_an_edited_picture(folder, tmp_path, world):
  out = tmp_path / "mine.safetensors"
  program = "import sys; from encoder4editing_jax.cli import main; "
  find = ["directions", "find", folder / "latents.npz", "--out", out]
  find += ["--labels", folder / "labels.csv", "--attributes", "long", "--json"]
  done = subprocess.run(
    [sys.executable, "-c", program + "sys.exit(main())", *map(str, find)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  told = json.loads(done.stdout)
  assert told["directions"]["long"]["accuracy"] > 0.7
  assert told["directions"]["long"]["rows"] == N - 1
  assert told["labels without codes"] == ["stranger.png"]
  assert told["codes without labels"] == [f"face{N - 1}"]
  assert "1 labels without codes: stranger.png" in done.stderr
  found = e4e.directions.load(out)["long"]
  np.testing.assert_allclose(np.linalg.norm(found.vector), 1, rtol=1e-5)
  long = np.asarray(faceworld.load_directions()["hair_length"])
  assert found.vector @ long > 0
  assert found.notes["generator"] == inference.fingerprint(world[0])
  edited = tmp_path / "edited"
  edit = ["edit", str(folder / "latents.npz"), "--demo", "--out", str(edited)]
  edit += ["--directions", str(out), "--edit", "long=1.5", "smile=1@0-3"]
  assert cli.main(edit) == 0
  moved = inference.load_latents(edited / "latents.npz").w_plus
  smile = faceworld.load_directions()["smile"]
  step = 1.5 * found.vector
  before = inference.load_latents(folder / "latents.npz").w_plus
  np.testing.assert_allclose((moved - before)[0, 9], step, atol=1e-5)
  np.testing.assert_allclose(
    (moved - before)[0, 3], step + np.asarray(smile), atol=1e-5
  )


def test_directions_that_leave_others_alone(folder, tmp_path, capsys):
  out = tmp_path / "two.npz"
  find = [folder / "latents.npz", "--labels", folder / "labels.csv"]
  find += ["--attributes", *HEADS, "--method", "ridge", "--out", out]
  assert run("find", *find, "--penalty", 0.1) == 0
  before = e4e.directions.load(out)
  assert float(before["hair_length"].notes["R2"]) > 0.5
  assert "held-out R2" in capsys.readouterr().out
  assert run("find", *find) == 2
  assert "--overwrite" in capsys.readouterr().err
  assert run("find", *find, "--without", "background", "--overwrite") == 0
  after = e4e.directions.load(out)
  hair, ground = (after[name].vector for name in HEADS)
  np.testing.assert_allclose(hair @ ground, 0, atol=1e-5)
  np.testing.assert_allclose(np.linalg.norm(hair), 1, rtol=1e-5)
  assert after["hair_length"].notes["without"] == "background"


@pytest.mark.parametrize(
  "options",
  [
    ["--method", "svm"],
    ["--method", "logistic", "--extremes", "0.3"],
    ["--method", "ridge", "--without", "age"],
  ],
)
def test_found_directions_raise_what_pictures_show(options, tmp_path, world):
  """Monotonically, and the others by less: with the truth of drawn faces."""
  out = tmp_path / "demo.safetensors"
  assert (
    run("find", "--demo", "--attributes", "yaw", "--out", out, *options) == 0
  )
  found = e4e.directions.load(out)
  assert list(found) == ["yaw"]
  net, w, _ = world
  w_plus = jnp.repeat(jnp.asarray(w[:8, None]), net.n_styles, 1)
  means = []
  for steps in (-2, -1, 0, 1, 2):
    strength = steps * found["yaw"].notes["spread"] / 2
    moved = editing.apply(w_plus, [("yaw", strength)], found)
    images = jnp.asarray(inference.paint(net, moved))
    means.append(faceworld.measure(images).mean(0))
  means = np.array(means)
  assert (np.diff(means[:, 0]) > 0.05).all(), means[:, 0]
  change = np.abs(means[-1] - means[0])
  assert change[0] > 4 * change[1:].max()


def test_the_commands_of_generators(tmp_path, capsys, folder, world):
  pca, sefa = tmp_path / "pca.npz", tmp_path / "sefa.safetensors"
  few = ["--demo", "--samples", 500, "--components", 3, "--out", pca]
  assert run("pca", *few, "--json") == 0
  told = json.loads(capsys.readouterr().out)
  assert list(told["directions"]) == ["pc0", "pc1", "pc2"]
  assert run("sefa", "--demo", "--layers", "2-5", "--out", sefa) == 0
  assert run("list", sefa, "--demo", "--json") == 0
  out = capsys.readouterr().out
  row = json.loads(out[out.index("{") :])["directions"]["sefa0"]
  assert row["layers"] == [2, 3, 4, 5] and row["fits"]
  assert not row["other_generator"]
  found = e4e.directions.load(sefa)
  zeros = jnp.zeros((1, world[0].n_styles, D))
  own = editing.apply(zeros, [("sefa0", 2.0)], found)[0]
  assert np.flatnonzero(np.abs(own).max(1)).tolist() == [2, 3, 4, 5]
  named = editing.apply(zeros, [("sefa0", 2.0, [7])], found)[0]
  assert np.flatnonzero(np.abs(named).max(1)).tolist() == [7]
  # coordinates through the command
  moved = tmp_path / "moved"
  edit = ["edit", str(folder / "latents.npz"), "--demo", "--out", str(moved)]
  edit += ["--directions", str(pca), "--edit", "pc1=2@0-3", "pc2+=0.5"]
  assert cli.main(edit) == 0
  axes = e4e.directions.load(pca)
  before = inference.load_latents(folder / "latents.npz").w_plus
  after = inference.load_latents(moved / "latents.npz").w_plus
  axis = axes["pc1"]
  at = (after[:, 0] - axis.mean) @ axis.vector / (axis.vector @ axis.vector)
  np.testing.assert_allclose(at, 2, atol=1e-4)
  np.testing.assert_allclose(
    after[:, 4] - before[:, 4], [0.5 * axes["pc2"].vector] * N, atol=1e-5
  )


def published(first=(2.856, 2.627, 2.594), k=60, d=70):
  rows = np.linalg.qr(RNG.standard_normal((d, d)))[0][:k, None]
  std = np.linspace(first[-1], 0.5, k - 2).astype(np.float32)
  return {
    "mean": RNG.standard_normal((1, d)).astype(np.float32),
    "comp": rows.astype(np.float32),
    "std": np.concatenate([np.float32(first[:2]), std]),
  }


def test_published_components_are_edits_by_their_names(tmp_path):
  file = published()
  converters.write(file, tmp_path / "renamed.pt")
  found = e4e.directions.load(tmp_path / "renamed.pt")
  assert list(found)[:2] == ["pc0", "pc1"] and len(found) == 70
  codes = jnp.asarray(RNG.standard_normal((2, 18, 70)), jnp.float32)
  pca = editing.Components(**converters.to_directions(file))
  for name, edit in (
    ("eye_openness", (54, 7, 8, 20.0)),
    ("smile", (46, 4, 5, -20.0)),
    ("white_hair", (57, 7, 10, -24.0)),
  ):
    k, start, stop, strength = edit
    theirs = editing.set_coordinates(codes, pca, [edit])
    ours = editing.apply(codes, [(name, strength)], found)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    layers = list(range(start, stop))
    ours = editing.apply(codes, [(f"pc{k}", strength, layers)], found)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
  others = published((3.0, 2.0, 1.0), k=5)
  converters.write(others, tmp_path / "others.pt")
  assert len(e4e.directions.load(tmp_path / "others.pt")) == 5
  dump = {
    "lat_comp": file["comp"],
    "lat_mean": file["mean"][None],
    "lat_stdev": file["std"],
    "act_comp": file["comp"],
    "var_ratio": file["std"],
  }
  np.savez(tmp_path / "dump.npz", **dump)
  again = e4e.directions.load(tmp_path / "dump.npz")
  np.testing.assert_allclose(again["pc3"].vector, found["pc3"].vector)
  dump["lat_stdev"] = np.ones(60, np.float32)
  np.savez(tmp_path / "z.npz", **dump)
  with pytest.raises(ValueError, match="use_w"):
    e4e.directions.load(tmp_path / "z.npz")


def test_edits_add_up_whatever_their_kinds():
  pca = editing.Components(jnp.ones(6), jnp.eye(6)[:2], jnp.asarray([2.0, 1.0]))
  found = {
    "pc0": editing.component(pca, 0),
    "low": Direction(jnp.arange(6.0), layers=(0, 1)),
    "age": jnp.ones(6),
  }
  edits = [("age", -1.5), ("low", 2.0), ("pc0", 3.0, [0, 2]), ("pc0+", 1.0)]
  codes = jnp.asarray(RNG.standard_normal((3, 4, 6)), jnp.float32)
  there = editing.apply(codes, edits, found)
  for order in (edits[::-1], edits[2:] + edits[:2]):
    np.testing.assert_allclose(
      editing.apply(codes, order, found), there, atol=1e-5
    )
  steps = sum(editing.apply(codes, [edit], found) - codes for edit in edits)
  np.testing.assert_allclose(codes + steps, there, atol=1e-5)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_files_come_back_as_they_were(suffix, tmp_path):
  path = tmp_path / f"x{suffix}"
  mean = RNG.standard_normal(6).astype(np.float32)
  notes = {"method": "pca", "spread": 0.5}
  given = {
    "z last": Direction(mean + 1, (1, 2), None, notes),
    "a/b": Direction(RNG.standard_normal((4, 6)).astype(np.float32)),
    "pc0": Direction(mean * 2, None, mean),
    "pc1": Direction(mean * 3, (0,), mean),
  }
  e4e.directions.save(path, given)
  first = path.read_bytes()
  found = e4e.directions.load(path)
  assert list(found) == list(given)
  for name, x in given.items():
    y = found[name]
    np.testing.assert_array_equal(y.vector, x.vector)
    assert y.layers == x.layers and dict(y.notes) == dict(x.notes)
    assert (y.mean is None) == (x.mean is None)
  np.testing.assert_array_equal(found["pc1"].mean, mean)
  if suffix == ".safetensors":
    e4e.directions.save(path, given)
    assert path.read_bytes() == first
    with pytest.raises(ValueError, match="e4e directions list"):
      e4e.load(path)
    assert cli.main(["convert", str(path)]) == 2


def test_published_files_there_and_back(tmp_path, capsys):
  age = RNG.standard_normal((1, 6)).astype(np.float32)
  converters.write(age, tmp_path / "age.pt")
  np.save(tmp_path / "pose.npy", np.tile(2 * age, (1, 4, 1)))
  converters.write(published(k=8), tmp_path / "pca.pt")
  both = tmp_path / "both.safetensors"
  files = [tmp_path / "age.pt", f"turn={tmp_path / 'pose.npy'}"]
  assert run("convert", *files, "--out", both) == 0
  assert run("convert", *files, files[0], "--out", tmp_path / "x.npz") == 2
  assert "'age' occurs twice; rename one" in capsys.readouterr().err
  found = e4e.directions.load(both)
  np.testing.assert_array_equal(found["turn"].vector, 2 * age[0])
  assert run("convert", both, "--out", tmp_path / "back.pt") == 0
  back = converters.read(tmp_path / "back.pt")
  np.testing.assert_array_equal(back["age"], age)
  assert run("convert", files[0], "--out", tmp_path / "age.npy") == 0
  np.testing.assert_array_equal(np.load(tmp_path / "age.npy"), age)
  native, again = tmp_path / "pca.npz", tmp_path / "again.pt"
  assert run("convert", tmp_path / "pca.pt", "--out", native) == 0
  assert run("convert", native, "--out", again) == 0
  theirs, ours = converters.read(tmp_path / "pca.pt"), converters.read(again)
  for key in ("mean", "comp", "std"):
    np.testing.assert_allclose(ours[key], theirs[key], atol=1e-6)
  assert run("list", both, "--demo") == 1  # 6 numbers are not 64
  assert "has shape (6,)" in capsys.readouterr().out


def labels(tmp_path, *lines):
  path = tmp_path / "labels.csv"
  path.write_text("\n".join(lines), errors="surrogateescape")
  return path


def test_dots_in_names_of_pictures_are_no_endings():
  codes = Codes(("a", "a.b"), np.zeros((2, 3)), "")
  pairs, lost = paired(codes, {"smile": {"a.c": 1.0, "a.b.png": 0.0}})
  assert pairs == {"smile": ([1], [0.0])}
  assert lost["labels without codes"] == ["a.c"]


def test_components_are_of_one_style():
  axis = Direction(np.ones((1, 4)), mean=np.zeros((1, 4)))
  with pytest.raises(ValueError, match=r"a component has \(d,\) and \(d,\)"):
    e4e.directions.check({"pc0": axis})


ROWS = [f"{k},{k % 2}" for k in range(20)]


@pytest.mark.parametrize(
  ("lines", "options", "message"),
  [
    (["name,smile", *(f"x{k},1" for k in range(9))], [], "x0, x1, x2 and 6 mo"),
    (["name,smile", *(f"{k},1" for k in range(20))], [], "smile is 1 for all"),
    (["name,smile", *ROWS[:6]], [], "smile has 6 labelled codes; 10 or more"),
    (["name,smile", *ROWS[1::2], "0,0", "2,0"], [], "only 2 of one kind"),
    (["name,smile", *ROWS, "20,nan"], [], "smile of '20' is 'nan', not a fin"),
    (["name,smile", *ROWS, "20,big"], [], "smile of '20' is 'big'"),
    (["name,smile", *ROWS, "3,0"], [], "'3' occurs twice"),
    (["name,smile", *ROWS, "20,0,0"], [], "'20' has 3 cells"),
    (["name,smile", *ROWS[:-1], "19,3.5"], [], "label 3.5; svm and log"),
    (["name", "0", "1"], [], "its first line is 'name'"),
    (["name,smile", *ROWS], ["--without", "smlie"], "did you mean smile?"),
    (["name,a,b", *(f"{k},{k % 2},{k % 2}" for k in range(20))],
     ["--without", "a"], "nothing is left"),
    (["name,smile", *ROWS], ["--extremes", "0.3", "--method", "ridge"], "goes"),
    (["name,smile", *ROWS, "0.png,1"], [], "two rows are of '0'"),
    (["name;smile", *ROWS], [], "its first line is 'name;smile'"),
    (["name,smile", "\udcff,1"], [], "no CSV in UTF-8"),
  ],
)  # fmt: skip
def test_labels_that_say_nothing_write_nothing(
  lines, options, message, tmp_path, capsys
):
  codes = tmp_path / "codes.npy"
  np.save(codes, RNG.standard_normal((20, 3, 5)).astype(np.float32))
  path, out = labels(tmp_path, *lines), tmp_path / "out.npz"
  assert run("find", codes, "--labels", path, "--out", out, *options) == 2
  error = capsys.readouterr().err
  assert message in error and error.count("\n") == 1
  assert not out.exists()


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["fnid"], "did you mean find?"),
    (["find", "--demo", "--out", "x.pt"], "--out x.pt is neither a .safet"),
    (["find", "--demo"], "--out is missing"),
    (["find", "--out", "x.npz"], "give CODES and --labels"),
    (["pca", "--out", "x.npz"], "--model FILE or --demo"),
    (["pca", "--demo", "--out", "x.npz", "--components", "65"], "pass 1 to 64"),
    (["sefa", "--demo", "--out", "x.npz", "--layers", "9"], "use 0 to 8"),
    (["list"], "give FILE or --demo"),
    (["list", "nowhere.npz"], "nowhere.npz is not there"),
    (["list", "setup.cfg"], "no known format"),
    (["convert", "setup.cfg", "--out", "x.zip"], "--out: name a file"),
  ],
)
def test_mistakes_are_one_line(words, message, capsys):
  assert run(*words) == 2
  error = capsys.readouterr().err
  assert message in error and error.count("\n") == 1


def test_other_files_are_named(tmp_path, folder, capsys):
  assert run("list", folder / "latents.npz") == 2
  assert "holds codes of `e4e invert`" in capsys.readouterr().err
  nan = {"age": np.full(4, np.nan, np.float32)}
  np.savez(tmp_path / "nan.npz", **nan)
  assert run("list", tmp_path / "nan.npz") == 2
  assert "nan.npz: 'age' holds NaN" in capsys.readouterr().err
  np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
  assert run("list", tmp_path / "objects.npy") == 2
  assert "pickled objects" in capsys.readouterr().err
  whole = tmp_path / "whole.npy"
  np.save(whole, np.ones(64, np.float32))
  whole.write_bytes(whole.read_bytes()[:-8])
  assert run("list", whole) == 2
  assert "ends too early" in capsys.readouterr().err
  header = {"format": 1, "directions": [{"name": "a"}]}
  damaged = {"a": np.ones(3, np.float32)}
  damaged["encoder4editing_jax"] = json.dumps(header)
  np.savez(tmp_path / "damaged.npz", **damaged)
  assert run("list", tmp_path / "damaged.npz") == 2
  assert "are damaged (KeyError)" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["rows.pt", "named.npz", "one.npz"])
def test_codes_of_other_programs(kind, tmp_path, capsys):
  w = RNG.standard_normal((20, 3, 5)).astype(np.float32)
  path = tmp_path / kind
  if kind == "rows.pt":
    converters.write(w, path)
  elif kind == "one.npz":
    np.savez(path, latents=w)
  else:
    np.savez(path, **{str(k): code for k, code in enumerate(w)})
  lines = [f"{k},{w[k, :, 1].mean()}" for k in range(20)]
  csv = labels(tmp_path, "row,up", *lines)
  out = tmp_path / "out.npz"
  find = ["find", path, "--labels", csv, "--method", "ridge", "--out", out]
  assert run(*find, "--penalty", 0.01) == 0
  assert e4e.directions.load(out)["up"].vector.argmax() == 1
  damaged = labels(tmp_path, "row,up", "x,1")
  np.savez(tmp_path / "none.npz", a=np.arange(3), b=np.arange(3))
  find[1], find[3] = tmp_path / "none.npz", damaged
  assert run(*find, "--overwrite") == 2
  assert "'a' is no code: shape (3,), int64" in capsys.readouterr().err


def test_semantics_of_other_programs(tmp_path):
  rows = np.linalg.qr(RNG.standard_normal((6, 6)))[0].astype(np.float32)
  converters.write({"eigvec": rows.T, "ckpt": "g.pt"}, tmp_path / "factor.pt")
  values = {"boundaries": rows[:2], "values": np.ones(2)}
  np.savez(tmp_path / "sefa.npz", **values, layers=np.array([1, 2]))
  found = e4e.directions.load(tmp_path / "factor.pt")
  assert len(found) == 6 and found["sefa0"].layers is None
  np.testing.assert_array_equal(found["sefa1"].vector, rows[1])
  found = e4e.directions.load(tmp_path / "sefa.npz")
  assert [x.layers for x in found.values()] == [(1, 2), (1, 2)]


def test_sliders_of_a_file_go_steps():
  pca = editing.Components(jnp.ones(D), jnp.eye(D)[:12], jnp.linspace(3, 1, 12))
  given = {f"pc{k}": editing.component(pca, k) for k in range(12)}
  given |= {"brows": editing.component(pca, 11, [2]), "age": np.ones(D)}
  engine = Engine(tiny_inverter(), given)
  assert list(engine.directions) == [f"pc{k}" for k in range(8)] + [
    "brows",
    "age",
  ]
  codes = jnp.zeros((1, 10, D))
  moved = editing.apply(codes, [("brows", 2.0)], engine.directions)
  np.testing.assert_allclose(moved[0, 2], 2 * given["brows"].vector)
  assert not moved[0, 3].any()


def test_damage_is_a_reason(tmp_path):
  """One or two bytes that changed, anywhere, in small files of every kind."""
  given = {"a": Direction(np.ones(6, np.float32), (1, 2))}
  e4e.directions.save(tmp_path / "a.safetensors", given)
  e4e.directions.save(tmp_path / "a.npz", given)
  np.savez_compressed(tmp_path / "b.npz", a=np.arange(60.0))
  np.save(tmp_path / "c.npy", np.ones((1, 6), np.float32))
  for path in sorted(tmp_path.iterdir()):
    whole = path.read_bytes()
    for _ in range(200):
      damaged = bytearray(whole)
      for place in RNG.integers(len(whole), size=2):
        damaged[place] = RNG.integers(256)
      path.write_bytes(damaged)
      try:
        e4e.directions.load(path)
      except ValueError as error:
        assert path.name in str(error)


def test_scikit_learn_is_asked_for(monkeypatch, tmp_path, capsys):
  monkeypatch.setitem(sys.modules, "sklearn", None)
  out = tmp_path / "x.npz"
  assert run("find", "--demo", "--samples", 100, "--out", out) == 2
  assert "encoder4editing_jax[directions]" in capsys.readouterr().err


def test_the_generator_of_drawn_faces_brings_its_directions():
  """Also out of a file, such as a trained model's; no other one does."""
  asked = SimpleNamespace(demo=False, directions="")
  drawn = faceworld.load_generator()
  assert set(open_directions(asked, drawn)) == set(faceworld.load_directions())
  drawn.synthesis.constant[...] = drawn.synthesis.constant[...] + 1
  assert open_directions(asked, drawn) == {}
