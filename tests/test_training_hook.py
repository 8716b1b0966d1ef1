"""The session hook in graphs of one variable: places, chiefs, refusals, Estimators."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest
import trained

import graphslim as gs
from graphslim.errors import GraphslimError, PlanError
from graphslim.runtime import available

pytestmark = [
    pytest.mark.tf,
    pytest.mark.skipif(not available(), reason="TensorFlow is not installed"),
]


@pytest.fixture
def tf() -> Any:
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default():
        yield tf


def steps_saved(folder: Path) -> List[str]:
    return sorted([str(path)[: -len(".index")] for path in folder.glob("model.ckpt-*.index")])


def test_ops_stand_with_their_variables(tf: Any) -> None:
    with tf.device("/job:ps/task:0"):
        tf.get_variable("w", [1, 1, 2, 4])
    before = set(tf.get_default_graph().get_operations())
    gs.training.SoftPruningHook(plan_of("w", 3, [0, 2]), is_chief=True).begin()
    new = [one for one in tf.get_default_graph().get_operations() if one not in before]
    assert all(one.name.startswith("graphslim_soft_pruning/") for one in new)
    (assign,) = [one for one in new if one.type.startswith("Assign")]
    assert assign.device == "/job:ps/task:0"


@pytest.mark.parametrize(
    "task, cluster, does",
    [
        ({"type": "chief", "index": 0}, ["chief", "worker"], True),
        ({"type": "worker", "index": 0}, ["chief", "worker"], False),
        ({"type": "worker", "index": 0}, ["worker", "ps"], True),
        ({"type": "worker", "index": 1}, ["worker", "ps"], False),
        ({"type": "ps", "index": 0}, ["worker", "ps"], False),
    ],
)
def test_only_the_chief_does_anything(
    tf: Any, monkeypatch: Any, task: Dict[str, Any], cluster: List[str], does: bool
) -> None:
    config = {"cluster": {one: ["localhost:1"] for one in cluster}, "task": task}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    tf.get_variable("w", [1, 1, 2, 4])
    count = len(tf.get_default_graph().get_operations())
    hook = gs.training.SoftPruningHook(plan_of("w", 3, [0]))
    hook.begin()
    hook.after_create_session(_NoSession(does), None)
    assert (len(tf.get_default_graph().get_operations()) > count) == does


class _NoSession:
    """Takes the place of a session that must, or must not, be asked to run anything."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted

    def run(self, fetches: Any) -> None:
        assert self._wanted


def plan_of(name: str, axis: int, removed: List[int], **changes: Any) -> gs.Plan:
    """A plan that cuts one filter."""
    tree: Dict[str, Any] = {
        "format": "graphslim-plan",
        "version": 1,
        "model": {"name": "made up", "sha256": ""},
        "settings": {},
        "groups": [
            {
                "id": "conv",
                "block": None,
                "channels": 4,
                "removed": removed,
                "why": "given",
                "scores": [],
                "bindings": [{"param": name, "axis": axis, "role": "producer", "removed": removed}],
            }
        ],
        "totals": {"params": [8, 8], "macs": [None, None]},
    }
    tree["groups"][0].update(changes)
    if not tree["groups"][0]["bindings"]:
        del tree["groups"][0]["bindings"]
    return gs.Plan.from_json(json.dumps(tree))


def test_a_plan_of_another_graph_is_refused(tf: Any) -> None:
    tf.get_variable("w", [1, 1, 2, 4])
    tf.get_variable("q", [8, 4], partitioner=tf.fixed_size_partitioner(2))
    tf.constant(1.0, name="c")
    for plan, said in (
        (plan_of("v", 3, [0]), "v: is in the plan, and the graph has no such variable"),
        (plan_of("c", 0, [0]), "no such variable, but a Const"),
        (plan_of("w", 3, [4]), r"w: does not fit the plan: its shape in this graph is \[1, 1, 2"),
        (plan_of("w", 4, [0]), "w: does not fit the plan"),
        (plan_of("q", 1, [0]), "q: is a partitioned variable"),
        (plan_of("w", 3, [0], bindings=[]), "conv: the plan does not say where"),
    ):
        with pytest.raises(PlanError, match=said):
            gs.training.SoftPruningHook(plan).begin()


def test_arguments_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    plan = plan_of("w", 3, [0])
    with pytest.raises(GraphslimError, match="every_n_steps: must be 1 or more"):
        gs.training.SoftPruningHook(plan, every_n_steps=0)
    with pytest.raises(GraphslimError, match="no such file"):
        gs.training.SoftPruningHook(tmp_path / "none.json")
    (tmp_path / "plan.json").write_text(plan.to_json())
    gs.training.SoftPruningHook(str(tmp_path / "plan.json"))


def test_every_checkpoint_of_an_estimator_has_the_zeros(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow.compat.v1")
    if not hasattr(tf, "estimator"):
        pytest.skip("this TensorFlow has no Estimator")

    def model_fn(features: Any, labels: Any, mode: Any) -> Any:
        w = tf.get_variable("w", [1, 1, 2, 4], initializer=tf.ones_initializer())
        loss = tf.reduce_sum(w) * features
        optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
        train_op = optimizer.minimize(loss, tf.train.get_global_step())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    estimator = tf.estimator.Estimator(model_fn, str(tmp_path))
    hook = gs.training.SoftPruningHook(plan_of("w", 3, [0, 2]))
    estimator.train(
        lambda: tf.data.Dataset.from_tensors((1.0, 1.0)).repeat(),
        hooks=[hook],
        steps=2,
        saving_listeners=[hook.listener()],
    )
    saved = steps_saved(tmp_path)
    assert len(saved) == 2
    for prefix in saved:
        values = trained.values(prefix)
        assert not values["w"][..., [0, 2]].any()
        assert not values["w/Momentum"][..., [0, 2]].any()
        assert values["w"][..., [1, 3]].all()
    assert values["w/Momentum"][..., [1, 3]].all()


def test_importing_it_hides_no_device_and_graphslim_alone_loads_no_tensorflow() -> None:
    code = (
        "import os, sys, graphslim as gs\n"
        "assert 'tensorflow' not in sys.modules\n"
        "gs.training.schedule\n"
        "assert 'tensorflow' in sys.modules\n"
        "names = ['CUDA_VISIBLE_DEVICES', 'TF_CPP_MIN_LOG_LEVEL', 'TF_ENABLE_ONEDNN_OPTS']\n"
        "assert not [name for name in names if name in os.environ]\n"
    )
    left_out = ("CUDA_VISIBLE_DEVICES", "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS")
    clean = {name: value for name, value in os.environ.items() if name not in left_out}
    subprocess.run([sys.executable, "-c", code], env=clean, check=True)
