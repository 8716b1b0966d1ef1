"""The base of passes that recognise blocks."""

from __future__ import annotations

from typing import ClassVar

from graphslim.errors import PassError
from graphslim.ir import Graph
from graphslim.match import PATTERNS, find_blocks
from graphslim.pipeline.base import Outcome, Pass
from graphslim.support.text import plural


class FindBlocks(Pass):
    """Finds all blocks of one kind and puts them into `graph.blocks`; `kind` names the pattern."""

    kind: ClassVar[str] = ""

    @classmethod
    def is_declared(cls) -> bool:
        """Whether its kind of block has a pattern, if it goes by one."""
        return cls.run is not FindBlocks.run or cls.kind in PATTERNS

    def run(self, graph: Graph) -> Outcome:
        """Replaces the blocks of this kind.

        Raises:
            PassError: no pattern of that kind is declared.
        """
        if self.kind not in PATTERNS:
            raise PassError(
                f"no block pattern {self.kind!r}", self.name, "declare it with @block_pattern"
            )
        found = find_blocks(graph, PATTERNS[self.kind])
        graph.blocks = [block for block in graph.blocks if block.kind != self.kind] + found
        return Outcome(False, (plural(len(found), f"{self.kind} block"),))
