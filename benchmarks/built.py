"""A network of `tf.keras.applications`, the same pruned, and the same built at the pruned widths.

    python -m benchmarks.built FOLDER PLATFORM NETWORK BATCH...

Keras builds the third anew from the configuration of the first, with other filters and units, so
that nothing of the pruned graph is in it.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import graphslim as gs
from benchmarks.peers import Graphslim
from benchmarks.work import POSE, SHARED, Files, load_helper

KINDS = ("original", "pruned", "built")
_FILTERS = {"Conv2D": "filters", "Dense": "units"}


def path_of(files: Files, kind: str, batch: int) -> Path:
    """The file of one of `KINDS` at a batch."""
    return files.folder / f"{kind}-{batch}.pb"


def make(
    files: Files, batches: List[int], plan: Callable[[gs.Graph], gs.Plan] = Graphslim.plan
) -> None:
    """Makes what is missing; the plan says what is pruned."""
    files.folder.mkdir(parents=True, exist_ok=True)
    if all(path_of(files, kind, batch).is_file() for kind in KINDS for batch in batches):
        return
    if files.name == POSE:
        _published(files, batches)
        return
    import tensorflow as tf

    freezing = load_helper("freezing")
    first = tf.__version__.startswith("1.")
    widths: Dict[str, int] = {}
    config = None
    for kind in ("original", "built"):
        tf.keras.backend.clear_session()
        if first:
            tf.compat.v1.reset_default_graph()
            tf.keras.backend.clear_session()
            tf.keras.backend.set_learning_phase(0)
        if config is None:
            model = getattr(tf.keras.applications, files.name)(
                weights=None, input_shape=(224, 224, 3)
            )
        else:
            model = tf.keras.Model.from_config(config)
        freezing.randomise(model)
        for batch in batches:
            freezing.write(model, path_of(files, kind, batch), batch)
        if config is None:
            for batch in batches:
                graph = gs.load(str(path_of(files, "original", batch)))
                slim = gs.apply(graph, plan(graph))
                gs.save(slim, path_of(files, "pruned", batch))
            widths = widths_of(model, graph, slim)
            config = resized(model.get_config(), widths)
    _check(files, batches)


def _published(files: Files, batches: List[int]) -> None:
    """The pose network: graphslim's result beside what its authors' own pruning left."""
    for batch in batches:
        original = path_of(files, "original", batch)
        shutil.copyfile(str(files.frozen), str(original))
        graph = gs.load(str(original))
        removed = gs.plan(graph, exclude=["SE4*"])
        gs.save(gs.apply(graph, removed), path_of(files, "pruned", batch))
        shutil.copyfile(str(SHARED / "stripped.pb"), str(path_of(files, "built", batch)))


def widths_of(model: Any, graph: gs.Graph, slim: gs.Graph) -> Dict[str, int]:
    """Filters or units of each layer of a model in the pruned graph, by layer."""
    before, after = _outputs_of(graph), _outputs_of(slim)
    layers = [layer for layer in model.layers if type(layer).__name__ in _FILTERS]
    scopes = {scope: node for node in before for scope in _scopes(node)}
    found = {}
    # The longest first: `conv` may have become `conv_1`, and `conv_1` then `conv_1_2`.
    for layer in sorted(layers, key=lambda layer: -len(layer.name)):
        numbered = [part for part in scopes if part.rpartition("_")[0] == layer.name]
        node = scopes.pop(([part for part in numbered if part[-1].isdigit()] or [layer.name])[0])
        width = getattr(layer, _FILTERS[type(layer).__name__])
        assert before[node] == width, f"{layer.name} is not {node}"
        found[layer.name] = after[node]
    return found


def _scopes(node: str) -> List[str]:
    """Every run of the parts of a node's name but the last: a layer's name may hold a slash."""
    parts = node.split("/")[:-1]
    ends = range(len(parts) + 1)
    return ["/".join(parts[start:end]) for start in ends for end in ends if start < end]


def _outputs_of(graph: gs.Graph) -> Dict[str, int]:
    """Output channels of each convolution and dense layer, by node."""
    found = {}
    for node in graph:
        if node.op in ("Conv2D", "MatMul"):
            found[node.name] = _shape_of(graph, node)[-1]
    return found


def _shape_of(graph: gs.Graph, node: gs.Node) -> Tuple[int, ...]:
    """The shape of what a node multiplies by."""
    source = graph[graph.data_inputs(node)[1].node]
    while source.op in gs.IDENTITIES:
        source = graph[graph.data_inputs(source)[0].node]
    return tuple(source.attrs["value"].shape)


def resized(config: Dict[str, Any], widths: Dict[str, int]) -> Dict[str, Any]:
    """A model's configuration with other widths; shapes that it states are left out or changed."""
    sizes = _vectors(config, widths)
    for layer in config["layers"]:
        # Keras 3 would build each layer for the old shapes of its inputs.
        layer.pop("build_config", None)
        own, name = layer["config"], layer["config"]["name"]
        if name in widths:
            own[_FILTERS[layer["class_name"]]] = widths[name]
        if layer["class_name"] == "Reshape" and sizes.get(name) is not None:
            target = list(own["target_shape"])
            own["target_shape"] = [*target[:-1], sizes[name]]
    return config


def _vectors(config: Dict[str, Any], widths: Dict[str, int]) -> Dict[str, Optional[int]]:
    """How many channels each layer gives, as far as it only hands on what a convolution makes."""
    sizes: Dict[str, Optional[int]] = {}
    for layer in config["layers"]:
        name = layer["config"]["name"]
        sources = _sources(layer.get("inbound_nodes", []))
        handed = [sizes[source] for source in sources if sizes.get(source) is not None]
        sizes[name] = widths.get(name, handed[0] if handed else None)
    return sizes


def _sources(tree: Any) -> List[str]:
    """The layers that a layer reads, from either spelling of a configuration."""
    if isinstance(tree, dict):
        if "keras_history" in tree:
            return [str(tree["keras_history"][0])]
        return [name for value in tree.values() for name in _sources(value)]
    if isinstance(tree, (list, tuple)):
        if len(tree) >= 3 and isinstance(tree[0], str) and isinstance(tree[1], int):
            return [tree[0]]
        return [name for value in tree for name in _sources(value)]
    return []


def _check(files: Files, batches: List[int]) -> None:
    """Holds the built network's filters against the pruned ones."""
    for batch in batches:
        found = []
        for kind in ("pruned", "built"):
            graph = gs.load(str(path_of(files, kind, batch)))
            ops = ("Conv2D", "DepthwiseConv2dNative", "MatMul")
            found.append(Counter([_shape_of(graph, node) for node in graph if node.op in ops]))
        if found[0] != found[1]:
            raise SystemExit(f"{files.name}: built otherwise: {found[0] - found[1]}")


def main() -> None:
    """Makes the files."""
    place, platform, name, *batches = sys.argv[1:]
    make(Files(name, Path(place) / platform / name), [int(batch) for batch in batches])


if __name__ == "__main__":
    main()
