"""Windows that slide over space: their strides, dilations and padding, and the sizes they leave."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

from graphslim.ir import Node
from graphslim.ops.table import channel_axis

PACKED = "its channels lie in packs of four (NCHW_VECT_C)"


class Window(NamedTuple):
    """How a window slides, per axis of space.

    Attributes:
        axes: the axes of space.
        strides, dilations: along each of them.
        pads: `SAME`, `VALID` or the total explicit padding along each of them.
    """

    axes: Tuple[int, ...]
    strides: List[int]
    dilations: List[int]
    pads: List[Any]


def window(node: Node, rank: int = 4) -> Window:
    """What the attributes of a convolution or pool say; `rank` is that of its data."""
    axes = tuple(range(2, rank)) if channel_axis(node) == 1 else tuple(range(1, rank - 1))
    strides, dilations = node.ints("strides") or [1] * rank, node.ints("dilations") or [1] * rank
    if len(dilations) == 1:
        dilations = dilations * rank
    padding, explicit = node.text("padding"), node.ints("explicit_paddings")
    pads: List[Any] = [padding] * len(axes)
    if padding == "EXPLICIT":
        pads = [explicit[2 * axis] + explicit[2 * axis + 1] for axis in axes]
    return Window(axes, [strides[axis] for axis in axes], [dilations[axis] for axis in axes], pads)


def slid(
    shape: Sequence[Optional[int]], kernel: Sequence[Optional[int]], how: Window
) -> List[Optional[int]]:
    """A shape with the sizes that a window leaves along the axes of space; None where open."""
    sizes = list(shape)
    for place, axis in enumerate(how.axes):
        sizes[axis] = conv_size(
            sizes[axis], kernel[place], how.strides[place], how.dilations[place], how.pads[place]
        )
    return sizes


def conv_size(
    size: Optional[int], kernel: Optional[int], stride: int, dilation: int, pad: Any
) -> Optional[int]:
    """Output size along one axis; `pad` is `SAME`, `VALID` or the total explicit padding."""
    if size is None:
        return None
    if pad == "SAME":
        return -(-size // stride)
    if kernel is None:
        return None
    total = 0 if pad == "VALID" else pad
    return int((size + total - (kernel - 1) * dilation - 1) // stride + 1)


def sees_all(node: Node, kernel: Sequence[Optional[int]]) -> bool:
    """Whether every output position sees every tap on real data, never on padding."""
    if node.text("padding") == "EXPLICIT":
        return not any(node.ints("explicit_paddings"))
    return all(size == 1 for size in kernel) or node.text("padding") == "VALID"


def is_packed(node: Node) -> bool:
    """Whether the channels lie in packs of four, NCHW_VECT_C, for which there are no rules."""
    return node.text("data_format").endswith("VECT_C")
