"""Layout rules of ops that move elements: joins, cuts, padding, transposes, branches."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from graphslim.ir import DType, Port
from graphslim.layout.kernels import kept_order
from graphslim.layout.visit import Visit
from graphslim.layout.walk import TO_NCHW, TO_NHWC, carries, is_vector


@carries("Transpose")
def transpose(at: Visit) -> bool:
    """Cancels with the change of layout, is merged with it, or tells of a tensor in NHWC."""
    order = at.ints(1)
    if order is None or len(order) != 4 or sorted([axis % 4 for axis in order]) != [0, 1, 2, 3]:
        return False
    order = [axis % 4 for axis in order]
    if not at.is_turned(0):
        if order == list(TO_NCHW) and not at.layouts.control(at.node):
            at.layouts.alias(Port(at.node.name), at.inputs[0])
        return True
    total = [TO_NCHW[axis] for axis in order]
    source = at.layouts.nhwc(at.inputs[0], at.dtype())
    if total == [0, 1, 2, 3]:
        at.layouts.pass_on(at.node, source)
    elif source.node in at.layouts.made:
        return False  # the tensor itself is as near
    else:
        at.turn(0)
        at.read(1, at.layouts.order(total, source))
    return True


@carries("ConcatV2", "Concat")
def concat(at: Visit) -> bool:
    """Joins along another axis."""
    where = 0 if at.node.op == "Concat" else len(at.inputs) - 1
    parts = [index for index in range(len(at.inputs)) if index != where]
    axes = at.axes(where)
    if axes is None or any(at.rank(index) != 4 for index in parts) or not at.pays(parts):
        return False
    for index in parts:
        at.turn(index)
    at.number(where, TO_NCHW[axes[0]], at.dtype("Tidx", DType.int32))
    at.turned(0)
    return True


@carries("Split", "SplitV")
def split(at: Visit) -> bool:
    """Cuts along another axis; the axis is the first input of a Split, the last of a SplitV."""
    data, where = (1, 0) if at.node.op == "Split" else (0, 2)
    axes = at.axes(where)
    if axes is None or not at.is_turned(data) or not at.can_split():
        return False
    at.turn(data)
    at.number(where, TO_NCHW[axes[0]], DType.int32)
    at.turned(*range(int(at.node.attrs["num_split"])))
    return True


_PER_AXIS: Dict[str, Tuple[Tuple[int, ...], str]] = {
    "Pad": ((1,), "Tpaddings"),
    "PadV2": ((1,), "Tpaddings"),
    "MirrorPad": ((1,), "Tpaddings"),
    "Tile": ((1,), "Tmultiples"),
    "Slice": ((1, 2), "Index"),
}
"""Inputs that list something per axis, and the attribute that names their type."""


@carries(*_PER_AXIS)
def per_axis(at: Visit) -> bool:
    """What is listed per axis is listed in another order."""
    if not at.is_turned(0):
        return False
    at.turn(0)
    places, key = _PER_AXIS[at.node.op]
    for index in places:
        at.reorder(index, TO_NHWC, at.dtype(key, DType.int32))
    at.turned(0)
    return True


@carries("GatherV2")
def gather(at: Visit) -> bool:
    """Picks along another axis, by a vector."""
    axes = at.axes(2)
    vector = at.rank(1) == 1 and not at.node.attrs.get("batch_dims", 0)
    if axes is None or not at.is_turned(0) or not vector:
        return False
    at.turn(0)
    at.number(2, TO_NCHW[axes[0]], at.dtype("Taxis", DType.int32))
    at.turned(0)
    return True


@carries("StridedSlice")
def strided_slice(at: Visit) -> bool:
    """Cuts other axes, if all bounds are constant and no axis is new."""
    cuts = _cuts(at) if at.is_turned(0) else None
    if cuts is None:
        return False
    shrunk = [axis for axis, cut in enumerate(cuts) if cut[5]]
    if shrunk and not kept_order([axis for axis in range(4) if axis not in shrunk]):
        return False
    turned = [cuts[axis] for axis in TO_NHWC]
    at.turn(0)
    for place in range(3):
        at.number(place + 1, [cut[place] for cut in turned], at.dtype("Index", DType.int32))
    for place, key in enumerate(("begin_mask", "end_mask", "shrink_axis_mask"), 3):
        at.set_attr(key, sum([int(cut[place]) << axis for axis, cut in enumerate(turned)]))
    at.set_attr("ellipsis_mask", 0)
    if not shrunk:
        at.turned(0)
    return True


def _cuts(at: Visit) -> Optional[List[Tuple[Any, ...]]]:
    """Per axis of four: begin, end, stride, and whether begin, end are open, the axis shrinks."""
    masks = {
        key: int(at.node.attrs.get(f"{key}_mask", 0))
        for key in ("begin", "end", "shrink_axis", "ellipsis", "new_axis")
    }
    bounds = [at.ints(index) for index in (1, 2, 3)]
    if masks["new_axis"] or any(bound is None for bound in bounds):
        return None
    whole = (0, 0, 1, True, True, False)
    cuts: List[Tuple[Any, ...]] = []
    rows = list(zip(*[bound or [] for bound in bounds]))
    for place, row in enumerate(rows):
        if masks["ellipsis"] >> place & 1:
            cuts.extend([whole] * (5 - len(rows)))
        else:
            flags = [bool(masks[key] >> place & 1) for key in ("begin", "end", "shrink_axis")]
            cuts.append((*row, *flags))
    cuts.extend([whole] * (4 - len(cuts)))
    return cuts if len(cuts) == 4 else None


@carries("SpaceToBatchND", "BatchToSpaceND")
def space_and_batch(at: Visit) -> bool:
    """In NCHW the channel axis is listed first, with a block of 1; NHWC does without it."""
    blocks, edges = at.ints(1), at.ints(2)
    if not at.is_turned(0) or blocks is None or edges is None or len(blocks) != 3:
        return False
    if blocks[0] != 1 or edges[:2] != [0, 0]:
        return False
    second = "Tpaddings" if at.node.op == "SpaceToBatchND" else "Tcrops"
    at.turn(0)
    at.number(1, blocks[1:], at.dtype("Tblock_shape", DType.int32))
    at.number(2, [edges[2:4], edges[4:]], at.dtype(second, DType.int32))
    at.turned(0)
    return True


@carries("Reshape")
def reshape(at: Visit) -> bool:
    """A vector per example is the same sequence in both layouts."""
    shape = at.shape(0)
    if not at.is_turned(0) or shape is None or not is_vector(shape):
        return False
    at.turn(0)
    return True


@carries("Shape")
def shape(at: Visit) -> bool:
    """Sizes are asked for in the order of NCHW."""
    out_type = at.dtype("out_type", DType.int32)
    at.layouts.ask_sizes(at.node, at.layouts.nhwc(at.inputs[0], at.dtype()), out_type)
    return True


@carries("Size", "Rank")
def count(at: Visit) -> bool:
    """The same in both layouts."""
    at.turn(0)
    return True


@carries("Switch")
def switch(at: Visit) -> bool:
    """Passes the tensor to one of two branches."""
    if not at.is_turned(0) or not at.can_split():
        return False
    at.turn(0)
    at.turned(0, 1)
    return True


@carries("Merge")
def merge(at: Visit) -> bool:
    """Takes the tensor of the branch that was run; the second output tells which."""
    indices = range(len(at.inputs))
    looped = any(at.layouts.graph[port.node].op == "NextIteration" for port in at.inputs)
    if looped or not at.can_split() or any(at.rank(index) != 4 for index in indices):
        return False
    if not at.pays(indices):
        return False
    for index in indices:
        at.turn(index)
    at.turned(0)
    return True
