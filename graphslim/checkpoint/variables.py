"""Which variable a tensor is the value of, and what changes variables."""

from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Optional, Tuple

from graphslim.ir import IDENTITIES, Graph, Port, Shape
from graphslim.ir.families import VARIABLES

SWITCHES = frozenset(("Switch", "RefSwitch"))
_WITHIN = SWITCHES | {"Enter", "RefEnter", "RefIdentity"}
"""Ops that carry a tensor into a branch or a loop unchanged."""
_READS = _WITHIN | IDENTITIES | {"ReadVariableOp"}
KINDS: Dict[str, str] = {
    f"Assign{what}{flavour}": sign
    for what, sign in (("", "="), ("Add", "+"), ("Sub", "-"))
    for flavour in ("", "VariableOp")
}
"""Ops that change a whole variable: whether they set it, add to it or subtract from it."""


APPLY = re.compile(r"(Resource)?(Sparse)?Apply[A-Z]")
"""Ops of optimizers that are one op: the first input is the variable, others may be its slots."""


class Update(NamedTuple):
    """A change of a variable.

    Attributes:
        node: the op that makes it.
        variable: the node of the variable.
        kind: `=`, `+` or `-`, what is done with the value.
        value: the value, behind identities.
    """

    node: str
    variable: str
    kind: str
    value: Port


def behind(graph: Graph, port: Port) -> Port:
    """The tensor that a port carries unchanged, behind identities and ways into branches."""
    while graph[port.node].op in _WITHIN or graph[port.node].op in IDENTITIES:
        port = graph.data_inputs(port.node)[0]
    return port


def variable_at(graph: Graph, port: Port) -> Optional[str]:
    """The variable whose handle, reference or value a port carries, None if it carries none."""
    while True:
        node = graph[port.node]
        if node.op in VARIABLES:
            return node.name
        if node.op not in _READS and node.op not in KINDS:
            return None
        port = graph.data_inputs(node)[0]


def shape_of(graph: Graph, variable: str) -> Optional[Tuple[int, ...]]:
    """The shape that a variable states, if it is fully known."""
    stated = graph[variable].attrs.get("shape")
    if not isinstance(stated, Shape) or stated.dims is None or None in stated.dims:
        return None
    return tuple([size for size in stated.dims if size is not None])


def updates(graph: Graph) -> List[Update]:
    """All changes of whole variables by assignment, initialisers and restoring among them."""
    return graph.memo("updates of variables", _updates)


def _updates(graph: Graph) -> List[Update]:
    found = []
    for node in graph:
        if node.op in KINDS:
            target, value = graph.data_inputs(node)[:2]
            variable = variable_at(graph, target)
            if variable is not None:
                found.append(Update(node.name, variable, KINDS[node.op], behind(graph, value)))
    return found
