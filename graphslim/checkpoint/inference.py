"""The inference part of a training graph: what its outputs need, as it is deployed."""

from __future__ import annotations

from typing import Dict, Iterable, List, Optional, Sequence, Set

import numpy as np

from graphslim.analysis.cautions import random_node
from graphslim.checkpoint.formulas import APPLY, UPDATE_OPS, behind, operands
from graphslim.checkpoint.parts import (
    become_identity,
    is_pipeline,
    open_inputs,
    part_of,
    put,
)
from graphslim.checkpoint.phases import remove_dropout, use_statistics
from graphslim.checkpoint.roles import after_gradients
from graphslim.errors import LoadError
from graphslim.graphdef.inline import inline_calls
from graphslim.graphdef.signature import known_port
from graphslim.ir import DType, Graph, Node, Port, Tensor
from graphslim.ir.families import IDENTITIES, PLACEHOLDERS, RESHAPES, SELECTS, SWITCHES, VARIABLES
from graphslim.rewrite import fold_conditionals

_PASSING = IDENTITIES | {"Squeeze"}
"""Ops that pass a condition on; a scalar of unknown shape is squeezed to one."""
_CHOICES = {**dict.fromkeys(SWITCHES, 1), "If": 0, "StatelessIf": 0}
"""Ops with a condition, and the input that it is."""
_CROSS_ENTROPY = (
    *("SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits"),
    *("CTCLoss", "CTCLossV2"),
)
_MOST = 5
"""Names that are suggested as outputs."""


def inference_part(whole: Graph, inputs: Optional[Sequence[str]], outputs: Sequence[str]) -> Graph:
    """The part of a graph that outputs need, as it is for inference.

    Batch norm reads its moving statistics, dropout is gone, learning phases are off with what only
    training runs, and input pipelines are placeholders. Nodes keep their names, and variables stay
    variables.

    Args:
        whole: a training graph, or one for inference; it is not changed.
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
    fed = [node.name for node in part if node.op in PLACEHOLDERS]
    # A placeholder with a default is an input only where no other placeholder is left.
    plain = [name for name in fed if part[name].op != "PlaceholderWithDefault"]
    part.inputs = (names if inputs else []) or plain or fed
    name = random_node(part)
    if name is not None:
        raise LoadError(
            "the outputs depend on random numbers that are no dropout",
            f"{part.name}: node {name}",
            "name a tensor behind it with --inputs, or give a graph for inference with "
            "--inference-meta",
        )
    return part


def is_training(whole: Graph) -> bool:
    """Whether a graph computes gradients, or applies gradients whose ops were cut from it."""
    return any(APPLY.match(node.op) for node in whole) or bool(after_gradients(whole))


def output_candidates(whole: Graph) -> List[str]:
    """Names of tensors that may be the outputs of the network in a training graph.

    At most five, the best first: the tensors that cross entropies and squared or absolute
    differences compare with labels, as they are before any reshaping, then the softmax or sigmoid
    of these. In a graph without a loss they are the tensors that nothing reads.
    """
    late = after_gradients(whole)
    network = _computed_from(whole, [node.name for node in whole if node.op in VARIABLES])
    network &= _computed_from(whole, [node.name for node in whole if _brings_data(node)])
    candidates: Dict[Port, None] = {}
    for compared in (_in_cross_entropy, _in_sigmoid, _in_difference):
        for node in whole:
            port = None if node.name in late else compared(whole, node, network)
            if port is not None and port.node in network:
                candidates.setdefault(_unshaped(whole, port))
    for port in list(candidates):
        for use in whole.uses_of(port):
            is_end = whole[use.node].op in ("Softmax", "Sigmoid", "Tanh", "LogSoftmax")
            if is_end and use.node not in late:
                candidates.setdefault(Port(use.node))
    if not candidates:
        for node in whole:
            is_read = any(use.node in network for use in whole.uses_of(node))
            if node.name in network and node.name not in late and not is_read:
                candidates[Port(node.name)] = None
    return [str(port) for port in candidates][:_MOST]


# ------------------------------------------------------------------ learning phases


def _turn_off_phases(part: Graph) -> None:
    """Sets every truth value that is fed, and that does nothing but choose branches, to False."""
    fixed = {*part.inputs, *[port.node for port in part.outputs]}
    for node in list(part):
        is_fed = node.op in PLACEHOLDERS and node.attrs.get("dtype") == DType.bool
        if is_fed and node.name not in fixed and _only_chooses(part, node):
            _settle(part, node.name, False)


def _only_chooses(part: Graph, phase: Node) -> bool:
    """Whether all readers of a truth value take it as a condition, also in functions."""
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
    """Replaces a truth value, and what only passes it on or negates it, by constants."""
    put(part, name, "Const", dtype=DType.bool, value=Tensor.of(np.array(value)))
    for use in part.uses_of(Port(name)):
        if part[use.node].op in _PASSING:
            _settle(part, use.node, value)
        elif part[use.node].op == "LogicalNot":
            _settle(part, use.node, not value)


def _without_branches(part: Graph) -> Graph:
    """A part without the branches that are never taken, be they ops or functions."""
    part = _inlined(part)
    size = len(part) + 1
    while len(part) < size:  # a conditional inside a branch can be folded once the outer one is
        size = len(part)
        fold_conditionals(part)
    for port in part.outputs:
        node = part[port.node]
        if node.op == "Merge" and len(part.inputs_of(node)) == 1:
            become_identity(part, node.name, part.inputs_of(node)[0])
    return part_of(part)


def _inlined(part: Graph) -> Graph:
    """A part in which every `If` with a constant condition is replaced by the function it calls."""
    if part.origin is None or not any(node.op in ("If", "StatelessIf") for node in part):
        return part
    nodes_with_inputs = [(node, list(part.inputs_of(node))) for node in part]
    outputs = [str(port) for port in part.outputs]
    nodes, extras, gone = inline_calls(nodes_with_inputs, part.origin.extras, part.inputs, outputs)
    flat = Graph(part.name)
    flat.load(nodes)
    flat.origin = part.origin._replace(extras=extras)
    flat.inputs, flat.outputs = list(part.inputs), list(part.outputs)
    flat.gone = part.gone | gone
    return flat


# ------------------------------------------------------------------ what losses compare


def _brings_data(node: Node) -> bool:
    is_phase = node.attrs.get("dtype") == DType.bool
    return is_pipeline(node) or (node.op in PLACEHOLDERS and not is_phase)


def _computed_from(graph: Graph, names: Iterable[str]) -> Set[str]:
    """The nodes computed from some nodes; what follows an update of a variable is left out."""
    computed = set(names)
    for node in graph.order():
        sources = [port.node for port in graph.data_inputs(node)]
        if node.op not in UPDATE_OPS and not computed.isdisjoint(sources):
            computed.add(node.name)
    return computed


def _in_cross_entropy(graph: Graph, node: Node, network: Set[str]) -> Optional[Port]:
    return graph.data_inputs(node)[0] if node.op in _CROSS_ENTROPY else None


def _in_sigmoid(graph: Graph, node: Node, network: Set[str]) -> Optional[Port]:
    """The logits of a sigmoid cross entropy, which is log(1 + exp(-|x|)) and more."""
    for op in ("Log1p", "Exp"):
        if node.op != op:
            return None
        node = graph[operands(graph, node)[0].node]
    if node.op == "Neg":  # -|x|
        node = graph[graph.data_inputs(node)[0].node]
        return graph.data_inputs(node)[0] if node.op == "Abs" else None
    # -x where x >= 0, else x
    return graph.data_inputs(node)[2] if node.op in SELECTS else None


def _in_difference(graph: Graph, node: Node, network: Set[str]) -> Optional[Port]:
    """The side of a difference that the network computes, where the other is data."""
    if node.op in ("Square", "Abs", "L2Loss"):
        node = graph[operands(graph, node)[0].node]
        if node.op != "Sub":
            return None
    elif node.op != "SquaredDifference":
        return None
    sides = [port for port in graph.data_inputs(node) if port.node in network]
    return sides[0] if len(sides) == 1 else None


def _unshaped(graph: Graph, port: Port) -> Port:
    """A tensor before it was reshaped."""
    while True:
        before = behind(graph, port)
        if graph[before.node].op not in RESHAPES | {"Cast"}:
            # The name that people gave is often that of an identity.
            return port if graph[port.node].op not in RESHAPES | {"Cast"} else before
        port = graph.data_inputs(before.node)[0]
