"""What a user should know of a graph before trusting a result: training left in it, and such."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Set

from graphslim.analysis.switches import silent_noise
from graphslim.ir import Graph, Node
from graphslim.ir.families import STATEFUL_DRAWS, SWITCHES
from graphslim.ir.query import needed
from graphslim.support.text import plural

_OPAQUE = frozenset(("TRTEngineOp", "PyFunc", "EagerPyFunc", "PyFuncStateless"))


class Caution(NamedTuple):
    """Something about a graph that is not wrong, and not what one expects either.

    Attributes:
        what: the fact, in one clause that names the first node.
        hint: what the reader can do about it.
        node: that first node.
    """

    what: str
    hint: str
    node: str

    def __str__(self) -> str:
        return f"{self.what} ({self.hint})"


def cautions(graph: Graph) -> List[Caution]:
    """What is to be said of a graph, as far as its outputs depend on it."""
    training, used = training_norms(graph), needed(graph)
    opaque = [node for node in graph if node.op in _OPAQUE and node.name in used]
    found = []
    if training:
        found.append(
            Caution(
                f"{plural(len(training), 'batch norm')} frozen in the training phase, such as "
                f"{training[0].name}: the outputs depend on what else is in the batch",
                "freeze the graph for inference, is_training=False, if it is to be deployed",
                training[0].name,
            )
        )
    random = random_node(graph)
    if random is not None:
        found.append(
            Caution(
                f"dropout or noise left on at {random}: the outputs differ from run to run",
                "freeze the graph for inference; until then its outputs cannot be compared",
                random,
            )
        )
    if opaque:
        found.append(
            Caution(
                f"{plural(len(opaque), 'opaque op')}, such as {opaque[0].name} "
                f"({opaque[0].op}): what is inside cannot be seen or pruned",
                "start from the graph before it was converted",
                opaque[0].name,
            )
        )
    return found


def training_norms(graph: Graph) -> List[Node]:
    """The batch norms that the outputs depend on and that go by the batch's own statistics."""
    used, optional = needed(graph), conditional(graph)
    return [
        node
        for node in graph
        if node.attrs.get("is_training") is True and node.name in used and node.name not in optional
    ]


def random_node(graph: Graph) -> Optional[str]:
    """The first node, if any, that makes the outputs differ from run to run."""
    used, optional = needed(graph), conditional(graph)
    for node in graph:
        if node.op not in STATEFUL_DRAWS or node.name not in used or node.name in optional:
            continue
        if node.name not in silent_noise(graph):
            return node.name
    return None


def conditional(graph: Graph) -> Set[str]:
    """The nodes that run in one branch of a condition alone, as for a learning phase."""
    return graph.memo("conditional nodes", _inside_branches)


def _inside_branches(graph: Graph) -> Set[str]:
    inside: Dict[str, bool] = {}
    for node in graph.order():
        inside[node.name] = _chooses(graph, node) or (
            node.op not in ("Merge", "RefMerge")
            and any(inside.get(port.node, False) for port in graph.inputs_of(node))
        )
    return {name for name, within in inside.items() if within}


def _chooses(graph: Graph, node: Node) -> bool:
    """Whether a node leads into a branch; the Switch of a loop leads into its body or out of it."""
    if node.op not in SWITCHES:
        return False
    conditions = [graph[port.node].op for port in graph.data_inputs(node)[1:]]
    return "LoopCond" not in conditions
