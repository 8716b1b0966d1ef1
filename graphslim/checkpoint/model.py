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
from graphslim.graphdef.freeze import freeze
from graphslim.graphdef.meta_graph import Kept, MetaGraph, keys_of, places_of, read_meta
from graphslim.graphdef.signature import ShapesLike, settle
from graphslim.ir import Graph, Shape, Tensor
from graphslim.ir.families import VARIABLES
from graphslim.runtime import Checkpoint
from graphslim.support.text import plural

_DEFAULT = "serving_default"
_AVERAGE = "/ExponentialMovingAverage"
"""What TensorFlow appends to a variable's name for its moving average."""


class Trained(NamedTuple):
    """A checkpoint, and what its MetaGraph says of it.

    Attributes:
        prefix: the path of its files without their endings.
        meta: the MetaGraph beside it, or the one that was given.
        values: its tensors.
        whole: the MetaGraph's graph as it is, with its variables, and calls of functions left.
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
    """Opens a TF1 checkpoint; of its tensors, nothing but names, shapes and types is read.

    Args:
        prefix: the path of its files without their endings, one of the files, or the folder whose
            latest it is.
        meta: the MetaGraph of what was trained; by default the `.meta` beside the checkpoint.
        inference_meta: a MetaGraph to take the inference graph from instead of making it from
            `meta`; its own saver says which values its variables have.
        inputs: names of the nodes that are fed; by default the placeholders.
        outputs: names (`node` or `node:port`) to compute; by default those of a signature, or what
            nobody reads. The MetaGraph of a training needs them.
        input_shapes: sizes for inputs that the graph leaves open, by name.
        signature: which of the MetaGraph's; by default `serving_default`, or else the only one.
        averages: take the moving averages of variables for their values, where there are any.

    Raises:
        LoadError: a file is missing or damaged, the MetaGraph is of another model, a given name is
            not in it, or outputs have to be named.
        RuntimeUnavailable: TensorFlow is not there to read the checkpoint.
    """
    path = os.fspath(prefix)
    base = prefix_of(path) or path
    refuse_incomplete(base)
    values = Checkpoint(base)
    trained_meta = read_meta(_meta_beside(base) if meta is None else meta)
    source = trained_meta if inference_meta is None else read_meta(inference_meta)
    whole = _parsed(trained_meta, base)
    whole_keys = keys_of(whole, trained_meta)
    fed, wanted = _signature(source, inputs, outputs, signature)
    graph = _parsed(source, base, True, fed, wanted)
    part = _part(graph, source, fed, wanted, input_shapes)
    own = places_of(graph, source)
    places = _averaged(own, values, _shadows(whole, whole_keys)) if averages else own
    frozen = freeze(part, lambda names: _read(part, names, places, values, source.path))
    drop_functions(frozen)  # of the input pipeline, whose names change from run to run
    digest = hashlib.sha256(source.graph).digest() + values.digest() + bytes([averages])
    frozen.origin = frozen.origin._replace(data=digest)
    used = [node.name for node in part if node.op in VARIABLES and node.name in frozen]
    frozen.variables = frozenset(used)
    by_key = companion_keys(
        {**whole_keys, **{name: own[name].key for name in used}}, values.shapes, companions(whole)
    )
    moving = statistics(whole) if source is trained_meta else statistics(whole) | statistics(graph)
    return Trained(
        base,
        trained_meta,
        values,
        whole,
        frozen,
        {name: places[name].key for name in used},
        {**by_key, **_swapped(by_key, {places[name].key: own[name].key for name in used})},
        moving,
        {name: places[name].part for name in used if places[name].part},
    )


def window(part: str) -> Tuple[slice, ...]:
    """Where a part stands in its whole, as a saver says it; all of it for an empty text.

    A saver says `8 4 0,4:-`: the sizes of the whole, and for each axis begin and size, or all.
    """
    *sizes, bounds = part.split(" ")
    places = []
    for size, text in zip(sizes, bounds.split(":")):
        begin, _, length = (f"0,{size}" if text == "-" else text).partition(",")
        places.append(slice(int(begin), int(begin) + int(length)))
    return tuple(places)


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
    """The graph of a MetaGraph; its errors are about that file, its name is the checkpoint's."""
    graph = parse(meta.graph, meta.path, inline, inputs, outputs, has_variables=True, binary=True)
    graph.name = os.path.basename(prefix)
    return graph


def _signature(
    meta: MetaGraph,
    inputs: Optional[Sequence[str]],
    outputs: Optional[Sequence[str]],
    name: Optional[str],
) -> Tuple[Sequence[str], Sequence[str]]:
    """The inputs and outputs that are given, or else those of a signature, or none.

    Raises:
        LoadError: the MetaGraph has no signature of the name given.
    """
    if name is not None and name not in meta.signatures:
        there = ", ".join(sorted(meta.signatures)) or "none"
        raise LoadError(f"no signature {name!r}", "--signature", f"{meta.path} has: {there}")
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
    """The inference part, its inputs and outputs settled.

    Raises:
        LoadError: a name is not there, or the outputs of a training's graph are not named.
    """
    if not outputs and is_training(graph):
        candidates = output_candidates(graph)
        others = f", or one of: {', '.join(candidates[1:])}" if candidates[1:] else ""
        raise LoadError(
            "the graph of a training, which does not say what it computes for others",
            meta.path,
            f"name it: --outputs {candidates[0]}{others}"
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
    """Where a checkpoint holds variables, but their moving averages where it has them.

    Args:
        places: where it holds each variable itself.
        values: the checkpoint.
        shadows: by key, the key of the moving average, as far as a graph tells; others are known
            by the name that TensorFlow gives them.

    Raises:
        LoadError: the checkpoint has no moving averages.
    """
    averaged = {}
    for node, kept in places.items():
        for key in (shadows.get(kept.key, ""), kept.key + _AVERAGE):
            if node not in averaged and key in values.shapes:
                averaged[node] = kept._replace(key=key)
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
        graph: has the variables.
        names: their nodes.
        places: where the checkpoint holds each.
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
    odd = [name for name in names if not _fits(graph, name, tensors[name].shape)]
    if odd:
        raise LoadError(
            f"{plural(len(odd), 'variable')} of {len(names)} have another shape in the "
            f"checkpoint, such as {odd[0]}, which has {list(tensors[odd[0]].shape)} there",
            meta,
            hint,
        )
    return tensors


def _fits(graph: Graph, name: str, sizes: Tuple[int, ...]) -> bool:
    """Whether a value has the shape that its variable states."""
    stated = graph[name].attrs.get("shape")
    # A variable whose shape is not checked says rank 0 in a reference's attribute.
    if not isinstance(stated, Shape) or not stated.dims:
        return True
    return len(stated.dims) == len(sizes) and all(
        wanted in (None, size) for wanted, size in zip(stated.dims, sizes)
    )


def _tensor(kept: Kept, values: Checkpoint) -> Tensor:
    """The value of a variable, which may be a part of a tensor of the checkpoint.

    Raises:
        LoadError: the variable is a part of a tensor of another shape.
    """
    whole = values.tensor(kept.key)
    if not kept.part:
        return whole
    stated = tuple([int(word) for word in kept.part.split(" ")[:-1]])
    if stated != whole.shape:
        raise LoadError(
            f"{kept.key} has the shape {list(whole.shape)} instead of {list(stated)}",
            values.prefix,
            "is its MetaGraph of another model?",
        )
    where = window(kept.part)
    shape = tuple([place.stop - place.start for place in where])
    return Tensor(shape, whole.dtype, lambda: np.ascontiguousarray(whole.array[where]))


def _swapped(
    by_key: Mapping[str, Tuple[str, ...]], taken: Mapping[str, str]
) -> Dict[str, Tuple[str, ...]]:
    """The companions of moving averages that take a variable's place: the variable is one of them.

    Args:
        by_key: the companions of each key.
        taken: by key that a value is taken from, the key of the variable itself.
    """
    return {
        key: (own, *[other for other in by_key.get(own, ()) if other != key])
        for key, own in taken.items()
        if key != own
    }
