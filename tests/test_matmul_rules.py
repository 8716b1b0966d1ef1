"""Matrix products in all roles, Einsum, and what is summed without constant weights."""

from __future__ import annotations

from typing import Dict, Optional, Tuple

import numpy as np
import pytest
from tiny import constant, groups, pins, prune, tiny, value, zero_filters

import graphslim as gs
from graphslim.errors import VerifyError
from graphslim.ir.node import Attrs, Node
from graphslim.ops.matmul import read_equation
from graphslim.plans import plan_given
from graphslim.runtime import Session
from graphslim.testing import assert_mask_equivalent, random_plan

VECTORS = "x = input 1,5\na/w = f32[5,8]{random 1}\na = MatMul(x, a/w)\nr = Tanh(a)\n"
TOKENS = (
    "x = input 1,3,2,4\na/w = f32[1,1,4,8]{random 1}\na = Conv2D(x, a/w)\n"
    "t = i32[3]{1 6 8}\nta = Reshape(a, t) Tshape=int32\n"
)
PAIR = TOKENS + (
    "b/w = f32[1,1,4,8]{random 2}\nb = Conv2D(x, b/w)\ntb = Reshape(b, t) Tshape=int32\n"
)
TRIPLE = PAIR + (
    "c/w = f32[1,1,4,6]{random 3}\nc = Conv2D(x, c/w)\n"
    "t6 = i32[3]{1 6 6}\ntc = Reshape(c, t6) Tshape=int32\n"
)
BATCHED = " adj_x=false adj_y=false"

PRODUCTS: Dict[str, Tuple[str, Dict[str, int]]] = {
    "weights on the right": (
        VECTORS + "w = f32[8,3]{random 2}\ny = MatMul(r, w)\n",
        {"a": 8},
    ),
    "transposed weights": (
        VECTORS + "w = f32[3,8]{random 2}\ny = MatMul(r, w) transpose_b=true\n",
        {"a": 8},
    ),
    "weights on the left": (
        VECTORS + "o = i32[2]{1 0}\nt = Transpose(r, o) Tperm=int32\nw = f32[3,8]{random 2}\n"
        "p = MatMul(w, t)\nv = f32[2,3]{random 3}\ny = MatMul(v, p)\n",
        {"a": 8, "p": 3},
    ),
    "both turned": (
        VECTORS + "w = f32[8,3]{random 2}\np = MatMul(w, r) transpose_a=true transpose_b=true\n"
        "v = f32[3,2]{random 3}\ny = MatMul(v, p) transpose_a=true\n",
        {"a": 8, "p": 3},
    ),
    "positions as rows": (
        TOKENS + "t2 = i32[2]{6 8}\nm = Reshape(a, t2) Tshape=int32\nw = f32[8,4]{random 4}\n"
        "p = MatMul(m, w)\nt4 = i32[4]{1 3 2 4}\nq = Reshape(p, t4) Tshape=int32\n"
        "z/w = f32[1,1,4,2]{random 5}\nz = Conv2D(q, z/w)\noutput z\n",
        {"a": 8, "p": 4},
    ),
    "no constant at all": (
        TRIPLE + "q = BatchMatMulV2(ta, tb) adj_x=false adj_y=true\ns = Softmax(q)\n"
        "y = BatchMatMulV2(s, tc)" + BATCHED + "\nw = f32[1,6,2]{random 5}\n"
        "z = BatchMatMulV2(y, w)" + BATCHED + "\noutput z\n",
        {"a": 8, "c": 6},
    ),
    "weights for a batch": (
        TOKENS + "w = f32[8,3]{random 4}\np = BatchMatMulV2(ta, w)" + BATCHED + "\n"
        "v = f32[1,3,2]{random 5}\ny = BatchMatMul(p, v)" + BATCHED + "\noutput y\n",
        {"a": 8, "p": 3},
    ),
    "einsum": (
        TOKENS + "w = f32[8,2,3]{random 4}\n"
        'p = Einsum(ta, w) equation="abc,cde->abde" N=2\n'
        "v = f32[2,3,5]{random 5}\n"
        'y = Einsum(p, v) equation="...de,def->...f" N=2\noutput y\n',
        {"a": 8, "p": 2, "p#2": 3},
    ),
    "einsum of products": (
        TRIPLE + 'q = Einsum(ta, tb) equation="bic,bjc->bij" N=2\ns = Softmax(q)\n'
        'y = Einsum(s, tc) equation="bij,bjd->bdi" N=2\nw = f32[6,2]{random 5}\n'
        'z = Einsum(w, y) equation="dk,bdi->bik" N=2\noutput z\n',
        {"a": 8, "c": 6},
    ),
    "einsum that turns axes": (
        TOKENS + 'q = Einsum(ta) equation="abc->acb" N=1\nw = f32[8,2]{random 5}\n'
        'z = Einsum(q, w) equation="acb,ck->abk" N=2\noutput z\n',
        {"a": 8},
    ),
}


def needs(graph: gs.Graph) -> None:
    """Skips where this TensorFlow has not got an op (Einsum came after 1.15)."""
    try:
        with Session(graph):
            pass
    except VerifyError as error:
        pytest.skip(str(error))


@pytest.mark.tf
@pytest.mark.parametrize("name", sorted(PRODUCTS))
def test_channels_of_products(name: str) -> None:
    text, expected = PRODUCTS[name]
    graph = tiny(text)
    assert {one.id: len(one) for one in groups(graph).values() if one.prunable} == expected
    plan = random_plan(graph, seed=len(name))
    assert len(plan.groups) == len(expected)
    needs(graph)
    assert_mask_equivalent(graph, plan, tolerance=1e-5)


@pytest.mark.tf
def test_weights_that_feed_themselves_are_masked() -> None:
    """One square matrix, used twice: its columns are its rows."""
    graph = tiny(
        "x = input 1,5\na/w = f32[5,6]{random 1}\na = MatMul(x, a/w)\nw = f32[6,6]{random 2}\n"
        "b = MatMul(a, w)\nr = Tanh(b)\nc = MatMul(r, w)\n"
        "v = f32[6,2]{random 3}\ny = MatMul(c, v)\n"
    )
    (group,) = [one for one in groups(graph).values() if one.prunable]
    assert len(group) == 6
    masked = gs.zero_consumers(graph, plan_given(graph, {group.id: [1, 4]}))
    np.testing.assert_array_equal(constant(masked, "w")[[1, 4]], np.zeros((2, 6)))
    assert_mask_equivalent(graph, plan_given(graph, {group.id: [1, 4]}), tolerance=1e-5)


@pytest.mark.tf
def test_weights_with_another_reader_keep_what_it_reads() -> None:
    """The reference may not zero a matrix that something else reads as it is."""
    graph = tiny(
        VECTORS + "w = f32[8,3]{random 2}\ny = MatMul(r, w)\ni = i32[1]{1}\n"
        "s = Mean(w, i) Tidx=int32 keep_dims=false\nq = Mul(s, r)\nv = f32[8,2]{random 3}\n"
        "z = MatMul(q, v)\noutput y\noutput z\n"
    )
    plan = plan_given(graph, {"a": [0, 3]})
    np.testing.assert_array_equal(
        constant(gs.zero_consumers(graph, plan), "w"), constant(graph, "w")
    )
    assert_mask_equivalent(graph, plan, tolerance=1e-5)


PINNED = {
    "y = BatchMatMulV2(ta, one) adj_x=true adj_y=false\n": "not followed",
    'y = Einsum(ta, ta) equation="abb,abb->a" N=2\n': "the Einsum abb,abb->a is not followed",
    "u = input *\ny = BatchMatMulV2(ta, u)" + BATCHED + "\n": "matrix product at an unknown rank",
}


@pytest.mark.parametrize("text", sorted(PINNED))
def test_products_that_pin(text: str) -> None:
    graph = tiny(TOKENS + "one = input 1,6,1\nm = f32[6,2]{random 4}\n" + text + "q = Sigmoid(y)\n")
    if "adj_x=true" in text:  # the channels become the rows of an output
        assert pins(graph, "a") == "it is a graph output @ q"
    else:
        assert PINNED[text] in pins(graph, "a")


SUMS = {
    "einsum of one": 'y = Einsum(ta) equation="abc->ab" N=1\n',
    "einsum beside another sum": 'y = Einsum(ta, m) equation="abc,bd->ad" N=2\n',
    "sum": "i = i32[1]{2}\ny = Sum(ta, i) Tidx=int32 keep_dims=true\n",
    "sum over all": "i = i32[2]{1 2}\ny = Sum(ta, i) Tidx=int32 keep_dims=false\n",
    "mean made of a sum": "i = i32[1]{-1}\ns = Sum(ta, i) Tidx=int32 keep_dims=true\n"
    "n = f32[]{8}\ny = RealDiv(s, n)\n",
    "product with ones": "o = f32[8,1]{1}\no1 = f32[1,8,1]{1}\ny = BatchMatMulV2(ta, o1)"
    + BATCHED + "\n",
}  # fmt: skip


@pytest.mark.tf
@pytest.mark.parametrize("kind", sorted(SUMS))
def test_sums_over_channels_are_contractions_with_ones(kind: str) -> None:
    """A channel of zeros is dead before it; another constant only where it can be folded."""
    text = "m = f32[6,2]{random 4}\n" + SUMS[kind] + "q = Sigmoid(y)\noutput q\n"
    graph = tiny(TOKENS + text)
    needs(graph)
    assert_mask_equivalent(graph, plan_given(graph, {"a": [1, 4, 6]}), tolerance=1e-5)
    prune(zero_filters(graph, "a/w", 3, [2, 5]), {"a": [2, 5]})
    shifted = tiny(TOKENS.replace("ta =", "one = f32[]{1}\na1 = AddV2(a, one)\nta =").replace(
        "Reshape(a,", "Reshape(a1,") + text)  # fmt: skip
    folded = {"a": [2, 5]} if kind == "product with ones" else {}
    prune(zero_filters(shifted, "a/w", 3, [2, 5]), folded)


# ------------------------------------------------------------------ dead channels

BIASED = "a/b = f32[8]{0.5 -1 2 0 1 -2 3 0.25}\nc = BiasAdd(a, a/b)\n"
FOLDING = {
    "matrix": ("w = f32[8,3]{random 2}\ny = MatMul(v, w)\nz = Tanh(y)\n", True),
    "batch": (
        "w = f32[1,8,3]{random 2}\ny = BatchMatMulV2(v3, w)" + BATCHED + "\nz = Tanh(y)\n",
        True,
    ),
    "left": ("w = f32[3,8]{random 2}\ny = MatMul(w, v) transpose_b=true\nz = Tanh(y)\n", False),
    "einsum": ('w = f32[8,3]{random 2}\ny = Einsum(c, w) equation="...c,ck->...k" N=2\n'
               "z = Tanh(y)\n", True),
    "einsum, not last": (
        'w = f32[8,3]{random 2}\ny = Einsum(c, w) equation="abdc,ck->akbd" N=2\nz = Tanh(y)\n',
        False,
    ),
}  # fmt: skip


@pytest.mark.tf
@pytest.mark.parametrize("name", sorted(FOLDING))
def test_constant_is_folded_behind_a_product(name: str) -> None:
    """Where the product's channels lie along the last axis, which a BiasAdd adds to."""
    text, folds = FOLDING[name]
    graph = tiny(
        "x = input 1,3,2,4\na/w = f32[1,1,4,8]{random 1}\na = Conv2D(x, a/w)\n"
        + BIASED
        + "t2 = i32[2]{6 8}\nv = Reshape(c, t2) Tshape=int32\n"
        "t3 = i32[3]{1 6 8}\nv3 = Reshape(c, t3) Tshape=int32\n" + text + "output z\n"
    )
    needs(graph)
    zero_filters(graph, "a/w", 3, [2, 3])
    prune(graph, {"a": [2, 3] if folds else [3]})


@pytest.mark.tf
def test_dead_matrix_columns_and_rows() -> None:
    graph = tiny(
        VECTORS + "w = f32[6,8]{random 2}\np = MatMul(w, r) transpose_b=true\nq = Tanh(p)\n"
        "v = f32[2,6]{random 3}\ny = MatMul(v, q)\n"
    )
    zero_filters(graph, "a/w", 1, [0])
    zero_filters(graph, "w", 0, [1, 2])
    zero_filters(graph, "v", 1, [5])
    np.testing.assert_array_equal(value(graph, "p").ravel()[[1, 2]], [0, 0])
    prune(graph, {"a": [0], "p": [1, 2, 5]})


@pytest.mark.tf
def test_channels_summed_without_constant_weights_are_needed() -> None:
    """Nothing but the product reads them, and it has no weights to look at: they stay."""
    graph = tiny(PAIR + "q = BatchMatMulV2(ta, tb) adj_x=false adj_y=true\ny = Tanh(q)\noutput y\n")
    prune(zero_filters(graph, "a/w", 3, [6]), {"a": [6]})


def test_sum_over_an_axis_of_one_operand_alone_is_no_product() -> None:
    """A constant counts once for each of its positions: nothing is folded."""
    text = (
        "x = input 1,6,4\nw0 = f32[4,8]{random 1}\n"
        'a = Einsum(x, w0) equation="abc,cd->abd" N=2\nk = f32[8]{0.5 1 1 1 1 1 1 1}\n'
        "c = BiasAdd(a, k)\nw = f32[8,3]{random 2}\n"
        'y = Einsum(c, w) equation="abc,ck->ak" N=2\nz = Tanh(y)\n'
    )
    graph = zero_filters(tiny(text), "w0", 1, [*range(8)])
    assert value(graph, "c").ravel()[0] == 0.5
    known, weights = constant(graph, "k").astype(float), constant(graph, "w")
    np.testing.assert_allclose(value(graph, "y"), 6 * known[np.newaxis] @ weights, rtol=1e-6)
    assert not gs.plan(graph).folds


def test_vector_of_weights_leaves_one_number() -> None:
    """The sum is the same at all that is left, whatever its rank; weights of 0 read the unknown."""
    graph = tiny(
        "k = f32[4]{1 2 3 4}\nx = input 6,4\nz = f32[1,4]{0 1 0 0}\nm = Mul(x, z)\n"
        "c = AddV2(m, k)\nw = f32[4]{1 0 2 5}\n"
        'y = Einsum(c, w) equation="ab,b->a" N=2\nv = Einsum(c, w) equation="ab,b->" N=2\n'
    )
    np.testing.assert_array_equal(value(graph, "y"), [1 + 6 + 20])
    assert value(graph, "v") == 6 * (1 + 6 + 20)


# ------------------------------------------------------------------ labels, shapes, cost


@pytest.mark.parametrize(
    "equation, ranks, expected",
    [
        ("ij,jk->ik", (2, 2), ([["i", "j"], ["j", "k"]], ["i", "k"])),
        ("...c,cd->...d", (3, 2), ([["1", "0", "c"], ["c", "d"]], ["1", "0", "d"])),
        (
            "a...,...b->a...b",
            (2, 3),
            ([["a", "0"], ["1", "0", "b"]], ["a", "1", "0", "b"]),
        ),
        ("ij->ji", (None,), ([["i", "j"]], ["j", "i"])),
        ("ii->i", (2,), None),
        ("ij,jk->iz", (2, 2), None),
        ("ij", (2,), None),
        ("ij,jk->ik", (3, 2), None),
        ("...j->j", (None,), None),
        ("a,b,c->abc", (1, 1, 1), None),
    ],
)
def test_equations(
    equation: str, ranks: Tuple[Optional[int], ...], expected: Optional[object]
) -> None:
    node = Node("e", "Einsum", Attrs({"equation": equation.encode()}))
    assert read_equation(node, ranks) == expected


@pytest.mark.parametrize(
    "text, shape, macs",
    [
        ("x = input 6,4\nw = f32[4,8]{1}\ny = MatMul(x, w)", (6, 8), 6 * 4 * 8),
        ("x = input ?,4\nw = f32[4,8]{1}\ny = MatMul(x, w)", (None, 8), 4 * 8),
        (
            "x = input 7,1,6,4\nw = f32[3,4,8]{1}\ny = BatchMatMulV2(x, w)",
            (7, 3, 6, 8),
            3 * 6 * 4 * 8,
        ),
        (
            "x = input 7,4,6\nw = f32[7,8,4]{1}\ny = BatchMatMulV3(x, w) adj_x=true adj_y=true",
            (7, 6, 8),
            6 * 4 * 8,
        ),
        (
            'x = input ?,6,4\nw = f32[4,2,3]{1}\ny = Einsum(x, w) equation="abc,cde->abde" N=2',
            (None, 6, 2, 3),
            6 * 4 * 2 * 3,
        ),
        ('x = input 5,6,4\ny = Einsum(x) equation="a...->...a" N=1', (6, 4, 5), 0),
    ],
)
def test_shapes_and_cost(text: str, shape: Tuple[Optional[int], ...], macs: int) -> None:
    graph = tiny(text + "\n")
    assert gs.analyse(graph).fact(gs.Port("y")).shape == shape
    assert gs.cost(graph).macs == macs
