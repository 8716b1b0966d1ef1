"""The words of block patterns: layers, in every spelling in which frozen graphs have them.

Each function takes the pattern of its input and gives the pattern of its output.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

from graphslim.ir import Node, Port
from graphslim.match.pattern import Chain, Op, OneOf, Param, Pattern

ADD = ("Add", "AddV2")
DIV = ("RealDiv", "Div")
NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
ACTIVATIONS = ("Relu", "Relu6", "Elu", "Selu", "LeakyRelu", "Tanh", "Sigmoid", "Softplus", "Relu1")
RESHAPES = ("Reshape", "Squeeze", "ExpandDims")


def conv(x: Pattern, kernel: Optional[int] = None, name: Optional[str] = None) -> Op:
    """A convolution with constant filters, of `kernel` by `kernel` taps if that is given."""

    def fits(matcher: Any, node: Node) -> Optional[str]:
        shape = matcher.input_shape(node, 1)
        if kernel is None or shape is None or tuple(shape[:2]) == (kernel, kernel):
            return None
        return f"kernel {kernel}x{kernel} wanted, it is {shape[0]}x{shape[1]}"

    return Op(("Conv2D",), (x, Param()), (fits,), name)


def _pad_step(matcher: Any, node: Node) -> Optional[int]:
    return 0 if node.op in ("Pad", "PadV2", "MirrorPad") else None


def depthwise(x: Pattern, name: Optional[str] = None) -> Pattern:
    """A depthwise convolution, padded by itself or before, dilated or not.

    TF1 spells dilation by moving space into the batch.
    """
    x = Chain(x, _pad_step, f"{x.text}, padded")
    direct = Op(("DepthwiseConv2dNative",), (x, Param()), name=name)
    inner = Op(("SpaceToBatchND",), (x,))
    dilated = Op(("DepthwiseConv2dNative",), (inner, Param()), name=name)
    return OneOf((direct, Op(("BatchToSpaceND",), (dilated,))), text=name or "depthwise convolution")


def dense(x: Pattern, name: Optional[str] = None) -> Pattern:
    """A fully connected layer on a pooled vector: a 1x1 convolution, or a product of matrices."""
    flat = reshaped(x)
    layer = OneOf((conv(flat, 1, name), Op(("MatMul",), (flat, Param()), name=name)))
    return Chain(layer, _reshape_step, name or "dense layer")


def affine_step(matcher: Any, node: Node) -> Optional[int]:
    """For an op that shifts or scales by constants, the input that is shifted; else None."""
    if node.op in NORMS or node.op in ("BiasAdd", "BiasAddV1"):
        return 0
    inputs = matcher.graph.data_inputs(node)
    if len(inputs) == 2 and node.op in (*ADD, "Mul", "Sub", *DIV):
        if matcher.is_constant(inputs[1]):
            return None if matcher.is_constant(inputs[0]) else 0
        if matcher.is_constant(inputs[0]) and node.op in (*ADD, "Mul"):
            return 1
    return None


def norm(x: Pattern) -> Chain:
    """Batch norm in any spelling, a bias, a scale, several of them, or nothing."""
    return Chain(x, affine_step, f"{x.text}, normalised")


def _reshape_step(matcher: Any, node: Node) -> Optional[int]:
    return 0 if node.op in RESHAPES else None


def reshaped(x: Pattern) -> Chain:
    """The same numbers in another shape, or in the same."""
    return Chain(x, _reshape_step, f"{x.text}, reshaped")


def relu6_of_shifted(x: Pattern) -> Pattern:
    """Relu6(x + 3), or the same as a clip to [0, 6]."""
    shifted = Op(ADD, (x, Param(3.0)), any_order=True)
    clipped = Op(
        ("Minimum",), (Op(("Maximum",), (shifted, Param(0.0)), any_order=True), Param(6.0)), any_order=True
    )
    floored = Op(
        ("Maximum",), (Op(("Minimum",), (shifted, Param(6.0)), any_order=True), Param(0.0)), any_order=True
    )
    return OneOf((Op(("Relu6",), (shifted,)), clipped, floored), text="relu6(x + 3)")


def hard_sigmoid(x: Pattern) -> Pattern:
    """relu6(x + 3) / 6, by product or quotient; or clip(0.2 x + 0.5, 0, 1) (Keras)."""
    top = relu6_of_shifted(x)
    linear = Op(ADD, (Op(("Mul",), (x, Param(0.2)), any_order=True), Param(0.5)), any_order=True)
    sixth = Op(ADD, (Op(("Mul",), (x, Param(1 / 6)), any_order=True), Param(0.5)), any_order=True)
    either = OneOf((linear, sixth), text="0.2 x + 0.5")
    clips = [
        Op(("ClipByValue",), (either,)),
        Op(("Minimum",), (Op(("Maximum",), (either, Param(0.0)), any_order=True), Param(1.0)), any_order=True),
        Op(("Minimum",), (Op(("Relu",), (either,)), Param(1.0)), any_order=True),
        Op(("Maximum",), (Op(("Minimum",), (either, Param(1.0)), any_order=True), Param(0.0)), any_order=True),
    ]
    return OneOf(
        (Op(("Mul",), (top, Param(1 / 6)), any_order=True), Op(DIV, (top, Param(6.0))), *clips),
        text="hard sigmoid",
    )


def sigmoid(x: Pattern) -> Pattern:
    """A sigmoid or a hard one."""
    return OneOf((Op(("Sigmoid",), (x,)), hard_sigmoid(x)), text="sigmoid")


def swish(x: Pattern) -> Pattern:
    """x * sigmoid(x), and the hard one with its 1/6 on any factor."""
    scaled = Op(("Mul",), (x, Param(1.0)), any_order=True)
    soft = Op(("Sigmoid",), (OneOf((x, scaled)),))
    top = relu6_of_shifted(x)
    sixth = Op(("Mul",), (x, Param(1 / 6)), any_order=True)
    whole = Op(("Mul",), (x, top), any_order=True)
    return OneOf(
        (
            Op(("Mul",), (x, OneOf((soft, hard_sigmoid(x)))), any_order=True),
            Op(("Mul",), (sixth, top), any_order=True),
            Op(("Mul",), (whole, Param(1 / 6)), any_order=True),
            Op(DIV, (whole, Param(6.0))),
        ),
        text="swish",
    )


def act(x: Pattern) -> Pattern:
    """Any activation."""
    return OneOf((Op(ACTIVATIONS, (x,)), swish(x)), text="an activation")


def maybe(layer: Callable[[Pattern], Pattern], x: Pattern) -> Pattern:
    """The layer, or nothing."""
    return OneOf((layer(x), x), text=f"{x.text} and perhaps a layer")


def _is_global(matcher: Any, node: Node) -> Optional[str]:
    """Why a pool or reduction leaves more than one value per channel."""
    shape = matcher.shape(Port(node.name))
    if shape is None:
        return None
    channel = 1 if node.text("data_format", "NHWC").startswith("NC") else len(shape) - 1
    if node.op in ("AvgPool", "MaxPool"):
        left = [size for axis, size in enumerate(shape) if axis not in (0, channel)]
    else:
        left = sorted([size for size in shape[1:] if size != 1], key=lambda size: size or 0)[:-1]
    return None if all(size in (1, None) for size in left) else f"it pools to {left}, not to 1x1"


def global_pool(x: Pattern, name: Optional[str] = None) -> Pattern:
    """A reduction over all of space, scaled or not."""
    ops = ("AvgPool", "MaxPool", "Mean", "Sum", "Max")
    return norm(Op(ops, (x,), (_is_global,), name, text=name or "global pool"))


def squeeze_excite(x: Pattern) -> Op:
    """x times a gate that two dense layers make of its pooled channels (Hu et al. 2018)."""
    pooled = global_pool(x, name="pool")
    squeezed = act(norm(dense(pooled, name="squeeze")))
    excited = norm(dense(squeezed, name="excite"))
    gate = reshaped(sigmoid(reshaped(excited)))
    return Op(("Mul",), (x, gate), any_order=True, name="gate")
