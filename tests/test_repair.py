"""Repair by images without labels: rows of inputs, least squares, distillation, and the gate."""

from __future__ import annotations

import os
import sys
from typing import Any, Dict, List
from unittest import mock

import numpy as np
import pytest
from oracles import structure
from tiny import constant, tiny

import graphslim as gs
from graphslim.channels.groups import Removal, analyse
from graphslim.errors import GraphslimError, PlanError
from graphslim.ir import Tensor
from graphslim.measure.grams import _rows, reader_of
from graphslim.measure.samples import Examples, Samples
from graphslim.measure.shares import Shares, share_out
from graphslim.measure.verify import runnable
from graphslim.plans import fit, plan_given
from graphslim.recovery import distillation, repair, run
from graphslim.recovery.distillation import AT_ONCE, distill
from graphslim.recovery.least_squares import refit
from graphslim.recovery.targets import features_of, targets_of
from graphslim.recovery.weights import weights_of
from graphslim.runtime import Session, library, pupil, tensorflow, train_on_gpus, version
from graphslim.runtime.pupil import Pupil, Target

NET = """
    x = input ?,6,6,3
    w = f32[3,3,3,8]{random 1}
    b = f32[8]{0.1 -0.2 0.3 0 0.1 0.2 -0.1 0.4}
    conv = Conv2D(x, w)
    biased = BiasAdd(conv, b)
    relu = Relu(biased)
    v = f32[1,1,8,4]{random 2}
    c = f32[4]{0.1 0 0 -0.3}
    next = Conv2D(relu, v)
    shifted = BiasAdd(next, c)
    gate = Relu(shifted)
    u = f32[1,1,4,5]{random 3}
    y = Conv2D(gate, u)
"""
GONE = [1, 4, 6]


def images(count: int = 48, *shape: int, seed: int = 3) -> np.ndarray:
    rng = np.random.RandomState(seed)
    return rng.uniform(-1, 1, (count, *(shape or (6, 6, 3)))).astype(np.float32)


def shares_of(graph: gs.Graph, data: np.ndarray, seed: int = 0, batch: int = 8) -> Shares:
    return share_out(Examples(graph, Samples({graph.inputs[0]: data}, batch)), seed, batch)


# --- The shares of the images.


def test_no_image_is_in_two_shares() -> None:
    data = np.arange(40, dtype=np.float32)[:, None, None, None] * np.ones((1, 6, 6, 3), np.float32)
    shares = shares_of(tiny(NET), data)
    numbers = [
        [float(row[0, 0, 0]) for feeds, _ in share for row in feeds["x"]] for share in shares
    ]
    assert [len(part) for part in numbers] == [25, 5, 10]
    assert sorted(sum(numbers, [])) == list(range(40))


def test_shares_follow_the_seed() -> None:
    graph, data = tiny(NET), images()
    first, again, other = [
        np.concatenate([feeds["x"] for feeds, _ in shares_of(graph, data, seed).gate])
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_shares_are_of_whole_batches_where_the_graph_fixes_them() -> None:
    graph = tiny(NET.replace("input ?", "input 4"))
    shares = shares_of(graph, images(26))
    assert [share.count % 4 for share in shares] == [0, 0, 0]
    assert sum([share.count for share in shares]) == 24


def test_too_few_images_are_refused() -> None:
    with pytest.raises(GraphslimError, match="it takes 4 at least"):
        shares_of(tiny(NET), images(3))


def test_examples_in_random_order_are_the_same_examples() -> None:
    examples = Examples(tiny(NET), Samples({"x": images(10)}, 4))
    mixed = examples.drawn(np.random.RandomState(0))
    first, second = [
        np.concatenate([feeds["x"] for feeds, _ in each]) for each in (examples, mixed)
    ]
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.sort(first, axis=0), np.sort(second, axis=0))


# --- Rows of inputs: their product with the weights is what the op computes.

READS = {
    "plain": ("w = f32[3,2,3,4]{random 1}", "y = Conv2D(x, w)"),
    "strides": ("w = f32[3,3,3,4]{random 1}", 'y = Conv2D(x, w) strides=[1,2,3,1] padding="SAME"'),
    "valid": ("w = f32[2,3,3,4]{random 1}", 'y = Conv2D(x, w) padding="VALID" strides=[1,2,2,1]'),
    "dilated": ("w = f32[3,3,3,4]{random 1}", "y = Conv2D(x, w) dilations=[1,2,2,1]"),
    "stated": (
        "w = f32[3,3,3,4]{random 1}",
        'y = Conv2D(x, w) padding="EXPLICIT" explicit_paddings=[0,0,2,1,0,1,0,0]',
    ),
    "product": (
        "w = f32[4,3]{random 1}\n shape = i32[2]{-1 3}\n flat = Reshape(x, shape)",
        "y = MatMul(flat, w) transpose_b=true",
    ),
    "einsum": ("w = f32[3,4]{random 1}", 'y = Einsum(x, w) equation="abcd,de->abce" N=2'),
    "einsum, turned": ("w = f32[4,3]{random 1}", 'y = Einsum(w, x) equation="ed,abcd->abce" N=2'),
    "transposed": (
        "w = f32[3,3,4,3]{random 1}\n n = i32[4]{2 13 10 4}",
        "y = Conv2DBackpropInput(n, w, x) strides=[1,2,2,1]",
    ),
    "transposed, valid": (
        "w = f32[4,2,4,3]{random 1}\n n = i32[4]{2 22 10 4}",
        'y = Conv2DBackpropInput(n, w, x) strides=[1,3,2,1] padding="VALID"',
    ),
}


@pytest.mark.tf
@pytest.mark.parametrize("name", sorted(READS))
def test_rows_times_weights_are_the_sums(name: str) -> None:
    graph = tiny("\n".join(["x = input 2,7,5,3", *READS[name]]))
    if (name == "stated" or "einsum" in name) and not _runs(graph):
        pytest.skip("this TensorFlow has no stated paddings, or no Einsum")
    (contraction,) = analyse(graph).contractions
    reader = reader_of(graph, contraction)
    assert reader is not None
    data = images(2, 7, 5, 3)
    read, made = graph.data_inputs("y")[contraction.data], "y"
    with Session(graph) as session:
        entering, result = session.run({"x": data}, [str(read), made])
    rows = _rows(graph, reader, entering, result.shape, 10**6, np.random.RandomState(0))
    weights = contraction.matrix(constant(graph, "w"))
    sums = rows @ weights.reshape(-1, weights.shape[2])
    np.testing.assert_allclose(sums, result.reshape(-1, result.shape[-1]), atol=1e-5)


def _runs(graph: gs.Graph) -> bool:
    try:
        with Session(graph) as session:
            session.run({"x": images(2, 7, 5, 3)})
    except GraphslimError:
        return False
    return True


# --- Least squares.


def refitted(graph: gs.Graph, plan: gs.Plan, data: np.ndarray) -> Any:
    slim = gs.apply(graph, plan)
    fitted = slim.copy()
    removal = Removal(analyse(graph), fit(graph, plan).removed)
    shares = shares_of(graph, data)
    layers = refit(graph, fitted, plan, removal, runnable(graph), shares)
    return slim, fitted, layers


@pytest.mark.tf
@pytest.mark.parametrize(
    "consumer",
    [
        "v = f32[1,1,8,4]{random 2}\n next = Conv2D(relu, v)",
        "v = f32[3,3,8,4]{random 2}\n next = Conv2D(relu, v)",
        "v = f32[3,3,4,8]{random 2}\n n = i32[4]{1 12 12 4}\n"
        "next = Conv2DBackpropInput(n, v, relu) strides=[1,2,2,1]",
        'v = f32[8,4]{random 2}\n next = Einsum(relu, v) equation="abcd,de->abce" N=2',
    ],
)
def test_what_is_linear_in_what_stays_is_taken_over(consumer: str) -> None:
    graph = tiny(
        f"""
        x = input 1,6,6,3
        w = f32[3,3,3,8]{{random 1}}
        conv = Conv2D(x, w)
        relu = Relu(conv)
        {consumer}
        c = f32[4]{{0.1 0 0 -0.3}}
        y = BiasAdd(next, c)
        """
    )
    # Channels 6 and 7 are sums of others, which Relu leaves so: they read one half of the input.
    numbers = np.abs(constant(graph, "w"))
    numbers[..., 6], numbers[..., 7] = numbers[..., 0] + numbers[..., 2], 2 * numbers[..., 3]
    graph.set_attr("w", "value", graph["w"].attrs["value"].with_numbers(numbers))
    slim, fitted, layers = refitted(graph, plan_given(graph, {"conv": [6, 7]}), np.abs(images()))
    assert [layer.name for layer in layers] == ["next"]
    assert layers[0].after < 1e-6 < 1e-2 < layers[0].before
    data = np.abs(images(4, seed=9))
    whole, cut, repaired = [outputs(each, data) for each in (graph, slim, fitted)]
    assert np.abs(cut - whole).max() > 0.1
    np.testing.assert_allclose(repaired, whole, atol=2e-2)
    assert structure(slim) == structure(fitted)


def outputs(graph: gs.Graph, data: np.ndarray) -> np.ndarray:
    size = analyse(graph).fact(graph.outputs[0]).shape
    parts = [data] if not size or not size[0] else [row[None] for row in data]
    with Session(graph) as session:
        return np.concatenate([session.run({graph.inputs[0]: part})[0] for part in parts])


@pytest.mark.tf
def test_the_mean_of_what_went_goes_into_the_offset() -> None:
    graph = tiny(
        """
        x = input ?,6,6,3
        w = f32[1,1,3,4]{random 1}
        b = f32[4]{5 5 5 5}
        conv = Conv2D(x, w)
        biased = BiasAdd(conv, b)
        v = f32[1,1,4,2]{random 2}
        next = Conv2D(biased, v)
        scale = f32[2]{2 0.5}
        offset = f32[2]{1 1}
        mean = f32[2]{0 3}
        variance = f32[2]{4 1}
        norm = FusedBatchNorm(next, scale, offset, mean, variance)
        """
    )
    slim, fitted, layers = refitted(graph, plan_given(graph, {"conv": [0, 1, 2]}), images())
    whole, cut, repaired = [outputs(each, images(seed=5)) for each in (graph, slim, fitted)]
    assert np.abs((cut - whole).mean((0, 1, 2))).max() > 0.5
    assert np.abs((repaired - whole).mean((0, 1, 2))).max() < 0.1
    assert not np.array_equal(constant(fitted, "offset"), constant(slim, "offset"))


@pytest.mark.tf
def test_groups_are_fitted_apart() -> None:
    graph = tiny(
        """
        x = input ?,6,6,4
        w = f32[1,1,4,8]{random 1}
        conv = Conv2D(x, w)
        v = f32[3,3,4,6]{random 2}
        y = Conv2D(conv, v)
        """
    )
    if version().startswith("1"):
        pytest.skip("TensorFlow 1.15 runs no convolution in groups on a CPU")
    slim, fitted, layers = refitted(graph, plan_given(graph, {"conv": [1]}), images(64, 6, 6, 4))
    assert layers and all(layer.after <= layer.before for layer in layers)
    assert constant(fitted, "v").shape == constant(slim, "v").shape == (3, 3, 3, 6)


@pytest.mark.tf
def test_a_layer_that_gets_no_better_stays_as_it_is() -> None:
    graph = tiny(NET)
    numbers = constant(graph, "v").copy()
    numbers[:, :, GONE] = 0
    graph.set_attr("v", "value", graph["v"].attrs["value"].with_numbers(numbers))
    slim, fitted, layers = refitted(graph, plan_given(graph, {"conv": GONE}), images())
    assert [(layer.penalty, layer.before, layer.after) for layer in layers] == [(None, 0, 0)]
    np.testing.assert_array_equal(constant(slim, "v"), constant(fitted, "v"))


@pytest.mark.tf
def test_layers_that_share_weights_are_fitted_together() -> None:
    graph = tiny(
        """
        x = input ?,6,6,3
        w = f32[1,1,3,8]{random 1}
        conv = Conv2D(x, w)
        v = f32[1,1,8,8]{random 2}
        first = Conv2D(conv, v)
        relu = Relu(first)
        second = Conv2D(relu, v)
        both = Relu(second)
        u = f32[1,1,8,5]{random 3}
        y = Conv2D(both, u)
        """
    )
    (group,) = [group.id for group in analyse(graph).groups if group.prunable]
    slim, fitted, layers = refitted(graph, plan_given(graph, {group: [0, 5]}), images())
    assert [layer.name for layer in layers] == ["first", "y"]
    assert layers[0].after < 0.5 * layers[0].before
    assert structure(slim) == structure(fitted)


@pytest.mark.tf
def test_weights_that_are_read_in_two_ways_are_left() -> None:
    graph = tiny(
        """
        x = input ?,3
        v = f32[3,6]{random 2}
        first = MatMul(x, v)
        w = f32[6,8]{random 1}
        inside = MatMul(first, w)
        relu = Relu(inside)
        back = MatMul(relu, w) transpose_b=true
        again = MatMul(back, w)
        gate = Relu(again)
        u = f32[8,5]{random 3}
        y = MatMul(gate, u)
        """
    )
    groups = [group for group in analyse(graph).groups if group.prunable]
    slim, fitted, layers = refitted(
        graph, plan_given(graph, {group.id: [0, 2] for group in groups}), images(48, 3)
    )
    assert [layer.name for layer in layers] == ["y"]
    assert structure(slim) == structure(fitted)


# --- Weights.


def test_weights_are_kernels_offsets_and_scales() -> None:
    graph = tiny(
        """
        x = input ?,6,6,4
        w = f32[1,1,4,8]{random 1}
        read = Identity(w)
        conv = Conv2D(x, read)
        scale = f32[8]{1}
        offset = f32[8]{0}
        mean = f32[8]{0}
        variance = f32[8]{1}
        norm = FusedBatchNorm(conv, scale, offset, mean, variance)
        d = f32[3,3,8,1]{random 2}
        depth = DepthwiseConv2dNative(norm, d)
        three = f32[]{3}
        raised = AddV2(depth, three)
        slope = f32[1,1,1,8]{0.1}
        sloped = Mul(raised, slope)
        anchors = f32[6,6,8]{random 4}
        y = AddV2(sloped, anchors, ^late)
        late = NoOp(^w, ^scale)
        """
    )
    assert set(weights_of(graph).names) == {"w", "scale", "offset", "d", "slope"}


def retyped(graph: gs.Graph, name: str, dtype: Any) -> None:
    """Gives a constant another element type."""
    tensor = Tensor.of(constant(graph, name).astype(dtype))
    graph.set_attr(name, "value", tensor)
    graph.set_attr(name, "dtype", tensor.dtype)


def test_weights_in_other_types_are_told() -> None:
    graph = tiny(
        """
        x = input ?,6,6,4
        w = f32[1,1,4,8]{random 1}
        wide = Cast(x) SrcT=float32 DstT=float64
        y = Conv2D(wide, w) T=float64
        """
    )
    retyped(graph, "w", np.float64)
    weights = weights_of(graph)
    assert not weights.names
    assert weights.refused == {"w": "it is of type float64, and fitting is done in float32"}


# --- Distillation.


def distilled(graph: gs.Graph, slim: gs.Graph, plan: gs.Plan, **given: Any) -> Any:
    shares = shares_of(graph, images())
    removal = Removal(analyse(graph), fit(graph, plan).removed)
    features = features_of(analyse(graph), removal, graph, slim)
    names = weights_of(slim).names
    return distill(graph, slim, names, features, shares, **{"steps": 40, **given})


@pytest.mark.tf
def test_training_makes_the_loss_smaller() -> None:
    graph = tiny(NET)
    plan = plan_given(graph, {"conv": GONE})
    result = distilled(graph, gs.apply(graph, plan), plan)
    losses = [point.loss for point in result.curve]
    assert min(losses) < 0.5 * losses[0]
    assert result.steps == 40 and not result.interrupted


@pytest.mark.tf
@pytest.mark.parametrize("seconds", [1, 60, 400])
def test_it_ends_in_time_however_slow_a_step_is(monkeypatch: Any, seconds: int) -> None:
    """The clock goes on by a second whenever the networks run, and by nothing else."""
    graph, runs = tiny(NET), [0]

    def counted(method: Any) -> Any:
        def call(*given: Any) -> Any:
            runs[0] += 1
            return method(*given)

        return call

    monkeypatch.setattr(Pupil, "slopes", counted(Pupil.slopes))
    monkeypatch.setattr(Pupil, "loss", counted(Pupil.loss))
    monkeypatch.setattr(distillation, "time", mock.Mock(perf_counter=lambda: runs[0]))
    plan = plan_given(graph, {"conv": GONE})
    result = distilled(graph, gs.apply(graph, plan), plan, steps=1000, seconds=seconds)
    begun = AT_ONCE + sum([1 for _ in shares_of(graph, images()).tuning])
    assert result.curve[-1].seconds <= seconds + 2 * begun
    assert result.rate and (result.steps > 0) == (seconds > 1)


@pytest.mark.tf
def test_gradients_are_those_of_finite_differences() -> None:
    graph = tiny(NET)
    slim = gs.apply(graph, plan_given(graph, {"conv": GONE}))
    weights = {name: constant(slim, name).astype(np.float32) for name in ("v", "c")}
    feeds = {"x": images(4)}
    with Pupil(graph, slim, list(weights), [Target("y", 2.0)]) as pupil:
        slopes = pupil.slopes(feeds, weights)
        for name, index in (("v", (0, 0, 2, 1)), ("c", (3,))):
            losses = []
            for step in (-1e-2, 1e-2):
                moved = {key: array.copy() for key, array in weights.items()}
                moved[name][index] += step
                losses.append(pupil.loss(feeds, moved))
            slope = (losses[1] - losses[0]) / 2e-2
            assert slopes[name][index] == pytest.approx(slope, rel=2e-2)


@pytest.mark.tf
def test_a_node_may_wait_for_the_input() -> None:
    graph = tiny(NET.replace("relu = Relu(biased)", "relu = Relu(biased, ^x)"))
    plan = plan_given(graph, {"conv": GONE})
    assert distilled(graph, gs.apply(graph, plan), plan, steps=2).steps == 2


@pytest.mark.tf
def test_features_are_compared_in_the_channels_that_stay() -> None:
    graph = tiny(NET)
    plan = plan_given(graph, {"conv": GONE})
    slim = gs.apply(graph, plan)
    removal = Removal(analyse(graph), fit(graph, plan).removed)
    features = features_of(analyse(graph), removal, graph, slim)
    kept = {str(feature.port): feature.kept.tolist() for feature in features}
    assert kept == {"conv": [0, 2, 3, 5, 7], "next": [0, 1, 2, 3], "y": [0, 1, 2, 3, 4]}
    targets = targets_of(graph, slim, features, shares_of(graph, images()).training)
    assert [target.port for target in targets] == ["y", "conv", "next"]
    # What stays of the first layer is the same in both graphs, so that it costs nothing.
    with Pupil(graph, slim, ["v"], [target for target in targets[1:2]]) as pupil:
        assert pupil.loss({"x": images(4)}, {"v": constant(slim, "v")}) == 0


@pytest.mark.tf
def test_an_interrupt_keeps_the_best_so_far() -> None:
    graph = tiny(NET)
    plan = plan_given(graph, {"conv": GONE})

    def interrupt(done: int, total: int, what: str) -> None:
        if done == 25:
            raise KeyboardInterrupt

    result = distilled(graph, gs.apply(graph, plan), plan, progress=interrupt)
    losses = [point.loss for point in result.curve]
    assert result.interrupted and min(losses) < losses[0]


# --- The whole repair.


def repaired(graph: gs.Graph, plan: gs.Plan, **given: Any) -> Any:
    slim = gs.apply(graph, plan)
    options = {"data": {"x": images()}, "steps": 40, "batch": 8, **given}
    return slim, repair(graph, slim, plan, **options)


@pytest.mark.tf
def test_a_repaired_graph_is_nearer_to_the_original() -> None:
    graph = tiny(NET)
    slim, result = repaired(graph, plan_given(graph, {"conv": GONE}))
    assert [stage.name for stage in result.stages] == ["least-squares", "distillation"]
    assert any(stage.kept for stage in result.stages)
    fresh = images(seed=8)
    whole, cut, fitted = [outputs(each, fresh) for each in (graph, slim, result.graph)]
    assert np.square(fitted - whole).mean() < 0.5 * np.square(cut - whole).mean()
    assert structure(slim) == structure(result.graph)
    (before,), (after,) = result.before.outputs, result.after.outputs
    assert after.error < before.error


@pytest.mark.tf
def test_the_same_seed_gives_the_same_file() -> None:
    graph = tiny(NET)
    plan = plan_given(graph, {"conv": GONE})
    files = [
        gs.serialize(repaired(graph, plan, threads=1, seconds=1e6, seed=seed)[1].graph)
        for seed in (1, 1, 2)
    ]
    assert files[0] == files[1] != files[2]


@pytest.mark.tf
def test_what_is_worse_is_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = tiny(NET)
    plan = plan_given(graph, {"conv": GONE})

    def spoil(teacher: gs.Graph, pupil: gs.Graph, names: Any, *rest: Any, **more: Any) -> Any:
        result = distill(teacher, pupil, names, *rest, **more)
        weights = {name: 100 * array for name, array in result.weights.items()}
        return result._replace(weights=weights)

    monkeypatch.setattr(run, "distill", spoil)
    slim, result = repaired(graph, plan, stages=["distillation"])
    assert [stage.kept for stage in result.stages] == [False]
    assert result.graph is slim and result.after is result.before


@pytest.mark.tf
def test_without_a_plan_the_outputs_are_trained() -> None:
    graph = tiny(NET)
    slim = gs.apply(graph, plan_given(graph, {"conv": GONE}))
    result = repair(graph, slim, None, data={"x": images()}, steps=20, batch=8)
    assert [stage.name for stage in result.stages] == ["distillation"]


@pytest.mark.tf
def test_half_weights_stay_half() -> None:
    graph = tiny(
        """
        x = input ?,6,6,3
        h = f32[1,1,3,8]{random 1}
        w = Cast(h) SrcT=float16 DstT=float32
        conv = Conv2D(x, w)
        relu = Relu(conv)
        v = f32[1,1,8,4]{random 2}
        y = Conv2D(relu, v)
        """
    )
    retyped(graph, "h", np.float16)
    slim, result = repaired(graph, plan_given(graph, {"conv": GONE}))
    assert result.graph["h"].attrs["value"].dtype.name == "float16"
    assert result.stages[-1].kept
    assert not np.array_equal(constant(result.graph, "h"), constant(slim, "h"))


@pytest.mark.tf
def test_channels_first() -> None:
    graph = tiny(
        """
        x = input ?,3,6,6
        w = f32[3,3,3,8]{random 1}
        b = f32[8]{0.1 -0.2 0.3 0 0.1 0.2 -0.1 0.4}
        conv = Conv2D(x, w) data_format="NCHW"
        biased = BiasAdd(conv, b) data_format="NCHW"
        relu = Relu(biased)
        v = f32[3,3,8,4]{random 2}
        next = Conv2D(relu, v) data_format="NCHW" strides=[1,1,2,2]
        c = f32[1,4,1,1]{0.1 0 0 -0.3}
        y = AddV2(next, c)
        """
    )
    plan = plan_given(graph, {"conv": GONE})
    slim, result = repaired(graph, plan, data={"x": images(48, 3, 6, 6)})
    assert [stage.kept for stage in result.stages] == [True, True]
    (layer,) = result.stages[0].layers
    assert layer.after < 0.9 * layer.before
    assert structure(slim) == structure(result.graph)


@pytest.mark.tf
def test_numbers_that_overflow_are_no_better() -> None:
    graph = tiny(NET)
    huge = 3e38 * np.sign(constant(graph, "w"))
    graph.set_attr("w", "value", graph["w"].attrs["value"].with_numbers(huge))
    slim = gs.apply(graph, plan_given(graph, {"conv": GONE}))
    with pytest.raises(GraphslimError, match="not finite in the original"):
        repair(graph, slim, None, data={"x": images()}, steps=2, batch=8)


@pytest.mark.tf
def test_a_record_says_what_was_done() -> None:
    graph = tiny(NET)
    _, result = repaired(graph, plan_given(graph, {"conv": GONE}), seed=5)
    tree = result.as_dict()
    assert tree["seed"] == 5 and len(tree["data"]["sha256"]) == 64
    assert tree["images"] == {"training": 30, "tuning": 6, "gate": 12}
    assert tree["before"]["y"]["error"] > tree["after"]["y"]["error"]
    assert [stage["name"] for stage in tree["stages"]] == ["least-squares", "distillation"]


@pytest.mark.tf
def test_images_that_teach_nothing_are_refused() -> None:
    graph = tiny(NET.replace("y = Conv2D(gate, u)", "z = Conv2D(gate, u)\n y = ZerosLike(z)"))
    slim = gs.apply(graph, plan_given(graph, {"conv": GONE}))
    with pytest.raises(GraphslimError, match="no output of the original varies"):
        repair(graph, slim, None, data={"x": images()}, steps=2, batch=8)


@pytest.mark.tf
def test_few_and_flat_images_are_told() -> None:
    graph = tiny(NET)
    plan = plan_given(graph, {"conv": GONE})
    flat = np.ones((8, 6, 6, 3), np.float32)
    _, result = repaired(graph, plan, data={"x": flat}, stages=["least-squares"])
    told = " ".join([str(caution) for caution in result.cautions()])
    assert "8 images are few" in told
    assert "cannot tell what became of y" in told


def test_what_cannot_be_repaired_is_refused() -> None:
    graph = tiny(NET)
    plan = plan_given(graph, {"conv": GONE})
    slim = gs.apply(graph, plan)
    with pytest.raises(GraphslimError, match="is needed for a repair"):
        repair(graph, slim, plan, data=None)
    with pytest.raises(GraphslimError, match="no stage of a repair"):
        repair(graph, slim, plan, data={"x": images()}, stages=["polish"])
    other = tiny(NET.replace("conv", "another"))
    with pytest.raises(PlanError, match="this graph has no such group"):
        repair(other, slim, plan, data={"x": images()})


# --- Graphics cards.


@pytest.mark.tf
@pytest.mark.parametrize("cards", [0, 2])
def test_training_takes_one_card_and_comparisons_none(
    monkeypatch: pytest.MonkeyPatch, cards: int
) -> None:
    tf = tensorflow()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    made: List[Dict[str, int]] = []

    class Opened(tf.Session):  # type: ignore[misc]
        def __init__(self, graph: Any = None, config: Any = None) -> None:
            made.append(dict(config.device_count))
            super().__init__(graph=graph, config=config)

    names = [f"/physical_device:GPU:{number}" for number in range(cards)]
    monkeypatch.setattr(pupil, "gpus", lambda: names)
    monkeypatch.setattr(library, "_trains", False)
    monkeypatch.setattr(tf, "Session", Opened)
    graph = tiny(NET)
    plan = plan_given(graph, {"conv": GONE})
    done = repair(
        graph, gs.apply(graph, plan), plan, data={"x": images()}, steps=3, threads=1, seconds=99
    )
    trained = [count for count in made if count != {"GPU": 0}] if cards else made
    assert trained == [{"GPU": 1}] if cards else {"GPU": 0} in made
    assert len(made) > 4
    note = done.stages[-1].note
    assert note == ("3 steps on /physical_device:GPU:0" if cards else "3 steps")


@pytest.mark.parametrize(
    ("trains", "given", "seen", "compared_on"),
    [(False, None, "-1", {}), (True, None, None, {"GPU": 0}), (True, "1", "1", {})],
    ids=["no repair", "a repair", "shown by the user"],
)
def test_cards_are_hidden_but_from_a_repair(
    monkeypatch: pytest.MonkeyPatch, trains: bool, given: Any, seen: Any, compared_on: Any
) -> None:
    monkeypatch.setattr(library, "plain_tensorflow", lambda purpose: mock.MagicMock())
    monkeypatch.setattr(library, "_trains", False)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    with mock.patch.dict(os.environ):
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        if given is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = given
        if trains:
            train_on_gpus()
        library.tensorflow()
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == seen
        assert library.without_gpus() == compared_on
