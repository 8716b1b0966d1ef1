"""Builds random networks: `networks.Net` that knows its sizes, and fills its weights itself.

Weights are normalised by their fan-in, so that what comes out keeps a range that can be compared,
and some of their slices are zero, so that there are dead channels to find.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple, Union

import numpy as np
from networks import Net

from graphslim.ir import Graph, Tensor

WIDEST, LARGEST = 24, 16
"""Channels and height of the tensors that layers still make larger."""

Dims = Tuple[int, ...]
Result = Union[None, str, Sequence[str]]


class Pick:
    """Makes the choices of one layer; a choice beyond those drawn is the first option."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = list(numbers)

    def __call__(self, *options: Any) -> Any:
        number = self._numbers.pop(0) if self._numbers else 0
        return options[number % len(options)]


LayerMaker = Callable[["RandomNet", str, Pick], Result]
LAYERS: Dict[str, LayerMaker] = {}
"""What a random network is made of; a layer that does not fit a tensor gives None."""


def layer(maker: LayerMaker) -> LayerMaker:
    """Adds a layer by the name of its function."""
    LAYERS[maker.__name__] = maker
    return maker


class Filling(NamedTuple):
    """What a constant holds.

    Attributes:
        shape: of the weights as they are used.
        scale: of the normal distribution that they are drawn from.
        mean: of the same.
        axes: those whose slices may be zero.
        stored: makes what the constant holds of the weights.
    """

    shape: Dims
    scale: float
    mean: float
    axes: Sequence[int]
    stored: Callable[[np.ndarray], np.ndarray]


class RandomNet(Net):
    """A network in the making whose every tensor has a known size.

    Args:
        height, width, channels: of the input.
        batch: of the input; `?` if it is open.
        modern: whether it has to run in TensorFlow 2 alone.

    Attributes:
        shape: per node its size without the batch.
        live: the tensors that layers may go on from.
        taps: nodes that are outputs whatever reads them.
        phase: the learning phase, once something has asked for it.
    """

    def __init__(
        self, height: int, width: int, channels: int, batch: object = 1, modern: bool = True
    ) -> None:
        self.shape: Dict[str, Dims] = {}
        super().__init__(channels=channels, sizes=f"{batch},{height},{width}")
        self.put(self.x, height, width, channels)
        self.batch, self.modern = batch, modern
        self.live: List[str] = [self.x]
        self.taps: List[str] = []
        self.phase = ""
        self._fillings: Dict[str, Filling] = {}
        self._scopes = 0

    def put(self, name: str, *shape: int) -> str:
        """Notes the size of a node, without the batch."""
        self.shape[name], self.width[name] = tuple(shape), shape[-1]
        return name

    def like(self, name: str, other: str) -> str:
        """Notes that a node has the size of another."""
        return self.put(name, *self.shape[other])

    def op(self, op: str, *inputs: str, name: str = "", like: str = "", **attrs: object) -> str:
        own = super().op(op, *inputs, name=name, like=like, **attrs)
        source = like or (inputs[0] if inputs else "")
        if source in self.shape:
            self.shape[own] = self.shape[source]
        return own

    def enter(self) -> None:
        """Names that follow stand in a scope of their own."""
        self._scopes += 1
        self.scope = f"layer{self._scopes}/"

    # ------------------------------------------------------------------ weights

    def const(self, shape: Sequence[int] = (), value: object = "random") -> str:
        """As in `Net`; vectors of random numbers, and scales of batch norm, may hold zeros."""
        name = super().const(shape, value)
        mean = 0.0 if value == "random" else 1.25
        if len(shape) == 1 and value in ("random", "1.25"):
            self._fillings[name] = Filling(tuple(shape), 0.4, mean, (0,), lambda numbers: numbers)
        return name

    def weights(
        self, shape: Sequence[int], fan_in: int, axes: Sequence[int], disguise: str = "plain"
    ) -> str:
        """Random weights behind one of `DISGUISES`.

        Args:
            shape: of the weights.
            fan_in: how many of them go into one number of the output.
            axes: those whose slices may be zero.
            disguise: how the graph comes by them.
        """
        scale = 1.4 / max(1, fan_in) ** 0.5
        name, stored = DISGUISES[disguise](self, tuple(shape))
        held = name if isinstance(name, str) else name[0]
        self._fillings[held] = Filling(tuple(shape), scale, 0.0, axes, stored)
        return name if isinstance(name, str) else name[1]

    def store(self, name: str, stored: Callable[[np.ndarray], np.ndarray]) -> None:
        """Sets what a constant that holds plain weights holds of them."""
        self._fillings[name] = self._fillings[name]._replace(stored=stored)

    def blank(self, shape: Sequence[int], dtype: str = "float32") -> str:
        """A constant that is filled at last."""
        dims = ",".join(map(str, shape))
        return self.op("Const", dtype=dtype, value=f"{dtype}[{dims}]{{0}}")

    def conv(
        self,
        x: str,
        filters: int,
        kernel: int = 1,
        stride: int = 1,
        name: str = "",
        groups: int = 1,
        padding: str = "SAME",
        dilation: int = 1,
        weights: str = "",
        disguise: str = "plain",
    ) -> str:
        inside = self.width[x] // groups
        w = weights or self.weights(
            (kernel, kernel, inside, filters), kernel * kernel * inside, (2, 3), disguise
        )
        attrs: Dict[str, object] = {"padding": padding}
        if padding == "EXPLICIT":
            attrs = {"padding": '"EXPLICIT"', "explicit_paddings": "[0,0,1,0,1,2,0,0]"}
        y = self.f(
            "Conv2D", x, w, name=name, data_format="NHWC", strides=f"[1,{stride},{stride},1]",
            dilations=f"[1,{dilation},{dilation},1]", **attrs,
        )  # fmt: skip
        extra = [1, 3] if padding == "EXPLICIT" else [0, 0]
        space = [
            swept(size + more, kernel, stride, padding, dilation)
            for size, more in zip(self.shape[x], extra)
        ]
        return self.put(y, *space, filters)

    def depthwise(
        self,
        x: str,
        stride: int = 1,
        multiplier: int = 1,
        name: str = "",
        padding: str = "SAME",
        kernel: int = 3,
        disguise: str = "plain",
    ) -> str:
        width = self.width[x]
        w = self.weights((kernel, kernel, width, multiplier), kernel * kernel, (2,), disguise)
        y = self.f(
            "DepthwiseConv2dNative", x, w, name=name, data_format="NHWC", padding=padding,
            strides=f"[1,{stride},{stride},1]",
        )  # fmt: skip
        space = [swept(size, kernel, stride, padding) for size in self.shape[x][:2]]
        return self.put(y, *space, width * multiplier)

    def matmul(
        self, x: str, filters: int, name: str = "", flip: bool = False, disguise: str = "plain"
    ) -> str:
        width = self.width[x]
        shape = (filters, width) if flip else (width, filters)
        w = self.weights(shape, width, (0, 1), disguise)
        y = self.f("MatMul", x, w, name=name, transpose_a=False, transpose_b=flip)
        return self.put(y, filters)

    def product(self, x: str, y: str, adj_y: bool = False) -> str:
        """Matrix products over the last two axes."""
        return self.f("BatchMatMulV2", x, y, adj_x=False, adj_y=adj_y)

    def einsum(self, equation: str, *inputs: str) -> str:
        """Sums of products, as the equation says."""
        return self.f("Einsum", *inputs, equation=f'"{equation}"', N=len(inputs))

    # ------------------------------------------------------------------ the result

    def learning_phase(self) -> str:
        """A bool that is fed."""
        if not self.phase:
            self.scope = ""
            self.phase = self.op("Placeholder", name="phase", dtype="bool", shape="<>")
        return self.phase

    def filled(self, outputs: Sequence[str], seed: int, dead: int) -> Graph:
        """The graph.

        Args:
            outputs: names of its outputs.
            seed: for the weights.
            dead: how much of them is zero: 0 nothing, 1 some, 2 much.
        """
        graph = self.graph(*outputs)
        for index, (name, filling) in enumerate(self._fillings.items()):
            rng = np.random.RandomState((seed * 1009 + index) % 2**32)
            numbers = rng.randn(*filling.shape) * filling.scale + filling.mean
            for axis in filling.axes if dead else ():
                share = (0.0, 0.2 * dead, 0.0, 0.3 * dead)[rng.randint(4)]
                gone = rng.rand(filling.shape[axis]) < share
                numbers[(slice(None),) * axis + (gone,)] = 0
            dtype = graph[name].attrs["dtype"]
            graph.set_attr(name, "value", Tensor.from_numbers(filling.stored(numbers), dtype))
        return graph


def swept(size: int, kernel: int, stride: int, padding: str, dilation: int = 1) -> int:
    """How many places a kernel takes along an axis."""
    if padding == "SAME":
        return -(-size // stride)
    return (size - (kernel - 1) * dilation - 1) // stride + 1


# ---------------------------------------------------------------------- how weights are stored

Disguised = Tuple[Union[str, Tuple[str, str]], Callable[[np.ndarray], np.ndarray]]


def _same(numbers: np.ndarray) -> np.ndarray:
    return numbers


def _behind(op: str, times: int = 1, **attrs: object) -> Callable[[RandomNet, Dims], Disguised]:
    def disguise(net: RandomNet, shape: Dims) -> Disguised:
        held = at = net.blank(shape)
        for _ in range(times):
            at = net.op(op, at, **attrs)
        return (held, at), _same

    return disguise


def _half(net: RandomNet, shape: Dims) -> Disguised:
    held = net.blank(shape, "float16")
    return (held, net.op("Cast", held, SrcT="float16", DstT="float32")), _same


def _transposed(net: RandomNet, shape: Dims) -> Disguised:
    order = list(range(len(shape)))[::-1]
    held = net.blank(shape[::-1])
    return (held, net.f("Transpose", held, net.ints(*order), Tperm="int32")), np.transpose


def _flat(net: RandomNet, shape: Dims) -> Disguised:
    rows = int(np.prod(shape[:-1]))
    held = net.blank((rows, shape[-1]))
    return (held, net.reshape(held, *shape)), lambda numbers: numbers.reshape(rows, -1)


def _scaled(net: RandomNet, shape: Dims) -> Disguised:
    held = net.blank(shape)
    return (held, net.f("Mul", held, net.const((shape[-1],), "1.25"))), _same


def _quantised(net: RandomNet, shape: Dims) -> Disguised:
    held = net.blank(shape, "quint8")
    low, high = net.const(value=-1.28), net.const(value=1.27)
    at = net.op("Dequantize", held, low, high, T="quint8", mode='"MIN_FIRST"')
    return (held, at), lambda numbers: np.clip(np.round(numbers * 100) + 128, 0, 255)


def _normalised(net: RandomNet, shape: Dims) -> Disguised:
    """Weight norm: a direction of length one, times a scale."""
    held = net.blank(shape)
    over = tuple(range(len(shape) - 1))
    total = net.f(
        "Sum", net.f("Square", held), net.ints(*over), Tidx="int32", keep_dims=True
    )  # fmt: skip
    unit = net.f("Mul", held, net.f("Rsqrt", net.f("AddV2", total, net.const(value=0.01))))
    return (held, net.f("Mul", unit, net.const((shape[-1],), "1.25"))), _same


def _standardised(net: RandomNet, shape: Dims) -> Disguised:
    """Less the mean of each filter, which is computed in the graph."""
    held = net.blank(shape)
    over = net.ints(*range(len(shape) - 1))
    mean = net.f("Mean", held, over, Tidx="int32", keep_dims=True)
    return (held, net.f("Sub", held, mean)), _same


def _switched(net: RandomNet, shape: Dims) -> Disguised:
    """In both branches of a condition."""
    scope, held = net.scope, net.blank(shape)
    phase = net.learning_phase()
    net.scope = scope
    both = net.f("Switch", held, phase)
    return (held, net.f("Merge", both, net.f("Identity", f"{both}:1"), N=2)), _same


DISGUISES: Dict[str, Callable[[RandomNet, Dims], Disguised]] = {
    "plain": lambda net, shape: (net.blank(shape), _same),
    "identity": _behind("Identity", T="float32"),
    "two identities": _behind("Identity", 2, T="float32"),
    "half": _half,
    "transposed": _transposed,
    "flat": _flat,
    "scaled": _scaled,
    "fake quantised": _behind("FakeQuantWithMinMaxArgs", min=-3.0, max=3.0, num_bits=8),
    "quantised": _quantised,
    "normalised": _normalised,
    "standardised": _standardised,
    "switched": _switched,
}


def disguise(pick: Pick) -> str:
    """One of `DISGUISES`, mostly none."""
    chosen: str = pick("plain", "plain", "plain", "plain", *DISGUISES)
    return chosen
