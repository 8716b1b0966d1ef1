"""Layout rules: arithmetic and reductions, kernels with a `data_format`, what moves elements."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

from graphslim.ir import IDENTITIES, DType, Port
from graphslim.ir.families import BROADCASTING, LOGICAL, UNARY
from graphslim.layout.visit import LayoutVisit
from graphslim.layout.walk import TO_NCHW, TO_NHWC, is_vector, kernel, layout_rule


@layout_rule(
    *sorted(IDENTITIES | UNARY),
    *("CheckNumericsV2", "FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars"),
)
def unary(at: LayoutVisit) -> bool:
    """The first input alone has the axes; the others, if any, are scalars."""
    graph = at.layouts.graph
    if at.node.name in at.layouts.ends and not graph.uses_of(at.node):
        return False  # a Transpose before it does as well
    if not at.is_turned(0):
        return False
    at.turn(0)
    at.turned(0)
    return True


@layout_rule("IdentityN")
def identity_n(at: LayoutVisit) -> bool:
    """Each tensor on its own."""
    if not at.can_split():
        return False
    places = [index for index, port in enumerate(at.inputs) if at.layouts.is_in_place(port)]
    for index in places:
        at.turn(index)
    at.turned(*places)
    return True


@layout_rule(*sorted(BROADCASTING))
def broadcasting(at: LayoutVisit) -> bool:
    """Every operand gets the axes of NHWC, those with fewer axes too."""
    dtype = DType.bool if at.node.op in LOGICAL else at.dtype()
    dtypes = [dtype] * len(at.inputs)
    if at.node.op == "SelectV2":
        dtypes[0] = DType.bool
    return _align(at, range(len(at.inputs)), dtypes)


@layout_rule("Select")
def select(at: LayoutVisit) -> bool:
    """A condition of one axis chooses along the batch, whose place does not change."""
    if at.rank(0) in (0, 1):
        return _align(at, (1, 2), [at.dtype()] * 3)
    return _align(at, (0, 1, 2), [DType.bool, at.dtype(), at.dtype()])


def _align(at: LayoutVisit, indices: Sequence[int], dtypes: Sequence[DType]) -> bool:
    wide = [index for index in indices if at.rank(index) == 4]
    small = [index for index in indices if index not in wide]
    if not at.pays(wide):
        return False
    if any(not _is_scalar(at, index) and not _can_expand(at, index) for index in small):
        return False
    for index in wide:
        if not _is_scalar(at, index):
            at.turn(index, dtypes[index])
    for index in small:
        if not _is_scalar(at, index):
            at.read(index, _expanded(at, index, dtypes[index]))
    at.turned(0)
    return True


def _is_scalar(at: LayoutVisit, index: int) -> bool:
    shape = at.shape(index)
    return shape is not None and len(shape) <= 4 and all(size == 1 for size in shape)


def _can_expand(at: LayoutVisit, index: int) -> bool:
    """Whether an operand of fewer axes is a constant, or a vector computed from constants."""
    port, shape = at.inputs[index], at.shape(index)
    if shape is None or len(shape) > 3 or None in shape:
        return False
    if at.layouts.constant(port) is not None:
        return True
    return port.node in at.layouts.fixed and is_vector((1, *shape))


def _expanded(at: LayoutVisit, index: int, dtype: DType) -> Port:
    layouts, port = at.layouts, at.inputs[index]
    if layouts.constant(port) is not None:
        constant: Port = layouts.copied(port, TO_NHWC)
        return constant
    shape = at.shape(index) or ()
    full = (1,) * (4 - len(shape)) + shape
    name = f"{at.node.name}/nhwc_{index}"
    reshaped: Port = layouts.reshape(name, port, [full[axis] for axis in TO_NHWC], dtype)
    return reshaped


@layout_rule("Mean", "Sum", "Max", "Min", "Prod", "Any", "All")
def reduction(at: LayoutVisit) -> bool:
    """Names other axes; where they are dropped, those that stay have to keep their order."""
    axes, keep = at.axes(1), bool(at.node.attrs.get("keep_dims"))
    if axes is None or not (keep or _rest_in_order(axes)):
        return False
    at.turn(0)
    at.number(1, _like(at, 1, [TO_NCHW[axis] for axis in axes]), at.dtype("Tidx", DType.int32))
    if keep:
        at.turned(0)
    return True


@layout_rule("ArgMax", "ArgMin")
def arg_extreme(at: LayoutVisit) -> bool:
    """Drops the axis that it searches."""
    axes = at.axes(1)
    if axes is None or len(axes) != 1 or not _rest_in_order(axes):
        return False
    at.turn(0)
    at.number(1, _like(at, 1, [TO_NCHW[axes[0]]]), at.dtype("Tidx", DType.int32))
    return True


def _rest_in_order(axes: List[int]) -> bool:
    return kept_order([axis for axis in range(4) if axis not in axes])


def _like(at: LayoutVisit, index: int, numbers: List[int]) -> object:
    """Numbers, or the first of them where the input is a scalar."""
    return numbers[0] if at.rank(index) == 0 else numbers


@layout_rule("Squeeze")
def squeeze(at: LayoutVisit) -> bool:
    """Drops axes of size 1: those named, or all."""
    named = [axis % 4 for axis in at.node.ints("squeeze_dims")]
    shape: Optional[Sequence[Optional[int]]] = at.shape(0)
    if not named:
        # Which axes go is known if all sizes are; the attribute stays empty.
        if shape is None or None in shape:
            return False
        gone = [axis for axis, size in enumerate(shape) if size == 1]
    else:
        gone = named
    if not _rest_in_order(gone):
        return False
    at.turn(0)
    if named:
        at.set_attr("squeeze_dims", sorted([TO_NCHW[axis] for axis in named]))
    return True


# --- Layout rules of ops with a `data_format`: convolutions, pools, batch norm, bias.


def reformat(at: LayoutVisit) -> None:
    """Rewrites the attributes that list a number per axis, and the format itself."""
    for key in ("strides", "dilations", "ksize"):
        numbers = at.node.ints(key)
        if len(numbers) == 4:
            at.set_attr(key, [numbers[axis] for axis in TO_NHWC])
    pads = at.node.ints("explicit_paddings")
    if len(pads) == 8:
        at.set_attr("explicit_paddings", [pads[2 * axis + i] for axis in TO_NHWC for i in (0, 1)])
    at.set_attr("data_format", b"NHWC")


@kernel("Conv2D", "DepthwiseConv2dNative", "MaxPool", "AvgPool", "BiasAdd")
@kernel("DepthToSpace", "SpaceToDepth")
@kernel("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def one_tensor(at: LayoutVisit) -> None:
    """The first input and the first output are the tensors; weights have the same form in both.

    DepthToSpace and SpaceToDepth order the channels of both formats alike.
    """
    reformat(at)
    at.turn(0)
    at.turned(0)


@kernel("_FusedConv2D", "_FusedDepthwiseConv2dNative", "_FusedBatchNormEx")
def fused(at: LayoutVisit) -> None:
    """As above, and a summand among the arguments is turned as well."""
    reformat(at)
    for index in range(len(at.inputs)):
        if index == 0 or (index > 1 and at.rank(index) == 4):
            at.turn(index)
    at.turned(0)


@kernel("MaxPoolV2")
def pool_with_inputs(at: LayoutVisit) -> None:
    """Window and strides are inputs."""
    reformat(at)
    at.turn(0)
    for index in (1, 2):
        at.reorder(index, TO_NHWC, DType.int32)
    at.turned(0)


@kernel("Conv2DBackpropInput")
def transposed_conv(at: LayoutVisit) -> None:
    """`input_sizes` lists all four sizes of the output, or height and width alone."""
    reformat(at)
    sizes = at.layouts.facts.fact(at.inputs[0])
    if sizes.shape != (2,):
        at.reorder(0, TO_NHWC, at.dtype("Tshape", DType.int32))
    at.turn(2)
    at.turned(0)


def kept_order(axes: List[int]) -> bool:
    """Whether axes of an NCHW tensor, ascending, follow each other likewise in NHWC."""
    places = [TO_NHWC.index(axis) for axis in axes]
    return places == sorted(places)


# --- Layout rules of ops that move elements: joins, cuts, padding, transposes, branches.


@layout_rule("Transpose")
def transpose(at: LayoutVisit) -> bool:
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


@layout_rule("ConcatV2", "Concat")
def concat(at: LayoutVisit) -> bool:
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


@layout_rule("Split", "SplitV")
def split(at: LayoutVisit) -> bool:
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


@layout_rule(*_PER_AXIS)
def per_axis(at: LayoutVisit) -> bool:
    """What is listed per axis is listed in another order."""
    if not at.is_turned(0):
        return False
    at.turn(0)
    places, key = _PER_AXIS[at.node.op]
    for index in places:
        at.reorder(index, TO_NHWC, at.dtype(key, DType.int32))
    at.turned(0)
    return True


@layout_rule("GatherV2")
def gather(at: LayoutVisit) -> bool:
    """Picks along another axis, by a vector."""
    axes = at.axes(2)
    vector = at.rank(1) == 1 and not at.node.attrs.get("batch_dims", 0)
    if axes is None or not at.is_turned(0) or not vector:
        return False
    at.turn(0)
    at.number(2, TO_NCHW[axes[0]], at.dtype("Taxis", DType.int32))
    at.turned(0)
    return True


@layout_rule("StridedSlice")
def strided_slice(at: LayoutVisit) -> bool:
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


def _cuts(at: LayoutVisit) -> Optional[List[Tuple[Any, ...]]]:
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


@layout_rule("SpaceToBatchND", "BatchToSpaceND")
def space_and_batch(at: LayoutVisit) -> bool:
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


@layout_rule("Reshape")
def reshape(at: LayoutVisit) -> bool:
    """A vector per example is the same sequence in both layouts."""
    shape = at.shape(0)
    if not at.is_turned(0) or shape is None or not is_vector(shape):
        return False
    at.turn(0)
    return True


@layout_rule("Shape")
def shape(at: LayoutVisit) -> bool:
    """Sizes are asked for in the order of NCHW."""
    out_type = at.dtype("out_type", DType.int32)
    at.layouts.ask_sizes(at.node, at.layouts.nhwc(at.inputs[0], at.dtype()), out_type)
    return True


@layout_rule("Size", "Rank")
def count(at: LayoutVisit) -> bool:
    """The same in both layouts."""
    at.turn(0)
    return True


@layout_rule("Switch")
def switch(at: LayoutVisit) -> bool:
    """Passes the tensor to one of two branches."""
    if not at.is_turned(0) or not at.can_split():
        return False
    at.turn(0)
    at.turned(0, 1)
    return True


@layout_rule("Merge")
def merge(at: LayoutVisit) -> bool:
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
