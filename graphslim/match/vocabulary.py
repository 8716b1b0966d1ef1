"""The words of block patterns: layers, in every spelling in which frozen graphs have them.

Each function takes the pattern of its input and gives the pattern of its output.
"""

from __future__ import annotations

from typing import Callable, Optional

from graphslim.ir import Node, Port
from graphslim.ir.families import (
    BIASES,
    MATRIX_PRODUCTS,
    NORM_INPUTS,
    PADDED_CONVOLUTIONS,
    PADS,
    POOLS,
    RESHAPES,
)
from graphslim.match.activations import ADD, DIV, MUL, act, sigmoid
from graphslim.match.pattern import Chain, OneOf, Op, Param, Pattern
from graphslim.match.view import GraphView

CONV = ("Conv2D", "_FusedConv2D", *PADDED_CONVOLUTIONS)
DEPTHWISE = ("DepthwiseConv2dNative", "_FusedDepthwiseConv2dNative")
_AFFINE = (*NORM_INPUTS, *sorted(BIASES), *ADD, *MUL, "Sub", *DIV)
"""Ops that `affine_step` may go back by."""


# ------------------------------------------------------------------ layers with weights


def conv(x: Pattern, kernel: Optional[int] = None, name: Optional[str] = None) -> Op:
    """A convolution with constant filters, of `kernel` by `kernel` taps if that is given."""

    def fits(matcher: GraphView, node: Node) -> Optional[str]:
        shape = matcher.input_shape(node, 1)
        if kernel is None or shape is None or tuple(shape[:2]) == (kernel, kernel):
            return None
        return f"kernel {kernel}x{kernel} wanted, it is {shape[0]}x{shape[1]}"

    return Op(CONV, (x, Param()), (fits,), name)


def depthwise(x: Pattern, name: Optional[str] = None) -> Pattern:
    """A depthwise convolution, padded by itself or before, dilated or not.

    TF1 spells dilation by moving space into the batch, and NCHW by transposing before and after.
    """

    def layer(y: Pattern) -> Pattern:
        plain = Op(DEPTHWISE, (y, Param()), name=name)
        grouped = Op(CONV, (y, Param()), (_one_group_per_channel,), name)
        return OneOf((plain, grouped))

    x = Chain(x, _pad_step, f"{x.text}, padded", PADS | {"Transpose"})
    dilated = Op(("BatchToSpaceND",), (norm(layer(Op(("SpaceToBatchND",), (x,)))),))
    either = OneOf((layer(x), dilated), text=name or "a depthwise convolution")
    return Chain(either, _transpose_step, either.text, ("Transpose",))


def _one_group_per_channel(matcher: GraphView, node: Node) -> Optional[str]:
    filters = matcher.input_shape(node, 1)
    width = matcher.width(matcher.graph.data_inputs(node)[0])
    if filters is not None and filters[2] == 1 and width is not None and width > 1:
        return None
    return "its filters read more than one channel each"


def _pad_step(matcher: GraphView, node: Node) -> Optional[int]:
    return 0 if node.op in PADS or node.op == "Transpose" else None


def _transpose_step(matcher: GraphView, node: Node) -> Optional[int]:
    return 0 if node.op == "Transpose" else None


def dense(x: Pattern, name: Optional[str] = None) -> Pattern:
    """A fully connected layer on a pooled vector: a 1x1 convolution, or a product of matrices."""
    flat = reshaped(x)
    layer = OneOf(
        (conv(flat, 1, name), Op(MATRIX_PRODUCTS | {"_FusedMatMul"}, (flat, Param()), name=name)),
        text=name or "a dense layer",
    )
    return _reshaped(layer, layer.text)


# ------------------------------------------------------------------ layers without


def affine_step(matcher: GraphView, node: Node) -> Optional[int]:
    """For an op that shifts or scales by constants, the input that is shifted; else None."""
    if node.op in NORM_INPUTS or node.op in BIASES:
        return None if node.attrs.get("num_side_inputs") else 0
    inputs = matcher.graph.data_inputs(node)
    if len(inputs) == 2 and node.op in (*ADD, *MUL, "Sub", *DIV):
        if matcher.is_constant(inputs[1]):
            return None if matcher.is_constant(inputs[0]) else 0
        if matcher.is_constant(inputs[0]) and node.op in (*ADD, *MUL):
            return 1
    return None


def norm(x: Pattern) -> Chain:
    """Batch norm in any spelling, a bias, a scale, several of them, or nothing."""
    return Chain(x, affine_step, f"{x.text}, normalised", _AFFINE)


def _reshape_step(matcher: GraphView, node: Node) -> Optional[int]:
    if node.op in RESHAPES:
        return 0
    if node.op in ("Transpose", "StridedSlice"):
        # On a pooled vector, [N,1,1,C], they only move or drop the axes of size 1.
        before, after = matcher.input_shape(node, 0), matcher.shape(Port(node.name))
        if before and after and None not in (*before[1:], *after[1:]):
            long, left = [[size for size in shape[1:] if size != 1] for shape in (before, after)]
            return 0 if len(long) < 2 and long == left else None
    return None


def reshaped(x: Pattern) -> Chain:
    """The same numbers in another shape, or in the same."""
    return _reshaped(x, f"{x.text}, reshaped")


def _reshaped(x: Pattern, text: str) -> Chain:
    return Chain(x, _reshape_step, text, RESHAPES | {"Transpose", "StridedSlice"})


def maybe(layer: Callable[[Pattern], Pattern], x: Pattern) -> Pattern:
    """The layer, or nothing."""
    return OneOf((layer(x), x))


def _is_global(matcher: GraphView, node: Node) -> Optional[str]:
    """Why a pool or reduction leaves more than one value per channel."""
    if node.op in POOLS:
        nchw = node.text("data_format", "NHWC").startswith("NC")
        shape = matcher.shape(Port(node.name)) or (None,) * 4
        height, width = shape[2:] if nchw else shape[1:3]
        # Where the size is open, a pool without padding was made for what is there.
        open_too = (None,) if node.text("padding") == "VALID" else ()
        fits = all(size in (1, *open_too) for size in (height, width))
        return None if fits else f"it pools to {height or '?'}x{width or '?'}, not to 1x1"
    axes = matcher.integers(matcher.graph.data_inputs(node)[1])
    rank = len(matcher.input_shape(node, 0) or ()) or 4
    reduced = sorted([axis % rank for axis in axes or ()])
    if reduced in (list(range(1, rank - 1)), list(range(2, rank))):
        return None
    return f"it reduces the axes {axes}, not all of space"


def global_pool(x: Pattern, name: Optional[str] = None) -> Pattern:
    """A reduction over all of space, scaled or not."""
    return norm(
        Op(POOLS | {"Mean", "Sum", "Max"}, (x,), (_is_global,), name, text=name or "a global pool")
    )


# ------------------------------------------------------------------ blocks that are parts of others


def squeeze_excite(x: Pattern) -> Op:
    """X times a gate that two dense layers make of its pooled channels (Hu et al. 2018)."""
    pooled = global_pool(x, name="pool")
    squeezed = act(reshaped(norm(dense(pooled, name="squeeze"))))
    excited = norm(dense(squeezed, name="excite"))
    gate = reshaped(sigmoid(reshaped(excited)))
    return Op(MUL, (gate, x), any_order=True, name="gate")
