"""Layers by their place in the network: a digest that no name, identity or batch norm changes.

The digest of a layer is a Merkle hash of what stands before it and one of what stands behind it,
read from layer to layer: whatever is no convolution or matrix product with constant weights is
passed over, so that the spellings of batch norm, bias and activations, identities and inlined
calls make no difference. Where in a reader's input the channels of a layer begin is part of it,
which tells the branches of a concatenation apart.
"""

from __future__ import annotations

import hashlib
from typing import Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from graphslim.channels.groups import Channels
from graphslim.errors import PlanError
from graphslim.ir import Graph, Node, Port
from graphslim.ir.families import CARRIERS, MEASURES
from graphslim.ir.query import constant_nodes, needed
from graphslim.ops import COST_RULES
from graphslim.plans.plan import Late, Layer, Plan
from graphslim.support.text import plural

_MOST = 16
"""How many nearest layers are looked at: along residual sums and dense connections there are ever
more of them, and the last ones tell enough."""

Near = FrozenSet[str]


class _Weights(NamedTuple):
    """The constant that a layer reads its weights from, and the port where it reads them."""

    param: str
    port: Port
    shape: Tuple[int, ...]


def layers_of(graph: Graph, channels: Channels) -> Sequence[Layer]:
    """Every convolution and matrix product with constant weights that an output depends on.

    Their digests are made once somebody looks at them, of the graph as it is now.
    """
    used, constant = needed(graph), constant_nodes(graph)
    weights: Dict[str, _Weights] = {}
    for node in graph.order():
        if node.op in COST_RULES and node.name in used:
            read = _weights_of(graph, channels, node)
            if read is not None:
                weights[node.name] = read
    # What is computed from constants alone has no layer before it.
    left_out = frozenset() if not constant.isdisjoint(weights) else constant
    steps = [
        _Step(node.name, graph.data_inputs(node), _passes_on(graph, node))
        for node in graph.order()
        if node.name in used and node.name not in left_out
    ]
    kinds = {name: _kind(graph[name], read) for name, read in weights.items()}
    outputs = list(graph.outputs)
    return Late(lambda: _digested(channels, weights, kinds, steps, outputs))


class _Step(NamedTuple):
    """A node on the way between layers: what it reads, and what it hands on.

    Attributes:
        name, inputs: the node's name and the ports of its data.
        own: whether it hands on itself (True), nothing (False), or what it reads (None).
    """

    name: str
    inputs: Sequence[Port]
    own: Optional[bool]


def _passes_on(graph: Graph, node: Node) -> Optional[bool]:
    """What a node that is no layer hands on; see `_Step`."""
    if node.name in graph.inputs:
        # A learning phase is one that a graph frozen later no longer has.
        return getattr(node.attrs.get("dtype"), "name", "") != "bool"
    # Some spellings of a network ask for sizes, some know them.
    return False if node.op in MEASURES else None


def _digested(
    channels: Channels,
    weights: Dict[str, _Weights],
    kinds: Dict[str, str],
    steps: Sequence[_Step],
    outputs: Sequence[Port],
) -> List[Layer]:
    """The layers with their digests.

    Args:
        channels: the channel analysis.
        weights, kinds: of each layer by its node, in the order of the graph.
        steps: the nodes between the layers, and the layers, in that order.
        outputs: those of the graph.
    """
    inputs = {step.name: step.inputs for step in steps}
    before, reached = _nearest(steps, weights)
    behind: Dict[str, Set[str]] = {name: set() for name in weights}
    for name in weights:
        for source in before[name]:
            if source in behind:
                behind[source].add(name)
    ends = {name for port in outputs for name in reached.get(port.node, ())}
    begins = _Beginnings(channels, weights, inputs)
    ahead, back = {}, {}  # type: Dict[str, str], Dict[str, str]
    for name in weights:
        ahead[name] = _digest(
            kinds[name],
            *sorted(
                [f"{begins(source, name)} {ahead.get(source, 'input')}" for source in before[name]]
            ),
        )
    for name in reversed(list(weights)):
        end = "output" if name in ends else ""
        # A layer of a loop may stand before what it reads.
        back[name] = _digest(
            kinds[name],
            end,
            *sorted(
                [f"{begins(name, reader)} {back.get(reader, 'loop')}" for reader in behind[name]]
            ),
        )
    return [
        Layer(name, constant.param, constant.shape, _digest(ahead[name], back[name])[:16])
        for name, constant in weights.items()
    ]


def _nearest(
    steps: Sequence[_Step], weights: Dict[str, _Weights]
) -> Tuple[Dict[str, Near], Dict[str, Near]]:
    """For each layer, the nearest layers and inputs that it reads; for each node, those it passes
    on.
    """
    before: Dict[str, Near] = {}
    reached: Dict[str, Near] = {}
    place = {name: index for index, name in enumerate(weights)}
    for name, inputs, own in steps:
        sources = [reached.get(port.node) for port in inputs]
        first, *others = [source for source in sources if source] or [frozenset()]
        near: Near = first.union(*others) if others else first
        if len(near) > _MOST:
            near = frozenset(sorted(near, key=lambda name: (place.get(name, -1), name))[-_MOST:])
        if name in weights:
            before[name] = near
            near = frozenset([name])
        elif own is not None:
            near = frozenset([name] if own else [])
        reached[name] = near
    return before, reached


class _Beginnings:
    """Where in the input of a layer the channels of one before it begin."""

    def __init__(
        self,
        channels: Channels,
        weights: Dict[str, _Weights],
        inputs: Mapping[str, Sequence[Port]],
    ) -> None:
        self._out = {name: channels.channels_at(Port(name)) for name in weights}
        self._into: Dict[str, Optional[np.ndarray]] = {}
        self._places: Dict[Tuple[str, str], int] = {}
        for name, constant in weights.items():
            read = [channels.channels_at(port) for port in inputs[name] if port != constant.port]
            self._into[name] = next((labels for labels in read if labels is not None), None)

    def __call__(self, source: str, reader: str) -> int:
        """The position; -1 where the channels do not get there, or are not followed."""
        if (source, reader) not in self._places:
            self._places[source, reader] = self._place(source, reader)
        return self._places[source, reader]

    def _place(self, source: str, reader: str) -> int:
        out, into = self._out.get(source), self._into[reader]
        if out is None or into is None or not len(out):
            return -1
        places = np.flatnonzero(into == out[0])
        return int(places[0]) if len(places) else -1


def _weights_of(graph: Graph, channels: Channels, node: Node) -> Optional[_Weights]:
    """The one constant that a convolution or product reads, its axes as the op reads them."""
    constants = []
    for port in graph.data_inputs(node):
        source = graph[port.node]
        while source.op in CARRIERS | {"Cast", "Dequantize"} and graph.data_inputs(source):
            source = graph[graph.data_inputs(source)[0].node]
        if source.op == "Const" and source.attrs["value"].dtype.name not in ("int32", "int64"):
            shape = tuple(source.attrs["value"].shape)
            if len(shape) > 1:
                constants.append(_Weights(source.name, port, shape))
    if len(constants) != 1 or not _as_read(channels, constants[0]):
        return None
    return constants[0]


def _as_read(channels: Channels, constant: _Weights) -> bool:
    """Whether the positions of a constant are those of the tensor that is read."""
    stored, read = channels.fact(Port(constant.param)), channels.fact(constant.port)
    return stored.shape == read.shape and all(
        first is not None
        and second is not None
        and (first is second or np.array_equal(channels.label[first], channels.label[second]))
        for first, second in zip(stored.ids, read.ids)
    )


def _kind(node: Node, constant: _Weights) -> str:
    """What a layer is whatever its layout: op, shape of the weights, strides."""
    strides = sorted([int(stride) for stride in node.attrs.get("strides", ()) if stride != 1])
    return f"{node.op.replace('_Fused', '')} {list(constant.shape)} {strides}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8")).hexdigest()


# --- Which layer of a graph is which of a plan's: the same place, and among equals the same name.


class Pairs(NamedTuple):
    """The layers of a plan and of a graph, one to one.

    Attributes:
        nodes: for each layer of the plan, the graph's.
        params: for each of the plan's weights, the graph's; more than one where layers that share
            weights in the plan have their own here.
        notes: how many were matched how.
    """

    nodes: Dict[str, str]
    params: Dict[str, Set[str]]
    notes: Tuple[str, ...]


def pair(plan: Plan, layers: Sequence[Layer]) -> Pairs:
    """Matches the layers of a plan with those of a graph.

    Layers that stand in the same place as others, such as those of twin branches, are told apart
    by their names; where nothing is cut, or the same in each, it does not matter which is which.

    Raises:
        PlanError: there is a layer in one that is not in the other, or twins cannot be told apart.
    """
    theirs, ours = _by_structure(plan.layers), _by_structure(layers)
    _same_layers(theirs, ours, len(plan.layers))
    cuts = _cuts(plan)
    folds = {fold.node: fold for fold in plan.folds}
    nodes: Dict[str, str] = {}
    params: Dict[str, Set[str]] = {}
    named = 0
    for structure, twins in theirs.items():
        counterparts = ours[structure]
        if len(twins) > 1:
            clear = _by_name(twins, counterparts)
            named += len(twins) if clear else 0
            done = {(tuple(cuts.get(layer.param, ())), folds.get(layer.node)) for layer in twins}
            if clear is None and (len(done) > 1 or any(fold for _, fold in done)):
                raise PlanError(
                    f"{plural(len(twins), 'layer')} stand in the same place of the network as it, "
                    "and have other names here: which is which cannot be told",
                    twins[0].node,
                    "make a plan for this graph",
                )
            counterparts = clear or counterparts
        for layer, other in zip(twins, counterparts):
            nodes[layer.node] = other.node
            params.setdefault(layer.param, set()).add(other.param)
    notes = [f"{plural(len(nodes), 'layer')} matched by their place in the network"]
    if named:
        notes.append(f"{named} of them stand where others do, and were told apart by their names")
    return Pairs(nodes, params, tuple(notes))


def _by_structure(layers: Sequence[Layer]) -> Dict[str, List[Layer]]:
    layers_at: Dict[str, List[Layer]] = {}
    for layer in layers:
        layers_at.setdefault(layer.structure, []).append(layer)
    return layers_at


def _same_layers(theirs: Dict[str, List[Layer]], ours: Dict[str, List[Layer]], total: int) -> None:
    """Refuses networks that do not have the same layers in the same places.

    Raises:
        PlanError: the layers of the two networks, or their places, differ.
    """
    missing = [
        layer
        for structure, layers in theirs.items()
        for layer in layers[len(ours.get(structure, ())) :]
    ]
    surplus = [
        layer
        for structure, layers in ours.items()
        for layer in layers[len(theirs.get(structure, ())) :]
    ]
    if not missing and not surplus:
        return
    named = [layer for layer in missing if _kind_of_each(layer, surplus)] or missing or surplus
    shape = "x".join(map(str, named[0].shape))
    raise PlanError(
        f"{len(missing)} of the plan's {plural(total, 'layer')} have no counterpart in this graph, "
        f"and {len(surplus)} of the graph's none in the plan; the first has weights of {shape}",
        named[0].node,
        "the plan is of another architecture",
    )


def _kind_of_each(layer: Layer, others: Sequence[Layer]) -> bool:
    """Whether weights of that shape are in none of the others: there the networks differ."""
    return all(layer.shape != other.shape for other in others)


def _cuts(plan: Plan) -> Dict[str, List[Tuple[int, Tuple[int, ...]]]]:
    """For each parameter of a plan, what goes along each axis."""
    merged: Dict[str, Dict[int, Set[int]]] = {}
    for group in plan.groups:
        for cut in group.cuts:
            if cut.role not in ("shape", "index"):
                merged.setdefault(cut.param, {}).setdefault(cut.axis, set()).update(cut.removed)
    return {
        param: [(axis, tuple(sorted(gone))) for axis, gone in sorted(axes.items())]
        for param, axes in merged.items()
    }


def _by_name(twins: Sequence[Layer], counterparts: Sequence[Layer]) -> Optional[List[Layer]]:
    """The counterpart of each of the twins by the end of its name; None unless all are clear."""
    chosen: List[Layer] = []
    for twin in twins:
        shared = [_shared_end(twin.node, other.node) for other in counterparts]
        best = max(shared)
        if shared.count(best) > 1:
            return None
        chosen.append(counterparts[shared.index(best)])
    return chosen if len({layer.node for layer in chosen}) == len(counterparts) else None


def _shared_end(name: str, other: str) -> int:
    """How many parts two names have in common, counted from the end."""
    first, second = name.split("/")[::-1], other.split("/")[::-1]
    count = 0
    while count < min(len(first), len(second)) and first[count] == second[count]:
        count += 1
    return count
