"""The report: that its numbers are those of the graphs, and that the page stands by itself."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest
from tiny import tiny

import graphslim as gs
from graphslim import report
from graphslim.analysis.cost import cost
from graphslim.cli import console, main, results
from graphslim.delivery import Delivery
from graphslim.delivery.check import Losses
from graphslim.delivery.formats import TFLITE, Package, Wish
from graphslim.errors import EmitError
from graphslim.measure.agreement import Agreement
from graphslim.measure.bench import Spread
from graphslim.measure.fidelity import OutputDifference
from graphslim.measure.timings import Timed, Timings
from graphslim.plans.plan import Achieved
from graphslim.report.charts import cut_between, differences, histogram
from graphslim.report.data import owners, spent
from graphslim.report.network import Names
from graphslim.support.importing import install_hint

pytest.importorskip("matplotlib", reason="the extra `report` is not installed")

ROOT = Path(__file__).resolve().parents[1]
# A block of 8 channels, a layer whose channels are the output's, and an op without a rule.
NET = """
x = input 1,4,4,2
e = f32[1,1,2,8]{random 1}
net/b/expand/Conv2D = Conv2D(x, e)
net/b/relu = Relu6(net/b/expand/Conv2D)
d = f32[3,3,8,1]{random 2}
net/b/depthwise = DepthwiseConv2dNative(net/b/relu, d)
net/b/relu2 = Relu6(net/b/depthwise)
p = f32[1,1,8,4]{random 3}
net/b/project = Conv2D(net/b/relu2, p)
n = f32[1,1,4,6]{random 5}
net/next/Conv2D = Conv2D(net/b/project, n)
o = f32[6]{1 2 3 4 5 6}
net/offset = BiasAdd(net/next/Conv2D, o)
r = f32[1,1,6,3]{random 6}
net/last/Conv2D = Conv2D(net/offset, r)
out = Identity(net/last/Conv2D)
q = f32[1,1,2,5]{random 4}
net/other = Conv2D(x, q)
odd = MysteryOp(net/other)
"""
GONE = {"net/b/expand/Conv2D": [1, 2, 5], "net/next/Conv2D": [0]}
SCORES = {"net/b/expand/Conv2D": [8, 1, 2, 7, 6, 3, 5, 4], "net/next/Conv2D": [1, 2, 3, 4, 5, 6]}
AGREED = Agreement((OutputDifference("out", (1, 4, 4, 3), 2e-7, 3e-6, 0.07),), 1e-4, "original")
MASKED = AGREED._replace(against="masked original")
CHANGED = AGREED._replace(
    outputs=(AGREED.outputs[0]._replace(relative=0.5, error=0.25),), examples=40
)


def pruned(**changes: Any) -> Tuple[gs.Graph, gs.Graph, gs.Plan]:
    """The network, without some of its channels, and the plan as a criterion would have made it."""
    graph = tiny(NET)
    graph.name = "<net> & co.pb"
    plan = gs.plan(graph, removed=GONE)
    groups = [one._replace(scores=tuple(SCORES[one.id]), why="l1") for one in plan.groups]
    plan = plan._replace(groups=tuple(groups), **changes)
    return graph, gs.apply(graph, plan), plan


def page(
    change: Optional[Agreement] = None, surgery: Optional[Agreement] = None, **changes: Any
) -> str:
    return report.render(report.collect(*pruned(**changes), change, surgery))


class Reader(HTMLParser):
    """Reads a page, and what it refers to; complains of a tag that is not closed."""

    EMPTY = ("meta", "link", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: List[str] = []
        self.tags: List[Tuple[str, Dict[str, Optional[str]]]] = []
        self.text: List[str] = []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> where {self.open[-1:]} is open"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def said(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.text))


def test_constants_are_counted_with_the_layer_that_reads_them() -> None:
    """In a frozen function a node waits for all constants, and the outputs for that node."""
    graph = tiny(
        """
        x = input 1,4,4,2
        w = f32[1,1,2,8]{random 1}
        v = f32[1,1,8,3]{random 2}
        all = NoOp(^w, ^v)
        first = Conv2D(x, w)
        second = Conv2D(first, v)
        one = Identity(first, ^all)
        other = Identity(second, ^all)
        """
    )
    graph.outputs = (gs.Port("one"), gs.Port("other"))
    parts = spent(graph, owners(graph, {}))
    assert {name: part.params for name, part in parts.items()} == {"first": 16, "second": 24}


def test_every_cost_belongs_to_a_part() -> None:
    graph = gs.load(str(ROOT / "fixtures" / "digits_mobilenet_v2_se.pb"))
    slim = gs.apply(graph, gs.plan(graph))
    parts = report.collect(graph, slim, gs.plan(graph)).parts
    assert {part.kind for part in parts} == {None, "inverted_residual"}
    for place, one in enumerate((graph, slim)):
        macs = [part.macs[place] for part in parts if part.macs is not None]
        assert sum([part.params[place] for part in parts]) == cost(one).params
        assert sum(macs) == cost(one).macs


def test_parts_are_blocks_and_layers_with_what_belongs_to_them() -> None:
    found = {part.name: part for part in report.collect(*pruned()).parts}
    block, layer = found["net/b"], found["net/next/Conv2D"]
    assert [one.width for one in block.layers] == [(8, 5), (8, 5), (4, 4)]
    assert (block.kind, block.params) == ("inverted_residual", (16 + 72 + 32, 10 + 45 + 20))
    assert block.macs == (16 * 120, 16 * 75)
    # The offset is counted with the layer before it.
    assert (layer.kind, layer.params, layer.macs) == (None, (24 + 6, 20 + 5), (16 * 24, 16 * 20))
    assert [one.pinned for one in found["net/last/Conv2D"].layers] == [3]


def test_an_open_size_leaves_macs_open() -> None:
    graph = tiny(NET.replace("input 1,4,4,2", "input 1,?,?,2"))
    plan = gs.plan(graph, removed=GONE)
    found = report.collect(graph, gs.apply(graph, plan), plan)
    assert found.macs is None and {part.macs for part in found.parts} == {None}
    assert "the size of an input is open" in Reader(report.render(found)).said


def test_the_page_says_what_happened() -> None:
    settings = {"criterion": "l1", "budget": {"macs": 0.5}, "only": ["net/*", "b?"]}
    achieved = Achieved("macs", 0.5, 0.75, "one group is <pinned>")
    said = Reader(page(CHANGED, MASKED, settings=settings, achieved=achieved)).said
    for text in (
        "<net> & co.pb",
        "4 of 18 prunable channels removed",
        "8 → 5",
        "cut at 3.5",
        "Asked for 50 %, achieved 75 %",
        "one group is <pinned>",
        "Caution: the outputs changed much",
        "out is off by 25 % of its variation",
        "over 40 inputs",
        "within 3e-06 of the range of out; 0.0001 is allowed",
        "no rule for the op",
        "teach graphslim the op",
        "macs 0.5",
        "net/*, b?",
    ):
        assert text in said, text


def test_a_page_says_first_what_became_of_the_network() -> None:
    said = Reader(page(CHANGED, MASKED)).said
    assert said.index("changed much") < said.index("The cut itself was checked")
    assert "the same within 0.0001 of their range" in Reader(page(surgery=AGREED)).said


def test_the_page_asks_nothing_of_anyone() -> None:
    text = page(surgery=AGREED)
    for tag, attributes in Reader(text).tags:
        assert tag not in ("script", "iframe", "object", "embed", "base"), tag
        for key, value in attributes.items():
            assert not key.startswith("on"), f"{tag} {key}"
            if key in ("src", "href", "xlink:href", "action", "srcset", "data"):
                assert (value or "").startswith(("#", "data:")), f"{tag} {key}={value}"
    assert not re.search(r"https?://|@import|url\((?!#)", text)


def test_ids_are_unique_and_colours_are_the_pages() -> None:
    text = page(CHANGED, MASKED)
    charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(charts) == 4
    ids = [name for chart in charts for name in re.findall(r'\bid="([^"]*)"', chart)]
    # A tick's mark that two charts define alike has one name in both.
    used = {name for chart in charts for name in re.findall(r'(?:url\(|href=")#([\w-]+)', chart)}
    assert used <= set(ids)
    for chart in charts:
        inside = re.findall(r'\bid="([^"]*)"', chart)
        assert len(inside) == len(set(inside)), "an id stands twice in one chart"
        assert "<style" not in chart and not re.search(r":\s*#[0-9a-f]{3,6}\b", chart)


def test_the_same_report_gives_the_same_page() -> None:
    assert page(CHANGED, MASKED) == page(CHANGED, MASKED)


@pytest.mark.parametrize(
    ("scores", "removed", "expected"),
    [
        ([1, 2, 3, 4], [0, 1], 2.5),
        ([1, 2, 3, 4], [3], 3.5),
        ([2, 2, 3, 4], [0], 2.0),
        ([1, 2, 3, 4], [0, 2], None),
        ([1, 2], [], None),
        ([1, 2], [0, 1], None),
    ],
    ids=["low", "high", "tie", "rounded", "nothing", "all"],
)
def test_the_cut(scores: List[float], removed: List[int], expected: Optional[float]) -> None:
    assert cut_between(scores, removed) == expected


def test_charts_of_odd_numbers() -> None:
    for chart in (
        histogram([1.0], [], "one"),
        histogram([0.0, 0.0], [1], "alike"),
        histogram([-1e30, 1e30, 0.0], [0], "wide"),
        histogram([1e-12, 1e-9, 1e-9, 1.0], [0], "skewed"),
        histogram([0.2, 0.21, 0.22, 1.9], [0], "skewed a little"),
        differences([("same", 0.0), ("lost", float("inf")), ("odd", float("nan"))], 1e-4),
        differences([("same", 0.0)], 0.0),
    ):
        assert Reader(chart).tags[0][0] == "svg"
        assert "nan" not in re.sub(r'aria-label="[^"]*"', "", chart).lower()


def bars(chart: str, colour: str) -> int:
    """How many different heights the bars of a colour have, the ground left out."""
    paths = re.findall(rf'<path d="([^"]*)"[^>]*style="fill: var\(--{colour}\)', chart)
    return len({line.split()[-1] for path in paths for line in path.split("L")}) - 1


SPREAD = [2.0**power for power in range(-12, 13) for _ in range(1 + abs(power) % 4)]


@pytest.mark.parametrize(
    "scores, marks",
    [
        ([0.010 + 0.001 * index for index in range(20)] + [1.0], ["0.01", "0.1", "1"]),
        (SPREAD, ["0.001", "0.1", "10", "1000"]),
        ([0.0] * 9 + SPREAD, ["0", "0.1", "10", "1000"]),
        ([1e-30, *SPREAD], ["0.001", "0.1", "10", "1000"]),
        ([-score for score in SPREAD], ["−1000", "−10", "−0.1", "−0.001"]),
        ([*SPREAD, *[-score for score in SPREAD]], ["−1000", "−1", "0", "1", "1000"]),
    ],
    ids=["one far above", "decades", "zeros", "one far below", "negative", "both signs"],
)
def test_skewed_scores_hide_no_others(scores: List[float], marks: List[str]) -> None:
    lowest = sorted(range(len(scores)), key=scores.__getitem__)[: len(scores) // 3]
    chart = histogram(scores, lowest, "x")
    assert bars(chart, "kept") > 3 and bars(chart, "gone") > 2, "most share a bar"
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", chart)
    assert texts[: len(marks) + 1] == [*marks, "0"], "the numbers below, then those on the left"


def test_a_cut_close_to_the_end_has_room_beside_it() -> None:
    scores = [0.01, 0.02, 0.03, *[1 + 0.1 * index for index in range(21)]]
    chart = histogram(scores, [0, 1, 2], "x")
    assert bars(chart, "gone") >= 1
    cut = re.findall(r"stroke-dasharray[^>]*", chart)
    assert len(cut) == 1
    assert histogram([*scores[3:]], [0, 1], "x").count(">1.5<") == 1, "an even spread stays linear"


def test_names_are_short_and_still_their_own() -> None:
    names = Names(
        ["net/b/expand/Conv2D", "net/b/project", "net/c/Conv2D", "net/c/MatMul"], ["net/b"]
    )
    assert names("net/b") == "b"
    assert names("net/b/expand/Conv2D") == "b/expand"
    assert names.inside("net/b/expand/Conv2D", "net/b") == "expand"
    assert names("net/c/Conv2D") == "c/Conv2D"
    assert names("elsewhere") == "elsewhere"


def test_a_network_without_layers_or_blocks() -> None:
    graph = tiny("x = input 1,4,4,2\nout = Relu(x)")
    plan = gs.plan(graph)
    said = Reader(report.render(report.collect(graph, gs.apply(graph, plan), plan))).said
    assert "Nothing went." in said and "0 of 0 prunable channels removed" in said


def test_json_has_the_numbers_of_the_page() -> None:
    graph, slim, plan = pruned(achieved=Achieved("macs", 0.5, 0.75))
    found = report.collect(graph, slim, plan, surgery=AGREED)
    tree = results.pruning(graph, slim, plan, results.Checked(AGREED), "out.pb", 1.25)
    assert [tree["params"], tree["macs"], tree["size"]] == [
        list(pair) for pair in (found.params, found.macs or (), found.size)
    ]
    assert [one["name"] for one in tree["blocks"]] == [part.name for part in found.parts]
    assert tree["achieved"] == {"what": "macs", "asked": 0.5, "achieved": 0.75, "reason": None}
    assert tree["seconds"] == 1.25 and json.dumps(tree, allow_nan=False)


def test_the_terminal_shows_cost_by_block_and_the_budget(capsys: Any) -> None:
    graph, slim, plan = pruned(achieved=Achieved("macs", 0.5, 0.75, "too coarse"))
    checked = results.Checked(MASKED, CHANGED)
    results.print_pruning(console.Console(), graph, slim, plan, checked, 1.0)
    out = capsys.readouterr().out
    assert re.search(r"net/b +│ +120 +│ +75 +│ +-37.5 % │ +1.92 k │ +1.20 k │ +-37.5 %", out), out
    assert "macs: asked for 0.5, achieved 0.75 (too coarse)" in out
    assert "Caution: the outputs changed much: out is off by 25 % of its variation" in out
    assert out.index("changed much") < out.index("Nothing else changed")
    assert "net/other" not in out.split("Cost")[1].split("Whole")[0]


def run(folder: Path, capsys: Any, *arguments: str) -> Tuple[int, str]:
    """Runs `graphslim prune` in a folder; gives its status and what it said on stderr."""
    with pytest.raises(SystemExit) as ended:
        main(["prune", *arguments, "-o", str(folder / "out.pb")])
    return int(ended.value.code or 0), capsys.readouterr().err


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.pb"
    path.write_bytes((ROOT / "fixtures" / "digits_mobilenet_v2_se.pb").read_bytes())
    return path


def test_prune_writes_the_page(model: Path, capsys: Any) -> None:
    target = model.parent / "page.html"
    status, said = run(model.parent, capsys, str(model), "--no-verify", "--report", str(target))
    assert status == 0, said
    assert "They were not compared." in Reader(target.read_text(encoding="utf-8")).said
    assert sorted([path.name for path in model.parent.iterdir()]) == [
        *("model.pb", "out.pb", "page.html")
    ]


def test_no_page_where_the_graph_cannot_be_written(
    model: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> None:
        raise EmitError("cannot be written: No space left", "out.pb")

    monkeypatch.setattr("graphslim.cli.files.encoded", fail)
    target = model.parent / "page.html"
    status, said = run(model.parent, capsys, str(model), "--no-verify", "--report", str(target))
    assert status == 2 and "No space left" in said, said
    assert [path.name for path in model.parent.iterdir()] == ["model.pb"]


@pytest.mark.tf
def test_the_page_has_what_was_verified(model: Path, capsys: Any) -> None:
    target = model.parent / "page.html"
    status, said = run(model.parent, capsys, str(model), "--report", str(target))
    assert status == 0, said
    assert "Against the original" in Reader(target.read_text(encoding="utf-8")).said


@pytest.mark.tf
def test_no_page_where_the_check_fails(model: Path, capsys: Any) -> None:
    target = model.parent / "page.html"
    wish = ("--dead-below", "100", "--tolerance", "0")
    status, said = run(model.parent, capsys, str(model), *wish, "--report", str(target))
    assert status == 1, said
    assert [path.name for path in model.parent.iterdir()] == ["model.pb"]


@pytest.mark.parametrize(("ratio", "shade"), [(0.5, 0), (1.5, 1)])
def test_the_page_shows_what_is_delivered(ratio: float, shade: int) -> None:
    losses = Losses(AGREED._replace(examples=8), AGREED, True, "LiteRT 2", ("y is called z.",))
    package = Package("slim.tflite", TFLITE, {"": bytes(600)})
    models = [
        Timed(name, "tflite", "LiteRT 2", Spread(ms, ms, ms), Spread(share, share, share), 1)
        for name, ms, share in (("a", 2.0, 1.0), ("b", 2.0 * ratio, ratio))
    ]
    times = Timings(tuple(models), 10, 1, 4, 1, "a processor", ())
    delivery = Delivery(package, Wish(), losses, before=1000)
    data = report.collect(*pruned(), delivery=delivery, timed=times)
    reader = Reader(report.render(data))
    for text in (
        "TensorFlow Lite model, float32: 600 bytes, -40.0 % against the original, converted alike.",
        "y is called z.",
        "In LiteRT 2 it computes what it computes in TensorFlow, within 3e-06 of the range of out",
        f"{ratio:g} of the original's time",
        "In LiteRT 2, 4 threads: ",
        "largest / range, original",
    ):
        assert text in reader.said, reader.said
    shades = [dict(attrs).get("class") for _, attrs in reader.tags]
    assert shades.count("card warn") == shade
    unrun = report.collect(*pruned(), delivery=Delivery(package, Wish(), why_not="not there."))
    assert "Not run in its runtime" in Reader(report.render(unrun)).said
    assert "What is delivered" not in page()


def test_without_matplotlib_nothing_is_begun(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    # The model is not there; it would be the complaint if work had begun.
    status, said = run(
        tmp_path, capsys, str(tmp_path / "no.pb"), "--report", str(tmp_path / "r.html")
    )
    assert status == 2 and install_hint("report") in said, said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("target", "word"),
    [
        ("model.pb", "is the input itself"),
        ("out.pb", "is the output too"),
        ("plan.json", "is --plan-out too"),
        ("no/where.html", "the folder does not exist"),
    ],
)
def test_a_page_in_the_way_is_refused(model: Path, capsys: Any, target: str, word: str) -> None:
    folder = model.parent
    places = ("--plan-out", str(folder / "plan.json"), "--report", str(folder / target))
    status, said = run(folder, capsys, str(model), "--no-verify", *places)
    assert status == 2 and word in said, said
    assert [path.name for path in folder.iterdir()] == ["model.pb"]
