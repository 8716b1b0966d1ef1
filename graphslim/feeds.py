"""Inputs to run graphs on: from files, or seeded random data of a plausible range."""

from __future__ import annotations

import os
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from graphslim.analysis.channels import analyse
from graphslim.arrays import read_arrays
from graphslim.errors import GraphslimError
from graphslim.ir import IDENTITY_OPS, DType, Graph, Node, Port

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp")
_RANDOM_SIZE = 224
"""Size that stands in for an open height or width."""
_MOST_IMAGES = 32
"""So many images of a folder are used, unless a batch is given."""
_GRID = 8
"""Cells per side of the coarse grid that random images are interpolated from."""


def random_feeds(graph: Graph, seed: int = 0, batch: int = 1) -> Dict[str, np.ndarray]:
    """Random inputs, the same for the same seed.

    What looks like an image (rank 4, up to 4 channels) varies smoothly, as pictures do: a network
    averages white noise away, and little would be left to compare. The rest is uniform. Integers
    cover 0 to 255, or what of it their type holds. Floats cover 0 to 255 where the graph begins by
    scaling such numbers down, else -1 to 1.

    Raises:
        GraphslimError: an input's shape is open beyond batch, height and width.
    """
    rng = np.random.RandomState(seed)
    feeds = {}
    for name in graph.inputs:
        shape, dtype = _shape(graph, name, batch), _dtype(graph[name])
        if dtype is DType.bool:
            feeds[name] = np.zeros(shape, bool)
        elif dtype.is_integral:
            most = min(255, int(np.iinfo(dtype.storage).max))
            feeds[name] = _random(rng, shape, 0, most).round().astype(dtype.storage)
        elif dtype.is_floating and dtype is not DType.bfloat16:
            low, high = value_range(graph, name)
            feeds[name] = _random(rng, shape, low, high).astype(dtype.storage)
        else:
            raise GraphslimError(
                f"cannot make up {dtype.name} data", f"input {name}", "give it with --data"
            )
    return feeds


def _random(
    rng: np.random.RandomState, shape: Tuple[int, ...], low: float, high: float
) -> np.ndarray:
    """Uniform numbers; over an image's height and width, interpolated from a coarse grid."""
    spatial = (1, 2) if len(shape) == 4 and shape[3] <= 4 else (2, 3)
    if len(shape) != 4 or min(shape[1], shape[3]) > 4 or min([shape[axis] for axis in spatial]) < 2:
        return rng.uniform(low, high, shape)
    coarse = list(shape)
    for axis in spatial:
        coarse[axis] = _GRID + 1
    values = rng.uniform(low, high, coarse)
    for axis in spatial:
        place = np.linspace(0, _GRID, shape[axis])
        left = np.minimum(place.astype(int), _GRID - 1)
        share = (place - left).reshape([-1 if one == axis else 1 for one in range(4)])
        values = np.take(values, left, axis) * (1 - share) + np.take(values, left + 1, axis) * share
    return values


def _dtype(node: Node) -> DType:
    found = node.attrs.get("dtype", node.attrs.get("T", DType.float32))
    return found if isinstance(found, DType) else DType.float32


def _shape(graph: Graph, name: str, batch: int) -> Tuple[int, ...]:
    dims = analyse(graph).fact(Port(name)).shape
    if dims is None:
        if graph[name].attrs.get("shape") is not None and graph[name].attrs["shape"].dims == ():
            return ()
        raise GraphslimError(
            "its shape is open", f"input {name}", f"give it with --input-shape {name}=1,224,224,3"
        )
    sizes = list(dims)
    if sizes and sizes[0] is None:
        sizes[0] = batch
    if len(sizes) == 4:
        spatial = (1, 2) if sizes[3] is not None else (2, 3)
        for axis in spatial:
            sizes[axis] = _RANDOM_SIZE if sizes[axis] is None else sizes[axis]
    if None in sizes:
        raise GraphslimError(
            f"its shape {list(dims)} is open",
            f"input {name}",
            f"give it with --input-shape {name}=...",
        )
    return tuple([size or 0 for size in sizes])


def value_range(graph: Graph, name: str) -> Tuple[float, float]:
    """The range that a float input seems to be made for: images of 0 to 255, or -1 to 1."""
    frontier = [Port(name)]
    for _ in range(8):
        following: List[Port] = []
        for port in frontier:
            for use in graph.uses_of(port):
                node = graph[use.node]
                number = _other_number(graph, node, use.index)
                if number is not None and _scales_bytes(node.op, number):
                    return 0.0, 255.0
                if (
                    node.op in IDENTITY_OPS
                    or number is not None
                    or node.op in ("Cast", "Pad", "ExpandDims")
                ):
                    following.append(Port(node.name))
        frontier = following
    return -1.0, 1.0


def _other_number(graph: Graph, node: Node, index: int) -> Optional[float]:
    inputs = graph.data_inputs(node)
    if len(inputs) != 2 or node.op not in ("Mul", "RealDiv", "Div", "Sub", "Add", "AddV2"):
        return None
    other = graph[inputs[1 - index].node]
    if (
        other.op != "Const"
        or not other.attrs["value"].size
        or not other.attrs["value"].dtype.is_floating
    ):
        return None
    return float(np.abs(other.attrs["value"].numbers()).max())


def _scales_bytes(op: str, number: float) -> bool:
    if op == "Mul":
        return 0 < number < 0.05
    return 32 < number < 512


def load_feeds(
    graph: Graph, path: str, batch: int = 1, several_runs: bool = False
) -> Dict[str, np.ndarray]:
    """Inputs from an `.npz` (keys are input names) or an `.npy`, or from a folder of images.

    Images are resized to the input and scaled to its range (see `value_range`); the first 32, or
    `batch` of them, or as many as the input takes.

    Args:
        graph: the graph.
        path: the file or folder.
        batch: how many images are used, where the graph leaves that open.
        several_runs: allow a multiple of the examples that the graph takes at once.

    Raises:
        GraphslimError: it cannot be read, or does not fit the inputs.
    """
    if os.path.isdir(path):
        return _from_images(graph, path, batch, several_runs)
    return as_feeds(graph, read_arrays(path), path, several_runs)


def as_feeds(
    graph: Graph, arrays: Mapping[str, np.ndarray], where: str, several_runs: bool = False
) -> Dict[str, np.ndarray]:
    """Arrays as inputs of a graph, in their element types, if they fit.

    Args:
        graph: the graph.
        arrays: by input name; an array by another name is taken for the one input that there is.
        where: what they came from, to be told where they do not fit.
        several_runs: allow a multiple of the examples that the graph takes at once.

    Raises:
        GraphslimError: one is missing, or its shape or element type is wrong.
    """
    if len(graph.inputs) == 1 and graph.inputs[0] not in arrays:
        fitting = [
            key
            for key, value in arrays.items()
            if _fits(graph, graph.inputs[0], value, several_runs)
        ]
        if len(fitting) == 1 or len(arrays) == 1:
            arrays = {graph.inputs[0]: arrays[(fitting or list(arrays))[0]]}
    feeds = {}
    for name in graph.inputs:
        if name not in arrays:
            there = ", ".join(sorted(filter(None, arrays))) or "one array without a name"
            raise GraphslimError(f"has no array for the input {name!r}", where, f"it has: {there}")
        feeds[name] = _as_input(graph, name, np.asarray(arrays[name]), where, several_runs)
    return feeds


def _as_input(
    graph: Graph, name: str, array: np.ndarray, path: str, several_runs: bool
) -> np.ndarray:
    """An array in the element type of an input, if it fits."""
    wanted, dtype = analyse(graph).fact(Port(name)).shape, _dtype(graph[name])
    if not _fits(graph, name, array, several_runs):
        sizes = ",".join(["?" if size is None else str(size) for size in wanted or ()])
        given = ",".join([str(size) for size in array.shape])
        raise GraphslimError(
            f"the array for {name!r} has the shape {given}", path, f"the input takes {sizes}"
        )
    if array.dtype.kind not in "fiubc" and dtype is not DType.string:
        raise GraphslimError(
            f"the array for {name!r} holds {array.dtype}", path, f"the input takes {dtype.name}"
        )
    return array.astype(dtype.storage)


def _fits(graph: Graph, name: str, array: np.ndarray, several_runs: bool) -> bool:
    wanted = analyse(graph).fact(Port(name)).shape
    if wanted is None:
        return True
    if len(wanted) != array.ndim or 0 in array.shape:
        return False
    sizes = list(wanted)
    if several_runs and sizes and sizes[0] and array.shape[0] % sizes[0] == 0:
        sizes[0] = array.shape[0]
    return all(size is None or size == there for size, there in zip(sizes, array.shape))


def _from_images(
    graph: Graph, folder: str, batch: int, several_runs: bool
) -> Dict[str, np.ndarray]:
    if len(graph.inputs) != 1:
        raise GraphslimError(
            f"the graph has {len(graph.inputs)} inputs", folder, "give an .npz with all of them"
        )
    name = graph.inputs[0]
    shape = _shape(graph, name, batch)
    files = sorted(file for file in os.listdir(folder) if file.lower().endswith(_IMAGES))
    if not files:
        endings = ", ".join(_IMAGES)
        raise GraphslimError("holds no images", folder, f"their names end with {endings}")
    if len(shape) != 4 or shape[3] not in (1, 3):
        raise GraphslimError(
            f"an input of shape {list(shape)} is no image", f"input {name}", "give an .npz"
        )
    known = analyse(graph).fact(Port(name)).shape
    is_open = known is None or known[0] is None
    count = (batch if batch > 1 else _MOST_IMAGES) if is_open else shape[0]
    if several_runs and not is_open:
        count *= max(1, min(len(files), _MOST_IMAGES) // count)
    if len(files) < count and not is_open:
        raise GraphslimError(
            f"holds {len(files)} images, the input takes {count}", folder, "add images"
        )
    pixels = np.stack([_pixels(os.path.join(folder, file), shape) for file in files[:count]])
    dtype = _dtype(graph[name])
    if dtype.is_floating:
        low, high = value_range(graph, name)
        pixels = pixels if high == 255.0 else pixels / 255.0 * (high - low) + low
    return {name: pixels.astype(dtype.storage)}


def _pixels(path: str, shape: Sequence[int]) -> np.ndarray:
    """An image in the height, width and channels of an input."""
    try:
        from PIL import Image
    except ImportError:
        raise GraphslimError("reading images needs Pillow", path, "pip install pillow") from None
    try:
        with Image.open(path) as file:
            mode = "L" if shape[3] == 1 else "RGB"
            image = file.convert(mode).resize((shape[2], shape[1]))
            return np.asarray(image, np.float64).reshape(shape[1:])
    except OSError:
        raise GraphslimError("not an image that Pillow reads", path, "remove or mend it") from None
