"""Networks with norms over channels, each with a numpy function that says what a cut must compute.

The function takes the norms over the channels that stay, as `--through-norms` states it, and knows
nothing of graphslim's own reference: what goes is told to it layer by layer.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Mapping, NamedTuple, Sequence

import numpy as np
from tiny import tiny

import graphslim as gs

EPSILON = 0.01
SIZE = 3
"""Height and width of the images."""
Array = np.ndarray


class Norm(NamedTuple):
    """A norm, as text and in numpy.

    Attributes:
        lines: of the text; `{x}` is the tensor, `{y}` the result, `{axes}` the axes as they are
            spelled, `{one}` the shape of a statistic, and `{p}` begins the names of nodes.
        numbers: the same of the channels that stay, with their `gamma` and `beta`; channels last,
            in groups of equal size.
    """

    lines: str
    numbers: Callable[[Array, Array, Array], Array]


def _moments(x: Array) -> Array:
    axes = tuple(range(1, x.ndim)) if x.ndim == 2 else (-1,)
    mean = x.mean(axes, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + EPSILON)


def _layer(x: Array, gamma: Array, beta: Array) -> Array:
    return _moments(x) * gamma + beta


def _rms(x: Array, gamma: Array, beta: Array) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON) * gamma


def _length(x: Array) -> Array:
    return np.sqrt((x**2).sum(-1, keepdims=True))


NORMS: Dict[str, Norm] = {
    "moments": Norm(
        "{p}m = Mean({x}, {axes})\n{p}st = StopGradient({p}m)\n"
        "{p}q = SquaredDifference({x}, {p}st)\n{p}v = Mean({p}q, {axes})\n"
        "{p}e = AddV2({p}v, eps)\n{p}r = Rsqrt({p}e)\n{p}s = Mul({p}r, {p}gamma)\n"
        "{p}xs = Mul({x}, {p}s)\n{p}ms = Mul({p}m, {p}s)\n{p}o = Sub({p}beta, {p}ms)\n"
        "{y} = AddV2({p}xs, {p}o)\n",
        _layer,
    ),
    "negated mean": Norm(
        "{p}m = Mean({x}, {axes})\n{p}n = Neg({p}m)\n{p}q = SquaredDifference({x}, {p}m)\n"
        "{p}v = Mean({p}q, {axes})\n{p}e = AddV2({p}v, eps)\n{p}r = Rsqrt({p}e)\n"
        "{p}s = Mul({p}r, {p}gamma)\n{p}xs = Mul({x}, {p}s)\n{p}ms = Mul({p}n, {p}s)\n"
        "{p}o = AddV2({p}ms, {p}beta)\n{y} = AddV2({p}xs, {p}o)\n",
        _layer,
    ),
    "centred": Norm(
        "{p}m = Mean({x}, {axes})\n{p}d = Sub({x}, {p}m)\n{p}q = Square({p}d)\n"
        "{p}v = Mean({p}q, {axes})\n{p}e = AddV2({p}v, eps)\n{p}r = Sqrt({p}e)\n"
        "{p}s = RealDiv({p}d, {p}r)\n{p}g = Mul({p}s, {p}gamma)\n{y} = AddV2({p}g, {p}beta)\n",
        _layer,
    ),
    "squeezed": Norm(
        "{p}m0 = Mean({x}, {axes}) keep_dims=false\n{p}m = Reshape({p}m0, {one})\n"
        "{p}d = Sub({x}, {p}m)\n{p}q = Mul({p}d, {p}d)\n"
        "{p}v0 = Mean({p}q, {axes}) keep_dims=false\n{p}v = Reshape({p}v0, {one})\n"
        "{p}e = AddV2({p}v, eps)\n{p}r = Rsqrt({p}e)\n{p}s = Mul({p}d, {p}r)\n"
        "{p}g = Mul({p}s, {p}gamma)\n{y} = AddV2({p}g, {p}beta)\n",
        _layer,
    ),
    "mean of squares": Norm(
        "{p}m = Mean({x}, {axes})\n{p}q = Square({x})\n{p}u = Mean({p}q, {axes})\n"
        "{p}k = Square({p}m)\n{p}v = Sub({p}u, {p}k)\n{p}e = AddV2({p}v, eps)\n"
        "{p}r = Rsqrt({p}e)\n{p}d = Sub({x}, {p}m)\n{p}s = Mul({p}d, {p}r)\n"
        "{p}g = Mul({p}s, {p}gamma)\n{y} = AddV2({p}g, {p}beta)\n",
        _layer,
    ),
    "RMS": Norm(
        "{p}q = Square({x})\n{p}v = Mean({p}q, {axes})\n{p}e = AddV2({p}v, eps)\n"
        "{p}r = Rsqrt({p}e)\n{p}s = Mul({x}, {p}r)\n{y} = Mul({p}s, {p}gamma)\n",
        _rms,
    ),
    "RMS by power": Norm(
        "{p}q = Pow({x}, two)\n{p}v = Mean({p}q, {axes})\n{p}e = AddV2({p}v, eps)\n"
        "{p}r = Pow({p}e, half)\n{p}i = Reciprocal({p}r)\n{p}s = Mul({x}, {p}i)\n"
        "{y} = Mul({p}s, {p}gamma)\n",
        _rms,
    ),
    "L2": Norm(
        "{p}q = Square({x})\n{p}v = Sum({p}q, {axes}) keep_dims=true\n{p}e = Maximum({p}v, eps)\n"
        "{p}r = Rsqrt({p}e)\n{y} = Mul({x}, {p}r)\n",
        lambda x, gamma, beta: x / np.sqrt(np.maximum(_length(x) ** 2, EPSILON)),
    ),
    "length": Norm(
        "{p}q = Mul({x}, {x})\n{p}v = Sum({p}q, {axes}) keep_dims=true\n{p}r = Sqrt({p}v)\n"
        "{p}e = AddV2({p}r, eps)\n{y} = RealDiv({x}, {p}e)\n",
        lambda x, gamma, beta: x / (_length(x) + EPSILON),
    ),
    "EuclideanNorm": Norm(
        "{p}v = EuclideanNorm({x}, {axes}) keep_dims=true Tidx=int32\n"
        "{p}e = Maximum({p}v, eps)\n{y} = RealDiv({x}, {p}e)\n",
        lambda x, gamma, beta: x / np.maximum(_length(x), EPSILON),
    ),
}
"""Norms over the channels of one position, by name."""


class Layer(NamedTuple):
    """A product with weights, a norm and a Relu.

    Attributes:
        width: how many channels the product gives.
        norm: a name of `NORMS`; `group 2` and the like for a group norm; or `fused`.
        first: whether the norm sees its channels first.
        residual: whether what entered is added behind the norm, where it is as wide.
    """

    width: int
    norm: str
    first: bool = False
    residual: bool = False


class NormNet:
    """A network of such layers, and a last product.

    Args:
        layers: its layers.
        seed: of the weights.
        outputs: of the last product.
    """

    def __init__(self, layers: Sequence[Layer], seed: int = 0, outputs: int = 3) -> None:
        self.layers = layers
        rng = np.random.RandomState(seed)
        self.weights: List[Array] = []
        self.scales: List[Array] = []
        self.offsets: List[Array] = []
        width = 4
        for layer in layers:
            self.weights.append(rng.normal(size=(width, layer.width)).astype(np.float32))
            self.scales.append(rng.uniform(0.5, 1.5, layer.width).astype(np.float32))
            self.offsets.append(rng.normal(size=layer.width).astype(np.float32))
            width = layer.width
        self.weights.append(rng.normal(size=(width, outputs)).astype(np.float32))

    def graph(self) -> gs.Graph:
        """The network; its products are called `a0/y`, `a1/y` and so on, their weights `a0/w`."""
        lines = [f"x = input 1,{SIZE},{SIZE},4", f"eps = f32[]{{{EPSILON}}}", "two = f32[]{2}"]
        lines += ["half = f32[]{0.5}", "last = i32[1]{-1}", "second = i32[1]{1}"]
        lines += ["nchw = i32[4]{0 3 1 2}", "nhwc = i32[4]{0 2 3 1}"]
        lines += [
            f"one_last = i32[4]{{1 {SIZE} {SIZE} 1}}",
            f"one_second = i32[4]{{1 1 {SIZE} {SIZE}}}",
        ]
        x = "x"
        for index, (layer, weights) in enumerate(zip(self.layers, self.weights)):
            p = f"a{index}/"
            lines += [_constant(f"{p}w", weights[None, None]), f"{p}y = Conv2D({x}, {p}w)"]
            lines.append(self._norm(layer, index, p))
            before, x = x, f"{p}relu"
            lines.append(f"{x} = Relu({p}normed)")
            if layer.residual and index and layer.width == self.layers[index - 1].width:
                x = f"{p}sum"
                lines.append(f"{x} = AddV2({p}relu, {before})")
        lines += [_constant("z/w", self.weights[-1][None, None]), f"z = Conv2D({x}, z/w)"]
        return tiny("\n".join([*lines, "output z"]))

    def _norm(self, layer: Layer, index: int, p: str) -> str:
        gamma, beta, width = self.scales[index], self.offsets[index], layer.width
        if layer.norm == "fused":
            return _fused(p, width) + _scaled(p, gamma, beta)
        if layer.norm.startswith("group"):
            return _grouped(p, width, int(layer.norm.split()[1])) + _scaled(p, gamma, beta)
        shape = (width, 1, 1) if layer.first else (width,)
        lines = [
            _constant(f"{p}{what}", value.reshape(shape))
            for what, value in (("gamma", gamma), ("beta", beta))
        ]
        data, result = (f"{p}turned", f"{p}back") if layer.first else (f"{p}y", f"{p}normed")
        if layer.first:
            lines.append(f"{data} = Transpose({p}y, nchw)")
        where = "second" if layer.first else "last"
        text = NORMS[layer.norm].lines
        lines.append(text.format(x=data, y=result, p=p, axes=where, one=f"one_{where}"))
        if layer.first:
            lines.append(f"{p}normed = Transpose({result}, nhwc)")
        return "\n".join(lines)

    def cut(self, x: Array, gone: Mapping[int, Sequence[int]]) -> Array:
        """What is left of the network has to give.

        Args:
            x: the input, of shape (1, SIZE, SIZE, 4).
            gone: by layer, the channels of its product that go.
        """
        kept_before = np.arange(4)
        x = x.astype(np.float64)
        for index, layer in enumerate(self.layers):
            kept = np.setdiff1d(np.arange(layer.width), gone.get(index, ()))
            y = x @ self.weights[index][np.ix_(kept_before, kept)]
            gamma, beta = self.scales[index][kept], self.offsets[index][kept]
            y = np.maximum(self._numbers(layer, y, kept, gamma, beta), 0)
            if layer.residual and index and layer.width == self.layers[index - 1].width:
                y = y + x
            x, kept_before = y, kept
        return x @ self.weights[-1][kept_before]

    @staticmethod
    def _numbers(layer: Layer, y: Array, kept: Array, gamma: Array, beta: Array) -> Array:
        if layer.norm == "fused":
            return _moments(y) * gamma + beta
        if not layer.norm.startswith("group"):
            return NORMS[layer.norm].numbers(y, gamma, beta)
        group = kept // (layer.width // int(layer.norm.split()[1]))
        normed = np.empty_like(y)
        for number in np.unique(group):
            own = y[..., group == number]
            normed[..., group == number] = _moments(own.reshape(1, -1)).reshape(own.shape)
        return normed * gamma + beta


def _constant(name: str, value: Array) -> str:
    numbers = " ".join([repr(float(number)) for number in value.ravel()])
    return f"{name} = f32[{','.join(map(str, value.shape))}]{{{numbers}}}"


def _scaled(p: str, gamma: Array, beta: Array) -> str:
    return (
        f"{_constant(p + 'gamma', gamma)}\n{_constant(p + 'beta', beta)}\n"
        f"{p}g = Mul({p}back, {p}gamma)\n{p}normed = AddV2({p}g, {p}beta)"
    )


def _grouped(p: str, width: int, groups: int) -> str:
    """A group norm: the channels are taken apart, normalised with space, and put back."""
    return (
        f"{p}to = i32[5]{{1 {SIZE} {SIZE} {groups} {width // groups}}}\n"
        f"{p}axes = i32[3]{{1 2 4}}\n{p}x = Reshape({p}y, {p}to)\n"
        f"{p}m = Mean({p}x, {p}axes)\n{p}q = SquaredDifference({p}x, {p}m)\n"
        f"{p}v = Mean({p}q, {p}axes)\n{p}e = AddV2({p}v, eps)\n{p}r = Rsqrt({p}e)\n"
        f"{p}d = Sub({p}x, {p}m)\n{p}s = Mul({p}d, {p}r)\n"
        f"{p}from = i32[4]{{1 {SIZE} {SIZE} {width}}}\n{p}back = Reshape({p}s, {p}from)\n"
    )


def _fused(p: str, width: int) -> str:
    """A layer norm as Keras 2 spells it: a batch norm in training, each position a channel."""
    count = SIZE * SIZE
    ones, zeros = " ".join(["1"] * count), " ".join(["0"] * count)
    return (
        f"{p}to = i32[4]{{1 {count} {width} 1}}\n{p}x = Reshape({p}y, {p}to)\n"
        f"{p}ones = f32[{count}]{{{ones}}}\n{p}zeros = f32[{count}]{{{zeros}}}\n"
        f"{p}none = f32[0]{{}}\n"
        f"{p}n = FusedBatchNormV3({p}x, {p}ones, {p}zeros, {p}none, {p}none) T=float32 U=float32 "
        f'is_training=true epsilon={EPSILON} data_format="NCHW"\n'
        f"{p}from = i32[4]{{1 {SIZE} {SIZE} {width}}}\n{p}back = Reshape({p}n, {p}from)\n"
    )
