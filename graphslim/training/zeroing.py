"""The ops that set a plan's channels to zero in the graph that trains, and count what came back.

What is set to zero are the slices of soft filter pruning (He et al. 2018, arXiv 1808.06866), in the
variables, in their optimizer slots and in their moving averages.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from graphslim.checkpoint.roles import companions, statistics
from graphslim.checkpoint.soft import slices_to_zero
from graphslim.errors import PlanError
from graphslim.plans import Plan
from graphslim.training.variables import (
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

SCOPE = "graphslim_soft_pruning"
"""Where all these ops stand; nothing outside reads them."""

Slices = Mapping[int, Sequence[int]]
"""Positions by axis."""


class Zeroing:
    """Ops in TensorFlow's default graph, made once, before it is finalised.

    Each stands on the device of its variable, so that on parameter servers no weights travel.

    Args:
        plan: whose channels go to zero; its bindings name variables of the graph.
        below: a filter counts as zero if the sum of its magnitudes is smaller.

    Attributes:
        graph: the graph.
        zero: the op that sets them to zero; moving means and variances stay.
        rate: the failed rate as a scalar float32 tensor: of the removed channels, over all
            convolutions of the plan's groups, the share whose filter is not zero. Where a layer
            reads a channel at several positions (after flattening), each counts.

    Raises:
        PlanError: the graph does not have the variables of the plan, or the plan does not say
            which they are.
    """

    def __init__(self, plan: Plan, below: float) -> None:
        self.graph = tf.get_default_graph()
        whole = as_ir(self.graph)
        slices = slices_to_zero(plan, statistics(whole))
        _check_bindings(plan)
        check_sizes(self.graph, plan, slices)
        with tf.control_dependencies(None), tf.name_scope(SCOPE + "/"):
            self.zero = tf.group(*self._assignments(slices, companions(whole)))
            self.rate = self._failed_rate(plan, slices, below)

    def _assignments(
        self, slices: Mapping[str, Slices], slots: Mapping[str, Sequence[str]]
    ) -> List[Any]:
        """One assignment for each variable, for its slots and averages, and for all replicas."""
        found: Dict[str, Any] = {}
        for name, axes in slices.items():
            for one in [name, *slots.get(name, ())]:
                for copy in [one, *_replicas(self.graph, one)]:
                    if copy not in found:
                        found[copy] = self._masked(variable_op(self.graph, copy), axes)
        return list(found.values())

    def _masked(self, op: Any, axes: Slices) -> Any:
        """An op that sets slices of one variable to zero."""
        shape = shape_of(op)
        with self.graph.colocate_with(op):
            value = value_of(op)
            nothing = tf.zeros([], value.dtype)
            for axis, positions in axes.items():
                gone = np.zeros(shape[axis], bool)
                gone[list(positions)] = True
                where = tf.constant(gone.reshape(along(shape[axis], axis, len(shape))))
                value = tf.where_v2(where, nothing, value)
            return set_value(op, value)

    def _failed_rate(self, plan: Plan, slices: Mapping[str, Slices], below: float) -> Any:
        """The share of the removed channels' filters that are not zero."""
        failed: List[Any] = []
        count = 0
        for name, axis, positions, role in _filters(plan, slices):
            op = variable_op(self.graph, name)
            shape = shape_of(op)
            # A vector may be spelled with more axes, as [1, 1, 1, C].
            vector = role == "follower" and int(np.prod(shape)) == shape[axis]
            if len(shape) > 1 and not vector:
                with self.graph.colocate_with(op):
                    others = [index for index in range(len(shape)) if index != axis]
                    size = tf.abs(tf.cast(value_of(op), tf.float32))
                    sums = tf.gather(tf.reduce_sum(size, axis=others), list(positions))
                    failed.append(tf.reduce_sum(tf.cast(sums >= below, tf.float32)))
                count += len(positions)
        return tf.add_n(failed) / count if count else tf.zeros([])


def _filters(plan: Plan, slices: Mapping[str, Slices]) -> List[Tuple[str, int, Sequence[int], str]]:
    """Where the plan's channels stand in what is set to zero: variable, axis, positions, role."""
    return [
        (cut.param, cut.axis, cut.removed, cut.role)
        for group in plan.groups
        for cut in group.cuts
        if cut.axis in slices.get(cut.param, {})
    ]


def _check_bindings(plan: Plan) -> None:
    """Refuses a plan that leaves it to a graph to find out where its channels are.

    Raises:
        PlanError: so.
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
    found: List[str] = []
    while find_op(graph, f"{name}/replica_{len(found) + 1}") is not None:
        found.append(f"{name}/replica_{len(found) + 1}")
    return found
