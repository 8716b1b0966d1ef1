"""One call of a function as nodes: the body under new names, wired to what the call reads."""

from __future__ import annotations

from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from graphslim.graphdef.functions import Arg, Function, Inner, Library, Unmapped, filled
from graphslim.graphdef.values import colocations
from graphslim.ir import CONTROL, Attrs, DType, Node, Port

Entry = Tuple[Node, List[Port]]
Constants = Dict[Tuple[str, str, str], str]


class Call(NamedTuple):
    """A call of a function.

    Attributes:
        node: the node that calls.
        data: what it passes.
        controls: the control edges that it waits for.
        function: what it calls.
        attrs: with which attributes.
    """

    node: Node
    data: Tuple[Port, ...]
    controls: Tuple[Port, ...]
    function: Function
    attrs: Mapping[str, Any]


class Body:
    """The body of a function, wired for one call.

    Args:
        call: the call.
        library: where functions that the body calls by name are declared.
        fresh: gives a name that no node has, made of the name that is wanted.
        constants: the constants of bodies that are in the graph already; added to.

    Attributes:
        nodes: the new nodes with their inputs.
        results: the tensors that the call gives.
        dtypes: their element types.
        ends: what has run when the call has.

    Raises:
        Unmapped: an input, output or attribute cannot be followed; nothing was added anywhere.
    """

    def __init__(
        self,
        call: Call,
        library: Library,
        fresh: Callable[[str], str],
        constants: Constants,
    ) -> None:
        self._call, self._library = call, library
        function = call.function
        self._args = self._bind(function)
        self._inner = {inner.node.name: inner for inner in function.body}
        self._names = {name: f"/{name}" for name in self._inner}
        attrs = {inner.node.name: self._filled(inner) for inner in function.body}
        self.dtypes = [kind for arg in function.results for kind in arg.dtypes(call.attrs)]
        if any(not isinstance(kind, DType) or kind is DType.invalid for kind in self.dtypes):
            raise Unmapped(function.name)
        self._wires()  # for what it raises, before names are given away
        added = self._name(fresh, constants, attrs)
        self.nodes = [
            self._node(inner, attrs[inner.node.name], inputs)
            for inner, inputs in zip(function.body, self._wires())
            if inner.node.name in added
        ]
        self.results = self._results()
        self.ends = [self._names[name] for name in function.ends]

    def _bind(self, function: Function) -> Dict[str, Tuple[Port, ...]]:
        """What the call passes, by argument."""
        bound, at = {}, 0
        for arg in function.args:
            count = len(arg.dtypes(self._call.attrs))
            bound[arg.name] = self._call.data[at : at + count]
            at += count
        if at != len(self._call.data):
            raise Unmapped(function.name)
        return bound

    def _filled(self, inner: Inner) -> Dict[str, Any]:
        return {key: filled(inner.node.attrs[key], self._call.attrs) for key in inner.open}

    def _name(
        self,
        fresh: Callable[[str], str],
        constants: Constants,
        attrs: Mapping[str, Mapping[str, Any]],
    ) -> Dict[str, str]:
        """Names the body's nodes; gives those that are new to the graph."""
        added = {}
        for name, inner in self._inner.items():
            wanted = f"{self._call.node.name}/{name}"
            if inner.node.op == "Const" and not inner.inputs:
                key = (self._call.function.name, name, repr(sorted(attrs[name].items())))
                if key in constants:
                    self._names[name] = constants[key]
                    continue
                constants[key] = wanted = fresh(wanted)
                self._names[name] = added[name] = wanted
            else:
                self._names[name] = added[name] = fresh(wanted)
        return added

    def _wires(self) -> List[List[Port]]:
        """What each node of the body reads.

        A node that reads no tensor waits for what the call waits for, but for constants.
        """
        wires = []
        for inner in self._call.function.body:
            ports = [port for text in inner.inputs for port in self._ports(text)]
            data = [port for port in ports if port.port != CONTROL]
            controls = [port for port in ports if port.port == CONTROL]
            if not data and (controls or inner.node.op != "Const"):
                controls.extend(self._call.controls)
            wires.append([*data, *dict.fromkeys(controls)])
        for name in self._call.function.ends:
            if name not in self._inner:
                raise Unmapped(name)
        self._results()
        return wires

    def _results(self) -> List[Port]:
        ports = [port for text in self._call.function.returns for port in self._ports(text)]
        if len(ports) != len(self.dtypes):
            raise Unmapped(self._call.function.name)
        return ports

    def _ports(self, text: str) -> Sequence[Port]:
        """What a body's spelling of an input stands for."""
        if text.startswith("^"):
            name = text[1:]
            if name in self._names:
                return [Port(self._names[name], CONTROL)]
            return [Port(port.node, CONTROL) for port in self._arg(name)]
        name, _, rest = text.partition(":")
        if name in self._inner:
            output, _, index = rest.partition(":")
            if not index.isdecimal():
                raise Unmapped(text)
            return [Port(self._names[name], self._port(name, output, int(index)))]
        passed = self._arg(name)
        if not rest:
            return passed
        if not rest.isdecimal() or int(rest) >= len(passed):
            raise Unmapped(text)
        return [passed[int(rest)]]

    def _arg(self, name: str) -> Tuple[Port, ...]:
        if name not in self._args:
            raise Unmapped(name)
        return self._args[name]

    def _port(self, name: str, output: str, index: int) -> int:
        node = self._inner[name].node
        if node.op not in self._library:
            try:
                return port_of(node.op, output, index)
            except KeyError as error:
                raise Unmapped(str(error)) from None
        function = self._library[node.op]
        attrs = {**function.defaults, **dict(node.attrs), **self._filled(self._inner[name])}
        return _place(function.results, output, attrs) + index

    def _node(self, inner: Inner, changes: Mapping[str, Any], inputs: List[Port]) -> Entry:
        """A node of the body under its new name."""
        attrs = inner.node.attrs
        if "_class" in attrs:
            moved = [
                self._names[target]
                for _, target in colocations(inner.node)
                if target in self._names
            ]
            changes = {**changes, "_class": [f"loc:@{target}".encode() for target in moved]}
        for key, value in changes.items():
            attrs = attrs.having(key, value)
        device = inner.node.device or self._call.node.device
        node = Node(self._names[inner.node.name], inner.node.op, attrs, device, inner.node.origin)
        node.rewired = True
        return node, inputs


def _place(results: Sequence[Arg], output: str, attrs: Mapping[str, Any]) -> int:
    """Where the tensors of a named result of a function begin."""
    at = 0
    for arg in results:
        if arg.name == output:
            return at
        at += len(arg.dtypes(attrs))
    raise Unmapped(output)


def passing(
    name: str,
    sources: Sequence[Port],
    dtypes: Sequence[DType],
    controls: Iterable[Port],
    device: str,
) -> Entry:
    """A node that passes tensors on: an Identity, an IdentityN, or for none a NoOp."""
    attrs: Optional[Attrs] = None
    if len(sources) == 1:
        attrs = Attrs({"T": dtypes[0]})
    elif sources:
        attrs = Attrs({"T": list(dtypes)})
    op = ("NoOp", "Identity")[len(sources)] if len(sources) < 2 else "IdentityN"
    return Node(name, op, attrs, device), [*sources, *dict.fromkeys(controls)]


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
        KeyError: where that output stands among those of the op is not known.
    """
    names = OUTPUTS.get(op)
    if names is None:
        if output not in FIRST:
            raise KeyError(f"{op}:{output}")
        return index
    if index or output not in names:
        raise KeyError(f"{op}:{output}:{index}")
    return names.index(output)
