"""A graph delivered as a TensorFlow Lite model, an ONNX model or a SavedModel."""

from __future__ import annotations

import os
from typing import Any, Dict, List, NamedTuple, Optional, Union

from graphslim import graphdef
from graphslim.analysis.cautions import random_node
from graphslim.delivery.check import Losses, Side, at_most, check, refuse
from graphslim.delivery.converter import Converter
from graphslim.delivery.formats import (
    GRAPH,
    TFLITE,
    Package,
    Wish,
    check_package_target,
    check_wish,
    format_of_target,
)
from graphslim.delivery.prepare import Prepared, prepared
from graphslim.errors import RuntimeUnavailable
from graphslim.ir import Graph
from graphslim.measure.samples import Data, Examples, Samples
from graphslim.rewrite.save import check_consistent, save
from graphslim.support.progress import Tick, silent

_SELECTED = b"\0Flex"
"""How the names of ops begin that a TensorFlow Lite model leaves to TensorFlow."""
CALIBRATION = 100
"""Examples that an int8 model is calibrated on."""


class Delivery(NamedTuple):
    """A model that was converted and, where that was asked for, run.

    Attributes:
        package: the files.
        wish: how it was converted.
        losses: what it loses in its runtime; None where it was not run.
        why_not: why it was not run.
        before: bytes of the original, converted alike; None where it was not.
    """

    package: Package
    wish: Wish
    losses: Optional[Losses] = None
    why_not: str = ""
    before: Optional[int] = None

    @property
    def notes(self) -> List[str]:
        """What its user has to know of it, in sentences."""
        return [*self.package.notes, *(self.losses.notes if self.losses is not None else ())]

    def as_dict(self) -> Dict[str, Any]:
        """A tree for `--json`; sizes in bytes."""
        return {
            "format": self.package.kind,
            "quantize": self.wish.quantize,
            "io": self.wish.io if self.wish.quantize == "int8" else None,
            "size": [self.before, self.package.size],
            "notes": self.notes,
            "verified": None if self.losses is None else self.losses.as_dict(),
        }


def export(
    graph: Graph,
    path: Union[str, os.PathLike[str]],
    *,
    quantize: Optional[str] = None,
    io: str = "float",
    data: Data = None,
    random_calibration: bool = False,
    select_tf_ops: bool = False,
    original: Optional[Graph] = None,
    verify: Optional[bool] = None,
    seed: int = 0,
    batch: int = 1,
    tolerance: Optional[float] = None,
    progress: Tick = silent,
) -> Optional[Delivery]:
    """Writes a graph in the format that a file's name asks for, once it was run in its runtime.

    `.tflite` is a TensorFlow Lite model, `.onnx` an ONNX model, a name that ends in a slash or is
    a folder a SavedModel; `.pb` and `.pbtxt` are written as `gs.save` does, and nothing is run.
    The file appears whole or not at all.

    Args:
        graph: the graph; it is not changed.
        path: the file or folder. A SavedModel is written over, another folder is not.
        quantize: for TensorFlow Lite: `dynamic` (weights of 8 bits), `float16` (weights of 16
            bits), `int8` (everything in 8 bits, by the ranges of tensors over `data`); None keeps
            float32.
        io: the element type of the inputs and outputs of an int8 model, `float` or `int8`.
        data: sample inputs, as for `verify`, of which 100 calibrate an int8 model and 64 are run;
            without them random ones are run.
        random_calibration: calibrate an int8 model on random inputs, to only try it.
        select_tf_ops: leave ops that TensorFlow Lite does not have to TensorFlow, which the
            application then has to link.
        original: a graph that computes the same, or that `graph` was pruned from: it is converted
            alike, and four times what its model loses against TensorFlow is allowed.
        verify: whether the model is run; by default where its runtime is installed.
        seed: the seed of random inputs.
        batch: examples per run, where the format leaves that open.
        tolerance: the largest difference from TensorFlow, as a share of an output's range, that is
            always allowed; by default 0.0001, and 0.001 without an original, 0.01 for float16.
        progress: called after each run; see `graphslim.support.progress`.

    Returns:
        what was written and what it loses; None for a `.pb` or `.pbtxt`.

    Raises:
        VerifyError: the model computes something else; nothing is written.
        EmitError: the file cannot be written, or the converter does not take the graph.
        GraphslimError: an option does not fit, sizes are open that the format wants, or the sample
            inputs do not fit.
        RuntimeUnavailable: TensorFlow or tf2onnx is not installed.
    """
    target = os.fspath(path)
    wish = Wish(quantize, io, random_calibration, select_tf_ops)
    check_wish(target, wish, data is not None)
    if format_of_target(target) == GRAPH:
        save(graph, target)
        return None
    check_package_target(target)
    delivery = deliver(
        graph,
        target,
        wish,
        original=original,
        verify=verify,
        data=data,
        seed=seed,
        batch=batch,
        tolerance=tolerance,
        progress=progress,
    )
    with delivery.package.placing():
        pass
    return delivery


def deliver(
    graph: Graph,
    path: str,
    wish: Wish,
    *,
    original: Optional[Graph] = None,
    verify: Optional[bool] = None,
    data: Data = None,
    seed: int = 0,
    batch: int = 1,
    tolerance: Optional[float] = None,
    progress: Tick = silent,
) -> Delivery:
    """Converts a graph and runs the result, without writing it; see `export`."""
    check_consistent(graph)
    kind = format_of_target(path)
    ready = prepared(graph, kind)
    with Converter() as converter:

        def convert(source: Prepared) -> Side:
            return converted(converter, source, path, wish, data, seed), source

        progress(0, 1, "converting")
        result = convert(ready)
        if verify is False:
            return Delivery(result[0], wish, why_not="--no-verify was given.")
        if _SELECTED in result[0].files.get("", b"") and wish.select_tf_ops and verify is None:
            why = "the ops that it leaves to TensorFlow run only in an application that links them."
            return Delivery(result[0], wish, why_not=why)
        if verify is None and random_node(graph) is not None:
            return Delivery(result[0], wish, why_not="the outputs differ from run to run.")
        reference = None if original is None else convert(prepared(original, kind))
    given: Dict[str, Any] = dict(data=data, seed=seed, batch=batch, tolerance=tolerance)
    try:
        losses = check(result, reference, wish, progress=progress, **given)
    except RuntimeUnavailable as error:
        if verify:
            raise
        return Delivery(result[0], wish, why_not=f"{error.what} ({error.hint}).")
    refuse(losses, path)
    before = None if reference is None else reference[0].size
    return Delivery(result[0], wish, losses, before=before)


def converted(
    converter: Converter,
    source: Prepared,
    path: str,
    wish: Wish,
    data: Data = None,
    seed: int = 0,
) -> Package:
    """A graph in another format, which is not written yet.

    Args:
        converter: what converts it.
        source: the graph.
        path: the file or folder that it is for, whose name asks for the format.
        wish: how it is converted.
        data, seed: for int8 models, what they are calibrated on.

    Raises:
        EmitError: the converter does not take the graph.
        GraphslimError: the sample inputs do not fit.
        RuntimeUnavailable: a package is missing.
    """
    kind = format_of_target(path)
    request: Dict[str, Any] = {
        "definition": graphdef.serialize(source.graph),
        "inputs": list(source.graph.inputs),
        "outputs": source.outputs,
    }
    if kind == TFLITE:
        feeds: List[Any] = []
        if wish.quantize == "int8":
            examples = at_most(Examples(source.graph, Samples(data, 1), seed), CALIBRATION)
            feeds = [arrays for arrays, _ in examples]
        request.update(quantize=wish.quantize, io=wish.io, calibration=feeds)
        request.update(select_tf_ops=wish.select_tf_ops)
    return Package(path, kind, converter.convert(kind, path, request), source.notes)


def written(converter: Converter, graph: Graph, path: str, wish: Wish) -> str:
    """Writes a graph in the format that a path asks for, without running it; gives the path.

    Raises:
        GraphslimError: the graph cannot be converted, or leaves sizes open.
        RuntimeUnavailable: a package is missing.
    """
    kind = format_of_target(path)
    if kind == GRAPH:
        save(graph, path)
        return path
    return converted(converter, prepared(graph, kind), path, wish).put(path)
