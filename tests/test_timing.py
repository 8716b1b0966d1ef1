"""Times in the runtime that a network is for: what is converted, what is measured, what is said."""

from __future__ import annotations

import contextlib
import io
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import pytest
from rich.console import Console
from tiny import tiny

import graphslim as gs
from graphslim import planner
from graphslim.analysis.cost import cost
from graphslim.cli.delivering import Delivering, print_gain
from graphslim.delivery import timing
from graphslim.delivery.converter import Converter
from graphslim.delivery.timing import Workshop, part_of, require_place
from graphslim.delivery.told import gain
from graphslim.engines import installed
from graphslim.errors import RuntimeUnavailable
from graphslim.measure.bench import Spread
from graphslim.measure.latency import Setting, Timing
from graphslim.measure.opened import with_batch
from graphslim.measure.timed_layers import cut_out, layers_of
from graphslim.measure.timings import Timed, Timings

NET = """
    x = input ?,8,8,3
    w = f32[3,3,3,32]{random 1}
    conv = Conv2D(x, w)
    relu = Relu(conv)
    v = f32[1,1,32,5]{random 2}
    y = Conv2D(relu, v)
"""


def timings(ratio: Spread) -> Timings:
    """An original of 2 ms, and a result that takes so much of its time."""
    models = [
        Timed(name, "ort", "ONNX Runtime 1.2", Spread(ms, ms, ms), share, 100)
        for name, ms, share in (
            ("original", 2.0, Spread(1.0, 1.0, 1.0)),
            ("result", 2.0 * ratio.median, ratio),
        )
    ]
    return Timings(tuple(models), 10, 1, 1, 1, "a processor", ())


def test_an_open_batch_is_closed_and_nothing_else() -> None:
    graph = tiny(NET)
    fixed = with_batch(graph, 4)
    assert gs.analyse(fixed).fact(gs.Port("y")).shape == (4, 8, 8, 5)
    assert gs.analyse(graph).fact(gs.Port("y")).shape == (None, 8, 8, 5)
    assert with_batch(fixed, 2) is fixed


def test_a_layer_alone_reads_inputs_and_no_constants_in_their_place() -> None:
    graph = tiny(NET)
    channels = gs.analyse(graph)
    layer = layers_of(graph, channels)[1]
    gone = np.zeros((2, channels.count), bool)
    gone[1, layer.reads[:16]] = True
    lab = cut_out(channels, layer, list(gone), 1)
    assert lab is not None
    for names, width in zip(lab.targets, (32, 16)):
        part = part_of(lab.graph, names)
        (name,) = part.inputs
        assert gs.analyse(part).fact(gs.Port(name)).shape == (1, 8, 8, width)
        assert part[name].op == "Placeholder" and [port.node for port in part.outputs] == names


class Counting:
    """Stands in for a workshop: a network takes as long as it has multiply-accumulates."""

    asked: List[Tuple[str, int]] = []

    def __init__(self, target: str, threads: int = 1) -> None:
        self.asked.append((target, threads))

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def timing(self) -> Timing:
        def targets(
            graph: gs.Graph, names: Sequence[Sequence[str]], setting: Setting
        ) -> Optional[List[float]]:
            return [float(cost(part_of(graph, each)).macs or 0) for each in names]

        class Whole:
            def __init__(self, graph: gs.Graph, setting: Setting) -> None:
                self.ms = float(cost(graph).macs or 0)

            def __enter__(self) -> Any:
                return lambda: self.ms

            def __exit__(self, *error: object) -> None:
                pass

        return Timing(("counting",), targets, Whole)

    def times(self, graphs: Sequence[gs.Graph], **options: Any) -> Timings:
        first, second = [float(cost(graph).macs or 0) for graph in graphs]
        return timings(Spread(second / first, second / first, second / first))


def test_latency_is_measured_in_the_runtime_that_is_named(monkeypatch: Any, tmp_path: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(planner, "Workshop", Counting)
    monkeypatch.setattr(planner, "require_place", lambda target: None)
    monkeypatch.setattr(planner, "run_as_shipped", lambda: None)
    plan = gs.plan(tiny(NET), criterion="l1", latency=0.5, runtime="ort", threads=2)
    assert Counting.asked == [("ort", 2)]
    assert plan.achieved is not None and plan.achieved.achieved == pytest.approx(0.5, abs=0.02)
    assert plan.removed == 16 and plan.settings["runtime"] == "ort"


def test_a_runtime_that_is_not_there_is_named_with_what_installs_it(monkeypatch: Any) -> None:
    monkeypatch.setattr(timing, "installed", lambda: ("tf",))
    with pytest.raises(
        RuntimeUnavailable, match="runtime ort: ONNX Runtime .*pip install onnxruntime"
    ):
        require_place("ort")
    with pytest.raises(RuntimeUnavailable, match="OpenVINO is not installed"):
        gs.plan(tiny(NET), criterion="l1", latency=0.5, runtime="openvino")


@pytest.mark.tf
@pytest.mark.skipif("ort" not in installed(), reason="onnxruntime is not installed")
def test_networks_are_timed_where_they_are_delivered(
    monkeypatch: pytest.MonkeyPatch, converter: Converter
) -> None:
    pytest.importorskip("tf2onnx")
    monkeypatch.setattr(timing, "Converter", lambda: contextlib.nullcontext(converter))
    graph = tiny(NET)
    slim = gs.apply(graph, gs.plan(graph, criterion="l1", ratio=0.5, multiple_of=1))
    with Workshop("ort") as workshop:
        times = workshop.times([graph, slim], batch=2)
        own = workshop.timing()
    assert [model.runtime for model in times.models] == ["ort", "ort"] and times.batch == 2
    assert times.models[0].latency.median > 0 and "ONNX Runtime" in times.models[1].version
    assert own.runtime[0] == "ort" and "ONNX Runtime" in str(own.runtime[-1])


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (Spread(0.5, 0.45, 0.6), "In ONNX Runtime 1.2, 1 thread: 1 ms, and the original 2 ms"),
        (Spread(1.3, 1.2, 1.4), "Slower than the original. In ONNX Runtime 1.2, 1 thread: 2.6 "),
    ],
)
def test_a_result_that_is_slower_is_said_in_red(ratio: Spread, expected: str) -> None:
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=True, color_system="standard", width=400, highlight=False
    )
    print_gain(console, timings(ratio))
    told = out.getvalue()
    assert expected in told.replace("\x1b[1;31m", "")
    assert "beyond the spread" not in told
    assert ("\x1b[1;31m" in told) == (ratio.median > 1)


def test_times_that_tell_nothing_are_said_to() -> None:
    text, slower = gain(timings(Spread(0.4, 0.1, 3.4)))
    assert text.endswith("(the middle half: 0.1 to 3.4): no difference beyond the spread.")
    assert not slower


@pytest.mark.parametrize(
    ("output", "quantize", "expected"),
    [
        ("a.tflite", None, "tflite"),
        ("a.tflite", "int8", "tflite-int8"),
        ("a.tflite", "float16", "tflite"),
        ("a.onnx", None, "ort"),
        ("a.pb", None, None),
        ("a/", None, None),
    ],
)
def test_what_is_written_says_what_it_is_for(
    output: str, quantize: Optional[str], expected: Optional[str]
) -> None:
    options: Dict[str, Any] = dict(io="float", random_calibration=False, select_tf_ops=False)
    assert Delivering(quantize, **options).target(output) == expected
