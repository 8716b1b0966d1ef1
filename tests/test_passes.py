"""The built-in passes, each on graphs as text."""

from __future__ import annotations

import textwrap
from typing import Any, List, Type

import pytest
from networks import Net

import graphslim as gs
from graphslim.errors import PlanError
from graphslim.pipeline import passes
from graphslim.testing import (
    assert_equivalent,
    assert_identical,
    check_drawing,
    check_pass,
    from_text,
    round_trip,
    to_text,
)

BUILT_IN = {
    name: cls for name, cls in passes().items() if cls.__module__.startswith("graphslim.passes")
}
CHANGING = {name: cls for name, cls in BUILT_IN.items() if not issubclass(cls, gs.FindBlocks)}


def assert_nodes(graph: gs.Graph, expected: str) -> None:
    """Compares the nodes alone, where the signature is not the one that would be inferred."""
    lines = to_text(graph).splitlines()
    nodes = [line for line in lines if " = " in line]
    assert nodes == textwrap.dedent(expected).strip().splitlines()


def test_the_built_in_passes() -> None:
    from graphslim.passes import FIND, PRUNE

    assert {"drop-unused", "fold-identity", *FIND, *PRUNE} <= set(BUILT_IN)
    assert all(name.startswith("find-") == (name not in CHANGING) for name in BUILT_IN)


@pytest.mark.parametrize("cls", list(CHANGING.values()), ids=list(CHANGING))
def test_a_pass_does_what_its_docstring_draws(cls: Type[gs.Pass]) -> None:
    check_drawing(cls)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_pass_leaves_an_odd_graph_whole(name: str) -> None:
    """An input in the middle, an output that is an input, ops that nobody knows, control edges."""
    text = """
        x = Placeholder() dtype=float32 shape=<1,4>
        before = Relu(x) T=float32
        middle = Identity(before) T=float32
        odd = NobodyKnowsThis(middle, ^x) T=float32
        alone = NoOp(^odd)
        unused = Neg(odd:1) T=float32
        input x
        input middle
        output odd
        output x
    """
    check_pass(text, name)


# ---------------------------------------------------------------------- fold-identity


def test_fold_identity_folds_chains() -> None:
    outcome = check_pass(
        """
        x = Placeholder() dtype=float32
        a = Identity(x) T=float32
        b = Identity(a) T=float32
        c = Identity(b) T=float32
        y = Add(a, c) T=float32
        """,
        "fold-identity",
        """
        x = Placeholder() dtype=float32
        y = Add(x, x) T=float32
        """,
    )
    assert outcome.notes == ("identities removed: 3",)


def test_fold_identity_keeps_inputs_and_outputs() -> None:
    nodes = """
        x = Placeholder() dtype=float32
        fed = Identity(x) T=float32
        y = Relu(fed) T=float32
        last = Identity(y) T=float32
    """
    graph = from_text(f"{nodes}\n input fed\n output last")
    assert not check_pass(graph, "fold-identity").changed
    assert_nodes(graph, nodes)


def test_fold_identity_keeps_control_edges() -> None:
    text = """
        x = Placeholder() dtype=float32
        a = Identity(x) T=float32
        b = Relu(x, ^a) T=float32
        c = Identity(b, ^x) T=float32
        y = Neg(c) T=float32
    """
    assert not check_pass(text, "fold-identity", text).changed


def test_fold_identity_keeps_the_port() -> None:
    check_pass(
        """
        x = Placeholder() dtype=float32
        s = Split(x, x) T=float32 num_split=2
        a = Identity(s:1) T=float32
        y = Relu(a, ^x) T=float32
        """,
        "fold-identity",
        """
        x = Placeholder() dtype=float32
        s = Split(x, x) T=float32 num_split=2
        y = Relu(s:1, ^x) T=float32
        """,
    )


# ---------------------------------------------------------------------- drop-unused


def test_drop_unused_keeps_inputs_and_what_they_read() -> None:
    graph = from_text(
        """
        x = Placeholder() dtype=float32
        spare = Placeholder() dtype=float32
        c = Const() dtype=float32 value=float32[]{1}
        fed = Neg(c) T=float32
        debris = Neg(fed) T=float32
        y = Relu(x) T=float32
        input x
        input spare
        input fed
        output y
        """
    )
    check_pass(graph, "drop-unused")
    assert_nodes(
        graph,
        """
        x = Placeholder() dtype=float32
        spare = Placeholder() dtype=float32
        c = Const() dtype=float32 value=float32[]{1}
        fed = Neg(c) T=float32
        y = Relu(x) T=float32
        """,
    )


def test_drop_unused_keeps_control_dependencies() -> None:
    check_pass(
        """
        x = Placeholder() dtype=float32
        a = Relu(x) T=float32
        group = NoOp(^a)
        y = Neg(x, ^group) T=float32
        late = NoOp(^y)
        output y
        """,
        "drop-unused",
        """
        x = Placeholder() dtype=float32
        a = Relu(x) T=float32
        group = NoOp(^a)
        y = Neg(x, ^group) T=float32
        """,
    )


def test_drop_unused_removes_whole_branches() -> None:
    outcome = check_pass(
        """
        x = Placeholder() dtype=float32
        c = Const() dtype=float32 value=float32[]{1}
        a = Mul(x, c) T=float32
        b = Mul(a, a) T=float32
        y = Relu(x) T=float32
        output y
        """,
        "drop-unused",
        """
        x = Placeholder() dtype=float32
        y = Relu(x) T=float32
        """,
    )
    assert outcome.notes == ("nodes removed: 3",)


# ---------------------------------------------------------------------- remove-dead-channels


def dying(blocks: int = 2, dead: int = 5) -> gs.Graph:
    """Inverted residual blocks between two convolutions, each with some channels never made."""
    net = Net(channels=3)
    y = net.f("Relu", net.conv(net.x, 8, 3, name="stem"))
    for index in range(blocks):
        net.scope = f"block_{index}/"
        y = net.inverted_residual(y, hidden=16, norm="nothing")
    net.scope = ""
    net.conv(y, 4, name="head")
    graph = net.graph()
    for name in ["stem", *[f"block_{index}/expand" for index in range(blocks)]]:
        kill(graph, name, dead)
    return graph


def kill(graph: gs.Graph, name: str, count: int) -> None:
    """Sets the last filters of a convolution to zero."""
    filters = graph[graph.data_inputs(name)[1].node]
    weights = filters.attrs["value"].array.copy()
    weights[..., weights.shape[-1] - count :] = 0
    graph.set_attr(filters, "value", gs.Tensor.of(weights))


def widths(graph: gs.Graph) -> List[int]:
    return [
        graph[graph.data_inputs(name)[1].node].attrs["value"].shape[-1]
        for name in ("stem", "block_0/expand", "block_1/expand")
    ]


def remove(graph: gs.Graph, **options: Any) -> gs.Outcome:
    """Runs the pass as `graphslim prune` does, behind those that find the blocks."""
    gs.find_blocks(graph)
    return check_pass(graph, passes()["remove-dead-channels"](gs.Selection(**options)))


@pytest.mark.parametrize(
    "options, expected",
    [
        # The stem's channels take part in the residual sums, where the blocks' outputs revive them.
        ({}, [8, 11, 11]),
        ({"scope": "blocks"}, [8, 12, 12]),
        ({"scope": "blocks", "multiple_of": 1}, [8, 11, 11]),
        ({"multiple_of": 8}, [8, 16, 16]),
        ({"min_channels": 14}, [8, 14, 14]),
        ({"only": ("block_1",)}, [8, 16, 11]),
        ({"only": ("block_*",), "exclude": ("block_1",)}, [8, 11, 16]),
        ({"exclude": ("*/expand",)}, [8, 16, 16]),
    ],
)
def test_remove_dead_channels_obeys_its_options(options: Any, expected: List[int]) -> None:
    graph = dying()
    outcome = remove(graph, **options)
    assert widths(graph) == expected
    assert outcome.changed == (expected != [8, 16, 16])
    assert outcome.plan is not None
    assert outcome.plan.removed == 40 - sum(expected)


def test_remove_dead_channels_keeps_one() -> None:
    graph = dying(dead=16)
    kill(graph, "stem", 0)
    remove(graph, exclude=("stem",))
    assert widths(graph)[1:] == [1, 1]


def test_remove_dead_channels_counts_small_weights_as_zero() -> None:
    text = """
        x = Placeholder() dtype=float32 shape=<1,2,2,1>
        a = Const() dtype=float32 value=float32[1,1,1,3]{2 1e-10 3}
        y = Conv2D(x, a) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
        b = Const() dtype=float32 value=float32[1,1,3,1]{4 5 6}
        z = Conv2D(y, b) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
    """
    assert remove(from_text(text)).changed
    assert not remove(from_text(text), dead_below=0.0).changed


def test_remove_dead_channels_refuses_a_glob_that_matches_nothing() -> None:
    with pytest.raises(PlanError, match="matches no group or block"):
        remove(dying(), only=("blok_1",))


@pytest.mark.tf
def test_remove_dead_channels_keeps_the_outputs() -> None:
    graph = dying()
    slim = graph.copy()
    assert remove(slim).changed
    assert_equivalent(graph, slim)


# ---------------------------------------------------------------------- find-...


def test_finders_fill_in_the_blocks_and_change_nothing() -> None:
    net = Net()
    net.scope = "one/"
    y = net.inverted_residual(net.x, se=net.squeeze_excite)
    net.scope = "two/"
    net.inverted_residual(y, out=16)
    graph = net.graph()
    before = gs.serialize(graph)
    for name, count in (("find-inverted-residual", 2), ("find-squeeze-excite", 1)):
        outcome = check_pass(graph, name)
        assert not outcome.changed
        assert outcome.notes[0].split()[0] == str(count)
    assert gs.serialize(graph) == before

    first, second, inner = graph.blocks
    assert [block.name for block in graph.blocks] == ["one", "two", "one"]
    assert [block.kind for block in graph.blocks] == [
        "inverted_residual",
        "inverted_residual",
        "squeeze_excite",
    ]
    assert dict(second.roles) == {
        role: f"two/{role}" for role in ("expand", "depthwise", "project")
    }
    assert set(dict(inner.roles)) == {"pool", "squeeze", "excite", "gate"}
    assert inner.role("squeeze") == first.role("squeeze") == "one/squeeze"
    assert set(inner.nodes) < set(first.nodes)
    assert not set(first.nodes) & set(second.nodes)
    assert second.channels_of == gs.Port("two/expand")


def test_finders_forget_what_is_no_longer_there() -> None:
    net = Net()
    net.inverted_residual(net.x, norm="nothing")
    graph = net.graph()
    check_pass(graph, "find-inverted-residual")
    assert len(graph.blocks) == 1
    graph.rewire("project", 0, graph.data_inputs("expand")[0])
    filters = graph.data_inputs("project")[1].node
    graph.set_attr(filters, "value", gs.Tensor.of(graph[filters].attrs["value"].array[:, :, :8]))
    check_pass(graph, "find-inverted-residual")
    assert graph.blocks == []


@pytest.mark.tf
def test_nodes_that_were_placed_beside_a_removed_one_still_import() -> None:
    graph = from_text(
        """
        x = Placeholder() dtype=float32 shape=<2,3>
        read = Identity(x) T=float32
        y = Relu(read) T=float32 _class=["loc:@read","loc:@x"]
        z = Neg(y) T=float32 _class=["loc:@read"]
        """
    )
    before = graph.copy()
    gs.Pipeline(["fold-identity"]).run(graph)
    again = round_trip(graph)
    assert again["y"].attrs["_class"] == [b"loc:@x"]
    assert "_class" not in again["z"].attrs
    assert_identical(before, again)
