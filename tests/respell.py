"""The same network frozen in another way: names, order, identities, batch norm in parts."""

from __future__ import annotations

import random
from typing import Any, Dict, List

import graphslim as gs
from graphslim.graphdef import parse, signature


def respell(graph: gs.Graph, seed: int = 0) -> gs.Graph:
    """A graph that computes the same, from a file in which nothing but inputs and outputs is named
    as before.

    Constants stand behind identities, batch norm is written as arithmetic, and the nodes come in
    an order of their own.
    """
    rng = random.Random(seed)
    message = gs.to_graph_def(graph)
    kept = {*graph.inputs, *[port.node for port in graph.outputs]}
    names = {node.name: f"net/n{rng.randrange(10**9)}" for node in message.node}
    names.update({name: name for name in kept})
    identities = {
        node.name: names[node.name] + "/read"
        for node in message.node
        if node.op == "Const" and node.attr["dtype"].type == 1 and node.name not in kept
    }
    written: List[Any] = []
    for node in message.node:
        new = type(node)()
        new.CopyFrom(node)
        new.name = names[node.name]
        inputs = [_renamed(name, names, identities) for name in node.input]
        del new.input[:]
        new.input.extend(inputs)
        new.attr.pop("_class", None)
        if _is_plain_norm(node):
            written.extend(_in_parts(type(node), new))
            continue
        written.append(new)
        if node.name in identities:
            written.append(_float(type(node), "Identity", identities[node.name], names[node.name]))
    rng.shuffle(written)
    del message.node[:]
    message.node.extend(written)
    twin = parse(message.SerializeToString(deterministic=True), "respelled.pb")
    signature.settle(twin, graph.inputs, [str(port) for port in graph.outputs], graph.input_shapes)
    return twin


def _renamed(name: str, names: Dict[str, str], identities: Dict[str, str]) -> str:
    if name.startswith("^"):
        return "^" + names[name[1:]]
    node, colon, port = name.partition(":")
    return identities.get(node, names[node] + colon + port)


def _float(kind: Any, op: str, name: str, *inputs: str) -> Any:
    node = kind(op=op, name=name)
    node.input.extend(inputs)
    node.attr["T"].type = 1
    return node


def _is_plain_norm(node: Any) -> bool:
    """Whether it is a batch norm that the arithmetic below can stand for."""
    attrs = node.attr
    plain = attrs["data_format"].s in (b"", b"NHWC") and not attrs["is_training"].b
    return node.op.startswith("FusedBatchNorm") and plain


def _in_parts(kind: Any, norm: Any) -> List[Any]:
    """Batch norm as x * (gamma / sqrt(var + eps)) + (beta - mean * (gamma / sqrt(var + eps)))."""
    x, gamma, beta, mean, variance = norm.input
    name = norm.name
    epsilon = kind(op="Const", name=name + "/eps")
    epsilon.attr["dtype"].type = 1
    epsilon.attr["value"].tensor.dtype = 1
    epsilon.attr["value"].tensor.float_val.append(norm.attr["epsilon"].f)
    epsilon.attr["value"].tensor.tensor_shape.SetInParent()
    return [
        epsilon,
        _float(kind, "AddV2", name + "/add", variance, name + "/eps"),
        _float(kind, "Rsqrt", name + "/rsqrt", name + "/add"),
        _float(kind, "Mul", name + "/scale", name + "/rsqrt", gamma),
        _float(kind, "Mul", name + "/scaled", x, name + "/scale"),
        _float(kind, "Mul", name + "/shift", mean, name + "/scale"),
        _float(kind, "Sub", name + "/offset", beta, name + "/shift"),
        _float(kind, "AddV2", name, name + "/scaled", name + "/offset"),
    ]
