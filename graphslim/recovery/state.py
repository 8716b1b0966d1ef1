"""What a repair has done so far, in a file: a repair that was killed goes on from there.

The file is an `.npz`: a header in JSON, and the arrays that it counts. It is replaced as a whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

import numpy as np

from graphslim.errors import GraphslimError
from graphslim.graphdef import serialize
from graphslim.ir import Graph
from graphslim.measure.agreement import Agreement
from graphslim.measure.fidelity import OutputDifference
from graphslim.plans import Plan
from graphslim.recovery.distillation import Point
from graphslim.recovery.least_squares import Fitted
from graphslim.recovery.result import Stage
from graphslim.support.reading import read_arrays
from graphslim.support.writing import check_target, replacing

FORMAT, VERSION = "graphslim-repair", 1
EVERY = 20.0
"""Seconds from one writing of what is not finished to the next, at least."""
_SHARE = 0.05
"""The share of the time that may be spent on writing."""
_TUPLES = {kind.__name__: kind for kind in (Agreement, OutputDifference, Fitted, Point, Stage)}
_ANEW = "delete it to begin anew, or give another file"


class State:
    """The parts of a repair that are done, by name, each a tree of numbers, texts and arrays.

    Args:
        path: the file, which is read if it is there; without one nothing is kept.
        purpose: what the repair is about; by name, a text or number. A file that was left by a
            repair about something else is refused.

    Attributes:
        path: the file; None without one.

    Raises:
        GraphslimError: the file is damaged, is no state, or is that of another repair.
        EmitError: the file cannot be written.
    """

    def __init__(self, path: Optional[str] = None, purpose: Optional[Mapping[str, Any]] = None):
        self.path, self._parts = path, {}  # type: Optional[str], Dict[str, Any]
        self._purpose = {name: str(value) for name, value in (purpose or {}).items()}
        self._saved, self._took = time.perf_counter(), 0.0
        if path is not None:
            check_target(path)
            if os.path.exists(path):
                self._parts = self._read(path)

    def get(self, name: str) -> Any:
        """A part; None if it is not there."""
        return self._parts.get(name)

    def put(self, name: str, part: Any, forget: Sequence[str] = ()) -> None:
        """Adds or replaces a part, takes others away, and writes the file.

        Raises:
            EmitError: the file cannot be written.
        """
        if self.path is None:
            return
        parts = {key: value for key, value in self._parts.items() if key not in forget}
        self._parts = {**parts, name: part}
        started = time.perf_counter()
        arrays: List[np.ndarray] = []
        tree = _packed(self._parts, arrays)
        header = {"format": FORMAT, "version": VERSION, "purpose": self._purpose, "parts": tree}
        text = np.frombuffer(json.dumps(header).encode("utf-8"), np.uint8)
        named: Dict[str, Any] = {str(at): array for at, array in enumerate(arrays)}
        with replacing(self.path) as file:
            np.savez(file, header=text, **named)
        self._saved = time.perf_counter()
        self._took = self._saved - started

    def is_due(self) -> bool:
        """Whether it is time to write what is not finished."""
        wait = max(EVERY, self._took / _SHARE) if EVERY else 0.0
        return self.path is not None and time.perf_counter() - self._saved >= wait

    def _read(self, path: str) -> Dict[str, Any]:
        try:
            arrays = read_arrays(path)
            header = json.loads(arrays["header"].tobytes().decode("utf-8"))
            if header["format"] != FORMAT or header["version"] != VERSION:
                raise ValueError(header["format"])
            purpose, parts = dict(header["purpose"]), _unpacked(header["parts"], arrays)
        except (GraphslimError, LookupError, ValueError, TypeError, AttributeError, RecursionError):
            raise GraphslimError(
                "is cut off, or is no state of a repair that this graphslim knows", path, _ANEW
            ) from None
        for name, value in self._purpose.items():
            if purpose.get(name) != value:
                raise GraphslimError(
                    f"was left by another repair, with {name}: {purpose.get(name, 'none')}; now "
                    f"with {value}",
                    path,
                    f"start it with the same files and options to go on; {_ANEW}",
                )
        result: Dict[str, Any] = parts
        return result


StateLike = Union[None, str, "os.PathLike[str]", State]
"""A state, or the path of one."""


def state_of(given: StateLike, purpose: Callable[[], Mapping[str, Any]]) -> State:
    """The state at a path, or the one that was given; without either, one that keeps nothing.

    Raises:
        GraphslimError, EmitError: as for `State`.
    """
    if isinstance(given, State):
        return given
    return State() if given is None else State(os.fspath(given), purpose())


def digest_of_graph(graph: Graph) -> str:
    """A digest of a graph, and of what is fed and computed."""
    digest = hashlib.sha256(serialize(graph))
    digest.update(repr((list(graph.inputs), [str(port) for port in graph.outputs])).encode())
    return digest.hexdigest()[:16]


def digest_of_plan(plan: Optional[Plan]) -> str:
    """A digest of what a plan removes and folds; `none` without one."""
    if plan is None:
        return "none"
    told = [(group.id, group.removed) for group in plan.groups], plan.folds
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _packed(value: Any, arrays: List[np.ndarray]) -> Any:
    """A tree for JSON; arrays are put into a list, and counted."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (tuple, list)):
        kind = type(value).__name__ if hasattr(value, "_fields") else "tuple"
        return {kind: [_packed(item, arrays) for item in value]}
    if isinstance(value, Mapping):
        return {"dict": [[key, _packed(item, arrays)] for key, item in value.items()]}
    return value


def _unpacked(tree: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """What `_packed` was given."""
    if not isinstance(tree, dict):
        return tree
    ((kind, items),) = tree.items()
    if kind == "array":
        return arrays[str(items)]
    if kind == "dict":
        return {key: _unpacked(item, arrays) for key, item in items}
    parts = tuple([_unpacked(item, arrays) for item in items])
    return parts if kind == "tuple" else _TUPLES[kind](*parts)
