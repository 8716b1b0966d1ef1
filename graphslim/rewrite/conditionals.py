"""Conditionals on a constant: a Switch and its Merge become the branch that is taken."""

from __future__ import annotations

from typing import Dict, List, Optional, Set

from graphslim.ir import CONTROL, IDENTITIES, DType, Graph, Node, Port
from graphslim.ir.families import LOOP_OPS, MERGES, SWITCHES
from graphslim.ir.query import bypass, remove_unread


def fold_conditionals(graph: Graph) -> int:
    """Removes Switch and Merge where the condition is a constant, and the branch not taken.

    The graph is changed in place, and stays as it is where something that would go belongs to a
    loop or to the graph's signature. A condition that is an input of the graph stays, even
    with a default.

    Returns:
        how many Switch nodes are gone.
    """
    taken: Dict[str, int] = {}
    for node in graph:
        number = _condition(graph, node) if node.op in SWITCHES else None
        if number is not None:
            taken[node.name] = int(number)
    dead = _never_run(graph, taken)
    merges = [
        node
        for node in graph
        if node.op in MERGES and any(port in dead for port in graph.data_inputs(node))
    ]
    if not taken or _is_needed(graph, dead, taken, merges):
        return 0
    unread = {node.name for node in graph if not graph.uses_of(node)}
    for merge in merges:
        if Port(merge.name) not in dead:
            _fold_merge(graph, merge, dead)
    for name, port in taken.items():
        if Port(name, port) not in dead:
            bypass(graph, name, graph.data_inputs(name)[0], port)
    stay = unread - {port.node for port in dead}
    remove_unread(graph, [node.name for node in graph if node.name not in stay])
    return len(taken)


def _condition(graph: Graph, switch: Node) -> Optional[bool]:
    """The condition of a Switch where it is a constant, behind identities and negations."""
    negated = False
    port = graph.data_inputs(switch)[1]
    while port.node not in graph.inputs:
        node = graph[port.node]
        if node.op == "Const":
            tensor = node.attrs["value"]
            known = tensor.dtype is DType.bool and tensor.size == 1
            return bool(tensor.numbers().ravel()[0]) != negated if known else None
        if node.op not in (*IDENTITIES, "LogicalNot"):
            return None
        negated = negated != (node.op == "LogicalNot")
        port = graph.data_inputs(node)[0]
    return None


def _never_run(graph: Graph, taken: Dict[str, int]) -> Set[Port]:
    """The ports that never have a value: a node runs if all that it reads does, a Merge if any."""
    dead: Set[Port] = set()
    for node in graph.order():
        data = graph.data_inputs(node)
        controls = [port for port in graph.inputs_of(node) if port.port == CONTROL]
        lost = [port in dead for port in data]
        stopped = bool(data) and all(lost) if node.op in MERGES else any(lost)
        if stopped or any(port in dead for port in controls):
            dead |= {Port(node.name), Port(node.name, CONTROL)}
            dead |= {graph.inputs_of(use.node)[use.index] for use in graph.uses_of(node)}
        elif node.name in taken:
            dead.add(Port(node.name, 1 - taken[node.name]))
    return dead


def _is_needed(graph: Graph, dead: Set[Port], taken: Dict[str, int], merges: List[Node]) -> bool:
    """Whether something that would go belongs to a loop or to the graph's signature."""
    stopped = {port.node for port in dead if port.port == CONTROL}
    going = stopped | set(taken)
    return (
        any(name in going for name in graph.inputs)
        or any(port.node in going for port in graph.outputs)
        or any(graph[name].op in LOOP_OPS for name in stopped)
        or any(Port(merge.name, 1) in graph.outputs for merge in merges)
        or any(graph.uses_of(Port(merge.name, 1)) for merge in merges)
    )


def _fold_merge(graph: Graph, merge: Node, dead: Set[Port]) -> None:
    """Leaves a Merge the inputs that may come; with one of them its readers read that."""
    data = [port for port in graph.data_inputs(merge) if port not in dead]
    controls = [port for port in graph.inputs_of(merge) if port.port == CONTROL]
    graph.set_inputs(merge, [*data, *controls])
    graph.set_attr(merge, "N", len(data))
    if len(data) == 1 and not controls:
        bypass(graph, merge.name, data[0])
