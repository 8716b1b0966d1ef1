"""Layout rules of ops that work position by position, and of reductions."""

from __future__ import annotations

from typing import List, Optional, Sequence

from graphslim.ir import IDENTITIES, DType, Port
from graphslim.layout.kernels import kept_order
from graphslim.layout.visit import Visit
from graphslim.layout.walk import TO_NCHW, TO_NHWC, carries, is_vector

_UNARY = (
    "Relu Relu6 Elu Selu LeakyRelu Softplus Softsign Sigmoid Tanh Neg Abs Square Sqrt Rsqrt Exp "
    "Expm1 Log Log1p Floor Ceil Round Rint Sign Reciprocal Inv Sin Cos Tan Asin Acos Atan Sinh "
    "Cosh Asinh Acosh Atanh Erf Erfc LogicalNot IsNan IsInf IsFinite ZerosLike OnesLike Cast "
    "FakeQuantWithMinMaxVars FakeQuantWithMinMaxArgs CheckNumericsV2"
)
_BROADCASTING = (
    "Add AddV2 Sub Mul RealDiv Div DivNoNan MulNoNan Xlogy Xdivy Atan2 Maximum Minimum Pow "
    "FloorDiv FloorMod Mod TruncateDiv TruncateMod SquaredDifference Equal NotEqual Greater "
    "GreaterEqual Less LessEqual LogicalAnd LogicalOr AddN SelectV2 ClipByValue"
)
_LOGICAL = ("LogicalAnd", "LogicalOr")


@carries(*sorted(IDENTITIES), *_UNARY.split())
def unary(at: Visit) -> bool:
    """The first input alone has the axes; the others, if any, are scalars."""
    graph = at.layouts.graph
    if at.node.name in at.layouts.ends and not graph.uses_of(at.node):
        return False  # a Transpose before it does as well
    if not at.is_turned(0):
        return False
    at.turn(0)
    at.turned(0)
    return True


@carries("IdentityN")
def identity_n(at: Visit) -> bool:
    """Each tensor on its own."""
    if not at.can_split():
        return False
    places = [index for index, port in enumerate(at.inputs) if at.layouts.is_in_place(port)]
    for index in places:
        at.turn(index)
    at.turned(*places)
    return True


@carries(*_BROADCASTING.split())
def broadcasting(at: Visit) -> bool:
    """Every operand gets the axes of NHWC, those with fewer axes too."""
    dtype = DType.bool if at.node.op in _LOGICAL else at.dtype()
    dtypes = [dtype] * len(at.inputs)
    if at.node.op == "SelectV2":
        dtypes[0] = DType.bool
    return _align(at, range(len(at.inputs)), dtypes)


@carries("Select")
def select(at: Visit) -> bool:
    """A condition of one axis chooses along the batch, whose place does not change."""
    if at.rank(0) in (0, 1):
        return _align(at, (1, 2), [at.dtype()] * 3)
    return _align(at, (0, 1, 2), [DType.bool, at.dtype(), at.dtype()])


def _align(at: Visit, indices: Sequence[int], dtypes: Sequence[DType]) -> bool:
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


def _is_scalar(at: Visit, index: int) -> bool:
    shape = at.shape(index)
    return shape is not None and len(shape) <= 4 and all(size == 1 for size in shape)


def _can_expand(at: Visit, index: int) -> bool:
    """Whether an operand of fewer axes is a constant, or computed from some as a vector."""
    port, shape = at.inputs[index], at.shape(index)
    if shape is None or len(shape) > 3 or None in shape:
        return False
    if at.layouts.constant(port) is not None:
        return True
    return port.node in at.layouts.fixed and is_vector((1, *shape))


def _expanded(at: Visit, index: int, dtype: DType) -> Port:
    layouts, port = at.layouts, at.inputs[index]
    if layouts.constant(port) is not None:
        constant: Port = layouts.copied(port, TO_NHWC)
        return constant
    shape = at.shape(index) or ()
    full = (1,) * (4 - len(shape)) + shape
    name = f"{at.node.name}/nhwc_{index}"
    reshaped: Port = layouts.reshape(name, port, [full[axis] for axis in TO_NHWC], dtype)
    return reshaped


@carries("Mean", "Sum", "Max", "Min", "Prod", "Any", "All")
def reduction(at: Visit) -> bool:
    """Names other axes; where they are dropped, those that stay have to keep their order."""
    axes, keep = at.axes(1), bool(at.node.attrs.get("keep_dims"))
    if axes is None or not (keep or _rest_in_order(axes)):
        return False
    at.turn(0)
    at.number(1, _like(at, 1, [TO_NCHW[axis] for axis in axes]), at.dtype("Tidx", DType.int32))
    if keep:
        at.turned(0)
    return True


@carries("ArgMax", "ArgMin")
def arg_extreme(at: Visit) -> bool:
    """Drops the axis that it searches."""
    axes = at.axes(1)
    if axes is None or len(axes) != 1 or not _rest_in_order(axes):
        return False
    at.turn(0)
    at.number(1, _like(at, 1, [TO_NCHW[axes[0]]]), at.dtype("Tidx", DType.int32))
    return True


def _rest_in_order(axes: List[int]) -> bool:
    return kept_order([axis for axis in range(4) if axis not in axes])


def _like(at: Visit, index: int, numbers: List[int]) -> object:
    """Numbers as a scalar where the input is one."""
    return numbers[0] if at.rank(index) == 0 else numbers


@carries("Squeeze")
def squeeze(at: Visit) -> bool:
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
