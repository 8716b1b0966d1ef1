"""Scores of groups: where weights are read, how bindings are aggregated, and how groups compare."""

from __future__ import annotations

from typing import Iterator, List, Sequence

import numpy as np
import pytest
from scoring import (
    NORMS,
    PLAIN,
    RESIDUAL,
    call,
    custom,
    filters,
    half_normed,
    normed,
    scored,
    with_numbers,
)
from tiny import constant, tiny

import graphslim as gs
from graphslim.errors import PlanError
from graphslim.scoring import AGGREGATES, find_criterion, registry, score
from graphslim.scoring.scores import aggregated


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_CRITERIA", dict(registry._CRITERIA))
    yield


# ---------------------------------------------------------------------- what layers hold


def test_filters_are_read_from_any_axis() -> None:
    matrix = np.arange(1.0, 13).reshape(3, 4)
    plain = """
        x = input 2,3
        w = f32[{0}]{{random 1}}
        y = MatMul(x, w) transpose_b={1}
        r = Relu(y)
        v = f32[4,2]{{random 2}}
        z = MatMul(r, v)
    """
    for text, numbers in ((("3,4", "false"), matrix), (("4,3", "true"), matrix.T)):
        graph = with_numbers(tiny(plain.format(*text)), "w", numbers)
        assert scored(graph, "l1").own["y"].tolist() == matrix.sum(axis=0).tolist()


def test_filters_of_a_transposed_convolution() -> None:
    graph = tiny("""
        x = input 1,4,4,3
        size = i32[4]{1 4 4 4}
        w = f32[1,1,4,3]{1 1 1 2 2 2 3 3 3 4 4 4}
        y = Conv2DBackpropInput(size, w, x)
        r = Relu(y)
        v = f32[1,1,4,2]{random 2}
        z = Conv2D(r, v)
    """)
    assert scored(graph, "l1").own["y"].tolist() == [3.0, 6.0, 9.0, 12.0]


def test_a_filter_in_groups_is_not_padded_with_zeros() -> None:
    """Channel j of both groups is one channel; its filters stand in one row."""
    graph = tiny("""
        x = input 1,4,4,4
        p = f32[1,1,4,4]{random 3}
        a = Conv2D(x, p)
        w = f32[1,1,2,4]{1 2 3 4 1 2 3 4}
        y = Conv2D(a, w)
        r = Relu(y)
        v = f32[1,1,4,2]{random 2}
        z = Conv2D(r, v)
    """)
    found = scored(graph, "l1").own["y"]
    assert found.tolist() == [8.0, 12.0]
    assert scored(graph, "redundancy").own["y"].tolist() == [0.5, 0.5]


def test_positions_of_one_channel_are_pooled() -> None:
    """A pixel shuffle ties four filters to one channel."""
    graph = tiny("""
        x = input 1,4,4,1
        w = f32[1,1,1,8]{1 10 2 20 3 30 4 40}
        y = Conv2D(x, w)
        d = DepthToSpace(y)
        v = f32[1,1,2,2]{random 2}
        z = Conv2D(d, v)
    """)
    assert scored(graph, "l1").own["y"].tolist() == [10.0, 100.0]
    assert scored(graph, "l2").own["y"] == pytest.approx([30**0.5, 3000**0.5])


def test_weights_that_several_ops_read_count_once() -> None:
    graph = tiny("""
        x = input 1,6,6,3
        w = f32[1,1,3,4]{random 1}
        i = Identity(w)
        a = Conv2D(x, w)
        b = Conv2D(x, i)
        y = AddV2(a, b)
        v = f32[1,1,4,2]{random 3}
        z = Conv2D(y, v)
    """)
    assert scored(graph, "l1", aggregate="sum").own["a"] == pytest.approx(
        np.abs(filters(graph)).sum(axis=1)
    )


def test_quantised_weights_are_read_as_the_op_reads_them() -> None:
    graph = tiny("""
        x = input 1,6,6,1
        q = f32[1,1,1,4]{random 1}
        low = f32[]{-1}
        high = f32[]{1}
        w = Dequantize(q, low, high) T=quint8 mode="MIN_COMBINED"
        y = Conv2D(x, w)
        r = Relu(y)
        v = f32[1,1,4,2]{random 2}
        z = Conv2D(r, v)
    """)
    stored = np.array([0, 51, 204, 255], np.uint8).reshape(1, 1, 1, 4)
    graph.set_attr("q", "dtype", gs.DType.quint8)
    graph.set_attr("q", "value", gs.Tensor.of(stored, gs.DType.quint8))
    assert scored(graph, "l1").own["y"] == pytest.approx([1.0, 0.6, 0.6, 1.0])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_floats_are_read_as_numbers(dtype: str) -> None:
    graph = tiny("""
        x = input 1,6,6,1
        w = f32[1,1,1,4]{1 -2 0.5 4}
        y = Conv2D(x, w)
        r = Relu(y)
        v = f32[1,1,4,2]{random 2}
        z = Conv2D(r, v)
    """)
    numbers = gs.Tensor.from_numbers(constant(graph, "w"), gs.DType[dtype])
    graph.set_attr("w", "value", numbers)
    assert scored(graph, "l1").own["y"].tolist() == [1.0, 2.0, 0.5, 4.0]


def test_weights_that_are_not_finite_are_refused_behind_a_computation() -> None:
    graph = tiny("""
        x = input 1,6,6,3
        w = f32[1,1,3,4]{random 1}
        g = f32[4]{1 1 1 1}
        f = Mul(w, g)
        y = Conv2D(x, f)
        v = f32[1,1,4,2]{random 2}
        z = Conv2D(y, v)
    """)
    assert scored(graph, "l1").own["y"] == pytest.approx(np.abs(filters(graph)).sum(axis=1))
    with_numbers(graph, "g", [1, 1, np.nan, 1])
    with pytest.raises(PlanError, match="^g: 1 of its weights"):
        scored(graph, "l1")


def test_weights_that_depend_on_the_input_are_not_scored() -> None:
    graph = tiny("""
        x = input 1,6,6,3
        u = input 1
        w = f32[1,1,3,4]{random 1}
        f = Mul(w, u)
        y = Conv2D(x, f)
        v = f32[1,1,4,2]{random 2}
        z = Conv2D(y, v)
        q = f32[1,1,2,2]{random 3}
        o = Conv2D(z, q)
    """)
    found = scored(graph, "l1")
    assert list(found.own) == ["z"]
    assert found.missing == {"y": "no constant filters make its channels"}


def test_fake_quantised_weights_are_scored() -> None:
    graph = tiny("""
        x = input 1,6,6,3
        w = f32[1,1,3,4]{random 1}
        f = FakeQuantWithMinMaxArgs(w) min=-6.0 max=6.0 num_bits=8 narrow_range=false
        y = Conv2D(x, f)
        v = f32[1,1,4,2]{random 2}
        z = Conv2D(y, v)
    """)
    assert scored(graph, "l1").own["y"] == pytest.approx(
        np.abs(filters(graph)).sum(axis=1), abs=3 * 12 / 255
    )


def test_weights_outside_the_groups_wanted_may_be_anything() -> None:
    graph = tiny(PLAIN)
    with_numbers(graph, "v", np.full(8, np.nan))
    assert list(scored(graph, "l1").own) == ["y"]


def test_consumers_and_followers_can_be_scored() -> None:
    graph = normed(NORMS["fused"])
    custom("reads", roles=("consumer",))
    custom("vectors", roles=("follower",))
    reads = constant(graph, "v")[0, 0].astype(np.float64).sum(axis=1)
    assert scored(graph, "reads").own["y"] == pytest.approx(reads)
    gamma = constant(graph, "gamma").astype(np.float64)
    assert scored(graph, "vectors", aggregate="first").own["y"] == pytest.approx(gamma)


# ---------------------------------------------------------------------- aggregation and ranking


_A, _B = np.array([1.0, 2, 3, 2]), np.array([30.0, 10, 10, 30])  # means 2 and 20
_AGGREGATED = {
    "mean": (_A / 2 + _B / 20) / 2 * 2,
    "sum": (_A / 2 + _B / 20) * 2,
    "max": np.maximum(_A / 2, _B / 20) * 2,
    "product": (_A / 2) * (_B / 20) * 2,
    "first": _A,
}


def residual(first: Sequence[float], second: Sequence[float]) -> gs.Graph:
    graph = with_numbers(tiny(RESIDUAL), "w", np.array([first] * 3) / 3.0)
    return with_numbers(graph, "u", np.array([second] * 27) / 27.0)


def test_every_aggregate_is_tested() -> None:
    assert set(AGGREGATES) == set(_AGGREGATED)


@pytest.mark.parametrize("aggregate", list(_AGGREGATED))
def test_no_binding_drowns_another(aggregate: str) -> None:
    found = scored(residual(list(_A), list(_B)), "l1", aggregate=aggregate)
    expected = _AGGREGATED[aggregate]
    assert found.own["a"] == pytest.approx(expected, rel=1e-6)
    assert found.rank["a"] == pytest.approx(expected / expected.mean(), rel=1e-6)


@pytest.mark.parametrize(
    "aggregate, expected",
    [("mean", [1 / 2, 3 / 4]), ("max", [1.0, 1.0]), ("first", [0.0, 0.5]), ("product", [0, 0.5])],
)
def test_shares_are_aggregated_as_they_are(aggregate: str, expected: List[float]) -> None:
    rule = find_criterion("redundancy")
    own, rank = aggregated(np.array([[0.0, 0.5], [1.0, 1.0]]), rule, aggregate)
    assert own.tolist() == expected
    assert rank.tolist() == [1 - share for share in expected]


def test_one_binding_keeps_the_criterions_own_numbers() -> None:
    graph = tiny(PLAIN)
    found = scored(graph, "l1")
    expected = np.abs(filters(graph)).sum(axis=1)
    assert found.own["y"].tolist() == expected.tolist()
    assert found.rank["y"] == pytest.approx(expected / expected.mean())


def test_scores_that_compare_are_ranked_as_they_are() -> None:
    graph = tiny(PLAIN)
    assert scored(graph, "lamp").rank["y"] == pytest.approx(call("lamp", filters(graph)))
    assert scored(graph, "redundancy").rank["y"] == pytest.approx(
        1 - call("redundancy", filters(graph))
    )


def test_negative_scores_keep_their_order() -> None:
    custom()
    graph = with_numbers(tiny(PLAIN), "w", np.tile([-4.0, -1.0, -3.0, 1.0], 27))
    found = scored(graph, "mine")
    assert np.argsort(found.rank["y"]).tolist() == [0, 2, 1, 3]
    assert found.rank["y"] == pytest.approx(found.own["y"] / np.abs(found.own["y"]).mean())


def test_a_group_of_zeros_ranks_at_zero() -> None:
    graph = with_numbers(tiny(PLAIN), "w", np.zeros(108))
    assert scored(graph, "l1").rank["y"].tolist() == [0.0] * 4


def test_scores_do_not_depend_on_which_groups_are_wanted() -> None:
    graph = half_normed(NORMS["fused"])
    channels = gs.analyse(graph)
    for name in ("random", "fpgm", "lamp"):
        every = score(graph, channels, channels.groups, name).own
        one = [group for group in channels.groups if group.id == "z"]
        assert score(graph, channels, one, name).own["z"].tolist() == every["z"].tolist()


def test_no_groups_have_no_scores() -> None:
    graph = tiny(PLAIN)
    assert score(graph, gs.analyse(graph), [], "l1").own == {}


def test_an_unknown_aggregate_is_refused() -> None:
    with pytest.raises(PlanError, match="aggregate: no way to aggregate called 'median'"):
        scored(tiny(PLAIN), "l1", aggregate="median")
