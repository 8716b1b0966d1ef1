"""A part of a random network that computes with the channels first, between two Transposes."""

from __future__ import annotations

from typing import Callable, Dict

from random_builder import LARGEST, WIDEST, Pick, RandomNet, Result, disguise, layer, swept
from random_layers import WIDTHS, is_map

Step = Callable[[RandomNet, str, Pick], str]
"""Takes and gives a tensor with channels first; its noted size is that with channels last."""


def _conv(net: RandomNet, x: str, pick: Pick) -> str:
    (height, width, channels), filters = net.shape[x], pick(*WIDTHS)
    kernel, stride = pick((3, 1), (1, 1), (3, 2))
    w = net.weights((kernel, kernel, channels, filters), kernel**2 * channels, (2, 3))
    y = net.f(
        "Conv2D", x, w, data_format="NCHW", padding="SAME", strides=f"[1,1,{stride},{stride}]",
        dilations="[1,1,1,1]",
    )  # fmt: skip
    return net.put(y, *[swept(size, kernel, stride, "SAME") for size in (height, width)], filters)


def _depthwise(net: RandomNet, x: str, pick: Pick) -> str:
    height, width, channels = net.shape[x]
    multiplier = pick(1, 2) if channels * 2 <= WIDEST else 1
    w = net.weights((3, 3, channels, multiplier), 9, (2,), disguise(pick))
    y = net.f(
        "DepthwiseConv2dNative", x, w, data_format="NCHW", padding="SAME", strides="[1,1,1,1]"
    )
    return net.put(y, height, width, channels * multiplier)


def _bias(net: RandomNet, x: str, pick: Pick) -> str:
    channels = net.shape[x][-1]
    return pick(
        lambda: net.f("BiasAdd", x, net.const((channels,)), data_format="NCHW"),
        lambda: net.two("AddV2", x, net.const((channels, 1, 1))),
        lambda: net.two("Mul", x, net.const((1, channels, 1, 1))),
    )()


def _norm(net: RandomNet, x: str, pick: Pick) -> str:
    vectors = [net.const((net.shape[x][-1],), one) for one in ("1.25", "random", "0.5", "2")]
    return net.f(
        "FusedBatchNorm", x, *vectors, data_format="NCHW", epsilon=0.001, is_training=False
    )


def _act(net: RandomNet, x: str, pick: Pick) -> str:
    return net.f(pick("Relu", "Sigmoid", "Tanh"), x)


def _pool(net: RandomNet, x: str, pick: Pick) -> str:
    height, width, channels = net.shape[x]
    y = net.f(
        pick("MaxPool", "AvgPool"), x, data_format="NCHW", ksize="[1,1,2,2]", padding="SAME",
        strides="[1,1,2,2]",
    )  # fmt: skip
    return net.put(y, -(-height // 2), -(-width // 2), channels)


def _gate(net: RandomNet, x: str, pick: Pick) -> str:
    """The mean of each channel, weighed by a dense layer, scales it."""
    channels = net.shape[x][-1]
    y = net.put(net.mean(x, keep=False, axes=(2, 3)), channels)
    y = net.reshape(net.f("Sigmoid", net.matmul(y, channels)), -1, channels, 1, 1)
    return net.two("Mul", x, y)


def _residual(net: RandomNet, x: str, pick: Pick) -> str:
    y = _conv(net, x, Pick(()))
    height, width, channels = net.shape[x]
    if net.shape[y] != net.shape[x]:
        w = net.weights((1, 1, net.shape[y][-1], channels), net.shape[y][-1], (2, 3))
        y = net.f("Conv2D", y, w, data_format="NCHW", padding="SAME", strides="[1,1,1,1]")
    return net.two("AddV2", x, net.put(y, height, width, channels))


def _joined(net: RandomNet, x: str, pick: Pick) -> str:
    *space, channels = net.shape[x]
    if channels * 2 > WIDEST:
        return x
    other, axis = net.f("Relu", x), net.ints(pick(1, -3), shape=())
    y = net.op("ConcatV2", x, other, axis, T="float32", Tidx="int32", N=2)
    return net.put(y, *space, channels * 2)


def _padded(net: RandomNet, x: str, pick: Pick) -> str:
    height, width, channels = net.shape[x]
    if max(height, width) >= LARGEST:
        return x
    amounts = net.ints(0, 0, 0, 0, 1, 0, 1, 1, shape=(4, 2))
    return net.put(net.f("Pad", x, amounts, Tpaddings="int32"), height + 1, width + 2, channels)


STEPS: Dict[str, Step] = {
    "conv": _conv,
    "bias": _bias,
    "norm": _norm,
    "act": _act,
    "depthwise": _depthwise,
    "pool": _pool,
    "gate": _gate,
    "residual": _residual,
    "joined": _joined,
    "padded": _padded,
}


@layer
def channels_first(net: RandomNet, x: str, pick: Pick) -> Result:
    if not is_map(net, x, 2):
        return None
    y = net.like(net.f("Transpose", x, net.ints(0, 3, 1, 2), Tperm="int32"), x)
    for _ in range(3):
        y = STEPS[pick(*STEPS)](net, y, pick)
    back = net.f("Transpose", y, net.ints(0, 2, 3, 1), Tperm="int32")
    return net.like(back, y)
