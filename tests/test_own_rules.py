"""Rules for ops of one's own: when they are known, and what is said of mistakes in them."""

from __future__ import annotations

import re
from typing import Any, Iterator, NamedTuple

import numpy as np
import pytest
from tiny import groups, tiny, value, zero_filters

import graphslim as gs
from graphslim.channels import rules
from graphslim.errors import AnalysisError, PatternError, PlanError, VerifyError
from graphslim.layout import walk
from graphslim.match.pattern import told as condition_told
from graphslim.measure.agreement import verdict
from graphslim.measure.verify import check
from graphslim.scoring.registry import Criterion
from graphslim.scoring.scores import score
from graphslim.support import importing as plugins
from graphslim.support.importing import collecting
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
    if known is None:
        assert found is None
    else:
        assert found.ndim == 4, "as many axes as the output has"
        np.testing.assert_equal(found.ravel(), known)


MOVES = {
    "ConcatV2": "a = i32[]{3}\nz = ConcatV2(o, o, a)",
    "ExpandDims": "a = i32[]{1}\nz = ExpandDims(o, a)",
    "Tile": "a = i32[4]{1 1 1 2}\nz = Tile(o, a)",
    "Transpose": "a = i32[4]{0 3 1 2}\nz = Transpose(o, a)",
    "Split": "a = i32[]{3}\nz = Split(a, o) num_split=3",
    "Pad": "a = i32[4,2]{0 0 0 0 0 0 0 2}\nz = Pad(o, a)",
    "Squeeze": "z = Squeeze(o) squeeze_dims=[0]",
    "Unpack": "z = Unpack(o) num=3 axis=3",
}


@pytest.mark.parametrize("op", MOVES)
@pytest.mark.parametrize("numbers", [[0.0, np.nan, 5.0], 0.0])
def test_a_value_of_fewer_axes_is_as_good_as_one_of_all(op: str, numbers: Any) -> None:
    gs.channel_rule("OnlyMine")(same)
    graph = tiny(NETWORK.replace("16", "3").partition("u =")[0] + MOVES[op])
    found = []
    for shape in (np.shape(numbers), (1, 1, 1, np.size(numbers))):
        gs.value_rule("OnlyMine", replace=True)(lambda op, s=shape: np.reshape(numbers, s))
        found.append(value(graph, "z"))
    np.testing.assert_equal(*found)
    assert found[0] is not None


@pytest.mark.parametrize(
    "given, told",
    [
        (lambda op: np.zeros(7), r"a value of shape \(7,\) for an output of shape \(1, 8, 8, 16\)"),
        (lambda op: np.zeros((1, 1, 1, 1, 16)), "a value of shape"),
        (lambda op: "none", "gives an array of numbers, None, or a tuple"),
        (lambda op: (None, None), "a tuple of 2 for 1 outputs"),
    ],
)
def test_what_is_no_value_of_the_output_is_refused(given: Any, told: str) -> None:
    plug()
    gs.value_rule("OnlyMine")(given)
    with pytest.raises(AnalysisError, match=f"node o: the rule <lambda> for OnlyMine, .*{told}"):
        gs.plan(tiny(NETWORK))


def test_a_value_of_an_output_of_open_rank_is_not_taken() -> None:
    gs.channel_rule("OnlyMine")(lambda op: op.pin_all("it is mine") or gs.Fact())
    gs.value_rule("OnlyMine")(lambda op: np.zeros(16))
    assert value(tiny(NETWORK.partition("u =")[0]), "o") is None


@pytest.mark.parametrize("count", ["many", -1.5e9, np.nan, 2.5, np.inf])
def test_what_is_no_count_is_refused(count: Any) -> None:
    plug()
    gs.cost_rule("OnlyMine")(lambda node, inputs, outs: count)
    with pytest.raises(AnalysisError, match="the rule <lambda> .*a whole number of 0 or more"):
        gs.cost(tiny(NETWORK))


@pytest.mark.parametrize(
    "given, told",
    [
        (lambda op: gs.Fact((1, 8, 8, 16), (op[0].channels(3),)), "4 axes has ids for 1"),
        (
            lambda op: gs.Fact((1, 8, 8, 16), (None, None, None, op[0].channels(3)[:8])),
            "axis 3 of a Fact has the size 16 and 8 ids",
        ),
        (lambda op: gs.Fact((1, 8, 8, -1), (None,) * 4), "axis 3 of a Fact has the size -1"),
        (lambda op: gs.Fact((1, 2), (None, [0, 1])), "ids of axis 1 of a Fact are no vector"),
        (lambda op: gs.Fact(None, op[0].ids), "a Fact of open rank has no ids"),
    ],
)
def test_a_fact_that_contradicts_itself_is_refused(given: Any, told: str) -> None:
    gs.channel_rule("OnlyMine")(given)
    with pytest.raises(AnalysisError, match=f"node o: the rule <lambda> for OnlyMine, .*{told}"):
        gs.analyse(tiny(NETWORK))


def test_a_fact_may_leave_out_that_no_axis_is_followed() -> None:
    gs.channel_rule("OnlyMine")(lambda op: op.pin_all("it is mine") or gs.Fact((1, 8, 8, 16)))
    assert groups(tiny(NETWORK))["c"].pinned_by == "it is mine"


@pytest.mark.parametrize(
    "given, told",
    [
        (lambda op: op[3], "a OnlyMine with 1 inputs, needs more"),
        (lambda op: op.tie(op[0].channels(3), op[0].channels(3)[:8]), "16 channels meet 8"),
    ],
)
def test_what_a_visit_refuses_names_the_rule(given: Any, told: str) -> None:
    gs.channel_rule("OnlyMine")(given)
    see = f"see the rule <lambda> for OnlyMine, of {__name__}:"
    with pytest.raises(AnalysisError, match=f"node o: {told}.*{see}"):
        gs.analyse(tiny(NETWORK))


def test_an_axis_that_a_rule_forgets_is_named_with_the_rule() -> None:
    gs.channel_rule("OnlyMine")(lambda op: gs.Fact((1, 8, 8, 16)))
    group = groups(tiny(NETWORK))["c"]
    told = rf"the rule <lambda> for OnlyMine, of {__name__}:\d+, says nothing of axis 3 of input 0"
    assert re.match(told, group.pinned_by)
    assert "contract" in group.pinned_by.advice


@pytest.mark.parametrize(
    "matrix, told",
    [
        (lambda weights: weights[0, 0].T, r"an array of shape \(16, 4\), not of \(taps, "),
        (lambda weights: weights[9], "IndexError"),
    ],
)
def test_a_wrong_matrix_names_itself(matrix: Any, told: str) -> None:
    def rule(op: Any) -> Any:
        x, w = op[0], op[1]
        op.tie(x.channels(3), w.channels(2))
        into, out = x.channels(3), w.channels(3)
        op.contract(data=0, weights=1, axis=3, into=into, out=out, matrix=matrix)
        return x.with_size(3, None)._replace(shape=(1, 8, 8, 16), ids=(*x.ids[:3], out))

    gs.channel_rule("OnlyMine")(rule)
    graph = tiny(NETWORK.replace("c = Conv2D", "o = OnlyMine").replace("o = OnlyMine(c)", ""))
    with pytest.raises(AnalysisError, match=f"the matrix <lambda> for OnlyMine, of .*{told}"):
        gs.plan(graph)


def test_a_word_that_contract_does_not_know_is_told() -> None:
    gs.channel_rule("OnlyMine")(lambda op: op.contract(data=0, weight=1) or op[0])
    with pytest.raises(AnalysisError, match="the rule <lambda> .* keyword argument 'weight'"):
        gs.analyse(tiny(NETWORK))


TURNED = """
x = input 1,3,8,8
w = f32[1,1,3,4]{random 1}
c = Conv2D(x, w) data_format="NCHW"
t = OnlyMine(c) T=float32
"""


@pytest.mark.parametrize("given, told", [("raise", "KeyError"), (None, "gives True or False")])
def test_a_mistake_in_a_layout_rule_names_the_layout_rule(
    given: Any, told: str, monkeypatch: Any
) -> None:
    def turning(at: gs.LayoutVisit) -> Any:
        return given if given is None else at.node.attrs["missing"]

    monkeypatch.setattr(walk, "CARRIES", dict(walk.CARRIES))
    plug()
    gs.layout_rule("OnlyMine")(turning)
    with pytest.raises(AnalysisError, match=f"node t: the rule turning for OnlyMine, .*{told}"):
        gs.to_nhwc(tiny(TURNED))
    monkeypatch.setitem(walk.CARRIES, "Relu", turning)
    with pytest.raises(AnalysisError, match=f"node t: the rule turning for Relu, .*{told}"):
        gs.to_nhwc(tiny(TURNED.replace("OnlyMine", "Relu")))


@pytest.mark.parametrize(
    "decorator", [gs.channel_rule, gs.value_rule, gs.cost_rule, gs.layout_rule, gs.criterion]
)
def test_a_decorator_without_parentheses_is_refused(decorator: Any) -> None:
    with pytest.raises(gs.GraphslimError, match=f"{__name__}:.*write @{decorator.__name__}"):
        decorator(same)
    told = collecting(lambda: decorator(same))
    assert [defined for defined, _ in told] == [same], "the rest of its file is imported"


def test_a_decorator_without_an_op_is_refused() -> None:
    with pytest.raises(AnalysisError, match="the decorator names no op .write @channel_rule"):
        gs.channel_rule()(same)


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


def test_a_criterion_that_fails_is_named_with_the_layer() -> None:
    def unfit(weights: Any, more: Any) -> Any:
        """Takes one argument too many."""

    plug()
    graph = tiny(NETWORK)
    channels = gs.analyse(graph)
    rule = Criterion("unfit", unfit)
    told = f"w: the criterion unfit, of {__name__}:.*TypeError"
    with pytest.raises(PlanError, match=told):
        score(graph, channels, channels.groups, rule)


@pytest.mark.parametrize("given", [True, 0.5])
def test_a_condition_gives_none_or_a_text(given: Any) -> None:
    told = f"c: the condition <lambda>, of {__name__}:.*it gives {given}, not None or a text"
    with pytest.raises(PatternError, match=told):
        condition_told(lambda matcher, node: given, "c", None, None)
    assert condition_told(lambda: "too wide", "c") == "too wide"
