"""Graphs as short text for tests: the text of `graphslim.testing`, with usual attributes filled in.

`w = f32[1,1,4,8]{random 1}` and `n = i32[2]{1 2}` are constants, `x = input 1,6,6,4` is an input.
"""

from __future__ import annotations

import re
from typing import Dict, List, Optional, Sequence

import numpy as np

import graphslim as gs
from graphslim.analysis.values import Values
from graphslim.report.data import remedy
from graphslim.testing import assert_equivalent, from_text, round_trip

_CONV = 'data_format="NHWC" padding="SAME" strides=[1,1,1,1]'
_POOL = _CONV + " ksize=[1,2,2,1]"
_USUAL: Dict[str, str] = {
    "Conv2D": _CONV,
    "DepthwiseConv2dNative": _CONV,
    "Conv2DBackpropInput": _CONV,
    "AvgPool": _POOL,
    "MaxPool": _POOL,
    "BiasAdd": 'data_format="NHWC"',
    "FusedBatchNorm": 'data_format="NHWC" epsilon=0.001 is_training=false',
    "MatMul": "transpose_a=false transpose_b=false",
    "Mean": "keep_dims=true",
    "DepthToSpace": 'block_size=2 data_format="NHWC"',
    "SpaceToDepth": 'block_size=2 data_format="NHWC"',
    "StridedSlice": "Index=int32 begin_mask=0 end_mask=0 ellipsis_mask=0 new_axis_mask=0"
    " shrink_axis_mask=0",
    "SpaceToBatchND": "Tblock_shape=int32 Tpaddings=int32",
    "BatchToSpaceND": "Tblock_shape=int32 Tcrops=int32",
    "Shape": "out_type=int32",
    "Slice": "Index=int32",
    "SplitV": "Tlen=int32",
    "Tile": "Tmultiples=int32",
    "Fill": "index_type=int32",
    "BroadcastTo": "Tidx=int32",
    "Reshape": "Tshape=int32",
    "GatherV2": "Tparams=float32 Tindices=int32 Taxis=int32",
    "Cast": "SrcT=float32 DstT=int32",
}
_NO_T = (
    *("DecodeJpeg", "DecodeWav", "AudioSpectrogram", "Mfcc"),
    *("Placeholder", "Const", "Cast", "NoOp", "FakeQuantWithMinMaxArgs"),
    *("FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel"),
    *("LogicalNot", "LogicalAnd", "LogicalOr", "All", "Any", "Range", "LoopCond"),
    *("Gather", "GatherV2", "GatherNd"),
)


def _line(line: str) -> str:
    constant = re.match(r"^\s*(\S+) = (f32|i32)(\[.*)$", line)
    if constant:
        dtype = {"f32": "float32", "i32": "int32"}[constant[2]]
        return f"{constant[1]} = Const() dtype={dtype} value={dtype}{constant[3]}"
    given = re.match(r"^\s*(\S+) = input (\S+)$", line)
    if given:
        return f"{given[1]} = Placeholder() dtype=float32 shape=<{given[2]}>"
    node = re.match(r"^\s*(\S+ = (\w+)\([^)]*\))(.*)$", line)
    if not node:
        return line
    attrs = {} if node[2] in _NO_T else {"T": "float32"}
    for text in (_USUAL.get(node[2], ""), node[3]):
        attrs.update(re.findall(r"(\w+)=(\S+)", text))
    if node[2] in ("ConcatV2", "AddN", "Pack"):
        attrs.setdefault("N", str(node[1].count(",") + (1 if node[2] != "ConcatV2" else 0)))
    return node[1] + "".join([f" {key}={value}" for key, value in attrs.items()])


def tiny(text: str) -> gs.Graph:
    """A graph from short text."""
    return from_text("\n".join([_line(line) for line in text.splitlines()]))


def groups(graph: gs.Graph) -> Dict[str, gs.Group]:
    """The groups of a graph by id."""
    return {group.id: group for group in gs.analyse(graph).groups}


def pins(graph: gs.Graph, name: str) -> str:
    """Why a group is pinned, and where, as `reason @ node`."""
    group = groups(graph)[name]
    assert not group.prunable, f"{name} is not pinned"
    return f"{group.pinned_by} @ {group.pinned_at}"


def advice(graph: gs.Graph, name: str) -> str:
    """What a user is told to do about a group that is pinned."""
    reason = groups(graph)[name].pinned_by
    assert reason is not None, f"{name} is not pinned"
    return remedy(reason, graph)


def dead(graph: gs.Graph, **options: object) -> Dict[str, List[int]]:
    """By group, the channels that a dead-channel plan removes."""
    plan = gs.plan(graph, **options)  # type: ignore[arg-type]
    return {group.id: list(group.removed) for group in plan.groups}


def prune(graph: gs.Graph, expected: Dict[str, List[int]], **options: object) -> gs.Graph:
    """Removes the dead channels, which have to be those expected, and checks oracle 2.

    Gives the pruned graph after a round trip through its bytes; a second run finds nothing in it.
    """
    plan = gs.plan(graph, **options)  # type: ignore[arg-type]
    found = {group.id: list(group.removed) for group in plan.groups}
    assert found == expected, f"removed {found}, expected {expected}"
    slim = round_trip(gs.apply(graph, plan))
    assert_equivalent(graph, slim)
    again = dead(slim, **options)
    assert again == {}, f"a second run removes {again}"
    return slim


def value(graph: gs.Graph, port: str, zero_below: float = 0.0) -> Optional[np.ndarray]:
    """What the value analysis knows at a port, whether it computes all at once or on demand."""
    at_once, on_demand = [
        Values(graph, gs.analyse(graph), zero_below, way).at(gs.Port.parse(port))
        for way in (True, False)
    ]
    assert (at_once is None) == (on_demand is None)
    np.testing.assert_array_equal(at_once, on_demand)
    return at_once


def constant(graph: gs.Graph, name: str) -> np.ndarray:
    """The numbers of a constant."""
    numbers: np.ndarray = graph[name].attrs["value"].numbers()
    return numbers


def zero_filters(graph: gs.Graph, name: str, axis: int, channels: Sequence[int]) -> gs.Graph:
    """Sets slices of a constant to zero, in place."""
    tensor = graph[name].attrs["value"]
    numbers = np.array(tensor.numbers())
    numbers[(slice(None),) * axis + (list(channels),)] = 0
    graph.set_attr(name, "value", tensor.with_numbers(numbers))
    return graph
