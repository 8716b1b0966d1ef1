"""A checkpoint with its MetaGraph, opened: the graph that was trained, and its inference part."""

from __future__ import annotations

import hashlib
import os
from typing import Any, Dict, FrozenSet, Mapping, NamedTuple, Optional, Sequence, Tuple

from graphslim.checkpoint.averages import averages as averages_in
from graphslim.checkpoint.inference import inference_part, is_training, output_candidates
from graphslim.checkpoint.locate import prefix_of, refuse_incomplete
from graphslim.checkpoint.roles import companion_keys, companions, statistics
from graphslim.checkpoint.values import averaged, lazily, variables_of
from graphslim.errors import LoadError
from graphslim.graphdef import drop_functions, parse
from graphslim.graphdef.freeze import freeze
from graphslim.graphdef.meta_graph import MetaGraph, keys_of, places_of, read_meta
from graphslim.graphdef.signature import ShapesLike, settle
from graphslim.ir import Graph
from graphslim.runtime import Checkpoint

_DEFAULT = "serving_default"


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
    trained_meta = _meta(base, meta)
    source = trained_meta if inference_meta is None else read_meta(inference_meta)
    whole = _parsed(trained_meta, base)
    whole_keys = keys_of(whole, trained_meta)
    fed, wanted = _wanted(source, inputs, outputs, signature)
    graph = _parsed(source, base, True, fed, wanted)
    part = _part(graph, source, fed, wanted, input_shapes)
    own = places_of(graph, source)
    places = averaged(own, values, _shadows(whole, whole_keys)) if averages else own
    frozen = freeze(part, lazily(part, places, values, source.path))
    drop_functions(frozen)  # of the input pipeline, whose names change from run to run
    frozen.origin = frozen.origin._replace(data=_digest(source, values, averages))
    used = [name for name in variables_of(part) if name in frozen]
    frozen.variables = frozenset(used)
    own_keys = {name: own[name].key for name in used}
    found = companion_keys({**whole_keys, **own_keys}, values.shapes, companions(whole))
    moving = statistics(whole) if source is trained_meta else statistics(whole) | statistics(graph)
    return Trained(
        base,
        trained_meta,
        values,
        whole,
        frozen,
        {name: places[name].key for name in used},
        _swapped(found, {places[name].key: own_keys[name] for name in used}),
        frozenset(moving),
        {name: places[name].part for name in used if places[name].part},
    )


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


def _shadows(whole: Graph, keys: Mapping[str, str]) -> Dict[str, str]:
    """By key, the key of the variable that is its moving average."""
    return {
        keys[one.of]: keys[one.variable]
        for one in averages_in(whole)
        if one.of is not None and one.of in keys and one.variable in keys
    }


def _meta(prefix: str, given: Optional[str]) -> MetaGraph:
    path = prefix + ".meta" if given is None else given
    if given is None and not os.path.exists(path):
        raise LoadError(
            "the checkpoint has no MetaGraph beside it",
            path,
            "give the one of another step, or one from tf.train.export_meta_graph, with --meta",
        )
    return read_meta(path)


def _wanted(
    meta: MetaGraph,
    inputs: Optional[Sequence[str]],
    outputs: Optional[Sequence[str]],
    signature: Optional[str],
) -> Tuple[Sequence[str], Sequence[str]]:
    """The inputs and outputs that are given, or else those of a signature, or none."""
    there = ", ".join(sorted(meta.signatures)) or "none"
    if signature is not None and signature not in meta.signatures:
        raise LoadError(f"no signature {signature!r}", "--signature", f"{meta.path} has: {there}")
    name = signature
    if name is None and _DEFAULT in meta.signatures:
        name = _DEFAULT
    elif name is None and len(meta.signatures) == 1:
        name = next(iter(meta.signatures))
    known: Tuple[Sequence[str], Sequence[str]] = ((), ())
    if name is not None:
        known = meta.signatures[name]
    return inputs or known[0], outputs or known[1]


def _part(
    graph: Graph,
    meta: MetaGraph,
    inputs: Sequence[str],
    outputs: Sequence[str],
    shapes: Optional[ShapesLike],
) -> Graph:
    """The inference part, its inputs and outputs settled.

    Raises:
        LoadError: a name is not there, or a training's outputs are not named.
    """
    if not outputs and is_training(graph):
        found = output_candidates(graph)
        others = f", or one of: {', '.join(found[1:])}" if found[1:] else ""
        raise LoadError(
            "the graph of a training, which does not say what it computes for others",
            meta.path,
            f"name it: --outputs {found[0]}{others}" if found else "name it with --outputs",
        )
    settle(graph, inputs, outputs, None)
    part = inference_part(graph, inputs or None, [str(port) for port in graph.outputs])
    settle(part, part.inputs, [str(port) for port in part.outputs], shapes)
    return part


def _digest(meta: MetaGraph, values: Checkpoint, averages: bool) -> bytes:
    """What stands for a checkpoint as its file's bytes stand for a frozen graph."""
    graph = hashlib.sha256(meta.graph).digest()
    return graph + values.digest() + bytes([averages])


def _swapped(
    found: Mapping[str, Tuple[str, ...]], taken: Mapping[str, str]
) -> Dict[str, Tuple[str, ...]]:
    """Companions, where a moving average that takes a variable's place has it as a companion.

    Args:
        found: the companions of each key.
        taken: by key that a value is taken from, the key of the variable itself.
    """
    result = dict(found)
    for key, own in taken.items():
        if key != own:
            result[key] = (own, *[one for one in found.get(own, ()) if one != key])
    return result
