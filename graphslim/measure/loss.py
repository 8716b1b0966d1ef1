"""The loss whose gradients tell how much channels matter, and graphs that gradients are taken of.

The default loss measures how far the outputs would move, and needs no labels: half the sum of
squares of every floating-point output, each divided by its mean square over the examples, so that
no output outweighs another. It is the loss of Memory Aware Synapses (Aljundi et al. 2018, arXiv
1711.09601); the distance of the outputs from themselves, as in distillation, would have a zero
gradient. For an output that is a Softmax, a Sigmoid or an ArgMax, whose gradients vanish, its input
is taken.
"""

from __future__ import annotations

from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.channels.groups import Channels, analyse
from graphslim.errors import PlanError
from graphslim.ir import CONTROL, Attrs, DType, Graph, Node, Port, Tensor
from graphslim.measure.fidelity import logits_of
from graphslim.measure.samples import Runs
from graphslim.runtime import Session


def check_loss_output(graph: Graph, runner: Graph, loss_output: Optional[str]) -> None:
    """Refuses a tensor for the loss that is not there.

    Raises:
        PlanError: the graph, or what is run of it, has no such tensor.
    """
    if loss_output is not None:
        port = Port.parse(loss_output)
        if port.node not in graph or port.node not in runner or port.port < 0:
            raise PlanError(
                f"the graph has no {loss_output!r}", "--loss-output", "`graphslim inspect` helps"
            )


Factors = Dict[str, Optional[float]]
"""By tensor that enters a loss its factor; None if the tensor is the loss itself."""


class Loss(NamedTuple):
    """What gradients are of: the squares of outputs, or a tensor that the user named.

    Attributes:
        names: the tensors.
        is_named: whether the user named them.
        per_example: whether the squares of an example come to 1, and not those of a number.
    """

    names: Tuple[str, ...]
    is_named: bool
    per_example: bool = False

    @classmethod
    def of(cls, graph: Graph, loss_output: Optional[str], per_example: bool = False) -> Loss:
        """The loss of a graph's outputs, or of a tensor (`node` or `node:port`)."""
        if loss_output is not None:
            return cls((loss_output,), True, per_example)
        logits = dict.fromkeys([str(logits_of(graph, port)) for port in graph.outputs])
        return cls(tuple(logits), False, per_example)

    def squares(self, session: Session, runs: Runs) -> np.ndarray:
        """Sums over runs, by which `factors` are made; float64 of shape (3, names): of squares, of
        what they are divided by, and of runs in which a tensor is more than a number per example.
        """
        sums = np.zeros((3, len(self.names)))
        for feeds, count in runs:
            for index, value in enumerate(session.run(feeds, self.names)):
                array = np.asarray(value)
                if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
                    continue
                square = np.square(array.astype(np.float64)).sum()
                size = count if self.per_example else array.size
                sums[:, index] += square, size, array.size > count
        return sums

    def factors(self, parts: Iterable[np.ndarray]) -> Factors:
        """What each tensor is multiplied by, from `squares` of parts of the examples.

        A factor makes the squares of a tensor's numbers 1 in the mean, or their sum in an example.

        Raises:
            PlanError: a tensor is not finite.
        """
        squares, sizes, larger = sum(parts, np.zeros((3, len(self.names))))
        if self.is_named and sizes.all() and not larger.any():
            return {self.names[0]: None}
        for name, square in zip(self.names, squares):
            if not np.isfinite(square):
                raise PlanError("is not finite", f"output {name}", "give real data with --data")
        return {
            name: float(size / square)
            for name, square, size in zip(self.names, squares, sizes)
            if square > 0
        }

    def slopes(
        self,
        session: Session,
        factors: Factors,
        ports: Sequence[str],
        signs: Optional[int] = None,
    ) -> List[Optional[str]]:
        """Adds gradients of the loss to the session's graph: a name per port, None for zero.

        Args:
            session: the session.
            factors: those of the tensors.
            ports: the tensors with regard to which the gradients are.
            signs: a seed; the gradients are then those of the sum of the tensors' numbers with
                random signs, each tensor times the root of its factor.

        Raises:
            PlanError: no gradient leads to any of the ports.
        """
        slopes = session.gradients(factors, ports, signs)
        if factors and any(slope is not None for slope in slopes):
            return slopes
        raise PlanError(
            "no gradient leads from it to any channel",
            ", ".join(self.names),
            "name what stands before it with --loss-output, or score by the weights",
        )


_CUSTOM = "_gradient_op_type"
"""The attribute that names a gradient which the program that built the graph had registered."""


def differentiable(graph: Graph) -> Graph:
    """A copy that computes the same, in which ops without a gradient are replaced if possible.

    Custom gradients, such as that of swish, were functions of the program that built the graph:
    their ops are differentiated by TensorFlow's own gradients. A convolution in as many groups as
    it has channels, which has no gradient on a CPU, becomes a depthwise convolution. Every node
    keeps its name.
    """
    twin, channels = graph.copy(), analyse(graph)
    for node in graph:
        if _CUSTOM in node.attrs:
            twin.drop_attr(node.name, _CUSTOM)
        if node.op == "Conv2D" and _groups(channels, node) > 1:
            _make_depthwise(twin, channels, node)
    return twin


def _groups(channels: Channels, node: Node) -> int:
    """How many groups of one channel a convolution in NHWC has; 0 if its groups are larger."""
    data, filters = (channels.fact(port) for port in channels.graph.data_inputs(node)[:2])
    width, made = data.size(3), filters.size(3)
    is_plain = node.text("data_format", "NHWC") == "NHWC" and data.rank == 4
    strides = node.attrs.get("strides", [1, 1, 1, 1])
    # A depthwise kernel steps as far down as across.
    if not is_plain or filters.size(2) != 1 or not width or not made or strides[1] != strides[2]:
        return 0
    return width if made % width == 0 and None not in (filters.size(0), filters.size(1)) else 0


def _make_depthwise(graph: Graph, channels: Channels, node: Node) -> None:
    """Replaces a convolution; its filter of shape (h, w, 1, n * m) is read as (h, w, n, m)."""
    inputs = graph.data_inputs(node.name)
    filters, groups = channels.fact(inputs[1]), _groups(channels, node)
    height, width, _, made = filters.shape or ()
    numbers = np.array([height, width, groups, (made or 0) // groups])
    sizes = Attrs({"dtype": DType.int32, "value": Tensor.from_numbers(numbers, DType.int32)})
    shape = Node(graph.fresh_name(f"{node.name}/filter/shape"), "Const", sizes)
    types = Attrs({"T": node.attrs.get("T", DType.float32), "Tshape": DType.int32})
    reshape = Node(graph.fresh_name(f"{node.name}/filter"), "Reshape", types)
    graph.add(shape)
    graph.add(reshape, [inputs[1], Port(shape.name)])
    shared = ("T", "strides", "padding", "data_format", "dilations", "explicit_paddings")
    attrs = {key: value for key, value in node.attrs.items() if key in shared}
    if attrs.get("explicit_paddings") == []:
        del attrs["explicit_paddings"]
    depthwise = Node(node.name, "DepthwiseConv2dNative", Attrs(attrs), node.device)
    control_inputs = [port for port in graph.inputs_of(node.name) if port.port == CONTROL]
    graph.replace(depthwise, [inputs[0], Port(reshape.name), *control_inputs])
