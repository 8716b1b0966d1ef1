"""What a graph says of the numbers that it is fed, by what it does to them first."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Tuple

import numpy as np
import pytest
from tiny import tiny

from graphslim.measure.inputs import range_of
from graphslim.measure.samples import Examples, Samples

CONV = "\nw = f32[3,3,3,4]{random 1}\ny = Conv2D(%s, w)"
BYTES, UNIT, SIGNED = (0.0, 255.0), (0.0, 1.0), (-1.0, 1.0)


def evidence(text: str, last: str, before: str = "x = input 1,8,8,3") -> Tuple[object, ...]:
    found = range_of(tiny(f"{before}\n{text}{CONV % last}"), "x")
    return (found.low, found.high), found.order, found.reason


@pytest.mark.parametrize(
    ("text", "expected", "order"),
    [
        ("k = f32[]{0.00784314}\na = Mul(x, k)\none = f32[]{1}\nz = Sub(a, one)", BYTES, None),
        ("k = f32[]{2}\na = Mul(x, k)\none = f32[]{1}\nz = Sub(a, one)", UNIT, None),
        ("h = f32[]{0.5}\na = Sub(x, h)\nk = f32[]{2}\nz = Mul(a, k)", UNIT, None),
        ("h = f32[]{0.5}\nz = Sub(x, h)", UNIT, None),
        ("one = f32[]{1}\na = Add(x, one)\nk = f32[]{127.5}\nz = Mul(k, a)", SIGNED, None),
        ("k = f32[]{255}\nz = Mul(x, k)", UNIT, None),
        ("m = f32[3]{123.68 116.779 103.939}\nz = Sub(x, m)", BYTES, "RGB"),
        ("m = f32[3]{104 117 123}\nz = Sub(x, m)", BYTES, "BGR"),
        ("m = f32[3]{-123 -117 -104}\nz = BiasAdd(x, m)", BYTES, "RGB"),
        (
            "m = f32[3]{0.485 0.456 0.406}\na = Sub(x, m)\ns = f32[3]{0.229 0.224 0.225}\n"
            "z = RealDiv(a, s)",
            UNIT,
            "RGB",
        ),
        (
            "k = f32[]{0.00392157}\na = Mul(x, k)\nm = f32[3]{0.406 0.456 0.485}\nb = Sub(a, m)\n"
            "s = f32[3]{0.225 0.224 0.229}\nz = RealDiv(b, s)",
            BYTES,
            "BGR",
        ),
        ("m = f32[]{0.1307}\na = Sub(x, m)\ns = f32[]{0.3081}\nz = RealDiv(a, s)", UNIT, None),
        ("k = f32[]{0.017}\nm = f32[3]{124 117 104}\na = Sub(x, m)\nz = Mul(a, k)", BYTES, "RGB"),
        ("c = f32[]{127.5}\na = Sub(c, x)\nz = RealDiv(a, c)", BYTES, None),
    ],
)
def test_scaling_behind_the_input(text: str, expected: object, order: Optional[str]) -> None:
    found, found_order, reason = evidence(text, "z")
    assert (found, found_order) == (expected, order)
    assert "brings it to" in str(reason)


def test_what_says_nothing_is_assumed() -> None:
    assert evidence("z = Relu(x)", "z") == (SIGNED, None, None)
    assert evidence("k = f32[]{0.3}\na = Mul(x, k)\nb = f32[]{7}\nz = Add(a, b)", "z")[2] is None
    # Each image's own mean says nothing of the range either.
    text = "axes = i32[3]{1 2 3}\nm = Mean(x, axes) Tidx=int32\nz = Sub(x, m)"
    assert evidence(text, "z") == (SIGNED, None, None)


@pytest.mark.parametrize(
    "reverse",
    [
        "axis = i32[1]{3}\nr = ReverseV2(x, axis) Tidx=int32",
        "first = i32[4]{0 0 0 -1}\nlast = i32[4]{0 0 0 -4}\nstep = i32[4]{1 1 1 -1}\n"
        "r = StridedSlice(x, first, last, step) begin_mask=7 end_mask=15",
        "axis = i32[]{3}\nparts = Split(axis, x) num_split=3\n"
        "r = ConcatV2(parts:2, parts:1, parts, axis) N=3",
        "order = i32[3]{2 1 0}\naxis = i32[]{3}\nr = GatherV2(x, order, axis)",
    ],
)
def test_colours_that_the_graph_itself_reverses(reverse: str) -> None:
    found, order, _ = evidence(
        f"{reverse}\nm = f32[3]{{103.939 116.779 123.68}}\nz = Sub(r, m)", "z"
    )
    assert (found, order) == (BYTES, "RGB")


def test_a_mean_of_each_part_as_in_published_vgg() -> None:
    text = """
        k = f32[]{255}
        scaled = Mul(x, k)
        axis = i32[]{3}
        parts = Split(axis, scaled) num_split=3
        r = f32[]{123.68}
        g = f32[]{116.779}
        b = f32[]{103.939}
        red = Sub(parts, r)
        green = Sub(parts:1, g)
        blue = Sub(parts:2, b)
        z = ConcatV2(blue, green, red, axis) N=3
    """
    assert evidence(text, "z")[:2] == (UNIT, "RGB")


def test_shape_arithmetic_padding_and_resizing_are_looked_through() -> None:
    text = """
        shape = Shape(x)
        size = i32[2]{16 16}
        big = ResizeBilinear(x, size)
        amounts = i32[4,2]{0 0 1 1 1 1 0 0}
        padded = Pad(big, amounts) Tpaddings=int32
        k = f32[]{127.5}
        z = RealDiv(padded, k)
    """
    assert evidence(text, "z")[0] == BYTES


def test_bytes_are_bytes_whatever_follows() -> None:
    before = "x = Placeholder() dtype=uint8 shape=<1,8,8,3>\nf = Cast(x) SrcT=uint8 DstT=float32"
    text = "m = f32[3]{104 117 123}\nz = Sub(f, m)"
    assert evidence(text, "z", before) == (BYTES, "BGR", "the input is of uint8")


def test_a_batch_norm_that_reads_the_input() -> None:
    for mean, variance, expected in ((120, 4000, BYTES), (0.45, 0.06, UNIT), (0, 0.25, SIGNED)):
        text = (
            "g = f32[3]{3 5 9}\no = f32[3]{1 2 3}\n"
            f"m = f32[3]{{{mean} {mean} {mean}}}\nv = f32[3]{{{variance} {variance} {variance}}}\n"
            "z = FusedBatchNorm(x, g, o, m, v)"
        )
        assert evidence(text, "z")[0] == expected


def test_the_range_that_quantisation_states() -> None:
    text = "z = FakeQuantWithMinMaxArgs(x) min=-0.5 max=0.5 num_bits=8 narrow_range=false"
    found, _, reason = evidence(text, "z")
    assert found == (-0.5, 0.5) and reason == "z states it"


def test_an_nchw_input() -> None:
    graph = tiny("x = input 1,3,8,8\nm = f32[3,1,1]{123 117 104}\ny = Sub(x, m)")
    assert range_of(graph, "x")[:3] == (0.0, 255.0, "RGB")


def test_blue_first_is_fed_and_told_where_the_graph_wants_it(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    image.new("RGB", (8, 8), (10, 20, 30)).save(str(tmp_path / "a.png"))
    graph = tiny("x = input 1,8,8,3\nm = f32[3]{104 117 123}\nz = Sub(x, m)" + CONV % "z")
    examples = Examples(graph, Samples(str(tmp_path)))
    ((feeds, _),) = list(examples)
    np.testing.assert_allclose(feeds["x"][0, 0, 0], [30, 20, 10])
    assert (
        "BGR, pixels scaled to 0..255 (by the graph: z brings it to -123..151)"
        in (examples.about.lines()[0])
    )


def test_constants_that_are_computed_count_as_constants() -> None:
    text = """
        variance = f32[3]{3600 3600 3600}
        inverse = Rsqrt(variance)
        mean = f32[3]{123 117 104}
        same = Identity(mean)
        a = Sub(x, same)
        z = Mul(inverse, a)
    """
    assert evidence(text, "z")[:2] == (BYTES, "RGB")
