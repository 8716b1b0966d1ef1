"""Checkpoints with their MetaGraphs, read: values, keys, inference part, bad files."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import pytest
import trained
from command import Run
from sessions import plain_config

import graphslim as gs
from graphslim import runtime
from graphslim.checkpoint import Trained, files_of, open_checkpoint, prefix_of
from graphslim.errors import EmitError, LoadError, RuntimeUnavailable
from graphslim.method.rebuild import opened as opened_by_the_method
from graphslim.plans.make import model_of

pytestmark = pytest.mark.tf


@pytest.fixture
def run(tmp_path: Path, capsys: Any, monkeypatch: Any) -> Run:
    return Run(tmp_path, capsys, monkeypatch)


@pytest.fixture(scope="module")
def made(tmp_path_factory: Any) -> Callable[..., str]:
    """Trains a checkpoint once for each way of training; nobody may change its files."""
    found: Dict[Tuple[Any, ...], str] = {}

    def make(*ways: Any) -> str:
        if ways not in found:
            found[ways] = trained.train(tmp_path_factory.mktemp("trained"), *ways)
        return found[ways]

    return make


@pytest.fixture
def prefix(made: Callable[..., str], tmp_path: Path) -> str:
    """A copy of a checkpoint, to be damaged."""
    folder = tmp_path / "ckpt"
    shutil.copytree(os.path.dirname(made("ref")), str(folder))
    return str(folder / "model")


def opened(prefix: str, **options: Any) -> Trained:
    return open_checkpoint(prefix, outputs=[trained.OUTPUT], **options)


def answer(graph: gs.Graph) -> np.ndarray:
    with runtime.Session(graph) as session:
        return session.run({"image": trained.images()})[0]


def write(tmp_path: Path, build: Callable[[Any], Any], **saver: Any) -> str:
    """Saves a graph of one's own making, initialised; `build` gives the variables to save."""
    tf = runtime.plain_tensorflow()
    prefix = str(tmp_path / "own")
    with tf.Graph().as_default(), tf.Session(config=plain_config(tf)) as session:
        saved = build(tf)
        for variable in tf.global_variables():  # a moving average begins with the variable's value
            session.run(variable.initializer)
        tf.train.Saver(saved, **saver).save(session, prefix)
    return prefix


# --------------------------------------------------------------------------- tensors

VALUES = {
    "a/float": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bytes": np.array([b"x", b"\xff\x00"], object),
    "count": np.array(5, np.int64),
    "empty": np.zeros((0, 3), np.float32),
    "half": np.ones(2, np.float16),
    "truth": np.array([True, False]),
}


def test_a_checkpoint_gives_back_what_was_written(tmp_path: Path) -> None:
    tf = runtime.plain_tensorflow()
    values = {
        **VALUES,
        "brain": np.array([1.5, -2], tf.bfloat16.as_numpy_dtype),
        "quantised": np.array([1, 2], tf.qint8.as_numpy_dtype),
    }
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    runtime.write_checkpoint(first, values)
    found = runtime.Checkpoint(first)
    assert found.shapes == {key: np.shape(value) for key, value in values.items()}
    assert found.dtypes["brain"] == gs.DType.bfloat16
    assert found.dtypes["quantised"] == gs.DType.qint8
    assert found.tensor("brain").numbers().tolist() == [1.5, -2]
    assert found.tensor("quantised").array.tolist() == [1, 2]
    for key, value in VALUES.items():
        assert found.read(key).dtype == value.dtype, key
        np.testing.assert_array_equal(found.read(key), value, err_msg=key)
    runtime.write_checkpoint(second, {key: found.read(key) for key in found.shapes})
    for ending in (".index", ".data-00000-of-00001"):
        assert Path(second + ending).read_bytes() == Path(first + ending).read_bytes()


def test_a_digest_is_of_the_values(tmp_path: Path) -> None:
    digests = []
    for number, value in enumerate((0, 0, 1)):
        prefix = str(tmp_path / str(number))
        runtime.write_checkpoint(prefix, {"w": np.full(3, value, np.float32)})
        digests.append(runtime.Checkpoint(prefix).digest())
    assert digests[0] == digests[1] != digests[2]


def test_a_key_that_is_not_there(prefix: str) -> None:
    with pytest.raises(LoadError, match="no 'gone' in the checkpoint"):
        runtime.Checkpoint(prefix).tensor("gone")
    with pytest.raises(LoadError, match="no 'gone' in the checkpoint"):
        runtime.Checkpoint(prefix).read("gone")


def test_a_checkpoint_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EmitError, match="the checkpoint cannot be written") as told:
        runtime.write_checkpoint(str(tmp_path / "file" / "model"), VALUES)
    assert "\n" not in str(told.value)


def test_a_full_disk_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tf = runtime.plain_tensorflow()

    def full(*args: Any, **options: Any) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tf.Session, "run", full)
    with pytest.raises(EmitError, match="No space left on device.*permissions and space"):
        runtime.write_checkpoint(str(tmp_path / "model"), VALUES)


# --------------------------------------------------------------------------- opening


@pytest.mark.parametrize("variables", ["ref", "resource"])
@pytest.mark.parametrize(("optimizer", "averages"), [(None, False), ("adam", True)])
def test_the_inference_part_computes_what_the_network_does(
    made: Callable[..., str], tmp_path: Path, variables: str, optimizer: Any, averages: bool
) -> None:
    prefix = made(variables, optimizer, averages)
    found = opened(prefix)
    assert (found.graph.name, found.graph.inputs) == ("model", ["image"])
    assert found.keys["block_1/expand/weights"] == "block_1/expand/weights"
    assert found.graph.variables == set(found.keys)
    assert {node.op for node in found.graph}.isdisjoint(("VariableV2", "VarHandleOp", "Assign"))
    other = str(tmp_path / "inference.meta")
    trained.write_inference_meta(other, prefix)
    wanted = open_checkpoint(prefix, inference_meta=other)
    assert wanted.keys == found.keys
    np.testing.assert_allclose(answer(found.graph), answer(wanted.graph), rtol=0, atol=1e-6)


def test_what_is_known_of_variables(made: Callable[..., str]) -> None:
    found = opened(made("ref", "adam", True))
    weights, moving = "block_0/expand/weights", "block_0/expand/BatchNorm/moving_mean"
    assert set(found.companions[weights]) == {
        f"{weights}/{one}" for one in ("Adam", "Adam_1", "ExponentialMovingAverage")
    }
    assert moving in found.statistics and weights not in found.statistics
    assert found.meta.trainable is not None and weights in found.meta.trainable
    assert found.parts == {}


def test_values_are_read_when_asked_for(
    made: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: List[str] = []
    real = runtime.Checkpoint.read

    def counted(self: runtime.Checkpoint, key: str) -> np.ndarray:
        read.append(key)
        return real(self, key)

    monkeypatch.setattr(runtime.Checkpoint, "read", counted)
    graph = gs.find_blocks(opened(made("ref", "adam", True)).graph)
    gs.cost(graph)  # `inspect` needs them: it counts the channels that are dead
    assert read == []
    gs.plan(graph, criterion="l1", ratio=0.25, only=["block_0*"])
    assert len(set(read)) == len(read) > 0


def test_moving_averages_for_values(made: Callable[..., str]) -> None:
    prefix = made("ref", "momentum", True)
    found = opened(prefix, averages=True)
    weights, moving = "stem/weights", "stem/BatchNorm/moving_mean"
    average = f"{weights}/ExponentialMovingAverage"
    assert (found.keys[weights], found.keys[moving]) == (average, moving)
    values = trained.values(prefix)
    np.testing.assert_array_equal(found.graph[weights].attrs["value"].array, values[average])
    assert np.any(values[average] != values[weights])
    assert set(found.companions[average]) == {weights, f"{weights}/Momentum"}
    assert model_of(found.graph) != model_of(opened(prefix).graph)


def test_no_moving_averages(made: Callable[..., str]) -> None:
    with pytest.raises(LoadError, match="averages: .* has no moving averages"):
        opened(made("ref"), averages=True)


def test_moving_averages_by_another_name(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        x = tf.placeholder(tf.float32, [1, 2], "x")
        w = tf.get_variable("w", [2, 2], initializer=tf.ones_initializer(), use_resource=False)
        with tf.control_dependencies([tf.assign_add(w, tf.ones([2, 2]))]):
            tf.train.ExponentialMovingAverage(0.9, name="slow").apply([w])
        tf.matmul(x, w, name="y")

    found = open_checkpoint(write(tmp_path, build), outputs=["y"], averages=True)
    assert found.keys == {"w": "w/slow"}


def test_a_plan_knows_its_checkpoint(made: Callable[..., str], tmp_path: Path) -> None:
    prefix = made("ref", "momentum", False)
    first = gs.plan(opened(prefix).graph, criterion="l1", ratio=0.25)
    assert first.model == model_of(opened(prefix).graph)
    later = str(tmp_path / "later")
    trained.train_on(prefix, 1, to=later)
    with pytest.raises(gs.GraphslimError, match="made for"):
        gs.apply(opened(later).graph, first)
    slim = gs.apply(opened(later).graph, first, force=True)
    assert len(slim) == len(opened(later).graph)


def test_a_signature_names_inputs_and_outputs(prefix: str) -> None:
    from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

    made = MetaGraphDef.FromString(Path(prefix + ".meta").read_bytes())
    made.signature_def["answer"].inputs["image"].name = "image:0"
    made.signature_def["answer"].outputs["logits"].name = trained.OUTPUT + ":0"
    Path(prefix + ".meta").write_bytes(made.SerializeToString())
    graph = open_checkpoint(prefix).graph
    assert (graph.inputs, [str(port) for port in graph.outputs]) == (["image"], [trained.OUTPUT])
    with pytest.raises(LoadError, match=r"no signature 'other' \(.* has: answer\)"):
        open_checkpoint(prefix, signature="other")


def test_shapes_of_inputs(made: Callable[..., str]) -> None:
    graph = opened(made("ref"), input_shapes={"image": [4, 8, 8, 3]}).graph
    assert graph.input_shapes == {"image": (4, 8, 8, 3)}
    with pytest.raises(LoadError, match="the input image has the shape"):
        opened(made("ref"), input_shapes={"image": [4, 9, 8, 3]})


# --------------------------------------------------------------------------- kinds


def _line(tf: Any, **options: Any) -> None:
    x = tf.placeholder(tf.float32, [1, 4], "x")
    w = tf.get_variable("w", [4, 3], initializer=tf.glorot_uniform_initializer(1), **options)
    tf.matmul(x, w, name="y")


def test_a_checkpoint_of_the_old_format(tmp_path: Path) -> None:
    tf = runtime.plain_tensorflow()
    prefix = write(tmp_path, _line, write_version=tf.train.SaverDef.V1)
    assert prefix_of(prefix) == prefix and not os.path.exists(prefix + ".index")
    graph = gs.load(prefix)
    values = tf.train.NewCheckpointReader(prefix).get_tensor("w")
    np.testing.assert_array_equal(graph["w"].attrs["value"].array, values)
    assert prefix in files_of(prefix) and prefix + ".meta" in files_of(prefix)


def test_a_sharded_checkpoint(tmp_path: Path) -> None:
    prefix = write(tmp_path, lambda tf: _line(tf, use_resource=False), sharded=True)
    assert open_checkpoint(prefix).keys == {"w": "w"}


@pytest.mark.parametrize("resource", [False, True])
def test_a_variable_in_parts(tmp_path: Path, resource: bool) -> None:
    def build(tf: Any) -> None:
        _line(tf, partitioner=tf.fixed_size_partitioner(2), use_resource=resource)

    found = open_checkpoint(write(tmp_path, build))
    assert found.keys == {"w/part_0": "w", "w/part_1": "w"}
    assert found.parts == {"w/part_0": "4 3 0,2:0,3", "w/part_1": "4 3 2,2:0,3"}
    parts = [found.graph[name].attrs["value"].array for name in sorted(found.parts)]
    np.testing.assert_array_equal(np.concatenate(parts), found.values.read("w"))


def test_a_saver_that_gives_other_keys(tmp_path: Path) -> None:
    def build(tf: Any) -> Dict[str, Any]:
        _line(tf, use_resource=False)
        return {"weights/of/layer": tf.global_variables()[0]}

    found = open_checkpoint(write(tmp_path, build))
    assert found.keys == {"w": "weights/of/layer"}
    assert found.graph["w"].op == "Const"


def test_functions_of_the_input_pipeline_are_left_behind(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        rows = tf.data.Dataset.from_tensor_slices(np.ones((4, 3), np.float32)).map(lambda x: 2 * x)
        x = tf.data.make_one_shot_iterator(rows.batch(2)).get_next()
        w = tf.get_variable("w", [3, 2], use_resource=False)
        tf.identity(tf.matmul(x, w), name="y")

    prefix = write(tmp_path, build)
    whole = gs.open_checkpoint(prefix, outputs=["y"])
    assert gs.to_graph_def(whole.whole).library.function
    assert not gs.to_graph_def(whole.graph).library.function


def test_a_checkpoint_of_objects(tmp_path: Path) -> None:
    tf = runtime.plain_tensorflow()
    with tf.Graph().as_default(), tf.Session(config=plain_config(tf)) as session:
        w = tf.get_variable("w", [2], use_resource=True)
        session.run(w.initializer)
        prefix = tf.train.Checkpoint(w=w).save(str(tmp_path / "model"), session=session)
    with pytest.raises(LoadError, match=r"a checkpoint of objects.*\(save it with tf.compat.v1"):
        open_checkpoint(prefix)


# --------------------------------------------------------------------------- what may be bad


def test_the_outputs_of_a_training_have_to_be_named(made: Callable[..., str]) -> None:
    with pytest.raises(LoadError, match="the graph of a training, .*outputs"):
        open_checkpoint(made("ref"))
    with pytest.raises(LoadError, match="no node 'logits/Biasadd' .*did you mean logits/BiasAdd"):
        open_checkpoint(made("ref"), outputs=["logits/Biasadd"])


def _missing(*endings: str) -> Callable[[str], None]:
    def change(prefix: str) -> None:
        for ending in endings:
            os.unlink(prefix + ending)

    return change


def _cut(ending: str, to: int) -> Callable[[str], None]:
    return lambda prefix: os.truncate(prefix + ending, to)


def _other(ending: str, data: bytes) -> Callable[[str], None]:
    def change(prefix: str) -> None:
        Path(prefix + ending).write_bytes(data)

    return change


def _without_inputs(op: str) -> Callable[[str], None]:
    """Damages the MetaGraph: the nodes of one op read nothing."""

    def change(prefix: str) -> None:
        from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

        made = MetaGraphDef.FromString(Path(prefix + ".meta").read_bytes())
        for node in made.graph_def.node:
            if node.op == op:
                del node.input[:]
        Path(prefix + ".meta").write_bytes(made.SerializeToString())

    return change


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_missing(".meta"), r"model.meta: the checkpoint has no MetaGraph beside it .*meta"),
        (_missing(".index"), "found .data-00000-of-00001 and .meta, but not the .*s .index "),
        (_missing(".index", ".data-00000-of-00001"), "found .meta, but not .* .index and .data "),
        (_missing(".data-00000-of-00001"), r"model.data-00000-of-00001: a file .* is missing"),
        (_cut(".index", 100), "the checkpoint cannot be read: "),
        (_cut(".index", 0), "the checkpoint cannot be read: "),
        (_cut(".meta", 10000), r"model.meta: the MetaGraph is cut off"),
        (_cut(".meta", 0), r"model.meta: the file is empty"),
        (_other(".meta", b"hello, world"), "not a MetaGraph, or a damaged one"),
        (_without_inputs("Assign"), "model.meta: the inputs or attributes of a node do not fit"),
        (_without_inputs("ApplyGradientDescent"), "model.meta: the inputs or attributes of a node"),
    ],
)
def test_damaged_files(prefix: str, damage: Callable[[str], None], told: str) -> None:
    damage(prefix)
    with pytest.raises(LoadError, match=told) as caught:
        opened(prefix)
    assert "\n" not in str(caught.value)


def test_a_loss_without_inputs_is_damage_where_outputs_are_looked_for(prefix: str) -> None:
    _without_inputs("SparseSoftmaxCrossEntropyWithLogits")(prefix)
    with pytest.raises(LoadError, match="model.meta: the inputs or attributes of a node do not"):
        open_checkpoint(prefix)
    with pytest.raises(LoadError, match="model.meta: the inputs or attributes of a node do not"):
        opened_by_the_method(prefix, "output")


def test_a_shard_among_others_is_missing(prefix: str) -> None:
    os.rename(prefix + ".data-00000-of-00001", prefix + ".data-00001-of-00002")
    with pytest.raises(LoadError, match=r"model.data-00000-of-00002: a file .* is missing"):
        opened(prefix)


def test_data_that_is_cut_off(prefix: str) -> None:
    _cut(".data-00000-of-00001", 64)(prefix)
    graph = opened(prefix).graph
    with pytest.raises(LoadError, match="model: .* cannot be read: "):
        gs.plan(graph, criterion="l1", ratio=0.25)


def test_a_metagraph_of_another_model(prefix: str, tmp_path: Path) -> None:
    other = write(tmp_path, _line)
    with pytest.raises(
        LoadError,
        match=r"own.meta: 1 variable of 1 are not in .*such as w \(is it .* another model than",
    ):
        open_checkpoint(prefix, meta=other + ".meta", outputs=["y"])


def test_a_metagraph_of_another_width(prefix: str, tmp_path: Path) -> None:
    values = trained.values(prefix)
    values["stem/weights"] = values["stem/weights"][..., :5]
    runtime.write_checkpoint(prefix, values)
    with pytest.raises(
        LoadError, match=r"1 variable of 61 have another shape .*stem/weights, which has \[3, 3, 3,"
    ):
        opened(prefix)


def test_without_tensorflow(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphslim.runtime.library.available", lambda: False)
    with pytest.raises(RuntimeUnavailable, match="checkpoints are read and written with it"):
        opened(prefix)


# --------------------------------------------------------------------------- paths


def test_what_a_path_means(prefix: str) -> None:
    folder = os.path.dirname(prefix)
    for path in (prefix, prefix + ".meta", prefix + ".index", prefix + ".data-00000-of-00001"):
        assert prefix_of(path) == prefix
    assert prefix_of(folder) == prefix
    assert prefix_of(folder + "/other") is None
    endings = (".data-00000-of-00001", ".index", ".meta")
    assert files_of(folder) == [prefix + one for one in endings]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('model_checkpoint_path: "model"', "model"),
        ('model_checkpoint_path: "/elsewhere/model"\nall_model_checkpoint_paths: "x"', "model"),
        ('all_model_checkpoint_paths: "x"\nmodel_checkpoint_path: "m\\303\\266del"', "m\xf6del"),
        ('model_checkpoint_path: "m\xf6del"', "m\xf6del"),
    ],
)
def test_the_latest_of_a_folder(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / "checkpoint").write_text(text, encoding="utf-8")
    (tmp_path / f"{name}.index").write_bytes(b"")
    assert prefix_of(str(tmp_path)) == str(tmp_path / name)


@pytest.mark.parametrize("text", ["", "model_checkpoint_path: 3", 'model_checkpoint_path: "\\xff"'])
def test_a_folder_that_does_not_say_which(tmp_path: Path, text: str) -> None:
    (tmp_path / "checkpoint").write_text(text)
    with pytest.raises(LoadError, match="does not say which checkpoint is the latest"):
        prefix_of(str(tmp_path))


def test_a_folder_whose_latest_is_gone(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model-3"')
    with pytest.raises(LoadError, match="the latest checkpoint, model-3, is not there"):
        prefix_of(str(tmp_path))


# --------------------------------------------------------------------------- commands

OUTPUTS = f"--outputs {trained.OUTPUT}"


@pytest.mark.parametrize("path", ["ckpt/model", "ckpt/model.meta", "ckpt/model.index", "ckpt"])
def test_inspect(run: Run, prefix: str, path: str) -> None:
    found = run(f"inspect {path} {OUTPUTS} --json").json
    assert (found["inputs"], found["outputs"]) == (["image"], [trained.OUTPUT])
    assert [block["name"] for block in found["blocks"]] == [*trained.BLOCKS, "block_1/SE"]


def test_prune_plan_apply_and_verify(run: Run, prefix: str) -> None:
    choice = "--criterion l1 --ratio 0.3 --multiple-of 4"
    run(f"prune ckpt/model -o a.pb {OUTPUTS} {choice}")
    run(f"plan ckpt/model -o p.json {OUTPUTS} {choice}")
    run(f"apply ckpt/model p.json -o b.pb {OUTPUTS}")
    assert Path("a.pb").read_bytes() == Path("b.pb").read_bytes()
    run(f"verify ckpt/model b.pb --plan p.json {OUTPUTS}")
    run(f"compare ckpt/model b.pb {OUTPUTS}")
    assert json.loads(Path("p.json").read_text())["model"]["name"] == "model"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (f"inspect ckpt/model.meta {OUTPUTS} --tag serve", "--tag: .* is no SavedModel"),
        ("inspect net.pb --meta ckpt/model.meta", "--meta: net.pb is no checkpoint (leave it out)"),
        ("inspect net.pb --inference-meta x", "--inference-meta: net.pb is no checkpoint"),
        ("inspect net.pb --averages", "--averages: net.pb is no checkpoint"),
        ("inspect ckpt/model --meta gone.meta", "gone.meta: no such file"),
        ("inspect ckpt/model --meta net.pb", "net.pb: a GraphDef, not a MetaGraph"),
        ("inspect ckpt/other", "ckpt/other: no such file"),
    ],
)
def test_bad_input_is_told_in_a_line(run: Run, prefix: str, command: str, told: str) -> None:
    run(f"prune ckpt/model -o net.pb {OUTPUTS} --no-verify")
    err = run(command, status=2).err
    assert told.split(": ")[-1].replace(".*", "") and err.count("\n") == 1
    for part in told.split(".*"):
        assert part.strip() in err


@pytest.mark.parametrize("ending", [".meta", ".index", ".data-00000-of-00001"])
def test_no_file_of_a_checkpoint_is_written_over(run: Run, prefix: str, ending: str) -> None:
    before = Path(prefix + ending).read_bytes()
    err = run(f"prune ckpt/model -o ckpt/model{ending} {OUTPUTS} --no-verify", status=2).err
    assert "is the input itself" in err
    assert Path(prefix + ending).read_bytes() == before


def test_a_metagraph_that_is_given_is_not_written_over(run: Run, prefix: str) -> None:
    os.rename(prefix + ".meta", "given.meta")
    command = f"plan ckpt/model --meta given.meta {OUTPUTS} -o"
    assert "is the input itself" in run(f"{command} given.meta", status=2).err
    run(f"{command} p.json")


# --------------------------------------------------------------------------- a published network


def test_the_published_network_from_variables(shared: Path, tmp_path: Path) -> None:
    """Its MetaGraph with the constants of its frozen graph for values is that graph."""
    frozen = gs.load(str(shared / "mobilepose" / "inflated.pb"))
    prefix = str(tmp_path / "model")
    shutil.copy(str(shared / "mobilepose" / "model.meta"), prefix + ".meta")
    values = {
        node.name: node.attrs["value"].array
        for node in frozen
        if node.op == "Const" and node.attrs["value"].dtype.is_floating
    }
    runtime.write_checkpoint(prefix, values)
    # Its MetaGraph has a second end, which the frozen graph has not.
    found = open_checkpoint(prefix, outputs=["output/BiasAdd"])
    assert (found.graph.inputs, found.graph.outputs) == (frozen.inputs, frozen.outputs)
    plan, other = (gs.plan(one, scope="blocks", dead_below=0) for one in (found.graph, frozen))
    wanted = json.loads((shared / "mobilepose" / "removed.json").read_text(encoding="utf-8"))
    assert {group.block: list(group.removed) for group in plan.groups} == wanted
    assert (plan.params, plan.macs) == (other.params, other.macs)
    for name in found.keys:
        one, two = found.graph[name].attrs["value"], frozen[name].attrs["value"]
        assert one.array.tobytes() == two.array.tobytes(), name


@pytest.mark.parametrize("trains", [True, False])
def test_the_forward_outputs_are_proposed_where_all_that_is_unread_are_gradients(
    trains: bool, tmp_path: Path
) -> None:
    """A MetaGraph that was saved before, or after, the optimizer was added."""
    tf = runtime.tensorflow()
    with tf.Graph().as_default(), tf.Session(config=plain_config(tf)) as session:
        x = tf.placeholder(tf.float32, [None, 4], name="x")
        labels = tf.placeholder(tf.int32, [None], name="labels")
        hidden = tf.nn.relu(tf.matmul(x, tf.get_variable("v", [4, 5])))
        weights = tf.get_variable("w", [5, 3])
        logits = tf.matmul(hidden, weights, name="logits")
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        loss = tf.reduce_mean(losses, name="loss")
        tf.gradients(loss, tf.trainable_variables())
        if trains:
            tf.train.GradientDescentOptimizer(0.1).minimize(loss)
        session.run(tf.global_variables_initializer())
        prefix = tf.train.Saver().save(session, str(tmp_path / "model"))
    with pytest.raises(LoadError, match="the graph of a training, .*name it: outputs logits"):
        open_checkpoint(prefix)
