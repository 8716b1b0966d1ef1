"""Families of ops: the sets of names by which the compiler asks what kind of op it sees.

Each family is declared here alone. What an op *does* stands in its rules, in `ops/`.
"""

from __future__ import annotations

from typing import Dict, FrozenSet, NamedTuple, Tuple


def _ops(*lines: str) -> FrozenSet[str]:
    return frozenset(" ".join(lines).split())


# --- What passes a tensor on, and what chooses.

IDENTITIES = _ops(
    "Identity StopGradient PreventGradient CheckNumerics Snapshot GuaranteeConst DeepCopy"
)
"""Ops whose first output is their first input, unchanged."""
CASTS = IDENTITIES | {"Cast"}
"""Ops that hand on the numbers of a tensor, perhaps in another element type."""
FAKE_QUANTIZERS = _ops(
    "FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel",
    "QuantizeAndDequantize QuantizeAndDequantizeV2 QuantizeAndDequantizeV3",
    "QuantizeAndDequantizeV4",
)
"""Ops that round a tensor to the steps of a quantisation, and leave it in floating point."""
SWITCHES = _ops("Switch RefSwitch")
"""Ops of TensorFlow 1 that hand a tensor to one of two branches."""
MERGES = _ops("Merge RefMerge")
"""Ops of TensorFlow 1 that take the result of the branch that ran."""
SELECTS = _ops("Select SelectV2")
"""Ops that choose between two tensors position by position."""
ENTERS = _ops("Enter RefEnter")
"""Ops that hand a tensor to a loop of TensorFlow 1."""
EXITS = _ops("Exit RefExit")
"""Ops that hand a tensor out of a loop of TensorFlow 1."""
NEXT_ITERATIONS = _ops("NextIteration RefNextIteration")
"""Ops that hand a tensor to the next turn of a loop of TensorFlow 1: its edges back."""
LOOP_OPS = ENTERS | EXITS | NEXT_ITERATIONS | {"LoopCond"}
"""Ops that only the loops of TensorFlow 1 have."""
CONTROL_FLOW = SWITCHES | MERGES | LOOP_OPS
"""Ops that steer the branches and loops of TensorFlow 1."""
CARRIERS = IDENTITIES | SWITCHES | ENTERS | {"RefIdentity"}
"""Ops that carry a tensor on unchanged, into a branch or a loop too."""
WHILE_LOOPS = _ops("While StatelessWhile")
"""Loops of TensorFlow 2, whose condition and body are functions."""
CONDITIONALS = _ops("If StatelessIf Case StatelessCase")
"""Choices of TensorFlow 2, whose branches are functions."""
CALLS = _ops("PartitionedCall StatefulPartitionedCall")
"""Calls of one function."""
OPAQUE_OPS = _ops("TRTEngineOp PyFunc EagerPyFunc PyFuncStateless")
"""Ops that hold a computation which nobody can see from the graph."""

# --- Where tensors come from.

PLACEHOLDERS = _ops("Placeholder PlaceholderV2 PlaceholderWithDefault")
"""Ops that are fed."""
OPEN_PLACEHOLDERS = PLACEHOLDERS - {"PlaceholderWithDefault"}
"""Ops that have to be fed."""
VARIABLES = _ops("Variable VariableV2 VarHandleOp AutoReloadVariable")
"""Ops that stand for a variable; those but `VarHandleOp` give a reference to its value."""
PLAIN_ASSIGNMENTS = _ops("Assign AssignVariableOp")
"""Ops that set the variable which is their first input to their second input."""
ASSIGNMENTS = PLAIN_ASSIGNMENTS | _ops(
    "AssignAdd AssignSub AssignAddVariableOp AssignSubVariableOp",
    "ScatterUpdate ScatterAdd ScatterSub",
    "ResourceScatterUpdate ResourceScatterAdd ResourceScatterSub",
    "CountUpTo ResourceCountUpTo",
)
"""Ops that change the variable which is their first input."""
UNIFORM_DRAWS = _ops("RandomUniform StatelessRandomUniform StatelessRandomUniformV2")
"""Random numbers between 0 and 1, of which dropout makes its masks."""
STATEFUL_DRAWS = _ops(
    "RandomUniform RandomStandardNormal TruncatedNormal RandomUniformInt",
    "Multinomial RandomGamma RandomShuffle ParameterizedTruncatedNormal",
)
"""Ops that give other numbers in each run."""

# --- Layers.

CONVOLUTIONS = _ops("Conv2D Conv3D")
"""Convolutions with filters (..., c_in, c_out)."""
TRANSPOSED_CONVOLUTIONS = _ops("Conv2DBackpropInput Conv3DBackpropInputV2")
"""Transposed convolutions, called by the gradient that they compute; filters (..., c_out, c_in)."""
MATRIX_PRODUCTS = _ops("MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3")
"""Products of matrices, single or in batches."""
TO_BATCH = _ops("SpaceToBatchND SpaceToBatch")
"""Ops that move blocks of space into the batch, as dilated convolutions of TensorFlow 1 begin."""
FROM_BATCH = _ops("BatchToSpaceND BatchToSpace")
"""Ops that move them back."""
BATCH_NORMS = _ops("FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3")
"""Batch norms in one op that may be in training, and then normalise by mean and variance of the
batch, which are their outputs 1 and 2."""
PADDED_CONVOLUTIONS = _ops("FusedPadConv2D FusedResizeAndPadConv2D")
"""Convolutions that pad, and resize, first; their inputs are the data, the size (of those that
resize), the amounts of padding and the filter."""


class NormInputs(NamedTuple):
    """Where a batch norm in one op reads its vectors, by their places among its data inputs.

    The tensor that is normalised is input 0 of them all.
    """

    scale: int
    offset: int
    mean: int
    variance: int

    @property
    def statistics(self) -> Tuple[int, int]:
        """The places of the mean and the variance."""
        return self.mean, self.variance


NORM_INPUTS: Dict[str, NormInputs] = {
    **dict.fromkeys((*sorted(BATCH_NORMS), "_FusedBatchNormEx"), NormInputs(1, 2, 3, 4)),
    "BatchNormWithGlobalNormalization": NormInputs(scale=4, offset=3, mean=1, variance=2),
}
"""By op, for every batch norm in one op: where it reads its vectors."""
BIASES = _ops("BiasAdd BiasAddV1")
"""Ops that add a vector along the channels."""

# --- Arithmetic.

UNARY = _ops(
    "Relu Relu6 Elu Selu LeakyRelu Softplus Softsign Sigmoid Tanh Neg Abs Square Sqrt Rsqrt Exp",
    "Expm1 Log Log1p Floor Ceil Round Rint Sign Reciprocal Inv Sin Cos Tan Asin Acos Atan Sinh",
    "Cosh Asinh Acosh Atanh Erf Erfc LogicalNot IsNan IsInf IsFinite ZerosLike OnesLike Cast",
)
"""Functions of one tensor, position by position."""
BROADCASTING = _ops(
    "Add AddV2 Sub Mul RealDiv Div DivNoNan MulNoNan Xlogy Xdivy Atan2 Maximum Minimum Pow",
    "FloorDiv FloorMod Mod TruncateDiv TruncateMod SquaredDifference Equal NotEqual Greater",
    "GreaterEqual Less LessEqual LogicalAnd LogicalOr AddN SelectV2 ClipByValue",
)
"""Functions of several tensors, position by position, whose axes of size 1 are spread."""
POSITIONWISE = BATCH_NORMS | BIASES | BROADCASTING | UNARY
"""Ops to which it does not matter how large a size above 1 is, but only which sizes are equal."""
LOGICAL = _ops("LogicalAnd LogicalOr LogicalNot")
"""Ops that take truth values, and give them."""
INEQUALITIES = _ops("Less LessEqual Greater GreaterEqual")
"""Ops that say which of two numbers is the larger."""
TRUTH_VALUED = (
    LOGICAL | INEQUALITIES | _ops("Equal NotEqual ApproximateEqual IsNan IsInf IsFinite Any All")
)
"""Ops that give truth values."""
SUMS = _ops("Add AddV2")
"""The sum of two tensors."""
QUOTIENTS = _ops("RealDiv Div")
"""The quotient of two tensors of real numbers."""
DIVISIONS = QUOTIENTS | {"DivNoNan", "FloorDiv", "TruncateDiv"}
"""Divisions of one tensor by another, whatever becomes of a remainder or of a zero."""
RECIPROCALS = _ops("Reciprocal Inv Rsqrt")
"""One by a tensor, or by its root."""
ACTIVATIONS = _ops("Relu Relu6 Elu Selu LeakyRelu Tanh Sigmoid Softplus Softsign")
"""Activations that are one op."""
FUSED_ACTIVATIONS = _ops(
    "Relu Relu6 Elu LeakyRelu Tanh Sigmoid",
    "GeluExact GeluApproximate _FusedSwish _MklSwish _FusedHardSwish",
)
"""Activations that a fused op (`_FusedConv2D` and its like) names among its steps."""

# --- What moves elements about, and what counts them.

RESHAPES = _ops("Reshape Squeeze ExpandDims")
"""Ops that give the same elements another shape."""
REARRANGES = RESHAPES | _ops("Transpose ConjugateTranspose")
"""Ops that give the same elements along other axes."""
RESTATES = CASTS | RESHAPES
"""Ops that hand on the numbers of a tensor, perhaps in another shape or element type."""
REPEATS = _ops("Tile BroadcastTo")
"""Ops that repeat the elements of a tensor."""
PADS = _ops("Pad PadV2 MirrorPad")
"""Ops that put a border around a tensor."""
POOLS = _ops("AvgPool MaxPool")
"""Pools over the height and width of images."""
RESIZES = _ops("ResizeBilinear ResizeBicubic ResizeArea ResizeNearestNeighbor")
"""Ops that change the resolution of images."""
SMOOTH_RESIZES = RESIZES - {"ResizeNearestNeighbor"}
"""Those that mix neighbouring pixels."""
WEIGHT_CARRIERS = IDENTITIES | RESHAPES | FAKE_QUANTIZERS | SUMS | _ops("Cast Transpose Mul Sub")
"""Ops that constants may pass on their way to an op that computes with data, and stay weights."""
MEASURES = _ops("Shape ShapeN Size Rank")
"""Ops that read nothing of a tensor but its shape."""
