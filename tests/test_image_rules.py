"""Crops, patches and warps carry channels; a wall states what shape it can."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import numpy as np
import pytest
from tiny import advice, constant, dead, groups, pins, prune, tiny, value, zero_filters

import graphslim as gs
from graphslim import runtime
from graphslim.testing import assert_mask_equivalent, random_plan

START = (
    "x = input 1,6,6,4\na/w = f32[3,3,4,8]{random 1}\na = Conv2D(x, a/w)\nb = f32[8]{random 2}\n"
    "c = BiasAdd(a, b)\nr = Relu(c)\n"
)
END = "z/w = f32[1,1,%d,5]{random 9}\nz = Conv2D(y, z/w)\ns = Relu(z)\n" + (
    "q/w = f32[1,1,5,3]{random 8}\nq = Conv2D(s, q/w)\noutput q\n"
)
BOXES = "boxes = f32[2,4]{0 0 0.5 0.5 0.2 0.3 1.2 0.9}\nat = i32[2]{0 0}\nsize = i32[2]{4 3}\n"
CROP = BOXES + 'y = CropAndResize(r, boxes, at, size) method="bilinear" extrapolation_value=%s\n'
PATCHES = (
    'y = ExtractImagePatches(r) ksizes=[1,2,3,1] strides=[1,2,1,1] rates=[1,1,2,1] padding="%s"\n'
)
KEPT: Dict[str, Tuple[str, Any, int]] = {
    "crop": (CROP % "0.0", (2, 4, 3, 8), 1),
    "crop beside a number": (CROP % "0.5", (2, 4, 3, 8), 1),
    "patches": (PATCHES % "VALID", (1, 3, 2, 48), 6),
    "padded patches": (PATCHES % "SAME", (1, 3, 6, 48), 6),
    "scale": (
        "size = i32[2]{4 5}\nby = f32[2]{0.5 1.5}\nto = f32[2]{0 1}\n"
        'y = ScaleAndTranslate(r, size, by, to) kernel_type="triangle" antialias=true\n',
        (1, 4, 5, 8),
        1,
    ),
    "contrast": ("k = f32[]{2}\ny = AdjustContrastv2(r, k)\n", (1, 6, 6, 8), 1),
    "sequence": (
        "n = i32[1]{3}\ny = ReverseSequence(r, n) seq_dim=2 batch_dim=0 Tlen=int32\n",
        (1, 6, 6, 8),
        1,
    ),
    "fractions": (
        "y = FractionalMaxPool(r) pooling_ratio=[1.0,1.5,1.5,1.0] pseudo_random=false "
        "overlapping=false deterministic=true seed=1 seed2=2\n",
        (1, 4, 4, 8),
        1,
    ),
    "old dilation": (
        "n = i32[2,2]{0 0 0 0}\nu = SpaceToBatch(r, n) block_size=2 Tpaddings=int32\n"
        "v = Relu(u)\ny = BatchToSpace(v, n) block_size=2 Tidx=int32\n",
        (1, 6, 6, 8),
        1,
    ),
    "ensured": ("y = EnsureShape(r) shape=<?,6,6,8>\n", (1, 6, 6, 8), 1),
    "guaranteed": ("y = GuaranteeConst(r)\n", (1, 6, 6, 8), 1),
    "printed": ('n = f32[1]{1}\ny = Print(r, n) U=[float32] message="at"\n', (1, 6, 6, 8), 1),
}


def built(name: str) -> gs.Graph:
    text, _, copies = KEPT[name]
    return tiny(START + text + END % (8 * copies))


@pytest.mark.tf
@pytest.mark.parametrize("name", sorted(KEPT))
def test_channels_are_carried(name: str) -> None:
    graph = built(name)
    if name == "guaranteed" and not runtime.version().startswith("1."):
        pytest.skip("this TensorFlow refuses it on what is fed")
    assert gs.analyse(graph).fact(gs.Port("y")).shape == KEPT[name][1]
    assert {one.id: len(one) for one in groups(graph).values() if one.prunable} == {"a": 8, "z": 5}
    slim = assert_mask_equivalent(graph, random_plan(graph, seed=5), tolerance=1e-5)
    assert constant(slim, "z/w").shape == (1, 1, 4 * KEPT[name][2], 3)


def test_where_a_pool_by_fractions_starts_is_one_longer_than_its_map() -> None:
    fractions = built("fractions")
    starts = [gs.analyse(fractions).fact(gs.Port("y", output)).shape for output in (1, 2)]
    assert starts == [(5,), (5,)]


FOLDED = {
    "crop": [2], "crop beside a number": [0, 2], "patches": [0, 2, 5], "padded patches": [2],
    "scale": [2], "contrast": [0, 2, 5], "sequence": [0, 2, 5], "fractions": [0, 2, 5],
    "old dilation": [0, 2, 5], "ensured": [0, 2, 5], "printed": [0, 2, 5],
}  # fmt: skip


@pytest.mark.tf
@pytest.mark.parametrize("name", sorted(FOLDED))
def test_constant_channels_stay_constant_where_nothing_else_is_seen(name: str) -> None:
    """Channel 0 is 0.5 everywhere, channel 2 is 0, channel 5 is 1; what is outside differs."""
    graph = zero_filters(built(name), "a/w", 3, [0, 2, 5])
    offsets = np.array([0.5, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    graph.set_attr("b", "value", graph["b"].attrs["value"].with_numbers(offsets))
    if name == "crop beside a number":
        # Where the crop leaves the image, zeros meet 0.5: what was 0 is not known any more.
        assert list(dead(graph)["a"]) == [0]
        return
    prune(graph, {"a": FOLDED[name]})


COLOURS = "its channels are colours that are computed with"


@pytest.mark.parametrize("op", ["RGBToHSV(a)", "AdjustHue(a, k)", "AdjustSaturation(a, k)"])
def test_colours_are_pinned(op: str) -> None:
    text = "x = input 1,6,6,4\na/w = f32[3,3,4,3]{random 1}\na = Conv2D(x, a/w)\nk = f32[]{0.5}\n"
    graph = tiny(text + f"y = {op}\n" + END % 3)
    assert pins(graph, "a") == f"{COLOURS} @ y"
    assert groups(graph)["z"].prunable


# ------------------------------------------------------------------ walls


@pytest.mark.parametrize(
    "wall",
    [
        "y = MysteryOp(r)\n",
        "y = MysteryOp(r) _output_shapes=[<1,3,3,7>]\n",
        "k = input 4\ni = Cast(k)\ny = Reshape(r, i)\n",
    ],
)
def test_what_stands_behind_a_wall_is_pruned(wall: str) -> None:
    """A convolution takes the width of its input from its filters where nothing else tells it."""
    graph = tiny(START + wall + END % 7)
    assert {one.id: one.prunable for one in groups(graph).values()} == {
        "a": False,
        "z": True,
        "q": False,
    }
    slim = gs.apply(graph, random_plan(graph, seed=1))
    assert constant(slim, "z/w").shape == (1, 1, 7, 3)


def test_a_convolution_of_unknown_width_with_filters_for_one_channel_stays() -> None:
    """It may be one in groups, of one channel each."""
    graph = tiny(START + "y = MysteryOp(r)\n" + END % 1)
    reason = "how many channels enter its convolution is not known"
    assert pins(graph, "z") == f"{reason} @ z"
    assert "--input-shape" not in advice(graph, "z")
    assert "channel_rule" in advice(graph, "z")
    opened = tiny((START + "y = MysteryOp(r)\n" + END % 1).replace("input 1,6,6", "input 1,?,?"))
    assert "--input-shape" in advice(opened, "z")


def test_a_product_of_unknown_width_takes_it_from_its_weights() -> None:
    graph = tiny(
        START + "y = MysteryOp(r)\nw = f32[9,6]{random 3}\nm = MatMul(y, w)\nn = Relu(m)\n"
        "v = f32[6,2]{random 4}\nq = MatMul(n, v)\noutput q\n"
    )
    assert groups(graph)["m"].prunable
    assert gs.analyse(graph).fact(gs.Port("m")).shape == (None, 6)
    slim = gs.apply(graph, gs.plan(graph, removed={"m": [0, 5]}))
    assert constant(slim, "w").shape == (9, 4) and constant(slim, "v").shape == (4, 2)


def test_boxes_state_their_rank() -> None:
    text = START + "s = f32[4]{1 2 3 4}\nb = f32[4,4]{random 3}\nk = i32[]{2}\nt = f32[]{0.5}\n"
    text = text.replace("b = f32[8]", "o = f32[8]").replace("BiasAdd(a, b)", "BiasAdd(a, o)")
    graph = tiny(text + "y = NonMaxSuppressionV3(b, s, k, t, t)\nq = Identity(r)\noutput q\n")
    assert gs.analyse(graph).fact(gs.Port("y")).shape == (None,)


@pytest.mark.parametrize("count, numbers", [(5, [0, 0.25, 0.5, 0.75, 1]), (1, [0])])
def test_even_steps_are_known(count: int, numbers: Any) -> None:
    graph = tiny(
        f"n = i32[]{{{count}}}\nlow = f32[]{{0}}\nhigh = f32[]{{1}}\n"
        "y = LinSpace(low, high, n) Tidx=int32\noutput y\n"
    )
    np.testing.assert_allclose(value(graph, "y"), numbers)


@pytest.mark.tf
def test_half_the_sum_of_squares_is_a_contraction() -> None:
    graph = zero_filters(tiny(START + "y = L2Loss(a)\noutput y\n"), "a/w", 3, [1, 3])
    assert dead(graph) == {"a": [1, 3]}
    assert_mask_equivalent(graph, random_plan(graph, seed=1), tolerance=1e-5)
