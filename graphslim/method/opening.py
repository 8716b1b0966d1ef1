"""Opens the checkpoints that a training script leaves, whatever it says of its outputs."""

from __future__ import annotations

import os
from typing import List, Optional, Sequence

from graphslim.api import find_blocks
from graphslim.checkpoint import Trained, open_checkpoint
from graphslim.checkpoint.inference import is_training, output_candidates
from graphslim.errors import LoadError
from graphslim.graphdef import parse
from graphslim.graphdef.meta_graph import read_meta
from graphslim.ir import Port
from graphslim.runtime import plain_tensorflow

DEFAULT_OUTPUTS = "output"
"""What the published class took for the output where nobody named one."""


def opened(prefix: str, output_nodes: str) -> Trained:
    """A checkpoint with its inference graph, the blocks of that found.

    Args:
        prefix: of the checkpoint, with its `.meta` beside it.
        output_nodes: names separated by commas. The default is taken only where there is such a
            node; else the outputs are those of an inference graph, or what losses compare.

    Raises:
        LoadError: the checkpoint or its MetaGraph cannot be read, a named output is not in it, or
            no output is found.
        RuntimeUnavailable: TensorFlow is not there to read the checkpoint.
    """
    trained = open_checkpoint(prefix, outputs=_outputs(prefix, output_nodes))
    find_blocks(trained.graph)
    return trained


def latest(folder: str) -> str:
    """The prefix of the newest checkpoint in a folder, as its state file says.

    Raises:
        LoadError: there is none.
    """
    found = plain_tensorflow("it finds the latest checkpoint").train.latest_checkpoint(folder)
    if found is None:
        raise LoadError(
            "no checkpoint in this folder",
            folder,
            "give the folder that the training script saves to",
        )
    return str(found)


def names_of(output_nodes: str) -> List[str]:
    """The names in a list that is separated by commas.

    Raises:
        LoadError: there is none.
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
    if meta.signatures or not is_training(graph):
        return None
    found = output_candidates(graph)
    if not found:
        raise LoadError(
            "the graph of a training, which does not say what it is run for",
            path,
            "name its outputs, as in output_nodes='logits'",
        )
    return found
