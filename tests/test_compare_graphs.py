"""Two graphs node by node: what `graphslim compare` finds and shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List

import pytest
from test_apply import IR_SE
from test_plan_fit import FOLDS
from tiny import tiny

import graphslim as gs
from graphslim.analysis.diff import Differences, NodeDifference, Side, differences
from graphslim.cli import main
from graphslim.plans import plan_given


def by_name(found: Differences, name: str) -> NodeDifference:
    return next(one for one in found.nodes if one.name == name)


def changed(found: Differences) -> List[str]:
    return [one.name for one in found.changed]


def test_a_graph_and_itself_differ_in_nothing() -> None:
    found = differences(tiny(IR_SE), tiny(IR_SE))
    assert found.changed == []
    assert found.costs[0] == found.costs[1] == gs.cost(tiny(IR_SE))
    assert [one.name for one in found.nodes if one.is_layer] == [
        "e",
        "eb",
        "d",
        "dn",
        "s",
        "g",
        "j",
    ]


def test_pruned_layers_have_old_and_new_shapes() -> None:
    graph = tiny(IR_SE)
    found = differences(graph, gs.apply(graph, plan_given(graph, {"e": [1, 2]})))
    layer = by_name(found, "e")
    # 8 x 8 positions of 4 input channels for each of 12, then 10, output channels.
    assert layer.first == Side("Conv2D", ((1, 1, 4, 12),), (1, 8, 8, 12), 48, 64 * 48)
    assert layer.second == Side("Conv2D", ((1, 1, 4, 10),), (1, 8, 8, 10), 40, 64 * 40)
    norm = by_name(found, "dn")
    assert norm.second is not None
    assert (norm.second.weights, norm.second.params) == (((10,),) * 4, 40)
    assert by_name(found, "er").changed and not by_name(found, "er").is_layer
    assert not by_name(found, "o").changed


def test_macs_and_params_of_the_nodes_are_those_of_the_graph() -> None:
    graph = tiny(IR_SE)
    found = differences(graph, graph)
    sides = [one.first for one in found.nodes if one.first is not None]
    assert sum([side.params for side in sides]) == gs.cost(graph).params
    assert sum([side.macs or 0 for side in sides]) == gs.cost(graph).macs


def test_nodes_of_one_graph_alone_stand_where_they_are_read() -> None:
    """The pruned graph has a new offset behind its last product, for what was folded."""
    text = (FOLDS % 2).replace("out = BiasAdd(z, c)", "").replace("c = f32[2]{1 -1}", "")
    graph = tiny(text + "out = Relu(z)\n")
    slim = gs.apply(graph, gs.plan(graph))
    found = differences(graph, slim)
    added = [one for one in found.nodes if one.first is None]
    assert sorted([one.second.op for one in added if one.second]) == ["BiasAdd", "Const"]
    names = [one.name for one in found.nodes]
    offset = next(one for one in added if one.second and one.second.op == "BiasAdd")
    assert names.index("z") < names.index(offset.name)
    back = differences(slim, graph)
    assert [one.name for one in back.nodes if one.second is None] == [
        one.name for one in slim.order() if one.name not in graph
    ]


def test_other_values_of_the_same_shape_are_seen() -> None:
    found = differences(tiny(IR_SE), tiny(IR_SE.replace("{random 7}", "{random 8}")))
    assert changed(found) == ["s"]
    assert by_name(found, "s").revalued


def test_another_op_of_the_same_name_is_seen() -> None:
    found = differences(tiny(IR_SE), tiny(IR_SE.replace("er = Relu6", "er = Relu")))
    assert changed(found) == ["er"]
    assert by_name(found, "er").is_layer


def test_weights_behind_identities_count_once() -> None:
    text = "x = input 1,4,4,2\nw = f32[1,1,2,3]{1}\ni = Identity(w)\ny = Conv2D(x, i)\n"
    found = differences(tiny(text), tiny(text))
    sides = {one.name: one.first for one in found.nodes}
    assert [sides[name].params for name in ("i", "y")] == [0, 6]  # type: ignore[union-attr]


# ------------------------------------------------------------------ the command


@pytest.fixture
def pair(tmp_path: Path) -> List[str]:
    graph = tiny(IR_SE)
    paths = [str(tmp_path / name) for name in ("a.pb", "b.pb")]
    for path, one in zip(paths, (graph, gs.apply(graph, plan_given(graph, {"e": [1, 2]})))):
        gs.save(one, path)
    return paths


def run(capsys: Any, *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["compare", *arguments])
    assert not caught.value.code, capsys.readouterr()
    text: str = capsys.readouterr().out
    return text


def rows(text: str) -> List[List[str]]:
    return [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in text.splitlines()
        if line.startswith("│")
    ]


def test_table_shows_layers_that_changed(pair: List[str], capsys: Any) -> None:
    text = run(capsys, *pair)
    found = {row[0]: row[1:] for row in rows(text)}
    assert found["e"] == [
        "Conv2D",
        "1x1x4x12 => 1x1x4x10",
        "1x8x8x12 => 1x8x8x10",
        "48 => 40",
        "3.07 k => 2.56 k",
    ]
    assert found["dn"][1:4] == ["4 of 12 => 4 of 10", "1x8x8x12 => 1x8x8x10", "48 => 40"]
    assert found["j"][1:3] == ["1x1x12x4 => 1x1x10x4", "1x8x8x4"]
    assert "er" not in found and "o" not in found
    assert "nodes without weights changed shape too (--all)" in text
    assert found["parameters"][:2] == ["408", "340"]


def test_all_shows_every_node(pair: List[str], capsys: Any) -> None:
    found = {row[0]: row[1:] for row in rows(run(capsys, *pair, "--all"))}
    assert found["er"] == ["Relu6", "", "1x8x8x12 => 1x8x8x10", "", ""]
    assert found["o"] == ["AddV2", "", "1x8x8x4", "", ""]


def test_the_same_graph_twice(pair: List[str], capsys: Any) -> None:
    text = run(capsys, pair[0], pair[0])
    assert "No node differs in op, shapes or weights." in text
    assert [row[-1] for row in rows(text)[-3:]] == ["the same"] * 3


def test_json(pair: List[str], capsys: Any) -> None:
    tree = json.loads(run(capsys, *pair, "--json"))
    assert list(tree) == ["nodes", "totals"]
    node = next(one for one in tree["nodes"] if one["name"] == "e")
    assert node == {
        "name": "e",
        "change": "changed",
        "first": {
            "op": "Conv2D",
            "weights": [[1, 1, 4, 12]],
            "output": [1, 8, 8, 12],
            "params": 48,
            "macs": 3072,
        },
        "second": {
            "op": "Conv2D",
            "weights": [[1, 1, 4, 10]],
            "output": [1, 8, 8, 10],
            "params": 40,
            "macs": 2560,
        },
    }
    everything = json.loads(run(capsys, *pair, "--json", "--all"))
    assert {one["change"] for one in everything["nodes"]} == {"changed", "same"}
