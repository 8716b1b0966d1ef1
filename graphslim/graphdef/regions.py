"""Which nodes stand inside a loop of TensorFlow 1, or behind a choice that may leave them out."""

from __future__ import annotations

from typing import Dict, Iterable, List, Sequence, Set, Tuple

from graphslim.ir import Node, Port

SWITCHES = frozenset(("Switch", "RefSwitch"))
_ENTER = frozenset(("Enter", "RefEnter"))
_EXIT = frozenset(("Exit", "RefExit"))


class Regions:
    """The nodes of a graph that run otherwise than once.

    Args:
        nodes: the graph's nodes with their inputs.

    Attributes:
        looped: nodes in a loop; where loops are nested, all that follows one counts.
        chosen: nodes that depend on a Switch, which may keep them from running.
    """

    def __init__(self, nodes: Sequence[Tuple[Node, Sequence[Port]]]) -> None:
        enters = [node.name for node, _ in nodes if node.op in _ENTER]
        switches = [node.name for node, _ in nodes if node.op in SWITCHES]
        self.looped: Set[str] = set()
        self.chosen: Set[str] = set()
        if not enters and not switches:
            return
        readers: Dict[str, List[str]] = {}
        for node, inputs in nodes:
            for port in inputs:
                readers.setdefault(port.node, []).append(node.name)
        self.chosen = _behind(switches, readers, set())
        exits = {node.name for node, _ in nodes if node.op in _EXIT}
        self.looped = _behind(enters, readers, exits)
        if any(name in self.looped for name in enters):
            self.looped = _behind(enters, readers, set())


def _behind(names: Iterable[str], readers: Dict[str, List[str]], stops: Set[str]) -> Set[str]:
    """What depends on nodes, no further than `stops`."""
    found: Set[str] = set()
    waiting = list(names)
    while waiting:
        for name in readers.get(waiting.pop(), ()):
            if name not in found and name not in stops:
                found.add(name)
                waiting.append(name)
    return found
