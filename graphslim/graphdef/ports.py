"""Names of op outputs: function bodies spell an input `node:output:index`, graphs `node:port`."""

from __future__ import annotations

from typing import Dict, Tuple

_NORM = ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2")
_RANGE = ("output", "min_output", "max_output")
_SPARSE = ("output_indices", "output_values", "output_shape")
_SET = ("result_indices", "result_values", "result_shape")

OUTPUTS: Dict[str, Tuple[str, ...]] = {
    **dict.fromkeys(("Switch", "RefSwitch"), ("output_false", "output_true")),
    **dict.fromkeys(("Merge", "RefMerge"), ("output", "value_index")),
    **dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2"), _NORM),
    **dict.fromkeys(("FusedBatchNormV3", "_FusedBatchNormEx"), (*_NORM, "reserve_space_3")),
    **dict.fromkeys(("TopK", "TopKV2", "ApproxTopK"), ("values", "indices")),
    **dict.fromkeys(("Unique", "UniqueV2"), ("y", "idx")),
    **dict.fromkeys(("UniqueWithCounts", "UniqueWithCountsV2"), ("y", "idx", "count")),
    "ListDiff": ("out", "idx"),
    "NonMaxSuppressionV4": ("selected_indices", "valid_outputs"),
    "NonMaxSuppressionV5": ("selected_indices", "selected_scores", "valid_outputs"),
    "CombinedNonMaxSuppression": (
        "nmsed_boxes",
        "nmsed_scores",
        "nmsed_classes",
        "valid_detections",
    ),
    "GenerateBoundingBoxProposals": ("rois", "roi_probabilities"),
    "MaxPoolWithArgmax": ("output", "argmax"),
    **dict.fromkeys(
        ("FractionalAvgPool", "FractionalMaxPool"),
        ("output", "row_pooling_sequence", "col_pooling_sequence"),
    ),
    "TensorArrayV3": ("handle", "flow"),
    **dict.fromkeys(("TensorArrayGradV3", "TensorArrayGradWithShape"), ("grad_handle", "flow_out")),
    **dict.fromkeys(("TensorArrayConcatV2", "TensorArrayConcatV3"), ("value", "lengths")),
    **dict.fromkeys(("TensorListConcat", "TensorListConcatV2"), ("tensor", "lengths")),
    "TensorListPopBack": ("output_handle", "tensor"),
    **dict.fromkeys(("BlockLSTM", "BlockLSTMV2"), ("i", "cs", "f", "o", "ci", "co", "h")),
    "LSTMBlockCell": ("i", "cs", "f", "o", "ci", "co", "h"),
    "GRUBlockCell": ("r", "u", "c", "h"),
    "Svd": ("s", "u", "v"),
    "Qr": ("q", "r"),
    "Lu": ("lu", "p"),
    "SelfAdjointEigV2": ("e", "v"),
    "LogMatrixDeterminant": ("sign", "log_abs_determinant"),
    "BroadcastGradientArgs": ("r0", "r1"),
    "BroadcastArgs": ("r0",),
    "NthElement": ("values",),
    **dict.fromkeys(
        ("SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits"),
        ("loss", "backprop"),
    ),
    "SparseReshape": ("output_indices", "output_shape"),
    "SparseReorder": ("output_indices", "output_values"),
    **dict.fromkeys(("SparseConcat", "SparseSlice", "SparseCross", "SparseCrossV2"), _SPARSE),
    **dict.fromkeys(
        ("SparseCrossHashed", "SparseReduceMaxSparse", "SparseReduceSumSparse"), _SPARSE
    ),
    "SparseAdd": ("sum_indices", "sum_values", "sum_shape"),
    **dict.fromkeys(("SparseToSparseSetOperation", "DenseToSparseSetOperation"), _SET),
    "SparseFillEmptyRows": (
        "output_indices",
        "output_values",
        "empty_row_indicator",
        "reverse_index_map",
    ),
    **dict.fromkeys(("StringSplit", "StringSplitV2"), ("indices", "values", "shape")),
    **dict.fromkeys(("LookupTableFind", "LookupTableFindV2"), ("values",)),
    **dict.fromkeys(("LookupTableExport", "LookupTableExportV2"), ("keys", "values")),
    **dict.fromkeys(
        (
            "SampleDistortedBoundingBox",
            "SampleDistortedBoundingBoxV2",
            "StatelessSampleDistortedBoundingBox",
        ),
        ("begin", "size", "bboxes"),
    ),
    "DecodeWav": ("audio", "sample_rate"),
    "StatelessRandomGetKeyCounter": ("key", "counter"),
    "XlaRngBitGenerator": ("output_key", "output"),
    **dict.fromkeys(("ReaderRead", "ReaderReadV2"), ("key", "value")),
    **dict.fromkeys(
        ("QuantizeV2", "Requantize", "QuantizeDownAndShrinkRange", "RequantizePerChannel"),
        ("output", "output_min", "output_max"),
    ),
    **dict.fromkeys(
        ("QuantizedReshape", "QuantizedConcat"), ("output", "output_min", "output_max")
    ),
    **dict.fromkeys(("QuantizedConv2D", "QuantizedMaxPool", "QuantizedAvgPool"), _RANGE),
    **dict.fromkeys(
        ("QuantizedRelu", "QuantizedRelu6"), ("activations", "min_activations", "max_activations")
    ),
    "QuantizedMatMul": ("out", "min_out", "max_out"),
    "QuantizedBiasAdd": ("output", "min_out", "max_out"),
    "RequantizationRange": ("output_min", "output_max"),
}
"""The outputs of ops that have several, of one tensor each; and a few oddly named single ones."""

_FIRST = """
    output y z out outputs handle size data components output_handle table_handle activations
    summary flow_out product backprops image tensor resource results result resized_images
    diagonal contents selected_indices softmax logsoftmax index optional transformed_images merged
    num_elements glimpse patches samples band crops element_shape summaries value tensors sum
    image_shape item bytes spectrogram sparse_output dense is_initialized offset fingerprint
    average serialized nnz fact length bins
"""
FIRST = frozenset(_FIRST.split())
"""What TensorFlow calls the only output of an op, or its first list of outputs."""


def port_of(op: str, output: str, index: int) -> int:
    """The port of tensor `index` of a named output.

    Raises:
        KeyError: it is not known where that output stands.
    """
    names = OUTPUTS.get(op)
    if names is None:
        if output not in FIRST:
            raise KeyError(f"{op}:{output}")
        return index
    if index or output not in names:
        raise KeyError(f"{op}:{output}:{index}")
    return names.index(output)
