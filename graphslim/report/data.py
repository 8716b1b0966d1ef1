"""The contents of a report as plain values: layers, parts, groups, walls and the outcome."""

from __future__ import annotations

from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.analysis.cost import NOTHING, Cost, cost, costs_of, total
from graphslim.channels.groups import Channels, analyse
from graphslim.channels.reasons import KEPT, SIZES_GIVEN, OpenSize
from graphslim.delivery import Delivery
from graphslim.graphdef import serialize
from graphslim.ir import CONTROL, Graph, Node, Port
from graphslim.ir.query import executed
from graphslim.measure.agreement import Agreement, columns_of, rows_of
from graphslim.measure.looks import Look
from graphslim.measure.timings import Timings
from graphslim.ops import COST_RULES
from graphslim.plans import GroupPlan, Plan
from graphslim.plans.plan import Achieved
from graphslim.recovery import Repaired

Pair = Tuple[int, int]
REST = ""
"""The name of the part of all nodes that belong to no block and no layer."""


class LayerWidth(NamedTuple):
    """The width of one convolution or matrix product.

    Attributes:
        name: the node's name.
        op: the node's op.
        width: output channels, before and after.
        pinned: how many of the channels before are pinned.
    """

    name: str
    op: str
    width: Pair
    pinned: int


class Part(NamedTuple):
    """A block, or a layer outside blocks, with the nodes that are counted with it.

    Attributes:
        name: the block's name, or the layer's.
        kind: the block's kind; None for a layer.
        layers: its layers of known width, in the order of the network.
        params: parameters, before and after.
        macs: multiply-accumulates, before and after; None where a size is open.
    """

    name: str
    kind: Optional[str]
    layers: Tuple[LayerWidth, ...]
    params: Pair
    macs: Optional[Pair]


class Wall(NamedTuple):
    """A reason why channels stay.

    Attributes:
        reason: the reason that the channel analysis gives.
        advice: what the reader can do.
        groups: for each group its id, its number of channels and the node that pins it.
    """

    reason: str
    advice: str
    groups: Tuple[Tuple[str, int, str], ...]

    @property
    def channels(self) -> int:
        """How many channels stay for this reason."""
        return sum([channels for _, channels, _ in self.groups])


class Report(NamedTuple):
    """The contents of the page.

    Attributes:
        model: name and digest of the file that was pruned.
        output: the path of the result.
        parts: the network, in its order.
        groups: the groups that lose channels.
        walls: why channels of other groups stay, the reason of most channels first.
        channels: the number of channels of all groups, and of prunable groups.
        params, macs, size: before and after; the size in bytes, of the binary file.
        settings: the settings that the plan was made by.
        achieved: how near the plan came to its budget; None without a budget.
        change: the comparison with the original, if channels were chosen.
        surgery: the comparison that shows whether the cut was right, if graphs were run.
        seconds: time for reading, planning and rewriting.
        repaired: what a repair came to, if there was one.
        looks: outputs that are pictures, of some images that the repair kept aside.
        delivery: the file, where it is no graph.
        timed: the original and the result, timed in the runtime that the result is for.
    """

    model: Mapping[str, str]
    output: str
    parts: Tuple[Part, ...]
    groups: Tuple[GroupPlan, ...]
    walls: Tuple[Wall, ...]
    channels: Pair
    params: Pair
    macs: Optional[Pair]
    size: Pair
    settings: Mapping[str, object]
    achieved: Optional[Achieved]
    change: Optional[Agreement]
    surgery: Optional[Agreement]
    seconds: float
    repaired: Optional[Repaired] = None
    looks: Tuple[Look, ...] = ()
    delivery: Optional[Delivery] = None
    timed: Optional[Timings] = None

    @property
    def removed(self) -> int:
        """How many channels are removed."""
        return sum([len(group.removed) for group in self.groups])


def collect(
    before: Graph,
    after: Graph,
    plan: Plan,
    change: Optional[Agreement] = None,
    surgery: Optional[Agreement] = None,
    *,
    output: str = "",
    seconds: float = 0.0,
    repaired: Optional[Repaired] = None,
    looks: Tuple[Look, ...] = (),
    delivery: Optional[Delivery] = None,
    timed: Optional[Timings] = None,
) -> Report:
    """Gathers the contents of the page.

    Args:
        before: the graph as it was read; its blocks, or those of `after`, are the parts.
        after: the graph without the plan's channels.
        plan: the plan.
        change: the comparison with the original, if channels were chosen and graphs were run.
        surgery: the comparison that shows whether the cut was right, if graphs were run.
        output: the path of the result.
        seconds: time for reading, planning and rewriting.
        repaired: what a repair came to, if there was one.
        looks: outputs that are pictures, of some images that the repair kept aside.
        delivery: the file, where it is no graph.
        timed: the original and the result, timed in the runtime that the result is for.
    """
    channels = analyse(before)
    costs = [cost(before), cost(after)]
    macs = [total.macs for total in costs]
    prunable = [len(group) for group in channels.groups if group.prunable]
    return Report(
        plan.model,
        output,
        find_parts(before, after),
        plan.groups,
        _walls(channels),
        (sum([len(group) for group in channels.groups]), sum(prunable)),
        (costs[0].params, costs[1].params),
        None if macs[0] is None or macs[1] is None else (macs[0], macs[1]),
        (len(serialize(before)), len(serialize(after))),
        plan.settings,
        plan.achieved,
        change,
        surgery,
        seconds,
        repaired,
        looks,
        delivery,
        timed,
    )


def find_parts(before: Graph, after: Graph) -> Tuple[Part, ...]:
    """The network as blocks and single layers outside blocks, in its order.

    Args:
        before: the graph as it was read.
        after: the same graph without some channels; its nodes have the same names.
    """
    # The passes may have run on the copy alone; nodes keep their names.
    blocks = after.blocks or before.blocks
    kinds = {block.name: block.kind for block in blocks}
    inside: Dict[str, str] = {}
    for block in sorted(blocks, key=lambda block: -len(block.nodes)):
        for name in block.nodes:
            inside.setdefault(name, block.name)
    owner = owners(before, inside)
    spends = [spent(before, owner), spent(after, owners(after, inside))]
    layers: Dict[str, List[LayerWidth]] = {}
    for node in before.order():
        if is_layer(node):
            part_layers = layers.setdefault(owner[node.name], [])
            width = _width(before, node.name)
            if width is not None:
                after_width = _width(after, node.name) if node.name in after else 0
                pair = (width, width if after_width is None else after_width)
                pinned = _pinned(before, node.name, width)
                part_layers.append(LayerWidth(node.name, node.op, pair, pinned))
    # Nodes that belong to no layer are shown if they have parameters.
    names = [*layers, *[name for name in spends[0] if name not in layers]]
    return tuple(
        [
            _part(name, kinds.get(name), layers.get(name, ()), spends)
            for name in names
            if name != REST or spends[0].get(name, NOTHING).params
        ]
    )


def _part(
    name: str,
    kind: Optional[str],
    layers: Sequence[LayerWidth],
    spends: Sequence[Mapping[str, Cost]],
) -> Part:
    first, second = [spend.get(name, NOTHING) for spend in spends]
    known = first.macs is not None and second.macs is not None
    return Part(
        name,
        kind,
        tuple(layers),
        (first.params, second.params),
        (first.macs or 0, second.macs or 0) if known else None,
    )


def _width(graph: Graph, name: str) -> Optional[int]:
    node, known = graph[name], analyse(graph).fact(Port(name, 0))
    if not known.shape or len(known.shape) < 2:
        return None
    return known.shape[1 if node.text("data_format").startswith("NC") else -1]


def _pinned(graph: Graph, name: str, width: int) -> int:
    channels = analyse(graph)
    labels = channels.channels_at(Port(name, 0))
    return width if labels is None else int(np.count_nonzero(channels.pinned()[labels]))


def _walls(channels: Channels) -> Tuple[Wall, ...]:
    by_reason: Dict[str, List[Tuple[str, int, str]]] = {}
    for group in channels.groups:
        if group.pinned_by is not None:
            wall_group = (group.id, len(group), group.pinned_at or "")
            by_reason.setdefault(group.pinned_by, []).append(wall_group)
    walls = [
        Wall(reason, remedy(reason, channels.graph), tuple(groups))
        for reason, groups in by_reason.items()
    ]
    return tuple(sorted(walls, key=lambda wall: (-wall.channels, wall.reason)))


def repair_table(repaired: Repaired) -> Tuple[Sequence[str], List[Sequence[str]]]:
    """The columns and rows of what each stage of a repair came to on the images kept aside.

    The heads of numbers begin with `>`.
    """
    steps = [("as removed", "", repaired.before)]
    for stage in repaired.stages:
        steps.append((stage.title, "kept" if stage.kept else "thrown away", stage.after))
    rows: List[Sequence[str]] = [
        (name, *row, became) for name, became, each in steps for row in rows_of(each)
    ]
    return ("stage", *columns_of(repaired.before), "result"), rows


def is_layer(node: Node) -> bool:
    """Whether a node is a convolution or a matrix product."""
    return node.op in COST_RULES


def owners(graph: Graph, inside: Mapping[str, str]) -> Dict[str, str]:
    """For each node, the block or layer that it is counted with.

    A node outside blocks belongs to the layer before it, and a constant to its reader. What only
    waits for a constant is no reader of it: there a frozen function has a node that waits for all.

    Args:
        graph: the graph.
        inside: by node in a block, the name of the block.

    Returns:
        by node, the name of a block, of a layer, or `REST`.
    """
    order = graph.order()
    owner = {node.name: inside[node.name] for node in order if node.name in inside}
    for node in order:
        if node.name not in owner and is_layer(node):
            owner[node.name] = node.name
        elif node.name not in owner:
            known = [port.node for port in graph.data_inputs(node) if port.node in owner]
            if known:
                owner[node.name] = owner[known[0]]
    for node in reversed(order):
        if node.name not in owner:
            uses = [use for use in graph.uses_of(node) if use.node in owner]
            readers = [use for use in uses if graph.inputs_of(use.node)[use.index].port != CONTROL]
            owner[node.name] = owner[(readers or uses)[0].node] if uses else REST
    return owner


def spent(graph: Graph, owner: Mapping[str, str]) -> Dict[str, Cost]:
    """The cost of each block or layer, counted as `analysis.cost` counts the whole graph."""
    costs, used = costs_of(graph), executed(graph)
    parts: Dict[str, List[Cost]] = {}
    for node in graph.order():
        if node.name in used:
            parts.setdefault(owner[node.name], []).append(costs.get(node.name, NOTHING))
    return {name: total(node_costs) for name, node_costs in parts.items()}


def remedy(reason: str, graph: Optional[Graph] = None) -> str:
    """Advice on a reason that a group is pinned for (`Group.pinned_by`).

    Args:
        reason: the reason.
        graph: the graph; advice to give the sizes of inputs is left out if all are known.
    """
    if graph is not None and isinstance(reason, OpenSize):
        channels = analyse(graph)
        shapes = [channels.fact(Port(name)).shape for name in graph.inputs]
        if all(shape is not None and None not in shape for shape in shapes):
            return SIZES_GIVEN
    return getattr(reason, "advice", KEPT)
