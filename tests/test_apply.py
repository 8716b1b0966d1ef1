"""Carrying out plans: nothing, anything at random, and plans that do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest
from tiny import constant, groups, tiny

import graphslim as gs
from graphslim.errors import PlanError, VerifyError
from graphslim.plans import Plan, plan_given
from graphslim.rewrite import zero_consumers
from graphslim.runtime import Session
from graphslim.testing import (
    assert_identical,
    assert_mask_equivalent,
    random_plan,
    round_trip,
    to_text,
)

SHARED = Path(__file__).resolve().parents[2] / "shared"
REAL = ("mobilepose/*.pb", "graphs/*.pb")

IR_SE = """
x = input 1,8,8,4
e/w = f32[1,1,4,12]{random 1}
e = Conv2D(x, e/w)
e/b = f32[12]{random 2}
eb = BiasAdd(e, e/b)
er = Relu6(eb)
d/w = f32[3,3,12,1]{random 3}
d = DepthwiseConv2dNative(er, d/w)
n/s = f32[12]{random 4}
n/b = f32[12]{random 5}
n/m = f32[12]{random 6}
n/v = f32[12]{2}
dn = FusedBatchNorm(d, n/s, n/b, n/m, n/v)
dr = Relu6(dn)
m = i32[2]{1 2}
p = Mean(dr, m) Tidx=int32 keep_dims=false
t = i32[4]{-1 1 1 12}
pr = Reshape(p, t) Tshape=int32
s/w = f32[1,1,12,6]{random 7}
s = Conv2D(pr, s/w)
sr = Relu(s)
g/w = f32[1,1,6,12]{random 8}
g = Conv2D(sr, g/w)
gs = Sigmoid(g)
y = Mul(gs, dr)
j/w = f32[1,1,12,4]{random 9}
j = Conv2D(y, j/w)
o = AddV2(j, x)
"""
SHUFFLED = """
x = input 1,4,4,3
a/w = f32[3,3,3,16]{random 1}
a = Conv2D(x, a/w)
a/b = f32[16]{random 2}
b = BiasAdd(a, a/b)
u = DepthToSpace(b)
c/w = f32[3,3,4,5]{random 3}
c = Conv2D(u, c/w)
k = SpaceToDepth(c)
f/w = f32[1,1,20,2]{random 4}
f = Conv2D(k, f/w)
"""
JOINED = """
x = input 1,6,6,3
a/w = f32[3,3,3,6]{random 1}
a = Conv2D(x, a/w)
b/w = f32[1,1,3,4]{random 2}
b = Conv2D(x, b/w)
n = i32[]{3}
c = ConcatV2(a, b, n) Tidx=int32
r = Relu(c)
d/w = f32[3,3,10,6]{random 3}
d = Conv2D(r, d/w)
e = AddV2(d, a)
c2 = ConcatV2(r, e, n) Tidx=int32
f = MaxPool(c2)
t = i32[2]{1 -1}
h = Reshape(f, t) Tshape=int32
h/w = f32[576,5]{random 4}
o = MatMul(h, h/w)
"""
NETWORKS: Dict[str, str] = {"ir and se": IR_SE, "pixel shuffle": SHUFFLED, "concat": JOINED}


def real() -> Any:
    paths = sorted(path for pattern in REAL for path in SHARED.glob(pattern))
    skip = pytest.mark.skip(reason="the real networks are not beside the checkout")
    return [pytest.param(path, id=path.stem) for path in paths] or [
        pytest.param(None, id="shared", marks=skip)
    ]


# ------------------------------------------------------------------ oracles 1 and 3


@pytest.mark.tf
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_empty_plan_changes_no_bit(name: str) -> None:
    graph = tiny(NETWORKS[name])
    slim = gs.apply(graph, plan_given(graph, {}))
    assert to_text(slim) == to_text(graph)
    assert_identical(graph, round_trip(slim))


@pytest.mark.tf
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_random_plan_is_equivalent_to_its_mask(name: str, seed: int) -> None:
    graph = tiny(NETWORKS[name])
    before = to_text(graph)
    plan = random_plan(graph, seed, ratio=(0.3, 0.5, 0.7, 0.9)[seed])
    assert plan.removed > 0
    slim = assert_mask_equivalent(graph, plan, tolerance=1e-5)
    assert gs.cost(slim) == gs.Cost(plan.params[1], plan.macs[1])
    assert to_text(graph) == before, "the graph that was given has changed"


@pytest.mark.tf
def test_the_oracle_notices_a_wrong_cut() -> None:
    """Another channel than the plan's is not equivalent to the plan's mask."""
    graph = tiny(IR_SE)
    plan, other = plan_given(graph, {"e": [3]}), plan_given(graph, {"e": [4]})
    assert not gs.verify(graph, gs.apply(graph, other), plan=plan).ok


@pytest.mark.tf
@pytest.mark.parametrize("path", real())
def test_real_network_under_a_random_plan(path: Path) -> None:
    graph = gs.load(str(path))
    try:
        Session(graph)
    except VerifyError as error:
        pytest.skip(str(error))
    plan = random_plan(graph, seed=1)
    assert plan.params[1] < 0.5 * plan.params[0]
    assert_mask_equivalent(graph, plan)


def test_mask_zeroes_what_reads_the_channels_and_nothing_else() -> None:
    """Not the filters that make them, their biases or what follows them."""
    graph = tiny(
        "x = input 1,4,4,4\na/w = f32[1,1,4,8]{random 1}\na = Conv2D(x, a/w)\n"
        "b/w = f32[1,1,8,6]{random 2}\nb = Conv2D(a, b/w)\nb/b = f32[6]{random 3}\n"
        "c = BiasAdd(b, b/b)\nd/w = f32[1,1,6,3]{random 4}\nd = Conv2D(c, d/w)\noutput d\n"
    )
    masked = zero_consumers(graph, plan_given(graph, {"b": [1, 4]}))
    changed = [
        node.name
        for node in graph
        if node.op == "Const" and (constant(masked, node.name) != constant(graph, node.name)).any()
    ]
    assert changed == ["d/w"]
    rows = (constant(masked, "d/w") == 0).all(axis=(0, 1, 3))
    assert np.flatnonzero(rows).tolist() == [1, 4]


def test_masked_original_keeps_its_shapes() -> None:
    graph = tiny(IR_SE)
    masked = zero_consumers(graph, plan_given(graph, {"e": [0, 5]}))
    assert (constant(masked, "j/w")[0, 0, [0, 5]] == 0).all()
    assert (constant(masked, "s/w")[0, 0, [0, 5]] == 0).all()
    assert np.count_nonzero(constant(masked, "j/w")) == 10 * 4
    np.testing.assert_array_equal(constant(masked, "e/w"), constant(graph, "e/w"))


# ------------------------------------------------------------------ plans that do not fit


def edited(graph: gs.Graph, change: Callable[[Dict[str, Any]], None]) -> Plan:
    tree = json.loads(plan_given(graph, {"e": [1, 2]}).to_json())
    change(tree)
    return Plan.from_json(json.dumps(tree))


def drop_binding(tree: Dict[str, Any]) -> None:
    tree["groups"][0]["bindings"].pop(0)


def shift_binding(tree: Dict[str, Any]) -> None:
    tree["groups"][0]["bindings"][0]["removed"] = [1, 3]


def other_group(tree: Dict[str, Any]) -> None:
    tree["groups"][0]["id"] = "nowhere"


def other_width(tree: Dict[str, Any]) -> None:
    tree["groups"][0]["channels"] = 16


def pinned(tree: Dict[str, Any]) -> None:
    tree["groups"][0].update(id="j", channels=4)


def everything(tree: Dict[str, Any]) -> None:
    tree["groups"][0]["removed"] = list(range(12))


def beyond(tree: Dict[str, Any]) -> None:
    tree["groups"][0]["removed"] = [1, 12]


def unknown_fold(tree: Dict[str, Any]) -> None:
    tree["folds"] = [{"node": "nowhere", "indices": [1], "values": [1.0]}]


def fold_of_a_kept_channel(tree: Dict[str, Any]) -> None:
    tree["folds"] = [{"node": "j", "indices": [3], "values": [1.0]}]


def fold_beyond(tree: Dict[str, Any]) -> None:
    tree["folds"] = [{"node": "j", "indices": [99], "values": [1.0]}]


def uneven_fold(tree: Dict[str, Any]) -> None:
    tree["folds"] = [{"node": "j", "indices": [1, 2], "values": [1.0]}]


@pytest.mark.parametrize(
    "change, message",
    [
        (drop_binding, "disagree about axis"),
        (shift_binding, "disagree about axis"),
        (other_group, "nowhere: .*no such group"),
        (other_width, "e: .*16 channels.*has 12"),
        (pinned, r"j: cannot be pruned: .*\(x\)|j: cannot be pruned: .*\(o\)"),
        (everything, "e: would lose all its channels"),
        (beyond, "e: has only 12 channels, 12 is none of them"),
        (unknown_fold, "nowhere: has no constant weights"),
        (fold_of_a_kept_channel, "j: .*does not remove"),
        (fold_beyond, "j: .*does not remove"),
        (uneven_fold, "j: "),
    ],
)
def test_plan_that_does_not_fit_is_refused(
    change: Callable[[Dict[str, Any]], None], message: str
) -> None:
    graph = tiny(IR_SE)
    for run in (gs.apply, zero_consumers):
        with pytest.raises(PlanError, match=message):
            run(graph, edited(graph, change))


def test_plan_of_another_model_needs_force() -> None:
    graph = tiny(IR_SE)
    plan = plan_given(graph, {"e": [1, 2]})._replace(model={"name": "other", "sha256": "0" * 64})
    with pytest.raises(PlanError, match="made for other.*force=True"):
        gs.apply(graph, plan)
    slim = gs.apply(graph, plan, force=True)
    assert constant(slim, "e/w").shape == (1, 1, 4, 10)


def test_plan_survives_json_and_is_deterministic() -> None:
    plan = random_plan(tiny(JOINED), seed=3)
    text = plan.to_json()
    assert Plan.from_json(text).to_json() == text
    assert random_plan(tiny(JOINED), seed=3).to_json() == text
    graph = tiny(JOINED)
    assert to_text(gs.apply(graph, Plan.from_json(text))) == to_text(gs.apply(graph, plan))


# ------------------------------------------------------------------ what states a width


def test_stale_output_shapes_are_mended() -> None:
    graph = tiny(
        "x = input 1,4,4,2\na/w = f32[1,1,2,8]{random 1}\n"
        "a = Conv2D(x, a/w) _output_shapes=[<1,4,4,8>]\nr = Relu(a) _output_shapes=[<?,?,?,8>]\n"
        "q = Relu(r) _output_shapes=[<*>]\n"
        "z/w = f32[1,1,8,3]{random 2}\nz = Conv2D(q, z/w) _output_shapes=[<1,4,4,3>]\n"
    )
    slim = gs.apply(graph, plan_given(graph, {"a": [0, 7]}))
    shapes = {node.name: node.attrs.get("_output_shapes") for node in slim}
    assert shapes["a"] == [gs.Shape((1, 4, 4, 6))]
    assert shapes["r"] == [gs.Shape((None, None, None, 6))]
    assert shapes["q"] == [gs.Shape(None)]
    assert shapes["z"] == [gs.Shape((1, 4, 4, 3))]
    assert "_output_shapes" not in slim["z"].attrs.changed


TARGETS = """
x = input 1,4,4,2
a/w = f32[1,1,2,8]{random 1}
a = Conv2D(x, a/w)
m = i32[2]{1 2}
p = Mean(a, m) Tidx=int32 keep_dims=false
%s
q = Reshape(p, t) Tshape=int32
z/w = f32[1,1,8,3]{random 2}
z = Conv2D(q, z/w)
v/w = f32[1,1,2,8]{random 3}
v = Conv2D(x, v/w)
vp = Mean(v, m) Tidx=int32 keep_dims=false
k = Reshape(vp, t) Tshape=int32
k2 = Relu(k)
"""
PACKED = """
one = i32[]{1}
c = i32[]{8}
t = Pack(one, one, one, c) axis=0 T=int32
"""


@pytest.mark.tf
@pytest.mark.parametrize(
    "how", ["t = i32[4]{1 1 1 8}", "t0 = i32[4]{-1 1 1 8}\nt = Identity(t0) T=int32", PACKED]
)
def test_shape_shared_by_two_readers_is_split(how: str) -> None:
    """Only one reader's width changes (the other is an output): it gets a copy of its own."""
    graph = tiny(TARGETS % how)
    assert not groups(graph)["v"].prunable
    slim = assert_mask_equivalent(graph, plan_given(graph, {"a": [1, 2, 3]}), tolerance=1e-5)
    assert len(slim) > len(graph), "nothing was split"


@pytest.mark.tf
def test_number_that_is_a_height_and_a_width_of_channels_is_told_apart() -> None:
    """One literal 4 is both, in one target: the channels get one of their own."""
    graph = tiny(
        "x = input 1,4,4,2\na/w = f32[1,1,2,4]{random 1}\na = Conv2D(x, a/w)\n"
        "one = i32[]{1}\nfour = i32[]{4}\nt = Pack(one, four, four, four) axis=0 T=int32\n"
        "b = Reshape(a, t) Tshape=int32\nz/w = f32[1,1,4,3]{random 2}\nz = Conv2D(b, z/w)\n"
    )
    slim = assert_mask_equivalent(graph, plan_given(graph, {"a": [1]}), tolerance=1e-5)
    assert constant(slim, "four") == 4
    assert constant(slim, "four/resized") == 3


@pytest.mark.tf
def test_shape_of_one_reader_is_rewritten_in_place() -> None:
    text = TARGETS.replace("\nk = ", "\n# k = ").replace("\nk2 = ", "\n# k2 = ")
    for how in ("t = i32[4]{1 1 1 8}", PACKED):
        graph = tiny(text % how)
        slim = assert_mask_equivalent(graph, plan_given(graph, {"a": [1, 2, 3]}), tolerance=1e-5)
        assert [node.name for node in slim] == [node.name for node in graph]


@pytest.mark.parametrize("damage", [{"removed": ["a"]}, {"removed": None}, {"bindings": [1]}])
def test_a_plan_of_wrong_types_is_refused(damage: dict) -> None:
    group = {"id": "g", "channels": 2, "removed": [0], "bindings": []}
    tree = {
        "format": "graphslim-plan",
        "version": 1,
        "model": {},
        "settings": {},
        "groups": [{**group, **damage}],
        "totals": {"params": [1, 1], "macs": [1, 1]},
    }
    with pytest.raises(PlanError, match=r"groups\[0\]\.(removed|bindings)"):
        Plan.from_json(json.dumps(tree), "plan.json")


@pytest.mark.tf
@pytest.mark.parametrize("bias", ["f32[1,1,1,4]{0.5 -1 2 3}", "f32[4]{0.5 -1 2 3}"])
def test_a_squeeze_does_not_drop_the_only_channel_that_is_left(bias: str) -> None:
    """Keras squeezes biases: all axes of size 1 go, and a single channel is one more."""
    graph = tiny(f"""
        x = input 1,4,4,2
        w = f32[1,1,2,4]{{random 1}}
        conv = Conv2D(x, w)
        stored = {bias}
        bias = Squeeze(stored)
        shifted = BiasAdd(conv, bias)
        relu = Relu(shifted)
        v = f32[1,1,4,3]{{random 2}}
        y = Conv2D(relu, v)
    """)
    plan = gs.plan(graph, removed={"conv": [0, 1, 3]})
    slim = gs.apply(graph, plan)
    assert gs.verify(graph, slim, plan=plan).ok
    again = gs.plan(graph, removed={"conv": [0, 1]})
    assert gs.apply(graph, again)["bias"].op == "Squeeze"
    assert not gs.apply(graph, again)["bias"].ints("squeeze_dims")
