"""Value rules against TensorFlow: what they claim to know has to be what TensorFlow computes."""

from __future__ import annotations

from typing import Dict, List, Tuple

import numpy as np
import pytest
from tiny import constant, tiny, value

import graphslim as gs
from graphslim.analysis.values import Values
from graphslim.runtime import Session

pytestmark = pytest.mark.tf

PRELUDE = """
x = input 1,4,4,3
w = f32[1,1,3,4]{0 1 0 0.3 0 -1 0 0.7 0 0.5 0 -0.2}
a = Conv2D(x, w)
b = f32[4]{0.5 0 -2 1}
c = BiasAdd(a, b)
k = f32[4]{0.25 1 -3 2}
s = f32[]{3}
two = i32[2]{1 2}
three = i32[]{3}
"""
"""`a` is 0 in channels 0 and 2, unknown in 1 and 3; `c` is 0.5 and -2 there."""

UNARY = [
    "Relu",
    "Relu6",
    "Elu",
    "Selu",
    "Softplus",
    "Softsign",
    "Sigmoid",
    "Tanh",
    "Neg",
    "Abs",
    "Square",
    "Exp",
    "Floor",
    "Ceil",
    "Round",
    "Sign",
    "Reciprocal",
    "Sin",
    "Cos",
    "LeakyRelu",
    "Identity",
    "ZerosLike",
    "OnesLike",
]
BINARY = [
    "Add",
    "AddV2",
    "Sub",
    "RealDiv",
    "Maximum",
    "Minimum",
    "FloorDiv",
    "FloorMod",
    "SquaredDifference",
    "Mul",
]
LAYERS: Dict[str, str] = {
    "softened": "Conv2D(c, wide)",
    "valid": 'Conv2D(c, wide) padding="VALID"',
    "strided": "Conv2D(c, point) strides=[1,2,2,1]",
    "depthwise_same": "DepthwiseConv2dNative(c, deep)",
    "depthwise_valid": 'DepthwiseConv2dNative(c, deep) padding="VALID"',
    "norm": "FusedBatchNorm(c, k, b, k, v)",
    "average": "AvgPool(c) ksize=[1,3,3,1]",
    "largest": "MaxPool(c) ksize=[1,3,3,1] strides=[1,2,2,1]",
    "mean": "Mean(c, two) Tidx=int32",
    "mean_from_behind": "Mean(c, behind) Tidx=int32 keep_dims=false",
    "sum": "Sum(c, two) Tidx=int32 keep_dims=true",
    "max": "Max(c, two) Tidx=int32 keep_dims=true",
    "pad": "Pad(c, pads) Tpaddings=int32",
    "pad_zero": "Pad(a, pads) Tpaddings=int32",
    "pad_value": "PadV2(c, pads, half) Tpaddings=int32",
    "mirror": 'MirrorPad(c, pads) Tpaddings=int32 mode="SYMMETRIC"',
    "bigger": "ResizeBilinear(c, size) align_corners=true half_pixel_centers=false",
    "nearest": "ResizeNearestNeighbor(c, size) align_corners=false half_pixel_centers=false",
    "to_space": "DepthToSpace(a)",
    "to_depth": "SpaceToDepth(c)",
    "to_batch": "SpaceToBatchND(c, two2, edges)",
    "joined": "ConcatV2(c, a, three) Tidx=int32",
    "joined_rows": "ConcatV2(c, a, one) Tidx=int32",
    "sum_of_all": "AddN(c, a, c)",
    "clipped": "ClipByValue(c, minus, half)",
    "flat": "Reshape(c, target) Tshape=int32",
    "vector": "Reshape(pooled, target4) Tshape=int32",
    "squeezed": "Squeeze(pooled) squeeze_dims=[1,2]",
    "widened": "ExpandDims(pooled, three) Tdim=int32",
    "turned": "Transpose(c, order) Tperm=int32",
    "part": "Split(three, c) num_split=2",
    "cast": "Cast(c) SrcT=float32 DstT=int32",
    "back": "Cast(cast) SrcT=int32 DstT=float32",
    "gate": "Mul(a, c)",
    "tiled": "Tile(c, counts)",
    "spread": "BroadcastTo(c, whole)",
    "stacked": "Pack(c, c) axis=1 N=2",
    "joined_alike": "ConcatV2(c, c, one) Tidx=int32",
    "pad_all": "Pad(a, pads_all) Tpaddings=int32",
    "cubic": "ResizeBicubic(c, size) align_corners=true half_pixel_centers=false",
    "area": "ResizeArea(c, size) align_corners=false",
    "largest_by_inputs": 'MaxPoolV2(c, window, strides) padding="SAME"',
    "picked_rows": "GatherV2(c, two, one)",
    "picked_cells": "GatherNd(c, cells) Tparams=float32 Tindices=int32",
    "rolled": "Roll(c, two, two) Tshift=int32 Taxis=int32",
    "reversed": "ReverseV2(c, two) Tidx=int32",
    "to_batch_unpadded": "SpaceToBatchND(c, two2, no_edges)",
    "chosen": "SelectV2(choice, c, c)",
    "chosen_rows": "Select(row_choice, c, c)",
    "picked_each": "GatherV2(c, each, one) batch_dims=1",
    "tiled_by_data": "Tile(c, counts_of_data)",
    "joined_open": "ConcatV2(tiled_by_data, c, one) Tidx=int32",
    "joined_open_with_others": "ConcatV2(tiled_by_data, partly, one) Tidx=int32",
    "chosen_examples": "Select(first_alone, pair, minus_pair)",
    "chosen_by_data": "Select(by_data, pair, partly_pair)",
    "average_each": "AvgPool(pair) ksize=[1,3,3,1]",
    "largest_each": "MaxPool(pair) ksize=[1,3,3,1] strides=[1,2,2,1]",
    "ones": "OnesLike(x)",
    "ones_tiled": "Tile(ones, fed_counts)",
    "ones_joined": "ConcatV2(ones, ones, three) Tidx=int32",
    "ones_to_space": "SpaceToDepth(ones)",
    "ones_flat": "Reshape(ones, flat_ones) Tshape=int32",
    "ones_resized": "ResizeBilinear(ones, size) align_corners=true half_pixel_centers=false",
    "transposed": "Conv2DBackpropInput(outer, upper, c) strides=[1,2,2,1]",
    "product": "MatMul(row, dense)",
    "turned_product": "MatMul(row, dense_t) transpose_b=true",
    "to_batch_zero": "SpaceToBatchND(a, two2, edges)",
    "to_batch_old": "SpaceToBatch(c, no_edges) block_size=2 Tpaddings=int32",
    "to_batch_old_edges": "SpaceToBatch(c, edges) block_size=2 Tpaddings=int32",
    "from_batch": "BatchToSpaceND(to_batch_unpadded, two2, crops)",
    "from_batch_old": "BatchToSpace(to_batch_old, crops) block_size=2 Tidx=int32",
    "softened_zero": "Conv2D(a, wide)",
    "transposed_zero": "Conv2DBackpropInput(outer, upper, a) strides=[1,2,2,1]",
    "depthwise_zero": "DepthwiseConv2dNative(a, deep)",
    "norm_3": (
        "FusedBatchNormV3(c, k, b, k, v) "
        'U=float32 data_format="NHWC" epsilon=0.001 is_training=false'
    ),
    "least": "Min(c, two) Tidx=int32 keep_dims=true",
    "product_of_rows": "Prod(c, one) Tidx=int32 keep_dims=false",
    "length": "EuclideanNorm(c, two) Tidx=int32 keep_dims=true",
    "every": "All(positive, two) Tidx=int32 keep_dims=true",
    "some": "Any(positive, two) Tidx=int32 keep_dims=true",
    "neither": "LogicalNot(positive)",
    "squares": "L2Loss(ones_weighed)",
    "squares_unknown": "L2Loss(c)",
    "shares": "Softmax(ones_weighed)",
    "log_shares": "LogSoftmax(ones_weighed)",
    "shares_unknown": "Softmax(c)",
    "summed_up": "Cumsum(a, one) Tidx=int32 exclusive=false reverse=false",
    "rolled_channels": "Roll(c, two, three_two) Tshift=int32 Taxis=int32",
    "reversed_channels": "ReverseV2(c, three_two) Tidx=int32",
    "picked_channels": "GatherV2(c, picks, three)",
    "picked_channels_old": "Gather(turned_first, picks) Tparams=float32 Tindices=int32",
    "crop": 'CropAndResize(c, boxes, zero_one, size) method="bilinear" extrapolation_value=0.5',
    "patches": (
        'ExtractImagePatches(c) ksizes=[1,2,2,1] strides=[1,1,1,1] rates=[1,1,1,1] padding="VALID"'
    ),
    "patches_zero": (
        'ExtractImagePatches(a) ksizes=[1,2,2,1] strides=[1,1,1,1] rates=[1,1,1,1] padding="SAME"'
    ),
    "patches_bordered": (
        'ExtractImagePatches(c) ksizes=[1,2,2,1] strides=[1,1,1,1] rates=[1,1,1,1] padding="SAME"'
    ),
    "translated": (
        'ScaleAndTranslate(a, size, pair_of_two, pair_of_two) kernel_type="triangle" antialias=true'
    ),
    "contrast": "AdjustContrastv2(c, half)",
    "fractional": (
        "FractionalAvgPool(c) "
        "pooling_ratio=[1.0,1.5,1.5,1.0] seed=1 seed2=1 pseudo_random=false overlapping=false "
        "deterministic=true"
    ),
    "largest_and_where": (
        'MaxPoolWithArgmax(c) ksize=[1,2,2,1] strides=[1,2,2,1] padding="VALID" Targmax=int64'
    ),
    "part_of_channels": "Slice(c, from_second, to_end)",
    "every_other_row": "StridedSlice(c, zeros4, whole, twos4)",
    "two_channels": "StridedSlice(c, from_second, whole, ones4)",
    "unequal_parts": "SplitV(c, one_three, three) num_split=2",
    "unequal_rows": "SplitV(c, one_three, one) num_split=2",
    "one_example": "Unpack(c) num=1",
    "one_row": "Unpack(c) axis=1 num=4",
    "one_channel": "Unpack(c) axis=3 num=4",
    "reversed_part": "ReverseSequence(c, lengths) seq_dim=1 batch_dim=0 Tlen=int32",
    "batched_product": "BatchMatMulV2(c, upright) adj_x=false adj_y=false",
    "batched_alike": "BatchMatMulV2(c, upright_alike) adj_x=false adj_y=false",
    "batched_old": "BatchMatMul(flat_maps, upright) adj_x=false adj_y=false",
    "turned_batch": "BatchMatMulV2(c, dense_t) adj_x=false adj_y=true",
    "volume": 'Conv3D(cube, wide3) strides=[1,1,1,1,1] padding="VALID" data_format="NDHWC"',
    "volume_zero": (
        'Conv3D(cube_zero, wide3) strides=[1,1,1,1,1] padding="SAME" data_format="NDHWC"'
    ),
    "volume_back": (
        "Conv3DBackpropInputV2(outer3, upper3, cube_zero) "
        'strides=[1,2,2,2,1] padding="SAME" Tshape=int32 data_format="NDHWC"'
    ),
    "volume_average": (
        'AvgPool3D(cube) ksize=[1,2,2,2,1] strides=[1,1,1,1,1] padding="SAME" data_format="NDHWC"'
    ),
    "volume_largest": (
        'MaxPool3D(cube) ksize=[1,2,2,2,1] strides=[1,1,1,1,1] padding="SAME" data_format="NDHWC"'
    ),
    "volume_patches": (
        'ExtractVolumePatches(cube) ksizes=[1,2,2,2,1] strides=[1,1,1,1,1] padding="VALID"'
    ),
    "faked": "FakeQuantWithMinMaxArgs(c) min=-6.0 max=6.1 num_bits=8 narrow_range=false",
    "faked_near_a_step": (
        "FakeQuantWithMinMaxArgs(on_steps) min=0.0 max=255.0 num_bits=8 narrow_range=false"
    ),
    "faked_narrow": "FakeQuantWithMinMaxVars(c, low, high) num_bits=4 narrow_range=true",
    "quantised": (
        "QuantizeAndDequantizeV2(a, low, high) signed_input=true num_bits=8 range_given=true"
    ),
    "faked_each": "FakeQuantWithMinMaxVarsPerChannel(c, lows, highs) num_bits=8 narrow_range=false",
    "biased": "BiasAddV1(c, k)",
    "ensured": "EnsureShape(c) shape=<1,4,4,4>",
    "stopped": "StopGradient(c)",
    "prevented": 'PreventGradient(c) message=""',
    "copied": "Snapshot(c)",
    "copied_deep": "DeepCopy(c)",
    "checked": 'CheckNumerics(c) message=""',
    "several": "IdentityN(c, x) T=[float32,float32]",
    "filled": "Fill(whole, half)",
    "filled_openly": "Fill(counts_of_data, half)",
    "counted": "Range(one, three, one) Tidx=int32",
    "even_steps": "LinSpace(half, s, three) Tidx=int32",
    "inverted": "InvertPermutation(order) T=int32",
    "sizes_of": "Shape(c)",
    "sizes_of_both": "ShapeN(tiled_by_data, c) out_type=int32 N=2",
    "size_of": "Size(c) out_type=int32",
    "rank_of": "Rank(tiled_by_data)",
    "spread_sizes": "BroadcastArgs(sizes_of, ones4) T=int32",
    "axis_of": 'DataFormatDimMap(three) src_format="NHWC" dst_format="NCHW" T=int32',
    "order_of": 'DataFormatVecPermute(whole) src_format="NHWC" dst_format="NCHW" T=int32',
    "joined_old": "Concat(three, c, a) N=2",
    "is_nan": "IsNan(c)",
    "chosen_vector": "Select(which, rows, minus_rows)",
}
CONSTANTS = """
wide = f32[3,3,4,4]{random 1}
point = f32[1,1,4,5]{random 2}
deep = f32[3,3,4,2]{random 3}
v = f32[4]{1 2 0.5 3}
behind = i32[2]{-3 -2}
pads = i32[4,2]{0 0 1 1 0 2 0 0}
half = f32[]{0.5}
minus = f32[]{-1}
size = i32[2]{7 5}
two2 = i32[2]{2 2}
edges = i32[2,2]{0 0 2 2}
one = i32[]{1}
target = i32[2]{1 64}
target4 = i32[4]{1 1 4 1}
order = i32[4]{0 3 1 2}
pooled = Mean(c, two) Tidx=int32
row = Squeeze(pooled) squeeze_dims=[1,2]
dense = f32[4,5]{random 4}
dense_t = f32[5,4]{random 5}
outer = i32[4]{1 8 8 3}
upper = f32[3,3,3,4]{random 6}
counts = i32[4]{1 2 3 1}
whole = i32[4]{3 4 4 4}
pads_all = i32[4,2]{0 0 1 1 0 2 1 2}
window = i32[4]{1 3 3 1}
strides = i32[4]{1 2 2 1}
cells = i32[2,3]{0 1 2 0 3 3}
no_edges = i32[2,2]{0 0 0 0}
choices = i32[4,1]{1 0 1 1}
choice = Cast(choices) SrcT=int32 DstT=bool
row_choices = i32[1]{1}
row_choice = Cast(row_choices) SrcT=int32 DstT=bool
each = i32[1,2]{3 1}
every_axis = i32[4]{0 1 2 3}
top = Max(x, every_axis) Tidx=int32 keep_dims=false
like_one = Sigmoid(top)
one_of_data = Ceil(like_one)
n = Cast(one_of_data)
counts_of_data = Pack(one, n, n, one) T=int32
times = f32[4]{1 2 3 1}
fed_times = Mul(one_of_data, times)
fed_counts = Cast(fed_times)
partly_offset = f32[4]{0 0 1 0}
partly = AddV2(c, partly_offset)
apart = f32[2,1,1,4]{0.5 1 0.5 2 0.25 3 0.75 4}
pair = AddV2(c, apart)
minus_pair = Neg(pair)
partly_pair = AddV2(pair, partly_offset)
first = f32[2]{1 0}
first_alone = Greater(first, half)
space = i32[3]{1 2 3}
tops = Max(pair, space) Tidx=int32 keep_dims=false
by_data = Greater(tops, s)
flat_ones = i32[2]{2 24}
positive = Greater(c, k)
v3 = f32[3]{1 2 3}
ones_weighed = Mul(ones, v3)
three_two = i32[2]{3 2}
picks = i32[3]{2 0 2}
flip = i32[4]{3 0 1 2}
turned_first = Transpose(c, flip) Tperm=int32
boxes = f32[2,4]{0 0 1 1 -0.5 -0.5 0.5 2}
zero_one = i32[2]{0 0}
pair_of_two = f32[2]{2 1}
from_second = i32[4]{0 0 0 1}
to_end = i32[4]{-1 2 -1 3}
zeros4 = i32[4]{0 0 0 0}
ones4 = i32[4]{1 1 1 1}
twos4 = i32[4]{1 2 1 1}
one_three = i32[2]{1 3}
lengths = i32[1]{3}
upright = f32[1,4,4,5]{random 7}
upright_alike = f32[1,1,4,5]{random 7}
flat_maps = Mul(c, one_map)
one_map = f32[1,1,1,4]{1 1 1 1}
five = i32[5]{1 4 2 2 4}
crops = i32[2,2]{0 1 1 0}
cube = Reshape(c, five) Tshape=int32
cube_zero = Reshape(a, five) Tshape=int32
wide3 = f32[2,2,1,4,3]{random 8}
outer3 = i32[5]{1 8 4 4 3}
upper3 = f32[3,3,3,3,4]{random 9}
steps_off = f32[4]{0 0 4.6 0}
on_steps = AddV2(c, steps_off)
low = f32[]{-1}
high = f32[]{3.3}
lows = f32[4]{-1 -2 -3 -0.1}
highs = f32[4]{3.3 1 4.5 2}
which_numbers = f32[3]{1 0 1}
which = Greater(which_numbers, half)
rows = f32[3,2]{1 2 3 4 5 6}
minus_rows = Neg(rows)
"""
FILTERS = {"wide": (2, 3), "point": (2, 3), "dense": (0, 1), "upper": (3, 2)}
FILTERS.update({"upright_alike": (2, 3), "dense_t": (1, 0), "wide3": (3, 4), "upper3": (4, 3)})
"""Weights, with the axes that are summed over and given."""
KNOWN: Dict[str, float] = {}
"""How much is known after each op, where that is not one half: two of the four channels of `c`."""
# A border differs from the middle, or one row from another: no number holds for all of them.
KNOWN.update(dict.fromkeys(("softened", "depthwise_same", "pad", "transposed", "to_batch"), 0.0))
KNOWN.update(dict.fromkeys(("to_batch_old_edges", "patches_bordered", "rolled_channels"), 0.0))
KNOWN.update({"pad_zero": 0.5, "pad_value": 0.25, "pad_all": 5 / 7, "crop": 0.25})
# Sums of which a part is unknown: one filter of each reads nothing that is.
KNOWN.update({"valid": 1 / 4, "softened_zero": 1 / 4})
KNOWN.update(dict.fromkeys(("squares_unknown", "shares_unknown"), 0.0))
KNOWN.update(dict.fromkeys(("strided", "product", "turned_product", "turned_batch"), 1 / 5))
KNOWN.update({"batched_alike": 1 / 5, "batched_product": 0.0, "batched_old": 0.0})
KNOWN.update(dict.fromkeys(("transposed_zero", "volume", "volume_zero", "volume_back"), 1 / 3))
KNOWN.update({"to_space": 0.0, "joined_open_with_others": 0.25, "chosen_by_data": 0.25})
# One known channel of three, or known channels alone.
KNOWN.update(dict.fromkeys(("part_of_channels", "two_channels"), 1 / 3))
KNOWN.update(dict.fromkeys(("picked_channels", "picked_channels_old", "one_channel"), 1.0))
# A number on a step, which rounding may take to either side.
KNOWN.update(dict.fromkeys(("Floor", "Ceil", "Round", "cast", "back", "faked_near_a_step"), 0.25))
KNOWN.update(dict.fromkeys(("FloorDiv_k", "FloorDiv_s", "FloorMod_k", "FloorMod_s"), 0.25))
# Constants, and what asks for the shape alone.
KNOWN.update(dict.fromkeys(("ZerosLike", "OnesLike", "ones", "ones_tiled", "ones_joined"), 1.0))
KNOWN.update(dict.fromkeys(("ones_to_space", "ones_flat", "ones_resized"), 1.0))
KNOWN.update(dict.fromkeys(("squares", "shares", "log_shares", "unequal_parts"), 1.0))
KNOWN.update(dict.fromkeys(("filled", "filled_openly", "chosen_vector", "counted"), 1.0))
KNOWN.update(dict.fromkeys(("even_steps", "inverted", "sizes_of", "size_of", "rank_of"), 1.0))
KNOWN.update(dict.fromkeys(("spread_sizes", "axis_of", "order_of"), 1.0))


def network() -> gs.Graph:
    lines = [PRELUDE, CONSTANTS]
    lines.extend([f"{op} = {op}(c)" for op in UNARY])
    lines.extend([f"{op}_k = {op}(c, k)" for op in BINARY])
    lines.extend([f"{op}_s = {op}(s, c)" for op in BINARY])
    lines.extend([f"{name} = {text}" for name, text in LAYERS.items()])
    graph = tiny("\n".join(lines))
    # Rows 1 and 3 of one filter are zero, so that its sums have no unknown part.
    for name, (rows, filters) in FILTERS.items():
        tensor = graph[name].attrs["value"]
        numbers = np.array(tensor.numbers())
        at = [slice(None)] * numbers.ndim
        at[rows], at[filters] = slice(1, None, 2), slice(1)
        numbers[tuple(at)] = 0
        graph.set_attr(name, "value", tensor.with_numbers(numbers))
    return graph


@pytest.fixture(scope="module")
def computed() -> Dict[str, List[np.ndarray]]:
    """Every tensor for three inputs, from one session."""
    graph = network()
    names = [node.name for node in graph if node.op not in ("Placeholder", "Const")]
    found: Dict[str, List[np.ndarray]] = {name: [] for name in names}
    with Session(graph) as session:
        for seed in range(3):
            data = np.random.RandomState(seed).randn(1, 4, 4, 3).astype(np.float32) * 3
            for name, array in zip(names, session.run({"x": data}, names)):
                found[name].append(array)
    return found


NAMES = [*UNARY, *[f"{op}_{side}" for op in BINARY for side in "ks"], *LAYERS]


def test_values_and_sizes_are_those_of_tensorflow(computed: Dict[str, List[np.ndarray]]) -> None:
    """What is claimed to be known is right, and neither less nor more is known than before."""
    graph = network()
    values = Values(graph, gs.analyse(graph), 0.0)
    shares = {}
    for name in NAMES:
        known, shape = values.at(gs.Port(name)), values.channels.fact(gs.Port(name)).shape
        assert shape is not None and len(shape) == computed[name][0].ndim, name
        for actual in computed[name]:
            assert all(size in (None, real) for size, real in zip(shape, actual.shape)), name
            if known is None:
                continue
            assert known.ndim == actual.ndim, f"{name}: a value has the rank of its tensor"
            spread = np.broadcast_to(known, actual.shape)
            there = ~np.isnan(spread)
            np.testing.assert_allclose(actual[there], spread[there], 1e-5, 1e-6, err_msg=name)
        shares[name] = 0.0 if known is None else float(there.mean())
    expected = {name: pytest.approx(KNOWN.get(name, 0.5)) for name in NAMES}
    wrong = {name: share for name, share in shares.items() if share != expected[name]}
    assert not wrong, f"so much is known, where KNOWN states otherwise: {wrong}"


@pytest.mark.parametrize("numbers", [(-0.75, -0.25), (0.0, 0.75), (-3.5, 6.75)])
def test_functions_of_a_constant_map_are_those_of_tensorflow(numbers: Tuple[float, float]) -> None:
    """Around zero, and beyond the ends of those that are clipped."""
    first, second = numbers
    text = PRELUDE.replace("{0.5 0 -2 1}", f"{{{first} 0 {second} 1}}")
    graph = tiny(text + "".join([f"{op} = {op}(c)\n" for op in UNARY]))
    data = {"x": np.random.RandomState(0).randn(1, 4, 4, 3).astype(np.float32)}
    with Session(graph) as session:
        arrays = dict(zip(UNARY, session.run(data, UNARY)))
    for op in UNARY:
        known = value(graph, op)
        assert known is not None, op
        for channel in (0, 2):
            number, actual = known.ravel()[channel % known.size], arrays[op][..., channel]
            if np.isnan(number):
                assert op in KNOWN, op  # on a step of a rounding
            else:
                np.testing.assert_allclose(actual, number, 1e-5, 1e-6, err_msg=op)


def test_sums_are_known_where_nothing_unknown_enters(computed: Dict[str, List[np.ndarray]]) -> None:
    graph = network()
    for name in ("valid", "strided", "product"):
        found = value(graph, name)
        assert found is not None and not np.isnan(found.ravel()[0]), name
    assert value(graph, "softened") is None, "a SAME border sees zeros too"


def test_a_sum_over_an_axis_of_open_size_is_not_known() -> None:
    text = PRELUDE.replace("1,4,4,3", "1,?,4,3") + "y = Sum(a, two) Tidx=int32 keep_dims=true\n"
    assert value(tiny(text), "y") is None
    assert value(tiny(text.replace("1,?,4,3", "1,4,4,3")), "y") is not None


@pytest.mark.parametrize("op", ["Sigmoid", "Relu", "Neg"])
def test_threshold_applies_to_weights_not_to_values(op: str) -> None:
    graph = tiny(f"k = f32[4]{{1e-10 0 1 2}}\nx = input 1,4\nm = Mul(x, k)\nr = {op}(m)\n")
    exact, snapped = value(graph, "m"), value(graph, "m", 1e-9)
    assert exact is not None and snapped is not None
    assert np.isnan(exact[0]).tolist() == [True, False, True, True]
    assert np.isnan(snapped[0]).tolist() == [False, False, True, True]
    assert constant(graph, "k")[0] == np.float32(1e-10)


@pytest.mark.parametrize(("number", "exact"), [(2**53, True), (2**53 + 2, False)])
def test_integers_are_computed_as_far_as_double_precision_holds_them(
    number: int, exact: bool
) -> None:
    const = f"big = Const() dtype=int64 value=int64[1]{{{number}}}\n"
    graph = tiny(const + "x = input 1,4\nr = Relu(x)\ny = Identity(big) T=int64\n")
    made = gs.Values(graph).tensor(gs.Port("y"))
    assert (made is not None) == exact
    assert made is None or made.numbers().tolist() == [number]
