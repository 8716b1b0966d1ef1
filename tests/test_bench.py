"""Timing two graphs in turns: the statistics and the order with a fake clock, the rest for real."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
import rich.console
from tiny import tiny

import graphslim as gs
from graphslim import runtime
from graphslim.cli import main
from graphslim.cli.bench import gain, print_bench
from graphslim.cli.console import Console, bar, tell_waiting
from graphslim.measure import bench as benching
from graphslim.measure.bench import Bench, Spread, bench, cpu_name, first_run, spread, take_turns
from graphslim.support.progress import silent

TWO = """
x = input ?,6,6,3
w = f32[1,1,3,4]{random 1}
y = Conv2D(x, w)
out = Relu(y)
"""
NCHW = """
x = input 1,3,6,6
w = f32[1,1,3,4]{random 1}
y = Conv2D(x, w) data_format="NCHW"
out = Relu(y)
"""


class Clock:
    """Stands still but for what the actions take, 1, 2, ... seconds by their number."""

    def __init__(self) -> None:
        self.now, self.calls = 0.0, []  # type: float, List[int]

    def __call__(self) -> float:
        return self.now

    def action(self, number: int, slower: float = 0.0) -> Callable[[], None]:
        def act() -> None:
            self.calls.append(number)
            self.now += number + slower * len(self.calls)

        return act


def test_median_and_quartiles() -> None:
    assert spread([4, 1, 3, 2, 5]) == Spread(3, 2, 4)
    assert spread([7]) == Spread(7, 7, 7)
    assert spread([1, 2]) == Spread(1.5, 1.25, 1.75)


def test_one_slow_run_moves_no_median() -> None:
    assert spread([1, 1, 1, 1, 100]).median == 1


def test_turns_alternate_and_reverse() -> None:
    clock = Clock()
    seconds = take_turns([clock.action(1), clock.action(2)], 3, 1, clock=clock)
    assert clock.calls == [1, 2, 2, 1, 1, 2, 2, 1]
    assert seconds.tolist() == [[1, 2]] * 3, "the warm-up must not count"


def test_drift_hits_both_alike() -> None:
    """A machine that slows down steadily must not favour the one that goes first."""
    clock = Clock()
    seconds = take_turns([clock.action(1, 0.1), clock.action(1, 0.1)], 20, clock=clock)
    first, second = seconds.mean(axis=0)
    assert first == pytest.approx(second), "the order of the turns favours one"


def test_progress_counts_rounds() -> None:
    said: List[Any] = []
    take_turns([lambda: None], 2, 1, progress=lambda *one: said.append(one[:2]))
    assert said == [(1, 3), (2, 3), (3, 3)]


class Runner:
    """Stands in for TensorFlow: a run takes as many seconds as the graph has nodes."""

    clock = Clock()

    def __init__(self, graph: gs.Graph, threads: int = 1, optimize: bool = True) -> None:
        assert optimize, "bench has to let TensorFlow optimise, as it would run"
        self.graph, self.threads = graph, threads

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def run(self, feeds: Dict[str, np.ndarray]) -> None:
        assert {name: len(value) for name, value in feeds.items()} == {"x": 2}

    def prepare(self, feeds: Dict[str, np.ndarray], fetches: List[str]) -> Callable[[], None]:
        assert fetches == ["out:0"]
        return self.clock.action(len(self.graph))


def test_bench_with_a_fake_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "Session", Runner)
    monkeypatch.setattr(runtime, "version", lambda: "1.2.3")
    monkeypatch.setattr(runtime, "run_as_shipped", lambda: None)
    monkeypatch.setattr(benching.time, "perf_counter", Runner.clock)
    # The default clock was bound when the function was made.
    monkeypatch.setitem(take_turns.__kwdefaults__, "clock", Runner.clock)
    larger, smaller = tiny(TWO), tiny("x = input ?,6,6,3\nout = Relu(x)")
    found = bench(larger, smaller, threads=3, batch=2, runs=4, warmup=1)
    assert found.first == Spread(4000, 4000, 4000)
    assert found.second == Spread(2000, 2000, 2000)
    assert found.ratio == Spread(0.5, 0.5, 0.5)
    assert (found.runs, found.warmup, found.threads, found.batch) == (4, 1, 3, 2)
    assert found.tensorflow == "1.2.3" and not found.nhwc_twins
    assert json.loads(json.dumps(found.as_dict()))["ratio"]["median"] == 0.5


@pytest.mark.parametrize("option, number", [("runs", 0), ("warmup", -1)])
def test_senseless_numbers_are_refused(option: str, number: int) -> None:
    graph = tiny(TWO)
    with pytest.raises(gs.GraphslimError, match=f"{option}: must be"):
        bench(graph, graph, **{option: number})


def test_a_fixed_batch_is_no_other() -> None:
    fixed = tiny(TWO.replace("?,6,6,3", "1,6,6,3"))
    with pytest.raises(gs.GraphslimError, match="its batch is fixed at 1"):
        bench(fixed, fixed, batch=4)


def test_a_batch_is_that_of_the_input_that_leaves_it_open() -> None:
    graph = tiny("table = input 100,4\nx = input ?,4\ny = Relu(x)\nout = Relu(table)")
    feeds, count = first_run(graph, None, 0, 4)
    assert count == 4 and [len(feeds[name]) for name in ("table", "x")] == [100, 4]
    assert first_run(graph, None, 0, 32)[1] == 32
    data = {"table": np.zeros((100, 4)), "x": np.zeros((3, 4))}
    assert first_run(graph, data, 0, 3)[1] == 3
    with pytest.raises(gs.GraphslimError, match="holds 3 examples, fewer than the 4 of a run"):
        first_run(graph, data, 0, 4)


def test_two_batches_do_not_compare() -> None:
    one, three = [tiny(TWO.replace("?", size)) for size in ("1", "3")]
    with pytest.raises(gs.GraphslimError, match="takes 3 examples at once"):
        bench(one, three)


def test_the_processor_has_a_name() -> None:
    assert cpu_name().strip()


# ---------------------------------------------------------------- what is shown


FOUND = Bench(
    ("a.pb", "b.pb"),
    Spread(10, 9, 11),
    Spread(5, 4.5, 5.5),
    Spread(0.5, 0.45, 0.55),
    *(50, 5, 1, 1, "1.15.0", False, "Some CPU", True),
)


def test_what_is_printed(capsys: pytest.CaptureFixture) -> None:
    print_bench(Console(), FOUND)
    text = capsys.readouterr().out
    for words in ("10.00 ms", "9.00 to 11.00 ms", "2.00 times as fast", "1 thread,", "NHWC twins"):
        assert words in text
    assert "TensorFlow 1.15.0 on Some CPU" in text


def test_gain_in_words() -> None:
    assert "no difference beyond the spread" in gain(Spread(0.98, 0.9, 1.1))
    assert "1.25 times as fast" in gain(Spread(0.8, 0.7, 0.9))
    assert gain(Spread(1.3, 1.2, 1.4)).endswith("slower")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(is_one: bool = True) -> Console:
    console = Console()
    console.file = Terminal() if is_one else io.StringIO()
    console._rich = rich.console.Console(force_terminal=is_one, width=80)
    return console


def drawn(console: Console, seconds: float, quiet: bool = False) -> str:
    clock = iter([0.0] + [seconds] * 10)
    with bar(console, quiet, lambda: next(clock)) as tick:
        tick(1, 3, "first")
        tick(2, 3, "second")
        tick(3, 3, "third")
    text: str = console.file.getvalue()
    return text


def test_a_bar_appears_after_a_second() -> None:
    assert "first" in drawn(terminal(), 1.5)
    assert drawn(terminal(), 0.5) == ""


def test_no_bar_in_a_pipe_or_when_quiet() -> None:
    assert drawn(terminal(False), 9) == ""
    assert drawn(terminal(), 9, quiet=True) == ""
    assert silent(1, 2, "x") is None


def test_what_takes_long_is_shown_at_once() -> None:
    console = terminal()
    with bar(console, clock=lambda: 0.0):
        tell_waiting("loading TensorFlow")
        assert "loading TensorFlow" in console.file.getvalue()
    told = console.file.getvalue()
    tell_waiting("where no bar is")
    with bar(console, quiet=True):
        tell_waiting("where none may be")
    assert console.file.getvalue() == told


# ---------------------------------------------------------------- for real


def run(capsys: pytest.CaptureFixture, *args: str) -> Any:
    with pytest.raises(SystemExit) as stopped:
        main(list(args))
    said = capsys.readouterr()
    return stopped.value.code, said.out, said.err


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    gs.save(tiny(TWO), tmp_path / "a.pb")
    gs.save(tiny(NCHW), tmp_path / "nchw.pb")
    return tmp_path


@pytest.mark.tf
def test_the_command(saved: Path, capsys: pytest.CaptureFixture) -> None:
    path = str(saved / "a.pb")
    few = ("--runs", "3", "--warmup", "1", "--threads", "2", "--batch", "2")
    status, out, err = run(capsys, "bench", path, path, "--json", *few)
    tree = json.loads(out)
    assert status == 0 and not err
    assert (tree["runs"], tree["warmup"], tree["threads"], tree["batch"]) == (3, 1, 2, 2)
    for key in ("first", "second", "ratio"):
        assert 0 < tree[key]["low"] <= tree[key]["median"] <= tree[key]["high"]
    assert tree["tensorflow"] == runtime.version() and tree["nhwc_twins"] is False


@pytest.mark.tf
def test_kernels_are_timed_as_shipped() -> None:
    """Elsewhere oneDNN is turned off, which would be timing what nobody runs; nothing is said."""
    code = (
        "import os; from graphslim import runtime; runtime.run_as_shipped(); runtime.tensorflow();"
        "print(os.environ.get('TF_ENABLE_ONEDNN_OPTS'), runtime.without_onednn())"
    )
    env = {key: value for key, value in os.environ.items() if "ONEDNN" not in key}
    done = subprocess.run([sys.executable, "-c", code], env=env, stdout=-1, stderr=-1, check=True)
    assert done.stdout.decode().split() == ["None", "False"]
    assert not done.stderr, done.stderr.decode()


@pytest.mark.tf
def test_nchw_runs_as_a_twin(saved: Path, capsys: pytest.CaptureFixture) -> None:
    path = str(saved / "nchw.pb")
    status, out, _ = run(capsys, "bench", path, path, "--runs", "2")
    assert status == 0 and "Run as NHWC twins" in out


@pytest.mark.tf
def test_a_graph_that_does_not_run(saved: Path, capsys: pytest.CaptureFixture) -> None:
    odd = gs.Graph()
    odd.add(gs.Node("x", "Placeholder", gs.Attrs({"dtype": gs.DType.float32})))
    odd.add(gs.Node("out", "MysteryOp", gs.Attrs({})), [gs.Port("x")])
    odd.inputs, odd.outputs = ["x"], [gs.Port("out")]
    odd.input_shapes = {"x": (1, 2)}
    gs.save(odd, saved / "odd.pb")
    path = str(saved / "odd.pb")
    status, out, err = run(capsys, "bench", path, path, "--input-shape", "x=1,2")
    assert (
        status == 2 and not out and len(err.splitlines()) == 1 and "does not know MysteryOp" in err
    )
