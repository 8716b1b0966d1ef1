"""Layout rules of ops with a `data_format`: convolutions, pools, batch norm, bias."""

from __future__ import annotations

from typing import List

from graphslim.ir import DType
from graphslim.layout.visit import Visit
from graphslim.layout.walk import TO_NHWC, kernel


def reformat(at: Visit) -> None:
    """Rewrites the attributes that list a number per axis, and the format itself."""
    for key in ("strides", "dilations", "ksize"):
        numbers = at.node.ints(key)
        if len(numbers) == 4:
            at.set_attr(key, [numbers[axis] for axis in TO_NHWC])
    pads = at.node.ints("explicit_paddings")
    if len(pads) == 8:
        at.set_attr("explicit_paddings", [pads[2 * axis + i] for axis in TO_NHWC for i in (0, 1)])
    at.set_attr("data_format", b"NHWC")


@kernel("Conv2D", "DepthwiseConv2dNative", "MaxPool", "AvgPool", "BiasAdd")
@kernel("DepthToSpace", "SpaceToDepth")
@kernel("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def one_tensor(at: Visit) -> None:
    """The first input and the first output are the tensors; weights have the same form in both.

    DepthToSpace and SpaceToDepth order the channels of both formats alike.
    """
    reformat(at)
    at.turn(0)
    at.turned(0)


@kernel("_FusedConv2D", "_FusedDepthwiseConv2dNative", "_FusedBatchNormEx")
def fused(at: Visit) -> None:
    """As above, and a summand among the arguments is turned as well."""
    reformat(at)
    for index in range(len(at.inputs)):
        if index == 0 or (index > 1 and at.rank(index) == 4):
            at.turn(index)
    at.turned(0)


@kernel("MaxPoolV2")
def pool_with_inputs(at: Visit) -> None:
    """Window and strides are inputs."""
    reformat(at)
    at.turn(0)
    for index in (1, 2):
        at.reorder(index, TO_NHWC, DType.int32)
    at.turned(0)


@kernel("Conv2DBackpropInput")
def transposed_conv(at: Visit) -> None:
    """`input_sizes` lists all four sizes of the output, or height and width alone."""
    reformat(at)
    sizes = at.layouts.facts.fact(at.inputs[0])
    if sizes.shape != (2,):
        at.reorder(0, TO_NHWC, at.dtype("Tshape", DType.int32))
    at.turn(2)
    at.turned(0)


def kept_order(axes: List[int]) -> bool:
    """Whether axes of an NCHW tensor, ascending, follow each other likewise in NHWC."""
    places = [TO_NHWC.index(axis) for axis in axes]
    return places == sorted(places)
