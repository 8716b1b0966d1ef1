"""Scores of channels by their responses to sample inputs, or by gradients of a loss.

The default loss measures how far the outputs would move, and needs no labels: half the sum of
squares of every floating-point output, each divided by its mean square over the examples, so that
no output outweighs another. It is the loss of Memory Aware Synapses (Aljundi et al. 2018, arXiv
1711.09601); the distance of the outputs from themselves, as in distillation, would have a zero
gradient. For an output that is a Softmax, a Sigmoid or an ArgMax, whose gradients vanish, its input
is taken.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import numpy as np

from graphslim.channels.groups import Channels, Group, analyse
from graphslim.channels.visit import Contraction
from graphslim.errors import PlanError
from graphslim.ir import CONTROL, Attrs, DType, Graph, Node, Port, Tensor
from graphslim.ir.query import behind
from graphslim.measure.fidelity import logits_of
from graphslim.measure.portable import Portable
from graphslim.measure.samples import Data, Samples
from graphslim.measure.shares import chosen_from
from graphslim.measure.verify import runnable
from graphslim.runtime import Session
from graphslim.scoring.registry import Criterion, find_criterion
from graphslim.support.progress import silent
from graphslim.support.workers import Job, Worker, opened

PARTS = 64
"""So many parts at most the runs are done in: the results do not depend on who does which."""


def measure(
    graph: Graph,
    channels: Channels,
    groups: Sequence[Group],
    criterion: Union[str, Criterion],
    *,
    data: Union[Data, Samples] = None,
    loss_output: Optional[str] = None,
    seed: int = 0,
) -> Dict[str, List[np.ndarray]]:
    """The scores of groups' channels by a criterion of kind `responses` or `gradients`.

    The graph is run on the examples one by one (or as many at a time as it takes), and the scores
    of the runs are averaged over the examples. Only their sums are kept. For a criterion that is
    itself a mean over examples, the scores do not depend on how many examples are run together.
    Runs are summed up in parts, and the parts in order, whoever does them: the scores are the same
    to the last digit on one process and on many.

    Args:
        graph: the graph.
        channels: its channel analysis.
        groups: the groups to score.
        criterion: the criterion, or its name.
        data: sample inputs: a path as for verify, arrays by input name, or None for random inputs;
            or `Samples` of these, which say too who runs the graph.
        loss_output: for gradients, a tensor (`node` or `node:port`) to take the loss from, as it
            is, instead of the outputs. If that tensor is one number, or one for each example, it
            is the loss itself.
        seed: the seed of random inputs.

    Returns:
        by group id, for each tensor that shows its channels (see `places_of`) the scores, float64
        of shape (channels,); NaN for channels that are not in that tensor.

    Raises:
        GraphslimError: the data cannot be read or do not fit the graph, or workers were lost.
        PlanError: the graph has no such tensor for the loss, no gradient leads from it to a
            channel, or the scores are not finite, or the same for all channels.
        VerifyError: the graph does not run, or holds an op without a gradient.
        RuntimeUnavailable: TensorFlow is not installed.
    """
    samples = data if isinstance(data, Samples) else Samples(data)
    alone = samples._replace(tick=silent, workers=None)
    scorer = _Scorer(graph, channels, groups, criterion, samples, loss_output, seed)
    job = Job(
        _scorer_of,
        (Portable.of(graph), [group.id for group in groups], criterion, alone, loss_output, seed),
    )
    totals = scorer.nothing()
    with opened(samples.workers) as workers, scorer.session:

        def done(kind: str, *more: Any) -> Iterator[Any]:
            tasks = [(kind, first, last, *more) for first, last in scorer.parts]
            if workers is None:
                return map(lambda task: scorer(*task), tasks)
            return iter(workers.map(job, tasks, "part of the inputs", samples.tick))

        factors = None
        if scorer.criterion.kind == "gradients":
            factors = scorer.loss.factors(done("squares"))
        for part in done("scores", factors):
            totals.add_all(part)
    return totals.averages()


class _Scorer:
    """Scores channels on some of the runs of a graph; see `measure`.

    Attributes:
        criterion: the criterion.
        loss: what gradients are of.
        parts: the first run of each part, and the one behind its last.
        session: what runs the graph.
    """

    def __init__(
        self,
        graph: Graph,
        channels: Channels,
        groups: Sequence[Group],
        criterion: Union[str, Criterion],
        samples: Samples,
        loss_output: Optional[str],
        seed: int,
    ) -> None:
        self.criterion = find_criterion(criterion) if isinstance(criterion, str) else criterion
        runner = runnable(graph)
        check_loss_output(graph, runner, loss_output)
        self._groups, self._places = groups, places_of(channels, groups, runner)
        shown = [place.port for places in self._places.values() for place in places]
        self._ports = list(dict.fromkeys([str(port) for port in shown]))
        self._examples = chosen_from(graph, samples, seed)
        edges = np.linspace(0, self._examples.runs, min(self._examples.runs, PARTS) + 1)
        self.parts = list(
            zip(*[edges.astype(int)[ends].tolist() for ends in (slice(-1), slice(1, None))])
        )
        if self.criterion.kind == "gradients":
            runner = differentiable(runner)
        self.loss = Loss.of(runner, loss_output)
        self.session = Session(runner, optimize=False)
        self._slopes: Optional[List[Optional[str]]] = None

    def __call__(self, kind: str, first: int, last: int, factors: Optional[Factors] = None) -> Any:
        """What some runs give: their `scores` (a `_Totals`), or the `squares` of the loss."""
        runs = self._examples.starting(first, last)
        if kind == "squares":
            return self.loss.squares(self.session, runs)
        return self._scores(runs, factors)

    def nothing(self) -> _Totals:
        """The sums over no runs."""
        return _Totals(self._groups, self._places, self.criterion)

    def _scores(self, runs: Runs, factors: Optional[Factors]) -> _Totals:
        totals, ports = self.nothing(), self._ports
        if self._slopes is None:
            self._slopes = [None] * len(ports)
            if factors is not None:
                self._slopes = self.loss.slopes(self.session, factors, ports)
        fetches = ports + [slope for slope in self._slopes if slope is not None]
        for feeds, count in runs:
            values = iter(self.session.run(feeds, fetches))
            responses = {port: np.asarray(next(values)) for port in ports}
            gradients = {
                port: np.zeros_like(responses[port]) if slope is None else np.asarray(next(values))
                for port, slope in zip(ports, self._slopes)
            }
            totals.add(responses, gradients, count)
        return totals


def _scorer_of(
    portable: Portable,
    names: Sequence[str],
    criterion: Union[str, Criterion],
    samples: Samples,
    loss_output: Optional[str],
    seed: int,
) -> Worker:
    graph = portable.graph()
    channels = analyse(graph)
    by_id = {group.id: group for group in channels.groups}
    groups = [by_id[name] for name in names]
    return _Scorer(graph, channels, groups, criterion, samples, loss_output, seed)


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


Runs = Iterable[Tuple[Mapping[str, np.ndarray], int]]
"""Inputs of some runs, and how many examples each holds."""
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


class _Totals:
    """The sums of a criterion's scores over examples, place by place."""

    def __init__(
        self, groups: Sequence[Group], places: Mapping[str, Sequence[Place]], criterion: Criterion
    ) -> None:
        self._places, self._criterion, self._examples = places, criterion, 0
        self._totals: Dict[str, List[np.ndarray]] = {
            group.id: [np.full(len(group), np.nan) for _ in places[group.id]] for group in groups
        }

    def add(
        self,
        responses: Mapping[str, np.ndarray],
        gradients: Mapping[str, np.ndarray],
        examples: int,
    ) -> None:
        """Adds one run: by port the responses and their gradients, arrays of the port's shape."""
        for name, places in self._places.items():
            for place, total in zip(places, self._totals[name]):
                port = str(place.port)
                blocks = [laid_out(responses[port], place, examples)]
                if self._criterion.kind == "gradients":
                    blocks.append(laid_out(gradients[port], place, examples))
                for parts in zip(*blocks):
                    indices = parts[0][0]
                    scores = self._scores([block for _, block in parts], name, port)
                    total[indices] = np.nan_to_num(total[indices]) + examples * scores
        self._examples += examples

    def add_all(self, other: _Totals) -> None:
        """Adds the sums over other runs."""
        for name, totals in self._totals.items():
            for index, (mine, theirs) in enumerate(zip(totals, other._totals[name])):
                # NaN is nothing, but for channels that neither has.
                both = np.nan_to_num(mine) + np.nan_to_num(theirs)
                totals[index] = np.where(np.isnan(mine), theirs, both)
        self._examples += other._examples

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

    def averages(self) -> Dict[str, List[np.ndarray]]:
        """The averages over all examples: by name float64 arrays, one value for each channel.

        Raises:
            PlanError: the averages are the same for every channel of every group.
        """
        averages = {
            name: [total / max(1, self._examples) for total in totals]
            for name, totals in self._totals.items()
        }
        refuse_alike(self._criterion, [row for shown in averages.values() for row in shown])
        return averages


def refuse_alike(criterion: Criterion, scores: Sequence[np.ndarray]) -> None:
    """Refuses scores that are the same for every channel of every group, NaN left out.

    Raises:
        PlanError: they are.
    """
    rows = [row[~np.isnan(row)] for row in scores]
    if any(len(row) > 1 for row in rows) and len(np.unique(np.concatenate(rows))) == 1:
        raise PlanError(
            f"{criterion.name} tells no channel from another on these inputs",
            "--criterion",
            "choose another one; apoz works behind activations that give exact zeros, as ReLU",
        )


# --- The tensors in which channels are scored.


class Place(NamedTuple):
    """The positions of a group's channels in a tensor.

    Attributes:
        port: the tensor, in the graph that is run.
        axis: the axis of the channels.
        positions: indices along that axis, int64 of shape (n,); a channel may have several.
        channels: for each position, the index of its channel in the group; int64 of shape (n,).
    """

    port: Port
    axis: int
    positions: np.ndarray
    channels: np.ndarray


def laid_out(
    array: np.ndarray, place: Place, examples: int
) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """The values of a group's channels in a tensor, as arrays (examples, positions, channels).

    If a channel has several positions along its axis, as behind a Flatten, they are added to the
    positions of the array. Channels with different numbers of positions are in different arrays.

    Args:
        array: the values at `place.port`, in any layout.
        place: the positions of the channels.
        examples: how many examples the tensor holds, in order along its first axis.

    Yields:
        indices of channels in the group, int64 of shape (c,), and their values, float64 of shape
        (examples, positions, c).
    """
    moved = np.moveaxis(np.asarray(array), place.axis, -1)
    # A tensor without an axis of examples, such as a shared table, counts as one example.
    by_examples = place.axis % array.ndim != 0 and array.shape[0] % examples == 0
    rows = moved.reshape(examples if by_examples else 1, -1, moved.shape[-1])
    order = np.argsort(place.channels, kind="stable")
    counts = np.bincount(place.channels)
    for count in np.unique(counts[counts > 0]).tolist():
        indices = np.flatnonzero(counts == count)
        picked = order[np.isin(place.channels[order], indices)]
        block = rows[:, :, place.positions[picked]].astype(np.float64)
        block = block.reshape(rows.shape[0], rows.shape[1], len(indices), count)
        yield indices, np.moveaxis(block, 3, 2).reshape(rows.shape[0], -1, len(indices))


def places_of(channels: Channels, groups: Sequence[Group], runner: Graph) -> Dict[str, List[Place]]:
    """The tensors that show the channels of groups, by group id.

    These are the tensors that convolutions and matrix products read, behind norms and activations;
    a tensor that several of them read is listed once. For a group that none of them reads it is the
    tensor where the group is produced; the list is empty if that is not known.

    Args:
        channels: the channel analysis of the graph.
        groups: the groups.
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
    for (port, axis), (positions, labels) in _read(channels, runner).items():
        numbers = group_at[labels]
        for number in np.unique(numbers[numbers >= 0]):
            mine = numbers == number
            place = Place(port, axis, positions[mine], index[labels[mine]])
            places[groups[number].id].append(place)
    for group in groups:
        if not places[group.id]:
            places[group.id] = _where_produced(channels, group, runner)
    return places


def _read(
    channels: Channels, runner: Graph
) -> Dict[Tuple[Port, int], Tuple[np.ndarray, np.ndarray]]:
    """The axes that sums over channels read: by tensor and axis `Channels.members` of each."""
    read: Dict[Tuple[Port, int], Tuple[np.ndarray, np.ndarray]] = {}
    for contraction, twin in zip(channels.contractions, twins_of(channels, runner)):
        port = behind(runner, runner.data_inputs(twin.node)[twin.data])
        rank = analyse(runner).fact(port).rank
        axis = twin.axis % rank if rank else twin.axis
        if (port, axis) not in read:
            read[port, axis] = channels.members(contraction.into)
    return read


def twins_of(channels: Channels, runner: Graph) -> Iterator[Contraction]:
    """For each sum over channels, the corresponding sum in the graph that is run.

    Raises:
        PlanError: the graph that is run has no sum that corresponds to one of the original.
    """
    if runner is channels.graph:
        yield from channels.contractions
        return
    by_name: Dict[str, List[Contraction]] = defaultdict(list)
    for twin in analyse(runner).contractions:
        by_name[twin.node].append(twin)
    counts: Counter = Counter()
    for contraction in channels.contractions:
        name = contraction.node
        # An output of the graph keeps its name for the Transpose that follows the op.
        twins = by_name.get(name) or by_name.get(f"{name}/nhwc") or []
        nth = counts[name]
        counts[name] += 1
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
