"""Functions of a GraphDef's library become part of the graph: calls and constant choices."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np
import pytest
from function_lab import (
    BOOL,
    CONV,
    F32,
    I32,
    Lab,
    calls,
    check,
    const,
    names,
    open_attr,
    put,
    relu_conv,
    weights,
)
from tiny import groups, pins

import graphslim as gs
from graphslim.graphdef import load
from graphslim.ir import DType, Func, Shape
from graphslim.runtime import Session
from graphslim.testing import assert_identical

# ---------------------------------------------------------------------- calls that are inlined


@pytest.mark.tf
def test_a_call_becomes_the_nodes_of_the_body() -> None:
    lab = Lab()
    relu_conv(lab)
    flat = check(lab.end(lab.call("c", "f", "a")))
    assert names(flat) == ["x", "a/w", "a", "c/w", "c/conv", "c/relu", "z/w", "z"]
    assert {one.id for one in groups(flat).values() if one.prunable} == {"a", "c/conv"}
    assert not gs.to_graph_def(flat).library.function


@pytest.mark.tf
def test_constants_of_a_body_are_one_parameter_for_all_calls() -> None:
    lab = Lab()
    relu_conv(lab)
    first = lab.call("first", "f", "a")
    second = lab.call("second", "f", first)
    flat = check(lab.end(second))
    assert [name for name in names(flat) if name.endswith("/w")] == ["a/w", "first/w", "z/w"]
    assert flat.data_inputs("second/conv")[1] == gs.Port("first/w")
    assert len([one for one in groups(flat).values() if one.prunable]) == 1


@pytest.mark.tf
def test_weights_may_be_arguments() -> None:
    lab = Lab()
    body = lab.function("f", ["t", "kernel"], {"r": "conv:output:0"})
    put(body, "conv", "Conv2D", "t", "kernel", **CONV)
    weights(lab.node, "shared", 1, 1, 8, 6)
    lab.call("left", "f", "a", "shared")
    put(lab.node, "n", "Neg", "a", T=F32)
    lab.call("right", "f", "n", "shared")
    flat = check(lab.end(put(lab.node, "s", "Sub", "left", "right", T=F32), 6))
    assert names(flat).count("shared") == 1


@pytest.mark.tf
def test_nested_calls_are_inlined() -> None:
    lab = Lab()
    relu_conv(lab)
    outer = lab.function("outer", ["t"], {"r": "again:output:0"})
    kinds: Dict[str, Any] = {"Tin": [F32], "Tout": [F32], "f": Func("f")}
    put(outer, "once", "StatefulPartitionedCall", "t", **kinds)
    put(outer, "again", "PartitionedCall", "once:output:0", **kinds)
    flat = check(lab.end(lab.call("c", "outer", "a")))
    assert not calls(flat)
    assert {"c/once/relu", "c/again/relu", "c/once/w"} <= set(names(flat))
    assert "c/again/w" not in names(flat)
    assert not gs.to_graph_def(flat).library.function


@pytest.mark.tf
def test_an_op_named_as_a_function_is_a_call() -> None:
    lab = Lab()
    body = lab.function("Both", ["t"], {"low": "less:z:0", "high": "t"})
    put(body, "less", "Neg", "t", T=open_attr("kind"))
    put(body, "less2", "Neg", "less:y:0", T=open_attr("kind"))
    body[0].name = "plus"
    body[1].name, body[1].op, body[1].input[0] = "less", "Mul", "plus:y:0"
    body[1].input.append("plus:y:0")
    outer = lab.function("Outer", ["t"], {"r": "sum:z:0"})
    put(outer, "both", "Both", "t", kind=F32)
    put(outer, "sum", "Sub", "both:high:0", "both:low:0", T=F32)
    for function in lab.proto.library.function[:1]:
        function.signature.attr.add(name="kind", type="type")
    flat = check(lab.end(put(lab.node, "c", "Outer", "a")))
    assert flat["c/both/less"].attrs["T"] is F32
    assert flat.data_inputs("c/sum") == (gs.Port("a"), gs.Port("c/both/less"))


def test_arguments_that_are_lists() -> None:
    """TensorFlow's C++ code knows them; its Python code refuses to import them."""
    lab = Lab()
    function = lab.proto.library.function.add()
    function.signature.name = "ListLess"
    function.signature.input_arg.add(name="ts", type=int(F32), number_attr="n")
    function.signature.input_arg.add(name="us", type_list_attr="kinds")
    function.signature.output_arg.add(name="r", type=int(F32))
    function.signature.attr.add(name="n", type="int")
    function.signature.attr.add(name="kinds", type="list(type)")
    put(function.node_def, "all", "AddN", "ts", T=F32, N=open_attr("n"))
    put(function.node_def, "less", "Sub", "all:sum:0", "us:1", T=F32)
    function.ret["r"] = "less:z:0"
    put(lab.node, "b", "Neg", "a", T=F32)
    put(lab.node, "c", "ListLess", "a", "b", "a", "a", "b", n=3, kinds=[F32, F32])
    flat = lab.end("c")[1]
    assert [str(port) for port in flat.data_inputs("c/all")] == ["a", "b", "a"]
    assert [str(port) for port in flat.data_inputs("c/less")] == ["c/all", "b"]


@pytest.mark.tf
def test_results_of_ops_with_several_outputs() -> None:
    lab = Lab()
    body = lab.function("f", ["t"], {"r": "sum:z:0", "k": "top:values:0"})
    vector = const(body, "v", np.arange(1.0, 9.0))
    inputs = ["t", *[f"{vector}:output:0"] * 4]
    put(body, "norm", "FusedBatchNorm", *inputs, T=F32, is_training=True, epsilon=0.01)
    body[-1].input[3:] = ["none:output:0", "none:output:0"]
    const(body, "none", np.zeros(0))
    const(body, "axis", 3, I32)
    put(body, "split", "Split", "axis:output:0", "norm:y:0", T=F32, num_split=4)
    put(body, "sum", "Add", "split:output:2", "norm:batch_variance:0", T=F32)
    body[-1].input[1] = "split:output:3"
    const(body, "two", 2, I32)
    put(body, "top", "TopKV2", "norm:batch_variance:0", "two:output:0", T=F32, sorted=True)
    lab.call("c", "f", "a", results=2)
    put(lab.node, "k", "Neg", "c:1", T=F32)
    pair = lab.end("c", 2)
    assert pair[1].data_inputs("c/sum") == (gs.Port("c/split", 2), gs.Port("c/split", 3))
    assert pair[1].data_inputs("c/top")[0] == gs.Port("c/norm", 2)
    assert_identical(*pair)


@pytest.mark.tf
@pytest.mark.parametrize("results", [1, 2])
def test_outputs_that_are_calls_keep_their_names(results: int) -> None:
    lab = Lab()
    returned = {"r": "neg:y:0", "s": "t"}
    body = lab.function("f", ["t"], dict(list(returned.items())[:results]))
    put(body, "neg", "Neg", "t", T=F32)
    lab.call("c", "f", "a", results=results)
    asked = ["c", "c:1"][:results]
    whole, flat = lab.both(outputs=asked)
    assert flat["c"].op == ("Identity" if results == 1 else "IdentityN")
    assert [str(port) for port in flat.outputs] == asked
    assert_identical(whole, flat)
    assert [str(port) for port in load(lab.proto).outputs] == asked


def test_an_output_that_is_read_as_well_keeps_its_name() -> None:
    lab = Lab()
    relu_conv(lab)
    lab.call("c", "f", "a")
    put(lab.node, "y", "Neg", "c", T=F32)
    graph = load(lab.proto, outputs=["c", "y", "a"])
    assert graph["c"].op == "Identity" and graph.data_inputs("c") == (gs.Port("c/relu"),)


def test_a_call_that_is_fed_stays() -> None:
    lab = Lab()
    relu_conv(lab)
    put(lab.node, "y", "Neg", lab.call("c", "f", "a"), T=F32)
    assert load(lab.proto, inputs=["c"])["c"].op == "PartitionedCall"


def test_what_a_call_leaves_unread_is_no_output() -> None:
    lab = Lab()
    body = lab.function("f", ["t", "idle"], {"r": "neg:y:0", "s": "abs:y:0"})
    put(body, "neg", "Neg", "t", T=F32)
    put(body, "abs", "Abs", "t", T=F32)
    put(body, "unused", "Exp", "t", T=F32)
    put(lab.node, "b", "Exp", "a", T=F32)
    put(lab.node, "y", "Neg", lab.call("c", "f", "a", "b", results=2), T=F32)
    graph = load(lab.proto)
    assert graph.outputs == [gs.Port("y")]
    assert names(graph) == ["x", "a/w", "a", "c/neg", "y"]


def test_control_edges_and_devices() -> None:
    lab = Lab()
    body = lab.function("f", ["t"], {"r": "neg:y:0"}, ends=["check", "nothing"])
    put(body, "nothing", "NoOp")
    put(body, "check", "Neg", "t", "^nothing", T=F32, device="/cpu:0")
    put(body, "neg", "Neg", "t", "^check", T=F32, _class=[b"loc:@check", b"loc:@elsewhere"])
    put(lab.node, "before", "NoOp")
    lab.call("c", "f", "a", "^before")
    lab.node[-1].device = "/gpu:0"
    put(lab.node, "y", "Relu", "c", "^c", T=F32)
    graph = load(lab.proto)
    control = gs.CONTROL
    assert graph.inputs_of("c/nothing") == (gs.Port("before", control),)
    assert graph.inputs_of("c/check") == (gs.Port("a"), gs.Port("c/nothing", control))
    assert graph.inputs_of("c/neg") == (gs.Port("a"), gs.Port("c/check", control))
    waits = {port.node for port in graph.inputs_of("y") if port.port == control}
    assert waits == {"c/neg", "c/check", "c/nothing", "before"}
    assert graph["c/neg"].device == "/gpu:0" and graph["c/check"].device == "/cpu:0"
    assert graph["c/neg"].attrs["_class"] == [b"loc:@c/check"]


def test_a_name_that_is_taken_is_not_taken_again() -> None:
    lab = Lab()
    relu_conv(lab)
    put(lab.node, "c/relu", "Neg", "a", T=F32)
    put(lab.node, "y", "Add", "c/relu", lab.call("c", "f", "a"), T=F32)
    graph = load(lab.proto)
    assert graph.data_inputs("y") == (gs.Port("c/relu"), gs.Port("c/relu_1"))


@pytest.mark.tf
def test_a_call_in_a_branch_does_not_run_in_the_other() -> None:
    """A result that reads no argument would else be there when the branch is not taken."""
    lab = Lab()
    body = lab.function("f", ["t"], {"r": "k:output:0"})
    const(body, "k", np.full((1, 5, 5, 8), 7.0))
    put(lab.node, "p", "Placeholder", dtype=BOOL, shape=Shape(()))
    put(lab.node, "s", "Switch", "a", "p", T=F32)
    lab.call("c", "f", "s:1")
    put(lab.node, "m", "Merge", "s", "c", T=F32, N=2)
    whole, flat = lab.end("m")
    assert not calls(flat)
    x = np.random.RandomState(0).rand(1, 5, 5, 4).astype(np.float32)
    for value in (False, True):
        feeds = {"x": x, "p": np.array(value)}
        # Not optimised: TensorFlow's own inlining runs the call in both branches.
        with Session(whole, optimize=False) as before, Session(flat) as after:
            np.testing.assert_array_equal(before.run(feeds)[0], after.run(feeds)[0])


# ---------------------------------------------------------------------- choices


def branches(lab: Lab, op: str, number: Any, dtype: DType, **more: Any) -> str:
    unaries = (("f0", "Neg"), ("f1", "Relu"), ("f2", "Abs"))
    for name, unary in unaries[: 2 if "If" in op else 3]:
        body = lab.function(name, ["t"], {"r": f"u:{'activations' if name == 'f1' else 'y'}:0"})
        put(body, "u", unary, "t", T=F32)
    if number is None:
        put(lab.node, "p", "Placeholder", dtype=dtype, shape=Shape(()))
    else:
        const(lab.node, "k", number, dtype)
        put(lab.node, "p", "Identity", "k", T=dtype)
    kinds: Dict[str, Any] = {"Tin": [F32], "Tout": [F32]}
    if "If" in op:
        kinds.update(then_branch=Func("f1"), else_branch=Func("f0"), Tcond=dtype)
    else:
        kinds.update(branches=[Func("f0"), Func("f1"), Func("f2")])
    return put(lab.node, "c", op, "p", "a", **{**kinds, **more})


@pytest.mark.tf
@pytest.mark.parametrize(
    "op, number, dtype, taken",
    [
        ("If", True, BOOL, "Relu"),
        ("StatelessIf", False, BOOL, "Neg"),
        ("If", 3, I32, "Relu"),
        ("Case", 1, I32, "Relu"),
        ("Case", 7, I32, "Abs"),
        ("Case", -1, I32, "Abs"),
    ],
)
def test_a_constant_choice_becomes_the_branch(
    op: str, number: Any, dtype: DType, taken: str
) -> None:
    lab = Lab()
    flat = check(lab.end(branches(lab, op, number, dtype)))
    assert flat["c/u"].op == taken
    assert "p" not in flat and not gs.to_graph_def(flat).library.function


@pytest.mark.tf
def test_an_open_choice_stays_and_what_stands_before_it_can_be_pruned() -> None:
    lab = Lab()
    weights(lab.node, "b/w", 1, 1, 8, 8, seed=4)
    put(lab.node, "first", "Relu", "a", T=F32)
    put(lab.node, "b", "Conv2D", "first", "b/w", **CONV)
    chosen = branches(lab, "If", None, BOOL)
    lab.node[-1].input[1] = "b"
    x = np.random.RandomState(0).rand(1, 5, 5, 4).astype(np.float32)
    flat = check(lab.end(chosen), {"x": x, "p": np.array(True)})
    assert "If or Case" in pins(flat, "b") and pins(flat, "b").endswith("@ c")
    assert len(gs.to_graph_def(flat).library.function) == 2
