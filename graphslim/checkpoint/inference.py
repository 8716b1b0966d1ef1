"""The inference part of the graph of a training: what its outputs need, as it is deployed."""

from __future__ import annotations

from typing import List, Optional, Sequence

import numpy as np

from graphslim.analysis.cautions import random_node
from graphslim.checkpoint.averages import after_gradients
from graphslim.checkpoint.candidates import output_candidates
from graphslim.checkpoint.dropout import remove_dropout
from graphslim.checkpoint.edits import become_identity, part_of, put
from graphslim.checkpoint.entries import PLACEHOLDERS, known_port, open_inputs
from graphslim.checkpoint.norms import use_statistics
from graphslim.checkpoint.variables import APPLY, SWITCHES
from graphslim.errors import LoadError
from graphslim.graphdef.inline import inline_calls
from graphslim.ir import IDENTITIES, DType, Graph, Node, Port, Tensor
from graphslim.rewrite import fold_conditionals

__all__ = ["inference_part", "is_training", "output_candidates"]

_PASSING = IDENTITIES | {"Squeeze"}
"""Ops that pass a condition on; a scalar of unknown shape is squeezed to one."""
_CHOICES = {"Switch": 1, "RefSwitch": 1, "If": 0, "StatelessIf": 0}
"""Ops with a condition, and the input that it is."""


def inference_part(whole: Graph, inputs: Optional[Sequence[str]], outputs: Sequence[str]) -> Graph:
    """What outputs need of a graph, without what is there for training alone.

    Batch norm reads its moving statistics, dropout is gone, learning phases are off with what only
    training runs, and input pipelines are placeholders. Nodes keep their names, and variables stay
    variables.

    Args:
        whole: the graph of a training, or one for inference; it is not changed.
        inputs: names (`node` or `node:port`) of tensors to feed, which become placeholders; by
            default the placeholders and pipelines that the outputs need.
        outputs: names (`node` or `node:port`) of what is to be computed.

    Returns:
        the part, with `inputs` and `outputs` set.

    Raises:
        LoadError: a name is not there; a batch norm keeps its statistics nowhere; or an output
            depends on random numbers other than those of dropout.
    """
    work = whole.copy()
    work.outputs = [known_port(whole, text, "--outputs") for text in outputs]
    names = open_inputs(work, inputs)
    work.inputs = names if inputs else []
    part = part_of(work)
    _turn_off_phases(part)
    part = _without_branches(part)
    use_statistics(part, whole)
    remove_dropout(part)
    part = part_of(part)
    part.inputs = _inputs(part, names if inputs else [])
    _refuse_random(part)
    return part


def is_training(whole: Graph) -> bool:
    """Whether a graph computes gradients, or changes variables by some that it was cut off from."""
    return any(APPLY.match(node.op) for node in whole) or bool(after_gradients(whole))


def _inputs(part: Graph, given: Sequence[str]) -> List[str]:
    there = [node.name for node in part if node.op in PLACEHOLDERS]
    # One with a default is fed only where it is the data's way in.
    plain = [name for name in there if part[name].op != "PlaceholderWithDefault"]
    return list(given) or plain or there


def _turn_off_phases(part: Graph) -> None:
    """Makes False of every truth value that is fed and does nothing but choose branches."""
    wanted = {*part.inputs, *[port.node for port in part.outputs]}
    for node in list(part):
        is_fed = node.op in PLACEHOLDERS and node.attrs.get("dtype") == DType.bool
        if is_fed and node.name not in wanted and _only_chooses(part, node):
            _settle(part, node.name, False)


def _only_chooses(part: Graph, phase: Node) -> bool:
    """Whether all that reads a truth value is conditions, in branches and functions too."""
    waiting, chooses = [Port(phase.name)], False
    while waiting:
        for use in part.uses_of(waiting.pop()):
            reader = part[use.node]
            if use.index == _CHOICES.get(reader.op):
                chooses = True
            elif reader.op in SWITCHES:
                waiting.extend([Port(reader.name), Port(reader.name, 1)])
            elif reader.op in _PASSING or reader.op == "LogicalNot":
                waiting.append(Port(reader.name))
            elif reader.op not in _CHOICES:
                return False
    return chooses


def _settle(part: Graph, name: str, value: bool) -> None:
    """Makes a constant of a truth value, and of what is only passed on from it."""
    put(part, name, "Const", dtype=DType.bool, value=Tensor.of(np.array(value)))
    for use in part.uses_of(Port(name)):
        if part[use.node].op in _PASSING:
            _settle(part, use.node, value)
        elif part[use.node].op == "LogicalNot":
            _settle(part, use.node, not value)


def _without_branches(part: Graph) -> Graph:
    """A part without the branches that are never taken, of conditionals as ops and as functions."""
    part = _inlined(part)
    left = len(part) + 1
    while len(part) < left:  # one that was chosen by the branch of another comes to light then
        left = len(part)
        fold_conditionals(part)
    for port in part.outputs:
        node = part[port.node]
        if node.op == "Merge" and len(part.inputs_of(node)) == 1:
            become_identity(part, node.name, part.inputs_of(node)[0])
    return part_of(part)


def _inlined(part: Graph) -> Graph:
    """A part whose choices between functions, if their condition is constant, are made."""
    if part.origin is None or not any(node.op in ("If", "StatelessIf") for node in part):
        return part
    entries = [(node, list(part.inputs_of(node))) for node in part]
    wanted = [str(port) for port in part.outputs]
    nodes, extras, gone = inline_calls(entries, part.origin.extras, part.inputs, wanted)
    flat = Graph(part.name)
    flat.load(nodes)
    flat.origin = part.origin._replace(extras=extras)
    flat.inputs, flat.outputs = list(part.inputs), list(part.outputs)
    flat.gone = part.gone | gone
    return flat


def _refuse_random(part: Graph) -> None:
    name = random_node(part)
    if name is not None:
        raise LoadError(
            "the outputs depend on random numbers that are no dropout",
            f"{part.name}: node {name}",
            "name a tensor behind it with --inputs, or give a graph for inference with "
            "--inference-meta",
        )
