"""Group lasso over a plan's groups, so that channels die on their own.

The penalty is that of Yuan and Lin (2006), over the structures of Wen et al. (2016, arXiv
1608.03665): the channels as the channel analysis couples them. As a term of the loss it shrinks
channels and never quite makes them zero; its proximal step does.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Tuple, Union

import numpy as np

from graphslim.channels.groups import Group, analyse
from graphslim.checkpoint.fitting import WEIGHT_ROLES
from graphslim.checkpoint.model import Trained
from graphslim.errors import PlanError
from graphslim.ir import Graph
from graphslim.plans import Plan
from graphslim.training.graph_variables import along, shape_of, tf, variable_op


class _Part(NamedTuple):
    """The weights that a group owns along one axis of a variable.

    Attributes:
        variable: TensorFlow's variable.
        axis: the axis.
        owner: for each position along the axis the index of its channel in the group, or the
            group's number of channels where the position is of no channel of the group; int64 of
            shape (size of the axis,).
        elements: the number of weights at one position.
    """

    variable: Any
    axis: int
    owner: np.ndarray
    elements: int


def group_lasso(graph: Union[Graph, Trained], plan: Plan, strength: float) -> Any:
    """A term to be added to the loss: the group lasso over all channels of a plan's groups.

    The term of a channel is the square root of the number of weights that it owns, times their l2
    norm. The terms are summed over all channels of the groups that the plan names, whether the plan
    removes them or not. A channel owns the weights of its bindings: filters, the weights that read
    it, depthwise filters, gamma, beta and bias. Moving means and variances, and other variables
    that are not trainable, do not count. A weight from one channel of a group to another channel of
    the same group belongs to both.

    Args:
        graph: the network that the plan is for, as loaded; its constants have the names of the
            variables in TensorFlow's default graph, which have to be there already.
        plan: the plan that names the groups.
        strength: a factor; a number or a scalar tensor.

    Returns:
        a scalar float32 tensor; its gradient at a channel that is zero is zero.

    Raises:
        PlanError: the graph lacks a group or variable, or has it in another size.
    """
    terms = [tf.zeros([])]
    for parts, count in _owned(graph, plan):
        squares = _squares(parts, count)
        # The gradient of a root is infinite at zero, also where a selection drops it.
        alive = squares > 0
        norm = tf.where(alive, tf.sqrt(tf.where(alive, squares, tf.ones_like(squares))), squares)
        terms.append(tf.reduce_sum(_weights(parts, count) * norm))
    return tf.multiply(tf.cast(strength, tf.float32), tf.add_n(terms), name="group_lasso")


def proximal_step(graph: Union[Graph, Trained], plan: Plan, amount: Any) -> Any:
    """An op that shortens each channel of a plan's groups, down to exactly zero.

    The proximal step of the penalty of `group_lasso`: all weights that a channel owns are
    multiplied by 1 - amount * sqrt(number of weights) / norm, or by 0 where that is negative. The
    op replaces the term in the loss, and has to run after the optimizer's step::

        with tf.control_dependencies([train_op]):
            train_op = gs.training.proximal_step(graph, plan, learning_rate * strength)

    Args:
        graph, plan: as for `group_lasso`.
        amount: the learning rate times the strength; a number or a scalar tensor.

    Raises:
        PlanError: the graph lacks a group or variable, or has it in another size.
    """
    factors: Dict[Any, List[Tuple[Any, _Part]]] = {}
    for parts, count in _owned(graph, plan):
        norm = tf.maximum(tf.sqrt(_squares(parts, count)), np.finfo(np.float32).tiny)
        shorter = tf.maximum(1.0 - tf.cast(amount, tf.float32) * _weights(parts, count) / norm, 0.0)
        scale = tf.concat([shorter, [1.0]], axis=0)
        for part in parts:
            factors.setdefault(part.variable.op.name, []).append((scale, part))
    # All norms are taken before the first variable changes.
    scales = [scale for scaled_parts in factors.values() for scale, _ in scaled_parts]
    with tf.control_dependencies(scales):
        return tf.group(
            *[_scaled(scaled_parts) for scaled_parts in factors.values()], name="proximal_step"
        )


def _scaled(scaled_parts: List[Tuple[Any, _Part]]) -> Any:
    """An assignment that multiplies one variable along its axes."""
    variable = scaled_parts[0][1].variable
    with tf.get_default_graph().colocate_with(variable.op):
        value = variable.read_value()
        for scale, part in scaled_parts:
            shape = along(len(part.owner), part.axis, len(value.shape))
            factor = tf.reshape(tf.gather(scale, part.owner), shape)
            value = value * tf.cast(factor, value.dtype)
        return tf.assign(variable, value).op


def _squares(parts: List[_Part], count: int) -> Any:
    """The sum of squares of the weights that each channel owns; float32 of shape (count,)."""
    by_part = []
    for part in parts:
        value = tf.cast(part.variable.read_value(), tf.float32)
        summed_axes = [axis for axis in range(len(value.shape)) if axis != part.axis]
        squares = tf.square(value)
        by_position = tf.reduce_sum(squares, axis=summed_axes) if summed_axes else squares
        by_part.append(tf.math.unsorted_segment_sum(by_position, part.owner, count + 1)[:count])
    return tf.add_n(by_part)


def _weights(parts: List[_Part], count: int) -> np.ndarray:
    """The square root of the number of weights that each channel owns; float32, (count,)."""
    sizes = sum([part.elements * np.bincount(part.owner, minlength=count + 1) for part in parts])
    return np.sqrt(np.asarray(sizes)[:count]).astype(np.float32)


def _owned(graph: Union[Graph, Trained], plan: Plan) -> List[Tuple[List[_Part], int]]:
    """For each group of a plan its parts of trainable variables, and its number of channels.

    Raises:
        PlanError: the graph lacks a group or variable, or has it in another size.
    """
    graph = graph.graph if isinstance(graph, Trained) else graph
    groups = {group.id: group for group in analyse(graph).groups}
    owned: List[Tuple[List[_Part], int]] = []
    for planned in plan.groups:
        group = groups.get(planned.id)
        if group is None or len(group) != planned.channels:
            raise PlanError(
                f"the plan has a group of {planned.channels} channels, and the graph "
                + ("has no such group" if group is None else f"has {len(group)} channels there"),
                planned.id,
                "make a plan for this graph",
            )
        parts = _parts(graph, group)
        if parts:
            owned.append((parts, len(group)))
    return owned


def _parts(graph: Graph, group: Group) -> List[_Part]:
    """The parts of trainable variables of TensorFlow's default graph that a group owns."""
    trained = {variable.op.name: variable for variable in tf.trainable_variables()}
    parts: Dict[Tuple[str, int], _Part] = {}
    for binding in analyse(graph).bindings(group):
        if binding.role not in WEIGHT_ROLES:
            continue
        shape = _shape(graph, binding.param)
        if binding.param in trained:
            empty = np.full(shape[binding.axis], len(group))
            elements = int(np.prod(shape)) // shape[binding.axis]
            new = _Part(trained[binding.param], binding.axis, empty, elements)
            part = parts.setdefault((binding.param, binding.axis), new)
            part.owner[binding.positions] = binding.channels
    return list(parts.values())


def _shape(graph: Graph, name: str) -> Tuple[int, ...]:
    """The shape of a variable, the same in both graphs.

    Raises:
        PlanError: the variable has another shape in TensorFlow's default graph.
    """
    shape: Tuple[int, ...] = graph[name].attrs["value"].shape
    trained_shape = shape_of(variable_op(tf.get_default_graph(), name))
    if trained_shape != shape:
        raise PlanError(
            f"its shape is {list(shape)} in the model, and {list(trained_shape)} in the graph "
            "that trains",
            name,
            "load a checkpoint of the network that trains",
        )
    return shape
