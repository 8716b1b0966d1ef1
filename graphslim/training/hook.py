"""A session hook that holds a plan's channels at zero while a network trains."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import numpy as np

from graphslim.checkpoint.fitting import places
from graphslim.checkpoint.roles import companions, statistics
from graphslim.errors import GraphslimError, PlanError
from graphslim.plans import Plan, read_plan
from graphslim.support.text import is_count
from graphslim.training.graph_variables import (
    along,
    as_ir,
    check_sizes,
    find_op,
    set_value,
    shape_of,
    tf,
    value_of,
    variable_op,
)

TAG = "graphslim/failed_rate"
"""The tag of the summary."""


class SoftPruningHook(tf.train.SessionRunHook):
    """Sets the channels of a plan to zero again after every few steps of training.

    Soft filter pruning (He et al. 2018, arXiv 1808.06866): filters, the weights that read them,
    gamma and beta or bias go to zero, with their optimizer slots and moving averages; moving means
    and variances stay. Variables are found by the names that the plan's bindings have, ref and
    resource variables alike, on whatever device they are.

    With an Estimator::

        hook = SoftPruningHook(plan, summary_dir=estimator.model_dir)
        estimator.train(input_fn, hooks=[hook], saving_listeners=[hook.listener()])

    The listener keeps the channels zero in checkpoints: an Estimator saves before it calls the
    hooks that it was given, and would save the weights as the last step left them. `listener()`
    sets the channels to zero right before each save. With a MonitoredTrainingSession give the hook
    as one of `chief_only_hooks`, which run before its saver does; where `every_n_steps` is above 1,
    save by a `tf.train.CheckpointSaverHook(..., listeners=[hook.listener()])` of your own.

    In distributed training only the chief should use the hook: give it as one of
    `chief_only_hooks`, or of an EstimatorSpec's `training_chief_hooks`. On workers whose
    `TF_CONFIG` says that they are not the chief, the hook does nothing.

    Args:
        plan: a plan, or the path of one.
        every_n_steps: the channels are set to zero after every so many runs of the session.
        summary_every_n_steps: the failed rate is measured and logged after every so many runs,
            right before the channels are set to zero.
        summary_dir: the folder where the failed rate is written as the scalar
            `graphslim/failed_rate`, by the writer that TensorFlow's own hooks use for this folder;
            None to write no summaries.
        below: a filter counts as zero if the sum of its magnitudes is smaller.
        is_chief: whether this process is the chief; by default as `TF_CONFIG` says.

    Attributes:
        failed_rate: the failed rate measured last, from 0 to 1; None before the first measurement.

    `begin` raises PlanError where the graph lacks the plan's variables, or has them in other
    shapes.

    Raises:
        GraphslimError: a number of steps is not 1 or more, or the plan cannot be read.
    """

    def __init__(
        self,
        plan: Union[Plan, str, os.PathLike],
        every_n_steps: int = 1,
        summary_every_n_steps: int = 100,
        summary_dir: Optional[str] = None,
        below: float = 1e-9,
        is_chief: Optional[bool] = None,
    ) -> None:
        for option, number in (
            ("every_n_steps", every_n_steps),
            ("summary_every_n_steps", summary_every_n_steps),
        ):
            if not is_count(number):
                raise GraphslimError(f"must be 1 or more, not {number!r}", option)
        self.failed_rate: Optional[float] = None
        self._plan = plan if isinstance(plan, Plan) else read_plan(os.fspath(plan))
        self._every, self._summary_every = every_n_steps, summary_every_n_steps
        self._summary_dir, self._below = summary_dir, below
        self._is_chief = _is_chief() if is_chief is None else is_chief
        self._ops: Optional[Zeroing] = None
        self._step: Any = None
        self._writer: Any = None
        self._runs = 0

    def begin(self) -> None:
        """Adds the ops to the default graph, once to each graph.

        Raises:
            PlanError: the graph lacks variables of the plan, or has them in other shapes.
        """
        if not self._is_chief or (self._ops and self._ops.graph is tf.get_default_graph()):
            return
        self._ops = Zeroing(self._plan, self._below)
        self._step = tf.train.get_global_step()
        self._runs = 0
        if self._summary_dir is not None:
            self._writer = tf.summary.FileWriterCache.get(self._summary_dir)

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Sets the channels to zero in the variables that were restored or initialised."""
        self.zero(session)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Sets the channels to zero, and measures the failed rate, if this run is one of those."""
        if self._ops is None:
            return
        self._runs += 1
        measuring = self._runs % self._summary_every == 0
        if measuring:
            self._measure(run_context.session)
        if measuring or self._runs % self._every == 0:
            self.zero(run_context.session)

    def end(self, session: Any) -> None:
        """Sets the channels to zero before the last checkpoint is saved."""
        self.zero(session)
        if self._writer is not None:
            self._writer.flush()

    def zero(self, session: Any) -> None:
        """Sets the channels to zero now; does nothing where this is not the chief."""
        if self._ops is not None:
            session.run(self._ops.zero)

    def listener(self) -> Any:
        """A CheckpointSaverListener that sets the channels to zero right before each save."""
        return _Listener(self)

    def _measure(self, session: Any) -> None:
        """Measures the failed rate, logs it, and writes it as a summary if there is a folder."""
        assert self._ops is not None
        self.failed_rate = float(session.run(self._ops.failed_rate))
        step = self._runs if self._step is None else int(session.run(self._step))
        tf.logging.info("%s = %g (step %d)", TAG, self.failed_rate, step)
        if self._writer is not None:
            value = tf.Summary.Value(tag=TAG, simple_value=self.failed_rate)
            self._writer.add_summary(tf.Summary(value=[value]), step)


class _Listener(tf.train.CheckpointSaverListener):
    """Sets a hook's channels to zero before a checkpoint is saved, whatever the order of hooks."""

    def __init__(self, hook: SoftPruningHook) -> None:
        self._hook = hook

    def begin(self) -> None:
        self._hook.begin()

    def before_save(self, session: Any, global_step_value: Any) -> None:
        self._hook.zero(session)


def _is_chief() -> bool:
    """Whether this process saves the checkpoints, as `TF_CONFIG` says."""
    try:
        config = json.loads(os.environ.get("TF_CONFIG") or "{}")
        cluster, task = config.get("cluster", {}), config.get("task", {})
        kind, index = task.get("type"), int(task.get("index", 0))
    except (ValueError, TypeError, AttributeError):
        return True  # TensorFlow itself refuses a malformed TF_CONFIG
    if not cluster or kind is None or kind in ("chief", "master"):
        return True
    return kind == "worker" and index == 0 and not {"chief", "master"} & set(cluster)


# ------------------------------------------------------------------ the ops
SCOPE = "graphslim_soft_pruning"
"""The name scope of all these ops; no other op reads them."""

Slices = Mapping[int, Sequence[int]]
"""Positions by axis."""


class Zeroing:
    """Ops in TensorFlow's default graph, made once, before it is finalised.

    Each op is on the device of its variable, so that no weights leave parameter servers.

    Args:
        plan: the plan whose channels are set to zero; its bindings name variables of the graph.
        below: a filter counts as zero if the sum of its magnitudes is smaller.

    Attributes:
        graph: the graph.
        zero: the op that sets the channels to zero; moving means and variances stay.
        failed_rate: the failed rate as a scalar float32 tensor: of the removed channels, over all
            convolutions of the plan's groups, the share whose filter is not zero. Where a layer
            reads a channel at several positions (after flattening), each counts.

    Raises:
        PlanError: the graph lacks variables of the plan, or the plan does not name them.
    """

    def __init__(self, plan: Plan, below: float) -> None:
        self.graph = tf.get_default_graph()
        graph = as_ir(self.graph)
        slices = places(plan, without=statistics(graph))
        _check_bindings(plan)
        check_sizes(self.graph, plan, slices)
        with tf.control_dependencies(None), tf.name_scope(SCOPE + "/"):
            self.zero = tf.group(*self._assignments(slices, companions(graph)))
            self.failed_rate = self._failed_rate(plan, slices, below)

    def _assignments(
        self, slices: Mapping[str, Slices], slots: Mapping[str, Sequence[str]]
    ) -> List[Any]:
        """One assignment for each variable, for its slots and averages, and for all replicas."""
        assignments: Dict[str, Any] = {}
        for name, axes in slices.items():
            for holder in [name, *slots.get(name, ())]:
                for copy in [holder, *_replicas(self.graph, holder)]:
                    if copy not in assignments:
                        assignments[copy] = self._masked(variable_op(self.graph, copy), axes)
        return list(assignments.values())

    def _masked(self, op: Any, axes: Slices) -> Any:
        """An op that sets slices of one variable to zero."""
        shape = shape_of(op)
        with self.graph.colocate_with(op):
            value = value_of(op)
            nothing = tf.zeros([], value.dtype)
            for axis, positions in axes.items():
                gone = np.zeros(shape[axis], bool)
                gone[list(positions)] = True
                mask = tf.constant(gone.reshape(along(shape[axis], axis, len(shape))))
                value = tf.where_v2(mask, nothing, value)
            return set_value(op, value)

    def _failed_rate(self, plan: Plan, slices: Mapping[str, Slices], below: float) -> Any:
        """The share of the removed channels' filters that are not zero."""
        failed: List[Any] = []
        count = 0
        for cut in [cut for group in plan.groups for cut in group.cuts]:
            if cut.axis not in slices.get(cut.param, {}):
                continue
            op = variable_op(self.graph, cut.param)
            shape = shape_of(op)
            # A vector may have further axes of size 1, as [1, 1, 1, C].
            vector = cut.role == "follower" and int(np.prod(shape)) == shape[cut.axis]
            if len(shape) > 1 and not vector:
                with self.graph.colocate_with(op):
                    summed_axes = [index for index in range(len(shape)) if index != cut.axis]
                    magnitudes = tf.abs(tf.cast(value_of(op), tf.float32))
                    norms = tf.reduce_sum(magnitudes, axis=summed_axes)
                    zero = tf.gather(norms, list(cut.removed)) < below
                    # NaN counts as not zero.
                    failed.append(tf.reduce_sum(tf.cast(tf.logical_not(zero), tf.float32)))
                count += len(cut.removed)
        return tf.add_n(failed) / count if count else tf.zeros([])


def _check_bindings(plan: Plan) -> None:
    """Refuses a plan that does not list the bindings of the channels that it removes.

    Raises:
        PlanError: a group of the plan removes channels and lists no bindings.
    """
    for group in plan.groups:
        if group.removed and not group.cuts:
            raise PlanError(
                "the plan does not say where its channels stand",
                group.id,
                "take the plan.json that graphslim soft-prune writes, which does",
            )


def _replicas(graph: Any, name: str) -> List[str]:
    """The copies of a variable on other devices, as TensorFlow's mirrored strategy names them."""
    replicas: List[str] = []
    while find_op(graph, f"{name}/replica_{len(replicas) + 1}") is not None:
        replicas.append(f"{name}/replica_{len(replicas) + 1}")
    return replicas
