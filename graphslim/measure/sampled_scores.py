"""Scores of channels by what they answer to sample inputs, or how the outputs depend on them.

Gradients are those of a loss. By default it asks how far the outputs would move, which needs no
labels: half the sum of squares of every floating-point output, each divided by its mean square
over the examples, so that no output drowns another. It is the loss of Memory Aware Synapses
(Aljundi et al. 2018, arXiv 1711.09601); the distance of the outputs from themselves, as in
distillation, has no gradient where it is zero. An output that is a Softmax, a Sigmoid or an
ArgMax, whose gradients vanish, is replaced by what enters it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from graphslim.channels.groups import Channels, Group, analyse
from graphslim.channels.visit import Contraction
from graphslim.criteria.registry import Criterion
from graphslim.errors import PlanError
from graphslim.ir import CONTROL, Attrs, DType, Graph, Node, Port, Tensor
from graphslim.ir.families import IDENTITIES, RESHAPES
from graphslim.ir.query import behind
from graphslim.measure.samples import Data, Examples, Samples
from graphslim.measure.verify import runnable
from graphslim.runtime import Session

_SQUASHES = frozenset(("Softmax", "LogSoftmax", "Sigmoid", "ArgMax"))
"""Ops behind which a network that is sure of itself has next to no gradient, or none."""


def measure(
    graph: Graph,
    channels: Channels,
    groups: Sequence[Group],
    criterion: Criterion,
    *,
    data: Union[Data, Samples] = None,
    loss_output: Optional[str] = None,
    seed: int = 0,
) -> Dict[str, List[np.ndarray]]:
    """What a criterion of kind `responses` or `gradients` says of the channels of groups.

    The graph is run on the examples one by one (or as many at a time as it takes), and what the
    criterion says of each run is averaged over the examples. Nothing but those sums is kept, and
    however many examples are run together, the scores are the same for any criterion that is
    itself a mean over examples.

    Args:
        graph: the graph.
        channels: its channel analysis.
        groups: those to score.
        criterion: the criterion.
        data: sample inputs: a path as for verify, arrays by input name, or None for random ones;
            or `Samples` of these.
        loss_output: for gradients, a tensor (`node` or `node:port`) to take the loss from, as it
            is, instead of the outputs. If that is one number, or one for each example, it is the
            loss itself.
        seed: for random ones.

    Returns:
        by group id, for each tensor that shows its channels (see `places_of`) the scores, float64
        of shape (channels,); NaN for channels that are not in that tensor.

    Raises:
        GraphslimError: the data cannot be read or do not fit.
        PlanError: the tensor named for the loss is not there, no gradient leads from it, or what is
            measured is not finite, or the same for all channels.
        VerifyError: the graph does not run, or holds an op without a gradient.
        RuntimeUnavailable: TensorFlow is not there.
    """
    samples = data if isinstance(data, Samples) else Samples(data)
    runner = runnable(graph)
    if loss_output is not None:
        port = Port.parse(loss_output)
        if port.node not in graph or port.node not in runner or port.port < 0:
            raise PlanError(
                f"the graph has no {loss_output!r}", "--loss-output", "`graphslim inspect` helps"
            )
    places = places_of(channels, groups, runner)
    examples = Examples(graph, samples, seed)
    sums = _Sums(groups, places, criterion)
    ports = list(dict.fromkeys([str(place.port) for shown in places.values() for place in shown]))
    if criterion.kind == "gradients":
        runner = differentiable(runner)
    with Session(runner, optimize=False) as session:
        slopes: List[Optional[str]] = [None] * len(ports)
        if criterion.kind == "gradients":
            slopes = _gradients(session, runner, examples, loss_output, ports)
        fetches = ports + [slope for slope in slopes if slope is not None]
        for feeds, count in examples:
            values = iter(session.run(feeds, fetches))
            responses = {port: np.asarray(next(values)) for port in ports}
            gradients = {
                port: np.zeros_like(responses[port]) if slope is None else np.asarray(next(values))
                for port, slope in zip(ports, slopes)
            }
            sums.add(responses, gradients, count)
    return sums.means()


def _gradients(
    session: Session,
    graph: Graph,
    examples: Examples,
    loss_output: Optional[str],
    ports: Sequence[str],
) -> List[Optional[str]]:
    """Adds the gradients of the loss to the graph that is run: a name per port, None for zero."""
    names = [loss_output] if loss_output is not None else _logits(graph)
    weights = _loss(session, examples, names, loss_output is not None)
    slopes = session.gradients(weights, ports)
    if weights and any(slope is not None for slope in slopes):
        return slopes
    raise PlanError(
        "no gradient leads from it to any channel",
        ", ".join(names),
        "name what stands before it with --loss-output, or score by the weights",
    )


def _logits(graph: Graph) -> List[str]:
    """The outputs of a graph, or what enters the op that squashes one; each once."""
    logits = []
    for port in graph.outputs:
        source = behind(graph, port, IDENTITIES | RESHAPES)
        while graph[source.node].op in _SQUASHES and source.node not in graph.inputs:
            port = graph.data_inputs(source.node)[0]
            source = behind(graph, port, IDENTITIES | RESHAPES)
        logits.append(str(port))
    return list(dict.fromkeys(logits))


def _loss(
    session: Session, examples: Examples, names: Sequence[str], is_loss: bool
) -> Dict[str, Optional[float]]:
    """For each tensor that has a share in the loss its factor, or None if it is the loss itself."""
    squares, sizes = np.zeros(len(names)), np.zeros(len(names))
    single = is_loss
    for feeds, count in examples:
        for index, value in enumerate(session.run(feeds, names)):
            array = np.asarray(value)
            if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
                continue
            squares[index] += np.square(array.astype(np.float64)).sum()
            sizes[index] += array.size
            single = single and array.size <= count
    if single and sizes.all():
        return {names[0]: None}
    for name, square in zip(names, squares):
        if not np.isfinite(square):
            raise PlanError("is not finite", f"output {name}", "give real data with --data")
    return {
        name: float(size / square)
        for name, square, size in zip(names, squares, sizes)
        if square > 0
    }


class _Sums:
    """The sums over examples of what a criterion says, place by place."""

    def __init__(
        self, groups: Sequence[Group], places: Mapping[str, Sequence[Place]], criterion: Criterion
    ) -> None:
        self._places, self._criterion, self._examples = places, criterion, 0
        self._sums = {
            group.id: [np.full(len(group), np.nan) for _ in places[group.id]] for group in groups
        }

    def add(
        self,
        responses: Mapping[str, np.ndarray],
        gradients: Mapping[str, np.ndarray],
        examples: int,
    ) -> None:
        """Takes in what one run gave: by port the responses and their gradients."""
        for name, places in self._places.items():
            for place, total in zip(places, self._sums[name]):
                port = str(place.port)
                blocks = [laid_out(responses[port], place, examples)]
                if self._criterion.kind == "gradients":
                    blocks.append(laid_out(gradients[port], place, examples))
                for parts in zip(*blocks):
                    which = parts[0][0]
                    scores = self._scores([block for _, block in parts], name, port)
                    total[which] = np.nan_to_num(total[which]) + examples * scores
        self._examples += examples

    def _scores(self, blocks: Sequence[np.ndarray], group: str, port: str) -> np.ndarray:
        if not all(np.isfinite(block).all() for block in blocks):
            raise PlanError(
                "is not finite on these inputs", f"{port} (group {group})", "give real --data"
            )
        scores = np.asarray(self._criterion.function(*blocks), np.float64)
        width, shape = blocks[0].shape[2], scores.shape
        if shape != (width,) or not np.isfinite(scores).all():
            raise PlanError(
                f"gives an array of shape {list(shape)} for {width} channels, or not numbers",
                f"criterion {self._criterion.name}",
                "it takes (examples, positions, channels) and gives a finite number per channel",
            )
        return scores

    def means(self) -> Dict[str, List[np.ndarray]]:
        """The averages over all examples: by name float64 arrays, one value for each channel.

        Raises:
            PlanError: the averages are the same for every channel of every group.
        """
        means = {
            name: [total / max(1, self._examples) for total in totals]
            for name, totals in self._sums.items()
        }
        rows = [row[~np.isnan(row)] for shown in means.values() for row in shown]
        if any(len(row) > 1 for row in rows) and len(np.unique(np.concatenate(rows))) == 1:
            raise PlanError(
                f"{self._criterion.name} tells no channel from another on these inputs",
                "--criterion",
                "choose another one; apoz works behind activations that give exact zeros, as ReLU",
            )
        return means


# --- Where channels are seen.

Seen = Tuple[Port, int, np.ndarray]
"""A tensor, an axis of it, and the labels of the channels along that axis."""


class Place(NamedTuple):
    """Where the channels of a group stand in a tensor.

    Attributes:
        port: the tensor, in the graph that is run.
        axis: the axis along which they stand.
        positions: indices along that axis, int of shape (n,); a channel may have several.
        channels: for each, the index of its channel in the group, int of shape (n,).
    """

    port: Port
    axis: int
    positions: np.ndarray
    channels: np.ndarray


def laid_out(
    array: np.ndarray, place: Place, examples: int
) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """A tensor as (examples, positions, channels), of one group.

    Where a channel has several positions along its axis, as behind a Flatten, they count as
    positions; channels that have different numbers of them come one number after the other.

    Args:
        array: the values at `place.port`; any layout.
        place: where the channels stand in it.
        examples: how many examples it holds, in order along its first axis.

    Returns:
        pairs of channels (indices in the group, shape (c,)) and float64 of shape
        (examples, positions, c).
    """
    moved = np.moveaxis(np.asarray(array), place.axis, -1)
    # What does not go by examples, such as a table that all of them share, counts as one.
    by_examples = place.axis % array.ndim != 0 and array.shape[0] % examples == 0
    rows = moved.reshape(examples if by_examples else 1, -1, moved.shape[-1])
    order = np.argsort(place.channels, kind="stable")
    often = np.bincount(place.channels)
    for times in np.unique(often[often > 0]).tolist():
        which = np.flatnonzero(often == times)
        picked = order[np.isin(place.channels[order], which)]
        block = rows[:, :, place.positions[picked]].astype(np.float64)
        block = block.reshape(rows.shape[0], rows.shape[1], len(which), times)
        yield which, np.moveaxis(block, 3, 2).reshape(rows.shape[0], -1, len(which))


def places_of(channels: Channels, groups: Sequence[Group], runner: Graph) -> Dict[str, List[Place]]:
    """The tensors that show the channels of groups, by group id.

    Those are what convolutions and matrix products read, behind norms and activations: what would
    be missing there if a channel went. A tensor that several of them read counts once. A group that
    none of them reads is seen where it is produced; the list is empty where that is not known.

    Args:
        channels: the channel analysis of the graph.
        groups: those to look for.
        runner: the graph that will be run: the graph itself, or its NHWC twin.

    Raises:
        PlanError: an op of the graph cannot be found again in its twin.
    """
    group_at = np.full(channels.count, -1)
    index = np.zeros(channels.count, np.int64)
    for number, group in enumerate(groups):
        group_at[group.channels] = number
        index[group.channels] = np.arange(len(group))
    places: Dict[str, List[Place]] = {group.id: [] for group in groups}
    for port, axis, labels in _read(channels, runner):
        numbers = group_at[labels]
        for number in np.unique(numbers[numbers >= 0]):
            positions = np.flatnonzero(numbers == number)
            place = Place(port, axis, positions, index[labels[positions]])
            places[groups[number].id].append(place)
    for group in groups:
        if not places[group.id]:
            places[group.id] = _where_produced(channels, group, runner)
    return places


def _read(channels: Channels, runner: Graph) -> List[Seen]:
    """What sums over channels read, each tensor once along each axis."""
    labels: Dict[Tuple[Port, int], np.ndarray] = {}
    for contraction, twin in zip(channels.contractions, _twins(channels, runner)):
        port = behind(runner, runner.data_inputs(twin.node)[twin.data])
        rank = analyse(runner).fact(port).rank
        axis = twin.axis % rank if rank else twin.axis
        labels.setdefault((port, axis), channels.label[contraction.into])
    return [(port, axis, along) for (port, axis), along in labels.items()]


def _twins(channels: Channels, runner: Graph) -> Iterator[Contraction]:
    """For each sum over channels, the one of the graph that is run.

    Raises:
        PlanError: the graph that is run has no sum that corresponds to one of the original.
    """
    if runner is channels.graph:
        yield from channels.contractions
        return
    twins_of: Dict[str, List[Contraction]] = defaultdict(list)
    for twin in analyse(runner).contractions:
        twins_of[twin.node].append(twin)
    seen: Counter = Counter()
    for contraction in channels.contractions:
        name = contraction.node
        # An output of the graph keeps its name for the Transpose that follows the op.
        twins = twins_of.get(name) or twins_of.get(f"{name}/nhwc") or []
        nth = seen[name]
        seen[name] += 1
        if nth >= len(twins) or len(twins[nth].into) != len(contraction.into):
            raise PlanError(
                "is not found again in the NHWC twin that a CPU can run",
                name,
                "turn the graph with --pass to-nhwc first, or score by the weights",
            )
        yield twins[nth]


def _where_produced(channels: Channels, group: Group, runner: Graph) -> List[Place]:
    """The output of the op that a group is named for, if its channels are followed there."""
    name = group.id.split("#")[0]
    if name not in runner or name not in channels.graph:
        return []
    port = Port(name)
    fact = channels.fact(port)
    index_of: Dict[int, int] = {label: at for at, label in enumerate(group.channels.tolist())}
    for axis, ids in enumerate(fact.ids):
        if ids is None or not axis:
            continue
        indices = np.array([index_of.get(label, -1) for label in channels.label[ids].tolist()])
        positions = np.flatnonzero(indices >= 0)
        if len(positions):
            formats = [
                graph[name].text("data_format", "NHWC") for graph in (channels.graph, runner)
            ]
            if fact.rank == 4 and formats == ["NCHW", "NHWC"]:
                axis = (0, 3, 1, 2)[axis]
            return [Place(port, axis, positions, indices[positions])]
    return []


# --- Graphs that TensorFlow refuses gradients of.

_CUSTOM = "_gradient_op_type"
"""Names a gradient that the program had registered which built the graph; it is there no more."""


def differentiable(graph: Graph) -> Graph:
    """A copy that computes the same, with nothing in it that only lacks a gradient by its form.

    Custom gradients, such as that of swish, were functions of the program that built the graph:
    what they belong to is differentiated as it stands. A convolution in as many groups as it has
    channels, of which TensorFlow takes no gradient on a CPU, becomes the depthwise convolution that
    it is. Every node keeps its name.
    """
    twin, channels = graph.copy(), analyse(graph)
    for node in graph:
        if _CUSTOM in node.attrs:
            twin.drop_attr(node.name, _CUSTOM)
        if node.op == "Conv2D" and _groups(channels, node) > 1:
            _make_depthwise(twin, channels, node)
    return twin


def _groups(channels: Channels, node: Node) -> int:
    """How many groups of one channel a convolution in NHWC has; 0 if it has others."""
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
    turned = Node(graph.fresh_name(f"{node.name}/filter"), "Reshape", types)
    graph.add(shape)
    graph.add(turned, [inputs[1], Port(shape.name)])
    kept = ("T", "strides", "padding", "data_format", "dilations", "explicit_paddings")
    attrs = {key: value for key, value in node.attrs.items() if key in kept}
    if attrs.get("explicit_paddings") == []:
        del attrs["explicit_paddings"]
    depthwise = Node(node.name, "DepthwiseConv2dNative", Attrs(attrs), node.device)
    others = [port for port in graph.inputs_of(node.name) if port.port == CONTROL]
    graph.replace(depthwise, [inputs[0], Port(turned.name), *others])
