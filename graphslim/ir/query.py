"""Questions about graphs, each decided once: what a tensor comes from, what needs it, what runs."""

from __future__ import annotations

from typing import AbstractSet, Dict, FrozenSet, Iterable, List, Set

from graphslim.ir.families import ENTERS, EXITS, IDENTITIES, MERGES, STATEFUL_DRAWS, SWITCHES
from graphslim.ir.graph import Graph, Use
from graphslim.ir.node import CONTROL, Port


def behind(graph: Graph, port: Port, through: AbstractSet[str] = IDENTITIES) -> Port:
    """The port whose tensor arrives at `port`, read past ops that pass their first input on.

    A node that is fed holds what it is fed, whatever it reads: there the search ends. So it does
    at a node without inputs.
    """
    while graph[port.node].op in through and port.node not in graph.inputs:
        sources = graph.data_inputs(port.node)
        if not sources:
            break
        port = sources[0]
    return port


def uses_behind(graph: Graph, port: Port, through: AbstractSet[str] = IDENTITIES) -> List[Use]:
    """Where the tensor of a port is read, past ops that pass their first input on.

    In the order of the graph's uses, depth first; control edges carry no tensor and do not count.
    """
    uses: List[Use] = []
    waiting = graph.uses_of(port)[::-1]
    while waiting:
        use = waiting.pop()
        if graph[use.node].op in through and use.node not in graph.inputs:
            waiting.extend(reversed(graph.uses_of(Port(use.node))))
        else:
            uses.append(use)
    return uses


def is_output(graph: Graph, port: Port, through: AbstractSet[str] = IDENTITIES) -> bool:
    """Whether the tensor of a port is an output of the graph, past ops that pass it on."""
    return any(behind(graph, output, through) == port for output in graph.outputs)


def upstream(graph: Graph, names: Iterable[str], fed: AbstractSet[str] = frozenset()) -> Set[str]:
    """What has to run for some nodes to run: all that they read or wait for, and themselves.

    What nodes of `fed` read or wait for does not count, unless others read it too.
    """
    reached = set(names)
    waiting = list(reached - fed)
    while waiting:
        for port in graph.inputs_of(waiting.pop()):
            if port.node not in reached:
                reached.add(port.node)
                if port.node not in fed:
                    waiting.append(port.node)
    return reached


def downstream(graph: Graph, names: Iterable[str]) -> Set[str]:
    """Some nodes, and all that reads or waits for them, over the back edges of loops too."""
    reached = set(names)
    waiting = list(reached)
    while waiting:
        for use in graph.uses_of(waiting.pop()):
            if use.node not in reached:
                reached.add(use.node)
                waiting.append(use.node)
    return reached


def needed(graph: Graph) -> FrozenSet[str]:
    """The nodes that an output depends on, by control edges too; kept until the graph changes."""
    return graph.memo("needed", lambda graph: _before_outputs(graph, frozenset()))


def executed(graph: Graph) -> FrozenSet[str]:
    """The nodes that run for the outputs when the inputs are fed; kept until the graph changes.

    Of what is needed it lacks what stands before an input, such as the layers above a node in the
    middle of a network that is fed.
    """
    return graph.memo("executed", lambda graph: _before_outputs(graph, frozenset(graph.inputs)))


def _before_outputs(graph: Graph, fed: AbstractSet[str]) -> FrozenSet[str]:
    return frozenset(upstream(graph, [port.node for port in graph.outputs], fed))


def constant_nodes(graph: Graph) -> FrozenSet[str]:
    """The nodes that depend on constants alone, through any op: weights, however they are made.

    A Switch only decides who reads a constant, so that its condition may be anything. Random
    numbers that are drawn in each run are no constants, and neither is what is fed.
    """
    return graph.memo("constant nodes", _constant_nodes)


def _constant_nodes(graph: Graph) -> FrozenSet[str]:
    constant: Set[str] = set()
    fed = frozenset(graph.inputs)
    for node in graph.order():
        if node.name in fed or node.op in STATEFUL_DRAWS:
            continue
        if node.op != "Const":
            ports = graph.data_inputs(node)
            sources = [port.node for port in (ports[:1] if node.op in SWITCHES else ports)]
            if not sources or not constant.issuperset(sources):
                continue
        constant.add(node.name)
    return frozenset(constant)


def in_branch(graph: Graph) -> FrozenSet[str]:
    """The nodes that run in one branch of a choice of TensorFlow 1 alone, and may not run at all.

    A branch begins at a Switch and ends before a Merge, which gives the result of either branch.
    What a node of a branch only waits for does not count, what waits for it does. The Switch of a
    loop leads into its body or out of it, and is no choice between branches.
    """
    return graph.memo("in a branch", _in_branch)


def _in_branch(graph: Graph) -> FrozenSet[str]:
    inside: Set[str] = set()
    for node in graph.order():
        sources = [port.node for port in graph.inputs_of(node)]
        chooses = node.op in SWITCHES and not any(
            graph[port.node].op == "LoopCond" for port in graph.data_inputs(node)[1:]
        )
        if chooses or (node.op not in MERGES and not inside.isdisjoint(sources)):
            inside.add(node.name)
    return frozenset(inside)


def in_loop(graph: Graph) -> FrozenSet[str]:
    """The nodes whose results stand in the frame of a loop of TensorFlow 1.

    A loop begins with its Enters and ends before its Exits. The Exit of a loop within another one
    leads back into that one, and is inside it.
    """
    return graph.memo("in a loop", _in_loop)


def _in_loop(graph: Graph) -> FrozenSet[str]:
    depths: Dict[str, int] = {}
    for node in graph.order():
        depth = max([depths.get(port.node, 0) for port in graph.inputs_of(node)], default=0)
        if node.op in ENTERS:
            depth += 1
        elif node.op in EXITS:
            depth -= 1
        depths[node.name] = depth
    return frozenset([name for name, depth in depths.items() if depth > 0])


def bypass(graph: Graph, name: str, source: Port, output: int = 0) -> None:
    """Lets the readers of an output of a node read `source`, and what waits for it wait for that.

    The node itself stays, unread unless it is an output of the graph or has others.
    """
    graph.replace_uses(Port(name, output), source)
    graph.replace_uses(Port(name, CONTROL), Port(source.node, CONTROL))


def remove_unread(graph: Graph, names: Iterable[str]) -> int:
    """Removes those of some nodes that nobody reads, and then what only they read, and so on.

    Inputs and outputs of the graph stay.

    Returns:
        how many nodes went.
    """
    signature = {*graph.inputs, *[port.node for port in graph.outputs]}
    waiting, removed = list(names), 0
    while waiting:
        name = waiting.pop()
        if name in graph and name not in signature and not graph.uses_of(name):
            waiting.extend([port.node for port in graph.inputs_of(name)])
            graph.remove(name)
            removed += 1
    return removed
