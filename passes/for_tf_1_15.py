"""for-tf-1.15: lets TensorFlow 1.15 read what a newer one wrote."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import graphslim as gs

ATTRIBUTES: Dict[str, Dict[str, Any]] = {
    "BatchMatMul": {"grad_x": False, "grad_y": False},
    "BatchMatMulV2": {"grad_x": False, "grad_y": False},
    "ConcatOffset": {"shape_type": gs.DType.int32},
    "DepthwiseConv2dNative": {"explicit_paddings": []},
    "Dequantize": {"axis": -1, "dtype": gs.DType.float32, "narrow_range": False},
    "FusedBatchNorm": {"exponential_avg_factor": 1.0},
    "FusedBatchNormV2": {"exponential_avg_factor": 1.0},
    "FusedBatchNormV3": {"exponential_avg_factor": 1.0},
    "GatherNd": {"bad_indices_policy": b""},
    "MatMul": {"grad_a": False, "grad_b": False},
    "MaxPool": {"explicit_paddings": []},
    "QuantizeAndDequantizeV2": {"axis": -1},
    "QuantizeAndDequantizeV3": {"axis": -1},
    "QuantizeV2": {"axis": -1, "ensure_minimum_range": 0.01, "narrow_range": False},
    "ScatterNd": {"bad_indices_policy": b""},
    "TensorListGetItem": {"Tshape": gs.DType.int32},
    "TensorListSetItem": {"resize_if_index_out_of_bounds": False},
    "TopKV2": {"Tk": gs.DType.int32, "index_type": gs.DType.int32},
}
"""The attributes that 1.15 does not know and 2.21 writes, of ops of inference, with defaults."""
TYPES = ("Ta", "Tb", "Tout")


@gs.register
class ForTf115(gs.Pass):
    """Drops attributes that TensorFlow 1.15 does not know, where they have their default.

    Those that say something else stay, and 1.15 will refuse them. A BatchMatMulV3 of one element
    type becomes the BatchMatMulV2 that it is. Functions that the graph still calls stay as they
    are.

    Before:
        x = Placeholder() dtype=float32 shape=<1,2>
        w = Const() dtype=float32 value=float32[2,2]{1 2 3 4}
        y = MatMul(x, w) T=float32 grad_a=false grad_b=false transpose_a=false transpose_b=false
        z = BatchMatMulV3(y, w) Ta=float32 Tb=float32 Tout=float32 adj_x=false adj_y=false

    After:
        x = Placeholder() dtype=float32 shape=<1,2>
        w = Const() dtype=float32 value=float32[2,2]{1 2 3 4}
        y = MatMul(x, w) T=float32 transpose_a=false transpose_b=false
        z = BatchMatMulV2(y, w) T=float32 adj_x=false adj_y=false
    """

    name = "for-tf-1.15"

    def run(self, graph: gs.Graph) -> gs.Outcome:
        """Goes through the nodes one by one."""
        older = [
            node for node in list(graph) if node.op == "BatchMatMulV3" and is_of_one_type(node)
        ]
        for node in older:
            attrs = {key: node.attrs[key] for key in node.attrs if key not in TYPES}
            attrs["T"] = node.attrs["Ta"]
            twin = gs.Node(node.name, "BatchMatMulV2", gs.Attrs(attrs), node.device)
            graph.replace(twin, graph.inputs_of(node))
        dropped = sum([drop_defaults(graph, node) for node in graph])
        notes = [f"attributes dropped: {dropped}"]
        if older:
            notes.append(f"products of an older version: {len(older)}")
        return gs.Outcome(bool(dropped or older), tuple(notes))


def is_of_one_type(node: gs.Node) -> bool:
    """Whether a BatchMatMulV3 does what a BatchMatMulV2 can."""
    kinds: Tuple[Any, ...] = tuple([node.attrs.get(key) for key in TYPES])
    return kinds[0] is not None and len(set(kinds)) == 1


def drop_defaults(graph: gs.Graph, node: gs.Node) -> int:
    """Drops the new attributes of one node; gives how many."""
    dropped = 0
    for key, default in ATTRIBUTES.get(node.op, {}).items():
        if key in node.attrs and is_default(node.attrs[key], default):
            graph.drop_attr(node, key)
            dropped += 1
    return dropped


def is_default(value: Any, default: Any) -> bool:
    """Whether an attribute has its default; a list of none may be a list of anything."""
    if isinstance(default, float):
        return abs(float(value) - default) < 1e-6
    return bool(value == default)
