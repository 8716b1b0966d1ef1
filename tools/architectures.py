"""Measures graphslim on every architecture of tf.keras.applications: makes docs/architectures.md.

Run it once on each platform: the rows of the TensorFlow that runs it are replaced, others stay.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, List, Optional, Tuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architectures.md"
COLUMNS = (
    "architecture",
    "frozen",
    "TensorFlow",
    "IR",
    "SE",
    "groups",
    "prunable groups",
    "prunable",
    "cut at half",
    "seconds",
)
TEXT = """# Architectures

What graphslim makes of every architecture of `tf.keras.applications`, frozen in the ways of
`tests/freezing.py`, with random weights. Made by

    python tools/architectures.py

on each platform; a run replaces the rows of its own TensorFlow and keeps the others. The tests
(`make test-all`) hold each row to the three oracles, and the blocks to the architectures'
definitions.

- **frozen**: the way of freezing. `frozen`: by `convert_variables_to_constants` for inference;
  `learning phase`: training or inference chosen at run time by Switch and Merge; `channels first`:
  NCHW; `grappler`: constants and batch norms folded by TensorFlow's graph optimizer; `fused`: ops
  fused by it (`_FusedConv2D`); `batch norm folded` and `quantized weights`: by the Graph Transform
  Tool; `functional`: control flow left as functions; `session`: from a SavedModel by the API of
  TensorFlow 1, function calls left in; `SavedModel`: the folder itself.
- **IR**, **SE**: inverted residual and squeeze-and-excitation blocks found.
- **groups**, **prunable groups**: of coupled channels. The one that is not prunable is the
  classifier; in ConvNeXt also what layer norms read.
- **prunable**: the share of the parameters that goes if one channel of each group stays.
- **cut at half**: the share of the parameters that goes with half the channels of each group.
- **seconds**: to load the graph, find its blocks and groups, plan, cut and write it; on two slow
  cores.

"""


def helpers() -> Tuple[Any, Any]:
    """The modules of the tests that name the architectures and freeze them."""
    loaded = []
    for name in ("architectures", "freezing"):
        spec = importlib.util.spec_from_file_location(name, str(ROOT / "tests" / f"{name}.py"))
        if spec is None or spec.loader is None:
            raise SystemExit(f"tests/{name}.py: cannot be read")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        loaded.append(module)
    return loaded[0], loaded[1]


def row(architectures: Any, freezing: Any, name: str, way: str, version: str) -> Tuple[str, ...]:
    """One line of the table."""
    import graphslim as gs
    from graphslim.testing import random_plan

    with tempfile.TemporaryDirectory() as folder:
        path = freezing.freeze(name, Path(folder), architectures.ARCHITECTURES[name].size, way).path
        began = time.process_time()
        graph = gs.find_blocks(gs.load(str(path)))
        half = random_plan(graph)
        gs.serialize(gs.apply(graph, half))
        seconds = time.process_time() - began
    kinds = [block.kind for block in graph.blocks]
    groups = gs.analyse(graph).groups
    most = random_plan(graph, ratio=1.0)
    return (
        name,
        way,
        version,
        str(kinds.count("inverted_residual")),
        str(kinds.count("squeeze_excite")),
        str(len(groups)),
        str(sum([group.prunable for group in groups])),
        _share(most.params),
        _share(half.params),
        f"{seconds:.1f}",
    )


def _share(params: Tuple[int, int]) -> str:
    return f"{100 * (1 - params[1] / params[0]):.1f}%"


def read_rows(page: Path) -> List[Tuple[str, ...]]:
    """The rows of the table that is there."""
    if not page.exists():
        return []
    lines = [line for line in page.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    rows = [tuple([cell.strip() for cell in line.strip("|").split("|")]) for line in lines[2:]]
    return [one for one in rows if len(one) == len(COLUMNS)]


def write_rows(page: Path, rows: List[Tuple[str, ...]], order: List[str]) -> None:
    """Writes the page, its rows in the order of the architectures."""
    rows = sorted(rows, key=lambda one: order.index(one[0]) if one[0] in order else len(order))
    lines = [COLUMNS, tuple(["---"] * 3 + ["---:"] * (len(COLUMNS) - 3)), *rows]
    table = [f"| {' | '.join(line)} |" for line in lines]
    page.write_text(TEXT + "\n".join(table) + "\n", encoding="utf-8")


def main(arguments: Optional[List[str]] = None) -> None:
    """Measures, and writes the page after each network: a run may be broken off."""
    architectures, freezing = helpers()
    order = list(architectures.ARCHITECTURES)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=order, metavar="NAME", help="default: all")
    parser.add_argument("-o", "--output", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    import tensorflow as tf

    version = str(tf.__version__)
    offered = [name for name in options.names if hasattr(tf.keras.applications, name)]
    ways = list(freezing.WAYS)
    cases = [(name, way) for name in offered for way in architectures.ways_of(name, ways)]
    for name, way in cases:
        found = row(architectures, freezing, name, way, version)
        rows = [one for one in read_rows(options.output) if one[:3] != found[:3]]
        write_rows(options.output, [*rows, found], order)
        print(*found, sep="  ", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
