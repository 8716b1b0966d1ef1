"""Convolutions in all their forms: groups, dilations, explicit padding, transposed, 3-D."""

from __future__ import annotations

from typing import Dict, List, Tuple

import numpy as np
import pytest
from tiny import constant, dead, groups, pins, prune, tiny, value, zero_filters

import graphslim as gs
from graphslim.errors import AnalysisError, VerifyError
from graphslim.plans import plan_given
from graphslim.runtime import Session
from graphslim.testing import assert_mask_equivalent, random_plan

START = "x = input 1,6,6,4\na/w = f32[3,3,4,8]{random 1}\na = Conv2D(x, a/w)\n"
END = "\nz/w = f32[1,1,%d,3]{random 9}\nz = Conv2D(y, z/w)\noutput z\n"


def shape(graph: gs.Graph, name: str) -> Tuple[int, ...]:
    return constant(graph, name).shape


def runs(graph: gs.Graph) -> bool:
    """Whether this TensorFlow has kernels for all of a graph; TF 1.15 convolves in no groups."""
    feeds = {
        name: np.ones([size or 1 for size in gs.analyse(graph).fact(gs.Port(name)).shape or ()])
        for name in graph.inputs
    }
    try:
        with Session(graph) as session:
            session.run(feeds)
    except VerifyError:
        return False
    return True


def check_any_half(graph: gs.Graph, expected: Dict[str, int], seed: int = 3) -> gs.Graph:
    """The prunable groups are those expected; half of each goes, under oracle 3 if it runs."""
    assert {one.id: len(one) for one in groups(graph).values() if one.prunable} == expected
    plan = random_plan(graph, seed=seed)
    assert len(plan.groups) == len(expected)
    if runs(graph):
        return assert_mask_equivalent(graph, plan, tolerance=1e-5)
    return gs.apply(graph, plan)


# ------------------------------------------------------------------ groups

GROUPED = START + "g = f32[3,3,4,6]{random 2}\ny = Conv2D(a, g)" + END % 6


@pytest.mark.tf
def test_groups_stay_equally_wide() -> None:
    """Two groups of 4 channels make 3 each: channel j of both is one channel."""
    slim = check_any_half(tiny(GROUPED), {"a": 4, "y": 3})
    assert shape(slim, "a/w") == (3, 3, 4, 4)
    assert shape(slim, "g") == (3, 3, 2, 4)
    assert shape(slim, "z/w") == (1, 1, 4, 3)


def test_one_channel_of_a_group_goes_from_each_group() -> None:
    graph = tiny(GROUPED)
    slim = gs.apply(graph, plan_given(graph, {"a": [1], "y": [0]}))
    np.testing.assert_array_equal(
        constant(slim, "a/w"), np.delete(constant(graph, "a/w"), [1, 5], 3)
    )
    cut = np.delete(np.delete(constant(graph, "g"), [0, 3], 3), 1, 2)
    np.testing.assert_array_equal(constant(slim, "g"), cut)
    np.testing.assert_array_equal(
        constant(slim, "z/w"), np.delete(constant(graph, "z/w"), [0, 3], 2)
    )


@pytest.mark.tf
def test_whole_groups_go_where_there_are_more_of_them() -> None:
    """Four groups of 2 channels make 2 each: a group goes with all that it reads and makes.

    Beside that, what the convolution makes may go from each group.
    """
    text = START + "g = f32[3,3,2,8]{random 2}\ny = Conv2D(a, g)" + END % 8
    slim = check_any_half(tiny(text), {"a": 4, "y": 2})
    assert shape(slim, "a/w") == (3, 3, 4, 4)
    assert shape(slim, "g") == (3, 3, 2, 2)
    assert shape(slim, "z/w") == (1, 1, 2, 3)


@pytest.mark.tf
def test_whole_groups_go_where_no_channel_of_each_may() -> None:
    """The two groups are normalised one by one before: a group goes as a whole or not at all."""
    text = START + (
        "t = i32[4]{1 36 2 4}\nu = Reshape(a, t)\naxes = i32[2]{1 3}\n"
        "mean = Mean(u, axes) Tidx=int32 keep_dims=true\nv = Sub(u, mean)\n"
        "back = i32[4]{1 6 6 8}\nb = Reshape(v, back)\n"
        "g = f32[3,3,4,6]{random 2}\ny = Conv2D(b, g)"
    )
    slim = check_any_half(tiny(text + END % 6), {"a": 2, "y": 3})
    assert shape(slim, "a/w") == (3, 3, 4, 4)
    assert shape(slim, "g") == (3, 3, 4, 2)


@pytest.mark.tf
@pytest.mark.parametrize("multiplier", [1, 2])
def test_groups_of_one_channel_go_as_a_whole(multiplier: int) -> None:
    """A depthwise convolution, spelled in groups: its filter keeps axis 2 at size 1."""
    width = 8 * multiplier
    text = START + f"g = f32[3,3,1,{width}]{{random 2}}\ny = Conv2D(a, g)" + END % width
    graph = tiny(text)
    slim = check_any_half(graph, {"a": 8})
    assert shape(slim, "g") == (3, 3, 1, width // 2)
    roles = {
        (one.param, one.axis): one.role for one in gs.analyse(graph).bindings(groups(graph)["a"])
    }
    assert roles["g", 3] == "follower"


def test_more_groups_than_can_be_followed_stay() -> None:
    """As one convolution its filters would be 400 million numbers, from 40 thousand in the file."""
    graph = tiny(
        "x = input 1,2,2,3\na/w = f32[1,1,3,20000]{1}\na = Conv2D(x, a/w)\n"
        "g/w = f32[1,1,2,20000]{1}\ng = Conv2D(a, g/w)\nz/w = f32[1,1,20000,2]{1}\n"
        "z = Conv2D(g, z/w)\noutput z\n"
    )
    for name in ("a", "g"):
        assert pins(graph, name) == (
            "it is convolved in 10000 groups, which are too many to follow @ g"
        )


def test_groups_in_nchw_are_cut_as_in_nhwc() -> None:
    cut: List[object] = []
    for layout, start in (("NHWC", "1,6,6,4"), ("NCHW", "1,4,6,6")):
        text = GROUPED.replace("1,6,6,4", start)
        lines = [
            line + (f' data_format="{layout}"' if "Conv2D" in line else "")
            for line in text.splitlines()
        ]
        graph = zero_filters(tiny("\n".join(lines)), "g", 3, [1, 4])
        plan = random_plan(graph, seed=4)
        slim = gs.apply(graph, plan)
        names = ("a/w", "g", "z/w")
        cut.append((plan.macs, dead(graph), [constant(slim, name).tolist() for name in names]))
    assert cut[0] == cut[1]


def dead_groups(extra: str) -> gs.Graph:
    return tiny(START + "r = Relu(a)\n" + extra + END % 6)


@pytest.mark.tf
def test_channel_of_groups_is_dead_if_every_group_is_indifferent() -> None:
    graph = dead_groups("g = f32[3,3,4,6]{random 2}\ny = Conv2D(r, g)")
    weights = np.array(constant(graph, "g"))
    weights[:, :, 1, :] = 0  # no group reads its channel 1
    weights[:, :, 2, :3] = 0  # the first group alone does not read its channel 2
    weights[:, :, :, [0, 3]] = 0  # filter 0 of both groups
    weights[:, :, :, 1] = 0  # filter 1 of the first group alone
    tensor = graph["g"].attrs["value"]
    graph.set_attr("g", "value", tensor.with_numbers(weights))
    np.testing.assert_array_equal(value(graph, "y").ravel(), [0, 0, np.nan, 0, np.nan, np.nan])
    if runs(graph):
        prune(graph, {"a": [1], "y": [0]})
    assert dead(graph) == {"a": [1], "y": [0]}


@pytest.mark.tf
def test_constant_that_enters_groups_stays() -> None:
    """The BiasAdd that would take it makes TensorFlow fuse what it cannot run."""
    text = (
        START + "b = f32[8]{0.5 -1 2 3 0.25 1 -2 1}\nr = BiasAdd(a, b)\n"
        'g = f32[3,3,4,6]{random 2}\ny = Conv2D(r, g) padding="VALID"' + END % 6
    )
    assert dead(zero_filters(tiny(text), "a/w", 3, [2, 6])) == {}


def test_width_of_filters_that_are_not_followed_is_known() -> None:
    graph = tiny(
        START + "k = input 1,1,8,5\ny = Conv2D(a, k)\nd = input 3,3,8,2\n"
        "e = DepthwiseConv2dNative(a, d)\n"
    )
    assert gs.analyse(graph).fact(gs.Port("y")).shape == (1, 6, 6, 5)
    assert gs.analyse(graph).fact(gs.Port("e")).shape == (1, 6, 6, 16)


def test_groups_that_do_not_fit_are_refused() -> None:
    graph = tiny(START + "g = f32[1,1,2,6]{1}\ny = Conv2D(a, g)\n")
    with pytest.raises(AnalysisError, match="8 channels meet a filter for 2 in 4 groups"):
        gs.analyse(graph)


def test_filter_of_one_channel_on_an_unknown_width_is_left_alone() -> None:
    """It may be convolved channel by channel; a wider filter tells how wide its input is."""
    text = "x = input *\ng = f32[3,3,%d,6]{1}\ny = Conv2D(x, g)" + END.replace("%d", "6")
    assert pins(tiny(text % 1), "y").startswith("how many channels enter its convolution")
    assert groups(tiny(text % 2))["y"].prunable


# ------------------------------------------------------------------ padding, dilation, 3-D

EXPLICIT = ' padding="EXPLICIT" explicit_paddings=[0,0,1,2,0,1,0,0]'
FORMS = {
    "explicit": ("b/w = f32[3,3,8,6]{random 2}\ny = Conv2D(a, b/w)" + EXPLICIT, 6),
    "explicit and dilated": (
        "b/w = f32[2,3,8,6]{random 2}\ny = Conv2D(a, b/w) dilations=[1,3,2,1]" + EXPLICIT,
        6,
    ),
    "dilated and strided": (
        "b/w = f32[2,3,8,6]{random 2}\ny = Conv2D(a, b/w) dilations=[1,2,1,1]"
        ' strides=[1,1,1,1] padding="VALID"',
        6,
    ),
    "dilated depthwise": (
        "b/w = f32[3,3,8,2]{random 2}\ny = DepthwiseConv2dNative(a, b/w) dilations=[1,2,2,1]",
        16,
    ),
}


@pytest.mark.tf
@pytest.mark.parametrize("name", sorted(FORMS))
def test_padding_and_dilation(name: str) -> None:
    text, width = FORMS[name]
    graph = tiny(START + text + END % width)
    expected = {"a": 8} if width == 16 else {"a": 8, "y": 6}
    check_any_half(graph, expected)
    found = gs.analyse(graph).fact(gs.Port("y")).shape or ()
    if name != "dilated depthwise":  # which TensorFlow runs on no CPU
        with Session(graph) as session:
            (ran,) = session.run({"x": np.zeros((1, 6, 6, 4), np.float32)}, ["y"])
        assert found == ran.shape
    positions = found[1] * found[2]
    taps = {"explicit": 9, "dilated depthwise": 9}.get(name, 6)
    own = taps * (16 if width == 16 else 8 * 6)
    assert gs.cost(graph).macs == 36 * 9 * 4 * 8 + positions * (own + width * 3)


@pytest.mark.tf
@pytest.mark.parametrize("padding, folds", [("0,0,0,0,0,0,0,0", 1), ("0,0,0,1,0,0,0,0", 0)])
def test_explicit_padding_forbids_a_fold(padding: str, folds: int) -> None:
    text = (
        START + "b = f32[8]{2}\nr = BiasAdd(a, b)\nb/w = f32[1,1,8,6]{random 2}\n"
        f'y = Conv2D(r, b/w) padding="EXPLICIT" explicit_paddings=[{padding}]' + END % 6
    )
    graph = zero_filters(tiny(text), "a/w", 3, [5])
    prune(graph, {"a": [5]} if folds else {})


@pytest.mark.tf
def test_three_dimensions() -> None:
    attrs = ' strides=[1,1,1,1,1] padding="SAME" data_format="NDHWC"'
    text = (
        "x = input 1,4,5,6,3\na/w = f32[3,2,3,3,8]{random 1}\na = Conv3D(x, a/w)"
        + attrs
        + "\nb = f32[8]{0}\nc = BiasAdd(a, b)\nr = Relu(c)\n"
        "p = MaxPool3D(r) ksize=[1,2,2,2,1]"
        + attrs.replace("1,1,1,1,1", "1,2,2,2,1")
        + "\nq = AvgPool3D(p) ksize=[1,1,2,2,1]"
        + attrs
        + "\nz/w = f32[1,1,1,8,2]{random 2}\nz = Conv3D(q, z/w)"
        + attrs
        + "\n"
    )
    graph = tiny(text)
    slim = check_any_half(graph, {"a": 8})
    assert shape(slim, "a/w") == (3, 2, 3, 3, 4)
    assert gs.analyse(graph).fact(gs.Port("p")).shape == (1, 2, 3, 3, 8)
    assert gs.cost(graph).macs == 120 * 18 * 3 * 8 + 18 * 8 * 2
    prune(zero_filters(tiny(text), "a/w", 4, [0, 7]), {"a": [0, 7]})


@pytest.mark.tf
def test_multiplier_is_dead_if_all_its_outputs_are() -> None:
    text = (
        START + "b = f32[8]{1}\nr = BiasAdd(a, b)\nd = f32[3,3,8,2]{random 2}\n"
        "y = DepthwiseConv2dNative(r, d)" + END % 16
    )
    graph = tiny(text)
    weights = np.array(constant(graph, "d"))
    weights[:, :, 3, 0] = 0
    weights[:, :, 5, :] = 0
    graph.set_attr("d", "value", graph["d"].attrs["value"].with_numbers(weights))
    prune(graph, {"a": [5]})


@pytest.mark.tf
def test_consumer_of_a_multiplier_has_to_ignore_all_its_outputs() -> None:
    text = START + "d = f32[3,3,8,2]{random 2}\ny = DepthwiseConv2dNative(a, d)" + END % 16
    graph = zero_filters(tiny(text), "z/w", 2, [2, 3, 5])
    prune(graph, {"a": [1]})


# ------------------------------------------------------------------ transposed

TRANSPOSED = (
    START + "u = f32[3,3,6,8]{random 2}\n%s"
    "y = Conv2DBackpropInput(n, u, a) strides=[1,2,2,1]" + END % 6
)
COMPUTED = (
    "s = Shape(a)\ni0 = i32[1]{0}\ni1 = i32[1]{1}\ni2 = i32[1]{2}\n"
    "b = StridedSlice(s, i0, i1, i1) T=int32 shrink_axis_mask=1\n"
    "h = StridedSlice(s, i1, i2, i1) T=int32 shrink_axis_mask=1\n"
    "two = i32[]{2}\nh2 = Mul(h, two) T=int32\nc = i32[]{6}\nn = Pack(b, h2, h2, c) T=int32\n"
)


@pytest.mark.tf
@pytest.mark.parametrize("sizes", ["n = i32[4]{1 12 12 6}\n", COMPUTED])
def test_transposed_convolution(sizes: str) -> None:
    graph = tiny(TRANSPOSED % sizes)
    slim = check_any_half(graph, {"a": 8, "y": 6})
    assert shape(slim, "u") == (3, 3, 3, 4)
    assert gs.analyse(graph).fact(gs.Port("y")).shape == (1, 12, 12, 6)


@pytest.mark.tf
def test_transposed_convolution_of_dead_filters() -> None:
    graph = tiny(TRANSPOSED % COMPUTED)
    zero_filters(graph, "u", 2, [1, 4])
    zero_filters(graph, "u", 3, [7])
    prune(graph, {"a": [7], "y": [1, 4]})


@pytest.mark.tf
def test_transposed_convolution_with_the_sizes_of_space_alone() -> None:
    graph = tiny(TRANSPOSED % "n = i32[2]{12 12}\n")
    assert gs.analyse(graph).fact(gs.Port("y")).shape == (1, 12, 12, 6)
    check_any_half(graph, {"a": 8, "y": 6})


def test_transposed_convolution_in_groups_is_pinned() -> None:
    graph = tiny(
        START + "u = f32[3,3,3,8]{1}\nn = i32[4]{1 12 12 6}\n"
        "y = Conv2DBackpropInput(n, u, a) strides=[1,2,2,1]" + END % 6
    )
    assert pins(graph, "a") == "it enters a transposed convolution in groups @ y"


def test_transposed_depthwise_is_pinned() -> None:
    graph = tiny(
        START + "d = f32[3,3,8,1]{1}\nn = i32[4]{1 12 12 8}\n"
        'y = DepthwiseConv2dNativeBackpropInput(n, d, a) padding="SAME" strides=[1,2,2,1]' + END % 8
    )
    assert "transposed depthwise" in pins(graph, "a")


@pytest.mark.parametrize(
    "line", ["y = Conv2D(a, k)", "y = DepthwiseConv2dNative(a, k)", "y = MaxPool(a)"]
)
def test_packed_channels_are_pinned(line: str) -> None:
    graph = tiny(START + f'k = f32[1,1,8,4]{{1}}\n{line} data_format="NCHW_VECT_C"\n')
    assert "packs of four" in pins(graph, "a")
    gs.plan(graph)
