"""What stops channels at ops without a rule, in words for the user, and what comes out of them."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple

from graphslim.channels.reasons import Opaque, Reason, UnknownOp
from graphslim.ir import Func, Node, Shape
from graphslim.ops.table import Fact, fact

_LOOP = Opaque("it enters a While loop, which is left as it is")
_CHOICE = Opaque("it enters an If or Case, whose branches are functions and are left as they are")
_FUNCTION = Opaque("it enters a function that could not be inlined")
_ARRAY = Opaque("it is stored in a list or array of tensors, which is not followed")
_BOXES = Opaque("boxes are chosen from it (non-maximum suppression)")
_PYTHON = Opaque("it enters Python code, which nobody can see into")

_WALLS = {
    **dict.fromkeys(("While", "StatelessWhile", "_While", "For", "Enter", "RefEnter"), _LOOP),
    **dict.fromkeys(("Exit", "RefExit", "NextIteration", "RefNextIteration", "LoopCond"), _LOOP),
    **dict.fromkeys(("If", "StatelessIf", "_If", "Case", "StatelessCase"), _CHOICE),
    **dict.fromkeys(("PartitionedCall", "StatefulPartitionedCall", "RemoteCall"), _FUNCTION),
    **dict.fromkeys(("PyFunc", "PyFuncStateless", "EagerPyFunc"), _PYTHON),
    "CombinedNonMaxSuppression": _BOXES,
    "GenerateBoundingBoxProposals": _BOXES,
    "TRTEngineOp": Opaque(
        "it is inside an engine compiled by TensorRT; prune the graph before TensorRT"
    ),
    "XlaLaunch": Opaque("it is inside code compiled by XLA; prune the graph before XLA"),
}
_FAMILIES = {
    "NonMaxSuppression": _BOXES,
    "TensorArray": _ARRAY,
    "TensorList": _ARRAY,
    "Stack": _ARRAY,
}
"""Beginnings of the names of ops that come in many versions."""

_CHOSEN = ((None,),)
_SHAPES: Dict[str, Sequence[Tuple[Optional[int], ...]]] = {
    "NonMaxSuppression": _CHOSEN,
    "NonMaxSuppressionV2": _CHOSEN,
    "NonMaxSuppressionV3": _CHOSEN,
    "NonMaxSuppressionWithOverlaps": _CHOSEN,
    "NonMaxSuppressionV4": ((None,), ()),
    "NonMaxSuppressionV5": ((None,), (None,), ()),
    "CombinedNonMaxSuppression": ((None, None, 4), (None, None), (None, None), (None,)),
}
"""What ops give that have no rule, whatever they read."""
_IMAGES = frozenset(("DecodeJpeg", "DecodePng", "DecodeBmp", "DecodeAndCropJpeg", "DecodeWebP"))
"""Ops that read an image file, with as many channels as an attribute says, 0 for those it has."""


def wall(node: Node) -> Reason:
    """Why an op without a channel rule pins what reaches it; completes "pinned: ..."."""
    reason = _WALLS.get(node.op)
    if reason is None:
        found = [text for start, text in _FAMILIES.items() if node.op.startswith(start)]
        return found[0] if found else UnknownOp(f"graphslim has no rule for the op {node.op}")
    function = node.attrs.get("f")
    if reason is _FUNCTION and isinstance(function, Func):
        return Opaque(f"{reason}: {function.name}")
    return reason


def stated(node: Node, inputs: Sequence[Fact]) -> List[Fact]:
    """The shapes that an op without a channel rule states for its outputs; their axes have no ids.

    Functional control flow and old exporters state them all, arrays of tensors those of an
    element; of some ops the rank is known.

    Args:
        node: the op.
        inputs: what it reads.
    """
    for key in ("_output_shapes", "output_shapes"):
        shapes = node.attrs.get(key)
        if isinstance(shapes, list) and all(isinstance(one, Shape) for one in shapes):
            return [fact(one.dims) for one in shapes]
    known = _SHAPES.get(node.op)
    if known is not None:
        return [fact(dims) for dims in known]
    if node.op in _IMAGES:
        return [fact((None, None, node.attrs.get("channels") or None))]
    element = node.attrs.get("element_shape")
    if node.op.startswith("TensorArrayGather") and isinstance(element, Shape):
        return [fact(None if element.dims is None else (None, *element.dims))]
    if node.op == "TensorListStack" and len(inputs) > 1 and inputs[1].value is not None:
        sizes = inputs[1].value.ravel()
        return [fact((None, *[None if not size >= 0 else int(size) for size in sizes]))]
    return []
