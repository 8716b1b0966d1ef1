"""Writes small networks as the text that `graphslim.testing.from_text` reads, layer by layer.

The layers with weights are methods of `Net`; the spellings of the others are in `spellings`.
"""

from __future__ import annotations

import random
from typing import Callable, Dict, List, Optional, Sequence

from spellings import ACTIVATIONS, DENSE, GATES, NORMS, POOLS

from graphslim import find_blocks
from graphslim.ir import Block, Graph
from graphslim.match import PATTERNS, Matcher
from graphslim.testing import from_text


class Net:
    """A network in the making; layers take and give names of nodes.

    Args:
        size: height and width of the input.
        channels: of the input `x`.
        shuffle: a seed; nodes then have random names, and the lines a random order.
        sizes: batch, height and width of the input; by default 1 and `size` twice.
    """

    def __init__(
        self,
        size: object = 8,
        channels: int = 8,
        shuffle: Optional[int] = None,
        sizes: str = "",
    ) -> None:
        self.lines: List[str] = []
        self.width: Dict[str, int] = {}
        self.scope = ""
        self.given: Dict[str, str] = {}
        self._rng = None if shuffle is None else random.Random(shuffle)
        self._count = 0
        dims = sizes or f"1,{size},{size}"
        self.x = self.op("Placeholder", name="x", dtype="float32", shape=f"<{dims},{channels}>")
        self.width[self.x] = channels

    def op(self, op: str, *inputs: str, name: str = "", like: str = "", **attrs: object) -> str:
        """Writes a node with as many channels as `like` has, by default its first input."""
        plain = self.scope + (name or f"{op.lower()}_{len(self.lines)}")
        own = plain if self._rng is None else f"n{self._rng.randrange(10**9)}"
        assert plain not in self.given, plain
        self.given[plain] = own
        words = "".join([f" {key}={_word(value)}" for key, value in attrs.items()])
        self.lines.append(f"{own} = {op}({', '.join(inputs)}){words}")
        if inputs:
            self.width[own] = self.width.get(like or inputs[0], 0)
        return own

    def f(self, op: str, *inputs: str, **attrs: object) -> str:
        """A node on float tensors."""
        return self.op(op, *inputs, T="float32", **attrs)

    def const(self, shape: Sequence[int] = (), value: object = "random") -> str:
        """A constant; random by default, another for each."""
        self._count += 1
        filling = f"random {self._count}" if value == "random" else value
        dims = ",".join(map(str, shape))
        return self.op("Const", dtype="float32", value=f"float32[{dims}]{{{filling}}}")

    def ints(self, *values: int, shape: Optional[Sequence[int]] = None) -> str:
        dims = ",".join(map(str, (len(values),) if shape is None else shape))
        numbers = " ".join(map(str, values))
        return self.op("Const", dtype="int32", value=f"int32[{dims}]{{{numbers}}}")

    # ------------------------------------------------------------------ layers with weights

    def conv(
        self,
        x: str,
        filters: int,
        kernel: int = 1,
        stride: int = 1,
        name: str = "",
        groups: int = 1,
    ) -> str:
        w = self.const((kernel, kernel, self.width[x] // groups, filters))
        y = self.f(
            "Conv2D",
            x,
            w,
            name=name,
            data_format="NHWC",
            padding="SAME",
            strides=f"[1,{stride},{stride},1]",
        )
        self.width[y] = filters
        return y

    def depthwise(
        self,
        x: str,
        stride: int = 1,
        multiplier: int = 1,
        name: str = "",
        padding: str = "SAME",
        kernel: int = 3,
    ) -> str:
        w = self.const((kernel, kernel, self.width[x], multiplier))
        y = self.f(
            "DepthwiseConv2dNative", x, w, name=name, data_format="NHWC", padding=padding,
            strides=f"[1,{stride},{stride},1]",
        )  # fmt: skip
        self.width[y] = self.width[x] * multiplier
        return y

    def pad(self, x: str) -> str:
        return self.f("Pad", x, self.ints(0, 0, 1, 1, 1, 1, 0, 0, shape=(4, 2)), Tpaddings="int32")

    def padded_depthwise(self, x: str, name: str = "") -> str:
        return self.depthwise(self.pad(x), stride=2, name=name, padding="VALID")

    def dilated_depthwise(self, x: str, name: str = "") -> str:
        """Rate 2, as TF1 spells it."""
        block, pads = self.ints(2, 2), self.ints(2, 2, 2, 2, shape=(2, 2))
        crops = self.ints(0, 0, 0, 0, shape=(2, 2))
        apart = self.f("SpaceToBatchND", x, block, pads, Tblock_shape="int32", Tpaddings="int32")
        y = self.depthwise(apart, name=name, padding="VALID")
        return self.f("BatchToSpaceND", y, block, crops, Tblock_shape="int32", Tcrops="int32")

    def grouped_depthwise(self, x: str, name: str = "") -> str:
        return self.conv(x, self.width[x], 3, name=name, groups=self.width[x])

    def matmul(self, x: str, filters: int, name: str = "") -> str:
        y = self.f(
            "MatMul",
            x,
            self.const((self.width[x], filters)),
            name=name,
            transpose_a=False,
            transpose_b=False,
        )
        self.width[y] = filters
        return y

    # ------------------------------------------------------------------ shapes

    def identity(self, x: str) -> str:
        return self.f("Identity", x)

    def reshape(self, x: str, *target: int) -> str:
        return self.f("Reshape", x, self.ints(*target), Tshape="int32")

    def reshape_by_batch(self, x: str, *rest: int) -> str:
        """Reshape to Pack(batch, ...), the batch taken from x itself."""
        shape = self.op("Shape", x, T="float32", out_type="int32")
        batch = self.op(
            "StridedSlice", shape, self.ints(0), self.ints(1), self.ints(1), T="int32",
            Index="int32", begin_mask=0, end_mask=0, ellipsis_mask=0, new_axis_mask=0,
            shrink_axis_mask=1,
        )  # fmt: skip
        sizes = [self.ints(size, shape=()) for size in rest]
        target = self.op("Pack", batch, *sizes, T="int32", N=len(rest) + 1, axis=0)
        return self.f("Reshape", x, target, Tshape="int32")

    def mean(
        self, x: str, keep: bool = True, axes: Sequence[int] = (1, 2), op: str = "Mean"
    ) -> str:
        return self.f(op, x, self.ints(*axes), Tidx="int32", keep_dims=keep)

    def average(self, x: str, size: int, padding: str = "VALID", stride: int = 1) -> str:
        return self.f(
            "AvgPool", x, data_format="NHWC", ksize=f"[1,{size},{size},1]", padding=padding,
            strides=f"[1,{stride},{stride},1]",
        )  # fmt: skip

    def concat(self, x: str, y: str) -> str:
        z = self.op("ConcatV2", x, y, self.ints(3, shape=()), T="float32", Tidx="int32", N=2)
        self.width[z] = self.width[x] + self.width[y]
        return z

    # ------------------------------------------------------------------ small arithmetic

    def plus(self, x: str, value: object, swapped: bool = False, op: str = "AddV2") -> str:
        return self.two(op, x, self.const(value=value), swapped)

    def times(self, x: str, value: object, swapped: bool = False) -> str:
        return self.two("Mul", x, self.const(value=value), swapped)

    def two(self, op: str, x: str, y: str, swapped: bool = False, name: str = "") -> str:
        return self.f(op, *((y, x) if swapped else (x, y)), like=x, name=name)

    # ------------------------------------------------------------------ blocks

    def inverted_residual(
        self,
        x: str,
        hidden: int = 24,
        out: Optional[int] = None,
        norm: str = "fused",
        act: str = "relu6",
        depthwise: Optional[Callable[..., str]] = None,
        inside: Callable[[str], str] = lambda y: y,
        se: Optional[Callable[[str], str]] = None,
        se_first: bool = False,
        add: str = "AddV2",
        **options: int,
    ) -> str:
        """An inverted residual block with its sum, where the widths allow one.

        Args:
            x: the input.
            hidden, out: widths.
            norm, act: spellings.
            depthwise: a method that writes the depthwise layer.
            inside: put between any two layers.
            se: an SE block behind the depthwise layer, before its activation if `se_first`.
            add: the op of the sum.
            options: for the depthwise layer.
        """
        layer = depthwise or self.depthwise
        y = NORMS[norm](self, inside(self.conv(x, hidden, name="expand")))
        y = inside(ACTIVATIONS[act](self, inside(y)))
        y = inside(NORMS[norm](self, inside(layer(y, name="depthwise", **options))))
        if se and se_first:
            y = se(y)
        y = inside(ACTIVATIONS[act](self, y))
        if se and not se_first:
            y = se(y)
        y = inside(self.conv(y, out or self.width[x], name="project"))
        y = NORMS[norm](self, y)
        same = (
            self.width[y] == self.width[x]
            and not options.get("stride")
            and layer != self.padded_depthwise
        )
        return self.f(add, y, x, name="sum") if same else y

    def squeeze_excite(
        self,
        x: str,
        pool: str = "mean",
        dense: str = "conv",
        act: str = "relu",
        gate: str = "sigmoid",
        swapped: bool = False,
        hidden: int = 4,
        onto: str = "",
        size: int = 8,
    ) -> str:
        """An SE block; `onto` names another tensor that the gate goes to."""
        flat = DENSE[dense]
        y = flat(self, POOLS[pool](self, x, size), hidden, "squeeze")
        y = flat(self, ACTIVATIONS[act](self, y), self.width[x], "excite")
        y = GATES[gate](self, y)
        if dense not in ("conv", "tensordot", "tensordot, turned"):
            y = (
                self.reshape_by_batch(y, 1, 1, self.width[x])
                if dense == "packed"
                else self.reshape(
                    y, -1 if dense == "matmul, free batch" else 1, 1, 1, self.width[x]
                )
            )
        return self.two("Mul", onto or x, y, swapped, name="gate")

    # ------------------------------------------------------------------ the result

    def text(self, *outputs: str) -> str:
        lines = list(self.lines)
        if self._rng is not None:
            self._rng.shuffle(lines)
        return "\n".join([*lines, *[f"output {name}" for name in outputs]])

    def graph(self, *outputs: str) -> Graph:
        """The graph; by default the last node is the output."""
        last = self.lines[-1].split(" = ")[0]
        return from_text(self.text(*(outputs or (last,))))


def _word(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return f'"{text}"' if text in ("NHWC", "NCHW", "SAME", "VALID") else text


# ---------------------------------------------------------------------- what is found in one


def blocks(graph: Graph, kind: str) -> List[Block]:
    """The blocks of one kind; those of the other are found too, to see that nothing fails."""
    return [block for block in find_blocks(graph).blocks if block.kind == kind]


def reason(net: Net, kind: str, name: str) -> str:
    """Why no block of a kind is found around a node, and that none is."""
    graph = net.graph()
    assert blocks(graph, kind) == []
    miss = Matcher(graph).explain(PATTERNS[kind], net.given.get(name, name))
    assert miss is not None
    return f"{miss.node}: {miss.reason}"
