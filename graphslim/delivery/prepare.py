"""A graph made ready for a converter: its names, the sizes of its inputs, its layout."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence, Tuple

from graphslim.channels.groups import analyse
from graphslim.delivery.formats import ONNX, TFLITE, TITLES
from graphslim.errors import GraphslimError
from graphslim.ir import Attrs, Graph, Node, Port, Shape
from graphslim.layout import needs_nhwc, runnable
from graphslim.measure.inputs import dtype_of
from graphslim.pipeline import Pipeline, presets
from graphslim.runtime import version

Sizes = Optional[Tuple[Optional[int], ...]]


class Prepared(NamedTuple):
    """A graph that can be handed to a converter.

    Attributes:
        graph: the graph; its inputs are placeholders under the names that they are to have, and
            its signature has the names of its outputs.
        outputs: pairs of the name that an output is to have, and its port.
        notes: what was done to it, in sentences.
    """

    graph: Graph
    outputs: Tuple[Tuple[str, str], ...]
    notes: Tuple[str, ...]


def prepared(graph: Graph, kind: str) -> Prepared:
    """Makes a graph ready for the converter to a format.

    A TensorFlow Lite model has one size for everything: an open batch becomes 1. Other formats keep
    sizes open, but for those that `--input-shape` gave.

    Args:
        graph: the graph; it is not changed.
        kind: the format.

    Raises:
        GraphslimError: a size is open that the format wants, or TensorFlow is not there.
    """
    notes: List[str] = []
    twin = graph.copy()
    if kind == TFLITE and needs_nhwc(graph):
        twin = runnable(graph)
        notes.append("It computes in NHWC, since TensorFlow Lite has no kernels for NCHW.")
    renamed = {node: key for key, node in graph.signature.get("inputs", {}).items()}
    inputs, shapes = [], {}
    for name in list(twin.inputs):
        shape: Sizes = analyse(graph).fact(Port(name)).shape
        if kind == TFLITE:
            shape, note = _closed(graph, name, shape)
            notes += note
        key = renamed.get(name, name)
        key = name if key in twin else key
        attrs = Attrs({"dtype": dtype_of(twin[name]), "shape": Shape(shape)})
        if key == name:
            twin.replace(Node(name, "Placeholder", attrs), ())
        else:
            twin.add(Node(key, "Placeholder", attrs))
            twin.replace_uses(Port(name), Port(key))
        inputs.append(key)
        if shape is not None:
            shapes[key] = shape
    keys = {port: key for key, port in graph.signature.get("outputs", {}).items()}
    outputs = tuple([(keys.get(str(port), str(port)), str(port)) for port in twin.outputs])
    twin.inputs, twin.input_shapes = inputs, shapes
    twin.signature = {"inputs": {}, "outputs": dict(outputs)}
    # TensorFlow 1.15 takes what a newer one wrote where that says nothing new.
    old = presets.storage_steps(False, "1.15") if version().startswith("1.") else []
    Pipeline([*old, "drop-unused"]).run(twin)
    if kind == ONNX and None in [size for shape in shapes.values() for size in shape]:
        notes.append("Sizes that the graph leaves open are open; --input-shape fixes them.")
    return Prepared(twin, outputs, tuple(notes))


def _closed(graph: Graph, name: str, shape: Sizes) -> Tuple[Sizes, List[str]]:
    """The shape of an input without open sizes, and what to say of it.

    Raises:
        GraphslimError: a size is open that is not that of the batch.
    """
    if shape is None or None in shape[1:]:
        sizes: Sequence[Optional[int]] = shape or (1, 224, 224, 3)
        example = [size or (224 if axis else 1) for axis, size in enumerate(sizes)]
        raise GraphslimError(
            f"its input {name} leaves sizes open, and a {TITLES[TFLITE]} has one size for each",
            graph.name,
            f"give them with --input-shape {name}={','.join(map(str, example))}",
        )
    if not shape or shape[0] is not None:
        return shape, []
    note = f"Its batch is fixed at 1; --input-shape gives {name} another."
    return (1, *shape[1:]), [note]
