"""What keeps damaged and hostile graphs from doing harm: one boundary around rules, and limits.

A rule may raise anything where a node lacks inputs or has impossible attributes; `guarded` makes
one line of it. What a few bytes can state, an axis of a billion positions, may not cost more than
the file that states it: `fits` is asked before anything is laid out at a size that was only stated.
"""

from __future__ import annotations

from typing import Any, Callable, Optional, Sequence, TypeVar

import numpy as np

from graphslim.errors import AnalysisError, GraphslimError

LONGEST = 1 << 22
"""Longer axes are not followed position by position; their channels are pinned."""
LAID_OUT = 1 << 24
"""Known values that stand for more elements than this are not laid out: they count as unknown."""
FOLLOWED = 1 << 23
"""How many positions one walk follows in all, beside one for each byte of the file."""

Result = TypeVar("Result")


def guarded(rule: Callable[..., Result], graph: Any, node: Any, *given: Any) -> Result:
    """What `rule(*given)` gives, a rule for a node of a graph.

    Raises:
        GraphslimError: what the rule raised, with file and node.
        AnalysisError: the rule failed in another way: inputs or attributes do not fit the op.
    """
    where = f"{graph.name}: node {node.name}"
    try:
        return rule(*given)
    except GraphslimError as error:
        if error.where not in (None, node.name):
            raise
        raise type(error)(error.what, where, error.hint) from error
    except MemoryError:
        raise
    except Exception as error:
        raise AnalysisError(
            f"the inputs or attributes of this {node.op} do not fit the op "
            f"({type(error).__name__}: {error})",
            where,
            "export the graph again; if TensorFlow runs it, report what --debug prints",
        ) from error


def fits(limit: int, *sizes: Optional[int]) -> bool:
    """Whether the product of sizes is within a limit; open sizes count as 1."""
    total = 1
    for size in sizes:
        total *= 1 if size is None else size
    return total <= limit


def laid_out(value: np.ndarray, shape: Sequence[int]) -> Optional[np.ndarray]:
    """A value at its full shape; None where that is much larger than what it holds."""
    if value.size != int(np.prod(shape, dtype=object)) and not fits(LAID_OUT, *shape):
        return None
    whole: np.ndarray = np.broadcast_to(value, shape)
    return whole
