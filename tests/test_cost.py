"""Multiply-accumulates for one example, against what networks do that are run."""

from __future__ import annotations

from typing import Any, Dict, List

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from random_nets import Recipe, build, feeds_for, recipes
from tiny import tiny

import graphslim as gs
from graphslim.ir.query import constant_nodes, executed
from graphslim.measure.verify import runnable
from graphslim.ops import COST_RULES
from graphslim.runtime import Session, version

DENSE = "w = f32[4,7]{1}\n"


def macs(text: str) -> Any:
    return gs.cost(tiny(text)).macs


@pytest.mark.parametrize("batch", ["?", "1", "5"])
def test_rows_of_a_matrix_are_positions_of_an_example(batch: str) -> None:
    """Flattened with the batch, as in attention of TensorFlow 1; and one row again."""
    start = f"x = input {batch},6,6,4\nn = i32[2]{{-1 4}}\nf = Reshape(x, n)\ny = MatMul(f, w)\n"
    assert macs(start + DENSE) == 36 * 4 * 7
    back = "k = i32[2]{-1 252}\nr = Reshape(y, k)\nv = f32[252,3]{1}\nz = MatMul(r, v)\n"
    assert macs(start + DENSE + back) == 36 * 4 * 7 + 252 * 3


@pytest.mark.parametrize("batch", ["?", "1", "5"])
def test_windows_stand_in_the_batch(batch: str) -> None:
    """Nine windows of 2 x 2 pixels, as in a Swin transformer."""
    text = (
        f"x = input {batch},6,6,4\na = i32[6]{{-1 3 2 3 2 4}}\nb = Reshape(x, a)\n"
        "p = i32[6]{0 1 3 2 4 5}\nt = Transpose(b, p)\nn = i32[4]{-1 2 2 4}\nf = Reshape(t, n)\n"
        "v = f32[1,1,4,5]{1}\ny = Conv2D(f, v)\n"
    )
    assert macs(text) == 36 * 4 * 5


@pytest.mark.parametrize("batch", ["?", "5"])
def test_the_batch_may_stand_behind(batch: str) -> None:
    """Positions first, as recurrent layers have them, and first again."""
    text = (
        f"x = input {batch},6,4\np = i32[3]{{1 0 2}}\nt = Transpose(x, p)\nr = Relu(t)\n"
        "b = Transpose(r, p)\nn = i32[2]{-1 4}\nf = Reshape(b, n)\ny = MatMul(f, w)\n"
    )
    assert macs(text + DENSE) == 6 * 4 * 7


def test_the_batch_is_that_of_the_pictures() -> None:
    """An open input of a rank below theirs says nothing of how many examples there are."""
    text = "x = input 5,6,6,4\nv = f32[1,1,4,5]{1}\nc = Conv2D(x, v)\nlengths = input ?\n"
    assert macs(text + "r = Relu(lengths)\noutput c\noutput r\n") == 36 * 4 * 5


def test_weights_that_are_computed_from_constants_are_computed_once() -> None:
    text = "x = input ?,4\na = f32[4,5]{1}\nb = f32[5,7]{1}\nm = MatMul(a, b)\ny = MatMul(x, m)\n"
    assert macs(text) == 4 * 7


def counted(recipe: Recipe, batch: int) -> Dict[str, int]:
    """By node, the products that it makes of so many examples, by the shapes in a run."""
    recipe = recipe._replace(batch=batch)
    graph = build(recipe, modern=version().startswith("2"))
    twin = runnable(graph)
    assume(all(node.name in twin for node in graph))  # TensorFlow 1.15 runs no NCHW
    names = executed(graph) - constant_nodes(graph)
    nodes = [node for node in graph if node.op in COST_RULES and node.name in names]
    ports = [[gs.Port(node.name), *graph.data_inputs(node)] for node in nodes]
    wanted = list(dict.fromkeys([str(port) for row in ports for port in row]))
    shapes: Dict[str, Any] = {}
    if wanted:
        with Session(twin, optimize=False) as session:
            arrays = session.run(feeds_for(graph, recipe, False), wanted)
        shapes = {name: np.shape(array) for name, array in zip(wanted, arrays)}
    return {
        node.name: products(node, *[shapes[str(port)] for port in row])
        for node, row in zip(nodes, ports)
    }


def products(node: gs.Node, out: Any, *read: Any) -> int:
    """How many products an op makes for a result of a shape, of operands of these shapes."""
    if node.op == "Einsum":
        terms = node.text("equation").replace(" ", "").partition("->")[0].split(",")
        sizes = {
            label: size for term, shape in zip(terms, read) for label, size in zip(term, shape)
        }
        return size_of(list(sizes.values())) if len(terms) > 1 else 0
    if "MatMul" in node.op:
        turned = node.attrs.get("transpose_a") or node.attrs.get("adj_x")
        return size_of(out) * int(read[0][-2 if turned else -1])
    if "Backprop" in node.op:
        return size_of(read[2]) * size_of(read[1][:-1])
    weights = read[-1] if node.op.startswith(("FusedPad", "FusedResize")) else read[1]
    return size_of(out) * size_of(weights[: 2 if "Depthwise" in node.op else -1])


def size_of(shape: List[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


@pytest.mark.tf
@given(recipes())
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_random_networks_make_as_many_products_as_is_said(recipe: Recipe) -> None:
    """With a batch of one, of two, and with one that is open."""
    one, two = counted(recipe, 1), counted(recipe, 2)
    assume(one.keys() == two.keys())  # some layers are others where the batch is another
    said = {
        size: build(recipe._replace(batch=size), version().startswith("2")) for size in (0, 1, 2)
    }
    assert gs.cost(said[1]).macs == sum(one.values())
    assert gs.cost(said[2]).macs == sum(two.values()) // 2
    names = {node.name for node in said[0]}
    if one.keys() <= names and len(said[0]) == len(said[1]):
        assert gs.cost(said[0]).macs == sum(one.values())
