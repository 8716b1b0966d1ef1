"""The loop of the users of `Pruning`, step by step against the method written down naively."""

from __future__ import annotations

import json
import os
import re
from typing import Any, List, NamedTuple

import naive_method as naive
import numpy as np
import pytest
from sessions import plain_config

import graphslim as gs
from graphslim.graphdef import parse
from graphslim.graphdef.meta_graph import read_meta
from graphslim.ir.families import VARIABLES

BLOCKS = naive.TRAINED
SCOPES = list(BLOCKS)
THRESHOLDS = [0.7, 0.55]


def read(*parts: Any) -> Any:
    with open(os.path.join(*map(str, parts)), encoding="utf-8") as file:
        return json.load(file)


def lines(*parts: Any) -> List[str]:
    with open(os.path.join(*map(str, parts)), encoding="utf-8") as file:
        return file.read().splitlines()


class Step(NamedTuple):
    """One turn of the loop: what stood before, what was chosen, pruned, retrained and measured."""

    threshold: float
    again: bool
    folder: str
    before: naive.Arrays
    filters: naive.Lists
    pruned: str
    retrained: str
    rate: float


class Run(NamedTuple):
    """The whole loop."""

    start: str
    pruning: Any
    steps: List[Step]


def weights_of(values: naive.Arrays) -> naive.Arrays:
    """The network's own variables, without slots, averages and counters."""
    return {
        key: array
        for key, array in values.items()
        if key.split("/")[-1] not in ("Adam", "Adam_1", "ExponentialMovingAverage")
        and key not in ("beta1_power", "beta2_power", "global_step")
    }


def retrain(prefix: str, folder: str, spoil: bool, filters: naive.Lists) -> None:
    """Trains as the users' script does; then brings some filters back, as live training would."""
    import trained

    from graphslim.runtime import write_checkpoint

    target = os.path.join(folder, "model.ckpt-7")
    trained.train_on(prefix, steps=1, to=target)
    values = trained.values(target)
    name = "block_0/"
    count = len(filters.get(name, [])) if spoil else min(1, len(filters.get(name, [])))
    for filter in filters.get(name, [])[:count]:
        for variable, axis in BLOCKS[name].convolutions:
            naive.at(values[variable], axis, filter)[...] += 0.25
    write_checkpoint(target, values)


@pytest.fixture(scope="module", params=["ref", "resource"])
def run(request: Any, tmp_path_factory: Any) -> Run:
    """The loop of the users' scripts, every turn recorded."""
    pytest.importorskip("tensorflow")
    import trained

    folder = tmp_path_factory.mktemp("loop")
    start = trained.train(folder / "start", request.param, "adam", True, steps=2)
    pruning = gs.Pruning(
        input_ckpt_path=start,
        scope_names=SCOPES,
        output_dir=str(folder / "out"),
        output_nodes=trained.OUTPUT,
    )
    steps: List[Step] = []
    for threshold in THRESHOLDS:
        failed_rate, tried = 1.0, 0
        pruning.set_threshold(threshold)
        while failed_rate > 0.1:
            own = str(folder / "out" / f"TH{threshold}_{tried}")
            pruning.set_output_dir(own)
            before = trained.values(pruning._input_ckpt_path)
            ckpt = pruning.pruning_process(retrain=tried > 0)
            filters = {key: list(gone) for key, gone in pruning._pruning_filters_dict.items()}
            retrain(ckpt, own, spoil=tried == 0, filters=filters)
            retrained = pruning.get_retrained_ckpt(own)
            failed_rate = pruning.get_pruning_summary()
            steps.append(
                Step(threshold, tried > 0, own, before, filters, ckpt, retrained, failed_rate)
            )
            tried += 1
            assert tried < 4, f"the failed rate stays at {failed_rate}"
    pruning.get_rebuild_graph()
    pruning.get_strip_params()
    pruning.get_strip_ckpt()
    return Run(start, pruning, steps)


@pytest.mark.tf
class TestLoop:
    """The loop of the users' scripts against the naive method."""

    def test_prunes_again_where_filters_came_back(self, run: Run) -> None:
        turns = [(step.threshold, step.again) for step in run.steps]
        assert turns == [(one, again) for one in THRESHOLDS for again in (False, True)]
        assert all((step.rate > 0.1) == (not step.again) for step in run.steps)
        assert 0 < run.steps[-1].rate <= 0.1

    def test_chooses_the_filters_that_the_method_chooses(self, run: Run) -> None:
        for step in run.steps:
            if not step.again:
                wanted = naive.filters_to_remove(step.before, BLOCKS, step.threshold)
                assert step.filters == wanted and sum(map(len, wanted.values())) >= 8
                assert read(step.folder, "Pruning_Dict", "Pruned_Filters.json") == wanted
        assert run.steps[0].filters == run.steps[1].filters
        assert run.steps[1].filters != run.steps[2].filters

    def test_zeroes_what_the_method_zeroes_and_nothing_else(self, run: Run) -> None:
        import trained

        for step in run.steps:
            wanted = naive.zeroed(weights_of(step.before), BLOCKS, step.filters)
            got = trained.values(step.pruned)
            assert set(got) == set(step.before)
            for key, array in wanted.items():
                assert got[key].tobytes() == array.tobytes(), key

    def test_slots_and_averages_are_zeroed_along(self, run: Run) -> None:
        import trained

        step = run.steps[0]
        got = trained.values(step.pruned)
        for kind in ("Adam", "Adam_1", "ExponentialMovingAverage"):
            slots = {
                key[: -len(kind) - 1]: array
                for key, array in step.before.items()
                if key.endswith("/" + kind)
            }
            for name, array in naive.zeroed(slots, BLOCKS, step.filters).items():
                assert got[f"{name}/{kind}"].tobytes() == array.tobytes(), (name, kind)
        for key in ("beta1_power", "beta2_power", "global_step"):
            assert got[key].tobytes() == step.before[key].tobytes()

    def test_measures_the_failed_rate_of_the_method(self, run: Run) -> None:
        import trained

        for step in run.steps:
            values = trained.values(step.retrained)
            assert step.rate == naive.failed_rate(values, BLOCKS, step.filters)
        assert run.pruning.failed_rate == run.steps[-1].rate

    def test_strips_what_the_method_strips(self, run: Run) -> None:
        import trained

        last = run.steps[-1]
        whole = weights_of(trained.values(last.retrained))
        wanted = naive.stripped(whole, BLOCKS, last.filters)
        got = trained.values(os.path.join(last.folder, "Stripped_Dir", "model.ckpt-7"))
        assert sorted(got) == sorted(wanted)
        for key, array in wanted.items():
            assert got[key].shape == array.shape and got[key].tobytes() == array.tobytes(), key
        frozen = gs.load(os.path.join(last.folder, "Stripped_Dir", "modify.pb"))
        for key, array in wanted.items():
            assert frozen[key].attrs["value"].array.tobytes() == array.tobytes(), key

    def test_the_rebuilt_checkpoint_has_no_training_in_it(self, run: Run) -> None:
        import trained

        last = run.steps[-1]
        prefix = os.path.join(last.folder, "Rebuild_CKPT", "model.ckpt-7")
        values, before = trained.values(prefix), trained.values(last.retrained)
        assert sorted(values) == sorted(weights_of(before))
        assert all(values[key].tobytes() == before[key].tobytes() for key in values)
        graph = parse(read_meta(prefix + ".meta").graph, "meta", has_variables=True)
        assert sorted(node.name for node in graph if node.op in VARIABLES) == sorted(values)
        training = ("Apply", "ResourceApply", "Sparse", "AssignSub", "RandomStandardNormal")
        assert [node.name for node in graph if node.op.startswith(training)] == []
        assert os.path.isfile(prefix + ".pbtxt")

    def test_scripts_restore_the_rebuilt_and_the_stripped_checkpoint(self, run: Run) -> None:
        import tensorflow.compat.v1 as tf
        import trained

        last, results = run.steps[-1], []
        for folder in ("Rebuild_CKPT", "Stripped_Dir"):
            prefix = tf.train.latest_checkpoint(os.path.join(last.folder, folder))
            with tf.Graph().as_default(), tf.Session(config=plain_config(tf)) as session:
                saver = tf.train.import_meta_graph(prefix + ".meta")
                session.run(tf.global_variables_initializer())
                saver.restore(session, prefix)
                assert len(tf.trainable_variables()) < len(tf.global_variables())
                feeds = {"image:0": trained.images(4)}
                results.append(session.run(trained.OUTPUT + ":0", feeds))
        assert results[0].shape == results[1].shape == (4, trained.CLASSES)

    def test_leaves_dictionaries_as_json(self, run: Run) -> None:
        folder = os.path.join(run.steps[0].folder, "Pruning_Dict")
        convolutions = read(folder, "Scope_Conv_Dict.json")
        assert sorted(convolutions) == sorted(SCOPES)
        assert convolutions["block_0/"] == [
            ["block_0/expand/Conv2D", 3],
            ["block_0/depthwise/depthwise", 2],
            ["block_0/project/Conv2D", 2],
        ]
        variables = read(folder, "Conv_Vars_Dict.json")
        assert variables["block_0/depthwise/depthwise"] == "block_0/depthwise/depthwise_weights:0"
        vectors = read(folder, "Bias_Vars_Dict.json")
        norm = "block_0/{}/BatchNorm/{}:0"
        for part, axis in (("expand/Conv2D", 0), ("project/Conv2D", None)):
            names = [norm.format(part.split("/")[0], one) for one in ("gamma", "beta")]
            assert vectors[f"block_0/{part}"] == [names, axis]
        assert vectors["block_1/SE/squeeze/Conv2D"] == [["block_1/SE/squeeze/biases:0"], 0]
        for scope, entries in convolutions.items():
            named = [(variables[node][:-2], axis) for node, axis in entries]
            assert named == list(BLOCKS[scope].convolutions)

    def test_leaves_what_stripping_cuts_as_json(self, run: Run) -> None:
        folder = os.path.join(run.steps[-1].folder, "Pruning_Dict")
        variables = read(folder, "Strip_Vars_Dict.json")
        for scope, block in BLOCKS.items():
            vectors = [(one, 0) for one in (*block.vectors, *block.moving)]
            wanted = sorted([[f"{name}:0", axis] for name, axis in [*block.convolutions, *vectors]])
            assert sorted(variables[scope]) == wanted
        nodes = read(folder, "Strip_Nodes_Dict.json")["block_0/"]
        assert nodes[0] == ["block_0/expand/weights", 3]
        assert ["block_0/expand/weights/Initializer/random_uniform/shape", 3] in nodes

    def test_texts_say_what_was_done(self, run: Run) -> None:
        first = run.steps[0]
        text = lines(first.folder, "Pruned_Dir", "Pruned_Filters.txt")
        gone = first.filters["block_0/"]
        assert text[:3] == [
            f"Input ckpt is {run.start}",
            f"Pruning ckpt is {first.pruned}",
            "Pruning sparsity threshold: 0.7",
        ]
        assert f"block_0/ Pruned filters/ Total filters: {len(gone)}/16" in text
        assert f"block_0/ : {gone}" in text
        summary = lines(first.folder, "Pruning_Summary.txt")
        assert f"block_0/expand/weights:0 : {len(gone)}/{len(gone)}" in summary
        assert f"block_0/expand/weights:0 : {['failed'] * len(gone)}" in summary
        counted = [re.fullmatch(r".*:0 : (\d+)/(\d+)", line) for line in summary]
        failed, total = np.sum([[int(one[1]), int(one[2])] for one in counted if one], axis=0)
        assert failed / total == first.rate
