"""SavedModel folders: which graph and signature is taken, and what freezing makes of variables."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import pytest
from sessions import plain_config

import graphslim as gs
from graphslim import runtime
from graphslim.cli import main
from graphslim.errors import LoadError, RuntimeUnavailable
from graphslim.graphdef import load, serialize
from graphslim.graphdef.freeze import freeze
from graphslim.graphdef.protos import GraphDef, saved_model_class, text_format
from graphslim.graphdef.saved_model import choose
from graphslim.ir import DType
from graphslim.ir.families import VARIABLES
from graphslim.testing import assert_mask_equivalent, from_text, random_plan, to_text

IMAGE = np.random.RandomState(5).uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32)

# ------------------------------------------------------------------- the choice, without TensorFlow


def model(
    graphs: Mapping[str, Sequence[str]],
    network: str = "x = Placeholder() dtype=float32 shape=<1,2>\ny = Relu(x) T=float32",
    inputs: Sequence[str] = ("x:0",),
    outputs: Sequence[str] = ("y:0",),
) -> Any:
    """A SavedModel message: by the tags of each graph, the names of its signatures."""
    message = saved_model_class()(saved_model_schema_version=1)
    for tags, names in graphs.items():
        meta = message.meta_graphs.add()
        meta.meta_info_def.tags.extend([tag for tag in tags.split(",") if tag])
        meta.graph_def.CopyFrom(GraphDef.FromString(serialize(from_text(network))))
        for name in names:
            for index, tensor in enumerate(inputs):
                meta.signature_def[name].inputs[f"in{index}"].name = tensor
            for index, tensor in enumerate(outputs):
                meta.signature_def[name].outputs[f"out{index}"].name = tensor
    return message


def put(folder: Path, message: Any) -> Path:
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(message.SerializeToString())
    return folder


DEFAULT = "serving_default"


def test_the_names_of_the_signature_are_kept_and_told(tmp_path: Path, capsys: Any) -> None:
    folder = put(tmp_path / "m", model({"serve": [DEFAULT]}))
    names = {"inputs": {"in0": "x"}, "outputs": {"out0": "y"}}
    graph = gs.load(str(folder))
    assert graph.signature == graph.copy().signature == names
    assert gs.load(str(folder), outputs=["x"]).signature["outputs"] == {}
    for options, told in (
        ([], "in the signature's outputs: out0 -> y"),
        (["--json"], '"out0": "y"'),
    ):
        with pytest.raises(SystemExit):
            main(["inspect", str(folder), *options])
        assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("graphs", "asked", "tags"),
    [
        ({"serve": [DEFAULT]}, [], ("serve",)),
        ({"train": [DEFAULT]}, [], ("train",)),
        ({"": [DEFAULT]}, [], ()),
        ({"train": [DEFAULT], "": [DEFAULT]}, [], ()),
        ({"train": [DEFAULT], "serve": [DEFAULT]}, [], ("serve",)),
        ({"serve,tpu": [DEFAULT], "serve": [DEFAULT]}, [], ("serve",)),
        ({"train": [DEFAULT], "serve,gpu": [DEFAULT]}, [], ("serve", "gpu")),
        ({"train": [DEFAULT], "serve": [DEFAULT]}, ["train"], ("train",)),
        ({"serve": [DEFAULT], "serve,tpu": [DEFAULT]}, ["tpu", "serve"], ("serve", "tpu")),
    ],
)
def test_which_graph_is_taken(
    graphs: Dict[str, List[str]], asked: List[str], tags: Tuple[str, ...]
) -> None:
    assert choose(model(graphs).SerializeToString(), "m", None, asked).tags == tags


@pytest.mark.parametrize(
    ("graphs", "asked", "told"),
    [
        ({"a": [DEFAULT], "b": [DEFAULT]}, [], "several graphs .choose one with tags: a; b"),
        ({"serve,a": [], "serve,b": []}, [], "tags: serve,a; serve,b"),
        ({"a": [], "": []}, ["c"], "tags: no graph with the tags c .m has: a; no tags"),
        ({"a,b": []}, ["a"], "no graph with the tags a .m has: a,b"),
        ({}, [], "m: the SavedModel holds no graph"),
    ],
)
def test_which_graph_is_not_taken(
    graphs: Dict[str, List[str]], asked: List[str], told: str
) -> None:
    with pytest.raises(LoadError, match=told):
        choose(model(graphs).SerializeToString() or b"\x08\x01", "m", None, asked)


@pytest.mark.parametrize(
    ("names", "asked", "taken"),
    [
        (["a", DEFAULT], None, DEFAULT),
        (["a", DEFAULT], "a", "a"),
        (["a", "__saved_model_init_op", "__saved_model_train_op"], None, "a"),
        (["__saved_model_init_op"], "__saved_model_init_op", "__saved_model_init_op"),
    ],
)
def test_which_signature_is_taken(names: List[str], asked: Optional[str], taken: str) -> None:
    assert choose(model({"serve": names}).SerializeToString(), "m", asked).signature == taken


@pytest.mark.parametrize(
    ("names", "asked", "told"),
    [
        (["b", "a"], None, "several signatures .choose one with signature: a, b"),
        (["a"], "b", "signature: no signature 'b' .m has: a"),
        (["__saved_model_init_op"], "b", "m has: none"),
        (["__saved_model_init_op"], None, "no signature, .* or name inputs and outputs"),
    ],
)
def test_which_signature_is_not_taken(names: List[str], asked: Optional[str], told: str) -> None:
    with pytest.raises(LoadError, match=told):
        choose(model({"serve": names}).SerializeToString(), "m", asked)


def test_a_signature_names_each_tensor_once_in_the_order_of_its_keys() -> None:
    message = model({"serve": ["a"]}, inputs=["x:0", "x:0"], outputs=["y:0", "x:0", "y:0", "z:1"])
    chosen = choose(message.SerializeToString(), "m")
    assert (chosen.inputs, chosen.outputs) == (("x",), ("y", "x", "z:1"))


def test_a_signature_of_sparse_tensors_is_refused() -> None:
    message = model({"serve": ["a"]})
    info = message.meta_graphs[0].signature_def["a"].inputs["in0"]
    info.coo_sparse.values_tensor_name = "x:0"
    with pytest.raises(LoadError, match="m: signature a: its input 'in0' is not a plain tensor"):
        choose(message.SerializeToString(), "m")


def test_an_input_that_is_a_later_result_of_a_node_is_refused() -> None:
    message = model({"serve": ["a"]}, inputs=["next:2"])
    with pytest.raises(LoadError, match="its input 'in0' is next:2, one of several results"):
        choose(message.SerializeToString(), "m")


# --------------------------------------------------------------------------- without variables


@pytest.fixture
def no_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphslim.runtime.library.available", lambda: False)


@pytest.mark.usefixtures("no_tensorflow")
@pytest.mark.parametrize("part", ["", "/", "/saved_model.pb"])
def test_without_variables_no_tensorflow_is_needed(tmp_path: Path, part: str) -> None:
    put(tmp_path / "net", model({"serve": [DEFAULT]}))
    graph = gs.load(f"{tmp_path}/net{part}")
    assert (graph.name, graph.inputs, graph.outputs) == ("net", ["x"], [gs.Port("y")])


@pytest.mark.usefixtures("no_tensorflow")
def test_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(put(tmp_path / "net", model({"serve": [DEFAULT]})))
    assert [gs.load(path).name for path in (".", "saved_model.pb", "./")] == ["net"] * 3


@pytest.mark.usefixtures("no_tensorflow")
@pytest.mark.parametrize("part", ["", "/saved_model.pbtxt"])
def test_a_text_saved_model(tmp_path: Path, part: str) -> None:
    (tmp_path / "net").mkdir()
    text = text_format.MessageToString(model({"serve": [DEFAULT]}))
    (tmp_path / "net" / "saved_model.pbtxt").write_text(text)
    assert gs.load(f"{tmp_path}/net{part}").outputs == [gs.Port("y")]


def test_what_no_output_needs_is_left_out(tmp_path: Path) -> None:
    network = """
    x = Placeholder() dtype=float32 shape=<1,2>
    idle = Placeholder() dtype=float32 shape=<1,2>
    y = Relu(x) T=float32
    z = Relu(y) T=float32
    """
    folder = put(tmp_path / "net", model({"": ["a"]}, network, inputs=["x:0", "idle:0"]))
    graph = gs.load(folder)
    assert [node.name for node in graph] == ["x", "idle", "y"]
    assert graph.inputs == ["x", "idle"]


def test_inputs_and_outputs_that_are_given_go_before_those_of_the_signature(tmp_path: Path) -> None:
    network = """
    x = Placeholder() dtype=float32 shape=<1,2>
    y = Relu(x) T=float32
    z = Relu(y) T=float32
    """
    folder = put(tmp_path / "net", model({"": ["b", "a"]}, network))
    graph = gs.load(folder, outputs=["z"], inputs=["y"])
    assert (graph.inputs, graph.outputs) == (["y"], [gs.Port("z")])


def test_outputs_that_do_not_depend_on_the_inputs(tmp_path: Path) -> None:
    network = """
    x = Placeholder() dtype=float32 shape=<1,2>
    c = Const() dtype=float32 value=float32[2]{1 2}
    y = Relu(c) T=float32
    """
    folder = put(tmp_path / "net", model({"serve": ["a"]}, network))
    with pytest.raises(LoadError, match="net: the outputs of the signature a do not depend"):
        gs.load(folder)


# ------------------------------------------------------------------------------------ bad input


def test_a_folder_that_is_no_saved_model(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="a folder, not a model file"):
        gs.load(tmp_path)
    (tmp_path / "keras_metadata.pb").write_bytes(b"")
    with pytest.raises(LoadError, match="without its saved_model.pb"):
        gs.load(tmp_path)
    put(tmp_path / "2", model({"serve": ["a"]}))
    with pytest.raises(LoadError, match="a folder of SavedModels.*give .*2"):
        gs.load(tmp_path)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"\x08\x01\x12\x7f\x0a", "the SavedModel is damaged"),
        (b"\x08\x01\x12\x05\x0a\xff\xff\xff\xff", "the SavedModel is damaged"),
        (b"\x08\x01\x12\x06\x0a\x04\x22\x02\xff\xfe", "the SavedModel is damaged"),
        (b"\x08\x01", "the SavedModel holds no graph"),
        (b"\x0fnonsense", "the SavedModel is damaged"),
    ],
)
def test_a_damaged_saved_model(tmp_path: Path, data: bytes, told: str) -> None:
    folder = put(tmp_path / "net", saved_model_class()())
    (folder / "saved_model.pb").write_bytes(data)
    with pytest.raises(LoadError, match=f"net.saved_model.pb: {told}"):
        gs.load(folder)


def test_a_saved_model_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    data = model({"serve": [DEFAULT]}).SerializeToString()
    folder = put(tmp_path / "net", saved_model_class()())
    for end in range(len(data)):
        (folder / "saved_model.pb").write_bytes(data[:end])
        with pytest.raises(LoadError):
            gs.load(folder)


def test_a_damaged_text_saved_model(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pbtxt").write_text("meta_graphs {")
    with pytest.raises(LoadError, match="no text SavedModel"):
        gs.load(tmp_path)
    (tmp_path / "saved_model.pbtxt").write_bytes(b"\xff\xfe")
    with pytest.raises(LoadError, match="the SavedModel is damaged"):
        gs.load(tmp_path)


def test_a_variable_passed_to_a_function_that_takes_none(tmp_path: Path) -> None:
    message = model({"serve": [DEFAULT]}, X + HANDLE + "y = Relu(x) T=float32", outputs=("c:0",))
    graph = message.meta_graphs[0].graph_def
    graph.library.function.add().signature.name = "nothing"
    call = graph.node.add(name="c", op="PartitionedCall", input=["v"])
    call.attr["f"].func.name = "nothing"
    call.attr["Tin"].list.type.append(DType.resource)
    call.attr["Tout"].list.type.append(DType.float32)
    with pytest.raises(LoadError, match="net: the inputs or attributes of a node do not fit its"):
        load(put(tmp_path / "net", message), variables=lambda *_: {"v": np.zeros(2, np.float32)})


def test_an_empty_graph(tmp_path: Path) -> None:
    message = model({"serve": [DEFAULT]})
    del message.meta_graphs[0].graph_def.node[:]
    with pytest.raises(LoadError, match="the SavedModel's graph is empty"):
        gs.load(put(tmp_path / "net", message))


def test_a_signature_of_a_frozen_file_is_refused(tmp_path: Path) -> None:
    network = from_text("x = Placeholder() dtype=float32 shape=<1,2>\ny = Relu(x) T=float32")
    gs.save(network, tmp_path / "a.pb")
    with pytest.raises(LoadError, match="signature: .*a.pb is no SavedModel"):
        gs.load(tmp_path / "a.pb", signature="a")
    with pytest.raises(LoadError, match="tags: .*a.pb is no SavedModel"):
        gs.load(tmp_path / "a.pb", tags=["serve"])


# ------------------------------------------------------------------------------- freezing

X = "x = Placeholder() dtype=float32 shape=<1,2>\n"
HANDLE = 'v = VarHandleOp() dtype=float32 shape=<2> container="" shared_name="v"\n'
REFERENCE = 'v = VariableV2() dtype=float32 shape=<2> container="" shared_name=""\n'


def frozen(text: str, dtype: str = "float32", **values: Any) -> str:
    """The text of a frozen graph; the variable `v` is [1, 2] unless given."""
    given = {"v": np.array([1, 2], dtype), **{key: np.asarray(one) for key, one in values.items()}}
    return to_text(freeze(from_text(text), lambda names: {name: given[name] for name in names}))


def lines(text: str) -> List[str]:
    return [line.strip() for line in text.strip().splitlines()]


CONSTANT = "v = Const() dtype=float32 value=float32[2]{1 2}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            HANDLE + "r = ReadVariableOp(v) dtype=float32\ny = Add(x, r) T=float32",
            [CONSTANT, "r = Identity(v) T=float32", "y = Add(x, r) T=float32"],
        ),
        (
            REFERENCE + "r = Identity(v) T=float32\ny = Add(x, r) T=float32",
            [CONSTANT, "r = Identity(v) T=float32", "y = Add(x, r) T=float32"],
        ),
        (REFERENCE + "y = Add(x, v) T=float32", [CONSTANT, "y = Add(x, v) T=float32"]),
        (
            HANDLE + "i = Identity(v) T=resource\nr = ReadVariableOp(i) dtype=float32\n"
            "y = Add(x, r) T=float32",
            [
                CONSTANT,
                "i = Identity(v) T=float32",
                "r = Identity(i) T=float32",
                "y = Add(x, r) T=float32",
            ],
        ),
        # A handle passes whatever passes a tensor.
        (
            HANDLE + "i = GuaranteeConst(v) T=resource\nr = ReadVariableOp(i) dtype=float32\n"
            "y = Add(x, r) T=float32",
            [
                CONSTANT,
                "i = GuaranteeConst(v) T=float32",
                "r = Identity(i) T=float32",
                "y = Add(x, r) T=float32",
            ],
        ),
        (
            HANDLE + "i = IdentityN(x, v) T=[float32,resource]\nr = ReadVariableOp(i:1)"
            " dtype=float32\ny = Add(i, r) T=float32",
            [
                CONSTANT,
                "i = IdentityN(x, v) T=[float32,float32]",
                "r = Identity(i:1) T=float32",
                "y = Add(i, r) T=float32",
            ],
        ),
        (
            HANDLE + "s = VariableShape(v) out_type=int32\ny = Reshape(x, s) T=float32",
            [CONSTANT, "s = Shape(v) T=float32 out_type=int32", "y = Reshape(x, s) T=float32"],
        ),
        (
            HANDLE + "s = VarIsInitializedOp(v)\ny = Switch(x, s) T=float32",
            ["s = Const() dtype=bool value=bool[]{1}", "y = Switch(x, s) T=float32"],
        ),
        (
            REFERENCE + "s = IsVariableInitialized(v) dtype=float32\ny = Switch(x, s) T=float32",
            ["s = Const() dtype=bool value=bool[]{1}", "y = Switch(x, s) T=float32"],
        ),
        (
            REFERENCE + "p = Const() dtype=bool value=bool[]{1}\ns = RefSwitch(v, p) T=float32\n"
            "r = Identity(s:1) T=float32\ny = Add(x, r) T=float32",
            [
                CONSTANT,
                "p = Const() dtype=bool value=bool[]{1}",
                "s = Switch(v, p) T=float32",
                "r = Identity(s:1) T=float32",
                "y = Add(x, r) T=float32",
            ],
        ),
        (
            HANDLE + "r = ReadVariableOp(v, ^d) dtype=float32\nd = DisableCopyOnRead(v)\n"
            "y = Add(x, r) T=float32",
            [
                CONSTANT,
                "r = Identity(v, ^d) T=float32",
                "d = NoOp()",
                "y = Add(x, r) T=float32",
            ],
        ),
        (
            HANDLE + "i = Const() dtype=int32 value=int32[2]{0 1}\n"
            "y = ResourceGather(v, i) Tindices=int32 batch_dims=0 dtype=float32\n"
            "z = Add(x, y) T=float32",
            [
                CONSTANT,
                "i = Const() dtype=int32 value=int32[2]{0 1}",
                "y/axis = Const() dtype=int32 value=int32[]{0}",
                "y = GatherV2(v, i, y/axis) Taxis=int32 Tindices=int32 Tparams=float32"
                " batch_dims=0",
                "z = Add(x, y) T=float32",
            ],
        ),
    ],
    ids=[
        "handle", "reference", "reference-as-value", "identity", "guarantee", "identity-n", "shape",
        "is-initialized", "is-initialized-reference", "ref-switch", "copy-on-read", "gather",
    ],
)  # fmt: skip
def test_what_becomes_of_a_variable(text: str, expected: List[str]) -> None:
    found = lines(frozen(X + text))
    kept = [line for line in found if not line.startswith(("x = ", "output "))]
    assert kept == expected


@pytest.mark.parametrize(
    ("dtype", "value", "shown"),
    [
        ("float64", np.array([1, 2], np.float64), "float64[2]{1 2}"),
        ("int64", np.array([1, 2], np.int64), "int64[2]{1 2}"),
        ("bool", np.array([True, False]), "bool[2]{1 0}"),
        ("string", np.array([b"a", b"bc"], object), 'string[2]{"a" "bc"}'),
        ("bfloat16", np.array([0x3F80, 0x4000], np.uint16).view("V2"), "bfloat16[2]{1 2}"),
        ("qint8", np.array([(1,), (2,)], [("qint8", "i1")]), "qint8[2]{1 2}"),
    ],
)
def test_the_element_types_of_variables(dtype: str, value: np.ndarray, shown: str) -> None:
    text = HANDLE.replace("float32", dtype) + f"y = ReadVariableOp(v) dtype={dtype}"
    assert lines(frozen(text, v=value))[:2] == [
        f"v = Const() dtype={dtype} value={shown}",
        f"y = Identity(v) T={dtype}",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HANDLE + "y = PyFunc(x, v) T=float32", "node y: the variable v is used by a PyFunc"),
        (
            HANDLE + HANDLE.replace("v", "w").replace("float32", "int32") + "m = Merge(v, w)"
            " T=resource N=2\nr = ReadVariableOp(m) dtype=float32\ny = Add(x, r) T=float32",
            "node m: the variable v is used by a Merge",
        ),
        (
            REFERENCE + "a = AssignAdd(v, x) T=float32\ny = Relu(a) T=float32",
            "node a: the outputs depend on this AssignAdd",
        ),
        (
            HANDLE + "a = AssignAddVariableOp(v, x) dtype=float32\n"
            "r = ReadVariableOp(v, ^a) dtype=float32\ny = Add(x, r) T=float32",
            "node r: the outputs read a variable that a has changed before",
        ),
        (
            HANDLE + "i = Identity(v) T=resource\na = AssignVariableOp(i, x) dtype=float32\n"
            "n = NoOp(^a)\nr = ReadVariableOp(v, ^n) dtype=float32\ny = Add(x, r) T=float32",
            "node r: the outputs read a variable that a has changed before",
        ),
        (HANDLE.replace("<2>", "<3>") + "y = ReadVariableOp(v) dtype=float32", "v: its value has"),
        (HANDLE.replace("v", "w") + "y = ReadVariableOp(w) dtype=float32", "variable w: has no"),
        (HANDLE.replace("float32", "invalid") + "y = ReadVariableOp(v) dtype=float32", "of a type"),
    ],
)
def test_a_variable_that_no_constant_can_be(text: str, told: str) -> None:
    with pytest.raises(LoadError, match=told):
        freeze(from_text(X + text), lambda names: {"v": np.array([1, 2], np.float32)})


def test_an_assignment_beside_the_outputs_is_left_out() -> None:
    text = (
        X + HANDLE + HANDLE.replace("v", "count") + "a = AssignAddVariableOp(count, x)"
        " dtype=float32\nr = ReadVariableOp(v) dtype=float32\nn = NoOp(^a, ^r)\n"
        "z = Add(x, r) T=float32\ny = Identity(z, ^n, ^a) T=float32"
    )
    assert lines(frozen(text)) == [
        CONSTANT,
        "x = Placeholder() dtype=float32 shape=<1,2>",
        "r = Identity(v) T=float32",
        "n = NoOp(^r)",
        "z = Add(x, r) T=float32",
        "y = Identity(z, ^n) T=float32",
        "output y",
    ]


def test_freezing_leaves_the_graph_as_it_was_and_asks_for_values_once() -> None:
    graph = from_text(X + HANDLE + "r = ReadVariableOp(v) dtype=float32\ny = Add(x, r) T=float32")
    before, asked = to_text(graph), []

    def values(names: Sequence[str]) -> Dict[str, np.ndarray]:
        asked.append(list(names))
        return {"v": np.array([1, 2], np.float32)}

    freeze(graph, values)
    assert asked == [["v"]] and to_text(graph) == before


def test_a_graph_without_variables_asks_for_no_values() -> None:
    def values(names: Sequence[str]) -> Dict[str, np.ndarray]:
        raise AssertionError(names)

    graph = from_text(X + "y = Relu(x) T=float32")
    assert serialize(freeze(graph, values)) == serialize(graph)


@pytest.mark.usefixtures("no_tensorflow")
def test_variables_without_tensorflow(tmp_path: Path, capsys: Any) -> None:
    network = X + HANDLE + "r = ReadVariableOp(v) dtype=float32\ny = Add(x, r) T=float32"
    folder = put(tmp_path / "net", model({"serve": ["a"]}, network))
    (folder / "variables").mkdir()
    with pytest.raises(RuntimeUnavailable, match="the variables of a SavedModel are read with it"):
        gs.load(folder)
    assert status(["inspect", str(folder)]) == 2
    assert "TensorFlow is not installed" in capsys.readouterr().err


def status(arguments: List[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(caught.value.code or 0)


# ------------------------------------------------------------------------- with TensorFlow


def run_signature(
    folder: Path, feeds: Iterable[np.ndarray], tags: Sequence[str] = ("serve",), name: str = DEFAULT
) -> Dict[str, np.ndarray]:
    """By the names of its tensors, what TensorFlow computes for a signature of a SavedModel."""
    tf = runtime.tensorflow()
    # Not optimised: what TensorFlow folds of constants it calculates in another order.
    with tf.Session(graph=tf.Graph(), config=plain_config(tf)) as session:
        loaded = tf.saved_model.loader.load(session, list(tags), str(folder))
        signature = loaded.signature_def[name]
        names = [signature.inputs[key].name for key in sorted(signature.inputs)]
        outputs = sorted({info.name for info in signature.outputs.values()})
        values = session.run(outputs, dict(zip(names, feeds)))
    return {str(gs.Port.parse(name)): value for name, value in zip(outputs, values)}


def assert_frozen(graph: gs.Graph, expected: Mapping[str, np.ndarray], *feeds: np.ndarray) -> None:
    """Asserts that a graph has no variables and computes, bit for bit, what is expected."""
    assert not [node.name for node in graph if node.op in VARIABLES or "Variable" in node.op]
    with runtime.Session(graph, optimize=False) as session:
        found = session.run(dict(zip(graph.inputs, feeds)))
    assert sorted([str(port) for port in graph.outputs]) == sorted(expected)
    for port, value in zip(graph.outputs, found):
        np.testing.assert_array_equal(value, expected[str(port)])


Built = Tuple[Dict[str, Any], Dict[str, Any]]


def save_tf1(folder: Path, build: Callable[[Any], Built], **more: Callable[[Any], Built]) -> Path:
    """Saves a TF1 SavedModel whose signature is what `build` gives, and others by their names."""
    tf = runtime.tensorflow()
    with tf.Graph().as_default(), tf.Session(config=plain_config(tf)) as session:
        tf.set_random_seed(3)
        signatures = {}
        for name, make in {DEFAULT: build, **more}.items():
            inputs, outputs = make(tf)
            signatures[name] = tf.saved_model.predict_signature_def(inputs, outputs)
        session.run(tf.global_variables_initializer())
        builder = tf.saved_model.builder.SavedModelBuilder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=signatures)
        builder.save()
    return folder


def network_of(
    resource: bool, dead: Sequence[int] = (), scope: str = "net"
) -> Callable[[Any], Built]:
    """Two convolutions, the filters `dead` of the first being zero, and what trained them."""
    width = 8

    def build(tf: Any) -> Built:
        rng = np.random.RandomState(1)
        image = tf.placeholder(tf.float32, [None, 8, 8, 3], name="image")
        with tf.variable_scope(scope, use_resource=resource):
            first = rng.normal(size=(3, 3, 3, width)).astype(np.float32)
            first[..., list(dead)] = 0
            kernel = tf.get_variable("first", initializer=first)
            bias = tf.get_variable("bias", initializer=np.zeros(width, np.float32))
            hidden = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(image, kernel, 1, "SAME"), bias))
            second = rng.normal(size=(1, 1, width, 4)).astype(np.float32)
            last = tf.get_variable("second", initializer=second)
            output = tf.nn.conv2d(hidden, last, 1, "SAME", name="output")
            step = tf.train.get_or_create_global_step()
        loss = tf.reduce_mean(output)
        tf.train.AdamOptimizer().minimize(loss, global_step=step)
        return {"image": image}, {"output": output}

    return build


@pytest.mark.tf
@pytest.mark.parametrize("resource", [False, True], ids=["references", "handles"])
def test_variables_of_tf1(tmp_path: Path, resource: bool) -> None:
    folder = save_tf1(tmp_path / "net", network_of(resource))
    graph = gs.load(folder)
    assert (graph.inputs, graph.outputs) == (["image"], [gs.Port("net/output")])
    assert_frozen(graph, run_signature(folder, [IMAGE]), IMAGE)
    assert len(graph) <= 13, "training, saving and restoring are left out"
    assert [group.prunable for group in gs.analyse(graph).groups].count(True) == 1
    assert_mask_equivalent(graph, random_plan(graph), tolerance=1e-5)


@pytest.mark.tf
def test_signatures_and_tags(tmp_path: Path) -> None:
    tf = runtime.tensorflow()
    folder = tmp_path / "net"
    with tf.Graph().as_default(), tf.Session(config=plain_config(tf)) as session:
        x = tf.placeholder(tf.float32, [None, 8, 8, 3], name="x")
        scale = tf.get_variable("scale", [3], initializer=tf.ones_initializer())
        logits = tf.multiply(x, scale, name="logits")
        total = tf.reduce_sum(logits, [1, 2, 3], name="total")
        session.run(tf.global_variables_initializer())
        define = tf.saved_model.predict_signature_def
        builder = tf.saved_model.builder.SavedModelBuilder(str(folder))
        builder.add_meta_graph_and_variables(
            session,
            ["train"],
            signature_def_map={
                "both": define({"x": x}, {"b": logits, "a": total}),
                "logits": define({"x": x}, {"logits": logits}),
            },
        )
        builder.add_meta_graph(["gpu"], {"only": define({"x": x}, {"total": total})})
        builder.save()
    with pytest.raises(LoadError, match="net.saved_model.pb: .*several graphs .*tags: train; gpu"):
        gs.load(folder)
    with pytest.raises(LoadError, match="several signatures .*signature: both, logits"):
        gs.load(folder, tags=["train"])
    assert gs.load(folder, tags=["gpu"]).outputs == [gs.Port("total")]
    for name in ("both", "logits"):
        graph = gs.load(folder, tags=["train"], signature=name)
        assert_frozen(graph, run_signature(folder, [IMAGE], ["train"], name), IMAGE)
    both = gs.load(folder, tags=["train"], signature="both")
    assert both.outputs == [gs.Port("total"), gs.Port("logits")]


@pytest.mark.tf
def test_from_the_command_line(tmp_path: Path, capsys: Any) -> None:
    folder = save_tf1(
        tmp_path / "net", network_of(True, dead=[1, 5, 6]), other=network_of(False, scope="b")
    )
    out, plan = tmp_path / "out.pb", tmp_path / "plan.json"
    assert status(["inspect", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["inputs"], told["outputs"]) != ([], [])
    assert status(["prune", str(folder), "-o", str(out), "--plan-out", str(plan)]) == 0
    slim = gs.load(out)
    assert slim["net/first"].attrs["value"].shape == (3, 3, 3, 5)
    expected = run_signature(folder, [IMAGE])
    with runtime.Session(slim) as session:
        found = session.run({"image": IMAGE}, ["net/output"])[0]
    np.testing.assert_allclose(found, expected["net/output"], atol=1e-5)
    capsys.readouterr()
    assert status(["verify", str(folder), str(out)]) == 0
    assert status(["verify", str(out), str(folder), "--signature", DEFAULT, "--tag", "serve"]) == 0
    assert status(["verify", str(folder), str(out), "--plan", str(plan)]) == 0
    capsys.readouterr()
    assert status(["inspect", str(folder), "--signature", "third"]) == 2
    assert "--signature: no signature 'third'" in capsys.readouterr().err
    assert status(["inspect", str(folder), "--tag", "serve,gpu"]) == 2
    assert "no graph with the tags serve,gpu" in capsys.readouterr().err


@pytest.mark.tf
def test_outputs_of_a_signature_one_before_the_other_are_verified_both(tmp_path: Path) -> None:
    def build(tf: Any) -> Built:
        inputs, outputs = network_of(True)(tf)
        return inputs, {**outputs, "share": tf.nn.softmax(outputs["output"], name="share")}

    folder = save_tf1(tmp_path / "net", build)
    out = tmp_path / "out.pb"
    assert status(["prune", str(folder), "-o", str(out)]) == 0
    assert status(["verify", str(folder), str(out)]) == 0


@pytest.mark.tf
@pytest.mark.parametrize(
    "target", ["saved_model.pb", "variables/variables.index", "variables/new.pb"]
)
def test_the_saved_model_is_never_overwritten(tmp_path: Path, capsys: Any, target: str) -> None:
    folder = save_tf1(tmp_path / "net", network_of(True))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code = status(["prune", str(folder), "-o", str(folder / target)])
    assert code == (0 if "new" in target else 2), capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.tf
def test_the_digest_is_that_of_graph_and_variables(tmp_path: Path) -> None:
    folder = save_tf1(tmp_path / "net", network_of(False, dead=[1, 5]))
    plan = gs.plan(gs.load(folder))
    moved = Path(shutil.copytree(str(folder), str(tmp_path / "moved" / "net")))
    assert gs.plan(gs.load(moved)).to_json() == plan.to_json()
    other = save_tf1(tmp_path / "other" / "net", network_of(False, dead=[1]))
    assert gs.plan(gs.load(other)).model["sha256"] != plan.model["sha256"]
    gs.save(gs.load(folder), tmp_path / "frozen.pb")
    again = gs.load(tmp_path / "frozen.pb")
    assert gs.plan(again).model["sha256"] == plan.model["sha256"]
    assert serialize(gs.apply(again, plan)) == serialize(gs.apply(gs.load(folder), plan))


@pytest.mark.tf
def test_missing_and_damaged_variables(tmp_path: Path) -> None:
    folder = save_tf1(tmp_path / "net", network_of(True))
    data = folder / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-40])
    with pytest.raises(LoadError, match="net: TensorFlow .* cannot read its variables"):
        gs.load(folder)
    shutil.rmtree(str(folder / "variables"))
    with pytest.raises(LoadError, match="net: its variables are missing"):
        gs.load(folder)


@pytest.mark.tf
def test_partitions_rows_and_loops(tmp_path: Path) -> None:
    """Variables where TF1 graphs have them: cut in parts, gathered from, inside loops and conds."""

    def build(tf: Any) -> Built:
        tf.disable_control_flow_v2()
        index = tf.placeholder(tf.int32, [None], name="index")
        values = np.arange(24, dtype=np.float32).reshape(6, 4)
        parts = tf.get_variable(
            "parts",
            [6, 4],
            initializer=tf.random_normal_initializer(),
            partitioner=tf.fixed_size_partitioner(2),
        )
        table = tf.get_variable("table", initializer=values, use_resource=True)
        step = tf.get_variable("step", initializer=values[0], use_resource=True)
        old = tf.get_variable("old", initializer=values[1], use_resource=False)
        rows = tf.gather(table, index) + tf.gather(table, [[0, 1]], batch_dims=0)[0, 0]
        rows += tf.nn.embedding_lookup(parts, index)
        looped = tf.while_loop(
            lambda i, x: i < 3, lambda i, x: (i + 1, x * 0.5 + step + old), (0, rows)
        )[1]
        chosen = tf.cond(tf.size(index) > 1, lambda: looped + step, lambda: looped - old)
        return {"index": index}, {"y": tf.identity(chosen, name="y")}

    folder = save_tf1(tmp_path / "net", build)
    graph = gs.load(folder)
    for index in ([3], [0, 5]):
        feed = np.array(index, np.int32)
        assert_frozen(graph, run_signature(folder, [feed]), feed)


def tensorflow_2() -> Any:
    tf = pytest.importorskip("tensorflow")
    if tf.__version__.startswith("1."):
        pytest.skip("SavedModels of functions are made by TensorFlow 2")
    return tf


def save_apart(make: str, folder: Path, *options: object) -> Path:
    """Has one of the functions below save a module, with TensorFlow 2's behaviour even in 1.15."""
    tf = pytest.importorskip("tensorflow")
    if not tf.__version__.startswith("1."):
        return globals()[make](tf, folder, *options)
    arguments = "".join([f", {one!r}" for one in options])
    code = f"""
        import sys, pathlib
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import tensorflow as tf, test_saved_model
        tf.compat.v1.enable_v2_behavior()
        test_saved_model.{make}(tf, pathlib.Path({str(folder)!r}){arguments})
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
    return folder


def save_module(tf: Any, folder: Path) -> Path:
    """Saves a tf.Module with two signatures, one of which counts its calls."""

    class Net(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            rng = np.random.RandomState(2)
            self.first = tf.Variable(rng.normal(size=(3, 3, 3, 8)).astype(np.float32), name="first")
            self.last = tf.Variable(rng.normal(size=(1, 1, 8, 4)).astype(np.float32), name="last")
            self.calls = tf.Variable(0, name="calls")

        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="image")])
        def hidden(self, image: Any) -> Any:
            return {"hidden": tf.nn.relu(tf.nn.conv2d(image, self.first, 1, "SAME"))}

        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="image")])
        def call(self, image: Any) -> Any:
            self.calls.assign_add(1)
            found = tf.nn.conv2d(self.hidden(image)["hidden"], self.last, 1, "SAME")
            return {"map": found, "mean": tf.reduce_mean(found, [1, 2])}

    net = Net()
    signatures = {DEFAULT: net.call, "hidden": net.hidden}
    tf.saved_model.save(net, str(folder), signatures=signatures)
    return folder


@pytest.mark.tf
def test_functions_of_tf2(tmp_path: Path) -> None:
    folder = save_apart("save_module", tmp_path / "net")
    graph = gs.load(folder)
    assert_frozen(graph, run_signature(folder, [IMAGE]), IMAGE)
    assert [group.prunable for group in gs.analyse(graph).groups].count(True) == 1
    assert_mask_equivalent(graph, random_plan(graph), tolerance=1e-5)
    assert serialize(gs.load(folder)) == serialize(graph), "the digest is not stable"
    other = gs.load(folder, signature="hidden")
    assert_frozen(other, run_signature(folder, [IMAGE], name="hidden"), IMAGE)


@pytest.mark.tf
def test_a_module_without_signatures(tmp_path: Path) -> None:
    tf = tensorflow_2()
    tf.saved_model.save(tf.Module(), str(tmp_path / "net"))
    with pytest.raises(LoadError, match="the SavedModel has no signature, which would say"):
        gs.load(tmp_path / "net")


@pytest.mark.tf
def test_a_model_that_keras_exports(tmp_path: Path) -> None:
    tf = tensorflow_2()
    layers = tf.keras.layers
    image = tf.keras.Input((8, 8, 3))
    hidden = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3)(image)))
    hidden = layers.ReLU(6.0)(layers.DepthwiseConv2D(3)(hidden))
    output = layers.Dense(4)(layers.GlobalAveragePooling2D()(hidden))
    net = tf.keras.Model(image, output)
    net.export(str(tmp_path / "net"))
    graph = gs.load(tmp_path / "net")
    assert_frozen(graph, run_signature(tmp_path / "net", [IMAGE]), IMAGE)
    assert [len(group) for group in gs.analyse(graph).groups if group.prunable] == [8]
    assert_mask_equivalent(graph, random_plan(graph), tolerance=1e-5)


def save_control_flow(tf: Any, folder: Path, train: bool = False) -> Path:
    """Saves a tf.Module that reads variables in loops and branches, and in a loop in a branch."""

    class Net(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            rng = np.random.RandomState(4)
            self.kernel = tf.Variable(rng.normal(size=(3, 3, 3, 3)).astype(np.float32) / 9)
            self.scales = tf.Variable(rng.normal(size=(4, 3)).astype(np.float32))
            self.sum = tf.Variable(np.zeros(3, np.float32))

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 8, 8, 3], tf.float32, name="image"),
                tf.TensorSpec([], tf.bool, name="deep"),
                tf.TensorSpec([], tf.int32, name="rounds"),
            ]
        )
        def call(self, image: Any, deep: Any, rounds: Any) -> Any:
            def looped() -> Any:
                return tf.while_loop(
                    lambda i, x: i < rounds, lambda i, x: (i + 1, self.step(x, i)), (0, image)
                )[1]

            found = tf.cond(deep, looped, lambda: image * self.scales[3])
            found = tf.switch_case(
                rounds, [lambda: found, lambda: found + self.scales[0], lambda: -found]
            )
            return {"found": found}

        def step(self, x: Any, i: Any) -> Any:
            if train:
                self.sum.assign_add(tf.reduce_sum(x, [0, 1, 2]))
            filtered = tf.nn.conv2d(x, self.kernel, 1, "SAME")
            return tf.nn.relu(filtered) * tf.gather(self.scales, i)

    net = Net()
    tf.saved_model.save(net, str(folder), signatures=net.call)
    return folder


@pytest.mark.tf
def test_variables_in_loops_and_branches_of_tf2(tmp_path: Path) -> None:
    folder = save_apart("save_control_flow", tmp_path / "net")
    graph = gs.load(folder)
    assert graph.inputs == [f"serving_default_{name}" for name in ("deep", "image", "rounds")]
    for deep, rounds in ((True, 0), (True, 1), (True, 2), (False, 1)):
        feeds = [np.array(deep), IMAGE, np.array(rounds, np.int32)]
        assert_frozen(graph, run_signature(folder, feeds), *feeds)


@pytest.mark.tf
def test_a_variable_that_a_loop_changes(tmp_path: Path) -> None:
    folder = save_apart("save_control_flow", tmp_path / "net", True)
    with pytest.raises(LoadError, match="function .*: a variable is used by a AssignAddVariableOp"):
        gs.load(folder)


@pytest.mark.tf
def test_a_recurrent_network(tmp_path: Path) -> None:
    tf = tensorflow_2()
    net = tf.keras.Sequential(
        [tf.keras.Input((4, 8, 8, 3)), tf.keras.layers.ConvLSTM2D(4, 3), tf.keras.layers.ReLU()]
    )
    net.export(str(tmp_path / "net"))
    graph = gs.load(tmp_path / "net")
    clip = np.stack([IMAGE, -IMAGE, IMAGE, IMAGE], axis=1)
    assert_frozen(graph, run_signature(tmp_path / "net", [clip]), clip)
