"""Criteria that look at responses and gradients, and the tensors and inputs that they look at."""

from __future__ import annotations

from typing import List, Tuple

import numpy as np
import pytest
from sampled import SMALL, inputs, measured
from tiny import constant, groups, tiny

import graphslim as gs
from graphslim.errors import PlanError, VerifyError
from graphslim.measure.loss import differentiable
from graphslim.measure.sampled_scores import measure
from graphslim.measure.samples import Data, caution
from graphslim.runtime import Session
from graphslim.scoring.functions import activation, apoz, taylor
from graphslim.scoring.registry import Criterion, find_criterion
from graphslim.scoring.scores import Scores, score

# ------------------------------------------------------------------- the functions


def test_functions_against_plain_loops() -> None:
    rng = np.random.RandomState(0)
    responses = np.maximum(rng.normal(size=(3, 5, 4)), 0)
    gradients = rng.normal(size=(3, 5, 4))
    for channel in range(4):
        numbers = [[float(n) for n in example[:, channel]] for example in responses]
        slopes = [[float(n) for n in example[:, channel]] for example in gradients]
        flat = sum(numbers, [])
        assert activation(responses)[channel] == pytest.approx(sum(map(abs, flat)) / 15)
        assert apoz(responses)[channel] == pytest.approx(flat.count(0.0) / 15)
        changes = [abs(sum([r * g for r, g in zip(*pair)]) / 5) for pair in zip(numbers, slopes)]
        assert taylor(responses, gradients)[channel] == pytest.approx(sum(changes) / 3)


def test_magnitude_counts_not_sign() -> None:
    assert activation(np.array([[[-2.0, 1.0], [2.0, 1.0]]])).tolist() == [2.0, 1.0]


def test_what_is_registered() -> None:
    kinds = {name: find_criterion(name) for name in ("activation", "apoz", "taylor")}
    assert [one.kind for one in kinds.values()] == ["responses", "responses", "gradients"]
    assert [one.redundant for one in kinds.values()] == [False, True, False]
    assert "1607.03250" in (apoz.__doc__ or "") and "1611.06440" in (taylor.__doc__ or "")


# ------------------------------------------------------------------- measured in TensorFlow


@pytest.mark.tf
def test_measured_scores_are_those_of_numpy() -> None:
    graph, x = tiny(SMALL), inputs()
    w, b, v = (constant(graph, name).astype(np.float64) for name in "wbv")
    relu = np.maximum(x @ w[0, 0] + b, 0)
    y = relu @ v[0, 0]
    slope = y / np.square(y).mean() @ v[0, 0].T
    expected = {
        "activation": relu.mean(axis=(0, 1, 2)),
        "apoz": (relu == 0).mean(axis=(0, 1, 2)),
        "taylor": np.abs((relu * slope).mean(axis=(1, 2))).mean(axis=0),
    }
    for name, wanted in expected.items():
        (found,) = measured(graph, name, data={"x": x})
        np.testing.assert_allclose(found, wanted, rtol=1e-5, err_msg=name)


@pytest.mark.tf
def test_a_loop_without_a_gradient_is_told() -> None:
    graph = tiny(
        """
        x = input ?,3,3,2
        w = f32[1,1,2,4]{random 1}
        conv = Conv2D(x, w)
        entered = Enter(conv) T=float32 frame_name="loop" is_constant=false parallel_iterations=1
        again = Merge(entered, next) T=float32 N=2
        yes = Const() value=bool[]{0} dtype=bool
        ask = Enter(yes) T=bool frame_name="loop" is_constant=true parallel_iterations=1
        goes = LoopCond(ask)
        switch = Switch(again, goes) T=float32
        next = NextIteration(switch:1) T=float32
        left = Exit(switch) T=float32
        v = f32[1,1,4,3]{random 2}
        y = Conv2D(left, v)
        """
    )
    with pytest.raises(VerifyError, match="no gradient can be taken"):
        measured(graph, "taylor", data={"x": inputs()})


@pytest.mark.tf
def test_taylor_is_what_finite_differences_give() -> None:
    graph = tiny(
        """
        x = input 1,4,4,2
        w = f32[3,3,2,4]{random 1}
        conv = Conv2D(x, w)
        gate = Sigmoid(conv)
        v = f32[3,3,4,3]{random 2}
        y = Conv2D(gate, v)
        squared = Square(y)
        axes = i32[4]{0 1 2 3}
        loss = Mean(squared, axes) keep_dims=false
        """
    )
    x, step = inputs(1, 4, 4, 2), 1e-2
    (found,) = measured(graph, "taylor", data={"x": x}, loss_output="loss")
    tensor = graph["v"].attrs["value"]
    for channel in range(4):
        losses = []
        for factor in (1 - step, 1 + step):
            scaled = tensor.numbers().astype(np.float64)
            scaled[:, :, channel] *= factor
            graph.set_attr("v", "value", tensor.with_numbers(scaled.astype(np.float32)))
            with Session(graph, optimize=False) as session:
                losses.append(float(session.run({"x": x}, ["loss"])[0]))
        change = (losses[1] - losses[0]) / (2 * step)
        assert found[channel] == pytest.approx(abs(change) / 16, rel=1e-2)


@pytest.mark.tf
@pytest.mark.parametrize("name", ["activation", "apoz", "taylor"])
def test_splitting_into_batches_changes_nothing(name: str) -> None:
    graph = tiny(SMALL)
    (single,) = measured(graph, name, data={"x": inputs()})
    for batch in (2, 5):
        (other,) = measured(graph, name, data={"x": inputs()}, batch=batch)
        np.testing.assert_allclose(other, single, rtol=1e-5)


@pytest.mark.tf
def test_a_fixed_batch_is_run_as_often_as_the_data_last() -> None:
    graph, fixed = tiny(SMALL), tiny(SMALL.replace("?,3,3,2", "2,3,3,2"))
    (single,) = measured(graph, "taylor", data={"x": inputs(6)})
    (pairs,) = measured(fixed, "taylor", data={"x": inputs(6)})
    np.testing.assert_allclose(pairs, single, rtol=1e-5)


@pytest.mark.tf
def test_channels_of_an_nchw_graph_are_found_in_its_twin() -> None:
    other = SMALL.replace("?,3,3,2", "?,2,3,3").replace(
        "BiasAdd(conv, b)", 'BiasAdd(conv, b) data_format="NCHW"'
    )
    for name in ("conv = Conv2D(x, w)", "y = Conv2D(relu, v)"):
        other = other.replace(name, f'{name} data_format="NCHW"')
    x = inputs(5)
    for name in ("activation", "taylor"):
        (usual,) = measured(tiny(SMALL), name, data={"x": x})
        (turned,) = measured(tiny(other), name, data={"x": np.transpose(x, (0, 3, 1, 2))})
        np.testing.assert_allclose(turned, usual, rtol=1e-5)


@pytest.mark.tf
def test_scores_by_name_on_random_inputs() -> None:
    graph = tiny(SMALL)
    one = groups(graph)["conv"]
    channels = gs.analyse(graph)

    def scored(name: str, data: Data = None, seed: int = 0) -> Scores:
        sampled = measure(graph, channels, [one], find_criterion(name), data=data, seed=seed)
        return score(graph, channels, [one], name, sampled=sampled)

    first, same, other = (scored("activation", seed=seed).own["conv"] for seed in (0, 0, 9))
    assert (first == same).all() and (first != other).any()
    with pytest.raises(PlanError, match="nothing here can run the graph"):
        score(graph, channels, [one], "apoz")
    ranked = scored("apoz", {"x": inputs()})
    assert ranked.rank["conv"] == pytest.approx(1 - ranked.own["conv"])


def test_random_inputs_are_told_of() -> None:
    told = caution(tiny(SMALL), None)
    assert told is not None and "8 random inputs" in str(told) and "--data" in told.hint
    assert caution(tiny(SMALL), {"x": inputs()}) is None


# ------------------------------------------------------------------- the loss


SQUASHED = """
    x = input ?,2
    w = f32[2,4]{random 1}
    hidden = MatMul(x, w)
    relu = Relu(hidden)
    v = f32[4,3]{random 2}
    logits = MatMul(relu, v)
"""


@pytest.mark.tf
@pytest.mark.parametrize("ending", ["Softmax(logits)", "Sigmoid(same)", "ArgMax(logits, last)"])
def test_a_squashed_output_is_replaced_by_what_enters_it(ending: str) -> None:
    graph = tiny(
        SQUASHED
        + "same = Identity(logits)\nlast = i32[]{-1}\ny = "
        + ending
        + (" output_type=int64 Tidx=int32" if "ArgMax" in ending else "")
    )
    graph.outputs = [gs.Port("y")]
    data = {"x": inputs(4, 2)}
    (found,) = measured(graph, "taylor", "hidden", data=data)
    (plain,) = measured(tiny(SQUASHED), "taylor", "hidden", data=data)
    np.testing.assert_allclose(found, plain, rtol=1e-6)
    assert (found > 0).any()


@pytest.mark.tf
def test_no_output_drowns_another() -> None:
    """An output that is the same but a thousand times as large counts the same."""
    text = SQUASHED + "u = f32[4,2]{random 3}\nother = MatMul(relu, u)\n"
    large = text + "k = f32[]{1000}\nscaled = Mul(other, k)"
    data = {"x": inputs(4, 2)}
    found = [measured(tiny(one), "taylor", "hidden", data=data)[0] for one in (text, large)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


@pytest.mark.tf
def test_the_loss_can_be_named() -> None:
    text = SQUASHED + "u = f32[4,2]{random 3}\nother = MatMul(relu, u)\n"
    data = {"x": inputs(4, 2)}
    (named,) = measured(tiny(text), "taylor", "hidden", data=data, loss_output="logits")
    (alone,) = measured(tiny(SQUASHED), "taylor", "hidden", data=data)
    np.testing.assert_allclose(named, alone, rtol=1e-6)


@pytest.mark.tf
def test_what_has_no_gradient_is_refused() -> None:
    graph = tiny(SQUASHED + "zero = f32[]{0}\npicked = Greater(logits, zero)")
    with pytest.raises(PlanError, match="picked: no gradient leads from it.*loss_output"):
        measured(graph, "taylor", "hidden")
    with pytest.raises(PlanError, match="loss_output: the graph has no 'nothing'"):
        measured(graph, "taylor", "hidden", loss_output="nothing")
    with pytest.raises(VerifyError, match="does not run"):
        measured(graph, "taylor", "hidden", loss_output="logits:7")


@pytest.mark.tf
def test_an_op_without_a_gradient_is_named() -> None:
    text = SMALL + "to = i32[2]{2 2}\nz = ResizeArea(y, to) align_corners=false"
    with pytest.raises(VerifyError, match="no gradient can be taken.*ResizeArea.*loss_output"):
        measured(tiny(text), "taylor")
    (named,) = measured(tiny(text), "taylor", loss_output="y", data={"x": inputs()})
    (plain,) = measured(tiny(SMALL), "taylor", data={"x": inputs()})
    assert (named == plain).all()


@pytest.mark.tf
def test_a_custom_gradient_of_the_program_is_done_without() -> None:
    swish = """
        gate = Sigmoid(biased)
        product = Mul(biased, gate)
        pair = IdentityN(product, biased) T=[float32,float32] _gradient_op_type="CustomGradient-7"
        y = Conv2D(pair, v)
    """
    relu = "relu = Relu(biased)"
    custom = tiny(SMALL.replace(relu, "").replace("y = Conv2D(relu, v)", swish))
    plain = tiny(SMALL.replace(relu, "gate = Sigmoid(biased)\nrelu = Mul(biased, gate)"))
    found = [measured(one, "taylor", data={"x": inputs()})[0] for one in (custom, plain)]
    assert (found[0] == found[1]).all() and (found[0] > 0).all()


@pytest.mark.tf
@pytest.mark.parametrize("multiplier", [1, 2])
def test_a_depthwise_convolution_in_groups_has_a_gradient(multiplier: int) -> None:
    """TensorFlow takes none of convolutions in groups on a CPU."""
    width = 4 * multiplier
    text = SMALL.replace("v = f32[1,1,4,3]", f"v = f32[1,1,{width},3]").replace(
        "y = Conv2D(relu, v)", "u = f32[3,3,1,@]{random 5}\nmixed = @\ny = Conv2D(mixed, v)"
    )
    grouped = text.replace("@", str(width), 1).replace("@", "Conv2D(relu, u)")
    depthwise = text.replace("1,@]", f"4,{multiplier}]").replace(
        "@", "DepthwiseConv2dNative(relu, u)"
    )
    x = {"x": inputs()}
    with Session(differentiable(tiny(grouped)), optimize=False) as session:
        turned = session.run(x)[0]
    with Session(tiny(depthwise), optimize=False) as session:
        np.testing.assert_allclose(turned, session.run(x)[0], rtol=1e-5, atol=1e-6)
    found = [measured(tiny(one), "taylor", data=x)[0] for one in (grouped, depthwise)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


@pytest.mark.tf
def test_progress_is_told() -> None:
    told: List[Tuple[int, int, str]] = []
    measured(tiny(SMALL), "apoz", data={"x": inputs(3)}, tick=lambda *one: told.append(one))
    assert told == [(1, 3, "sample inputs"), (2, 3, "sample inputs"), (3, 3, "sample inputs")]


@pytest.mark.tf
def test_numbers_that_are_not_finite_are_told() -> None:
    broken = inputs()
    broken[2, 1, 1, 0] = np.inf
    with pytest.raises(PlanError, match=r"relu \(group conv\): is not finite"):
        measured(tiny(SMALL), "activation", data={"x": broken})
    with pytest.raises(PlanError, match="output y: is not finite"):
        measured(tiny(SMALL), "taylor", data={"x": broken})


@pytest.mark.tf
def test_a_criterion_that_gives_another_shape_is_told() -> None:
    graph = tiny(SMALL)
    wrong = Criterion("wrong", lambda responses: responses.mean(), "responses")
    with pytest.raises(PlanError, match=r"criterion wrong: gives an array of shape \[\] for 4"):
        measure(graph, gs.analyse(graph), [groups(graph)["conv"]], wrong)


@pytest.mark.tf
def test_scores_that_tell_nothing_apart_are_refused() -> None:
    """Behind a Tanh nothing is exactly zero, and the choice would be one by index."""
    with pytest.raises(PlanError, match="apoz tells no channel from another.*ReLU"):
        measured(tiny(SMALL.replace("Relu(", "Tanh(")), "apoz", data={"x": inputs()})
