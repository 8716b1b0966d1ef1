"""A recognised piece of architecture."""

from __future__ import annotations

from typing import NamedTuple, Tuple

from graphslim.ir.node import Port


class Block(NamedTuple):
    """A recognised piece of architecture.

    Attributes:
        kind: the pattern's name, such as `inverted_residual`.
        name: the name scope that its nodes share, made unique.
        nodes: the nodes inside, in topological order.
        channels_of: the port whose channels are the block's own (its scoring layer's output).
        roles: what the pattern called its nodes (`expand`, `depthwise`, ...).
    """

    kind: str
    name: str
    nodes: Tuple[str, ...]
    channels_of: Port
    roles: Tuple[Tuple[str, str], ...]

    def role(self, name: str) -> str:
        """The node that the pattern called `name`.

        Raises:
            KeyError: the pattern has no such name.
        """
        return dict(self.roles)[name]
