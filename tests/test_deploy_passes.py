"""The passes that clean up and store a graph for use, each on graphs as text."""

from __future__ import annotations

from typing import List

import numpy as np
import pytest
from function_lab import Lab, relu_conv
from tiny import constant, tiny

import graphslim as gs
from graphslim.errors import PassError
from graphslim.pipeline import passes
from graphslim.testing import assert_equivalent, assert_text, check_pass, from_text, round_trip


def ops(graph: gs.Graph) -> List[str]:
    return [node.op for node in graph]


# ---------------------------------------------------------------------- fold-constants


@pytest.mark.parametrize(
    "text, op, numbers",
    [
        ("a = f32[2]{1 4}\nb = Sqrt(a)", "b", [1, 2]),
        (
            "a = f32[2]{1 4}\ng = f32[2]{3 5}\ne = f32[]{1}\nd = Add(a, e)\nb = Mul(d, g)",
            "b",
            [6, 25],
        ),
        ("a = f32[1,2]{1 4}\ns = i32[1]{2}\nb = Reshape(a, s)", "b", [1, 4]),
    ],
)
def test_fold_constants_computes(text: str, op: str, numbers: List[float]) -> None:
    graph = tiny(f"x = input 2,2\n{text}\ny = Mul(x, b)")
    assert check_pass(graph, "fold-constants").notes == ("constants computed: 1",)
    assert sorted(ops(graph)) == ["Const", "Mul", "Placeholder"]
    assert constant(graph, op).ravel().tolist() == numbers
    assert constant(graph, op).dtype == np.float32


def test_fold_constants_gives_each_result_its_own() -> None:
    graph = tiny(
        "x = input 2,2\na = f32[4]{1 2 3 4}\nd = i32[]{0}\ns = Split(d, a) num_split=2\n"
        "y = Mul(x, s)\nz = AddV2(y, s:1)"
    )
    assert check_pass(graph, "fold-constants").changed
    assert [constant(graph, port.node).tolist() for port in graph.data_inputs("z")[1:]] == [[3, 4]]
    assert [constant(graph, port.node).tolist() for port in graph.data_inputs("y")[1:]] == [[1, 2]]


@pytest.mark.parametrize(
    "text",
    [
        # the file would grow
        "n = i32[1]{512}\nf = f32[]{2}\nb = Fill(n, f)",
        "h = Const() dtype=float16 value=float16[512]{2}\nb = Cast(h) SrcT=float16 DstT=float32",
        # marks of quantisation, random numbers, what waits, what is fed
        "a = f32[512]{random 1}\nb = FakeQuantWithMinMaxArgs(a) min=-1.0 max=1.0",
        "n = i32[1]{512}\nb = RandomUniform(n) dtype=float32 T=int32",
        "a = f32[512]{random 1}\nb = Neg(a, ^x)",
        "a = f32[512]{random 1}\nb = Neg(a)\ninput b\ninput x",
        # identities are for fold-identity
        "a = f32[512]{random 1}\nb = Identity(a)",
        # more than double precision holds
        "a = Const() dtype=int64 value=int64[512]{9007199254740995}\nc = Neg(a) T=int64\n"
        "b = Cast(c) SrcT=int64 DstT=float32",
    ],
    ids=["grows", "half", "quantised", "random", "waits", "fed", "identity", "large"],
)
def test_fold_constants_leaves(text: str) -> None:
    graph = tiny(f"x = input 2,512\n{text}\ny = Mul(x, b)\noutput y")
    assert not check_pass(graph, "fold-constants").changed


def test_fold_constants_folds_in_front_of_what_it_leaves() -> None:
    graph = tiny(
        "x = input 4,512\na = Const() dtype=float16 value=float16[1,512]{2}\n"
        "t = Neg(a) T=float16\nb = Cast(t) SrcT=float16 DstT=float32\ny = Mul(x, b)"
    )
    graph.set_attr("a", "value", gs.Tensor.of(np.arange(512, dtype=np.float16).reshape(1, 512)))
    assert check_pass(graph, "fold-constants").notes == ("constants computed: 1",)
    assert graph["t"].op == "Const" and graph["b"].op == "Cast"


def test_fold_constants_keeps_an_output() -> None:
    graph = tiny("x = input 2\na = f32[2]{1 4}\nb = Sqrt(a)\ny = Neg(x)\noutput y\noutput b")
    assert check_pass(graph, "fold-constants").changed
    assert [str(port) for port in graph.outputs] == ["y", "b"]
    assert constant(graph, "b").tolist() == [1, 2]


def test_values_know_nothing_of_what_is_fed() -> None:
    text = "x = input 2\na = f32[2]{1 4}\nb = Neg(a)\ny = Mul(x, b)"
    assert gs.Values(tiny(text)).constant(gs.Port("b")) is not None
    fed = tiny(f"{text}\ninput x\ninput b")
    assert gs.Values(fed).constant(gs.Port("b")) is None


# ---------------------------------------------------------------------- merge-duplicates


def test_merge_duplicates_tells_apart_what_differs() -> None:
    graph = tiny(
        """
        x = input 1,2
        a = f32[2]{0 0}
        b = f32[1,2]{0 0}
        c = Const() dtype=float32 value=float32[2]{0}
        n = i32[2]{0 0}
        y = AddN(x, a, b, c)
        z = Tile(y, n)
        """
    )
    graph.set_attr("c", "value", gs.Tensor.of(np.array([-0.0, 0.0], np.float32)))
    assert not check_pass(graph, "merge-duplicates").changed


def test_merge_duplicates_keeps_outputs_and_what_waits() -> None:
    graph = tiny(
        """
        x = input 1,2
        a = f32[2]{1 2}
        b = f32[2]{1 2}
        c = Const(^x) dtype=float32 value=float32[2]{1}
        d = f32[2]{1 2}
        y = AddN(x, a, b, c, d)
        n = NoOp(^d)
        z = Neg(y, ^n)
        output z
        output b
        """
    )
    graph.set_attr("c", "value", graph["a"].attrs["value"])
    assert check_pass(graph, "merge-duplicates").notes == ("constants merged: 1",)
    assert [port.node for port in graph.data_inputs("y")] == ["x", "a", "b", "c", "a"]
    assert [str(port) for port in graph.inputs_of("n")] == ["^a"]


def test_merge_duplicates_comes_after_pruning() -> None:
    with pytest.raises(PassError, match="must come after remove-dead-channels"):
        gs.Pipeline(["merge-duplicates", "remove-dead-channels"])


# ---------------------------------------------------------------------- debris


def test_fold_identity_folds_all_that_passes_on() -> None:
    graph = tiny(
        """
        x = input 1,2
        a = CheckNumerics(x) message="no"
        b = PreventGradient(a)
        c = Snapshot(b)
        p = Neg(x)
        n = IdentityN(c, p) T=[float32,float32]
        y = AddV2(n:1, n)
        """
    )
    check_pass(graph, "fold-identity")
    assert_text(
        graph,
        """
        x = Placeholder() dtype=float32 shape=<1,2>
        p = Neg(x) T=float32
        y = AddV2(p, x) T=float32
        """,
    )


@pytest.mark.parametrize(
    "op, goes",
    [
        ("Mul(x, one)", True),
        ("Mul(one, x)", True),
        ("RealDiv(x, ones)", True),
        ("RealDiv(one, x)", False),
        ("Sub(x, zero)", True),
        ("Sub(zero, x)", False),
        ("AddV2(zero, x)", True),
        ("AddV2(x, one)", False),
        ("Mul(x, wide)", False),
        ("Mul(x, deep)", False),
        ("Cast(x) SrcT=float32 DstT=float32", True),
        ("Cast(x) SrcT=float32 DstT=float16", False),
    ],
)
def test_drop_debris_drops_what_changes_nothing(op: str, goes: bool) -> None:
    graph = tiny(
        f"""
        x = input 2,1,3
        one = f32[]{{1}}
        zero = f32[1,1]{{0}}
        ones = f32[3]{{1}}
        wide = f32[4,3]{{1}}
        deep = f32[1,1,1,1]{{1}}
        y = {op}
        z = Relu(y)
        output z
        """
    )
    assert check_pass(graph, "drop-debris").changed == goes
    assert ("y" in graph) != goes


DROPOUT = """
    x = input 1,4
    keep = f32[]{{{keep}}}
    rate = f32[]{{{rate}}}
    d = {scaled}
    s = Shape(x)
    u = RandomUniform(s) dtype=float32 T=int32
    {mask}
    y = Mul(d, m)
    z = Relu(y)
    output z
"""
MASKS = {
    "floor": "a = AddV2(keep, u)\nm = Floor(a)",
    "cast": "g = GreaterEqual(u, rate)\nm = Cast(g) SrcT=bool DstT=float32",
}


@pytest.mark.parametrize("mask", list(MASKS))
def test_drop_debris_drops_a_dropout_that_keeps_all(mask: str) -> None:
    text = DROPOUT.format(keep=1, rate=0, scaled="RealDiv(x, keep)", mask=MASKS[mask])
    graph = tiny(text)
    check_pass(graph, "drop-debris")
    assert graph.data_inputs("z") == (gs.Port("x"),) and "u" not in graph
    text = DROPOUT.format(keep=0.5, rate=0.5, scaled="RealDiv(x, keep)", mask=MASKS[mask])
    assert not check_pass(tiny(text), "drop-debris").changed


def test_drop_debris_waits_for_no_constant() -> None:
    graph = tiny(
        """
        x = input 1,4
        w = f32[4]{1 2 3 4}
        i = Identity(w)
        n = NoOp(^i, ^w)
        o = NoOp(^x)
        y = Mul(x, i)
        z = Neg(y, ^n, ^o)
        """
    )
    assert check_pass(graph, "drop-debris").notes[1] == "waits for constants removed: 3"
    assert [str(port) for port in graph.inputs_of("z")] == ["y", "^o"]


def test_drop_unused_drops_functions_that_nothing_calls() -> None:
    lab = Lab()
    relu_conv(lab, "used")
    relu_conv(lab, "unused")
    lab.call("c", "used", "a")
    proto = lab.proto
    graph = gs.load(proto, inline=False, outputs=["c"])
    assert check_pass(graph, "drop-unused").notes[-1] == "functions removed: 1"
    assert [one.signature.name for one in gs.to_graph_def(graph).library.function] == ["used"]


# ---------------------------------------------------------------------- storage


def test_half_weights_leaves_what_half_precision_cannot_hold() -> None:
    graph = tiny(
        """
        x = input 8,8
        large = f32[8,8]{70000}
        tiny = f32[8,8]{1e-7}
        small = f32[7,9]{1}
        short = f32[1023]{1}
        long = f32[1024]{1}
        good = f32[8,8]{random 1}
        a = MatMul(x, large)
        b = MatMul(a, tiny)
        c = MatMul(b, good)
        n = AddN(small, short, long)
        output c
        output n
        """
    )
    notes = check_pass(graph, "half-weights").notes
    assert notes == ("constants stored as half: 2", "left for their size or range: 2")
    assert [node.name for node in graph if node.op == "Cast"] == ["long", "good"]


def test_half_weights_leaves_what_would_be_cast_in_each_run() -> None:
    graph = tiny("x = input 2,32\nw = f32[32,16]{1}\ny = MatMul(x, w)")
    cls = passes()["half-weights"]
    assert not check_pass(graph, cls(largest=32 * 16 * 4 - 1)).changed
    assert check_pass(graph, cls(largest=32 * 16 * 4)).changed


@pytest.mark.tf
def test_half_weights_run_as_floats() -> None:
    graph = tiny("x = input 2,32\nw = f32[32,16]{random 1}\ny = MatMul(x, w)")
    slim = graph.copy()
    check_pass(slim, "half-weights")
    assert len(gs.serialize(slim)) < 0.7 * len(gs.serialize(graph))
    assert_equivalent(graph, round_trip(slim), tolerance=1e-3)


def test_for_tf_1_15_keeps_what_is_not_the_default() -> None:
    text = """
        x = Placeholder() dtype=float32 shape=<1,4,4,2>
        w = Const() dtype=float32 value=float32[1,1,2,1]{1 2}
        y = DepthwiseConv2dNative(x, w) T=float32 explicit_paddings=[1,1] padding="EXPLICIT"
        a = MaxPool(y) T=float32 explicit_paddings=[] padding="SAME"
        b = BatchMatMulV3(a, a) Ta=float32 Tb=float32 Tout=float64 grad_x=false
    """
    graph = from_text(text)
    assert check_pass(graph, "for-tf-1.15").notes == ("attributes dropped: 1",)
    assert "explicit_paddings" in graph["y"].attrs and graph["b"].op == "BatchMatMulV3"
    assert "explicit_paddings" not in graph["a"].attrs


@pytest.mark.parametrize(
    "name", ["fold-constants", "merge-duplicates", "drop-debris", "half-weights", "for-tf-1.15"]
)
def test_a_pass_is_well_behaved_on_a_whole_network(name: str, model_file: str) -> None:
    graph = gs.load(str(model_file))
    size = len(gs.serialize(graph))
    check_pass(graph, name)
    assert len(gs.serialize(graph)) <= size
