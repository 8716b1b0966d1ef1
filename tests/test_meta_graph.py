"""MetaGraphs: read, damaged, given another graph; which key a variable has in a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from graphslim.errors import LoadError
from graphslim.graphdef import meta_graph, to_graph_def
from graphslim.graphdef.meta_graph import Kept, keys_of, places_of, read_meta, with_graph
from graphslim.graphdef.protos import text_format
from graphslim.ir import Attrs, DType, Node, Port, Tensor
from graphslim.testing import from_text

NET = """
x = Placeholder() dtype=float32 shape=<1,2>
w = VariableV2() dtype=float32 shape=<2,3>
w/read = Identity(w) T=float32
y = MatMul(x, w/read) T=float32 transpose_a=false transpose_b=false
"""


def texts(name: str, *values: str) -> Node:
    array = np.empty(len(values), object)
    array[:] = [value.encode() for value in values]
    attrs = Attrs({"dtype": DType.string, "value": Tensor.of(array, DType.string)})
    return Node(name, "Const", attrs)


def saved(variable: str = "VariableV2", keys: Any = ("w",), parts: Any = ("",)) -> Any:
    """A graph of one variable per key, `v0` and so on, which a saver restores."""
    handle = variable == "VarHandleOp"
    nodes = [
        (texts("save/file", "model"), []),
        (texts("save/names", *keys), []),
        (texts("save/parts", *parts), []),
        (
            Node("save/RestoreV2", "RestoreV2", Attrs({"dtypes": [DType.float32] * len(keys)})),
            [Port("save/file"), Port("save/names"), Port("save/parts")],
        ),
    ]
    for index in range(len(keys)):
        nodes.append((Node(f"v{index}", variable, Attrs({"dtype": DType.float32})), []))
        nodes.append((Node(f"save/I{index}", "Identity"), [Port("save/RestoreV2", index)]))
        assign = Node(f"save/A{index}", "AssignVariableOp" if handle else "Assign")
        nodes.append((assign, [Port(f"v{index}"), Port(f"save/I{index}")]))
    nodes.append(
        (Node("save/all", "NoOp"), [Port(f"save/A{index}", -1) for index in range(len(keys))])
    )
    nodes.append((Node("save/restore_all", "NoOp"), [Port("save/all", -1)]))
    graph = from_text(NET)
    graph.load(nodes)
    return graph


def message(graph: Any = None, restore: str = "save/restore_all") -> Any:
    found = MetaGraphDef()
    found.graph_def.ParseFromString(
        to_graph_def(from_text(NET) if graph is None else graph).SerializeToString()
    )
    if restore:
        found.saver_def.restore_op_name = restore
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.meta"


# --------------------------------------------------------------------------- reading


def test_what_stands_in_it(path: Path) -> None:
    made = message()
    made.signature_def["serve"].inputs["image"].name = "x:0"
    made.signature_def["serve"].outputs["b"].name = "y:0"
    made.signature_def["serve"].outputs["a"].name = "y:1"
    # A VariableDef, whose first field is the variable's name.
    made.collection_def["trainable_variables"].bytes_list.value.append(b"\x0a\x03w:0")
    path.write_bytes(made.SerializeToString())
    found = read_meta(str(path))
    assert found.graph == made.graph_def.SerializeToString()
    assert found.signatures == {"serve": (("x",), ("y:1", "y"))}
    assert found.trainable == frozenset(["w"])
    assert found.restore_op == "save/restore_all"


def test_what_does_not_stand_in_it(path: Path) -> None:
    path.write_bytes(message(restore="").SerializeToString())
    found = read_meta(str(path))
    assert (found.signatures, found.trainable, found.restore_op) == ({}, None, "")


def test_a_text_metagraph_is_the_same(path: Path) -> None:
    made = message()
    path.write_text("# of a test\n" + text_format.MessageToString(made))
    found = read_meta(str(path))
    assert MetaGraphDef.FromString(found.data) == made
    assert found.graph == made.graph_def.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\x0f\xff\xff", "not a MetaGraph"),
        (b"graph_def { node { name: 1 } }", "no text MetaGraph"),
        (b"\x0a\x02\x08\x01", "one without a graph"),
    ],
)
def test_damaged_files(path: Path, data: bytes, told: str) -> None:
    path.write_bytes(data)
    with pytest.raises(LoadError, match=told):
        read_meta(str(path))


def test_a_file_that_is_cut_off(path: Path) -> None:
    data = message().SerializeToString()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(LoadError, match=r"model.meta: the MetaGraph is cut off"):
        read_meta(str(path))


def test_a_file_that_is_not_there(path: Path) -> None:
    with pytest.raises(LoadError, match="no such file"):
        read_meta(str(path))
    with pytest.raises(LoadError, match="a folder, no regular file"):
        read_meta(str(path.parent))


# --------------------------------------------------------------------------- another graph


def test_another_graph_and_nothing_else(path: Path) -> None:
    made = message()
    made.collection_def["losses"].node_list.value.append("y:0")
    made.meta_info_def.tensorflow_version = "1.15.0"
    # Field 99, of which nothing is known here.
    data = made.SerializeToString() + b"\x9a\x06\x03abc"
    path.write_bytes(data)
    found = read_meta(str(path))
    assert with_graph(found, found.graph) == data
    other = to_graph_def(from_text("x = Placeholder() dtype=float32 shape=<4>"))
    changed = with_graph(found, other.SerializeToString())
    assert changed.endswith(b"\x9a\x06\x03abc")
    made.graph_def.CopyFrom(type(made.graph_def).FromString(other.SerializeToString()))
    read = MetaGraphDef.FromString(changed)
    assert read.graph_def == made.graph_def
    assert (read.collection_def, read.meta_info_def) == (made.collection_def, made.meta_info_def)


# --------------------------------------------------------------------------- keys


def read(path: Path, graph: Any, restore: str = "save/restore_all") -> meta_graph.MetaGraph:
    path.write_bytes(message(graph, restore).SerializeToString())
    return read_meta(str(path))


@pytest.mark.parametrize("variable", ["VariableV2", "VarHandleOp"])
def test_keys_are_those_that_the_saver_restores(path: Path, variable: str) -> None:
    graph = saved(variable, ("a/b", "c"), ("", ""))
    assert keys_of(graph, read(path, graph)) == {"w": "w", "v0": "a/b", "v1": "c"}


@pytest.mark.parametrize("restore", ["", "gone"])
def test_without_a_saver_keys_are_names(path: Path, restore: str) -> None:
    graph = saved(keys=("a",))
    assert keys_of(graph, read(path, graph, restore)) == {"w": "w", "v0": "v0"}


def test_parts_of_a_variable(path: Path) -> None:
    graph = saved(keys=("p", "p"), parts=("4 3 0,2:-", "4 3 2,2:-"))
    assert places_of(graph, read(path, graph)) == {
        "w": Kept("w", ""),
        "v0": Kept("p", "4 3 0,2:-"),
        "v1": Kept("p", "4 3 2,2:-"),
    }


def test_an_assignment_of_something_else_names_no_key(path: Path) -> None:
    graph = from_text(NET)
    graph.load(
        [
            (Node("save/A", "Assign"), [Port("w"), Port("y")]),
            (Node("save/restore_all", "NoOp"), [Port("save/A", -1)]),
        ]
    )
    assert keys_of(graph, read(path, graph)) == {"w": "w"}
