"""The rules of gradients, variables and their shape arithmetic, op by op and without TensorFlow."""

from __future__ import annotations

from typing import Dict, List

import numpy as np
import pytest
from tiny import tiny as parse

from graphslim.channels.groups import Labels
from graphslim.checkpoint.narrow import narrow
from graphslim.checkpoint.training_walk import TrainingWalk
from graphslim.errors import PlanError
from graphslim.ir import Graph, Port


def cuts(text: str, given: Dict[str, Dict[int, List[int]]]) -> Dict[str, Dict[int, List[int]]]:
    """What goes from every variable, when some positions go."""
    found = narrow(parse(text), given).cuts
    return {
        name: {axis: gone.tolist() for axis, gone in some.items()} for name, some in found.items()
    }


def variable(name: str, shape: str) -> str:
    return f"{name} = VariableV2() dtype=float32 shape=<{shape}>\n"


def numbers(graph: Graph, name: str) -> List[int]:
    """The elements of a constant."""
    return list(graph[name].attrs["value"].array.ravel().tolist())


def test_filter_of_a_convolution_in_groups() -> None:
    """Two groups of two channels each: both lose the same one."""
    text = (
        variable("w", "1,1,2,6")
        + "x = input 1,4,4,4\n"
        + "y = Conv2D(x, w)\n"
        + "sizes = i32[4]{1 1 2 6}\n"
        + "back = Conv2DBackpropFilter(x, sizes, y)\n"
        + variable("slot", "1,1,2,6")
        + "step = ApplyMomentum(w, slot, rate, back, rate) \nrate = f32[]{0.1}"
    )
    found = cuts(text, {"w": {3: [1, 4]}})
    assert found == {"w": {3: [1, 4]}, "slot": {3: [1, 4]}}


def test_depthwise_gradients_with_a_multiplier() -> None:
    text = (
        variable("w", "3,3,4,2")
        + variable("next", "1,1,8,3")
        + "x = input 1,4,4,4\n"
        + "y = DepthwiseConv2dNative(x, w)\n"
        + "z = Conv2D(y, next)\n"
        + "dims = i32[4]{1 4 4 8}\n"
        + "down = Conv2DBackpropInput(dims, next, z)\n"
        + "sizes = i32[4]{3 3 4 2}\n"
        + "back = DepthwiseConv2dNativeBackpropFilter(x, sizes, down)\n"
        + "stepped = AssignSub(w, back)"
    )
    assert cuts(text, {"w": {2: [1]}}) == {"w": {2: [1]}, "next": {2: [2, 3]}}
    slim = narrow(parse(text), {"w": {2: [1]}}).graph
    assert numbers(slim, "dims") == [1, 4, 4, 6] and numbers(slim, "sizes") == [3, 3, 3, 2]


def test_a_shape_that_two_gradients_state() -> None:
    """One constant that states the widths of two layers becomes two where they come to differ."""
    text = (
        variable("a", "4")
        + variable("b", "4")
        + "dims = i32[1]{4}\nzero = f32[]{0}\n"
        + "one = Fill(dims, zero)\nother = Fill(dims, zero)\n"
        + "first = Assign(a, one)\nsecond = Assign(b, other)"
    )
    slim = narrow(parse(text), {"a": {0: [0]}, "b": {0: [1, 2]}}).graph
    sources = [slim.data_inputs(name)[0].node for name in ("one", "other")]
    assert [numbers(slim, source) for source in sources] == [[3], [2]]


def test_offsets_of_a_concatenation() -> None:
    text = (
        variable("a", "2,3")
        + variable("b", "2,4")
        + "axis = i32[]{1}\n"
        + "joined = ConcatV2(a, b, axis) N=2\n"
        + "first = i32[2]{2 3}\nsecond = i32[2]{2 4}\n"
        + "from = ConcatOffset(axis, first, second) N=2\n"
        + "back = Slice(joined, from:1, second)\n"
        + "step = AssignSub(b, back)"
    )
    narrowed = narrow(parse(text), {"a": {1: [0, 2]}, "b": {1: [3]}})
    assert {name: list(some) for name, some in narrowed.cuts.items()} == {"a": [1], "b": [1]}
    slim = narrowed.graph
    assert numbers(slim, slim.data_inputs("from")[1].node) == [2, 1]
    assert numbers(slim, slim.data_inputs("back")[2].node) == [2, 3]


def test_axes_that_a_gradient_is_summed_over() -> None:
    text = (
        variable("w", "4")
        + "x = input ?,2,4\n"
        + "of_x = Shape(x)\nof_w = i32[1]{4}\n"
        + "args = BroadcastGradientArgs(of_x, of_w)\n"
        + "product = Mul(x, w)\n"
    )
    labels = Labels(TrainingWalk(parse(text)))
    left, right = [labels.fact(Port("args", output)).value for output in (0, 1)]
    assert left is not None and left.tolist() == []
    assert right is not None and right.tolist() == [0, 1]
    assert numbers(narrow(parse(text), {"w": {0: [0]}}).graph, "of_w") == [3]


def test_a_shape_with_some_sizes_replaced() -> None:
    """As the gradient of a sum makes it, of the sizes before and ones."""
    text = (
        variable("w", "2,4")
        + "sizes = Shape(w)\n"
        + "all = i32[2]{0 1}\nsummed = i32[1]{0}\nones = i32[1]{1}\n"
        + "kept = DynamicStitch(all, summed, sizes, ones) N=2\n"
        + "total = Sum(w, summed) keep_dims=false\n"
        + "wide = Reshape(total, kept)\n"
        + variable("seen", "1,4")
        + "step = AssignSub(seen, wide)"
    )
    labels = Labels(TrainingWalk(parse(text)))
    value = labels.fact(Port("kept")).value
    assert value is not None and value.tolist() == [1, 4]
    assert cuts(text, {"w": {1: [2]}}) == {"w": {1: [2]}, "seen": {1: [2]}}


def test_a_gradient_taken_apart_as_it_was_flattened() -> None:
    """The flat axis has one position for each pixel and channel; the channels are the last part."""
    text = (
        variable("w", "1,1,3,2")
        + variable("dense", "18,2")
        + "x = input 1,3,3,3\n"
        + "y = Conv2D(x, w)\n"
        + "flat_dims = i32[2]{1 18}\ndims = i32[4]{1 3 3 2}\n"
        + "flat = Reshape(y, flat_dims)\n"
        + "z = MatMul(flat, dense)\n"
        + "down = MatMul(z, dense) transpose_b=true\n"
        + "back = Reshape(down, dims)\n"
        + "up = BiasAddGrad(back)\n"
        + variable("bias", "2")
        + "step = AssignSub(bias, up)"
    )
    found = cuts(text, {"w": {3: [0]}})
    assert found["dense"] == {0: list(range(0, 18, 2))} and found["bias"] == {0: [0]}
    slim = narrow(parse(text), {"w": {3: [0]}}).graph
    assert numbers(slim, "dims") == [1, 3, 3, 1] and numbers(slim, "flat_dims") == [1, 9]


def test_a_mean_over_channels_divides_by_those_that_are_left() -> None:
    text = (
        variable("w", "2,4")
        + "one = f32[1,1]{1}\ntimes = i32[2]{2 4}\ncount = f32[]{8}\n"
        + "spread = Tile(one, times)\n"
        + "back = RealDiv(spread, count)\n"
        + "step = AssignSub(w, back)"
    )
    slim = narrow(parse(text), {"w": {1: [1]}}).graph
    assert numbers(slim, "times") == [2, 3] and numbers(slim, "count") == [6]


def test_ops_without_a_rule_or_with_a_wrong_shape_are_left_alone() -> None:
    text = (
        variable("w", "4")
        + "odd = SomeUnknownOp(w)\n"
        + "n = i32[1]{3}\n"
        + "wrong = Add(w, fixed)\nfixed = f32[3]{0}\n"
        + "malformed = ReluGrad()\n"
    )
    assert cuts(text, {"w": {0: [1]}}) == {"w": {0: [1]}}


def test_the_error_names_the_op_between() -> None:
    text = variable("a", "4") + variable("b", "4") + "meet = Sub(a, b)\nroot = Sqrt(meet)"
    with pytest.raises(PlanError, match="b: position 3 along axis 0.*in meet"):
        narrow(parse(text), {"a": {0: [3]}, "b": {0: []}})


def test_products_of_axes() -> None:
    """A flat weight loses a position where either its row or its column goes."""
    text = (
        variable("w", "2,3")
        + "flat = Reshape(w, all)\nall = i32[1]{-1}\n"
        + "ones = f32[1]{1}\ntimes = i32[1]{6}\n"
        + "spread = Tile(ones, times)\nback = Mul(spread, flat)\n"
    )
    slim = narrow(parse(text), {"w": {0: [1], 1: [0]}}).graph
    assert numbers(slim, "times") == [2]
    assert np.prod(slim["w"].attrs["shape"].dims) == 2
