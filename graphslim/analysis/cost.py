"""What a graph costs, node by node: parameters and multiply-accumulates.

Parameters are the elements of floating-point and quantised constants of rank 1 and more that an
output depends on: weights, biases and all four batch-norm vectors, as Keras counts them. MACs are
those of convolutions and matrix products for one example, as papers count them; the additions
of bias, batch norm, activations and pooling are left out.
"""

from __future__ import annotations

from typing import Any, Collection, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from graphslim.channels.computed import element_type
from graphslim.channels.facts import Fact, product
from graphslim.channels.groups import Copies, Removal, analyse, copies_needed
from graphslim.channels.rules import guarded
from graphslim.ir import Graph, Node
from graphslim.ir.query import needed
from graphslim.ops import COST_RULES


class Cost(NamedTuple):
    """Parameters (elements) and multiply-accumulates; None where a size is open."""

    params: int
    macs: Optional[int]


NOTHING = Cost(0, 0)
"""The cost of a node that costs nothing."""


def cost(graph: Graph) -> Cost:
    """What a graph costs."""
    return total(costs_of(graph).values())


def costs_of(graph: Graph) -> Dict[str, Cost]:
    """What each node costs, for those that cost something; kept until the graph changes."""
    return graph.memo("costs", lambda graph: costs_without(graph, None))


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of costs; its multiply-accumulates are None where those of a part are unknown."""
    params, macs = 0, 0  # type: int, Optional[int]
    for part in costs:
        params += part.params
        macs = None if macs is None or part.macs is None else macs + part.macs
    return Cost(params, macs)


def cost_without(graph: Graph, removed: np.ndarray, what: Optional[str] = None) -> Cost:
    """What a graph would cost without some channels.

    `removed` is bool of shape (channels,); with `what`, `params` or `macs`, that alone is counted.
    """
    return total(costs_without(graph, removed, what).values())


def costs_without(
    graph: Graph, removed: Optional[np.ndarray], what: Optional[str] = None
) -> Dict[str, Cost]:
    """What each node would cost without some channels, for those that cost something.

    Args:
        graph: the graph.
        removed: which channels go, bool of shape (channels,); None for none.
        what: `params` or `macs`, where only nodes are asked for that may have some.

    Raises:
        AnalysisError: a cost rule fails, since the node is damaged.
    """
    channels = analyse(graph)
    removal = None if removed is None else Removal(channels, removed)
    shrunk = _Shrinking(removal, constants=what != "macs")
    shared = {} if removal is None or what == "macs" else copies_needed(removal)
    stored = set() if removal is None else set(removal.to_store())
    idle = _unread(graph, stored)
    costs: Dict[str, Cost] = {}
    known: Dict[Tuple[Any, ...], Cost] = graph.memo("costs by widths", lambda graph: {})
    for node, inputs, outs, arrays in _costed(graph, what != "macs"):
        if node.name in idle:
            continue
        if node.op == "Const":
            if node.attrs["value"].dtype.is_real:
                costs[node.name] = Cost(_left(shrunk(outs[0]), shared.get(node.name)), 0)
        elif node.name in stored:
            costs[node.name] = Cost(_left(shrunk(outs[0]), None), 0)
        elif node.op in COST_RULES and what != "params":
            widths = (node.name, *map(shrunk.counts.get, arrays))
            if widths not in known:
                rule, read = COST_RULES[node.op], [shrunk(fact) for fact in inputs]
                left = [shrunk(fact) for fact in outs]
                known[widths] = Cost(0, guarded(rule, graph, node, node, read, left))
            costs[node.name] = known[widths]
    return costs


def bytes_without(graph: Graph, removed: np.ndarray) -> int:
    """How many bytes of constants the graph would lose with some channels.

    `removed` is bool of shape (channels,). Constants of any type count, those that no output
    depends on too, since a file holds them.
    """
    channels = analyse(graph)
    removal = Removal(channels, removed)
    shrunk, shared, stored = _Shrinking(removal), copies_needed(removal), removal.to_store()
    idle = _unread(graph, stored)
    lost = 0
    for name in stored:
        known, dtype = shrunk(channels.facts[name][0]), element_type(graph[name])
        lost -= (product(known.shape or ()) or 0) * (dtype.storage.itemsize if dtype else 0)
    for node in graph:
        if node.op == "Const" and channels.facts[node.name][0].shape:
            known, tensor = channels.facts[node.name][0], node.attrs["value"]
            left = 0 if node.name in idle else _left(shrunk(known), shared.get(node.name))
            lost += (tensor.size - left) * tensor.dtype.storage.itemsize
    return lost


Costed = Tuple[Node, Sequence[Fact], Sequence[Fact], Sequence[int]]
"""A node that may cost something, the facts of its inputs and of its outputs, and the `id` of each
array of ids in these."""


def _costed(graph: Graph, constants: bool) -> List[Costed]:
    """The nodes that may cost something: parameters of rank 1 and more, and ops with a rule.

    Constants are left out unless they are asked for.
    """
    every = graph.memo("costed", _find_costed)
    if constants:
        return every
    return graph.memo(
        "costed ops", lambda graph: [costed for costed in every if costed[0].op != "Const"]
    )


def _find_costed(graph: Graph) -> List[Costed]:
    used, channels = needed(graph), analyse(graph)
    costed = [
        node
        for node in graph
        if node.name in used
        and (
            (node.op in COST_RULES and node.op != "Const")
            or (
                (node.op == "Const" or node.name in channels.stored)
                and channels.facts[node.name][0].shape
            )
        )
    ]
    found: List[Costed] = []
    for node in costed:
        inputs = [channels.fact(port) for port in graph.data_inputs(node)]
        outs = channels.facts[node.name]
        arrays = {id(ids) for fact in (*inputs, *outs) for ids in fact.ids}
        found.append((node, inputs, outs, sorted(arrays)))
    return found


def _unread(graph: Graph, stored: Collection[str]) -> Set[str]:
    """The nodes that nothing reads any more once the results of some nodes are stored."""
    signature = {*graph.inputs, *[port.node for port in graph.outputs]}
    unread: Set[str] = set()
    waiting = [port.node for name in stored for port in graph.inputs_of(name)]
    while waiting:
        name = waiting.pop()
        left = [use for use in graph.uses_of(name) if use.node not in stored]
        if name not in signature | unread and all(use.node in unread for use in left):
            unread.add(name)
            waiting.extend([port.node for port in graph.inputs_of(name)])
    return unread


def _left(known: Fact, copies: Optional[Copies]) -> int:
    """How many elements of a constant are left, in all its copies."""
    if copies is None:
        return product(known.shape or ()) or 0
    return sum([int(np.count_nonzero(~dead)) for dead, _ in copies])


class _Shrinking:
    """Facts without the channels that go; an array of ids that many share is counted once."""

    def __init__(self, removal: Optional[Removal], constants: bool = True) -> None:
        self.counts: Dict[int, int] = {}
        if removal is not None:
            names, labels, starts = removal.channels.graph.memo(
                f"arrays of channels, of constants too: {constants}",
                lambda graph: _arrays(graph, constants),
            )
            left = np.add.reduceat(~removal.mask[labels], starts, dtype=np.int64)
            self.counts = dict(zip(names, left.tolist()))

    def __call__(self, known: Fact) -> Fact:
        if not self.counts or known.shape is None:
            return known
        sizes = [self.counts.get(id(ids), size) for size, ids in zip(known.shape, known.ids)]
        return Fact(tuple(sizes), *known[1:])


def _arrays(graph: Graph, constants: bool) -> Tuple[List[int], np.ndarray, np.ndarray]:
    """Arrays of ids of costed nodes, perhaps of constants: `id`, channels, where these begin."""
    channels = analyse(graph)
    groups = [facts for _, inputs, outs, _ in _costed(graph, constants) for facts in (inputs, outs)]
    if constants:
        names = [node.name for node in graph if node.op == "Const" or node.name in channels.stored]
        groups.extend([channels.facts[name] for name in names])
    facts = [known for every in groups for known in every]
    arrays = {id(ids): ids for known in facts for ids in known.ids if ids is not None and len(ids)}
    sizes = [len(ids) for ids in arrays.values()]
    labels = channels.label[np.concatenate([*arrays.values(), np.zeros(0, np.int64)])]
    return list(arrays), labels, np.cumsum([0, *sizes])[:-1]
