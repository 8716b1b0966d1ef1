"""fold-conditionals: a conditional on a constant becomes the branch that it takes."""

from __future__ import annotations

from typing import Dict, List, Optional, Set

import graphslim as gs

SWITCHES = ("Switch", "RefSwitch")
MERGES = ("Merge", "RefMerge")
LOOPS = ("Enter", "Exit", "NextIteration", "LoopCond")


@gs.register
class FoldConditionals(gs.Pass):
    """Removes Switch and Merge where the condition is a constant, and the branch not taken.

    A condition that is an input of the graph, even one with a default, stays.

    Before:
        x = Placeholder() dtype=float32
        training = Const() dtype=bool value=bool[]{0}
        s = Switch(x, training) T=float32
        y = Neg(s) T=float32
        noisy = Exp(s:1) T=float32
        m = Merge(y, noisy) N=2 T=float32
        z = Relu(m) T=float32

    After:
        x = Placeholder() dtype=float32
        y = Neg(x) T=float32
        z = Relu(y) T=float32
    """

    name = "fold-conditionals"

    def run(self, graph: gs.Graph) -> gs.Outcome:
        """Finds what never runs, lets readers of the rest read past it, then removes it."""
        taken: Dict[str, int] = {}
        for node in graph:
            number = condition(graph, node) if node.op in SWITCHES else None
            if number is not None:
                taken[node.name] = int(number)
        dead = never_run(graph, taken)
        merges = [
            node
            for node in graph
            if node.op in MERGES and any(port in dead for port in graph.data_inputs(node))
        ]
        if not taken or is_needed(graph, dead, taken, merges):
            return gs.Outcome(False, ("conditionals folded: 0",))
        unread = {node.name for node in graph if not graph.uses_of(node)}
        for merge in merges:
            if gs.Port(merge.name) not in dead:
                fold_merge(graph, merge, dead)
        for name, port in taken.items():
            if gs.Port(name, port) not in dead:
                fold_switch(graph, name, port)
        remove_unread(graph, unread - {port.node for port in dead})
        return gs.Outcome(True, (f"conditionals folded: {len(taken)}",))


def condition(graph: gs.Graph, switch: gs.Node) -> Optional[bool]:
    """The condition of a Switch where it is a constant, behind identities and negations."""
    negated = False
    port = graph.data_inputs(switch)[1]
    while port.node not in graph.inputs:
        node = graph[port.node]
        if node.op == "Const":
            tensor = node.attrs["value"]
            known = tensor.dtype is gs.DType.bool and tensor.size == 1
            return bool(tensor.numbers().ravel()[0]) != negated if known else None
        if node.op not in (*gs.IDENTITY_OPS, "LogicalNot"):
            return None
        negated = negated != (node.op == "LogicalNot")
        port = graph.data_inputs(node)[0]
    return None


def never_run(graph: gs.Graph, taken: Dict[str, int]) -> Set[gs.Port]:
    """The ports that never have a value: a node runs if all that it reads does, a Merge if any."""
    dead: Set[gs.Port] = set()
    for node in graph.order():
        data = graph.data_inputs(node)
        controls = [port for port in graph.inputs_of(node) if port.port == gs.CONTROL]
        lost = [port in dead for port in data]
        stopped = bool(data) and all(lost) if node.op in MERGES else any(lost)
        if stopped or any(port in dead for port in controls):
            dead |= {gs.Port(node.name), gs.Port(node.name, gs.CONTROL)}
            dead |= {graph.inputs_of(use.node)[use.index] for use in graph.uses_of(node)}
        elif node.name in taken:
            dead.add(gs.Port(node.name, 1 - taken[node.name]))
    return dead


def is_needed(
    graph: gs.Graph, dead: Set[gs.Port], taken: Dict[str, int], merges: List[gs.Node]
) -> bool:
    """Whether something that would go belongs to a loop or to the graph's signature."""
    stopped = {port.node for port in dead if port.port == gs.CONTROL}
    going = stopped | set(taken)
    return (
        any(name in going for name in graph.inputs)
        or any(port.node in going for port in graph.outputs)
        or any(graph[name].op in LOOPS for name in stopped)
        or any(gs.Port(one.name, 1) in graph.outputs for one in merges)
        or any(graph.uses_of(gs.Port(one.name, 1)) for one in merges)
    )


def fold_merge(graph: gs.Graph, merge: gs.Node, dead: Set[gs.Port]) -> None:
    """Leaves a Merge the inputs that may come; with one of them its readers read that."""
    data = [port for port in graph.data_inputs(merge) if port not in dead]
    controls = [port for port in graph.inputs_of(merge) if port.port == gs.CONTROL]
    graph.set_inputs(merge, [*data, *controls])
    graph.set_attr(merge, "N", len(data))
    if len(data) == 1 and not controls:
        graph.replace_uses(gs.Port(merge.name), data[0])
        wait_for(graph, merge.name, data[0].node)


def fold_switch(graph: gs.Graph, name: str, port: int) -> None:
    """Lets the readers of a Switch read its data."""
    data = graph.data_inputs(name)[0]
    graph.replace_uses(gs.Port(name, port), data)
    wait_for(graph, name, data.node)


def wait_for(graph: gs.Graph, old: str, new: str) -> None:
    """Lets what waits for one node wait for another."""
    graph.replace_uses(gs.Port(old, gs.CONTROL), gs.Port(new, gs.CONTROL))


def remove_unread(graph: gs.Graph, stay: Set[str]) -> None:
    """Removes what nobody reads, but for inputs, outputs and some others."""
    signature = {*graph.inputs, *[port.node for port in graph.outputs]}
    for node in reversed(graph.order()):
        if not graph.uses_of(node) and node.name not in signature | stay:
            graph.remove(node)
