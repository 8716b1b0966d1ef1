"""The spellings of batch norm, activations, gates, pools and dense layers that graphs have.

Each is a function that writes the layer into a `networks.Net` and gives the name of its output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Dict, List

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


def _four(net: Net, x: str, rank: int = 1) -> List[str]:
    """Gamma, beta, mean and variance, none of them the same for all channels but the variance."""
    shape = (1,) * (rank - 1) + (net.width[x],)
    return [net.const(shape, value) for value in ("1.25", "random", "random", "2")]


def _quotient(net: Net, x: str) -> str:
    """As the formula reads: (x - mean) / sqrt(variance + epsilon) * gamma + beta."""
    gamma, beta, mean, variance = _four(net, x)
    root = net.f("Sqrt", net.f("Add", variance, net.const(value=0.001)))
    return net.f("Add", net.f("Mul", net.f("RealDiv", net.f("Sub", x, mean), root), gamma), beta)


def _reshaped(net: Net, x: str) -> str:
    """Every vector reshaped by a literal [1,1,1,C]."""
    width = net.width[x]
    gamma, beta, mean, variance = [net.reshape(v, 1, 1, 1, width) for v in _four(net, x)]
    root = net.f("Rsqrt", net.f("AddV2", variance, net.const(value=0.001)))
    scale = net.f("Mul", root, gamma)
    offset = net.f("Sub", beta, net.f("Mul", mean, scale))
    return net.f("AddV2", net.f("Mul", x, scale), offset)


def _scaled_by_power(net: Net, x: str) -> str:
    gamma, beta, mean, variance = _four(net, x, 4)
    root = net.f("Pow", net.plus(variance, 0.001), net.const(value=-0.5))
    return net.f("AddV2", net.f("Mul", net.f("Mul", net.f("Sub", x, mean), root), gamma), beta)


def _scale(net: Net, x: str) -> str:
    """What is left on a depthwise output where the offset went elsewhere."""
    return net.f("Mul", x, net.const((net.width[x],), "random"))


def _offset(net: Net, x: str) -> str:
    """What is left where the scale was pushed into the weights."""
    return net.f("AddV2", x, net.const((net.width[x],)))


def _squeezed_bias(net: Net, x: str) -> str:
    bias = net.op(
        "Squeeze", net.const((1, 1, 1, net.width[x])), T="float32", squeeze_dims="[0,1,2]"
    )
    return net.f("BiasAdd", x, bias, data_format="NHWC")


def _one_op(net: Net, x: str) -> str:
    """The norm of the first TensorFlow: data, mean, variance, beta, gamma."""
    gamma, beta, mean, variance = _four(net, x)
    return net.f(
        "BatchNormWithGlobalNormalization", x, mean, variance, beta, gamma,
        variance_epsilon=0.001, scale_after_normalization=True,
    )  # fmt: skip


def _bias(net: Net, x: str) -> str:
    return net.f("BiasAdd", x, net.const((net.width[x],)), data_format="NHWC")


def _nothing(net: Net, x: str) -> str:
    return x


NORMS: Dict[str, Callable[[Net, str], str]] = {
    "fused": _fused("FusedBatchNormV3"),
    "fused V1": _fused("FusedBatchNorm"),
    "primitive": _primitive,
    "quotient": _quotient,
    "reshaped": _reshaped,
    "power": _scaled_by_power,
    "scale": _scale,
    "offset": _offset,
    "squeezed bias": _squeezed_bias,
    "one op": _one_op,
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


def _slopes(net: Net, x: str, value: object = 0.25) -> str:
    """Slopes below zero: trained, so that they differ, or one number for all channels."""
    return net.const((net.width[x],), value)


def _prelu(net: Net, x: str) -> str:
    below = net.f("Relu", net.f("Neg", x))
    return net.f("AddV2", net.f("Relu", x), net.f("Mul", _slopes(net, x, -0.25), below, like=x))


def _prelu_of_keras(net: Net, x: str) -> str:
    """Keras negates the slopes in the graph."""
    slopes = net.f("Neg", net.const((1, 1, net.width[x])))
    below = net.f("Mul", slopes, net.f("Relu", net.f("Neg", x)), like=x)
    return net.f("AddV2", net.f("Relu", x), below)


def _prelu_by_difference(net: Net, x: str) -> str:
    below = net.f("Relu", net.times(x, -1))
    return net.f("Sub", net.f("Relu", x), net.two("Mul", below, _slopes(net, x, "random")))


def _prelu_by_bounds(net: Net, x: str) -> str:
    zero = net.const(value=0)
    above, below = net.two("Maximum", x, zero), net.two("Minimum", x, zero, True)
    return net.f("AddV2", above, net.two("Mul", below, _slopes(net, x, "random"), True))


def _prelu_by_abs(net: Net, x: str) -> str:
    below = net.f("Sub", x, net.f("Abs", x))
    slope = net.times(net.f("Mul", _slopes(net, x), below, like=x), 0.5)
    return net.f("Add", net.f("Relu", x), slope)


def _leaky_by_choice(net: Net, x: str) -> str:
    positive = net.f("Greater", x, net.const(value=0))
    return net.f("Select", positive, x, net.times(x, 0.1))


def _leaky_by_abs(net: Net, x: str) -> str:
    return net.two("AddV2", net.times(x, 0.55, True), net.times(net.f("Abs", x), 0.45))


def _gelu(net: Net, x: str, half_first: bool = True) -> str:
    gate = net.plus(net.f("Erf", net.two("RealDiv", x, net.const(value=2**0.5))), 1, True)
    return net.times(net.two("Mul", x, gate), 0.5) if not half_first else net.two(
        "Mul", net.times(x, 0.5, True), gate
    )  # fmt: skip


def _gelu_by_erfc(net: Net, x: str) -> str:
    gate = net.f("Erfc", net.times(net.f("Neg", x), 2**-0.5))
    return net.two("Mul", net.times(x, 0.5, True), gate)


def _gelu_by_tanh(net: Net, x: str) -> str:
    cube = net.times(net.two("Pow", x, net.const(value=3)), 0.044715, True)
    gate = net.plus(net.f("Tanh", net.times(net.f("AddV2", x, cube), 0.7978845608, True)), 1, True)
    return net.two("Mul", net.times(x, 0.5, True), gate)


def _mish(net: Net, x: str, parts: bool = False) -> str:
    soft = net.f("Log", net.plus(net.f("Exp", x), 1)) if parts else net.f("Softplus", x)
    return net.two("Mul", x, net.f("Tanh", soft))


def _swish_by_quotient(net: Net, x: str) -> str:
    return net.two("RealDiv", x, net.plus(net.f("Exp", net.f("Neg", x)), 1))


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
    "prelu of Keras": _prelu_of_keras,
    "prelu by difference": _prelu_by_difference,
    "prelu by bounds": _prelu_by_bounds,
    "leaky": lambda net, x: net.f("LeakyRelu", x, alpha=0.1),
    "leaky by maximum": lambda net, x: net.two("Maximum", net.times(x, 0.1), x),
    "leaky by choice": _leaky_by_choice,
    "leaky by abs": _leaky_by_abs,
    "elu": lambda net, x: net.f("Elu", x),
    "selu": lambda net, x: net.f("Selu", x),
    "softsign": lambda net, x: net.f("Softsign", x),
    "softplus": lambda net, x: net.f("Softplus", x),
    "tanh": lambda net, x: net.f("Tanh", x),
    "gelu": _gelu,
    "gelu, half of all": lambda net, x: _gelu(net, x, half_first=False),
    "gelu by erfc": _gelu_by_erfc,
    "gelu by tanh": _gelu_by_tanh,
    "mish": _mish,
    "mish in parts": lambda net, x: _mish(net, x, parts=True),
    "swish, steep": lambda net, x: net.two("Mul", x, net.f("Sigmoid", net.times(x, 1.702))),
    "swish by quotient": _swish_by_quotient,
    "relu as a bound": lambda net, x: net.two("Maximum", x, net.const(value=0)),
    "relu1": lambda net, x: _clip(net, x, 1, True),
    "hard tanh": lambda net, x: _clip(net, x, 1, False, low=-1),
    "hard sigmoid": lambda net, x: _clip(net, net.plus(net.times(x, 0.2), 0.5), 1, True),
}  # fmt: skip


def _clip(net: Net, x: str, high: float, floor_first: bool, low: float = 0) -> str:
    bottom, top = net.const(value=low), net.const(value=high)
    if floor_first:
        return net.two("Minimum", net.two("Maximum", x, bottom), top)
    return net.two("Maximum", net.two("Minimum", x, top, True), bottom, True)


GATES: Dict[str, Callable[[Net, str], str]] = {
    "sigmoid": lambda net, x: net.f("Sigmoid", x),
    "relu6 times a sixth": lambda net, x: net.times(_top(net, x), SIXTH),
    "relu6 by 6": lambda net, x: net.two("RealDiv", _top(net, x), net.const(value=6)),
    "min of max": lambda net, x: net.times(_clip(net, net.plus(x, 3), 6, True), SIXTH),
    "max of min": lambda net, x: net.times(_clip(net, net.plus(x, 3), 6, False), SIXTH, True),
    "sigmoid in parts": lambda net, x: net.f(
        "Reciprocal", net.plus(net.f("Exp", net.f("Neg", x)), 1)
    ),
    "line by 6, clipped": lambda net, x: _clip(net, net.times(net.plus(x, 3), SIXTH), 1, True),
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
    "tensordot, turned": lambda net, x, filters, name: _tensordot(
        net, net.f("Transpose", x, net.ints(0, 1, 2, 3), Tperm="int32"), filters, name
    ),
}
