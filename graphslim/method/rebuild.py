"""The checkpoint of the inference graph alone: its MetaGraph, without training, and its values."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set

from graphslim.api import find_blocks
from graphslim.checkpoint import Trained, open_checkpoint
from graphslim.checkpoint.files import write_state
from graphslim.checkpoint.inference import inference_part, is_training, output_candidates
from graphslim.errors import LoadError
from graphslim.graphdef import parse, save, serialize
from graphslim.graphdef.load import refusing_misfits
from graphslim.graphdef.meta_graph import keys_of, read_meta
from graphslim.graphdef.signature import settle
from graphslim.ir import CONTROL, Graph, Port
from graphslim.ir.families import VARIABLES
from graphslim.runtime import plain_tensorflow, write_checkpoint
from graphslim.support.writing import replacing_folder

DEFAULT_OUTPUTS = "output"
"""The output node that the published class took by default."""


def opened(prefix: str, output_nodes: str) -> Trained:
    """A checkpoint with its inference graph, in which the blocks have been found.

    Args:
        prefix: the checkpoint's prefix; its `.meta` has to be beside it.
        output_nodes: names separated by commas. The default is taken only where there is such a
            node; else the outputs are those of the inference graph, or the tensors that losses
            compare with labels.

    Raises:
        LoadError: the checkpoint or its MetaGraph cannot be read, a named output is not in it, or
            no output is found.
        RuntimeUnavailable: TensorFlow, which reads the checkpoint, is not installed.
    """
    trained = open_checkpoint(prefix, outputs=_outputs(prefix, output_nodes))
    find_blocks(trained.graph)
    return trained


def latest(folder: str) -> str:
    """The prefix of the newest checkpoint in a folder, as its state file says.

    Raises:
        LoadError: the folder has no checkpoint.
    """
    prefix = plain_tensorflow("it finds the latest checkpoint").train.latest_checkpoint(folder)
    if prefix is None:
        raise LoadError(
            "no checkpoint in this folder",
            folder,
            "give the folder that the training script saves to",
        )
    return str(prefix)


def names_of(output_nodes: str) -> List[str]:
    """The names in a list that is separated by commas.

    Raises:
        LoadError: the list has no name.
    """
    names = [name.strip() for name in output_nodes.split(",") if name.strip()]
    if not names:
        raise LoadError("names no output", "output_nodes", "such as 'output1,output2'")
    return names


def _outputs(prefix: str, output_nodes: str) -> Optional[Sequence[str]]:
    names = names_of(output_nodes)
    path = prefix + ".meta"
    if output_nodes != DEFAULT_OUTPUTS or not os.path.isfile(path):
        return names
    meta = read_meta(path)
    graph = parse(meta.graph, prefix, has_variables=True)
    if all(Port.parse(name).node in graph for name in names):
        return names
    with refusing_misfits(path):
        if meta.signatures or not is_training(graph):
            return None
        candidates = output_candidates(graph)
    if not candidates:
        raise LoadError(
            "the graph of a training, which does not say what it is run for",
            path,
            "name its outputs, as in output_nodes='logits'",
        )
    return candidates


# ------------------------------------------------------------------ the checkpoint without training
_PURPOSE = "MetaGraphs are made with it"
_COLLECTIONS = ("variables", "trainable_variables")
"""Collections of all variables, and of those that are trained."""


class Feed(NamedTuple):
    """A placeholder that takes the place of an input.

    Attributes:
        name: the placeholder's name.
        dtype, shape: its element type and shape; None to keep those of the input.
    """

    name: str
    dtype: Any = None
    shape: Any = None


def feeds_of(input_map: Optional[Mapping[str, Any]]) -> Dict[str, Feed]:
    """By input, the placeholder that takes its place.

    Args:
        input_map: by input, a TensorFlow tensor or a name.

    Raises:
        LoadError: a value is neither a tensor nor a name.
    """
    feeds: Dict[str, Feed] = {}
    for name, feed in (input_map or {}).items():
        if isinstance(feed, str):
            feeds[name] = Feed(feed)
        elif all(hasattr(feed, field) for field in Feed._fields):
            feeds[name] = Feed(str(feed.name).partition(":")[0], feed.dtype, feed.shape)
        else:
            raise LoadError(
                f"holds a {type(feed).__name__} for {name!r}",
                "input_tensors_map",
                "give a placeholder, or its name",
            )
    return feeds


def rebuild(
    trained: Trained,
    folder: str,
    meta: Optional[str] = None,
    feeds: Optional[Mapping[str, Feed]] = None,
) -> str:
    """Writes a checkpoint of the inference graph alone, with its MetaGraph, and the graph as text.

    Args:
        trained: the checkpoint of the training.
        folder: the folder to write to; the checkpoint keeps its name, and files of the same names
            are replaced.
        meta: a MetaGraph without training; by default one is made from that of the training.
        feeds: by input, the placeholder that takes its place.

    Returns:
        the prefix of the new checkpoint.

    Raises:
        LoadError: the MetaGraph cannot be read, has variables that the checkpoint lacks, or lacks
            an input that is to be replaced.
        EmitError: the folder cannot be written.
    """
    name = os.path.basename(trained.prefix)
    with replacing_folder(folder, force=True) as fresh:
        target = os.path.join(fresh, name)
        if meta is None:
            _own_meta(trained, feeds or {}, target + ".meta")
        else:
            _given_meta(meta, feeds or {}, target + ".meta")
        rebuilt = open_checkpoint(trained.prefix, meta=target + ".meta")
        keys = set(keys_of(rebuilt.whole, rebuilt.meta).values()) & set(trained.values.shapes)
        write_checkpoint(target, {key: trained.values.read(key) for key in sorted(keys)})
        save(rebuilt.whole, target + ".pbtxt")
        write_state(fresh, name)
    return os.path.join(folder, name)


def _given_meta(path: str, feeds: Mapping[str, Feed], target: str) -> None:
    """Writes a MetaGraph again, with other inputs."""
    _export(_message(read_meta(path).data), feeds, target, path, {})


def _own_meta(trained: Trained, feeds: Mapping[str, Feed], target: str) -> None:
    """Writes the MetaGraph of the inference part: its variables, initialisers and a saver."""
    message = _message(trained.meta.data)
    known = _variables(message, trained.meta.path)
    graph = _inference_graph(trained)
    used = [node.name for node in graph if node.op in VARIABLES]
    missing = [name for name in used if name not in known]
    if missing:
        raise LoadError(
            f"the MetaGraph does not list all of its variables: {missing[0]}",
            trained.meta.path,
            "give a rebuild_meta_graph",
        )
    whole = parse(trained.meta.graph, trained.prefix, has_variables=True)
    _add(graph, whole, [part for name in used for part in _parts_of(known[name])])
    message.graph_def.ParseFromString(serialize(graph))
    message.ClearField("collection_def")
    message.ClearField("saver_def")
    message.ClearField("signature_def")
    for name in used:
        for collection in _COLLECTIONS[: 2 if known[name].trainable else 1]:
            values = message.collection_def[collection].bytes_list.value
            values.append(known[name].SerializeToString())
    _export(message, feeds, target, trained.meta.path, trained.keys)


def _message(data: bytes) -> Any:
    """A MetaGraph as TensorFlow's message, from bytes that have been read once already."""
    message = plain_tensorflow(_PURPOSE).MetaGraphDef()
    message.ParseFromString(data)
    return message


def _variables(message: Any, where: str) -> Dict[str, Any]:
    """By node, TensorFlow's message about a variable of a MetaGraph."""
    tf = plain_tensorflow(_PURPOSE)
    with tf.Graph().as_default(), _importing(where):
        tf.train.import_meta_graph(message)
        return {variable.op.name: variable.to_proto() for variable in tf.global_variables()}


def _export(
    message: Any, feeds: Mapping[str, Feed], target: str, where: str, keys: Mapping[str, str]
) -> None:
    """Writes a MetaGraph with other inputs; its saver keeps the keys of the variables."""
    tf = plain_tensorflow(_PURPOSE)
    with tf.Graph().as_default() as graph, _importing(where):
        replaced = _placeholders(tf, feeds, message.graph_def, where)
        saver = tf.train.import_meta_graph(message, input_map=replaced)
        named = {
            keys.get(variable.op.name, variable.op.name): variable
            for variable in tf.global_variables()
        }
        if saver is None or any(key != variable.op.name for key, variable in named.items()):
            saver = tf.train.Saver(named)
        tf.train.export_meta_graph(target, saver_def=saver.as_saver_def(), graph=graph)


@contextlib.contextmanager
def _importing(where: str) -> Iterator[None]:
    """Turns an error of TensorFlow about a MetaGraph into a `LoadError` of one line."""
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise LoadError(
            f"TensorFlow does not take the MetaGraph: {str(error).strip().splitlines()[0][:200]}",
            where,
            "give a rebuild_meta_graph without what it does not know",
        ) from None


def _inference_graph(trained: Trained) -> Graph:
    """The inference part with its variables."""
    outputs = [str(port) for port in trained.graph.outputs]
    graph = parse(trained.meta.graph, trained.prefix, True, (), outputs, has_variables=True)
    settle(graph, None, outputs, None)
    return inference_part(graph, None, outputs)


def _parts_of(variable: Any) -> List[str]:
    """The nodes that a variable's message names: initialiser, initial value, snapshot."""
    names = [variable.initializer_name, variable.initial_value_name, variable.snapshot_name]
    return [name.partition(":")[0] for name in names if name]


def _add(graph: Graph, whole: Graph, names: Sequence[str]) -> None:
    """Adds nodes of the whole graph to a part of it, with all nodes that they read."""
    added: Set[str] = set()
    waiting = [name for name in names if name in whole]
    while waiting:
        name = waiting.pop()
        if name not in added and name not in graph:
            added.add(name)
            waiting.extend([port.node for port in whole.inputs_of(name)])
    for node in whole.order():
        if node.name in added:
            inputs = whole.inputs_of(node)
            graph.add(node.copy(), [port for port in inputs if port.port != CONTROL])
            graph.gone.discard(node.name)


def _placeholders(
    tf: Any, feeds: Mapping[str, Feed], definition: Any, where: str
) -> Dict[str, Any]:
    """A new placeholder for each input that is to be replaced, in the default graph.

    The inputs are removed from the definition, so that a placeholder may have the same name.
    """
    placeholders = {}
    for name, feed in feeds.items():
        place = f"input_tensors_map: {where}"
        nodes = {node.name: node for node in definition.node}
        node = nodes.get(Port.parse(name).node)
        if node is None:
            raise LoadError(f"no node {name!r} to replace", place)
        if feed.name in nodes and feed.name != node.name:
            raise LoadError(f"there is a node {feed.name!r} already", place, "name it otherwise")
        shape = feed.shape
        if shape is None and "shape" in node.attr:
            shape = tf.TensorShape(node.attr["shape"].shape)
        dtype = feed.dtype or tf.as_dtype(node.attr["dtype"].type or tf.float32)
        definition.node.remove(node)
        placeholders[name] = tf.placeholder(dtype, shape, name=feed.name)
    return placeholders
