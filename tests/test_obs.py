"""The criterion `obs`: costs against brute force, and what is measured of layers for it."""

from __future__ import annotations

from typing import List, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from random_nets import Recipe, build, recipes
from tiny import groups, tiny

import graphslim as gs
from graphslim.errors import GraphslimError, PlanError
from graphslim.measure.moments import measure_moments
from graphslim.measure.samples import Samples
from graphslim.plans import Selection, per_saving
from graphslim.runtime import version
from graphslim.scoring import elimination
from graphslim.scoring.elimination import Moments, elimination_costs
from graphslim.scoring.registry import find_criterion


def random_layer(
    rng: np.random.RandomState, channels: int, taps: int = 1, others: int = 0, outputs: int = 3
) -> Moments:
    """A layer that reads correlated channels of a group, and some of other groups."""
    width = channels + others
    rows = rng.normal(size=(400, taps * width)) @ rng.normal(size=(taps * width, taps * width))
    errors = rng.normal(size=(20, outputs))
    channel = np.tile(np.r_[rng.permutation(channels), np.full(others, -1)], taps)
    weights = rng.normal(size=(taps * width, outputs))
    return Moments(channel, weights, np.cov(rows.T), errors.T @ errors)


def brute(readers: Sequence[Moments], gone: Sequence[int]) -> float:
    """What is left of the error when channels are gone and the other weights are fitted anew."""
    total = 0.0
    for reader in readers:
        size = len(reader.covariance)
        ridge = elimination.DAMPING * np.trace(reader.covariance) / size
        out = np.isin(reader.channel, gone)
        change = np.where(out[:, None], -reader.weights, 0.0)
        square = reader.covariance[np.ix_(~out, ~out)] + ridge * np.eye(int((~out).sum()))
        wanted = -(reader.covariance @ change)[~out]
        change[~out] = np.linalg.solve(square, wanted)
        error = change.T @ reader.covariance @ change
        error += ridge * change[~out].T @ change[~out]
        total += float((error * reader.sensitivity).sum())
    return total


def greedy(channels: int, readers: Sequence[Moments]) -> List[float]:
    """The costs by elimination, each from least squares."""
    costs, gone = np.zeros(channels), []  # type: ignore[var-annotated]
    while len(gone) < channels:
        left = [channel for channel in range(channels) if channel not in gone]
        errors = [brute(readers, [*gone, channel]) for channel in left]
        gone.append(left[int(np.argmin(errors))])
        costs[gone[-1]] = min(errors)
    return list(costs)


@pytest.mark.parametrize("taps, others", [(1, 0), (1, 3), (4, 0), (4, 2)])
def test_costs_and_their_order_are_those_of_brute_force(taps: int, others: int) -> None:
    rng = np.random.RandomState(taps + others)
    readers = [random_layer(rng, 6, taps, others), random_layer(rng, 6, 1, 1, 2)]
    costs = elimination_costs(6, readers)
    np.testing.assert_allclose(costs, greedy(6, readers), rtol=1e-6)
    assert np.isclose(costs.min(), min([brute(readers, [channel]) for channel in range(6)]))


def test_what_others_say_already_goes_first_and_once() -> None:
    rng = np.random.RandomState(0)
    rows = rng.normal(size=(500, 6))
    rows[:, 4] = rows[:, 0] - 2 * rows[:, 1]
    rows[:, 5] = rows[:, 2]
    reader = Moments(np.arange(6), rng.normal(size=(6, 2)), np.cov(rows.T), np.eye(2))
    order = np.argsort(elimination_costs(6, [reader]), kind="stable")
    assert len({0, 1, 4} & set(order[:2])) == 1 and len({2, 5} & set(order[:2])) == 1


def test_twins_among_many_channels_are_cheap_once() -> None:
    rng = np.random.RandomState(1)
    half = rng.normal(size=(800, 80))
    rows = np.concatenate([half, half], 1)
    weights = rng.uniform(1, 2, size=(160, 2))
    reader = Moments(np.arange(160), weights, np.cov(rows.T), np.eye(2))
    costs = elimination_costs(160, [reader])
    first = np.argsort(costs, kind="stable")[:80]
    assert sorted((first % 80).tolist()) == list(range(80))
    assert costs[first].max() < 0.01 * costs.max()


def test_many_channels_go_nearly_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = random_layer(np.random.RandomState(2), 130)
    quick = elimination_costs(130, [reader])
    monkeypatch.setattr(elimination, "_AT_ONCE", 1000)
    exact = elimination_costs(130, [reader])
    orders = [set(np.argsort(costs)[:65].tolist()) for costs in (quick, exact)]
    assert len(orders[0] & orders[1]) > 55
    assert np.sort(quick)[64] < 1.1 * np.sort(exact)[64]


def test_channels_that_are_dead_cost_nothing() -> None:
    reader = random_layer(np.random.RandomState(3), 5)
    covariance, weights = reader.covariance.copy(), reader.weights.copy()
    at = [int(np.flatnonzero(reader.channel == channel)[0]) for channel in (1, 3)]
    covariance[at[0]], covariance[:, at[0]], weights[at[1]] = 0, 0, 0
    costs = elimination_costs(5, [reader._replace(covariance=covariance, weights=weights)])
    assert costs[1] == 0 and costs[3] == 0 and (costs[[0, 2, 4]] > 0).all()
    nothing = reader._replace(covariance=np.zeros((5, 5)), sensitivity=np.zeros((3, 3)))
    assert elimination_costs(5, [nothing]).tolist() == [0.0] * 5


def test_channels_with_other_numbers_of_rows() -> None:
    rng = np.random.RandomState(4)
    reader = random_layer(rng, 8)._replace(channel=np.array([0, 0, 1, 2, 2, 3, -1, 0]))
    np.testing.assert_allclose(elimination_costs(4, [reader]), greedy(4, [reader]), rtol=1e-6)


# ------------------------------------------------------------------- measured in TensorFlow

NET = """
    x = input ?,3,3,2
    w = f32[1,1,2,6]{random 1}
    b = f32[6]{-0.2 0.1 0 0.3 0.1 -0.1}
    conv = Conv2D(x, w)
    biased = BiasAdd(conv, b)
    relu = Relu(biased)
    v = f32[1,1,6,3]{random 2}
    c = f32[3]{0 0 0}
    next = Conv2D(relu, v)
    y = BiasAdd(next, c)
"""


def images(*shape: int, count: int = 300) -> np.ndarray:
    rng = np.random.RandomState(3)
    return rng.uniform(-1, 1, (count, *(shape or (3, 3, 2)))).astype(np.float32)


def scored(graph: gs.Graph, x: np.ndarray, group: str = "conv") -> np.ndarray:
    (scores,) = measure_moments(
        graph,
        gs.analyse(graph),
        [groups(graph)[group]],
        find_criterion("obs"),
        data=Samples({graph.inputs[0]: x}, batch=32),
    )[group]
    return scores


@pytest.mark.tf
def test_a_score_is_the_share_of_the_output_that_no_fitting_brings_back() -> None:
    graph, x = tiny(NET), images()
    w, b, v = [graph[name].attrs["value"].numbers().astype(np.float64) for name in "wbv"]
    relu = np.maximum(x.reshape(-1, 2) @ w[0, 0] + b, 0)
    y = relu @ v[0, 0]
    losses = []
    for channel in range(6):
        rest = np.c_[np.delete(relu, channel, 1), np.ones(len(relu))]
        left = y - rest @ np.linalg.lstsq(rest, y, rcond=None)[0]
        losses.append(np.square(left).sum() / np.square(y).sum())
    scores = scored(graph, x)
    assert np.argmin(scores) == np.argmin(losses)
    assert scores.min() == pytest.approx(min(losses), rel=0.15)


@pytest.mark.tf
def test_an_nchw_graph_and_a_fixed_batch_score_alike() -> None:
    x = images()
    plain = scored(tiny(NET), x)
    turned = NET.replace("?,3,3,2", "?,2,3,3")
    for op in ("Conv2D(x, w)", "BiasAdd(conv, b)", "Conv2D(relu, v)", "BiasAdd(next, c)"):
        turned = turned.replace(op, f'{op} data_format="NCHW"')
    other = scored(tiny(turned), np.transpose(x, (0, 3, 1, 2)))
    np.testing.assert_allclose(other, plain, rtol=0.2)
    np.testing.assert_allclose(scored(tiny(NET.replace("?,3", "50,3")), x), plain, rtol=0.2)
    assert scored(tiny(NET), x).tolist() == plain.tolist()


@pytest.mark.tf
def test_a_layer_reads_channels_of_two_groups_through_a_depthwise_convolution() -> None:
    graph = tiny(
        """
        x = input ?,4,4,2
        w = f32[1,1,2,4]{random 1}
        u = f32[1,1,2,4]{random 4}
        one = Conv2D(x, w)
        other = Conv2D(x, u)
        d = f32[3,3,4,1]{random 5}
        deep = DepthwiseConv2dNative(one, d)
        axis = i32[]{3}
        both = ConcatV2(deep, other, axis)
        relu = Relu(both)
        v = f32[3,3,8,3]{random 2}
        next = Conv2D(relu, v)
        flat = Relu(other)
        t = f32[1,1,4,2]{random 6}
        end = Conv2D(flat, t)
        """
    )
    x = images(4, 4, 2)
    for name in ("one", "other"):
        scores = scored(graph, x, name)
        assert scores.shape == (4,) and (scores > 0).all()
    plan = gs.plan(graph, criterion="obs", ratio=0.5, multiple_of=1, data={"x": x})
    assert plan.removed == 4


@pytest.mark.tf
def test_what_cannot_be_fitted_counts_as_it_is() -> None:
    graph = tiny(
        """
        x = input ?,4,2
        w = f32[2,6]{random 1}
        u = f32[2,6]{random 2}
        q = BatchMatMulV2(x, w)
        k = BatchMatMulV2(x, u)
        y = BatchMatMulV2(q, k) adj_y=true
        """
    )
    x = images(4, 2, count=64)
    w, u = [graph[name].attrs["value"].numbers().astype(np.float64) for name in "wu"]
    parts = np.einsum("eac,ebc->ceab", x @ w, x @ u)
    wanted = np.square(parts).sum((1, 2, 3)) / np.square(parts.sum(0)).sum()
    name = next(iter(groups(graph)))
    scores = scored(graph, x, name)
    np.testing.assert_allclose(np.sort(scores), np.cumsum(np.sort(wanted)), rtol=0.3)


@pytest.mark.tf
def test_a_layer_that_is_used_twice_is_one() -> None:
    graph = tiny(
        """
        x = input ?,3,3,2
        w = f32[1,1,2,6]{random 1}
        conv = Conv2D(x, w)
        relu = Relu(conv)
        v = f32[1,1,6,3]{random 2}
        one = Conv2D(relu, v)
        gate = Sigmoid(relu)
        two = Conv2D(gate, v)
        y = Add(one, two)
        """
    )
    scores = scored(graph, images())
    assert (scores > 0).all() and len(np.unique(scores)) > 3


@pytest.mark.tf
def test_plans_by_budgets_and_by_a_criterion_of_ones_own() -> None:
    graph, x = tiny(NET), {"x": images()}
    scores = scored(graph, x["x"])
    by_ratio = gs.plan(graph, criterion="obs", ratio=0.5, multiple_of=1, data=x, batch=32)
    assert set(by_ratio.groups[0].removed) == set(np.argsort(scores)[:3].tolist())
    threshold = float(np.sort(scores)[2])
    other = gs.plan(graph, criterion="obs", threshold=threshold, multiple_of=1, data=x, batch=32)
    assert len(other.groups[0].removed) == 2
    assert gs.plan(graph, criterion="obs", macs=0.5, multiple_of=1, data=x, batch=32).removed == 3


def test_losses_rank_by_what_they_save() -> None:
    graph = tiny(NET.replace("?,3,3,2", "1,3,3,2"))
    channels = gs.analyse(graph)
    whole = {name: np.ones(len(group)) for name, group in groups(graph).items()}
    args = (graph, channels, list(groups(graph).values()), whole)
    saved = per_saving(*args, Selection(criterion="obs", macs=0.5))
    assert saved["conv"] == pytest.approx(6.0)
    assert per_saving(*args, Selection(criterion="obs", ratio=0.5))["conv"][0] == 1.0
    (params,) = set(per_saving(*args, Selection(criterion="obs", params=0.5))["conv"].tolist())
    assert params == pytest.approx((12 + 6 + 18 + 3) / 6)


@pytest.mark.tf
def test_bad_loss_outputs_and_flat_networks_are_told() -> None:
    with pytest.raises(PlanError, match="no gradient|tells no channel"):
        flat = {"x": 0 * images()}
        gs.plan(tiny(NET), criterion="obs", ratio=0.5, multiple_of=1, data=flat, loss_output="x")
    with pytest.raises(PlanError, match="the graph has no 'nowhere'"):
        gs.plan(tiny(NET), criterion="obs", ratio=0.5, multiple_of=1, loss_output="nowhere")


@pytest.mark.tf
@given(recipes())
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_random_networks_are_planned_or_refused_in_a_line(recipe: Recipe) -> None:
    graph = build(recipe, version().startswith("2"))
    try:
        plan = gs.plan(graph, criterion="obs", ratio=0.4, multiple_of=1)
    except GraphslimError as error:
        assert "\n" not in str(error)
        return
    gs.verify(graph, gs.apply(graph, plan), plan=plan)


def test_covariances_that_are_rounding_errors_are_no_trouble() -> None:
    rng = np.random.RandomState(5)
    noise = rng.normal(size=(6, 6)) * 1e-9
    reader = random_layer(rng, 6)._replace(covariance=noise + noise.T)
    costs = elimination_costs(6, [reader])
    assert np.isfinite(costs).all() and (costs >= 0).all()
