"""The spellings of batch norm, activations, gates, pools and dense layers that graphs have.

Each is a function that writes the layer into a `networks.Net` and gives the name of its output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Dict

if TYPE_CHECKING:
    from networks import Net

# ---------------------------------------------------------------------- batch norm


def _fused(op: str) -> Callable[[Net, str], str]:
    def norm(net: Net, x: str) -> str:
        width = (net.width[x],)
        vectors = [net.const(width, value) for value in ("1.25", "random", "0.5", "2")]
        types = {"U": "float32"} if op.endswith(("V2", "V3")) else {}
        return net.f(op, x, *vectors, data_format="NHWC", epsilon=0.001, is_training=False, **types)

    return norm


def _primitive(net: Net, x: str) -> str:
    """A product and a sum with vectors made of the four, as current Keras freezes it."""
    width = (net.width[x],)
    gamma, beta, mean, variance = [net.const(width, v) for v in ("1.25", "random", "0.5", "2")]
    root = net.f("Rsqrt", net.f("AddV2", variance, net.const(value=0.001)))
    scale = net.f("Mul", root, gamma)
    offset = net.f("Sub", beta, net.f("Mul", mean, scale))
    return net.f("AddV2", net.f("Mul", x, scale), offset)


def _bias(net: Net, x: str) -> str:
    return net.f("BiasAdd", x, net.const((net.width[x],)), data_format="NHWC")


def _nothing(net: Net, x: str) -> str:
    return x


NORMS: Dict[str, Callable[[Net, str], str]] = {
    "fused": _fused("FusedBatchNormV3"),
    "fused V1": _fused("FusedBatchNorm"),
    "primitive": _primitive,
    "bias": _bias,
    "nothing": _nothing,
}


# ---------------------------------------------------------------------- activations


def _swish(net: Net, x: str, swapped: bool = False, scaled: bool = False) -> str:
    gate = net.f("Sigmoid", net.times(x, 1) if scaled else x)
    return net.two("Mul", x, gate, swapped)


def _two_output_swish(net: Net, x: str) -> str:
    y = _swish(net, x)
    return net.op("IdentityN", y, x, T="[float32,float32]")


def _top(net: Net, x: str, op: str = "AddV2", swapped: bool = False) -> str:
    return net.f("Relu6", net.plus(x, 3, swapped, op))


SIXTH = 0.16666667


def _prelu(net: Net, x: str) -> str:
    below = net.f("Relu", net.f("Neg", x))
    return net.f("AddV2", net.f("Relu", x), net.f("Mul", net.const((net.width[x],), -0.25), below))


def _prelu_by_abs(net: Net, x: str) -> str:
    below = net.f("Sub", x, net.f("Abs", x))
    slope = net.times(net.f("Mul", net.const((net.width[x],), 0.25), below), 0.5)
    return net.f("Add", net.f("Relu", x), slope)


ACTIVATIONS: Dict[str, Callable[[Net, str], str]] = {
    "relu": lambda net, x: net.f("Relu", x),
    "relu6": lambda net, x: net.f("Relu6", x),
    "relu6 as a clip": lambda net, x: net.two("Minimum", net.f("Relu", x), net.const(value=6)),
    "swish": _swish,
    "swish, swapped": lambda net, x: _swish(net, x, swapped=True),
    "swish, scaled": lambda net, x: _swish(net, x, scaled=True),
    "swish, two outputs": _two_output_swish,
    "hard swish": lambda net, x: net.two("Mul", x, net.times(_top(net, x), SIXTH)),
    "hard swish, swapped": lambda net, x: net.two(
        "Mul", x, net.times(_top(net, x, "Add", True), SIXTH, True), True
    ),
    "hard swish, sixth of x": lambda net, x: net.two("Mul", net.times(x, SIXTH), _top(net, x)),
    "hard swish, sixth of all": lambda net, x: net.times(net.two("Mul", x, _top(net, x)), SIXTH),
    "hard swish, by 6": lambda net, x: net.two(
        "RealDiv", net.two("Mul", x, _top(net, x)), net.const(value=6)
    ),
    "hard swish, gate by 6": lambda net, x: net.two(
        "Mul", x, net.two("RealDiv", _top(net, x), net.const(value=6))
    ),
    "prelu": _prelu,
    "prelu by abs": _prelu_by_abs,
    "leaky": lambda net, x: net.f("LeakyRelu", x, alpha=0.1),
}  # fmt: skip


def _clip(net: Net, x: str, high: float, floor_first: bool) -> str:
    zero, top = net.const(value=0), net.const(value=high)
    if floor_first:
        return net.two("Minimum", net.two("Maximum", x, zero), top)
    return net.two("Maximum", net.two("Minimum", x, top, True), zero, True)


GATES: Dict[str, Callable[[Net, str], str]] = {
    "sigmoid": lambda net, x: net.f("Sigmoid", x),
    "relu6 times a sixth": lambda net, x: net.times(_top(net, x), SIXTH),
    "relu6 by 6": lambda net, x: net.two("RealDiv", _top(net, x), net.const(value=6)),
    "min of max": lambda net, x: net.times(_clip(net, net.plus(x, 3), 6, True), SIXTH),
    "max of min": lambda net, x: net.times(_clip(net, net.plus(x, 3), 6, False), SIXTH, True),
    "line, clipped": lambda net, x: _clip(net, net.plus(net.times(x, 0.2), 0.5), 1, True),
}


# ---------------------------------------------------------------------- parts of SE blocks


def _sum(net: Net, x: str, size: int) -> str:
    return net.times(net.mean(x, op="Sum"), 1 / size**2)


POOLS: Dict[str, Callable[[Net, str, int], str]] = {
    "mean": lambda net, x, size: net.mean(x),
    "mean, axes dropped": lambda net, x, size: net.mean(x, keep=False),
    "mean, negative axes": lambda net, x, size: net.mean(x, axes=(-3, -2)),
    "average": lambda net, x, size: net.average(x, size),
    "sum": _sum,
    "max": lambda net, x, size: net.mean(x, op="Max"),
}


def _dense(net: Net, x: str, filters: int, name: str) -> str:
    """MatMul on a vector; what is not yet flat is flattened."""
    return _bias(net, net.matmul(net.reshape(x, 1, net.width[x]), filters, name))


def _tensordot(net: Net, x: str, filters: int, name: str) -> str:
    """A dense layer on a tensor of four axes."""
    flat = net.reshape(x, 1, net.width[x])
    return _bias(net, net.reshape(net.matmul(flat, filters, name), 1, 1, 1, filters))


DENSE: Dict[str, Callable[[Net, str, int, str], str]] = {
    "conv": lambda net, x, filters, name: _bias(net, net.conv(x, filters, name=name)),
    "matmul": _dense,
    "matmul, free batch": _dense,
    "packed": _dense,
    "tensordot": _tensordot,
}
