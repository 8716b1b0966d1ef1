"""An op as a layout rule sees it: its inputs, in which layout they are, and how to change them."""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Sequence, Tuple

from graphslim.channels.facts import integers
from graphslim.ir import DType, Node, Port


class LayoutVisit:
    """One op on the walk.

    Attributes:
        node: the op.
        inputs: what it reads, without control inputs, as it was before.
    """

    def __init__(self, layouts: Any, node: Node) -> None:
        self.layouts, self.node = layouts, node
        self.inputs: Tuple[Port, ...] = layouts.graph.data_inputs(node)

    def is_turned(self, index: int) -> bool:
        """Whether input `index` is an NCHW tensor whose NHWC form is there."""
        return bool(self.layouts.is_turned(self.inputs[index]))

    def shape(self, index: int) -> Optional[Tuple[Optional[int], ...]]:
        """The shape that input `index` had in NCHW; None where its rank is open."""
        shape: Optional[Tuple[Optional[int], ...]] = self.layouts.facts.fact(
            self.inputs[index]
        ).shape
        return (None,) * 4 if shape is None and self.is_turned(index) else shape

    def rank(self, index: int) -> Optional[int]:
        """How many axes input `index` has; None where that is open."""
        shape = self.shape(index)
        return None if shape is None else len(shape)

    def ints(self, index: int) -> Optional[List[int]]:
        """The numbers of an integer input, flat, if a constant states them; else None."""
        port = self.inputs[index]
        fixed = port.node in self.layouts.fixed
        return integers(self.layouts.facts.fact(port)) if fixed else None

    def axes(self, index: int) -> Optional[List[int]]:
        """The axes of an NCHW tensor that an integer input names, none negative; else None."""
        numbers = self.ints(index)
        if numbers is None or not all(-4 <= number < 4 for number in numbers):
            return None
        return [number % 4 for number in numbers]

    def dtype(self, key: str = "T", default: DType = DType.float32) -> DType:
        """An attribute that names an element type."""
        dtype = self.node.attrs.get(key, default)
        return dtype if isinstance(dtype, DType) else default

    def read(self, index: int, port: Port) -> None:
        """Lets input `index` read something else."""
        if self.layouts.graph.inputs_of(self.node)[index] != port:
            self.layouts.graph.rewire(self.node, index, port)

    def turn(self, index: int, dtype: Optional[DType] = None) -> None:
        """Lets input `index`, of four axes, read the NHWC form."""
        self.read(index, self.layouts.nhwc(self.inputs[index], dtype or self.dtype()))

    def keep(self) -> None:
        """Lets every input read the form that it had."""
        for index, port in enumerate(self.inputs):
            self.read(index, self.layouts.nchw(port))

    def number(self, index: int, numbers: object, dtype: DType) -> None:
        """Lets an integer input read new numbers, in a constant of its own."""
        name = f"{self.node.name}/nhwc_{index}"
        self.read(index, self.layouts.number(name, numbers, dtype, self.inputs[index]))

    def reorder(self, index: int, axes: Sequence[int], dtype: DType) -> None:
        """Lets an input of four numbers, or rows, read them in the order of NHWC."""
        name = f"{self.node.name}/nhwc_{index}"
        self.read(index, self.layouts.reordered(self.inputs[index], axes, dtype, name))

    def set_attr(self, key: str, value: object) -> None:
        """Sets an attribute of the op."""
        self.layouts.graph.set_attr(self.node, key, value)

    def turned(self, *ports: int) -> None:
        """Notes that outputs are in NHWC from now on."""
        self.layouts.turned(self.node, ports)

    def pays(self, indices: Sequence[int]) -> bool:
        """Whether turning inputs takes no more Transposes than it saves."""
        ports = {self.inputs[index] for index in indices}
        added = [port for port in ports if not self.layouts.is_free(port)]
        return len(added) <= len([port for port in ports if self.layouts.is_in_place(port)])

    def can_split(self) -> bool:
        """Whether the op, which has several outputs, can be changed in place."""
        return self.node.name not in self.layouts.ends


LayoutRule = Callable[[LayoutVisit], bool]
"""Turns an op and gives True; or gives False, having changed nothing."""
