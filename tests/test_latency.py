"""Latency budgets: layers, tables, the cache and the search, with a timer that only counts."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import pytest
from fake_jobs import Lossy, knows_nothing  # noqa: F401
from tiny import tiny

import graphslim as gs
from graphslim.errors import GraphslimError
from graphslim.measure import latency
from graphslim.measure.bench import Spread
from graphslim.measure.latency import Setting, build, widths, without
from graphslim.measure.latency_table import Row, Table, folder, read
from graphslim.measure.promise import Predictor, Promise, noise_of, quiet_enough, reach
from graphslim.measure.timed_layers import NOTHING, cut_out, layers_of
from graphslim.support.workers import Workers

NET = """
x = input ?,8,8,3
e = f32[1,1,3,16]{random 1}
expand = Conv2D(x, e)
g = f32[16]{random 2}
b = f32[16]{random 3}
m = f32[16]{random 4}
v = f32[16]{0.5 ...}
norm = FusedBatchNorm(expand, g, b, m, v)
relu = Relu6(norm)
d = f32[3,3,16,1]{random 5}
deep = DepthwiseConv2dNative(relu, d)
relu2 = Relu6(deep)
p = f32[1,1,16,8]{random 6}
project = Conv2D(relu2, p)
q = f32[1,1,8,4]{random 7}
out = Conv2D(project, q)
"""


def net(layout: str = "NHWC") -> gs.Graph:
    text = NET.replace("{0.5 ...}", "{" + " ".join(["0.5"] * 16) + "}")
    if layout == "NCHW":
        text = re.sub(r"(= (Conv|Depthwise|Fused)\w+\(.*\))", r'\1 data_format="NCHW"', text)
        text = text.replace("?,8,8,3", "?,3,8,8")
    return tiny(text)


def multiplications(graph: gs.Graph, targets: Sequence[Sequence[str]], setting: Any) -> List[float]:
    """Stands in for a clock: a layer takes as many milliseconds as it has multiplications."""
    channels = gs.analyse(graph)
    found = []
    for names in targets:
        prefix = names[0].split("/")[0] + "/"
        ms = 1.0
        for node in graph:
            if node.name.startswith(prefix) and node.op in ("Conv2D", "DepthwiseConv2dNative"):
                weights = channels.fact(graph.data_inputs(node)[1]).shape
                ms = float(np.prod([size or 0 for size in weights or ()]))
        found.append(ms)
    return found


def counted(graph: gs.Graph, **setting: Any) -> Table:
    return build(graph, Setting(**setting), multiplications, lambda: 1000.0)


def mask(graph: gs.Graph, removed: Dict[str, Sequence[int]]) -> np.ndarray:
    channels = gs.analyse(graph)
    gone = np.zeros(channels.count, bool)
    for group in channels.groups:
        gone[group.channels[list(removed.get(group.id, ()))]] = True
    return gone


# ---------------------------------------------------------------- layers


def test_layers_are_sums_and_what_follows() -> None:
    graph = net()
    found = layers_of(graph, gs.analyse(graph))
    assert [layer.nodes for layer in found] == [
        ("expand", "norm", "relu"),
        ("deep", "relu2"),
        ("project",),
        ("out",),
    ]
    assert [len(layer.reads) for layer in found] == [3, 16, 16, 8]
    assert [len(layer.makes) for layer in found] == [16, 16, 8, 4]
    assert [layer.tied for layer in found] == [False, True, False, False]


def test_a_number_of_channels_is_in_no_layer() -> None:
    """A Reshape to a number of channels would need that number mended in the copy."""
    graph = tiny(
        "x = input 1,4,4,3\nw = f32[1,1,3,8]{random 1}\ny = Conv2D(x, w)\n"
        "s = i32[2]{16 8}\nr = Reshape(y, s)\nv = f32[8,2]{random 2}\nout = MatMul(r, v)"
    )
    layers = layers_of(graph, gs.analyse(graph))
    assert [layer.nodes for layer in layers] == [("y",), ("out",)]


@pytest.mark.parametrize(
    "full, pinned, multiple, expected",
    [
        (64, 0, 8, [8, 16, 32, 48, 64]),
        (10, 0, 8, [8, 10]),
        (3, 3, 8, [3]),
        (8, 6, 1, [6, 8]),
        (1, 0, 8, [1]),
        (0, 0, 8, [0]),
    ],
)
def test_widths(full: int, pinned: int, multiple: int, expected: List[int]) -> None:
    stays = np.arange(full) < pinned
    assert widths(np.arange(full), stays, multiple) == expected


def test_a_copy_has_the_widths_that_it_should() -> None:
    graph = net()
    channels = gs.analyse(graph)
    for layer in layers_of(graph, channels):
        pinned = channels.pinned()
        sides = (len(layer.reads) if pinned[layer.reads].all() else 8, 4)
        if layer.tied:
            sides = (8, 16)
        lab = cut_out(channels, layer, [without(layer, pinned, *sides)], batch=2)
        assert lab is not None and NOTHING in lab.graph
        known = gs.analyse(lab.graph).fact(gs.Port(lab.targets[0][-1])).shape
        makes = 8 if layer.tied else 4
        assert known == (2, 8, 8, makes), layer.name


def test_a_shared_vector_is_cut_for_each_reader() -> None:
    graph = tiny(
        "x = input 1,4,4,3\nw = f32[1,1,3,8]{random 1}\ny = Conv2D(x, w)\n"
        "b = f32[8]{random 2}\nyb = BiasAdd(y, b)\nu = f32[1,1,8,8]{random 3}\n"
        "z = Conv2D(yb, u)\nzb = BiasAdd(z, b)\nq = f32[1,1,8,2]{random 4}\nout = Conv2D(zb, q)"
    )
    channels = gs.analyse(graph)
    layer = layers_of(graph, channels)[1]
    assert layer.nodes == ("z", "zb")
    lab = cut_out(channels, layer, [without(layer, channels.pinned(), 8, 3)], 1)
    assert lab is not None
    assert gs.analyse(lab.graph).fact(gs.Port("w0/zb")).shape == (1, 4, 4, 3)
    assert sorted(node.attrs["value"].shape for node in lab.graph if node.op == "Const") == [
        (1, 1, 8, 3),
        (1, 4, 4, 8),
        (3,),
    ]


# ---------------------------------------------------------------- the table


def test_between_widths_times_are_interpolated() -> None:
    row = Row((8, 16), (4, 8), ((1.0, 2.0), (3.0, 6.0)))
    assert row.at(8, 4) == 1 and row.at(16, 8) == 6
    assert row.at(12, 4) == 2 and row.at(12, 6) == 3
    assert row.at(2, 4) == 1, "narrower than what was measured counts as the narrowest"


def test_a_product_of_widths_is_predicted_exactly() -> None:
    """A convolution takes time by both its widths: savings on both sides must not be added up."""
    graph = net()
    table = counted(graph, multiple=1)
    full = 3 * 16 + 9 * 16 + 16 * 8 + 8 * 4
    assert table.rest == 1000 - full
    predict = Predictor(graph, table)
    assert predict.cost_of() == 1000
    removed = {"expand": range(4, 16), "project": range(3, 8)}
    slim = gs.apply(graph, gs.plan(graph, removed=removed))
    left = 3 * 4 + 9 * 4 + 4 * 3 + 3 * 4
    assert counted(slim).rest == 1000 - left
    assert predict.cost_of(mask(graph, removed)) == pytest.approx(table.rest + left)
    assert predict.share(mask(graph, removed)) == pytest.approx((table.rest + left) / 1000)


def test_equal_layers_are_timed_once() -> None:
    text = "x = input 1,4,4,8\n"
    for number, source in enumerate(["x", "y0", "y1", "y2"]):
        text += f"w{number} = f32[1,1,8,8]{{random {number}}}\n"
        text += f"y{number} = Conv2D({source}, w{number})\n"
    calls: List[int] = []

    def timer(graph: gs.Graph, targets: Sequence[Sequence[str]], _: Any) -> List[float]:
        calls.append(len(targets))
        return [1.0] * len(targets)

    table = build(tiny(text), Setting(multiple=1), timer, lambda: 10.0)
    assert sorted(table.rows) == ["y0", "y1", "y2", "y3"] and table.rest == 6
    # The first has a fixed width on one side, the last on the other; the two between are equal.
    assert calls == [5, 25, 5]


def test_a_layer_that_does_not_run_counts_as_rest() -> None:
    graph = net()

    def timer(
        lab: gs.Graph, targets: Sequence[Sequence[str]], setting: Any
    ) -> Optional[List[float]]:
        return None if "deep" in lab.name else multiplications(lab, targets, setting)

    said: List[str] = []
    table = build(graph, Setting(), timer, lambda: 1000.0, lambda *one: said.append(one[2]))
    assert "deep" not in table.rows
    assert table.rest == 1000 - (3 * 16 + 16 * 8 + 8 * 4)
    assert said == [
        "latency of expand: 48 ms",
        "latency of deep: not measured",
        "latency of project: 128 ms",
        "latency of out: 32 ms",
    ]


def test_nothing_to_time_is_an_error() -> None:
    with pytest.raises(gs.GraphslimError, match="none of its layers can be timed"):
        counted(tiny("x = input 1,4\nout = Relu(x)"))


def test_open_sizes_are_refused() -> None:
    """A table of the few layers whose sizes are known would promise what it cannot keep."""
    graph = tiny(
        "x = input 1,?,?,3\nw = f32[1,1,3,8]{random 1}\ny = Conv2D(x, w)\n"
        "a = i32[2]{1 2}\nm = Mean(y, a) keep_dims=false\n"
        "v = f32[8,2]{random 2}\nout = MatMul(m, v)"
    )
    assert [layer.name for layer in layers_of(graph, gs.analyse(graph))] == ["out"]
    with pytest.raises(
        gs.GraphslimError,
        match="latency: needs the input's size .add input_shapes=",
    ):
        counted(graph)


def test_an_nchw_graph_is_predicted_through_its_twin() -> None:
    graph = net()
    other = net("NCHW")
    removed = {"expand": range(4, 16), "project": [0, 7]}
    twin = other.copy()
    gs.to_nhwc(twin)
    share = Predictor(other, counted(twin, multiple=1)).share(mask(other, removed))
    assert share == Predictor(graph, counted(graph, multiple=1)).share(mask(graph, removed))


# ---------------------------------------------------------------- the cache


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> List[Setting]:
    """A machine that is not there; the list tells what was measured on it."""
    measured: List[Setting] = []

    def timer(graph: gs.Graph, targets: Any, setting: Setting) -> List[float]:
        measured.append(setting)
        return multiplications(graph, targets, setting)

    class Whole:
        def __init__(self, *_: Any) -> None:
            pass

        def __enter__(self) -> Any:
            return lambda: 1000.0

        def __exit__(self, *_: Any) -> None:
            pass

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(latency, "time_targets", timer)
    monkeypatch.setattr(latency, "timed_whole", Whole)
    monkeypatch.setattr(latency.runtime, "version", lambda: "1.2.3")
    monkeypatch.setattr(latency.runtime, "run_as_shipped", lambda: None)
    return measured


def test_a_table_is_built_once(machine: List[Setting], monkeypatch: pytest.MonkeyPatch) -> None:
    first = latency.table_of(net(), Setting())
    assert len(machine) == 4
    assert latency.table_of(net(), Setting()) == first
    assert len(machine) == 4, "it was measured again"
    latency.table_of(net(), Setting(), cached=False)
    assert len(machine) == 8


@pytest.mark.usefixtures("knows_nothing")
def test_layers_are_timed_by_workers(
    machine: List[Setting], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By those of an executor; by processes of this machine, where it has two cores for each."""
    alone = latency.table_of(net(), Setting(), cached=False)
    executor, cores = Lossy(0), 2
    monkeypatch.setattr(latency.os, "cpu_count", lambda: cores)
    with Workers(executor) as workers:
        assert latency.table_of(net(), Setting(), cached=False, workers=workers) == alone
        assert len(executor.tasks) == 8 == len(machine)  # four were told nothing at first
        # Time by the clock is not shared out.
        latency.table_of(net(), Setting(threads=2), cached=False, workers=workers)
        assert len(executor.tasks) == 8
        workers.here = 2
        latency.table_of(net(), Setting(), cached=False, workers=workers)
        assert len(executor.tasks) == 8
        cores = 4
        latency.table_of(net(), Setting(), cached=False, workers=workers)
        assert len(executor.tasks) == 12
        # Found in the process that asks, not in those that time.
        names = iter(["mine", "a worker's processor"])
        monkeypatch.setattr(latency, "cpu_name", lambda: next(names, "mine"))
        with pytest.raises(GraphslimError, match="a worker is a worker's processor, TensorFlow"):
            latency.table_of(net(), Setting(batch=2), cached=True, workers=workers)


@pytest.mark.parametrize("what", ["threads", "batch", "multiple", "version", "cpu", "weights"])
def test_what_a_table_depends_on(
    what: str, machine: List[Setting], monkeypatch: pytest.MonkeyPatch
) -> None:
    latency.table_of(net(), Setting())
    graph, setting = net(), Setting()
    if what == "version":
        monkeypatch.setattr(latency.runtime, "version", lambda: "1.2.4")
    elif what == "cpu":
        monkeypatch.setattr(latency, "cpu_name", lambda: "another")
    elif what == "weights":
        value = graph["q"].attrs["value"]
        graph.set_attr("q", "value", value.with_numbers(value.numbers() * 2))
    else:
        setting = setting._replace(**{what: 4})
    latency.table_of(graph, setting)
    assert len(machine) == 8, f"the table of another {what} was taken"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rest": 1, "rows": {"a": {"reads": [1]}}}'])
def test_a_damaged_table_is_measured_again(
    text: str, machine: List[Setting], tmp_path: Path
) -> None:
    table = latency.table_of(net(), Setting())
    (path,) = (tmp_path / "graphslim").rglob("*.json")
    path.write_text(text)
    assert latency.table_of(net(), Setting()) == table and len(machine) == 8
    assert Table.from_json(path.read_text()) == table, "it was not mended"


def test_no_cache_is_no_error(machine: List[Setting], tmp_path: Path) -> None:
    (tmp_path / "graphslim").write_text("a file where the folder should be")
    assert latency.table_of(net(), Setting()).rows
    assert read(str(tmp_path / "none.json")) is None


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert Path(folder()) == Path("/some/where/graphslim/latency")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert folder().endswith(str(Path("graphslim", "latency")))


# ---------------------------------------------------------------- the promise


def plans_and_times(truth: Any, step: float = 0.0) -> Tuple[Any, Any, List[float]]:
    """A search that meets any share, or multiples of `step`, and a machine that disagrees."""
    aims: List[float] = []

    def plan_for(share: float) -> Any:
        aims.append(share)
        got = round(share / step) * step if step else share
        plan: Any = gs.Plan({}, {}, (got,), (), (1, 1), (1, 1))  # type: ignore[arg-type]
        return plan, got

    def measure_it(plan: Any) -> Spread:
        found = truth(plan.groups[0])
        return Spread(found, found, found)

    return plan_for, measure_it, aims


def readings(*numbers: float) -> Any:
    """A machine that reads these shares one after another, whatever the plan; then the last."""
    left = list(numbers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def test_a_true_prediction_needs_one_try() -> None:
    plan_for, measure_it, aims = plans_and_times(lambda share: share + 0.01)
    plan, promise = reach(0.5, plan_for, measure_it)
    assert aims == [0.5] and promise.kept and plan.groups == (0.5,)
    assert promise.reason is None
    assert promise == Promise(0.5, 0.5, Spread(0.51, 0.51, 0.51), 1)


def test_a_wrong_prediction_is_made_up_for() -> None:
    plan_for, measure_it, aims = plans_and_times(lambda share: 0.2 + 0.8 * share)
    _, promise = reach(0.5, plan_for, measure_it)
    assert promise.kept and promise.tries == len(aims) > 1
    assert promise.predicted < 0.41, "the plan should aim lower than what is asked for"


def test_the_nearest_wins_where_none_is_near() -> None:
    plan_for, measure_it, aims = plans_and_times(lambda share: 0.3 + 0.7 * share, step=0.5)
    plan, promise = reach(0.5, plan_for, measure_it)
    assert plan.groups == (0.5,) and promise.measured.median == pytest.approx(0.65)
    assert not promise.kept
    # Half the channels and none are the neighbours of what was asked for.
    assert len(aims) > promise.tries == 2, "the same plan must not be measured again"


def test_a_bad_moment_does_not_cut_more_than_was_asked_for() -> None:
    """Read too slow once, the next plan cuts too much: the search goes back between the two."""
    bad = iter([0.1])
    plan_for, measure_it, aims = plans_and_times(lambda share: share + next(bad, 0.0))
    plan, promise = reach(0.7, plan_for, measure_it)
    assert aims[:2] == [0.7, pytest.approx(0.6125)] and len(aims) > 2
    assert promise.kept and abs(plan.groups[0] - 0.7) < 0.03  # type: ignore[operator]


def test_what_seems_right_is_measured_again() -> None:
    """The plan that seemed right by chance is too fast; one that cuts less is right."""
    plan_for, measure_it, aims = plans_and_times(readings(0.5, 0.40, 0.5))
    _, promise = reach(0.5, plan_for, measure_it)
    assert promise.kept and promise.tries == 2 and aims[1] > 0.5
    assert promise.measured.median == 0.5


def test_no_plan_gives_more_than_was_asked_for() -> None:
    """Of 0.75 and 0.644, where 0.7 was asked for, the one that leaves more."""
    times = {0.8: 0.75, 0.6: 0.644}
    plan_for, measure_it, _ = plans_and_times(lambda share: times.get(round(share, 1), share), 0.2)
    plan, promise = reach(0.7, plan_for, measure_it)
    assert promise.measured.median == 0.75 and not promise.kept
    assert promise.reason == "the next plan that cuts more comes to 0.644, more than was asked for"


def test_where_every_plan_is_faster_the_slowest_is_taken() -> None:
    plan_for, measure_it, _ = plans_and_times(lambda share: share / 2, step=0.5)
    plan, promise = reach(0.7, plan_for, measure_it)
    assert plan.groups == (1.0,) and promise.reason == "every plan that was tried is faster"


def test_the_noise_is_what_the_same_graph_is_off() -> None:
    assert noise_of(Spread(1.0, 1.0, 1.0), 50) == 0
    assert noise_of(Spread(1.06, 1.05, 1.07), 50) == pytest.approx(0.06)
    assert noise_of(Spread(1.0, 0.8, 1.2), 50) == pytest.approx(2 * 0.93 * 0.4 / 50**0.5)


def test_a_wish_within_the_noise_is_refused() -> None:
    """After a second look: what disturbed the first may have passed."""
    with pytest.raises(gs.GraphslimError, match="latency=0.7: 30 % less .* by 16 % .*macs"):
        quiet_enough(0.7, lambda: 0.16)
    numbers = iter([0.5, 0.03])
    assert quiet_enough(0.7, lambda: next(numbers)) == 0.03
    assert quiet_enough(1.0, lambda: 0.01) == 0.01, "there is nothing to be told from noise"


def test_within_the_noise_is_as_near_as_can_be_told() -> None:
    plan_for, measure_it, aims = plans_and_times(lambda share: share + 0.05)
    _, promise = reach(0.5, plan_for, measure_it, noise=0.06)
    assert promise.kept and aims == [0.5] and promise.as_dict()["noise"] == 0.06


def test_a_search_that_can_go_no_further_keeps_what_it_has() -> None:
    plan_for, measure_it, _ = plans_and_times(lambda share: share + 0.2)

    def limited(share: float) -> Any:
        if share < 0.45:
            raise gs.GraphslimError("cannot be met")
        return plan_for(share)

    plan, promise = reach(0.5, limited, measure_it)
    assert plan.groups == (0.5,) and not promise.kept
    with pytest.raises(gs.GraphslimError, match="cannot be met"):
        reach(0.3, limited, measure_it)


@pytest.mark.parametrize("asked", [0, -1, 1.5, float("nan")])
def test_impossible_shares(asked: float) -> None:
    with pytest.raises(gs.GraphslimError, match="latency: must be above 0"):
        reach(asked, *plans_and_times(lambda share: share)[:2])


# ---------------------------------------------------------------- for real


@pytest.mark.tf
def test_tensorflow_runs_every_layer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    table = latency.table_of(net(), Setting())
    assert sorted(table.rows) == ["deep", "expand", "out", "project"]
    assert table.rows["deep"].reads == (8, 16) and table.rows["project"].makes == (8,)
    (path,) = (tmp_path / "graphslim").rglob("*.json")
    assert stat.S_ISREG(path.stat().st_mode)


@pytest.mark.tf
def test_what_a_layer_computes_is_not_folded_away() -> None:
    """A layer of constants would be computed when it is loaded, and take no time at all."""
    graph = net()
    channels = gs.analyse(graph)
    layer = layers_of(graph, channels)[0]
    lab = cut_out(channels, layer, [np.zeros(channels.count, bool)], 1)
    assert lab is not None
    kinds = {node.op for node in lab.graph}
    assert "PlaceholderWithDefault" in kinds
    with latency.runtime.Session(lab.graph) as session:
        first = session.run({}, [lab.targets[0][-1]])[0]
        given = {name: value for name, value in _stand_ins(lab.graph).items()}
        second = session.run(given, [lab.targets[0][-1]])[0]
    assert first.shape == (1, 8, 8, 16) and not np.allclose(first, second)


def _stand_ins(graph: gs.Graph) -> Dict[str, np.ndarray]:
    """Zeros for what stands in for a layer's input."""
    return {
        node.name: np.zeros(node.attrs["shape"].dims, np.float32)
        for node in graph
        if node.op == "PlaceholderWithDefault"
    }
