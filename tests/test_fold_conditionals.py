"""fold-conditionals: a conditional on a constant becomes the branch that it takes."""

from __future__ import annotations

import numpy as np
import pytest
from test_control_flow import END, NORMS, START, feeds
from tiny import tiny

import graphslim as gs
from graphslim.testing import assert_equivalent, check_pass, from_text


def on_constant(phase: int) -> str:
    """The start of a graph with a constant condition."""
    constant = f"p = Const() dtype=bool value=bool[]{{{phase}}}"
    return START.replace("p = Placeholder() dtype=bool shape=<>", constant)


@pytest.mark.tf
@pytest.mark.parametrize("phase", [0, 1])
def test_folding_leaves_the_branch_that_is_taken(phase: int) -> None:
    graph = tiny(on_constant(phase) + NORMS + END)
    before = graph.copy()
    outcome = check_pass(graph, "fold-conditionals")
    assert outcome.notes == ("conditionals folded: 5",)
    assert {node.op for node in graph} & {"Switch", "Merge"} == set()
    assert [node.name for node in graph if node.op == "FusedBatchNorm"] == [f"n{phase}"]
    assert_equivalent(before, graph)


def test_what_nobody_read_before_stays() -> None:
    graph = tiny(on_constant(1) + NORMS + "spare = Identity(x)\n" + END)
    check_pass(graph, "fold-conditionals")
    assert "spare" in graph and "p" not in graph


@pytest.mark.tf
def test_folding_nested_conditionals_and_control_edges() -> None:
    text = on_constant(1) + (
        "q = Placeholder() dtype=bool shape=<>\nnot = LogicalNot(p) T=bool\n"
        "s = Switch(a, not)\npivot = Identity(s:1)\nidle = Neg(a, ^pivot)\n"
        "s2 = Switch(s, q)\nu = Neg(s2, ^s)\nr = Relu(s2:1)\ninner = Merge(u, r) N=2\n"
        "m = Merge(inner, idle) N=2\ny = Relu(m, ^m)\n"
    )
    graph = tiny(text + END)
    graph.drop_attr("not", "T")
    before = graph.copy()
    check_pass(graph, "fold-conditionals")
    names = [node.name for node in graph]
    assert names == ["x", "a/w", "a", "q", "s2", "u", "r", "inner", "y", "z/w", "z"]
    assert graph.inputs_of("y") == (gs.Port("inner"), gs.Port("inner", gs.CONTROL))
    assert graph.inputs_of("u") == (gs.Port("s2"), gs.Port("a", gs.CONTROL))
    image = feeds(False)["x"]
    for value_of in (False, True):
        given = {"x": image, "q": np.array(value_of)}
        assert_equivalent(before, graph, given, tolerance=0.0)


@pytest.mark.parametrize(
    "text",
    [
        "p = Placeholder() dtype=bool\ns = Switch(x, p)\nm = Merge(s, s:1) N=2\ny = Relu(m)",
        "k = Const() dtype=bool value=bool[]{0}\n"
        "p = PlaceholderWithDefault(k) dtype=bool shape=<>\ns = Switch(x, p)\ny = Relu(s)\n"
        "input x\ninput p",
        "p = Const() dtype=bool value=bool[]{0}\ns = Switch(x, p)\ny = Relu(s)\ninput x\ninput p",
        "p = Const() dtype=bool value=bool[]{0}\ns = Switch(x, p)\ny = Relu(s:1)",
        "p = Const() dtype=bool value=bool[]{0}\ns = Switch(x, p)\ny = Relu(s)\noutput s\noutput y",
        "p = Const() dtype=bool value=bool[]{0}\ns = Switch(x, p)\nm = Merge(s, s:1) N=2\n"
        "y = Relu(m)\noutput m:1\noutput y",
        "p = Const() dtype=bool value=bool[]{0}\ns = Switch(x, p)\ne = Enter(s:1)\nf = Exit(e)\n"
        "m = Merge(f, s) N=2\ny = Relu(m)",
    ],
    ids=["open", "default", "fed", "stops an output", "output", "index of a branch", "loop"],
)
def test_what_is_not_folded(text: str) -> None:
    graph = tiny("x = input 1,4\n" + text + "\n")
    assert not check_pass(graph, "fold-conditionals").changed


def test_a_merge_that_is_an_output_keeps_its_name() -> None:
    graph = check_text(
        """
        x = Placeholder() dtype=float32
        p = Const() dtype=bool value=bool[]{1}
        s = Switch(x, p) T=float32
        y = Neg(s) T=float32
        m = Merge(y, s:1) N=2 T=float32
        output m
        """
    )
    assert graph.data_inputs("m") == (gs.Port("x"),) and graph["m"].attrs["N"] == 1
    assert [node.name for node in graph] == ["x", "m"]


def check_text(text: str) -> gs.Graph:
    graph = from_text(text)
    assert check_pass(graph, "fold-conditionals").changed
    return graph
