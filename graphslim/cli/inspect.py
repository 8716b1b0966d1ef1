"""`graphslim inspect`, `criteria` and `passes`: what is in a model, and what can be done to it."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, Dict, List, Optional, Sequence, Tuple

import click

from graphslim.analysis.cautions import cautions
from graphslim.analysis.cost import cost
from graphslim.api import find_blocks
from graphslim.channels.groups import ROLES, Channels, Group, analyse
from graphslim.cli import console
from graphslim.cli.console import Console
from graphslim.cli.options import Reading, Sectioned, model_options
from graphslim.cli.tables import print_pairs, print_table, shape_text
from graphslim.graphdef.signature import check_node
from graphslim.ir import Block, DType, Graph, Node, Port
from graphslim.ir.families import TRUTH_VALUED
from graphslim.match import PATTERNS, Matcher
from graphslim.pipeline import passes
from graphslim.plans import open_input, plan_dead, why_not
from graphslim.report.data import remedy
from graphslim.scoring import criteria
from graphslim.support.garbage import pause_gc
from graphslim.support.text import exact, plural


@click.command(cls=Sectioned)
@click.argument("model")
@click.option(
    "--why-not", is_flag=True, help="Show what cannot be pruned, and which op forbids it."
)
@click.option("--groups", is_flag=True, help="Show every group of channels, and what it touches.")
@click.option(
    "--through-norms",
    is_flag=True,
    help="Show the groups that there are if channels may go through norms, as with `prune "
    "--through-norms`.",
)
@click.option("--whole-heads", is_flag=True, help="The same for `prune --whole-heads`.")
@click.option("--explain", metavar="NODE", help="Show why a node is in no recognised block.")
@model_options
def inspect(
    model: str,
    why_not: bool,
    groups: bool,
    through_norms: bool,
    whole_heads: bool,
    explain: Optional[str],
    reading: Reading,
    as_json: bool,
    verbose: bool,
) -> int:
    """Show a model: its inputs and outputs, blocks, channel groups and cost."""
    started = time.perf_counter()
    graph = find_blocks(reading.load(model))
    given = {"through_norms": through_norms, "whole_heads": whole_heads}
    graph.asked = frozenset([name for name, on in given.items() if on])
    if explain is not None:
        check_node(graph, explain, "--explain")
    if verbose:
        console.err.print(f"read and analysed in {time.perf_counter() - started:.2f} s")
    if as_json and explain is not None:
        console.print_json(explanation(graph, explain))
    elif as_json:
        console.print_json(inspection(graph))
    elif explain is not None:
        print_explanation(console.out, graph, explain)
    elif why_not or groups:
        if groups:
            print_groups(console.out, graph)
        if why_not:
            print_why_not(console.out, graph)
    else:
        print_inspection(console.out, graph)
    return console.OK


@pause_gc()
def inspection(graph: Graph) -> Dict[str, Any]:
    """What `inspect --json` prints; the blocks must have been found."""
    channels, total = analyse(graph), cost(graph)
    return {
        "inputs": list(graph.inputs),
        "outputs": [str(port) for port in graph.outputs],
        "input_tensors": [_tensor(graph, channels, Port(name)) for name in graph.inputs],
        "output_tensors": [_tensor(graph, channels, port) for port in graph.outputs],
        "signature": dict(graph.signature),
        "nodes": len(graph),
        "params": total.params,
        "macs": total.macs,
        "cautions": [str(caution) for caution in cautions(graph)],
        "blocks": [_block(channels, block) for block in graph.blocks],
        "groups": [_group(channels, group) for group in channels.groups],
        "dead": plan_dead(graph).removed,
    }


def _element_type(node: Node, port: int) -> Optional[DType]:
    """The element type of a node's output, as far as its attributes tell; else None."""
    for name in ("Tout", "output_types", "component_types"):
        types = node.attrs.get(name)
        if isinstance(types, (list, tuple)):
            return types[port] if port < len(types) else None
    if port or node.op.startswith("NonMaxSuppression"):
        return None
    if node.op in TRUTH_VALUED:  # their attribute T is the type of what they read
        return DType.bool
    for name in ("DstT", "out_type", "output_type", "out_idx", "dtype", "T"):
        kind = node.attrs.get(name)
        if isinstance(kind, DType):
            return kind
    return DType.int64 if node.op in ("ArgMax", "ArgMin", "Where") else None


def _tensor(graph: Graph, channels: Channels, port: Port) -> Dict[str, Any]:
    """A tensor's name, its shape with None for what is open, and its element type if known."""
    facts, dtype = channels.facts[port.node], _element_type(graph[port.node], port.port)
    shape = facts[port.port].shape if port.port < len(facts) else None
    return {
        "name": str(port),
        "shape": None if shape is None else list(shape),
        "dtype": None if dtype is None else dtype.name,
    }


def _block(channels: Channels, block: Block) -> Dict[str, Any]:
    labels = channels.channels_at(block.channels_of)
    reason = why_not(channels, block)
    return {
        "kind": block.kind,
        "name": block.name,
        "nodes": list(block.nodes),
        "channels": 0 if labels is None else len(labels),
        "prunable": reason is None,
        "why_not": reason,
    }


def _group(channels: Channels, group: Group) -> Dict[str, Any]:
    return {
        "id": group.id,
        "channels": len(group),
        "prunable": group.prunable,
        "pinned_by": pinned_by(group),
        "what_to_do": None if group.pinned_by is None else remedy(group.pinned_by, channels.graph),
        "bindings": [
            {
                "param": binding.param,
                "axis": binding.axis,
                "role": binding.role,
                "channels": len(binding.positions),
            }
            for binding in channels.bindings(group)
        ],
    }


def pinned_by(group: Group) -> Optional[str]:
    """Why a group is pinned, and at which node; None if it is not."""
    return None if group.prunable else f"{group.pinned_by} ({group.pinned_at})"


def explanation(graph: Graph, name: str) -> List[Dict[str, Any]]:
    """What `inspect --explain` prints of a node: a dict for each kind of block."""
    matcher = Matcher(graph)
    explanations: List[Dict[str, Any]] = []
    for kind, pattern in sorted(PATTERNS.items()):
        inside = [
            block.name for block in graph.blocks if block.kind == kind and name in block.nodes
        ]
        explained: Dict[str, Any] = {"kind": kind, "block": inside[0] if inside else None}
        miss = None if inside else matcher.explain(pattern, name)
        if miss is not None:
            explained.update(
                root=miss.root,
                matched=dict(miss.matched),
                node=miss.node,
                reason=miss.reason,
                declared_at=pattern.at,
            )
        explanations.append(explained)
    return explanations


def print_inspection(console: Console, graph: Graph) -> None:
    """Prints the summary of `inspect`."""
    tree = inspection(graph)
    print_pairs(console, _facts(graph, tree))
    if tree["blocks"]:
        console.print()
        rows = [
            (
                block["name"],
                _kind(block),
                str(block["channels"]),
                "yes" if block["prunable"] else f"no: {block['why_not']}",
            )
            for block in tree["blocks"]
        ]
        print_table(console, "Blocks", ("block", "kind", ">channels", "prunable"), rows)


def _facts(graph: Graph, tree: Dict[str, Any]) -> List[Tuple[str, str]]:
    """The lines of the summary before its table: pairs of a label and a text."""
    groups = analyse(graph).groups
    prunable = [group for group in groups if group.prunable]
    kinds = Counter([_kind(block) for block in tree["blocks"]])
    shape = open_input(graph)
    macs = "not known" + ("" if shape is None else f": add --input-shape {shape}")
    facts = [*_tensors("inputs", tree["input_tensors"])]
    facts += _tensors("outputs", tree["output_tensors"])
    for side, named in graph.signature.items():
        pairs = [f"{key} -> {name}" for key, name in named.items() if key != name]
        if pairs:
            facts.append(("named", f"in the signature's {side}: {', '.join(pairs)}"))
    return [
        *facts,
        ("nodes", f"{tree['nodes']:,}"),
        ("params", exact(tree["params"])),
        ("MACs", macs if tree["macs"] is None else exact(tree["macs"])),
        (
            "groups",
            f"{len(prunable)} of {len(groups)} prunable, with {sum(map(len, prunable))} of "
            f"{sum(map(len, groups))} channels"
            + ("" if len(prunable) == len(groups) else " (the rest: --why-not; all: --groups)"),
        ),
        (
            "dead",
            plural(tree["dead"], "channel")
            + (": `graphslim prune` removes them, and no output changes" if tree["dead"] else ""),
        ),
        (
            "blocks",
            ", ".join([f"{number} {kind}" for kind, number in sorted(kinds.items())])
            or "none recognised",
        ),
        *[("caution", caution) for caution in tree["cautions"]],
    ]


def _kind(block: Dict[str, Any]) -> str:
    return str(block["kind"]).replace("_", " ")


def _tensors(label: str, tensors: Sequence[Dict[str, Any]]) -> List[Tuple[str, str]]:
    """For each tensor its name, its shape and its element type, the first under a label."""
    texts = [
        f"{tensor['name']}  {shape_text(tensor['shape'])} {tensor['dtype'] or ''}".rstrip()
        for tensor in tensors
    ]
    return [("" if index else label, text) for index, text in enumerate(texts or ["none"])]


def print_groups(console: Console, graph: Graph) -> None:
    """Prints every group: its number of channels, what pins it, and its bindings by role."""
    channels = analyse(graph)
    rows = []
    for group in channels.groups:
        roles = Counter([binding.role for binding in channels.bindings(group)])
        touched = [plural(roles[role], role) for role in ROLES if roles[role]]
        rows.append((group.id, str(len(group)), pinned_by(group) or "no", ", ".join(touched)))
    print_table(console, "Groups", ("group", ">channels", "pinned", "bindings"), rows)
    console.print("Each binding, a parameter and its axis, is listed by --json.")


def print_why_not(console: Console, graph: Graph) -> None:
    """Prints every pinned group, what pins it and where, and what the reader can do."""
    channels = analyse(graph)
    pinned = [group for group in channels.groups if not group.prunable]
    if not pinned:
        console.print("Every group is prunable.")
    else:
        rows = [
            (group.id, str(len(group)), group.pinned_by or "", group.pinned_at or "")
            for group in pinned
        ]
        print_table(console, "Pinned", ("group", ">channels", "because", "<at node"), rows)
        console.print("What to do:")
        advice = _advice(graph, pinned).items()
        print_pairs(console, [("", f"{', '.join(reasons)}: {text}") for text, reasons in advice])


def _advice(graph: Graph, pinned: Sequence[Group]) -> Dict[str, List[str]]:
    """By piece of advice, the reasons for pinning that it is about."""
    advice: Dict[str, List[str]] = {}
    for group in pinned:
        reason = group.pinned_by or ""
        reasons = advice.setdefault(remedy(reason, graph), [])
        if reason not in reasons:
            reasons.append(reason)
    return advice


def print_explanation(console: Console, graph: Graph, name: str) -> None:
    """Prints for each kind of block whether a node is in one, or why the best match failed."""
    for explained in explanation(graph, name):
        if explained["block"] is not None:
            console.print(f"{explained['kind']}: {name} is in {explained['block']}")
        elif "reason" not in explained:
            console.print(f"{explained['kind']}: nothing like it ends after {name}")
        else:
            roles = [f"{role} = {node}" for role, node in explained["matched"].items()]
            console.print(f"{explained['kind']}: not matched from {explained['root']} back")
            console.print(f"  found {', '.join(roles) or 'nothing'}")
            console.print(f"  at {explained['node']}: {explained['reason']}")
            console.print(f"  the pattern is declared at {explained['declared_at']}")


# --- `graphslim criteria` and `graphslim passes`: what --criterion and --pass take.


@click.command("criteria", cls=Sectioned)
def list_criteria() -> int:
    """List the criteria that --criterion takes, and what each measures."""
    sources = [(name, criterion.source) for name, criterion in sorted(criteria().items())]
    print_pairs(console.out, sources)
    return console.OK


@click.command("passes", cls=Sectioned)
def list_passes() -> int:
    """List the passes that can be run with --pass."""
    known: Dict[str, Any] = passes()
    print_pairs(console.out, [(name, cls.summary()) for name, cls in sorted(known.items())])
    return console.OK
