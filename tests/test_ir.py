"""The graph and its nodes: ports, attributes, edges, order, invariants, text."""

from __future__ import annotations

import copy
from typing import Any, Callable

import networkx as nx
import numpy as np
import pytest

from graphslim.errors import IRError
from graphslim.ir import CONTROL, Attrs, DType, Func, Graph, Node, Opaque, Port, Shape, Tensor, Use
from graphslim.ir.text import from_text, to_text
from graphslim.ir.verify import check

CHAIN = """
x = Placeholder() dtype=float32 shape=<1,4>
a = Relu(x) T=float32
b = Split(a) num_split=2
c = Add(b, b:1) T=float32
d = Identity(c, ^a) T=float32
"""


@pytest.fixture
def graph() -> Graph:
    return from_text(CHAIN)


def names(graph: Graph) -> list:
    return [node.name for node in graph.order()]


# ------------------------------------------------------------------- ports and attributes


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("x", Port("x", 0)),
        ("x:0", Port("x", 0)),
        ("x:12", Port("x", 12)),
        ("^x", Port("x", CONTROL)),
        ("scope/x:1", Port("scope/x", 1)),
        ("a:b", Port("a:b", 0)),
        ("a:b:2", Port("a:b", 2)),
        ("x:\u00b2", Port("x:\u00b2", 0)),
    ],
)
def test_port_is_read_as_tensorflow_spells_it(text: str, port: Port) -> None:
    assert Port.parse(text) == port


@pytest.mark.parametrize("text", ["x", "x:3", "^x", "s/x:1"])
def test_port_is_written_as_it_was_read(text: str) -> None:
    assert str(Port.parse(text)) == text


def test_attributes_stand_in_the_order_of_their_names() -> None:
    attrs = Attrs({"b": 2, "a": 1}).having("aa", 3)
    assert (list(attrs), "a" in attrs, "c" in attrs) == (["a", "aa", "b"], True, False)
    assert attrs.get("c", 7) == 7


def test_copies_of_attributes_change_alone() -> None:
    attrs = Attrs({"a": 10, "b": 20})
    twin = attrs.copy().having("a", 5).having("c", 6).without("b")
    assert (dict(twin), twin.changed) == ({"a": 5, "c": 6}, {"a", "b", "c"})
    assert (dict(attrs), attrs.changed) == ({"a": 10, "b": 20}, set())
    again = copy.deepcopy(twin)
    assert (again, type(again), again.changed) == (twin, Attrs, twin.changed)


def test_attributes_are_set_through_the_graph_alone(graph: Graph) -> None:
    with pytest.raises(IRError, match="attribute T is read-only .use graph.set_attr"):
        graph["a"].attrs["T"] = DType.float64
    with pytest.raises(IRError, match="attribute T is read-only .use graph.drop_attr"):
        del graph["a"].attrs["T"]
    before = graph.version
    graph.set_attr("a", "T", DType.float64)
    assert graph["a"].attrs["T"] is DType.float64
    assert graph["a"].attrs.changed == {"T"}
    assert graph.version > before


def test_dropping_an_absent_attribute_changes_nothing(graph: Graph) -> None:
    before = graph.version
    graph.drop_attr("a", "nothing")
    assert (graph.version, graph["a"].attrs.changed) == (before, set())
    graph.drop_attr("a", "T")
    assert "T" not in graph["a"].attrs and graph.version > before


def test_a_scalar_attribute_is_no_list() -> None:
    node = Node("n", "Op", Attrs({"strides": 3}))
    with pytest.raises(IRError, match="strides is not a list"):
        node.ints("strides")
    assert node.ints("absent") == []


# ------------------------------------------------------------------- reading


def test_inputs_and_uses(graph: Graph) -> None:
    assert graph.inputs_of("c") == (Port("b", 0), Port("b", 1))
    assert graph.inputs_of("d") == (Port("c"), Port("a", CONTROL))
    assert graph.data_inputs("d") == (Port("c"),)
    assert graph.uses_of(Port("b", 1)) == [Use("c", 1)]
    assert sorted(graph.uses_of("a")) == [Use("b", 0), Use("d", 1)]
    assert graph.uses_of(Port("a", CONTROL)) == [Use("d", 1)]


@pytest.mark.parametrize("ask", ["inputs_of", "uses_of", "data_inputs", "remove", "__getitem__"])
def test_an_unknown_name_is_told(graph: Graph, ask: str) -> None:
    with pytest.raises(IRError, match="nowhere: no node of that name"):
        getattr(graph, ask)("nowhere")


def test_order_puts_each_node_behind_what_it_reads() -> None:
    graph = from_text("c = Add(b, a)\nb = Relu(a)\na = Placeholder()\ne = NoOp(^c)")
    assert names(graph) == ["a", "b", "c", "e"]


def test_order_is_that_of_the_file_where_it_may_be(graph: Graph) -> None:
    assert names(graph) == ["x", "a", "b", "c", "d"]


def test_order_is_kept_until_an_edge_or_node_changes(graph: Graph) -> None:
    before = graph.order()
    graph.set_attr("a", "T", DType.float64)
    graph.outputs = [Port("c")]
    assert graph.order() is before
    twin = graph.copy()
    graph.rewire("d", 0, Port("x"))
    graph.replace(Node("b", "Relu"), [Port("a")])
    assert graph.order() is not before and graph["b"] in graph.order() and twin["b"].op == "Split"
    assert [node is twin[node.name] for node in twin.order()] == [True] * 5


def test_a_cycle_is_told_with_its_path() -> None:
    graph = from_text("x = Placeholder()\na = Add(x, c)\nb = Relu(a)\nc = Relu(b)\nd = Relu(c)")
    with pytest.raises(IRError) as caught:
        graph.order()
    assert "cycle" in str(caught.value)
    assert all(f"{name} -> " in str(caught.value) for name in "abc")
    assert "d ->" not in str(caught.value)


def test_a_loop_of_tensorflows_is_no_cycle() -> None:
    graph = from_text("x = Enter()\nm = Merge(x, n)\na = Relu(m)\nn = NextIteration(a)")
    assert names(graph)[-1] == "n"


def test_an_analysis_is_kept_until_the_graph_changes(graph: Graph) -> None:
    runs = []
    for _ in range(3):
        graph.memo("test", lambda graph: runs.append(graph.version))
    assert len(runs) == 1
    graph.set_attr("a", "T", DType.float64)
    graph.memo("test", lambda graph: runs.append(graph.version))
    assert len(runs) == 2


# ------------------------------------------------------------------- changing


def test_add_and_fresh_name(graph: Graph) -> None:
    assert graph.fresh_name("new") == "new"
    assert graph.fresh_name("a") == "a_1"
    graph.add(Node("a_1", "Relu"), [Port("a")])
    assert graph.fresh_name("a") == "a_2"
    assert graph.inputs_of("a_1") == (Port("a"),)
    assert graph["a_1"].touched


def test_add_refuses_a_taken_name(graph: Graph) -> None:
    with pytest.raises(IRError, match="there already.*fresh_name"):
        graph.add(Node("a", "Relu"))


@pytest.mark.parametrize(
    "change",
    [
        lambda graph: graph.add(Node("new", "Add"), [Port("a"), Port("nowhere")]),
        lambda graph: graph.rewire("c", 1, Port("nowhere")),
        lambda graph: graph.rewire("c", 2, Port("a")),
        lambda graph: graph.set_inputs("c", [Port("a"), Port("nowhere")]),
        lambda graph: graph.replace_uses(Port("b"), Port("nowhere")),
        lambda graph: graph.replace(Node("c", "Sub"), [Port("a"), Port("nowhere")]),
        lambda graph: graph.remove("a"),
        lambda graph: graph.remove("d"),
    ],
    ids=[
        *("add", "rewire", "rewire-index", "set-inputs", "replace-uses", "replace"),
        *("remove-read", "remove-output"),
    ],
)
def test_a_refused_change_leaves_the_graph_as_it_was(graph: Graph, change: object) -> None:
    before, version = to_text(graph), graph.version
    with pytest.raises(IRError):
        change(graph)  # type: ignore[operator]
    assert (to_text(graph), graph.version) == (before, version)
    check(graph)


def test_an_input_is_not_removed() -> None:
    graph = from_text("x = Placeholder()\ny = Placeholder()\nz = Relu(x)")
    with pytest.raises(IRError, match="y: is an input"):
        graph.remove("y")


def test_remove(graph: Graph) -> None:
    graph.add(Node("loose", "Relu"), [Port("a")])
    graph.remove("loose")
    assert "loose" not in graph and len(graph) == 5
    assert [use.node for use in graph.uses_of("a")] == ["b", "d"]


def test_rewire_changes_one_edge(graph: Graph) -> None:
    before = graph.version
    graph.rewire("c", 1, Port("a"))
    assert graph.inputs_of("c") == (Port("b"), Port("a"))
    assert graph.uses_of(Port("b", 1)) == []
    assert graph["c"].rewired and graph.version > before


def test_replace_uses_moves_the_readers_of_one_port(graph: Graph) -> None:
    assert graph.replace_uses(Port("b", 1), Port("x")) == 1
    assert graph.inputs_of("c") == (Port("b"), Port("x"))
    assert graph.replace_uses(Port("a"), Port("x")) == 1
    assert graph.inputs_of("b") == (Port("x"),)
    assert graph.inputs_of("d") == (Port("c"), Port("a", CONTROL)), "a control edge is another port"
    assert graph.replace_uses(Port("d"), Port("x")) == 0
    assert graph.outputs == [Port("d")]


def test_a_copy_changes_alone(graph: Graph) -> None:
    before, version = to_text(graph), graph.version
    twin = graph.copy()
    assert to_text(twin) == before
    twin.set_attr("a", "T", DType.float64)
    twin.rewire("c", 1, Port("a"))
    twin.add(Node("new", "Relu"), [Port("a")])
    twin.outputs = [*twin.outputs, Port("new")]
    twin.inputs = [*twin.inputs, "a"]
    twin.input_shapes = {"x": (1,)}
    assert (to_text(graph), graph.version, graph.input_shapes) == (before, version, {})
    assert not graph["a"].attrs.changed
    check(graph)
    check(twin)


def test_the_networkx_graph_holds_the_edges(graph: Graph) -> None:
    assert graph.nx.edges["b", "c", 1]["port"] == 1
    assert graph.nx.edges["a", "d", 1]["port"] == CONTROL
    assert graph.nx.nodes["a"]["node"] is graph["a"]


@pytest.mark.parametrize("field", ["name", "op", "device", "origin", "attrs"])
def test_what_is_not_written_cannot_be_assigned(graph: Graph, field: str) -> None:
    """The emitter would write the bytes that the node was read from."""
    node, before = graph["a"], to_text(graph)
    told = f"a: its {field} is read-only .*graph.{'set_attr' if field == 'attrs' else 'replace'}"
    with pytest.raises(IRError, match=told):
        setattr(node, field, getattr(node, field))
    assert to_text(graph) == before


def test_a_node_takes_the_place_of_another(graph: Graph) -> None:
    old = graph["a"]
    graph.replace(Node("a", "Relu6", old.attrs.copy(), old.device), graph.inputs_of(old))
    assert (graph["a"].op, graph["a"].attrs["T"]) == ("Relu6", DType.float32)
    check(graph)


@pytest.mark.parametrize(
    "edit",
    [
        lambda value: value.append(1),
        lambda value: value.__setitem__(0, 5),
        lambda value: value.sort(),
        lambda value: value.__iadd__([1]),
        lambda value: value.clear(),
    ],
)
def test_lists_of_attributes_are_read_only(graph: Graph, edit: Callable[[Any], Any]) -> None:
    given = [2, 1]
    graph.set_attr("a", "strides", given)
    with pytest.raises(IRError, match="this list is read-only .*graph.set_attr"):
        edit(graph["a"].attrs["strides"])
    given.append(3)
    assert graph["a"].attrs["strides"] == [2, 1] == copy.deepcopy(graph["a"].attrs["strides"])


def test_tensors_are_read_only() -> None:
    tensor = Tensor.of(np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="read-only"):
        tensor.array[0] = 1
    for field in ("shape", "dtype"):
        with pytest.raises(IRError, match=f"its {field} is read-only .make another tensor"):
            setattr(tensor, field, getattr(tensor, field))


def test_what_the_graph_is_run_for_is_set_as_a_whole(graph: Graph) -> None:
    """An analysis must know of it: what it found of other outputs does not hold any more."""
    for change in (
        lambda: graph.outputs.append(Port("c")),
        lambda: graph.inputs.clear(),
        lambda: graph.input_shapes.update(x=(1, 2)),
    ):
        with pytest.raises(IRError, match="is read-only .*by assignment"):
            change()
    for field, value in (("outputs", [Port("c")]), ("inputs", []), ("input_shapes", {"x": (1,)})):
        before = graph.version
        setattr(graph, field, value)
        assert getattr(graph, field) == value and graph.version > before, field
    for field, value in (("outputs", [Port("gone")]), ("inputs", ["gone"])):
        with pytest.raises(IRError, match="gone: no node of that name"):
            setattr(graph, field, value)


def test_networkx_reads_the_graph_and_does_not_change_it(graph: Graph) -> None:
    view = graph.nx
    for change in (
        lambda: view.remove_edge("b", "c", 0),
        lambda: view.add_node("new"),
        lambda: view.remove_node("d"),
        lambda: view.clear(),
    ):
        with pytest.raises(IRError, match="view of the graph is read-only .*rewire"):
            change()
    for data in (view.edges["a", "b", 0], view.nodes["a"]):
        with pytest.raises(IRError, match="this mapping is read-only"):
            data["port"] = 1
    assert view.number_of_edges() == 6 and "nowhere" not in view
    graph.add(Node("new", "Relu"), [Port("d")])
    assert nx.descendants(view, "c") == {"d", "new"}, "it follows the graph"
    mine = view.copy()
    mine.remove_node("new")
    assert "new" in graph and "new" not in mine


# ------------------------------------------------------------------- invariants


def test_a_whole_graph_passes_the_check(graph: Graph) -> None:
    check(graph)


def _lose_a_use(graph: Graph) -> None:
    graph._uses_of["b"] = graph._uses_of["b"][1:]


def _move_an_edge(graph: Graph) -> None:
    graph._inputs_of["c"] = (Port("b"), Port("x"))


def _data_behind_control(graph: Graph) -> None:
    graph.set_inputs("d", [Port("a", CONTROL), Port("c")])


def _rename(graph: Graph) -> None:
    graph._nodes["a"] = Node("c", "Relu")


def _empty_constant(graph: Graph) -> None:
    graph.add(Node("k", "Const", Attrs({"dtype": DType.float32})))


def _mistyped_constant(graph: Graph) -> None:
    value = Tensor.of(np.zeros(2, np.int32))
    graph.add(Node("k", "Const", Attrs({"dtype": DType.float32, "value": value})))


def _cycle(graph: Graph) -> None:
    graph.rewire("a", 0, Port("c"))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_lose_a_use, "c: its edges were changed behind the graph's back .use graph.rewire"),
        (_move_an_edge, "c: its edges were changed behind the graph's back .use graph.rewire"),
        (_data_behind_control, "d: has a data input after a control input"),
        (_rename, "filed under another name"),
        (_empty_constant, "k: is a constant without a value"),
        (_mistyped_constant, "k: is stated float32 and holds int32"),
        (_cycle, "cycle"),
    ],
)
def test_the_check_finds_what_is_broken(graph: Graph, damage: object, told: str) -> None:
    damage(graph)  # type: ignore[operator]
    with pytest.raises(IRError, match=told):
        check(graph)


# ------------------------------------------------------------------- text

EVERYTHING = """\
x = Placeholder() dtype=float32 shape=<1,?,3>
y = Placeholder() dtype=int32 shape=<*>
z = Placeholder() dtype=float32 shape=<>
k = Const() dtype=float32 value=float32[2,2]{1 -0.5 inf 3e+20}
i = Const() dtype=int64 value=int64[2]{-9223372036854775808 9007199254740993}
u = Const() dtype=uint64 value=uint64[1]{18446744073709551615}
b = Const() dtype=bool value=bool[3]{1 0 1}
h = Const() dtype=float16 value=float16[2]{0.5 2}
f = Const() dtype=bfloat16 value=bfloat16[]{1.5}
s = Const() dtype=string value=string[3]{"plain" "a \\"b\\" \\x7d \\x23 c" "\\x00\\x0a\\xff"}
c = Const() dtype=complex64 value=complex64[1]{(1+2j)}
e = Const() dtype=float32 value=float32[0]{}
l = Op(x, y:1, ^z) f=0.25 is=true list=[1,2] n=-4 name="a \\x23 b" none=[] one=1.0 types=[float32]
g = Call>Op(x) function=@body shapes=[<1>,<*>]
input y
output l:2
output g
"""


def test_text_round_trip() -> None:
    graph = from_text(EVERYTHING)
    assert to_text(graph) == EVERYTHING
    assert to_text(from_text(to_text(graph))) == EVERYTHING


def test_what_text_reads() -> None:
    graph = from_text(EVERYTHING)
    attrs = graph["l"].attrs
    assert attrs["one"] == 1.0 and isinstance(attrs["one"], float), "else it is written as an int"
    assert attrs["is"] is True and attrs["n"] == -4 and attrs["name"] == b"a # b"
    assert attrs["types"] == [DType.float32] and attrs["none"] == []
    assert graph["x"].attrs["shape"] == Shape((1, None, 3))
    assert graph["g"].attrs["function"] == Func("body")
    assert graph["s"].attrs["value"].array.tolist() == [b"plain", b'a "b" } # c', b"\x00\n\xff"]
    assert graph["i"].attrs["value"].array.tolist() == [-(2**63), 2**53 + 1]
    assert graph.inputs == ["y"] and graph.outputs == [Port("l", 2), Port("g")]


def test_text_splats_and_draws() -> None:
    graph = from_text(
        "a = Const() value=float32[2,3]{7}\nb = Const() value=float32[4]{random 5}\n"
        "c = Const() value=float32[4]{random 5}\nd = Const() value=float32[4]{random 6}"
    )
    a, b, c, d = (graph[name].attrs["value"].array for name in "abcd")
    assert a.tolist() == [[7, 7, 7], [7, 7, 7]]
    assert (b == c).all() and (b != d).any()


def test_a_large_tensor_is_printed_as_a_digest() -> None:
    one = from_text("a = Const() value=float32[17]{random 1}")
    same = from_text("a = Const() value=float32[17]{random 1}")
    other = from_text("a = Const() value=float32[17]{random 2}")
    assert "{#" in to_text(one)
    assert to_text(one) == to_text(same) != to_text(other)
    with pytest.raises(IRError, match="more than 16 elements by a digest, .*random 7"):
        from_text(to_text(one))


def test_text_leaves_stale_shapes_and_comments_out() -> None:
    graph = from_text("# a comment\nx = Relu(k) _output_shapes=[<1>] # behind\nk = Placeholder()")
    assert to_text(graph) == "x = Relu(k)\nk = Placeholder()\noutput x\n"
    assert "_output_shapes=[<1>]" in to_text(graph, skip=())


def test_what_text_cannot_show_is_named() -> None:
    graph = Graph()
    graph.add(Node("a", "Op", Attrs({"x": Opaque(object())})))
    assert 'x="Opaque"' in to_text(graph)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("what is this", "line 1: cannot be read"),
        ("x = Placeholder()\n\ny = Relu(x", "line 3: cannot be read"),
        ("x = Op() a", "line 1: expects key=value at 'a'"),
        ("x = Op() a=[1,2", "a list is not closed"),
        ("x = Op() a=float33", "'float33' is no element type"),
        ("x = Op() a=$", "cannot be read from"),
        ("x = Op() a=<1,two>", "is no shape"),
        ("x = Op() shape=[1,2]", "line 1: the attribute shape is no shape .write shape=<1,.,3>"),
        ("x = Op() shape=[1,?]", "cannot be read from .* on .*<1,.,3> .a shape."),
        ("x = Const() value=float32[3]{1 2}", "2 values for the shape"),
        ("x = Const() value=float32[1]{one}", "are no float32 values"),
        ("x = Const() value=float32[1]{random x}", "are no float32 values"),
        ("x = Const() value=float33[1]{1}", "is no tensor"),
        ("x = Relu(y)", "x: reads 'y', which is not in the graph"),
        ("x = Op()\nx = Op()", "x: two nodes have this name"),
        ("x = Op()\noutput y", "y: is an output and not in the graph"),
        ("x = Op()\ninput y", "y: is an input and not in the graph"),
    ],
)
def test_bad_text_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(IRError, match=told):
        from_text(text)
