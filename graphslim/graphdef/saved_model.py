"""SavedModel folders: which of its graphs to take, and which signature names inputs and outputs."""

from __future__ import annotations

import os
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from graphslim.errors import LoadError
from graphslim.graphdef import fields, wire
from graphslim.graphdef.protos import (
    DecodeError,
    SignatureDef,
    TensorInfo,
    binary_of,
    saved_model_class,
)
from graphslim.ir import Port

FILES = ("saved_model.pb", "saved_model.pbtxt")
"""The names that the graph of a SavedModel has in its folder."""
_SERVE = "serve"
_DEFAULT = "serving_default"
_INTERNAL = "__saved_model_"
"""What the names of TensorFlow's own signatures begin with, such as that of initialisation."""
_AGAIN = "copy or export it again"


class Chosen(NamedTuple):
    """One graph of a SavedModel.

    Attributes:
        tags: the tags that name the graph in its file.
        graph: its GraphDef, as bytes.
        signature: the name of the signature; None where the file has none and none is needed.
        inputs: the tensors that are fed, as `node` or `node:port`, each once.
        outputs: the tensors to compute, likewise.
        names: under `inputs` and `outputs`, the tensors by the names that the signature has.
    """

    tags: Tuple[str, ...]
    graph: bytes
    signature: Optional[str]
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    names: Mapping[str, Mapping[str, str]]


class _MetaGraph(NamedTuple):
    tags: Tuple[str, ...]
    graph: memoryview
    signatures: Mapping[str, memoryview]


def folder_of(path: str) -> Optional[str]:
    """The SavedModel folder that a path means, itself or the `saved_model.pb` in it; else None."""
    if os.path.basename(path) in FILES and _is_there(path):
        return os.path.dirname(os.path.abspath(path))
    if any(_is_there(os.path.join(path, name)) for name in FILES):
        return os.path.abspath(path) if os.path.basename(path) in ("", ".", "..") else path
    return None


def file_in(folder: str) -> str:
    """The path of the file that holds a SavedModel's graphs."""
    paths = [os.path.join(folder, name) for name in FILES]
    return next((path for path in paths if _is_there(path)), paths[0])


def _is_there(path: str) -> bool:
    """Whether there is anything but a folder; who reads it refuses what is no regular file."""
    return os.path.exists(path) and not os.path.isdir(path)


def files_of(path: str) -> List[str]:
    """The files that a SavedModel consists of; none if there is no SavedModel at the path."""
    folder = folder_of(path)
    walked = os.walk(folder) if folder is not None else []
    return [os.path.join(place, name) for place, _, names in walked for name in names]


def no_model_in(folder: str) -> LoadError:
    """The error for a folder that is no SavedModel, with a hint at what else it may be."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        return LoadError(f"cannot be read: {error.strerror}", folder, "check its permissions")
    inside = [name for name in names if folder_of(os.path.join(folder, name)) is not None]
    if inside:
        nearest = os.path.join(folder, inside[-1])
        return LoadError("a folder of SavedModels, not one itself", folder, f"give {nearest}")
    if "variables" in names or "keras_metadata.pb" in names or "fingerprint.pb" in names:
        return LoadError("a SavedModel folder without its saved_model.pb", folder, _AGAIN)
    return LoadError(
        "a folder, not a model file", folder, "give the path of a .pb, a .pbtxt or a SavedModel"
    )


def choose(
    data: bytes,
    file: str,
    signature: Optional[str] = None,
    tags: Sequence[str] = (),
    need_signature: bool = True,
) -> Chosen:
    """Takes one graph and one signature from a SavedModel's file.

    Args:
        data: the bytes of the file.
        file: its path; a text SavedModel if it ends with `.pbtxt`.
        signature: its name; by default `serving_default`, or else the only one.
        tags: the tags of the graph; by default `serve`, or else the only graph.
        need_signature: whether it is an error that no signature can be chosen.

    Raises:
        LoadError: the file is damaged, the choice is not in it, or a choice has to be made.
    """
    try:
        if file.endswith(".pbtxt"):
            data = binary_of(data, saved_model_class()(), "SavedModel", file)
        graph = _by_tags(
            [
                _meta_graph(payload)
                for payload in wire.payloads(memoryview(data), fields.SavedModel.meta_graphs)
            ],
            tags,
            file,
        )
        name = _by_name(graph.signatures, signature, need_signature, file)
        chosen = SignatureDef.FromString(bytes(graph.signatures[name]) if name else b"")
    except (wire.Truncated, wire.Malformed, DecodeError, UnicodeDecodeError):
        raise LoadError("the SavedModel is damaged", file, _AGAIN) from None
    if not graph.graph:
        raise LoadError("the SavedModel's graph is empty", file, _AGAIN)
    place = f"{file}: signature {name}"
    inputs = _tensors(chosen.inputs, "input", place)
    outputs = _tensors(chosen.outputs, "output", place)
    return Chosen(
        graph.tags,
        bytes(graph.graph),
        name,
        tuple(dict.fromkeys(inputs.values())),
        tuple(dict.fromkeys(outputs.values())),
        {"inputs": inputs, "outputs": outputs},
    )


def _meta_graph(view: memoryview) -> _MetaGraph:
    empty = memoryview(b"")
    info = wire.find(view, fields.MetaGraphDef.meta_info_def) or empty
    return _MetaGraph(
        tuple([bytes(tag).decode() for tag in wire.payloads(info, fields.MetaInfoDef.tags)]),
        wire.find(view, fields.MetaGraphDef.graph_def) or empty,
        dict(wire.entries(view, fields.MetaGraphDef.signature_def)),
    )


def _by_tags(graphs: Sequence[_MetaGraph], wanted: Sequence[str], file: str) -> _MetaGraph:
    if not graphs:
        raise LoadError("the SavedModel holds no graph", file, _AGAIN)
    listing = "; ".join([",".join(graph.tags) or "no tags" for graph in graphs])
    if wanted:
        fitting = [graph for graph in graphs if set(graph.tags) == set(wanted)]
        if not fitting:
            raise LoadError(
                f"no graph with the tags {','.join(wanted)}", "--tag", f"{file} has: {listing}"
            )
        return fitting[0]
    plain = [graph for graph in graphs if graph.tags == (_SERVE,)]
    serving = plain or [graph for graph in graphs if _SERVE in graph.tags]
    # Modules of TensorFlow Hub have a graph that trains beside the one without tags.
    serving = serving or [graph for graph in graphs if not graph.tags] or list(graphs)
    if len(serving) > 1:
        raise LoadError(
            "the SavedModel holds several graphs", file, f"choose one with --tag: {listing}"
        )
    return serving[0]


def _by_name(
    signatures: Mapping[str, memoryview], wanted: Optional[str], needed: bool, file: str
) -> Optional[str]:
    names = sorted([name for name in signatures if not name.startswith(_INTERNAL)])
    listing = ", ".join(names) or "none"
    if wanted is not None:
        if wanted not in signatures:
            raise LoadError(f"no signature {wanted!r}", "--signature", f"{file} has: {listing}")
        return wanted
    if _DEFAULT in names:
        return _DEFAULT
    if len(names) == 1:
        return names[0]
    if not needed:
        return None
    if names:
        raise LoadError(
            "the SavedModel has several signatures", file, f"choose one with --signature: {listing}"
        )
    raise LoadError(
        "the SavedModel has no signature, which would say what is fed and what is computed",
        file,
        "save it with signatures=..., or name --inputs and --outputs",
    )


def _tensors(infos: Mapping[str, TensorInfo], what: str, place: str) -> Dict[str, str]:
    """The names of a signature's tensors, by its keys and in their order."""
    names = {}
    for key in sorted(infos):
        if infos[key].WhichOneof("encoding") not in ("name", None):
            raise LoadError(
                f"its {what} {key!r} is not a plain tensor", place, "export it with dense tensors"
            )
        port = Port.parse(infos[key].name)
        if what == "input" and port.port != 0:
            raise LoadError(
                f"its input {key!r} is {infos[key].name}, one of several results of a node",
                place,
                "export the model with a placeholder there",
            )
        names[key] = str(port)
    return names
