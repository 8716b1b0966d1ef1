"""RESULTS.md: tables of what was measured, and what of it was to be reached."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Optional, Sequence

from benchmarks.targets import PLATFORM, ratio, targets

Numbers = Mapping[str, Any]


def page(numbers: Numbers) -> str:
    """The whole page, in Markdown."""
    parts = [
        _head(numbers),
        _reached(numbers),
        _compile(numbers.get("compile", {})),
        _coverage(numbers.get("coverage", {})),
        _latency(numbers.get("latency", {})),
        runtimes(numbers.get("runtimes", {})),
        _scale(numbers.get("scale", [])),
        _shapes(numbers.get("shapes", [])),
    ]
    return "\n\n".join([part for part in parts if part]) + "\n"


def kept(page: str, earlier: str) -> str:
    """A page, with the sections of an earlier one that it has none of.

    Those were written by hand, or measured by a run of other parts.
    """
    headings = {section.splitlines()[0] for section in _sections(page)}
    rest = [part for part in _sections(earlier) if part.splitlines()[0] not in headings]
    return "\n\n".join([part.strip() for part in (page, *rest)]) + "\n"


def _sections(page: str) -> List[str]:
    """The parts of a page that begin with a heading of the second level."""
    return re.split(r"^(?=## )", page, flags=re.MULTILINE)[1:]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join([f"| {' | '.join(line)} |" for line in lines])


def _head(numbers: Numbers) -> str:
    lines = ["# Results", "", "Made by `make bench`; all numbers are of one run on one machine."]
    if numbers.get("quick"):
        lines += ["", "**A quick run, which shows that all works: its numbers mean little.**"]
    for platform, facts in numbers.get("machine", {}).items():
        packages = ", ".join([f"{name} {found}" for name, found in facts["packages"].items()])
        lines += ["", f"- {PLATFORM[platform]}: Python {facts['python']}, {packages}"]
    machine = next(iter(numbers.get("machine", {}).values()), None)
    if machine:
        lines.append(
            f"- {machine['cpu']}, {machine['cores']} cores, {machine['gigabytes']} GB, "
            f"{machine['system']}; load when it began: {machine['load']}"
        )
    lines += [
        "",
        "Times are medians of rounds in which all contenders took turns, with the quartiles in",
        "brackets; ratios are taken round by round, and are medians too.",
    ]
    return "\n".join(lines)


def _reached(numbers: Numbers) -> str:
    rows = [
        [one.what, one.wanted, one.measured, "yes" if one.reached else f"**no** {one.why}".strip()]
        for one in targets(numbers)
    ]
    if not rows:
        return ""
    return "## What was to be reached\n\n" + table(["", "target", "measured", "reached"], rows)


# --- Compile -------------------------------------------------------------------------


def _compile(found: Numbers) -> str:
    parts = []
    for platform in PLATFORM:
        rows = {
            key.partition("/")[2]: row
            for key, row in found.items()
            if key.startswith(f"{platform}/") and not key.endswith("/shell")
        }
        if rows:
            parts += [f"### In one process, {PLATFORM[platform]}", _whole(rows), _steps(rows)]
            parts += [PER_NODE, _per_node(rows)]
            parts += ["Peak memory in MB of a process of its own, and of that before it began:"]
            parts += [_memory(rows)]
    shells = {platform: found.get(f"{platform}/shell") for platform in PLATFORM}
    for platform, shell in shells.items():
        if shell:
            parts += [f"### From the shell, {PLATFORM[platform]}, MobileNetV2", _shell(shell)]
    return "\n\n".join(["## Compile", COMPILE, *parts]) if parts else ""


COMPILE = """Milliseconds of processor time to read a network's file, remove half the channels of
each group (those of least l1), and write the result. `floor`: the same file read, parsed,
serialised and written by protobuf. `graphslim, thin`: graphslim on a network of the same nodes with
hardly any weights. `onnxsim`: loads, prunes (`apply_structured_pruning`) and saves the network as
tf2onnx converts it, and after onnxsim's simplifier, which is not timed. `Torch-Pruning`: builds its
dependency graph and takes one step, on torch modules made of the simplified ONNX file
(`torch_network.py`); it neither reads nor writes a file here. `TransformGraph` prunes nothing: it
folds constants and batch norms, and stands for passing a graph through TensorFlow's own tool."""


def _names(rows: Numbers) -> List[str]:
    seen: Dict[str, None] = {}
    for row in rows.values():
        seen.update(dict.fromkeys([*row["milliseconds"], *row["errors"]]))
    return list(seen)


def _whole(rows: Numbers) -> str:
    """One row per network: each contender, and how graphslim compares."""
    names = _names(rows)
    others = [name for name in names if name != "graphslim"]
    lines = []
    for network, row in rows.items():
        cells = [_spread(row["milliseconds"].get(name), row["errors"].get(name)) for name in names]
        ratios = [ratio(row["milliseconds"], "graphslim", name) for name in others]
        lines.append([network, *cells, *[_times(number) for number in ratios]])
    return table(["network", *names, *[f"graphslim / {name}" for name in others]], lines)


def _steps(rows: Numbers) -> str:
    """What each step takes, by contender."""
    lines = []
    for network, row in rows.items():
        for name, times in row["milliseconds"].items():
            if len(times["steps"]) > 1:
                steps = [f"{step} {took:.1f}" for step, took in times["steps"].items()]
                lines.append([network, name, ", ".join(steps)])
    return table(["network", "contender", "steps (ms)"], lines)


PER_NODE = """Microseconds per node of the graph, by step. Beside each what the step takes where the
same nodes have hardly any weights (`graphslim, thin`): that much is Python, the rest is bytes."""


def _per_node(rows: Numbers) -> str:
    lines: List[List[str]] = []
    steps: List[str] = []
    for network, row in rows.items():
        own, thin = (row["milliseconds"].get(name) for name in ("graphslim", "graphslim, thin"))
        if own and thin and "nodes" in row:
            steps = [*own["steps"]]
            pairs = [[1e3 * times["steps"][step] for times in (own, thin)] for step in steps]
            pairs.append([sum(column) for column in zip(*pairs)])
            cells = [f"{a / row['nodes']:.1f} ({b / row['nodes']:.1f})" for a, b in pairs]
            lines.append([network, str(row["nodes"]), *cells])
    return table(["network", "nodes", *steps, "together"], lines)


def _memory(rows: Numbers) -> str:
    names = _names(rows)
    lines = []
    for network, row in rows.items():
        cells = []
        for name in names:
            one = row["memory"].get(name)
            cells.append(f"{one['peak']:.0f} ({one['before']:.0f})" if one else "-")
        lines.append([network, *cells])
    return table(["network", *names], lines)


def _shell(found: Numbers) -> str:
    base = found["import tensorflow"]["median"]
    lines = [
        [f"`{name}`", f"{one['median']:.2f} ({one['low']:.2f}-{one['high']:.2f})"]
        + [f"{one['median'] / base:.2f}"]
        for name, one in found.items()
    ]
    return table(["command", "seconds", "share of `import tensorflow`"], lines)


def _spread(times: Optional[Numbers], error: Optional[str]) -> str:
    if times is None:
        return f"fails: {error}" if error else "-"
    whole = times["whole"]
    return f"{whole['median']:.0f} ({whole['low']:.0f}-{whole['high']:.0f})"


def _times(number: Optional[float]) -> str:
    return "-" if number is None else f"{number:.2f}"


# --- The rest ------------------------------------------------------------------------


def _coverage(found: Numbers) -> str:
    if not found:
        return ""
    names = list(next(iter(found.values())))
    lines = []
    for network, row in found.items():
        cells = []
        for name in names:
            one = row.get(name, {"error": "not installed"})
            if "error" in one:
                cells.append(f"fails: {one['error']}")
            else:
                macs = "-" if one["macs"] is None else f"{100 * one['macs']:.1f}"
                cells.append(f"{100 * one['weights']:.1f} / {macs}")
        lines.append([network, *cells])
    text = (
        "Percent of the weights / of the multiply-accumulates that go with half of each group.\n"
        "Counted for all in the same way (`coverage.py`); the original counts agree."
    )
    return f"## Coverage\n\n{text}\n\n" + table(["network", *names], lines)


LATENCY = """Milliseconds per run, `pruned` in turns with `original` and in turns with `built`,
which Keras builds anew at the pruned widths with random weights. For the pose network `built` is
what its authors' own pruning left, and `pruned` what is left when graphslim removes what is dead in
the inflated one. A pruned network is no slower than it has to be where `pruned / built` is 1.00."""


def _latency(found: Numbers) -> str:
    if not found:
        return ""
    lines = []
    for key, row in found.items():
        platform, network, threads, batch = key.split("/")
        times, built = row["milliseconds"], row["to built"]
        lines.append(
            [
                f"{network}, TensorFlow {row['tensorflow']}",
                threads,
                batch,
                *[f"{times[kind]['median']:.2f}" for kind in ("original", "pruned", "built")],
                f"{row['to original']['median']:.2f}",
                "-" if row["macs"] is None else f"{row['macs']:.2f}",
                f"{built['median']:.3f} ({built['low']:.3f}-{built['high']:.3f})",
                str(row["rounds"]),
            ]
        )
    heads = ["network", "threads", "batch", "original", "pruned", "built", "pruned / original"]
    heads += ["MACs left", "pruned / built", "rounds"]
    return f"## What runs\n\n{LATENCY}\n\n" + table(heads, lines)


def _shapes(found: Sequence[Mapping[str, Any]]) -> str:
    if not found:
        return ""
    lines = []
    for row in found:
        total = sum([row[step] for step in row if step not in ("shape", "length", "peak")])
        each = [f"{1e6 * total / row['length']:.0f}", f"{row['peak'] / 1024 / row['length']:.1f}"]
        lines.append([row["shape"], f"{row['length']:,}", *each])
    text = (
        "Graphs of other shapes, with half of each group removed: microseconds of processor time\n"
        "from reading to serialising, and kilobytes at the peak, both per node of the shape."
    )
    return f"### Other shapes\n\n{text}\n\n" + table(["shape", "length", "all", "kB"], lines)


def runtimes(found: Numbers) -> str:
    """What pruned networks take where they are shipped, as `runtimes.py` measured it."""
    if not found:
        return ""
    kinds = ("original", "pruned", "built")
    rows = []
    for name, network in found.items():
        for column, row in network["rows"].items():
            medians = [row["milliseconds"].get(kind, {}).get("median") for kind in kinds]
            built = row.get("to built", {}).get("median")
            sizes = [row["bytes"][kind] / 1e6 for kind in kinds[:2]]
            rows.append(
                [
                    name,
                    row["version"] + (", int8" if column == "tflite-int8" else ""),
                    *["" if median is None else f"{median:.2f}" for median in medians],
                    f"{row['to original']['median']:.2f}",
                    "" if built is None else f"{built:.2f}",
                    *[f"{size:.2f}" for size in sizes],
                ]
            )
    lines = [
        "## In other runtimes",
        "",
        "The networks pruned to half of their multiply-accumulates (l1, the widths of `--for ort`)",
        "and exported; milliseconds on one thread, batch 1; int8 calibrated on random inputs. The",
        "third is built by Keras at the widths of the pruned one. Made by",
        "`python -m benchmarks.runtimes`.",
        "",
    ]
    head = ["network", "runtime", *[f"{kind} ms" for kind in kinds]]
    return (
        "\n".join(lines) + "\n" + table([*head, "to original", "to built", "MB", "pruned MB"], rows)
    )


def _scale(found: Sequence[Mapping[str, Any]]) -> str:
    if not found:
        return ""
    steps = [name for name in found[0] if name not in ("shape", "length", "peak")]
    lines = []
    for row in found:
        blocks = row["length"]
        cells = [f"{1e6 * row[step] / blocks:.0f}" for step in steps]
        total = sum([row[step] for step in steps])
        lines.append(
            [f"{blocks:,}", *cells, f"{1e6 * total / blocks:.0f}", f"{total:.1f}"]
            + [f"{row['peak'] / 1024 / blocks:.1f}"]
        )
    text = (
        "Chains of inverted residual blocks (15 nodes each): microseconds of processor time per\n"
        "block and step, seconds in all, and kilobytes per block at the peak."
    )
    heads = ["length", *steps, "all", "seconds", "kB"]
    return f"## Scale\n\n{text}\n\n" + table(heads, lines)
