"""The session hook and the group lasso, in the graphs of a tiny training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple

import numpy as np
import pytest
import trained
from sessions import plain_config

import graphslim as gs
from graphslim.checkpoint.fitting import places
from graphslim.checkpoint.model import Trained, open_checkpoint
from graphslim.errors import PlanError
from graphslim.runtime import available

pytestmark = [
    pytest.mark.tf,
    pytest.mark.skipif(not available(), reason="TensorFlow is not installed"),
]


class Case(NamedTuple):
    """A trained network and a plan for it."""

    model: Trained
    plan: gs.Plan

    def slices(self) -> Mapping[str, Mapping[int, Any]]:
        return places(self.plan, self.model.statistics)


@pytest.fixture(scope="module", params=["ref", "resource"])
def case(request: Any, tmp_path_factory: Any) -> Case:
    folder = tmp_path_factory.mktemp(request.param)
    prefix = trained.train(folder, request.param, "momentum", averages=True)
    model = open_checkpoint(prefix, outputs=[trained.OUTPUT])
    plan = gs.plan(
        model.graph, criterion="redundancy", threshold=0.6, scope="blocks", rounding="removed"
    )
    return Case(model, plan)


@pytest.fixture
def tf() -> Any:
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default():
        yield tf


def restored(tf: Any, case: Case) -> Any:
    """Makes the default graph that of the training; gives a scaffold, and an op that disturbs."""
    saver = tf.train.import_meta_graph(case.model.meta.path)
    # An op that moves everything away from zero, as a gradient would.
    moved = []
    for variable in tf.global_variables():
        if variable.dtype.base_dtype == tf.float32 and len(variable.shape):
            moved.append(tf.assign_add(variable, tf.fill(variable.shape, 0.01)).op)
    with tf.control_dependencies(moved):
        step = tf.assign_add(tf.train.get_global_step(), 1).op
    scaffold = tf.train.Scaffold(
        init_op=tf.no_op(),
        init_fn=lambda _, session: saver.restore(session, case.model.prefix),
        saver=saver,
    )
    return scaffold, step


def chief(tf: Any, scaffold: Any) -> Any:
    return tf.train.ChiefSessionCreator(scaffold, config=plain_config(tf))


def at_zero(values: Mapping[str, np.ndarray], case: Case, where: str) -> None:
    """Checks that the plan's slices are zero in weights, slots and averages, and nothing else."""
    for name, axes in case.slices().items():
        for one in (name, *case.model.companions[name]):
            array = values[one]
            gone = np.zeros(array.shape, bool)
            for axis, positions in axes.items():
                gone[(slice(None),) * axis + (list(positions),)] = True
            assert not array[gone].any(), f"{where}: {one} came back"
            assert array[~gone].all(), f"{where}: {one} has zeros that the plan does not ask for"
    for name in case.model.statistics:
        assert values[name].all(), f"{where}: {name} was set to zero"


def steps_saved(folder: Path) -> List[str]:
    return sorted([str(path)[: -len(".index")] for path in folder.glob("model.ckpt-*.index")])


def test_every_checkpoint_of_a_monitored_session_has_the_zeros(
    tf: Any, case: Case, tmp_path: Path
) -> None:
    scaffold, step = restored(tf, case)
    hook = gs.training.SoftPruningHook(
        case.plan, summary_every_n_steps=2, summary_dir=str(tmp_path)
    )
    with tf.train.MonitoredTrainingSession(
        checkpoint_dir=str(tmp_path),
        scaffold=scaffold,
        config=plain_config(tf),
        chief_only_hooks=[hook],
        save_checkpoint_steps=1,
        save_summaries_steps=None,  # the network's own need images
        save_summaries_secs=None,
    ) as session:
        for _ in range(3):
            session.run(step)
    saved = steps_saved(tmp_path)
    assert len(saved) == 4  # that of the beginning too
    for prefix in saved:
        at_zero(trained.values(prefix), case, prefix)
    assert hook.failed_rate == 1.0
    tf.summary.FileWriterCache.clear()  # closes the files
    events = [
        (event.step, value.simple_value)
        for path in tmp_path.glob("events*")
        for event in tf.train.summary_iterator(str(path))
        for value in event.summary.value
        if value.tag == "graphslim/failed_rate"
    ]
    assert events == [(5, 1.0)]  # three steps were trained before


def test_the_listener_sets_zeros_before_a_saver_that_comes_first(
    tf: Any, case: Case, tmp_path: Path
) -> None:
    scaffold, step = restored(tf, case)
    hook = gs.training.SoftPruningHook(case.plan, every_n_steps=100)
    saver = tf.train.CheckpointSaverHook(
        str(tmp_path), save_steps=1, scaffold=scaffold, listeners=[hook.listener()]
    )
    with tf.train.MonitoredSession(chief(tf, scaffold), hooks=[saver, hook]) as session:
        for _ in range(2):
            session.run(step)
    saved = steps_saved(tmp_path)
    assert len(saved) == 3
    for prefix in saved:
        at_zero(trained.values(prefix), case, prefix)


def test_between_two_times_channels_are_left_alone(tf: Any, case: Case) -> None:
    scaffold, step = restored(tf, case)
    hook = gs.training.SoftPruningHook(case.plan, every_n_steps=2)
    name, axes = next(iter(case.slices().items()))
    found: List[bool] = []
    with tf.train.MonitoredSession(chief(tf, scaffold), hooks=[hook]) as session:
        for _ in range(4):
            session.run(step)
            raw = session._tf_sess()
            array = raw.run([one for one in tf.global_variables() if one.op.name == name][0])
            axis, positions = next(iter(axes.items()))
            found.append(bool(np.take(array, positions, axis).any()))
    assert found == [True, False, True, False]


@pytest.mark.parametrize("weight", [1.0, np.nan])
def test_the_failed_rate_is_that_of_the_summary(tf: Any, case: Case, weight: float) -> None:
    from graphslim.checkpoint.soft import summarise

    scaffold, _ = restored(tf, case)
    hook = gs.training.SoftPruningHook(case.plan, summary_every_n_steps=1)
    nothing = tf.no_op()
    gone = next(iter(case.slices().items()))
    with tf.train.MonitoredSession(chief(tf, scaffold), hooks=[hook]) as session:
        session.run(nothing)
        assert hook.failed_rate == 0.0
        variable = [one for one in tf.global_variables() if one.op.name == gone[0]][0]
        weights = np.full(variable.shape.as_list(), weight, np.float32)
        variable.load(weights, session._tf_sess())
        session.run(nothing)
    whole = summarise(case.model, case.plan)
    failed = [len(one) for one in gone[1].values()]
    assert hook.failed_rate == pytest.approx(failed[0] / whole.of)


def test_replicas_are_set_to_zero_too(tf: Any, case: Case) -> None:
    scaffold, _ = restored(tf, case)
    name, axes = next(iter(case.slices().items()))
    shape = case.model.values.shapes[name]
    copy = tf.Variable(np.ones(shape, np.float32), name=f"{name}/replica_1", trainable=False)
    hook = gs.training.SoftPruningHook(case.plan)
    hook.begin()
    with tf.Session(config=plain_config(tf)) as session:
        scaffold.saver.restore(session, case.model.prefix)
        session.run(copy.initializer)
        hook.after_create_session(session, None)
        array = session.run(copy)
    axis, positions = next(iter(axes.items()))
    assert not np.take(array, positions, axis).any()
    assert np.count_nonzero(array) == array.size - array.size // shape[axis] * len(positions)


def penalty(case: Case) -> float:
    """The group lasso by numpy, channel by channel."""
    channels = gs.analyse(case.model.graph)
    total = 0.0
    for group in channels.groups:
        if group.id not in {one.id for one in case.plan.groups}:
            continue
        for channel in range(len(group)):
            owned = [
                np.take(
                    case.model.values.read(case.model.keys[one.param]).astype(np.float64),
                    one.positions[one.channels == channel],
                    one.axis,
                ).ravel()
                for one in channels.bindings(group)
                if one.param in case.model.keys and one.param not in case.model.statistics
            ]
            whole = np.concatenate(owned)
            total += np.sqrt(len(whole)) * np.sqrt((whole**2).sum())
    return total


def test_group_lasso_is_what_numpy_says(tf: Any, case: Case) -> None:
    scaffold, _ = restored(tf, case)
    term = gs.training.group_lasso(case.model, case.plan, 0.5)
    with tf.Session(config=plain_config(tf)) as session:
        scaffold.saver.restore(session, case.model.prefix)
        found = session.run(term)
    assert term.shape.as_list() == []
    assert found == pytest.approx(0.5 * penalty(case), rel=1e-5)


def test_its_gradient_is_finite_at_zero(tf: Any, case: Case) -> None:
    restored(tf, case)
    term = gs.training.group_lasso(case.model.graph, case.plan, 0.5)
    name = case.plan.groups[0].cuts[0].param
    variable = [one for one in tf.trainable_variables() if one.op.name == name][0]
    (gradient,) = tf.gradients(term, [variable])
    with tf.Session(config=plain_config(tf)) as session:
        session.run([one.initializer for one in tf.trainable_variables()])
        for one in tf.trainable_variables():
            one.load(np.zeros(one.shape.as_list(), np.float32), session)
        assert not session.run(gradient).any()
        variable.load(np.ones(variable.shape.as_list(), np.float32), session)
        found = session.run(gradient)
    assert np.isfinite(found).all()
    assert (found > 0).all()


def test_the_proximal_step_makes_channels_exactly_zero(tf: Any, case: Case) -> None:
    scaffold, _ = restored(tf, case)
    group = case.plan.groups[0]
    weak, strong = (
        group.removed[0],
        next(one for one in range(group.channels) if one not in group.removed),
    )
    step = gs.training.proximal_step(case.model, case.plan, 0.01)
    owned = {
        binding.param: (binding.axis, binding.positions, binding.channels)
        for one in gs.analyse(case.model.graph).groups
        if one.id == group.id
        for binding in gs.analyse(case.model.graph).bindings(one)
        if binding.param not in case.model.statistics
    }
    with tf.Session(config=plain_config(tf)) as session:
        scaffold.saver.restore(session, case.model.prefix)
        before: Dict[str, np.ndarray] = {}
        for variable in tf.trainable_variables():
            if variable.op.name in owned:
                axis, positions, channels = owned[variable.op.name]
                value = session.run(variable)
                rows = np.moveaxis(value, axis, 0)
                rows[positions[channels == weak]] *= 1e-3
                before[variable.op.name] = value
                variable.load(value, session)
        session.run(step)
        after = {
            one.op.name: session.run(one)
            for one in tf.trainable_variables()
            if one.op.name in owned
        }
    whole = {name: np.moveaxis(before[name], owned[name][0], 0) for name in before}
    size = sum([whole[name][owned[name][1][owned[name][2] == strong]].size for name in whole])
    norm = np.sqrt(
        sum([(whole[name][owned[name][1][owned[name][2] == strong]] ** 2).sum() for name in whole])
    )
    for name, (axis, positions, channels) in owned.items():
        rows = np.moveaxis(after[name], axis, 0)
        assert not rows[positions[channels == weak]].any(), name
        kept = positions[channels == strong]
        expected = whole[name][kept] * (1 - 0.01 * np.sqrt(size) / norm)
        np.testing.assert_allclose(rows[kept], expected, rtol=1e-4, err_msg=name)


def test_lasso_refuses_a_graph_of_other_sizes(tf: Any, case: Case) -> None:
    with pytest.raises(PlanError, match="no such variable"):
        gs.training.group_lasso(case.model, case.plan, 1.0)
    for name in case.model.keys:
        tf.get_variable(name, [3, 3])
    with pytest.raises(PlanError, match=r"its shape is .* in the model, and \[3, 3\]"):
        gs.training.group_lasso(case.model, case.plan, 1.0)


def test_what_was_trained_with_it_can_be_stripped(tf: Any, tmp_path: Path) -> None:
    """The MetaGraph that is saved then has the hook's ops in it."""
    prefix = trained.train(tmp_path, "ref", "momentum")
    model = open_checkpoint(prefix, outputs=[trained.OUTPUT])
    plan = gs.plan(model.graph, criterion="redundancy", threshold=0.6, scope="blocks")
    saver = tf.train.import_meta_graph(prefix + ".meta")
    hook = gs.training.SoftPruningHook(plan)
    hook.begin()
    with tf.Session(config=plain_config(tf)) as session:
        saver.restore(session, prefix)
        hook.zero(session)
        last = saver.save(session, str(tmp_path / "held"))
    assert "graphslim_soft_pruning" in (tmp_path / "held.meta").read_bytes().decode("latin-1")
    assert gs.summary(last, plan, outputs=[trained.OUTPUT]).failed == 0
    gs.strip(last, plan, tmp_path / "stripped", outputs=[trained.OUTPUT])
    assert np.isfinite(trained.train_on(str(tmp_path / "stripped" / "held"), 1))
