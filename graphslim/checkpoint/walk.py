"""The walk over a training graph: names the positions of variables, and follows them everywhere.

Nothing is pinned here: the inference part has decided what may go. What cannot be followed is left
as it is.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence

import numpy as np

from graphslim.channels.facts import Fact, Ids, fact
from graphslim.channels.joints import joined
from graphslim.channels.rules import stated
from graphslim.channels.sizes import Sizes
from graphslim.channels.walk import ParamAxis, Walk
from graphslim.ir import Graph, Node, Port
from graphslim.ops import gradients, reshaped, variables  # noqa: F401  (registers the rules)
from graphslim.ops.reshaped import STATES_NUMBERS
from graphslim.ops.training import TrainingVisit, rule_for
from graphslim.ops.variables import VARIABLE_OPS

Found = Mapping[str, Mapping[int, np.ndarray]]
"""For axes of variables, by node, positions."""


class TrainingSizes(Sizes):
    """Shape arithmetic as in inference, and that of gradients."""

    def _values(
        self, node: Node, inputs: Sequence[Fact], outs: Sequence[Fact]
    ) -> Optional[List[np.ndarray]]:
        if node.op not in STATES_NUMBERS:
            return super()._values(node, inputs, outs)
        known = [out.value for out in outs if out.value is not None]
        return known if len(known) == len(outs) else None

    def _origins(
        self,
        node: Node,
        inputs: Sequence[Fact],
        outs: Sequence[Fact],
        values: Sequence[np.ndarray],
    ) -> Sequence[np.ndarray]:
        if node.op not in STATES_NUMBERS:
            return super()._origins(node, inputs, outs, values)
        return [np.asarray(out.atoms) for out in outs]


class TrainingWalk(Walk):
    """Collects the ties of a training graph.

    Args:
        graph: the graph.
        going: what goes from each variable, by axis, where a walk before has found it. With this
            axes can be followed that are flattened together: a position of the product goes where
            either part goes.

    Attributes:
        tied_by: for each tie, the node that makes it.
    """

    def __init__(self, graph: Graph, going: Optional[Found] = None) -> None:
        super().__init__(graph)
        self._going, self._stays = going or {}, self.fresh(1)
        self.sizes: TrainingSizes = TrainingSizes(graph)
        self.tied_by: List[str] = []
        self._first = np.zeros(0, np.int64)
        self._joined = 0
        self._variables: List[np.ndarray] = []
        self._gone: List[np.ndarray] = []

    def visit(self, node: Node) -> None:
        """Lets the rule of an op work; where it cannot, the op is one that is not followed."""
        inputs = self.read(node)
        sources = {port.node for port in self.graph.data_inputs(node)}
        if (
            node.op == "Const"
            or node.op in VARIABLE_OPS
            or (sources and sources <= self._constants)
        ):
            self._constants.add(node.name)
        rule = rule_for(node)
        ties, resizes = len(self.ties), len(self.sizes.resizes)
        visit = TrainingVisit(node, inputs, self)
        outs = stated(node, inputs)
        try:
            if rule is not None:
                given = rule(visit)
                outs = [given] if isinstance(given, Fact) else list(given)
            self.facts[node.name] = self.sizes.follow(visit, outs)
        except Exception:  # a rule may raise anything where a node does not fit it
            del self.ties[ties:], self.tied_by[ties:], self.sizes.resizes[resizes:]
            self._joined = min(self._joined, ties)
            self.facts[node.name] = stated(node, inputs)

    def _shared_vector(self, port: Port) -> Optional[Node]:
        """None: a constant that several ops read, as an initial value, is one for all of them."""
        return None

    def parameter(self, node: Node, shape: Sequence[int]) -> Fact:
        """The fact of a variable: fresh ids on every axis."""
        ids: Dict[int, Ids] = {}
        for axis, size in enumerate(shape):
            self.axes.append(ParamAxis(node.name, axis, self.count, size))
            ids[axis] = own = self.fresh(size)
            self._variables.append(own)
            gone = self._going.get(node.name, {}).get(axis)
            if gone is not None:
                self._gone.append(own[gone])
        return fact(tuple(shape), ids)

    def tie(self, node: Node, first: Ids, second: Ids) -> None:
        """Makes channels one; sides that are not followed, or do not fit, are left as they are."""
        if first is None or second is None or first is second or len(first) != len(second):
            return
        self.ties.append((first, second))
        self.tied_by.append(node.name)

    def split(
        self, node: Node, flat: np.ndarray, sizes: Sequence[int], preferred: Optional[int]
    ) -> List[Ids]:
        """The ids of the axes that one is split into: those of the part along which it is cut."""
        best, gone = (
            len(sizes) - 1 if preferred is None else preferred,
            self.going(flat).reshape(sizes),
        )
        for place in range(len(sizes)):
            lanes = np.moveaxis(gone, place, 0).reshape(sizes[place], -1)
            if gone.any() and not gone.all() and (lanes == lanes[:, :1]).all():
                best = place
        lanes = np.moveaxis(flat.reshape(sizes), best, 0).reshape(sizes[best], -1)
        self.tie(node, np.repeat(lanes[:, 0], lanes.shape[1] - 1), lanes[:, 1:].ravel())
        parts: List[Ids] = [None] * len(sizes)
        parts[best] = np.ascontiguousarray(lanes[:, 0])
        return parts

    def merged(self, ids: np.ndarray) -> np.ndarray:
        """For each id the first one of its channel, as the ties so far have it."""
        found: np.ndarray = self._so_far()[ids]
        return found

    def is_rooted(self, ids: np.ndarray) -> bool:
        """Whether an id is of a channel that a variable has, as the ties so far have it."""
        return bool(self._reached(ids, self._variables).any())

    def going(self, ids: np.ndarray) -> np.ndarray:
        """Which ids are of channels that go, as the ties so far have it; bool of shape (n,)."""
        return self._reached(ids, self._gone)

    def product(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The ids of axes that are flattened together.

        Args:
            parts: the ids of each, all of the shape of the tensor that is flattened.
        """
        flat = np.broadcast_to(self._stays, parts[0].shape)
        for ids in parts:
            flat = np.where(self.going(ids), ids, flat)
        return flat.ravel()

    def is_product(self, ids: np.ndarray) -> bool:
        """Whether ids are of axes that were flattened together."""
        first = self._so_far()
        return bool((first[ids] == first[self._stays]).any())

    def _reached(self, ids: np.ndarray, starts: Sequence[np.ndarray]) -> np.ndarray:
        first = self._so_far()
        reached = np.zeros(len(first), bool)
        for some in starts:
            reached[first[some]] = True
        found: np.ndarray = reached[first[ids]]
        return found

    def _so_far(self) -> np.ndarray:
        """Per id the first one of its channel; the ties that are new are worked in."""
        fresh = np.arange(len(self._first), self.count)
        if len(fresh) or self._joined < len(self.ties):
            both = np.concatenate([self._first, fresh])
            self._first = joined(both, self.ties[self._joined :])
            self._joined = len(self.ties)
        return self._first
