"""Rules for ops of one's own: when they are known, and what is said of mistakes in them."""

from __future__ import annotations

from typing import Any, Iterator, NamedTuple

import numpy as np
import pytest
from tiny import groups, tiny, value, zero_filters

import graphslim as gs
from graphslim.channels import rules
from graphslim.errors import AnalysisError, PlanError, VerifyError
from graphslim.measure.agreement import verdict
from graphslim.measure.verify import check
from graphslim.support import importing as plugins
from graphslim.testing import assert_mask_equivalent, random_plan

NETWORK = """
x = input 1,8,8,4
w = f32[3,3,4,16]{random 1}
c = Conv2D(x, w)
o = OnlyMine(c)
u = f32[1,1,16,3]{random 2}
y = Conv2D(o, u)
"""


class Point(NamedTuple):
    """An entry point of an installed package."""

    name: str
    load: Any


@pytest.fixture(autouse=True)
def tables() -> Iterator[None]:
    """Rules that a test registers are forgotten after it."""
    plugins.load_plugins()
    known = (rules.CHANNEL_RULES, rules.VALUE_RULES, rules.COST_RULES)
    before, structural = [dict(table) for table in known], set(rules.STRUCTURAL)
    yield
    for table, kept in zip(known, before):
        table.clear()
        table.update(kept)
    rules.STRUCTURAL.clear()
    rules.STRUCTURAL.update(structural)


def same(op: Any) -> Any:
    """The rule of an op that works position by position."""
    return op[0]


def plug() -> None:
    """What a package's module does when it is imported."""
    gs.channel_rule("OnlyMine")(same)


def test_an_analysis_knows_the_rules_of_plug_ins(monkeypatch: Any) -> None:
    monkeypatch.setattr(plugins, "_loaded", False)
    monkeypatch.setattr(plugins, "_entry_points", lambda: [Point("theirs", plug)])
    assert random_plan(tiny(NETWORK)).removed == 8


def test_a_rule_that_comes_late_is_heeded() -> None:
    graph = tiny(NETWORK)
    assert not groups(graph)["c"].prunable
    plug()
    assert groups(graph)["c"].prunable
    before = gs.cost(graph).macs
    gs.cost_rule("OnlyMine")(lambda node, inputs, outs: 1000)
    assert before is not None and gs.cost(graph).macs == before + 1000


def test_a_plan_that_proves_nothing_is_refused() -> None:
    graph = tiny(NETWORK)
    with pytest.raises(PlanError, match="removes no channel.*c is pinned at o, .* op OnlyMine"):
        random_plan(graph)
    empty = random_plan(graph, allow_empty=True)
    assert not empty.removed
    with pytest.raises(PlanError, match="removes no channel"):
        assert_mask_equivalent(graph, empty)


@pytest.mark.tf
def test_what_enters_an_op_of_ones_own_is_compared_in_the_channels_that_stay() -> None:
    plug()
    graph = tiny(NETWORK)
    plan = random_plan(graph)
    slim = assert_mask_equivalent(graph, plan, tolerance=1e-5)
    (output,) = gs.verify(graph, slim, plan=plan).outputs
    assert output.name == "c" and output.shape == (1, 8, 8, 8)
    surgery, change = check(graph, slim, plan)
    assert surgery.ok and change.ok, "all channels that stay are as they were"
    assert verdict(change)[0] == "What became of the outputs is not known"
    damaged = zero_filters(slim, "w", 3, [5])
    assert not gs.verify(graph, damaged, plan=plan).ok


@pytest.mark.tf
def test_what_enters_an_op_of_ones_own_is_too_narrow_without_the_plan() -> None:
    plug()
    graph = tiny(NETWORK)
    slim = gs.apply(graph, random_plan(graph))
    with pytest.raises(VerifyError, match="op OnlyMine of o, .*8, 8, 8. instead of .*16.*the plan"):
        gs.verify(graph, slim)


@pytest.mark.parametrize(
    "kind, register",
    [("channel", gs.channel_rule), ("value", gs.value_rule), ("cost", gs.cost_rule)],
)
def test_a_second_rule_of_an_op_is_refused(kind: str, register: Any) -> None:
    def rule(*given: Any) -> None:
        """Takes the place of a rule that is there."""

    table = getattr(rules, f"{kind.upper()}_RULES")
    first = table["MatMul"]
    with pytest.raises(AnalysisError, match=f"has a {kind} rule already, of graphslim.ops.*True"):
        register("OnlyMine", "MatMul")(rule)
    assert table["MatMul"] is first and "OnlyMine" not in table
    register("MatMul", replace=True)(rule)
    assert table["MatMul"] is rule


def test_a_value_rule_that_takes_the_place_of_one_says_itself_whether_it_moves() -> None:
    assert "Transpose" in rules.STRUCTURAL
    gs.value_rule("Transpose", replace=True)(same)
    assert "Transpose" not in rules.STRUCTURAL
    gs.value_rule("Transpose", replace=True, structural=True)(same)
    assert "Transpose" in rules.STRUCTURAL


SCALED = """
x = input 1,8,8,4
w = f32[1,1,4,3]{random 1}
c = Conv2D(x, w)
s = f32[3]{0 1 2}
o = OnlyMine(c, s)
u = f32[1,1,3,2]{random 2}
y = Conv2D(o, u)
"""


@pytest.mark.parametrize(
    "given, known",
    [
        (lambda op: np.where(op[1] == 0, 0.0, np.nan), [0, np.nan, np.nan]),
        (lambda op: (op[1] + 1,), [1, 2, 3]),
        (lambda op: [3.0, np.nan, 3.0], [3, np.nan, 3]),
        (lambda op: 3.0, 3),
        (lambda op: op[0], None),
        (lambda op: (None,), None),
        (lambda op: np.nan, None),
    ],
)
def test_what_a_value_rule_gives_is_known(given: Any, known: Any) -> None:
    gs.channel_rule("OnlyMine")(lambda op: op.tie(op[0].channels(-1), op[1].channels(0)) or op[0])
    gs.value_rule("OnlyMine")(given)
    found = value(tiny(SCALED), "o")
    assert found is None if known is None else np.testing.assert_equal(found, known) is None


def broken(*given: Any) -> Any:
    raise KeyError("axis")


@pytest.mark.parametrize(
    "rule, what",
    [(broken, "broken .*KeyError: 'axis'"), (lambda op: None, "<lambda> .*TypeError: .* a Fact")],
)
def test_a_mistake_in_a_channel_rule_is_told_as_one(rule: Any, what: str) -> None:
    gs.channel_rule("OnlyMine")(rule)
    with pytest.raises(AnalysisError, match=f"node o: the rule {what}.*mend the rule") as told:
        gs.analyse(tiny(NETWORK))
    assert f"for OnlyMine, of {__name__}:" in str(told.value)


def test_a_mistake_in_a_value_or_cost_rule_is_told_as_one() -> None:
    plug()
    gs.cost_rule("OnlyMine")(broken)
    with pytest.raises(AnalysisError, match="the rule broken for OnlyMine, .*KeyError"):
        gs.cost(tiny(NETWORK))
    gs.value_rule("OnlyMine")(broken)
    with pytest.raises(AnalysisError, match="the rule broken for OnlyMine, .*KeyError"):
        gs.Values(tiny(NETWORK))


def test_a_misspelt_role_of_a_mark_is_told() -> None:
    gs.channel_rule("OnlyMine")(lambda op: op.mark(op[0].channels(-1), "prodcuer") or op[0])
    with pytest.raises(AnalysisError, match="node o: no role 'prodcuer' .did you mean producer"):
        gs.analyse(tiny(NETWORK))
