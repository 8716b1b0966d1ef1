"""Scopes and what they stand for: the block that a name scope is, and the variables in it."""

from __future__ import annotations

import difflib
from typing import Any, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.channels.groups import Binding, Channels, Group, analyse
from graphslim.checkpoint.fitting import WEIGHT_ROLES
from graphslim.errors import PlanError
from graphslim.ir import Block, Graph, Port
from graphslim.ir.families import BIASES, NORM_INPUTS
from graphslim.ir.query import behind
from graphslim.method.dictionaries import Filters
from graphslim.planner import make_plan
from graphslim.plans import Plan, Selection, block_of, plan_given, why_not
from graphslim.plans.layers import layers_of


class Convolution(NamedTuple):
    """A convolution or matrix product that the channels of a scope touch.

    Attributes:
        node: the op's name.
        variable: the node of its weights.
        axis: the axis of the weights along which the channels of the scope lie.
        vectors: the variables of the bias or batch norm right behind it, without the statistics.
        statistics: the moving mean and variance of that batch norm.
        inside: whether its outputs are channels of the scope, so that the vectors are cut too.
    """

    node: str
    variable: str
    axis: int
    vectors: Tuple[str, ...]
    statistics: Tuple[str, ...]
    inside: bool


class Scope(NamedTuple):
    """A scope and its block.

    Attributes:
        name: as the caller wrote it, or the block's name.
        block: the block.
        group: the group of its channels.
        places: for each filter of the scoring layer, its index in the group; int64 of shape (n,).
        convolutions: in the order in which they are computed; the first is the scoring layer.
        bindings: by variable, the binding of the group to it.
    """

    name: str
    block: Block
    group: Group
    places: np.ndarray
    convolutions: Tuple[Convolution, ...]
    bindings: Mapping[str, Binding]


class Scopes:
    """The blocks of a graph by the names of scopes.

    A scope is a name between slashes: `SE1` and `SE1/` mean the block of that name, or the only
    one inside it, and never that of `SE10`.

    Args:
        graph: a frozen graph whose constants have the names of variables, its blocks found.
        statistics: the names of the variables that hold moving means and variances.
    """

    def __init__(self, graph: Graph, statistics: FrozenSet[str]) -> None:
        self._graph, self._statistics = graph, statistics
        self._channels: Channels = analyse(graph)
        self._layers = layers_of(graph, self._channels)
        self._prunable = {block.name: block for block in block_of(graph, self._channels).values()}

    def every(self) -> Dict[str, Scope]:
        """A scope for each block whose channels may go, by the block's name.

        Raises:
            PlanError: no block of the graph has channels that may go.
        """
        if not self._prunable:
            raise PlanError(
                "no block whose channels may go was found",
                self._graph.name,
                "`graphslim inspect` tells why",
            )
        return {name: self._scope(name, block) for name, block in self._prunable.items()}

    def named(
        self, names: Sequence[str], known: Optional[Mapping[str, Any]] = None
    ) -> Dict[str, Scope]:
        """The scopes of some names.

        Args:
            names: the names, which become the keys of the result.
            known: by name, a scope's convolutions as the published class wrote them, as
                `[node, axis]`; the block is then the one that the first of them scores.

        Raises:
            PlanError: a name stands for no block, for several blocks, for a block whose channels
                must stay, or for the same block as another name.
        """
        scopes: Dict[str, Scope] = {}
        owner: Dict[str, str] = {}
        for name in names:
            convolutions = (known or {}).get(name)
            block = (
                self._named(name) if convolutions is None else self._scored_by(name, convolutions)
            )
            if block.name in owner and owner[block.name] != name:
                raise PlanError(f"is the same block as {owner[block.name]!r}", name, "name it once")
            owner[block.name] = name
            scopes[name] = self._scope(name, block)
        return scopes

    def _named(self, name: str) -> Block:
        if not isinstance(name, str):
            raise PlanError(f"{name!r} is no name of a scope", "scope_names")
        path = name.strip("/")
        if not path:
            raise PlanError("an empty name of a scope", "scope_names", "leave it out")
        blocks = {block.name: block for block in self._graph.blocks}
        if path in blocks:
            return self._checked(name, blocks[path])
        inside = [block_name for block_name in blocks if block_name.startswith(path + "/")]
        if len(inside) == 1:
            return self._checked(name, blocks[inside[0]])
        if inside:
            raise PlanError(f"holds {len(inside)} blocks", name, f"name each: {_few(inside)}")
        similar = _similar_names(path, list(blocks))
        raise PlanError(
            "no block is in a scope of that name",
            name,
            f"there is {_few(similar)}" if similar else "`graphslim inspect` lists the blocks",
        )

    def _scored_by(self, name: str, convolutions: Any) -> Block:
        try:
            first = str(convolutions[0][0])
        except (TypeError, IndexError, KeyError):
            raise PlanError(
                "is not followed by pairs of a convolution and an axis", f"scope_conv_dict: {name}"
            ) from None
        for block in self._graph.blocks:
            if block.channels_of.node == first:
                return self._checked(name, block)
        raise PlanError(
            f"{first} is the scoring convolution of no block of this network",
            f"scope_conv_dict: {name}",
            "leave scope_conv_dict out, or call get_pruning_params()",
        )

    def _checked(self, name: str, block: Block) -> Block:
        if block.name not in self._prunable:
            reason = why_not(self._channels, block) or "another block has the same channels"
            raise PlanError(f"its channels must stay: {reason}", name, "leave this scope out")
        return block

    def _scope(self, name: str, block: Block) -> Scope:
        group = self._channels.group_at(block.channels_of)
        labels = self._channels.channels_at(block.channels_of)
        assert group is not None and labels is not None  # else its channels could not go
        index = {int(label): place for place, label in enumerate(group.channels.tolist())}
        places = np.array([index[int(label)] for label in labels.tolist()], np.int64)
        bindings = {
            binding.param: binding
            for binding in self._channels.bindings(group)
            if binding.role in WEIGHT_ROLES
        }
        return Scope(name, block, group, places, self._convolutions(bindings), bindings)

    def _convolutions(self, bindings: Mapping[str, Binding]) -> Tuple[Convolution, ...]:
        convolutions: List[Convolution] = []
        for layer in self._layers:
            binding = bindings.get(layer.param)
            if binding is not None:
                vectors = self._vectors(layer.node)
                trained = tuple([vector for vector in vectors if vector not in self._statistics])
                moving = tuple([vector for vector in vectors if vector in self._statistics])
                inside = binding.role != "consumer"
                convolutions.append(
                    Convolution(layer.node, layer.param, binding.axis, trained, moving, inside)
                )
        return tuple(convolutions)

    def _vectors(self, node: str) -> List[str]:
        """The variables of the bias or batch norm right behind an op."""
        for use in self._graph.uses_of(Port(node)):
            op, inputs = self._graph[use.node].op, self._graph.data_inputs(use.node)
            places = (1,) if op in BIASES else NORM_INPUTS.get(op)
            if places is not None:
                sources = [behind(self._graph, inputs[place]).node for place in places]
                return [source for source in sources if self._graph[source].op == "Const"]
        return []


def _similar_names(path: str, names: Sequence[str]) -> List[str]:
    """The names that end with the same part as a path, or else those spelled much like it."""
    last = path.rpartition("/")[2]
    alike = [name for name in names if last and name.endswith("/" + last)]
    return sorted(alike) or difflib.get_close_matches(path, names, n=3)


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"


# ------------------------------------------------------------------ filters and plans
MULTIPLE = 4
"""The published method removes a multiple of four filters from each block."""


def choose_filters(graph: Graph, scopes: Mapping[str, Scope], threshold: float) -> Filters:
    """The filters whose redundancy exceeds a threshold, rounded to multiples of four per scope.

    The redundancy of a filter is the share of its weights below the layer's mean, by magnitude
    (Liu et al. 2017, arXiv 1705.10748). The most redundant go first, ties in index order; at least
    one filter of a scope stays.

    Args:
        graph: the frozen graph, its blocks found.
        scopes: the scopes whose filters may go.
        threshold: a share from 0 to 1.

    Returns:
        by scope the filters of its scoring layer that go; scopes that lose none are left out.

    Raises:
        PlanError: the threshold is no finite number.
    """
    if not scopes:
        return {}
    selection = Selection(
        scope="blocks",
        only=tuple([scope.group.id for scope in scopes.values()]),
        criterion="redundancy",
        threshold=threshold,
        multiple_of=MULTIPLE,
        rounding="removed",
    )
    plan = make_plan(graph, selection)
    gone = {group.id: group.removed for group in plan.groups}
    chosen: Filters = {}
    for name, scope in scopes.items():
        removed = np.isin(scope.places, gone.get(scope.group.id, ()))
        if removed.any():
            chosen[name] = np.flatnonzero(removed).tolist()
    return chosen


def plan_filters(graph: Graph, scopes: Mapping[str, Scope], filters: Filters) -> Plan:
    """A plan that removes filters, and all weights that their channels touch.

    Args:
        graph: the frozen graph.
        scopes: every scope that `filters` names.
        filters: by scope, the filters of its scoring layer that go.

    Raises:
        PlanError: a filter does not exist, or a scope would lose all its filters.
    """
    removed: Dict[str, List[int]] = {}
    for name, numbers in filters.items():
        scope = scopes[name]
        size = len(scope.places)
        if numbers and numbers[-1] >= size:
            raise PlanError(
                f"has only {size} filters, {numbers[-1]} is none of them",
                name,
                "the list is of another network",
            )
        if len(numbers) == size:
            raise PlanError("would lose all its filters", name, "keep at least one")
        if numbers:
            removed[scope.group.id] = sorted(scope.places[numbers].tolist())
    return plan_given(graph, removed)
