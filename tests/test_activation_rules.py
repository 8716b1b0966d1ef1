"""Functions position by position: single ops against TensorFlow, activations as spelled."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import numpy as np
import pytest
from networks import Net
from spellings import ACTIVATIONS, GATES
from tiny import dead, groups, pins, prune, tiny, value, zero_filters

import graphslim as gs
from graphslim.analysis.values import Values
from graphslim.runtime import Session, tensorflow
from graphslim.testing import assert_mask_equivalent, random_plan

UNARY = [
    *("Relu", "Relu6", "Elu", "Selu", "Softplus", "Softsign", "Sigmoid", "Neg", "Abs", "Square"),
    *("Sqrt", "Rsqrt", "Reciprocal", "Inv", "Exp", "Expm1", "Log", "Log1p", "Sin", "Cos", "Tan"),
    *("Asin", "Acos", "Atan", "Sinh", "Cosh", "Tanh", "Asinh", "Acosh", "Atanh", "Erf", "Erfc"),
    *("Lgamma", "ZerosLike", "OnesLike", "Floor", "Ceil", "Round", "Rint", "Sign", "IsNan"),
    *("IsInf", "IsFinite", "LeakyRelu"),
]
BINARY = [
    *("Add", "AddV2", "Sub", "RealDiv", "Div", "Maximum", "Minimum", "Pow", "Atan2"),
    *("SquaredDifference", "FloorDiv", "FloorMod", "TruncateMod", "Mod", "Equal", "NotEqual"),
    *("Greater", "GreaterEqual", "Less", "LessEqual", "Mul", "MulNoNan", "DivNoNan", "Xdivy"),
    *("Xlogy", "Xlog1py"),
]
PRELUDE = """
x = input 1,4,4,3
w = f32[1,1,3,5]{0 1 0 0.3 0 0 -1 0 0.7 0 0 0.5 0 -0.2 0}
a = Conv2D(x, w)
b = f32[5]{0.5 0 -2.25 1 0}
c = BiasAdd(a, b)
k = f32[5]{0.25 1 -3.5 2 0.75}
"""
"""`c` is 0.5, -2.25 and 0 in channels 0, 2 and 4, and unknown in the others."""


TRUTH = "y = Cast(l) SrcT=bool DstT=float32"
WIDE = "k4 = f32[1,4,4,5]{3}\n"


def needs(op: str) -> None:
    """Skips a test where this TensorFlow has no such op."""
    if not hasattr(tensorflow().raw_ops, op.strip("_")):
        pytest.skip(f"this TensorFlow has no op {op}")


def check_values(text: str, share: float) -> None:
    """Asserts that what is known at `y` is what TensorFlow computes, and how much is known."""
    graph = tiny(PRELUDE + text)
    known = value(graph, "y")
    assert known is not None
    with Session(graph) as session:
        for seed in range(3):
            data = np.random.RandomState(seed).randn(1, 4, 4, 3).astype(np.float32) * 3
            actual = session.run({"x": data}, ["y"])[0].astype(np.float64)
            spread = np.broadcast_to(known, actual.shape)
            there = ~np.isnan(spread)
            assert known.ndim == actual.ndim
            np.testing.assert_allclose(actual[there], spread[there], rtol=1e-5, atol=1e-6)
    assert there.mean() >= share, f"only {there.mean():.2f} of the values are known"


@pytest.mark.tf
@pytest.mark.parametrize("op", UNARY)
def test_function_of_one_tensor(op: str) -> None:
    needs(op)
    # Nothing is claimed where a function has no value, or where rounding decides.
    bounded = {"Sqrt", "Rsqrt", "Log", "Log1p", "Asin", "Acos", "Acosh", "Atanh", "Lgamma"}
    bounded |= {"Round", "Rint"}
    few = 0.2 if op in bounded else 0.6
    attrs = " alpha=0.3" if op == "LeakyRelu" else ""
    check_values(f"y = {op}({'k4' if op == 'Acosh' else 'c'}){attrs}\n" + WIDE, few)


@pytest.mark.tf
@pytest.mark.parametrize("op", BINARY)
def test_function_of_two_tensors(op: str) -> None:
    needs(op)
    check_values(f"y = {op}(c, k)", 0.2)


@pytest.mark.tf
@pytest.mark.parametrize("op", ["Div", "FloorDiv", "FloorMod", "TruncateDiv", "TruncateMod"])
def test_quotients_of_integers(op: str) -> None:
    graph = tiny(
        f"a = i32[6]{{7 -7 7 -7 6 0}}\nb = i32[6]{{2 2 -2 -2 3 5}}\ny = {op}(a, b) T=int32"
    )
    known = value(graph, "y")
    assert known is not None
    with Session(graph) as session:
        assert session.run({}, ["y"])[0].tolist() == known.tolist()


def test_integers_that_overflow_are_not_claimed() -> None:
    graph = tiny("a = i32[3]{2147483647 5 0}\nb = i32[3]{1 1 1}\ny = Add(a, b) T=int32")
    known = value(graph, "y")
    assert known is not None
    assert np.isnan(known).tolist() == [True, False, False]


ZERO_WINS = ["Mul(c, x1)", "Mul(x1, c)", "MulNoNan(x1, c)", "DivNoNan(c, x1)", "DivNoNan(x1, c)"]


@pytest.mark.tf
@pytest.mark.parametrize("text", [*ZERO_WINS, "Xlogy(c, x2)", "Xdivy(c, x2)"])
def test_zero_wins_over_the_unknown(text: str) -> None:
    needs(text.split("(")[0])
    more = "v = f32[1,1,3,5]{random 3}\nx1 = Conv2D(x, v)\nx2 = Exp(x1)\n"
    check_values(more + f"y = {text}", 0.2)
    known = value(tiny(PRELUDE + more + f"y = {text}"), "y")
    assert known is not None and known.ravel()[4] == 0


@pytest.mark.parametrize("op", ["Add", "Sub", "Maximum", "RealDiv", "SquaredDifference", "Less"])
def test_zero_does_not_win_elsewhere(op: str) -> None:
    unknown = "n = i32[]{3}\ns = Split(n, x) num_split=3\n"
    assert value(tiny(PRELUDE + unknown + f"y = {op}(c, s)"), "y") is None


@pytest.mark.parametrize("op", [*BINARY, "TruncateDiv", "LogicalAnd", "LogicalOr"])
def test_table_of_two_long_vectors_is_not_laid_out(op: str) -> None:
    """Nor is anything known beside a tensor of unknown rank."""
    graph = tiny(
        "a = f32[5000,1]{random 1}\nb = f32[1,5000]{random 2}\nu = input *\n"
        f"y = {op}(a, b)\nz = {op}(u, b)\nv = {op}(b, u)\n"
    )
    values = Values(graph, gs.analyse(graph), 0.0)
    assert all(values.at(gs.Port(name)) is None for name in "yzv")
    assert values.channels.fact(gs.Port("y")).shape == (5000, 5000)


@pytest.mark.tf
def test_values_near_a_step_are_not_claimed() -> None:
    """A sum of float32 may fall on the other side."""
    text = "t = f32[5]{1.5 0 2.25 0 0}\nd = AddV2(c, t)\ny = "
    check_values(text + "Sigmoid(d)", 0.6)
    for op in ("Floor(d)", "Ceil(d)", "FloorDiv(d, k)"):
        known = value(tiny(PRELUDE + text + op), "y")
        assert known is not None and np.isnan(known.ravel()[0]) and known.ravel()[2] == 0, op
    choice = value(tiny(PRELUDE + "two = f32[]{0.5}\ny = Greater(c, two)"), "y")
    assert choice is not None and np.isnan(choice.ravel()).tolist() == [1, 1, 0, 1, 0]


@pytest.mark.tf
@pytest.mark.parametrize(
    "text",
    [
        "g = Greater(c, z)\ny = Select(g, c, k4)",
        "g = Less(c, k)\ny = SelectV2(g, k4, c) T=float32",
        "g = Less(c, z)\nh = Equal(c, z)\nl = LogicalAnd(g, h)\n" + TRUTH,
        "g = Less(c, z)\nh = Equal(c, z)\nl = LogicalOr(g, h)\n" + TRUTH,
        "y = ClipByValue(c, z, o)",
        "y = AddN(c, k4, c)",
    ],
)
def test_choices_and_logic(text: str) -> None:
    needs("SelectV2" if "SelectV2" in text else "Select")
    lines = "z = f32[]{0}\no = f32[]{0.25}\nk1 = f32[1,4,4,5]{1.25}\nk4 = Identity(k1)\n"
    check_values(lines + text, 0.6)


@pytest.mark.tf
def test_composition_of_functions_that_grappler_makes() -> None:
    needs("Relu")
    graph = tiny(PRELUDE + 'y = _UnaryOpsComposition(c) op_names=["Neg","Relu","Sqrt"]')
    known = value(graph, "y")
    assert known is not None
    assert known.ravel()[[0, 2, 4]].tolist() == [0, 1.5, 0]


# ------------------------------------------------------------------ channels

START = "x = input 1,6,6,4\na/w = f32[3,3,4,8]{random 1}\na = Conv2D(x, a/w)\n"


def ended(middle: str) -> gs.Graph:
    return tiny(START + middle + "\nz/w = f32[1,1,8,3]{random 9}\nz = Conv2D(y, z/w)\noutput z\n")


@pytest.mark.tf
@pytest.mark.parametrize(
    "middle",
    [
        "y = Erf(a)",
        "y = Expm1(a)",
        "k = f32[8]{random 2}\ny = Atan2(k, a)",
        "k = f32[1,1,8]{random 2}\ny = Xdivy(a, k)",
        "k = f32[1,6,1,8]{random 2}\ny = SquaredDifference(k, a)",
        "k = f32[8]{2}\ny = DivNoNan(a, k)",
        "k = f32[8]{0.1}\ng = Less(a, k)\nl = f32[8]{random 5}\ny = SelectV2(g, a, l)",
        "b/w = f32[1,1,4,8]{random 2}\nb = Conv2D(x, b/w)\ny = MulNoNan(a, b)",
    ],
)
def test_function_keeps_channels_prunable(middle: str) -> None:
    needs(middle.rsplit(" = ", 1)[1].split("(")[0])
    graph = ended(middle)
    assert {one.id: len(one) for one in groups(graph).values() if one.prunable} == {"a": 8}
    assert_mask_equivalent(graph, random_plan(graph), tolerance=1e-5)


@pytest.mark.tf
@pytest.mark.parametrize("shape", ["[1,1,1,8]", "[6,1,8]"])
def test_broadcast_beside_the_channels_ties_them(shape: str) -> None:
    graph = ended(f"k = f32{shape}{{random 2}}\ny = Mul(k, a)")
    plan = random_plan(graph)
    assert ("k", shape.count(",")) in {(cut.param, cut.axis) for cut in plan.groups[0].cuts}
    assert_mask_equivalent(graph, plan, tolerance=1e-5)


@pytest.mark.tf
def test_one_channel_that_is_spread_over_many_is_needed() -> None:
    """A spatial gate: its one channel reaches all that it is multiplied with."""
    graph = tiny(
        START + "g/w = f32[3,3,8,4]{random 2}\ng = Conv2D(a, g/w)\ng2/w = f32[1,1,4,1]{random 3}\n"
        "g2 = Conv2D(g, g2/w)\ns = Sigmoid(g2)\nz/w = f32[1,1,4,4]{random 4}\nz = Conv2D(x, z/w)\n"
        "y = Mul(z, s)\noutput y\n"
    )
    assert pins(graph, "g2") == "it is spread over all positions of an axis @ y"
    assert dead(graph) == {}
    assert_mask_equivalent(graph, random_plan(graph), tolerance=1e-5)


def test_one_channel_beside_one_channel_is_tied() -> None:
    graph = tiny(
        "x = input 1,6,6,4\na/w = f32[1,1,4,1]{1}\na = Conv2D(x, a/w)\nb/w = f32[1,1,4,1]{2}\n"
        "b = Conv2D(x, b/w)\nr = Relu(b)\ny = AddV2(a, r)\nz/w = f32[1,1,1,3]{1}\n"
        "z = Conv2D(y, z/w)\noutput z\n"
    )
    assert sorted(len(one) for one in groups(graph).values() if one.prunable) == [1]


def test_sizes_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(gs.GraphslimError, match="which do not fit"):
        gs.analyse(ended("k = f32[5]{1}\ny = Mul(a, k)"))


# ------------------------------------------------------------------ spellings


def activated(spelling: Dict[str, Any], name: str) -> gs.Graph:
    """A layer of eight filters, of which 1 and 5 are zero, an activation, and a reader."""
    net = Net(channels=4, size=5)
    y = spelling[name](net, net.conv(net.x, 8, 3, name="a"))
    graph = net.graph(net.f("Relu", net.conv(y, 3, name="z")))
    weights = graph.data_inputs("a")[1].node
    return zero_filters(graph, weights, 3, [1, 5])


@pytest.mark.tf
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activation_keeps_channels_prunable(name: str) -> None:
    graph = activated(ACTIVATIONS, name)
    assert {one.id: len(one) for one in groups(graph).values() if one.prunable} == {"a": 8}
    prune(graph, {"a": [1, 5]})
    assert_mask_equivalent(graph, random_plan(graph), tolerance=1e-5)


AT_ZERO: Dict[str, Optional[float]] = dict.fromkeys(ACTIVATIONS, 0.0)
AT_ZERO.update({"softplus": float(np.log(2)), "hard sigmoid": 0.5})


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activation_of_zero(name: str) -> None:
    graph = activated(ACTIVATIONS, name)
    known = value(graph, str(graph.data_inputs("z")[0]))
    assert known is not None
    assert known.ravel()[[1, 5]] == pytest.approx([AT_ZERO[name]] * 2, abs=1e-7)


@pytest.mark.parametrize("name", sorted(GATES))
def test_gate_of_zero_is_one_half(name: str) -> None:
    graph = activated(GATES, name)
    known = value(graph, str(graph.data_inputs("z")[0]))
    assert known is not None
    assert known.ravel()[[1, 5]] == pytest.approx([0.5, 0.5])


@pytest.mark.tf
def test_dead_channel_behind_a_gate_is_zero_whatever_the_gate() -> None:
    net = Net(channels=4, size=5)
    y = net.squeeze_excite(net.conv(net.x, 8, 3, name="a"))
    graph = net.graph(net.conv(y, 3, 3, name="z"))
    zero_filters(graph, graph.data_inputs("a")[1].node, 3, [1, 5])
    found: List[int] = dead(graph)["a"]
    assert found == [1, 5]
    prune(graph, {"a": [1, 5]})
