"""A checkpoint with its MetaGraph, opened: the graph that was trained, and its inference part."""

from __future__ import annotations

import hashlib
import os
from typing import (
    Any,
    Dict,
    FrozenSet,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np

from graphslim.checkpoint.files import prefix_of, refuse_incomplete
from graphslim.checkpoint.inference import inference_part, is_training, output_candidates
from graphslim.checkpoint.roles import companion_keys, companions, moving_averages, statistics
from graphslim.errors import LoadError
from graphslim.graphdef import drop_functions, parse
from graphslim.graphdef.freeze import fits, freeze
from graphslim.graphdef.load import refusing_misfits
from graphslim.graphdef.meta_graph import Kept, MetaGraph, keys_of, places_of, read_meta
from graphslim.graphdef.signature import ShapesLike, settle
from graphslim.ir import Graph, Tensor
from graphslim.ir.families import VARIABLES
from graphslim.runtime import Checkpoint
from graphslim.support.text import plural

_DEFAULT = "serving_default"
_AVERAGE = "/ExponentialMovingAverage"
"""The suffix that TensorFlow gives the name of a variable's moving average."""


class Trained(NamedTuple):
    """A checkpoint, and what its MetaGraph says of it.

    Attributes:
        prefix: the path of its files without their endings.
        meta: the MetaGraph beside it, or the one that was given.
        values: its tensors.
        whole: the MetaGraph's graph as it is: variables are not frozen, functions not inlined.
        graph: the inference part, frozen: its constants have the variables' names, and are read
            from the checkpoint when somebody asks for their elements.
        keys: by variable's node, for every variable of `graph`, the key of its value.
        companions: by key, the keys of the optimizer's slots and moving averages of it.
        statistics: the variables that hold moving means and variances.
        parts: by variable's node, for a variable that is one part of a tensor of the checkpoint,
            which part, as the saver says it.
    """

    prefix: str
    meta: MetaGraph
    values: Checkpoint
    whole: Graph
    graph: Graph
    keys: Dict[str, str]
    companions: Dict[str, Tuple[str, ...]]
    statistics: FrozenSet[str]
    parts: Dict[str, str]


def open_checkpoint(
    prefix: Any,
    *,
    meta: Optional[str] = None,
    inference_meta: Optional[str] = None,
    inputs: Optional[Sequence[str]] = None,
    outputs: Optional[Sequence[str]] = None,
    input_shapes: Optional[ShapesLike] = None,
    signature: Optional[str] = None,
    averages: bool = False,
) -> Trained:
    """Opens a TF1 checkpoint; of its tensors, only names, shapes and element types are read.

    Args:
        prefix: the path of the checkpoint's files without their endings, one of these files, or a
            folder, of which the latest checkpoint is opened.
        meta: the MetaGraph of what was trained; by default the `.meta` beside the checkpoint.
        inference_meta: a MetaGraph to take the inference graph from instead of making it from
            `meta`; its own saver says which values its variables have.
        inputs: names of the nodes that are fed; by default the placeholders.
        outputs: names (`node` or `node:port`) to compute; by default those of a signature, or the
            tensors that nothing reads. They are required for a training graph.
        input_shapes: sizes for inputs that the graph leaves open, by name.
        signature: the name of a signature of the MetaGraph; by default `serving_default`, or else
            the only one.
        averages: take the moving averages of variables as their values, where there are any.

    Raises:
        LoadError: a file is missing or damaged, the MetaGraph is of another model, a given name is
            not in it, or outputs have to be named.
        RuntimeUnavailable: TensorFlow, which reads the checkpoint, is not installed.
    """
    path = os.fspath(prefix)
    base = prefix_of(path) or path
    refuse_incomplete(base)
    values = Checkpoint(base)
    trained_meta = read_meta(_meta_beside(base) if meta is None else meta)
    source = trained_meta if inference_meta is None else read_meta(inference_meta)
    with refusing_misfits(trained_meta.path):
        whole = _parsed(trained_meta, base)
        whole_keys = keys_of(whole, trained_meta)
        fed, computed = _signature(source, inputs, outputs, signature)
        graph = _parsed(source, base, True, fed, computed)
        part = _part(graph, source, fed, computed, input_shapes)
        plain_places = places_of(graph, source)
        places = plain_places
        if averages:
            places = _averaged(plain_places, values, _shadows(whole, whole_keys))
        frozen = freeze(part, lambda names: _read(part, names, places, values, source.path))
        drop_functions(frozen)  # of the input pipeline, whose names change from run to run
        digest = hashlib.sha256(source.graph).digest() + values.digest() + bytes([averages])
        frozen.origin = frozen.origin._replace(data=digest)
        used = [node.name for node in part if node.op in VARIABLES and node.name in frozen]
        frozen.variables = frozenset(used)
        by_key = companion_keys(
            {**whole_keys, **{name: plain_places[name].key for name in used}},
            values.shapes,
            companions(whole),
        )
        replaced = {places[name].key: plain_places[name].key for name in used}
        moving = statistics(whole)
        if source is not trained_meta:
            moving |= statistics(graph)
        return Trained(
            base,
            trained_meta,
            values,
            whole,
            frozen,
            {name: places[name].key for name in used},
            {**by_key, **_swapped(by_key, replaced)},
            moving,
            {name: places[name].part for name in used if places[name].part},
        )


def window(part: str) -> Tuple[slice, ...]:
    """The slices that a part takes of a partitioned tensor.

    Args:
        part: as a saver writes it, such as `8 4 0,4:-`: the sizes of the tensor, and for each axis
            begin and size, or `-` for all of it; empty for the whole tensor.

    Returns:
        one slice for each axis; none for the whole tensor.
    """
    *sizes, bounds = part.split(" ")
    slices = []
    for size, text in zip(sizes, bounds.split(":")):
        begin, _, length = (f"0,{size}" if text == "-" else text).partition(",")
        slices.append(slice(int(begin), int(begin) + int(length)))
    return tuple(slices)


# ------------------------------------------------------------------ the graph


def _meta_beside(prefix: str) -> str:
    """The MetaGraph's file beside a checkpoint.

    Raises:
        LoadError: there is no such file.
    """
    path = prefix + ".meta"
    if not os.path.exists(path):
        raise LoadError(
            "the checkpoint has no MetaGraph beside it",
            path,
            "give the one of another step, or one from tf.train.export_meta_graph, with --meta",
        )
    return path


def _parsed(
    meta: MetaGraph,
    prefix: str,
    inline: bool = False,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
) -> Graph:
    """The graph of a MetaGraph, named after the checkpoint; errors name the MetaGraph's file."""
    graph = parse(meta.graph, meta.path, inline, inputs, outputs, has_variables=True, binary=True)
    graph.name = os.path.basename(prefix)
    return graph


def _signature(
    meta: MetaGraph,
    inputs: Optional[Sequence[str]],
    outputs: Optional[Sequence[str]],
    name: Optional[str],
) -> Tuple[Sequence[str], Sequence[str]]:
    """The given inputs and outputs, or else those of a signature, or none.

    Raises:
        LoadError: the MetaGraph has no signature of the name given.
    """
    if name is not None and name not in meta.signatures:
        known = ", ".join(sorted(meta.signatures)) or "none"
        raise LoadError(f"no signature {name!r}", "--signature", f"{meta.path} has: {known}")
    if name is None:
        name = next(iter(meta.signatures)) if len(meta.signatures) == 1 else _DEFAULT
    fed, computed = meta.signatures.get(name, ((), ()))
    return inputs or fed, outputs or computed


def _part(
    graph: Graph,
    meta: MetaGraph,
    inputs: Sequence[str],
    outputs: Sequence[str],
    shapes: Optional[ShapesLike],
) -> Graph:
    """The inference part, with its inputs and outputs set.

    Raises:
        LoadError: the graph has no node of a given name, or the outputs of a training graph are not
            named.
    """
    if not outputs and is_training(graph):
        candidates = output_candidates(graph)
        further = f", or one of: {', '.join(candidates[1:])}" if candidates[1:] else ""
        raise LoadError(
            "the graph of a training, which does not say what it computes for others",
            meta.path,
            f"name it: --outputs {candidates[0]}{further}"
            if candidates
            else "name it with --outputs",
        )
    settle(graph, inputs, outputs, None)
    part = inference_part(graph, inputs or None, [str(port) for port in graph.outputs])
    settle(part, part.inputs, [str(port) for port in part.outputs], shapes)
    return part


# ------------------------------------------------------------------ the values


def _shadows(whole: Graph, keys: Mapping[str, str]) -> Dict[str, str]:
    """By key, the key of the variable that is its moving average."""
    return {
        keys[average.of]: keys[average.variable]
        for average in moving_averages(whole)
        if average.of is not None and average.of in keys and average.variable in keys
    }


def _averaged(
    places: Mapping[str, Kept], values: Checkpoint, shadows: Mapping[str, str]
) -> Dict[str, Kept]:
    """Where a checkpoint holds the moving averages of variables, or else the variables themselves.

    Args:
        places: where it holds each variable itself.
        values: the checkpoint.
        shadows: by key, the key of the moving average, as far as the graph shows it; further
            averages are recognised by the name that TensorFlow gives them.

    Raises:
        LoadError: the checkpoint has no moving averages.
    """
    averaged = {}
    for node, place in places.items():
        for key in (shadows.get(place.key, ""), place.key + _AVERAGE):
            if node not in averaged and key in values.shapes:
                averaged[node] = place._replace(key=key)
    if not averaged:
        raise LoadError(
            f"{values.prefix} has no moving averages of variables", "--averages", "leave it out"
        )
    return {**places, **averaged}


def _read(
    graph: Graph, names: Sequence[str], places: Mapping[str, Kept], values: Checkpoint, meta: str
) -> Dict[str, Tensor]:
    """The values of variables, read when somebody asks for their elements.

    Args:
        graph: the graph of the variables.
        names: the variables' nodes.
        places: by node, where the checkpoint holds the variable.
        values: the checkpoint.
        meta: the file that the graph came from, for messages.

    Raises:
        LoadError: variables are not in the checkpoint, or have other shapes there.
    """
    hint = f"is it the MetaGraph of another model than {values.prefix}?"
    missing = [name for name in names if places[name].key not in values.shapes]
    if missing:
        raise LoadError(
            f"{plural(len(missing), 'variable')} of {len(names)} are not in the checkpoint, "
            f"such as {places[missing[0]].key}",
            meta,
            hint,
        )
    tensors = {name: _tensor(places[name], values) for name in names}
    misfits = [name for name in names if not fits(graph[name], tensors[name].shape)]
    if misfits:
        raise LoadError(
            f"{plural(len(misfits), 'variable')} of {len(names)} have another shape in the "
            f"checkpoint, such as {misfits[0]}, which has {list(tensors[misfits[0]].shape)} there",
            meta,
            hint,
        )
    return tensors


def _tensor(place: Kept, values: Checkpoint) -> Tensor:
    """The value of a variable, which may be a part of a tensor of the checkpoint.

    Raises:
        LoadError: the variable is a part of a tensor of another shape.
    """
    tensor = values.tensor(place.key)
    if not place.part:
        return tensor
    stated = tuple([int(size) for size in place.part.split(" ")[:-1]])
    if stated != tensor.shape:
        raise LoadError(
            f"{place.key} has the shape {list(tensor.shape)} instead of {list(stated)}",
            values.prefix,
            "is its MetaGraph of another model?",
        )
    slices = window(place.part)
    shape = tuple([bounds.stop - bounds.start for bounds in slices])
    return Tensor(shape, tensor.dtype, lambda: np.ascontiguousarray(tensor.array[slices]))


def _swapped(
    by_key: Mapping[str, Tuple[str, ...]], replaced: Mapping[str, str]
) -> Dict[str, Tuple[str, ...]]:
    """The companions of moving averages that take a variable's place: the variable is one of them.

    Args:
        by_key: the companions of each key.
        replaced: by key that a value is taken from, the key of the variable itself.
    """
    return {
        key: (variable, *[companion for companion in by_key.get(variable, ()) if companion != key])
        for key, variable in replaced.items()
        if key != variable
    }
