"""The three oracles for networks that are costly to run: each graph runs once, as it stands.

TensorFlow's own rewriting of a graph takes several times as long as one image does.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np

import graphslim as gs
from graphslim.measure.feeds import random_feeds
from graphslim.measure.fidelity import OutputDifference, difference
from graphslim.runtime import Session
from graphslim.testing import round_trip

TOLERANCE = 1e-4
"""What outputs may differ by, as a share of their range.

Fewer channels are summed up in another order, in each of a hundred layers, and a softmax may
magnify what comes of it.
"""

Outputs = List[np.ndarray]


def kinds(graph: gs.Graph) -> Dict[str, int]:
    """The blocks found, by kind."""
    return dict(Counter(block.kind for block in gs.find_blocks(graph).blocks))


def structure(graph: gs.Graph) -> Dict[str, Any]:
    """By node its op, what it reads, and the shape of its constant: all but the numbers."""
    return {
        node.name: (node.op, graph.inputs_of(node), getattr(node.attrs.get("value"), "shape", None))
        for node in graph
    }


def run(graph: gs.Graph, feeds: Mapping[str, np.ndarray]) -> Outputs:
    """The outputs; those of its NHWC twin where TensorFlow's CPU kernels lack the layout."""
    if any(node.text("data_format", "").startswith("NC") for node in graph):
        graph = graph.copy()
        gs.Pipeline(["to-nhwc"]).run(graph)
    with Session(graph, optimize=False) as session:
        return session.run(feeds)


def differences(graph: gs.Graph, one: Outputs, other: Outputs) -> List[OutputDifference]:
    """How far the outputs of two runs are apart."""
    names = [str(port) for port in graph.outputs]
    return [difference(*each) for each in zip(names, one, other)]


def assert_close(graph: gs.Graph, one: Outputs, other: Outputs) -> None:
    """Asserts that two runs give the same, within a share of each output's range."""
    for found in differences(graph, one, other):
        assert found.relative <= TOLERANCE, found


def check_identity(graph: gs.Graph) -> None:
    """Oracle 1: an empty plan changes no byte, which is more than no bit of any output."""
    assert gs.serialize(gs.apply(graph, gs.plan(graph, removed={}))) == gs.serialize(graph)


def check_dead(graph: gs.Graph) -> None:
    """Oracle 2: what makes the last eighth of each group is set to zero: they go, no others."""
    subject = graph.copy()
    killed = {
        group.id: list(range(len(group) - len(group) // 8, len(group)))
        for group in gs.analyse(graph).groups
        if group.prunable and len(group) >= 8
    }
    complete = kill(subject, killed)
    plan = gs.plan(subject)
    found = {group.id: list(group.removed) for group in plan.groups}
    assert found
    for name, removed in killed.items() if complete else ():
        assert found.get(name) == removed, name
    for name, removed in found.items():
        assert set(removed) <= set(killed[name]), name
    slim = round_trip(gs.apply(subject, plan))
    feeds = random_feeds(subject)
    assert_close(subject, run(subject, feeds), run(slim, feeds))
    assert gs.plan(slim).removed == 0


def kill(graph: gs.Graph, wanted: Dict[str, Sequence[int]]) -> bool:
    """Zeroes what produces channels and what follows them, in place; but nothing that is no float.

    Returns:
        whether that was all of it.
    """
    channels, complete = gs.analyse(graph), True
    values: Dict[str, np.ndarray] = {}
    for group in channels.groups:
        for binding in channels.bindings(group) if group.id in wanted else ():
            tensor = graph[binding.param].attrs["value"]
            if binding.role not in ("producer", "follower"):
                continue
            if not tensor.dtype.is_floating:
                complete = False
                continue
            numbers = values.setdefault(binding.param, np.array(tensor.numbers()))
            dead = binding.positions[np.isin(binding.channels, wanted[group.id])]
            numbers[(slice(None),) * binding.axis + (dead,)] = 0
    for param, numbers in values.items():
        graph.set_attr(param, "value", graph[param].attrs["value"].with_numbers(numbers))
    return complete


def check_masked(graph: gs.Graph, plan: gs.Plan) -> gs.Graph:
    """Oracle 3: the pruned graph computes what the masked one does, and not what the original does.

    Returns:
        the pruned graph, after a round trip through its bytes.
    """
    slim = round_trip(gs.apply(graph, plan))
    feeds = random_feeds(graph)
    before, after = run(graph, feeds), run(slim, feeds)
    assert_close(graph, run(gs.zero_consumers(graph, plan), feeds), after)
    # The first output varies, and the removal changes it: the check is not vacuous.
    changed = differences(graph, before, after)[0]
    assert changed.span > 1e-3 and changed.relative > 0.01, changed
    return slim
