"""Results for people (rich tables) and for machines (JSON trees)."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Optional, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from graphslim.analysis.channels import Channels, Group, analyse
from graphslim.analysis.cost import Cost, cost
from graphslim.compare import Agreement
from graphslim.graphdef import serialize
from graphslim.ir import Block, Graph
from graphslim.match import PATTERNS, Matcher
from graphslim.ops.table import CHANNEL_RULES
from graphslim.plans import Plan, why_not


def inspection(graph: Graph) -> Dict[str, Any]:
    """What `inspect --json` prints; the blocks must have been found."""
    channels, total = analyse(graph), cost(graph)
    return {
        "inputs": list(graph.inputs),
        "outputs": [str(port) for port in graph.outputs],
        "nodes": len(graph),
        "params": total.params,
        "macs": total.macs,
        "blocks": [_block(channels, block) for block in graph.blocks],
        "groups": [_group(channels, group) for group in channels.groups],
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
        "bindings": [
            {"param": one.param, "axis": one.axis, "role": one.role, "channels": len(one.positions)}
            for one in channels.bindings(group)
        ],
    }


def pinned_by(group: Group) -> Optional[str]:
    """Why a group is pinned, and at which node; None if it is not."""
    return None if group.prunable else f"{group.pinned_by} ({group.pinned_at})"


def count(number: Optional[int]) -> str:
    """A large number as people say it: 1.64 M."""
    if number is None:
        return "open size"
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return str(number)


def share(before: Optional[int], after: Optional[int]) -> str:
    """How much less there is: -41.4 %."""
    if not before or after is None:
        return ""
    return f"{100 * (after - before) / before:+.1f} %" if after != before else "the same"


def print_inspection(console: Console, graph: Graph) -> None:
    """The summary that `inspect` prints."""
    tree = inspection(graph)
    channels = analyse(graph)
    shapes = [f"{name} {_shape(channels, name)}" for name in tree["inputs"]]
    console.print(Text(f"inputs   {', '.join(shapes)}"))
    console.print(Text(f"outputs  {', '.join(tree['outputs'])}"))
    prunable = [group for group in channels.groups if group.prunable]
    console.print(Text(f"nodes    {tree['nodes']}"))
    console.print(Text(f"params   {tree['params']:,}  ({count(tree['params'])})"))
    console.print(Text(f"MACs     {count(tree['macs'])}"))
    total = sum([len(group) for group in channels.groups])
    console.print(
        Text(
            f"groups   {len(prunable)} of {len(channels.groups)} prunable, "
            f"{sum([len(group) for group in prunable])} of {total} channels"
        )
    )
    if not tree["blocks"]:
        console.print(Text("blocks   none recognised"))
        return
    table = Table(title="Blocks", title_justify="left")
    for name, justify in (("block", "left"), ("kind", "left"), ("channels", "right"), ("prunable", "left")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for block in tree["blocks"]:
        words = "yes" if block["prunable"] else f"no: {block['why_not']}"
        table.add_row(Text(block["name"]), block["kind"].replace("_", " "), str(block["channels"]), Text(words))
    console.print(table)


def _shape(channels: Channels, name: str) -> str:
    facts = channels.facts[name]
    if not facts or facts[0].shape is None:
        return "(open)"
    return "x".join(["?" if size is None else str(size) for size in facts[0].shape])


def print_why_not(console: Console, graph: Graph) -> None:
    """Every group that is pinned, by what and where, and what the reader can do."""
    channels = analyse(graph)
    pinned = [group for group in channels.groups if not group.prunable]
    unknown: Dict[str, str] = {}
    for node in graph:
        if node.op not in CHANNEL_RULES:
            unknown.setdefault(node.op, node.name)
    if not pinned:
        console.print("Every group is prunable.")
    else:
        table = Table(title="Pinned", title_justify="left")
        for name in ("group", "channels", "because", "at node"):
            table.add_column(name, justify="right" if name == "channels" else "left", overflow="fold")
        for group in pinned:
            table.add_row(Text(group.id), str(len(group)), Text(group.pinned_by or ""), Text(group.pinned_at or ""))
        console.print(table)
    if unknown:
        console.print("Ops without a rule, which pin what reaches them:")
        for op, name in sorted(unknown.items()):
            console.print(Text(f"  {op} (first at {name}): register one with @graphslim.channel_rule({op!r})"))


def print_explanation(console: Console, graph: Graph, name: str) -> None:
    """For each kind of block, whether a node is in one, or why the nearest attempt failed."""
    matcher = Matcher(graph)
    for kind, pattern in sorted(PATTERNS.items()):
        inside = [block for block in graph.blocks if block.kind == kind and name in block.nodes]
        if inside:
            console.print(Text(f"{kind}: {name} is in {inside[0].name}"))
            continue
        miss = matcher.explain(pattern, name)
        if miss is None:
            console.print(Text(f"{kind}: nothing like it ends after {name}"))
            continue
        found = ", ".join([f"{role} = {node}" for role, node in miss.matched.items()]) or "nothing"
        console.print(Text(f"{kind}: not matched from {miss.root} back; found {found}"))
        console.print(Text(f"  at {miss.node}: {miss.reason}"))
        console.print(Text(f"  the pattern is declared at {pattern.at}"))


def print_pruning(
    console: Console,
    before: Graph,
    after: Graph,
    plan: Optional[Plan],
    agreement: Optional[Agreement],
    seconds: float,
) -> None:
    """The before-and-after table that `prune` prints."""
    if plan is not None and plan.groups:
        console.print(_widths(plan))
    sizes = [len(serialize(graph)) for graph in (before, after)]
    costs: List[Cost] = [cost(before), cost(after)]
    table = Table(title="Whole network", title_justify="left")
    for name in ("", "before", "after", "change"):
        table.add_column(name, justify="left" if not name else "right")
    for label, one, other in (
        ("parameters", costs[0].params, costs[1].params),
        ("MACs", costs[0].macs, costs[1].macs),
        ("file, bytes", sizes[0], sizes[1]),
    ):
        table.add_row(label, count(one), count(other), share(one, other))
    console.print(table)
    removed = 0 if plan is None else plan.removed
    folded = "" if plan is None or not plan.folds else f", {sum([len(f.indices) for f in plan.folds])} constants folded"
    console.print(f"{removed} channels removed{folded}, {seconds:.2f} s")
    if agreement is not None:
        print_agreement(console, agreement)


def _widths(plan: Plan) -> Table:
    table = Table(title="Channels", title_justify="left")
    for name in ("block or layer", "before", "after", "removed"):
        table.add_column(name, justify="left" if name.startswith("block") else "right", overflow="fold")
    for group in plan.groups:
        gone = len(group.removed)
        table.add_row(
            Text(group.block or group.id), str(group.channels), str(group.channels - gone), f"{100 * gone / group.channels:.0f} %"
        )
    return table


def print_agreement(console: Console, agreement: Agreement) -> None:
    """Output by output, how far two graphs are apart."""
    table = Table(title=f"Outputs, against the {agreement.against}", title_justify="left")
    for name in ("output", "largest difference", "of its range"):
        table.add_column(name, justify="left" if name == "output" else "right", overflow="fold")
    for one in agreement.outputs:
        table.add_row(Text(one.name), f"{one.absolute:.3g}", f"{one.relative:.3g}")
    console.print(table)
    verdict = "same" if agreement.ok else "NOT the same"
    console.print(f"The outputs are the {verdict} within {agreement.tolerance:g} of their range.".replace("the NOT the", "NOT the"))


def print_times(console: Console, seconds: Iterable[Sequence[Any]]) -> None:
    """What each pass took."""
    for name, time in seconds:
        console.print(Text(f"{1000 * time:9.1f} ms  {name}"))
