"""Outputs that are pictures, side by side: what an eye sees of what a network lost."""

from __future__ import annotations

from contextlib import ExitStack
from typing import List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from graphslim.channels.groups import analyse
from graphslim.ir import Graph, Port
from graphslim.measure.fidelity import MASK, Decision, decision_of
from graphslim.measure.samples import Examples
from graphslim.measure.verify import runnable
from graphslim.runtime import Session

SMALLEST = 8
"""What is lower or narrower than this is no picture."""


class Look(NamedTuple):
    """One output that is a picture, for some examples.

    Attributes:
        output: the output's name.
        heads: what the columns show, such as `input` and `original`.
        rows: for each example its pictures, numbers from 0 to 1: float32 of shape (height, width),
            or (height, width, 3) in colours.
    """

    output: str
    heads: Tuple[str, ...]
    rows: Tuple[Tuple[np.ndarray, ...], ...]


def looks_at(graphs: Mapping[str, Graph], examples: Examples) -> Tuple[Look, ...]:
    """What several versions of one network give for the same examples, where that is a picture.

    Args:
        graphs: by what they are called, the original first.
        examples: the examples, some few.

    Raises:
        VerifyError: a graph does not run.
        RuntimeUnavailable: TensorFlow is not there.
    """
    original = next(iter(graphs.values()))
    outputs = original.outputs
    decisions = [decision_of(original, port) for port in outputs]
    axes = [_channel_axis(original, port) for port in outputs]
    rows: List[List[Tuple[np.ndarray, ...]]] = [[] for _ in outputs]
    heads: Tuple[str, ...] = tuple(graphs)
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(Session(runnable(graph), optimize=False))
            for graph in graphs.values()
        ]
        for feeds, count in examples:
            values = [session.run(feeds, [str(port) for port in outputs]) for session in sessions]
            shown = _input_of(feeds)
            for number, (decision, axis) in enumerate(zip(decisions, axes)):
                arrays = [value[number] for value in values]
                for index in range(min(count, len(arrays[0])) if arrays[0].ndim else 0):
                    pictures = _pictures([array[index] for array in arrays], axis, decision)
                    if pictures is None:
                        break
                    if shown is not None:
                        pictures = (_between_0_and_1(shown[index]), *pictures)
                    rows[number].append(pictures)
            if shown is not None and len(heads) == len(graphs):
                heads = ("input", *heads)
    return tuple([Look(str(port), heads, tuple(each)) for port, each in zip(outputs, rows) if each])


def _channel_axis(graph: Graph, port: Port) -> int:
    """The axis of an output's channels, counted from the end; the last where that is not known."""
    ids = analyse(graph).fact(port).ids
    known = [axis - len(ids) for axis, of in enumerate(ids) if of is not None]
    return known[0] if len(known) == 1 else -1


def _input_of(feeds: Mapping[str, np.ndarray]) -> Optional[List[np.ndarray]]:
    """The pictures of the only input that holds some, of one channel or in colours."""
    columns = [
        [picture_of(example, -3 if array.shape[-3] in (1, 3) else -1) for example in array]
        for array in feeds.values()
        if array.ndim == 4 and {array.shape[-1], array.shape[-3]} & {1, 3}
    ]
    if len(columns) != 1:
        return None
    pictures = [picture for picture in columns[0] if picture is not None]
    return pictures if len(pictures) == len(columns[0]) else None


def _pictures(
    values: List[np.ndarray], axis: int, decision: Optional[Decision]
) -> Optional[Tuple[np.ndarray, ...]]:
    """The pictures of what each graph gave for one example, on the scale of the first."""
    if decision is not None and decision.kind != MASK:
        values = [decision.decide(value) for value in values]
    pictures = [picture_of(value, axis) for value in values]
    first = pictures[0]
    if first is None:
        return None
    low, high = float(first.min()), float(first.max())
    return tuple(
        [_between_0_and_1(picture, low, high) for picture in pictures if picture is not None]
    )


def _between_0_and_1(
    picture: np.ndarray, low: Optional[float] = None, high: Optional[float] = None
) -> np.ndarray:
    """A picture with what lies between two numbers spread from 0 to 1; by default all of it."""
    low = float(picture.min()) if low is None else low
    high = float(picture.max()) if high is None else high
    return np.clip((picture - low) / ((high - low) or 1.0), 0, 1).astype(np.float32)


def picture_of(value: np.ndarray, axis: int = -1) -> Optional[np.ndarray]:
    """The picture that a value of one example is; None if it is none.

    Of three channels it is one in colours; of more, as in heat maps of many joints, each of its
    numbers is the largest of the channels'.

    Args:
        value: numbers of shape (height, width), with or without an axis of channels.
        axis: the axis of the channels, where there are three axes.

    Returns:
        float32 of shape (height, width) or (height, width, 3).
    """
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        return None
    array = np.nan_to_num(array.astype(np.float32))
    if array.ndim == 3:
        array = np.moveaxis(array, axis, -1)
        if array.shape[-1] != 3:
            array = array.max(-1)
    return array if array.ndim in (2, 3) and min(array.shape[:2]) >= SMALLEST else None
