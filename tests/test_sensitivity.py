"""Sensitivity: losses as they are, on images that stay apart, by whatever measures them."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from command import Run
from fake_jobs import Lossy, fake_job, knows_nothing  # noqa: F401
from three_layers import images, three_layers
from tiny import tiny

import graphslim as gs
from graphslim.errors import GraphslimError, PlanError, VerifyError
from graphslim.planner import cautions_of
from graphslim.plans.curves import Curves, read_curves
from graphslim.scoring import find_criterion
from graphslim.support import workers as sharing
from graphslim.support.workers import Job, Workers, check_workers
from graphslim.sweep import Evaluator
from graphslim.sweep import evaluate as evaluating
from graphslim.sweep import plan as planning

pytestmark = pytest.mark.tf

NET = three_layers(8, 6)
CLASSES = (
    NET
    + """
    axes = i32[2]{1 2}
    mean = Mean(y, axes)
    classes = Softmax(mean)
"""
)


def measured(graph: gs.Graph, **options: Any) -> Curves:
    given = {"criterion": "l1", "multiple_of": 1, "ratios": (0.25, 0.5), **options}
    return gs.sensitivity(graph, data={"x": images(64)}, **given)


def losses(curves: Curves) -> Dict[Any, float]:
    return {(loss.group, loss.removed): loss.loss for loss in curves.losses}


def test_a_loss_is_the_error_of_the_network_without_the_channels() -> None:
    graph = tiny(NET)
    curves = measured(graph)
    assert sorted(curve.removed.tolist() for curve in curves.by_group().values()) == [
        [0, 2, 3],
        [0, 2, 4],
    ]
    # 64 images, of which the gate has 16, tuning 8, and the losses are measured on the others.
    assert curves.about.images == 40
    learned, _, _ = evaluating.split(64, 0)
    for loss in curves.losses:
        plan = gs.plan(
            graph,
            criterion="l1",
            ratio=loss.removed / loss.channels,
            only=[loss.group],
            multiple_of=1,
        )
        change = gs.verify(graph, gs.apply(graph, plan), data={"x": images(64)[learned]}, batch=8)
        assert loss.loss == pytest.approx(change.outputs[0].error, rel=1e-4)


def other_on_the_gate() -> np.ndarray:
    """The images of `images(64)`, but for those of the gate, in which other channels answer."""
    changed, (_, _, judged) = images(64), evaluating.split(64, 0)
    changed[judged] = 9.0 * np.sign(images(64)[judged][..., ::-1])
    return changed


RUN = [name for name in sorted(gs.criteria()) if find_criterion(name).kind != "weights"]


@pytest.mark.parametrize("criterion", ["l1", *RUN])
def test_nothing_looks_at_the_gate_but_what_judges(criterion: str) -> None:
    graph, changed = tiny(NET), other_on_the_gate()
    options: Dict[str, Any] = {"criterion": criterion, "multiple_of": 1}
    data = [{"x": images(64)}, {"x": changed}]
    curves = [gs.sensitivity(graph, data=each, ratios=(0.25, 0.5), **options) for each in data]
    assert losses(curves[0]) == losses(curves[1])
    for wish in (
        {"allocate": curves[0], "ratio": 0.4},
        {"allocate": curves[0], "max_loss": 0.6},
    ):
        plans = [
            gs.plan(graph, data={"x": inputs}, **options, **wish)
            for inputs in (images(64), changed)
        ]
        assert plans[0].removed > 0
        assert [group.removed for group in plans[0].groups] == [
            group.removed for group in plans[1].groups
        ]
        assert plans[0].settings["loss"]["measured"] != plans[1].settings["loss"]["measured"]


def test_without_a_loss_to_tell_a_criterion_looks_at_all_images() -> None:
    graph = tiny(NET)
    plans = [
        gs.plan(graph, criterion="activation", ratio=0.5, multiple_of=1, data={"x": inputs})
        for inputs in (images(64), other_on_the_gate())
    ]
    scores = [[group.scores for group in plan.groups] for plan in plans]
    assert scores[0] != scores[1] and "kept_aside" not in plans[0].settings["data"]


def test_repaired_losses_are_smaller() -> None:
    plain, repaired = measured(tiny(NET)), measured(tiny(NET), repaired=True)
    assert repaired.about.repaired
    pairs = zip(losses(plain).values(), losses(repaired).values())
    assert all(after < before for before, after in pairs)


def test_metrics() -> None:
    graph = tiny(CLASSES)
    answers = gs.verify(graph, graph, data={"x": images(64)})
    assert answers.outputs[0].agreement == 1
    shares = losses(measured(graph, metric="agreement"))
    assert all(
        0 <= share < 1 and share * 40 == pytest.approx(round(share * 40), abs=1e-3)
        for share in shares.values()
    )
    labels = np.arange(64) % 5
    right = losses(measured(graph, metric="accuracy", labels=labels))
    assert all(
        abs(loss) * 40 == pytest.approx(round(abs(loss) * 40), abs=1e-3) for loss in right.values()
    )


def test_a_metric_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "import numpy as np\n"
        "def largest(original, candidate):\n"
        "    return float(np.abs(original['y'] - candidate['y']).max())\n"
        "def wrong(original, candidate):\n"
        "    return float('nan')\n"
        "def broken(original, candidate):\n"
        "    raise KeyError('none')\n"
        "def by_labels(outputs, labels):\n"
        "    return float(outputs['y'].shape[0] != labels.shape[0])\n"
    )
    curves = measured(tiny(NET), metric=f"{path}:largest")
    assert all(loss > 0 for loss in losses(curves).values())
    with pytest.raises(GraphslimError, match="wrong: gives nan, no finite number"):
        measured(tiny(NET), metric=f"{path}:wrong")
    with pytest.raises(GraphslimError, match="broken: the function raises KeyError: 'none'"):
        measured(tiny(NET), metric=f"{path}:broken")
    with pytest.raises(GraphslimError, match="there is no function 'none'"):
        measured(tiny(NET), metric=f"{path}:none")
    by_labels = measured(tiny(NET), metric=f"{path}:by_labels", labels=np.zeros(64))
    assert set(losses(by_labels).values()) == {0.0}


def test_outputs_whose_size_depends_on_the_input(tmp_path: Path) -> None:
    places = """
        above = Greater(x, zero)
        where = Where(above) T=bool
        order = i32[2]{1 0}
        columns = Transpose(where, order) T=int64
        output y
        output columns
    """
    graph = tiny(NET + "zero = f32[]{0}\n" + places)
    assert all(loss > 0 for loss in losses(measured(graph)).values())
    path = tmp_path / "mine.py"
    path.write_text("def none(original, candidate):\n    return 0.0\n")
    with pytest.raises(VerifyError, match="output columns: its size depends on the input"):
        measured(graph, metric=f"{path}:none")


@pytest.mark.parametrize(
    "options, told",
    [
        ({"metric": "speed"}, "no metric 'speed'"),
        ({"metric": "accuracy"}, "needs labels"),
        ({"labels": np.zeros(64)}, "the metric 'error' needs none"),
        ({"metric": "accuracy", "labels": np.zeros(3)}, "are 3, and the examples 64"),
        ({"metric": "agreement"}, r"no output is a decision \(softmax, ArgMax\)"),
        ({"metric": "iou"}, "no output is a picture of classes"),
        ({"ratios": (0.5, 1.5)}, "1.5 is no share between 0 and 1"),
        ({"executor": "many"}, "'many' is no number of processes"),
    ],
)
def test_what_cannot_be_measured_is_refused(options: Dict[str, Any], told: str) -> None:
    with pytest.raises(GraphslimError, match=told):
        measured(tiny(NET), **options)


def test_no_images_and_too_few(tmp_path: Path) -> None:
    with pytest.raises(GraphslimError, match="is needed to measure what the network loses"):
        gs.sensitivity(tiny(NET), data=None, criterion="l1")
    with pytest.raises(GraphslimError, match="holds 2 examples"):
        gs.sensitivity(tiny(NET), data={"x": images(2)}, criterion="l1")


# --- The file, and runs that end early.


def test_what_is_known_is_not_measured_again(tmp_path: Path, monkeypatch: Any) -> None:
    path, calls = str(tmp_path / "s.jsonl"), []  # type: str, List[Any]
    measure = Evaluator.measure

    def counted(self: Evaluator, group: str, removed: int) -> Any:
        calls.append((group, removed))
        return measure(self, group, removed)

    monkeypatch.setattr(Evaluator, "measure", counted)
    first = measured(tiny(NET), path=path)
    assert len(calls) == len(first.losses) == 4
    assert losses(measured(tiny(NET), path=path)) == losses(first) and len(calls) == 4
    more = measured(tiny(NET), path=path, ratios=(0.25, 0.5, 0.75))
    assert len(calls) == 6 == len(more.losses)
    with pytest.raises(PlanError, match="its criterion is 'l1', not 'l2'"):
        measured(tiny(NET), path=path, criterion="l2")


def test_a_group_that_loses_too_much_is_not_followed() -> None:
    every = measured(tiny(NET), ratios=(0.25, 0.5, 0.75))
    limit = sorted(losses(every).values())[0]
    few = measured(tiny(NET), ratios=(0.25, 0.5, 0.75), stop_at=limit)
    assert len(few.losses) < len(every.losses)
    assert losses(few).items() <= losses(every).items()


KILLED = """
import os, signal, sys, time
sys.path[:0] = {paths!r}
import graphslim as gs
from graphslim.runtime import tensorflow
tensorflow()
for line in sys.stdin:
    size, seconds = map(float, line.split())
    # A copy of this process, in which TensorFlow is loaded and has run nothing yet.
    child = os.fork()
    if not child:
        graph = gs.load({model!r})
        gs.sensitivity(graph, data={data!r}, criterion="l1", multiple_of=1, path={path!r})
        os._exit(0)
    ended, status = 0, 0
    while not ended:
        if os.path.exists({path!r}) and os.path.getsize({path!r}) >= size:
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)
            size = float("inf")
        time.sleep(0.001)
        ended, status = os.waitpid(child, os.WNOHANG)
    print(status, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_that_is_killed_ten_times_ends_with_the_same_file(tmp_path: Path) -> None:
    """Each time a while after its file has grown by another tenth, whatever the machine."""
    graph, path = tiny(NET), str(tmp_path / "s.jsonl")
    gs.save(graph, str(tmp_path / "model.pb"))
    np.save(str(tmp_path / "data.npy"), images(64))
    loaded = gs.load(str(tmp_path / "model.pb"))
    options: Any = {"data": str(tmp_path / "data.npy"), "criterion": "l1", "multiple_of": 1}
    whole = gs.sensitivity(loaded, path=str(tmp_path / "whole.jsonl"), **options)
    tenth = os.path.getsize(str(tmp_path / "whole.jsonl")) / 11
    script = KILLED.format(
        paths=[str(Path(gs.__file__).parents[1])],
        model=str(tmp_path / "model.pb"),
        data=options["data"],
        path=path,
    )
    rng, killed, status = np.random.RandomState(0), 0, -1
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        universal_newlines=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        for turn in range(11):
            size = tenth * turn if turn < 10 else float("inf")
            process.stdin.write(f"{size} {rng.uniform(0, 0.02)}\n")
            process.stdin.flush()
            status = int(process.stdout.readline())
            killed += status == signal.SIGKILL
            if not status:
                break
        process.stdin.close()
    assert not status and killed
    resumed = read_curves(path)
    assert resumed.about == whole.about and losses(resumed) == losses(whole)
    lines = Path(path).read_text().splitlines()
    assert len(lines) == 1 + len(whole.losses)


# --- Other processes.


@pytest.mark.usefixtures("knows_nothing")
def test_any_executor_measures_and_is_told_the_job_once() -> None:
    executor = Lossy(0)
    curves = measured(tiny(NET), executor=executor)
    assert losses(curves) == losses(measured(tiny(NET)))
    assert sum(job is not None for _, job, _ in executor.tasks) == 1
    assert len(executor.tasks) == len(curves.losses) + 2


@pytest.mark.usefixtures("knows_nothing")
def test_a_lost_measurement_is_tried_again_three_times() -> None:
    assert losses(measured(tiny(NET), executor=Lossy(2))) == losses(measured(tiny(NET)))
    with pytest.raises(GraphslimError, match="its process was lost 3 times"):
        measured(tiny(NET), executor=Lossy(100))


def test_an_error_of_a_measurement_is_told_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def wrong(original, candidate):\n    return None\n")
    with pytest.raises(GraphslimError, match="wrong: gives None, no finite number"):
        measured(tiny(NET), executor=Lossy(0), metric=f"{path}:wrong")


def test_two_processes_write_the_same_file(tmp_path: Path) -> None:
    # By a criterion whose scores, too, are measured by the processes.
    alone = measured(tiny(NET), path=str(tmp_path / "a.jsonl"), criterion="taylor")
    shared = measured(tiny(NET), path=str(tmp_path / "b.jsonl"), criterion="taylor", executor=2)
    assert losses(shared) == losses(alone) and shared.about == alone.about


@pytest.mark.usefixtures("knows_nothing")
@pytest.mark.parametrize("criterion", ["taylor", "apoz"])
def test_scores_are_the_same_whoever_does_which_part(criterion: str) -> None:
    executor, scores = Lossy(1), []
    for by in (None, executor):
        plan = gs.plan(
            tiny(NET),
            criterion=criterion,
            ratio=0.5,
            data={"x": images(10)},
            batch=3,
            multiple_of=1,
            executor=by,
        )
        scores.append([(group.id, group.scores) for group in plan.groups])
    assert scores[0] == scores[1]
    # Four runs, twice where there are gradients; one part was lost, two were not told the job.
    assert len(executor.tasks) >= (8 if criterion == "taylor" else 4) + 1


CHAINS = [[(f"group{number}", removed) for removed in (1, 2, 3)] for number in range(6)]


def shared_out(job: Job, by: Any) -> List[List[float]]:
    """What the tasks of `CHAINS` give, chain by chain."""
    results: List[List[float]] = [[] for _ in CHAINS]

    def on_result(chain: int, result: float) -> bool:
        results[chain].append(result)
        return True

    if isinstance(by, Workers):
        by.run(job, CHAINS, on_result, str)
    else:
        sharing.run_here(job.opened(), CHAINS, on_result)
    assert all(len(chain) == 3 for chain in results)
    return results


def test_a_pool_that_loses_a_process_is_made_again() -> None:
    job = fake_job(0.05)
    with Workers(2) as workers:
        workers.executor.submit(os._exit, 1)
        assert shared_out(job, workers) == shared_out(fake_job(), None)


def local_cluster(folder: Path) -> Any:
    """A real scheduler with two processes on this machine, which keep their files in a folder."""
    return pytest.importorskip("distributed").LocalCluster(
        host="127.0.0.1",
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
        local_directory=str(folder),
    )


def test_a_cluster_that_loses_a_worker_measures_the_same(tmp_path: Path) -> None:
    with local_cluster(tmp_path) as cluster:
        address = cluster.scheduler_address.replace("tcp://", "dask://")
        nanny = next(iter(cluster.workers.values()))
        timer = threading.Timer(0.25, os.kill, (nanny.pid, signal.SIGKILL))
        with Workers(address) as workers:
            timer.start()
            assert shared_out(fake_job(0.1), workers) == shared_out(fake_job(), None)
        timer.join()


@pytest.mark.exhaustive
def test_a_cluster_that_loses_a_worker_writes_the_same_curves(tmp_path: Path) -> None:
    alone = measured(tiny(NET), ratios=(0.25, 0.5, 0.75))
    with local_cluster(tmp_path) as cluster:
        address = cluster.scheduler_address.replace("tcp://", "dask://")
        killed: List[int] = []

        def kill_once(done: int, total: int, step: str) -> None:
            if done == 1 and not killed:
                nanny = next(iter(cluster.workers.values()))
                killed.append(nanny.pid)
                os.kill(nanny.pid, signal.SIGKILL)

        curves = measured(tiny(NET), ratios=(0.25, 0.5, 0.75), executor=address, progress=kill_once)
    assert killed and losses(curves) == losses(alone)


def test_a_scheduler_that_does_not_answer(monkeypatch: Any) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(sharing, "PATIENCE", 1)
    with pytest.raises(GraphslimError, match="no scheduler answers"):
        measured(tiny(NET), executor="dask://127.0.0.1:9")


def test_workers_by_text() -> None:
    for good in (None, "1", "16", "dask://host:8786", Lossy(0)):
        check_workers(good)
    for bad in ("0", "-1", "two", "", "http://host"):
        with pytest.raises(GraphslimError):
            check_workers(bad)


# --- Plans by it.


@pytest.mark.parametrize("limit", [0.2, 0.5])
def test_a_plan_within_a_loss(limit: float) -> None:
    graph = tiny(NET)
    plan = gs.plan(graph, max_loss=limit, criterion="l1", multiple_of=1, data={"x": images(200)})
    loss = plan.settings["loss"]
    assert plan.removed and loss["chosen_by"] <= limit and loss["images"] == 50
    assert plan.achieved is not None and plan.achieved.what == "max_loss"
    gate = images(200)[evaluating.split(200, 0)[2]]
    change = gs.verify(graph, gs.apply(graph, plan), data={"x": gate}, batch=50)
    assert loss["measured"] == pytest.approx(change.outputs[0].error, rel=1e-3)
    wider = gs.plan(
        graph, max_loss=limit / 2, criterion="l1", multiple_of=1, data={"x": images(200)}
    )
    assert wider.removed <= plan.removed


def test_a_loss_that_nothing_is_within() -> None:
    plan = gs.plan(tiny(NET), max_loss=1e-6, criterion="l1", multiple_of=1, data={"x": images(64)})
    assert not plan.removed and plan.achieved is not None
    assert plan.achieved.reason == "every plan that was tried loses more"


def test_a_plan_within_a_loss_needs_images() -> None:
    with pytest.raises(GraphslimError, match="is needed to measure what the network loses"):
        gs.plan(tiny(NET), max_loss=0.1, criterion="l1")


def test_the_loss_of_a_plan_by_curves_is_measured() -> None:
    graph = tiny(NET)
    curves = measured(graph, ratios=(0.125, 0.25, 0.5, 0.75))
    plan = gs.plan(graph, allocate=curves, macs=0.6, multiple_of=1, data={"x": images(64)})
    loss = plan.settings["loss"]
    assert loss["predicted"] / 2 < loss["measured"] < 2 * loss["predicted"]


def test_a_prediction_that_does_not_hold_is_corrected(monkeypatch: Any) -> None:
    """By curves that make little of what a group loses, a plan is made as by those measured."""
    graph, given = tiny(three_layers(16, 12)), {"multiple_of": 1, "data": {"x": images(64)}}
    curves = measured(graph, ratios=(0.25, 0.5, 0.75))
    wrong = curves.scaled({"next": 0.15})
    right, corrected = [
        gs.plan(graph, allocate=each, macs=0.6, **given) for each in (curves, wrong)
    ]
    monkeypatch.setattr(planning, "CORRECTIONS", 1)
    uncorrected = gs.plan(graph, allocate=wrong, macs=0.6, **given)
    losses = [plan.settings["loss"]["chosen_by"] for plan in (right, corrected, uncorrected)]
    assert losses[0] == losses[1] < losses[2]
    assert corrected.groups == right.groups


@pytest.mark.usefixtures("knows_nothing")
def test_corrections_are_measured_by_others_too() -> None:
    graph, executor = tiny(NET), Lossy(0)
    wrong = measured(graph).scaled({"next": 0.15})
    plans = [
        gs.plan(graph, allocate=wrong, macs=0.8, multiple_of=1, data={"x": images(64)}, executor=by)
        for by in (None, executor)
    ]
    assert plans[0].to_json() == plans[1].to_json() and executor.tasks


def test_curves_of_other_images_are_told() -> None:
    graph = tiny(NET)
    curves = measured(graph)
    for count, told in ((64, False), (80, True)):
        data = {"x": images(count)}
        plan = gs.plan(graph, allocate=curves, macs=0.8, multiple_of=1, data=data)
        texts = cautions_of(graph, plan)
        assert any("measured on other images" in text for text in texts) == told


def test_plans_by_labels() -> None:
    graph, labels = tiny(CLASSES), np.arange(64) % 5
    given: Dict[str, Any] = {"data": {"x": images(64)}, "labels": labels, "multiple_of": 1}
    plan = gs.plan(graph, max_loss=0.2, metric="accuracy", criterion="l1", **given)
    assert plan.settings["loss"]["metric"] == "accuracy"
    assert plan.settings["loss"]["chosen_by"] <= 0.2
    curves = measured(graph, metric="accuracy", labels=labels)
    plan = gs.plan(graph, allocate=curves, max_loss=0.2, **given)
    assert plan.settings["loss"]["metric"] == "accuracy"
    without = gs.plan(graph, allocate=curves, macs=0.8, multiple_of=1, data={"x": images(64)})
    assert "measured" not in without.settings["loss"]
    with pytest.raises(PlanError, match="give labels too"):
        gs.plan(graph, allocate=curves, max_loss=0.2, data={"x": images(64)})
    with pytest.raises(PlanError, match="leave metric out, or measure by error"):
        gs.plan(graph, allocate=curves, max_loss=0.2, metric="error", **given)


def test_curves_by_inputs_need_these_inputs_again() -> None:
    graph = tiny(NET)
    curves = measured(graph, criterion="activation")
    told = "give those that they were measured on with --data"
    plan = gs.plan(graph, allocate=curves, macs=0.7, multiple_of=1)
    assert any(told in text for text in cautions_of(graph, plan))
    plan = gs.plan(graph, allocate=curves, macs=0.7, multiple_of=1, data={"x": images(64)})
    assert not any(told in text for text in cautions_of(graph, plan))


# --- The command.


@pytest.fixture
def run(tmp_path: Path, capsys: Any, monkeypatch: Any) -> Run:
    """The command line, in a folder that holds a model and inputs."""
    run = Run(tmp_path, capsys, monkeypatch)
    gs.save(tiny(NET), "model.pb")
    np.save("data.npy", images(64))
    return run


MEASURE = "sensitivity model.pb --data data.npy --criterion l1 --multiple-of 1 --ratios 0.25,0.5"


def test_the_command_measures_shows_and_draws(run: Run) -> None:
    told = run(f"{MEASURE} -o s.jsonl --report page.html").out
    assert "on 40 images, channels go by l1" in told and "4 measurements of 2 groups" in told
    assert "Written to s.jsonl" in told
    again = run("sensitivity s.jsonl --show").out
    assert again in told
    tree = run("sensitivity s.jsonl --show --json").json
    assert [group["removed"] for group in tree["groups"]] == [[2, 4], [2, 3]]
    page = Path("page.html").read_text()
    assert page.count("<polyline") == 2 and "model.pb: what its channels are worth" in page
    run("prune model.pb -o slim.pb --allocate s.jsonl --macs 0.7 --multiple-of 1 --plan-out p.json")
    run("sensitivity s.jsonl --show --report page.html --plan p.json")
    assert "<circle" in Path("page.html").read_text()


def test_no_input_is_written_over(run: Run) -> None:
    run(f"{MEASURE} -o s.jsonl")
    shown = Path("s.jsonl").read_text()
    for name in ("s.html", "p.json"):
        Path(name).write_text(shown)
    for line in (
        "s.html --show --report s.html",
        "s.jsonl --merge -o p.json --plan p.json",
        "s.jsonl --show --report s.jsonl",
    ):
        told = run(f"sensitivity {line}", status=2).err
        assert re.search(r"is the input itself \(choose another name\)$", told), told
    assert {Path(name).read_text() for name in ("s.jsonl", "s.html", "p.json")} == {shown}
    told = run("sensitivity s.jsonl --show --report page.txt", status=2).err
    assert ".txt is not how a page ends" in told


def test_a_plan_is_read_before_anything_is_measured(run: Run) -> None:
    before = run.files()
    told = run(f"{MEASURE} -o s.jsonl --report page.html --plan none.json", status=2).err
    assert "none.json: no such file" in told and run.files() == before


def test_files_are_joined(run: Run) -> None:
    run(f"{MEASURE} -o a.jsonl --only conv*")
    run(f"{MEASURE} -o b.jsonl --exclude conv*")
    run("sensitivity a.jsonl b.jsonl --merge -o c.jsonl")
    whole = run(f"{MEASURE} -o d.jsonl --json").json
    joined = json.loads(run("sensitivity c.jsonl --show --json").out)
    assert {group["id"]: group["losses"] for group in joined["groups"]} == {
        group["id"]: group["losses"] for group in whole["groups"]
    }


def test_prune_within_a_loss_says_what_was_measured(run: Run) -> None:
    told = run("prune model.pb -o slim.pb --max-loss 0.3 --multiple-of 1 --data data.npy")
    assert "max loss: asked for 0.3" in told.out


@pytest.mark.parametrize(
    "line, told",
    [
        (f"{MEASURE}", "-o: is missing"),
        (f"{MEASURE} -o data.npy", "is the input itself"),
        (f"{MEASURE} -o model.pb", "is the input itself"),
        (f"{MEASURE} -o s.jsonl --metric speed", "no metric 'speed'"),
        (f"{MEASURE} -o s.jsonl --workers none", "'none' is no number of processes"),
        (f"{MEASURE} -o s.jsonl --ratios a,b", "is no list of shares"),
        ("sensitivity model.pb --data none.npy -o s.jsonl --ratios 2", "2.0 is no share between"),
        (f"{MEASURE} -o s.jsonl --by group --scope blocks", "excludes --scope blocks"),
        ("prune model.pb -o s.pb --allocate p.json --macs 0.5", "holds a plan, and no curves"),
        ("prune model.pb -o s.pb --criterion l1 --macs 0.9 --metric iou", "no loss is measured"),
        ("plan model.pb -o q.json --max-loss 0.1 --workers none", "no number of processes"),
        ("sensitivity model.pb --show", "not a text file"),
        ("sensitivity model.pb data.npy -o s.jsonl", "2 files are given"),
        ("sensitivity model.pb --show --merge -o s.jsonl", "excludes --show"),
        ("sensitivity model.pb -o s.jsonl", "is needed to measure what the network loses"),
        ("prune model.pb -o s.pb --allocate s.jsonl --macs 0.5", "no such file"),
    ],
)
def test_what_the_command_refuses(run: Run, line: str, told: str) -> None:
    if "p.json" in line:
        plan = gs.plan(tiny(NET), criterion="l1", ratio=0.3, multiple_of=1)
        Path("p.json").write_text(plan.to_json())
    before = run.files()
    assert told in run(line, status=2).err
    assert run.files() == before
