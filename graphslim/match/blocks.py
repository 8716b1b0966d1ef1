"""From matches to blocks: their names, their nodes, and which are kept."""

from __future__ import annotations

import os.path
import re
from collections import Counter
from typing import Dict, List, Sequence, Set

from graphslim.ir import Block, Graph, Port
from graphslim.match.matcher import Match, Matcher
from graphslim.match.pattern import BlockPattern


def find_blocks(graph: Graph, pattern: BlockPattern) -> List[Block]:
    """All blocks of one kind; a scoring layer belongs to one block only, the first."""
    matcher = Matcher(graph)
    matches: Dict[str, Match] = {}
    for match in matcher.find(pattern):
        matches.setdefault(match.names[pattern.channels_of], match)
    names = _unique([_scope(match) for match in matches.values()], list(matches))
    place = {node.name: index for index, node in enumerate(graph.order())}
    return [
        Block(
            pattern.kind,
            name,
            tuple(sorted(_with_constants(matcher, match), key=place.__getitem__)),
            Port(scorer),
            tuple(match.names.items()),
        )
        for name, (scorer, match) in zip(names, matches.items())
    ]


def _scope(match: Match) -> str:
    """The name scope that a match's named nodes share, cut where a word ends."""
    names = sorted(set(match.names.values()))
    prefix = os.path.commonprefix(names)
    return re.sub(r"[^/_.]*$", "", prefix).rstrip("/_.")


def _unique(scopes: Sequence[str], scorers: Sequence[str]) -> List[str]:
    """Scopes, with the scoring layer's name where a scope is empty or not unique."""
    count = Counter(scopes)
    return [
        scope if scope and count[scope] == 1 else scorer for scope, scorer in zip(scopes, scorers)
    ]


def _with_constants(matcher: Matcher, match: Match) -> Set[str]:
    """The nodes of a match with the constants that they read."""
    names: Set[str] = set(match.inside)
    waiting = [port for name in match.inside for port in matcher.graph.inputs_of(name)]
    while waiting:
        port = waiting.pop()
        if port.node not in names and matcher.is_constant(port):
            names.add(port.node)
            waiting.extend(matcher.graph.inputs_of(port.node))
    return names
