"""Constants that are not plain floats: cast, quantised, fake-quantised, moved or reshaped."""

from __future__ import annotations

from typing import Dict, List

import numpy as np
import pytest
from tiny import constant, dead, groups, pins, prune, tiny, value, zero_filters

import graphslim as gs
from graphslim.ir import DType
from graphslim.runtime import Session, tensorflow
from graphslim.testing import assert_mask_equivalent, random_plan

pytestmark = pytest.mark.tf

START = "x = input 1,6,6,4\n"
END = "y = Relu(a)\nz/w = f32[1,1,8,3]{random 9}\nz = Conv2D(y, z/w)\nq = Relu(z)\noutput q\n"
LAYER = "a = Conv2D(x, w)\n" + END
RANGES = "low = f32[]{-1.5}\nhigh = f32[]{1.25}\n"


def prunable(graph: gs.Graph) -> Dict[str, int]:
    return {one.id: len(one) for one in groups(graph).values() if one.prunable}


def with_weights(graph: gs.Graph, dtype: DType, gone: List[int], zero: int = 0) -> gs.Graph:
    """Gives the constant `k` random numbers of a type; the filters `gone` hold the stored zero."""
    rng = np.random.RandomState(4)
    shape = graph["k"].attrs["value"].shape
    if dtype.storage.kind in "iu" and dtype is not DType.bfloat16:
        bounds = np.iinfo(dtype.storage)
        numbers = rng.randint(max(bounds.min, -999), min(bounds.max, 999) + 1, shape)
    else:
        numbers = rng.randn(*shape)
    numbers[..., gone] = zero
    graph.set_attr("k", "value", gs.Tensor.from_numbers(numbers, dtype))
    graph.set_attr("k", "dtype", dtype)
    return graph


# ------------------------------------------------------------------ casts


@pytest.mark.parametrize("dtype", [DType.float16, DType.bfloat16, DType.float64, DType.int8])
def test_cast_weights_are_pruned(dtype: DType) -> None:
    graph = tiny(
        START + "k = f32[3,3,4,8]{1}\nk1 = Identity(k)\n"
        f"w = Cast(k1) SrcT={dtype.name} DstT=float32\n" + LAYER
    )
    graph.set_attr("k1", "T", dtype)
    with_weights(graph, dtype, [2, 5])
    assert prunable(graph) == {"a": 8}
    slim = prune(graph, {"a": [2, 5]})
    assert slim["k"].attrs["value"].dtype is dtype
    assert slim["k"].attrs["value"].shape == (3, 3, 4, 6)
    assert_mask_equivalent(graph, random_plan(graph), tolerance=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_known_values_are_rounded_to_half_as_tensorflow_does(dtype: str) -> None:
    numbers = "0 1 0.1 -2.7 1000.3 1.00048828125 3.0009765625 65519 0.33333 1.00390625 1.01171875"
    graph = tiny(
        f"k = f32[11]{{{numbers}}}\nh = Cast(k) DstT={dtype}\ny = Cast(h) SrcT={dtype} DstT=float32"
    )
    known = value(graph, "y")
    assert known is not None
    with Session(graph) as session:
        actual = session.run({}, ["y"])[0]
    np.testing.assert_array_equal(known, actual)


def test_casts_of_computed_values() -> None:
    graph = tiny(
        "x = input 1,4\nk = f32[4]{0 0.5 2 1e9}\nm = f32[4]{0 1 1 1}\nc = Mul(k, m)\n"
        "i = Cast(c) SrcT=float32 DstT=int8\nb = Cast(c) SrcT=float32 DstT=bool\n"
        "f = Cast(b) SrcT=bool DstT=float32\n"
    )
    whole, truth = value(graph, "i"), value(graph, "f")
    assert whole is not None and truth is not None
    assert truth.ravel().tolist() == [0, 1, 1, 1]
    assert whole.ravel()[:2].tolist() == [0, 0]
    assert np.isnan(whole.ravel()[2:]).all(), "on a step, and beyond what fits"


# ------------------------------------------------------------------ moved and reshaped


@pytest.mark.parametrize(
    "text",
    [
        "k = f32[8,4,3,3]{random 2}\np = i32[4]{2 3 1 0}\nw = Transpose(k, p) Tperm=int32\n",
        "k = f32[9,4,8]{random 2}\np = i32[4]{3 3 4 8}\nw = Reshape(k, p) Tshape=int32\n",
        "k = f32[1,3,3,4,8]{random 2}\nw = Squeeze(k) squeeze_dims=[0]\n",
        "k = f32[3,3,4,8]{random 2}\nk1 = Identity(k)\nw = Identity(k1)\n",
    ],
)
def test_moved_weights_are_pruned(text: str) -> None:
    graph = tiny(START + text + LAYER)
    assert prunable(graph) == {"a": 8}
    assert_mask_equivalent(graph, random_plan(graph), tolerance=1e-5)
    shape = graph["k"].attrs["value"].shape
    zero_filters(graph, "k", shape.index(8), [1, 6])
    prune(graph, {"a": [1, 6]})


# ------------------------------------------------------------------ dequantised weights

ZEROS = {"MIN_COMBINED": (-1.0, 1.55), "MIN_FIRST": (-1.5, 1.25), "SCALED": (-1.25, 1.25)}


@pytest.mark.parametrize("dtype", [DType.quint8, DType.qint8])
@pytest.mark.parametrize("mode", sorted(ZEROS))
def test_dequantised_weights_are_pruned(mode: str, dtype: DType) -> None:
    low, high = ZEROS[mode]
    graph = tiny(
        START + f"k = f32[3,3,4,8]{{1}}\nlow = f32[]{{{low}}}\nhigh = f32[]{{{high}}}\n"
        f'w = Dequantize(k, low, high) T={dtype.name} mode="{mode}"\n' + LAYER
    )
    with_weights(graph, dtype, [])
    assert prunable(graph) == {"a": 8}
    slim = assert_mask_equivalent(graph, random_plan(graph), tolerance=1e-5)
    assert slim["k"].attrs["value"].shape == (3, 3, 4, 4)
    known = value(graph, "w")
    assert known is not None
    with Session(graph) as session:
        data = {"x": np.zeros((1, 6, 6, 4), np.float32)}
        np.testing.assert_allclose(session.run(data, ["w"])[0], known, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "dtype, mode, low, high, zero",
    [
        (DType.qint8, "SCALED", -1.25, 1.25, 0),
        (DType.quint8, "SCALED", 0, 1.25, 0),
        (DType.quint8, "MIN_FIRST", 0, 1.25, 0),
        (DType.quint8, "MIN_COMBINED", 0, 1.25, 0),
        (DType.quint8, "MIN_COMBINED", -2, 3.1, 100),
    ],
)
def test_filters_that_stand_for_zero_are_dead(
    dtype: DType, mode: str, low: float, high: float, zero: int
) -> None:
    graph = tiny(
        START + f"k = f32[3,3,4,8]{{1}}\nlow = f32[]{{{low}}}\nhigh = f32[]{{{high}}}\n"
        f'w = Dequantize(k, low, high) T={dtype.name} mode="{mode}"\n' + LAYER
    )
    prune(with_weights(graph, dtype, [0, 3], zero), {"a": [0, 3]})


def test_an_integer_near_zero_is_no_zero() -> None:
    """None of the steps of this range is zero."""
    graph = tiny(
        START + "k = f32[3,3,4,8]{1}\n" + RANGES
        + 'w = Dequantize(k, low, high) T=quint8 mode="MIN_COMBINED"\n' + LAYER
    )  # fmt: skip
    assert dead(with_weights(graph, DType.quint8, [0, 3], 139)) == {}


def test_a_range_may_be_a_vector_of_one_number() -> None:
    text = (
        START
        + "k = f32[3,3,4,8]{1}\n%s"
        + ('w = Dequantize(k, low, high) T=quint8 mode="MIN_FIRST"\n' + LAYER)
    )
    known = [
        value(with_weights(tiny(text % ranges), DType.quint8, []), "w")
        for ranges in (
            "low = f32[]{-1.5}\nhigh = f32[]{1.25}\n",
            "low = f32[1]{-1.5}\nhigh = f32[1]{1.25}\n",
        )
    ]
    assert known[0] is not None
    np.testing.assert_array_equal(known[0], known[1])


def test_ranges_per_channel_go_with_the_channel() -> None:
    if not tensorflow().__version__.startswith("2"):
        pytest.skip("this TensorFlow dequantises whole tensors only")
    graph = tiny(
        START + "k = f32[3,3,4,8]{1}\nlow = f32[8]{-3 -2 -1 -3 -2 -1 -4 -5}\n"
        "high = f32[8]{3 2 1 3 2 1 4 5}\n"
        'w = Dequantize(k, low, high) T=qint8 mode="SCALED" axis=3\n' + LAYER
    )
    with_weights(graph, DType.qint8, [1])
    assert prunable(graph) == {"a": 8}
    slim = prune(graph, {"a": [1]})
    assert constant(slim, "low").tolist() == [-3, -1, -3, -2, -1, -4, -5]
    assert_mask_equivalent(graph, random_plan(graph), tolerance=1e-5)


def test_quantised_consumer_weights_are_pruned() -> None:
    """The stored zero is not the number zero, so that the reference has to mask the data."""
    graph = tiny(
        START + "a/w = f32[3,3,4,8]{random 1}\na = Conv2D(x, a/w)\ny = Relu(a)\n"
        + RANGES + "k = f32[1,1,8,3]{1}\n"
        'w = Dequantize(k, low, high) T=quint8 mode="MIN_FIRST"\n'
        "z = Conv2D(y, w)\noutput z\n"
    )  # fmt: skip
    assert prunable(with_weights(graph, DType.quint8, [])) == {"a": 8}
    assert_mask_equivalent(graph, random_plan(graph), tolerance=1e-5)


# ------------------------------------------------------------------ fake quantisation

NARROW = "y0 = FakeQuantWithMinMaxArgs(a) min=-0.7 max=0.9 "
FAKE = {
    "Args": NARROW + "num_bits=8\n",
    "Args, narrow": NARROW + "num_bits=4 narrow_range=true\n",
    "Vars": RANGES + "y0 = FakeQuantWithMinMaxVars(a, low, high) num_bits=8\n",
    "PerChannel": (
        "low = f32[8]{-1 -2 -3 -0.5 -1 -2 -3 -0.5}\nhigh = f32[8]{1 2 3 0.5 2 3 1 1}\n"
        "y0 = FakeQuantWithMinMaxVarsPerChannel(a, low, high) num_bits=8\n"
    ),
    "above zero": "y0 = FakeQuantWithMinMaxArgs(a) min=0.2 max=0.9 num_bits=8\n",
    "V1": "y0 = QuantizeAndDequantize(a) range_given=true input_min=-1.0 input_max=1.0\n",
    "V2": RANGES + "y0 = QuantizeAndDequantizeV2(a, low, high) num_bits=8 range_given=true\n",
    "V3": RANGES + "n = i32[]{8}\ny0 = QuantizeAndDequantizeV3(a, low, high, n) range_given=true\n",
    "V4": RANGES + "y0 = QuantizeAndDequantizeV4(a, low, high) num_bits=8 range_given=true\n",
}  # fmt: skip


def fake(name: str) -> gs.Graph:
    op = FAKE[name].rsplit(" = ", 1)[1].split("(")[0]
    if not hasattr(tensorflow().raw_ops, op):
        pytest.skip(f"this TensorFlow has no op {op}")
    text = START + "a/w = f32[1,1,4,8]{random 1}\na = Conv2D(x, a/w)\n" + FAKE[name]
    return tiny(text + END.replace("Relu(a)", "Relu(y0)"))


@pytest.mark.parametrize("name", sorted(FAKE))
def test_fake_quantisation_keeps_channels_and_zeros(name: str) -> None:
    graph = zero_filters(fake(name), "a/w", 3, [1, 6])
    assert prunable(graph) == {"a": 8}
    assert_mask_equivalent(graph, random_plan(graph), tolerance=1e-5)
    prune(graph, {"a": [1, 6]})


def test_steps_of_a_range_that_is_not_known_may_miss_zero() -> None:
    """A range from an input need not hold zero, so that a zero channel is not known to stay it."""
    ranges = START + "low = input 1\nhigh = input 1\na/w = f32[1,1,4,8]{random 1}\n"
    text = "a = Conv2D(x, a/w)\n" + FAKE["V2"].replace(RANGES, "")
    graph = zero_filters(tiny(ranges + text + END.replace("Relu(a)", "Relu(y0)")), "a/w", 3, [1])
    assert gs.plan(graph).removed == 0


@pytest.mark.parametrize("name", ["Args", "Args, narrow", "Vars", "PerChannel", "above zero"])
def test_fake_quantised_values_are_those_of_tensorflow(name: str) -> None:
    """Of weights; a number between two steps, where rounding decides, is not claimed."""
    numbers = " ".join([f"{number:.3f}" for number in np.random.RandomState(1).randn(64)])
    graph = tiny(f"a = f32[8,8]{{{numbers}}}\n" + FAKE[name])
    known = value(graph, "y0")
    assert known is not None and (~np.isnan(known)).mean() > 0.9
    with Session(graph) as session:
        actual = session.run({}, ["y0"])[0]
    there = ~np.isnan(known)
    np.testing.assert_allclose(actual[there], known[there], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", ["", " axis=3"])
def test_range_that_is_taken_from_the_data_pins(axis: str) -> None:
    graph = tiny(
        START + "a/w = f32[1,1,4,8]{random 1}\na = Conv2D(x, a/w)\n" + RANGES
        + "y0 = QuantizeAndDequantizeV2(a, low, high) num_bits=8 range_given=false" + axis + "\n"
        + END.replace("Relu(a)", "Relu(y0)")
    )  # fmt: skip
    if axis:
        assert prunable(graph) == {"a": 8}
    else:
        assert pins(graph, "a") == "its range is taken over every channel @ y0"


@pytest.mark.parametrize("bounds", ["{0.5} {0.5}", "{1} {-1}"])
def test_a_range_without_sense_claims_nothing(bounds: str) -> None:
    low, high = bounds.split()
    graph = tiny(
        f"a = f32[8]{{0}}\nlow = f32[]{low}\nhigh = f32[]{high}\n"
        "y = FakeQuantWithMinMaxVars(a, low, high) num_bits=8\n"
    )
    assert value(graph, "y") is None


def test_arithmetic_on_integers_pins() -> None:
    graph = tiny(
        START + "a/w = f32[1,1,4,8]{random 1}\na = Conv2D(x, a/w)\n" + RANGES
        + "s = QuantizeV2(a, low, high) T=quint8\n"
        "r = QuantizedRelu(s, s:1, s:2) Tinput=quint8 out_type=quint8\n"
        "y = Dequantize(r, r:1, r:2) T=quint8\noutput y\n"
    )  # fmt: skip
    assert pins(graph, "a") == "it is computed in quantised integers @ r"


def test_quantised_and_back_keeps_channels() -> None:
    graph = tiny(
        START + "a/w = f32[1,1,4,8]{random 1}\na = Conv2D(x, a/w)\n" + RANGES
        + 's = QuantizeV2(a, low, high) T=quint8 mode="MIN_FIRST"\n'
        'y0 = Dequantize(s, s:1, s:2) T=quint8 mode="MIN_FIRST"\n'
        + END.replace("Relu(a)", "Relu(y0)")
    )  # fmt: skip
    assert prunable(graph) == {"a": 8}
    assert_mask_equivalent(graph, random_plan(graph), tolerance=1e-5)
