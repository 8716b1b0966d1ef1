"""GraphDef in and out: what nobody touched comes back byte for byte."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

from graphslim.errors import EmitError, LoadError
from graphslim.graphdef import fields, load, parse, save, serialize, to_graph_def
from graphslim.graphdef.protos import GraphDef, MetaGraphDef, saved_model_class, text_format
from graphslim.ir import CONTROL, Attrs, DType, Graph, Node, Opaque, Port, Shape, Tensor
from graphslim.ir.text import from_text, to_text


def message() -> Any:
    """A GraphDef with everything that a pass has no business to touch."""
    graph = GraphDef()
    text_format.Parse(
        """
        node { name: "x" op: "Placeholder" device: "/device:GPU:0"
               attr { key: "dtype" value { type: DT_FLOAT } }
               attr { key: "shape" value { shape { dim { size: -1 } dim { size: 2 } } } } }
        node { name: "k" op: "Const" attr { key: "dtype" value { type: DT_FLOAT } }
               attr { key: "value" value { tensor { dtype: DT_FLOAT
                 tensor_shape { dim { size: 2 } } float_val: 3 } } } }
        node { name: "y" op: "Add" input: "x" input: "k" input: "^x"
               attr { key: "T" value { type: DT_FLOAT } }
               attr { key: "_odd" value { list { s: "a" s: "b" } } }
               attr { key: "_call" value { func { name: "f"
                 attr { key: "n" value { i: 7 } } } } }
               attr { key: "_none" value { } }
               attr { key: "_output_shapes" value { list { shape { dim { size: 2 } } } } }
               experimental_debug_info { original_node_names: "before" } }
        library { function { signature { name: "f" } } }
        versions { producer: 987 min_consumer: 12 }
        """,
        graph,
    )
    return graph


def blob() -> bytes:
    """The same as bytes, with a field that no version of the message has at either level."""
    unknown = bytes([0xFA, 0x3F, 3]) + b"new"  # field 1023, length 3
    out = b""
    for node in message().node:
        inner = node.SerializeToString(deterministic=True) + unknown
        out += bytes([0x0A]) + varint(len(inner)) + inner
    rest = message()
    del rest.node[:]
    return out + rest.SerializeToString(deterministic=True) + unknown


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def spans(graph: Graph) -> List[bytes]:
    return [bytes(node.origin) for node in graph]


# ------------------------------------------------------------------- untouched


def test_a_file_comes_back_byte_for_byte(model_file: Path, tmp_path: Path) -> None:
    graph = load(str(model_file))
    for node in graph:
        list(node.attrs.items())  # reading everything changes nothing
    save(graph, tmp_path / "out.pb")
    assert (tmp_path / "out.pb").read_bytes() == model_file.read_bytes()
    assert serialize(graph.copy()) == model_file.read_bytes()


def test_what_is_not_understood_comes_back() -> None:
    graph = parse(blob(), "blob.pb")
    assert serialize(graph) == blob()


def test_only_the_changed_node_is_written_anew() -> None:
    before = parse(blob(), "blob.pb")
    graph = parse(blob(), "blob.pb")
    graph.set_attr("y", "_output_shapes", [Shape((1,))])
    after = parse(serialize(graph), "blob.pb")
    assert spans(after)[:2] == spans(before)[:2]
    assert after.origin.extras == before.origin.extras
    old, new = message().node[2], GraphDef.FromString(serialize(graph)).node[2]
    assert new.attr["_output_shapes"].list.shape[0].dim[0].size == 1
    assert b"\xfa\x3f\x03new" in spans(after)[2], "the node lost its unknown field"
    del old.attr["_output_shapes"], new.attr["_output_shapes"]
    new.DiscardUnknownFields()
    assert new == old


def test_a_dropped_attribute_is_gone_and_no_other() -> None:
    graph = load(message())
    graph.drop_attr("y", "_odd")
    node = to_graph_def(graph).node[2]
    assert sorted(node.attr) == ["T", "_call", "_none", "_output_shapes"]
    assert node.experimental_debug_info.original_node_names == ["before"]


def test_rewired_inputs_are_written_and_nothing_else() -> None:
    graph = load(message())
    graph.rewire("y", 1, Port("x"))
    node, old = to_graph_def(graph).node[2], message().node[2]
    assert node.input == ["x", "x", "^x"]
    del node.input[:], old.input[:]
    assert node == old


def test_attributes_of_every_kind_survive_being_set() -> None:
    graph = load(message())
    for key in list(graph["y"].attrs):
        graph.set_attr("y", key, graph["y"].attrs[key])
    assert to_graph_def(graph).node[2] == message().node[2]
    assert isinstance(graph["y"].attrs["_none"], Opaque)


@pytest.mark.parametrize(
    "value",
    [
        True,
        3,
        -1,
        0.5,
        b"bytes",
        DType.float16,
        Shape(None),
        Shape((1, None)),
        Shape(()),
        [],
        [1, 2],
        [0.5],
        [True],
        [b"a", b"b"],
        [DType.int32],
        [Shape((2,)), Shape(None)],
    ],
    ids=repr,
)
def test_attribute_values_round_trip(value: Any) -> None:
    graph = load(message())
    graph.set_attr("y", "new", value)
    again = load(to_graph_def(graph))["y"].attrs["new"]
    assert again == value and isinstance(again, type(value))


def test_a_value_that_no_attribute_has_is_refused() -> None:
    graph = load(message())
    graph.set_attr("y", "new", object())
    with pytest.raises(EmitError, match="cannot hold a object"):
        serialize(graph)


# ------------------------------------------------------------------- new nodes


def test_a_new_node_stands_before_its_first_reader() -> None:
    graph = load(message())
    graph.add(Node("k2", "Const", Attrs({"dtype": DType.float32, "value": Tensor.of(np.ones(2))})))
    graph.add(Node("z", "Add", Attrs({"T": DType.float32})), [Port("k"), Port("k2")])
    graph.rewire("y", 1, Port("z"))
    graph.add(Node("loose", "NoOp"))
    assert [node.name for node in to_graph_def(graph).node] == ["x", "k", "k2", "z", "y", "loose"]


def test_a_long_chain_of_new_nodes_is_ordered() -> None:
    lines = [f"n{i} = Relu(n{i + 1})" for i in range(3000)] + ["n3000 = Placeholder()"]
    written = [node.name for node in to_graph_def(from_text("\n".join(lines))).node]
    assert written == [f"n{i}" for i in range(3000, -1, -1)]


def test_a_new_node_reads_back_as_it_was_made() -> None:
    graph = from_text("x = Placeholder() dtype=float32 shape=<1>\ny = Relu(x, ^x) T=float32 n=2")
    assert to_text(load(to_graph_def(graph))) == to_text(graph)


# ------------------------------------------------------------------- files


@pytest.mark.parametrize("ending", [".pbtxt", ".pbtext", ".prototxt"])
def test_text_in_and_out(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    path.write_text(text_format.MessageToString(message()), encoding="utf-8")
    graph = load(path)
    assert to_graph_def(graph) == message()
    save(graph, tmp_path / f"b{ending}")
    assert text_format.Parse((tmp_path / f"b{ending}").read_text("utf-8"), GraphDef()) == message()
    save(graph, tmp_path / "c.pb")
    assert GraphDef.FromString((tmp_path / "c.pb").read_bytes()) == message()


def test_a_message_of_any_class_is_read() -> None:
    assert to_graph_def(load(message())) == message()


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    graph = load(message())
    target = tmp_path / "out.pb"
    target.write_bytes(b"old")
    graph.set_attr("y", "bad", object())
    with pytest.raises(EmitError):
        save(graph, target)
    assert target.read_bytes() == b"old"
    assert os.listdir(str(tmp_path)) == ["out.pb"]


def test_a_file_gets_the_usual_permissions(tmp_path: Path) -> None:
    save(load(message()), tmp_path / "out.pb")
    (tmp_path / "other").write_bytes(b"")
    assert (tmp_path / "out.pb").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("target", ["", ".", "gone/out.pb", "folder/", os.devnull])
def test_a_bad_target_is_refused(tmp_path: Path, monkeypatch: Any, target: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EmitError):
        save(load(message()), target)
    assert os.listdir(str(tmp_path)) == []


# ------------------------------------------------------------------- inputs and outputs


def signature(text: str, **given: Any) -> Any:
    graph = load(to_graph_def(from_text(text)), **given)
    return graph.inputs, [str(port) for port in graph.outputs]


@pytest.mark.parametrize(
    ("text", "outputs"),
    [
        ("y = Relu(x)", ["y"]),
        ("y = Relu(x)\nz = Tanh(x)", ["y", "z"]),
        ("y = Relu(x)\nz = Tanh(y)", ["z"]),
        ("y = Relu(x)\nk = Const() value=float32[1]{1}", ["y"]),
        ("y = Relu(x)\nk = Const() value=float32[1]{1}\nl = Sqrt(k)", ["y"]),
        ("y = Relu(x)\ns = ScalarSummary(t, y)\nt = Const() value=string[]{\"t\"}", ["y"]),
        ("y = Relu(x)\ns = HistogramSummary(t, y)\nm = MergeSummary(s)\nt = Const()"
         " value=string[]{\"t\"}", ["y"]),
        ("y = Relu(x)\ninit = NoOp(^y)", ["y"]),
        ("y = Relu(x)\na = NoOp(^y)\nb = NoOp(^a)", ["y"]),
        ("y = Relu(x)\nc = All(x)\na = Assert(c)\nz = Tanh(y, ^a)", ["z"]),
        ("y = Relu(x)\nc = All(x)\na = Assert(c)", ["y"]),
        ("y = Relu(x)\nc = All(x)\nz = Tanh(y, ^c)", ["z"]),
        ("y = Split(x) num_split=3", ["y", "y:1", "y:2"]),
        ("y = TopKV2(x)", ["y", "y:1"]),
        ("y = IdentityN(x, x) T=[float32,float32]", ["y", "y:1"]),
        ("y = Unpack(x) num=2", ["y", "y:1"]),
    ],
)  # fmt: skip
def test_outputs_are_inferred(text: str, outputs: List[str]) -> None:
    assert signature(f"x = Placeholder() dtype=float32\n{text}\n") == (["x"], outputs)


def test_without_inputs_every_end_is_an_output() -> None:
    assert signature("k = Const() value=float32[1]{1}\ny = Relu(k)") == ([], ["y"])


TWO = """
x = Placeholder() dtype=float32 shape=<?,4,4,3>
y = Placeholder() dtype=float32 shape=<*>
z = Add(x, y)
t = Split(z) num_split=2
"""


def test_given_names_win() -> None:
    assert signature(TWO, inputs=["z"], outputs=["t:1"]) == (["z"], ["t:1"])
    assert signature(TWO, inputs=["x:0", "x", "y"], outputs=["z:0", "z"]) == (["x", "y"], ["z"])


def test_given_shapes_fill_in_what_is_open() -> None:
    graph = load(to_graph_def(from_text(TWO)), input_shapes={"x:0": [7, 4, None, 3], "y": [2]})
    assert graph.input_shapes == {"x": (7, 4, 4, 3), "y": (2,)}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"inputs": ["X"]}, "inputs: no node 'X' in .*"),
        ({"outputs": ["tt"]}, "outputs: no node 'tt' in .*did you mean t?"),
        ({"outputs": ["^t"]}, "outputs: '\\^t' is a control edge"),
        ({"input_shapes": {"z": [1]}}, "input_shapes: 'z' is not an input .*x, y"),
        ({"input_shapes": {"x": [1, 4, 4, 4]}}, "the input x has the shape \\?,4,4,3"),
        ({"input_shapes": {"x": [1, 4]}}, "the input x has the shape \\?,4,4,3"),
        ({"inputs": ["t"]}, "no output can be inferred .*outputs"),
    ],
)
def test_names_and_shapes_that_do_not_fit_are_refused(given: Any, told: str) -> None:
    with pytest.raises(LoadError, match=told):
        load(to_graph_def(from_text(TWO)), **given)


def test_control_edges_are_read_as_such() -> None:
    assert load(message()).inputs_of("y")[-1] == Port("x", CONTROL)


def descriptors() -> Dict[str, Any]:
    """The descriptors of the messages that a SavedModel may hold, by name."""
    from tensorboard.compat.proto.variable_pb2 import VariableDef

    known: Dict[str, Any] = {}
    waiting = [saved_model_class().DESCRIPTOR, MetaGraphDef.DESCRIPTOR, VariableDef.DESCRIPTOR]
    while waiting:
        message = waiting.pop()
        if message.full_name not in known:
            known[message.full_name] = message
            waiting.extend([field.message_type for field in message.fields if field.message_type])
    return {
        "MapEntry" if message.GetOptions().map_entry else message.name: message
        for message in known.values()
    }


def test_field_numbers_are_those_of_the_messages() -> None:
    known = descriptors()
    tables = [table for table in vars(fields).values() if isinstance(table, type)]
    assert len(tables) > 10
    for table in tables:
        stated = {key: number for key, number in vars(table).items() if not key.startswith("__")}
        real = {field.name: field.number for field in known[table.__name__].fields}
        if "RegisteredGradient" not in known:  # older messages have neither it nor its field
            stated.pop("registered_gradients", None)
        assert stated == {name: real.get(name) for name in stated}, table.__name__
    if "RegisteredGradient" in known:
        numbers = [field.number for field in known["RegisteredGradient"].fields]
        named = (fields.GradientDef.function_name, fields.GradientDef.gradient_func)
        assert sorted(numbers) == sorted(named)


def colocated(*homes: bytes) -> bytes:
    """The bytes of a graph whose last node wants to be placed with others."""
    graph = GraphDef()
    graph.node.add(name="x", op="Placeholder").attr["dtype"].type = 1
    for name in ("a", "b"):
        graph.node.add(name=name, op="Relu", input=["x"]).attr["T"].type = 1
    node = graph.node.add(name="y", op="Relu6", input=["x"])
    node.attr["T"].type = 1
    node.attr["_class"].list.s.extend(homes)
    return bytes(graph.SerializeToString(deterministic=True))


@pytest.mark.parametrize("change", ["nothing", "attribute", "input"])
@pytest.mark.parametrize(
    ("homes", "kept"),
    [
        ([b"loc:@a"], []),
        ([b"loc:@a", b"loc:@b"], [b"loc:@b"]),
        ([b"loc:@b"], [b"loc:@b"]),
        ([b"other"], [b"other"]),
    ],
)
def test_nobody_is_placed_with_a_node_that_is_gone(
    homes: List[bytes], kept: List[bytes], change: str
) -> None:
    """A node that was read has bytes, which would be written as they are."""
    data = colocated(*homes)
    graph = parse(data, "g.pb")
    assert serialize(graph) == data
    graph.remove("a")
    if change == "attribute":
        graph.set_attr("y", "more", 1)
    elif change == "input":
        graph.rewire("y", 0, Port("b"))
    result = GraphDef.FromString(serialize(graph))
    assert [node.name for node in result.node] == ["x", "b", "y"]
    written = result.node[2]
    assert list(written.attr["_class"].list.s if "_class" in written.attr else []) == kept
    assert ("_class" in written.attr) == bool(kept)
    assert list(written.input) == (["b"] if change == "input" else ["x"])
    assert ("more" in written.attr) == (change == "attribute")


@pytest.mark.parametrize("kind", ["s", "i"])
def test_a_home_that_is_no_list_of_texts_names_no_node(kind: str) -> None:
    message = GraphDef.FromString(colocated())
    value = message.node[3].attr["_class"]
    if kind == "s":
        value.s = b"loc:@a"
    else:
        value.list.i.append(1)
    graph = parse(message.SerializeToString(deterministic=True), "g.pb")
    graph.remove("a")
    assert GraphDef.FromString(serialize(graph)).node[2] == message.node[3]


def test_a_node_that_loses_no_home_keeps_its_bytes() -> None:
    """Even where TensorFlow would write its fields in another order: here the op comes first."""
    whole = GraphDef.FromString(colocated(b"loc:@b"))
    last = whole.node.pop()
    op = type(last)(op=last.op).SerializeToString()
    last.op = ""
    origin = op + last.SerializeToString()
    data = whole.SerializeToString() + bytes([fields.GraphDef.node << 3 | 2, len(origin)]) + origin
    graph = parse(data, "g.pb")
    graph.remove("a")
    assert origin in serialize(graph)
