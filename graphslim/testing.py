"""Helpers for the tests of passes: graphs as text, one-pass checks, and the three oracles."""

from __future__ import annotations

import difflib
import inspect
import re
import textwrap
from typing import Dict, List, Mapping, Optional, Type, Union

import numpy as np

from graphslim.channels.groups import analyse
from graphslim.channels.reasons import UnknownOp
from graphslim.errors import PlanError
from graphslim.graphdef import parse, serialize, signature
from graphslim.ir import Graph
from graphslim.ir.text import from_text, to_text
from graphslim.ir.verify import check
from graphslim.measure.agreement import Agreement
from graphslim.measure.verify import verify
from graphslim.pipeline import CheckInvariants, Outcome, Pass, Pipeline
from graphslim.plans import Plan, plan_given
from graphslim.rewrite import apply

__all__ = [
    "assert_equivalent",
    "assert_identical",
    "assert_mask_equivalent",
    "assert_text",
    "check_drawing",
    "check_pass",
    "from_text",
    "random_plan",
    "round_trip",
    "to_text",
]


def assert_text(graph: Graph, expected: str) -> None:
    """Asserts that a graph prints as expected, or shows a diff; indentation is ignored."""
    actual = to_text(graph).splitlines()
    wanted = [line for line in textwrap.dedent(expected).strip().splitlines() if line.strip()]
    if not any(line.startswith("output ") for line in wanted):
        actual = [line for line in actual if not line.startswith("output ")]
    if actual != wanted:
        raise AssertionError(
            "\n".join(difflib.unified_diff(wanted, actual, "expected", "got", lineterm=""))
        )


def check_pass(
    graph: Union[Graph, str], rewrite: Union[Pass, str], expected: Optional[str] = None
) -> Outcome:
    """Runs a pass twice, checks what holds for every pass, and returns the first outcome.

    Asserts that the invariants of the graph hold, that inputs and outputs stay, that the outcome
    is true, and that a second run changes nothing.

    Args:
        graph: a graph, or its text; changed in place.
        rewrite: the pass, or its name.
        expected: if given, the text that the graph has to have afterwards.
    """
    subject = from_text(graph) if isinstance(graph, str) else graph
    check(subject)
    before = (list(subject.inputs), list(subject.outputs))
    outcome = Pipeline([rewrite]).run(subject, [CheckInvariants()])[0][1]
    after = (list(subject.inputs), list(subject.outputs))
    assert before == after, f"the signature changed: {before} -> {after}"
    if expected is not None:
        assert_text(subject, expected)
    again = Pipeline([rewrite]).run(subject, [CheckInvariants()])[0][1]
    assert not again.changed, f"a second run changed the graph again: {again.notes}"
    return outcome


def check_drawing(cls: Type[Pass]) -> None:
    """Runs a pass on the graph that its docstring draws: `Before` has to become `After`."""
    text = inspect.getdoc(cls) or ""
    match = re.search(
        r"^Before[^\n]*:\n(.*?)^After[^\n]*:\n(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert match, f"{cls.__name__} draws no Before and After"
    check_pass(textwrap.dedent(match[1]), cls(), match[2])


def round_trip(graph: Graph) -> Graph:
    """The graph written to bytes and read again."""
    twin = parse(serialize(graph), graph.name)
    signature.settle(twin, graph.inputs, [str(port) for port in graph.outputs], graph.input_shapes)
    return twin


def assert_identical(
    first: Graph, second: Graph, feeds: Optional[Mapping[str, np.ndarray]] = None
) -> None:
    """Oracle 1: asserts that two graphs compute bit-identical outputs."""
    _assert(verify(first, second, feeds=feeds, tolerance=0.0))


def assert_equivalent(
    first: Graph,
    second: Graph,
    feeds: Optional[Mapping[str, np.ndarray]] = None,
    tolerance: float = 1e-5,
) -> Agreement:
    """Oracle 2: asserts that two graphs compute the same but for float32 noise.

    Args:
        first, second: the graphs.
        feeds: inputs by name; by default seeded random data.
        tolerance: largest difference allowed, as a share of each output's range.
    """
    return _assert(verify(first, second, feeds=feeds, tolerance=tolerance))


def assert_mask_equivalent(
    graph: Graph,
    plan: Plan,
    feeds: Optional[Mapping[str, np.ndarray]] = None,
    tolerance: float = 1e-4,
    allow_empty: bool = False,
) -> Graph:
    """Oracle 3: asserts that a graph pruned by any plan computes what the original, masked, does.

    The reference is the original graph with the weights that read the plan's channels set to zero.

    Returns:
        the pruned graph, after a round trip through its bytes.

    Raises:
        PlanError: the plan removes nothing, so that this would prove nothing, and `allow_empty` is
            not set.
    """
    _refuse_empty(graph, plan, allow_empty)
    slim = round_trip(apply(graph, plan))
    _assert(verify(graph, slim, plan=plan, feeds=feeds, tolerance=tolerance))
    return slim


def _assert(agreement: Agreement) -> Agreement:
    worst = agreement.worst
    assert agreement.ok, (
        f"output {worst.name} differs by {worst.absolute:.3g}, {worst.relative:.3g} of its range; "
        f"{agreement.tolerance:g} is allowed"
    )
    return agreement


def random_plan(graph: Graph, seed: int = 0, ratio: float = 0.5, allow_empty: bool = False) -> Plan:
    """A plan that removes a random share of the channels of every prunable group.

    Args:
        graph: the graph.
        seed: of the choice.
        ratio: the share, from 0 to 1, of each group; one channel of it stays.
        allow_empty: whether the plan may remove nothing.

    Raises:
        PlanError: the plan removes nothing, and `allow_empty` is not set.
    """
    rng = np.random.RandomState(seed)
    removed: Dict[str, List[int]] = {}
    for group in analyse(graph).groups:
        count = min(int(len(group) * ratio), len(group) - 1)
        if group.prunable and count > 0:
            removed[group.id] = sorted(rng.choice(len(group), count, replace=False).tolist())
    plan = plan_given(graph, removed)
    _refuse_empty(graph, plan, allow_empty)
    return plan


def _refuse_empty(graph: Graph, plan: Plan, allow_empty: bool) -> None:
    if plan.removed or allow_empty:
        return
    pinned = [group for group in analyse(graph).groups if not group.prunable]
    pinned.sort(key=lambda group: not isinstance(group.pinned_by, UnknownOp))
    why = [f": {group.id} is pinned at {group.pinned_at}, {group.pinned_by}" for group in pinned]
    raise PlanError(
        f"the plan removes no channel, and so tests nothing{''.join(why[:1])}",
        graph.name,
        "give a graph with channels that may go, or a larger ratio; an op that pins them needs a "
        "channel rule; allow_empty=True if nothing is to go",
    )
