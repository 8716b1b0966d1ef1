"""Shows that time and memory grow in line with a graph: chains of inverted residual blocks.

Each size runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any, Dict, List

import numpy as np
from tensorboard.compat.proto.graph_pb2 import GraphDef

STEPS = ("load", "analyse", "blocks", "plan", "apply", "emit", "inspect")
WIDTH, HIDDEN, FLOAT = 4, 8, 1
DEAD = 2
"""Channels of each block that are zero, for the plan to find."""


def chain(blocks: int) -> bytes:
    """A serialised GraphDef of so many blocks, each with a residual sum and two dead channels."""
    graph = GraphDef()
    image = graph.node.add(name="image", op="Placeholder")
    image.attr["dtype"].type = FLOAT
    for size in (1, 8, 8, WIDTH):
        image.attr["shape"].shape.dim.add(size=size)
    rng = np.random.RandomState(0)
    last = "image"
    for number in range(blocks):
        last = _block(graph, f"block{number}", last, rng)
    _op(graph, "output", "Identity", [last])
    return bytes(graph.SerializeToString())


def _block(graph: Any, scope: str, source: str, rng: Any) -> str:
    expand = rng.standard_normal((1, 1, WIDTH, HIDDEN)) / WIDTH
    expand[..., :DEAD] = 0
    _constant(graph, f"{scope}/expand/weights", expand)
    _constant(graph, f"{scope}/depthwise/weights", rng.standard_normal((3, 3, HIDDEN, 1)) / 9)
    _constant(
        graph, f"{scope}/project/weights", rng.standard_normal((1, 1, HIDDEN, WIDTH)) / HIDDEN
    )
    for part, width in (("expand", HIDDEN), ("depthwise", HIDDEN), ("project", WIDTH)):
        _constant(graph, f"{scope}/{part}/bias", np.zeros(width))
    y = _layer(graph, f"{scope}/expand", "Conv2D", source)
    y = _op(graph, f"{scope}/expand/relu", "Relu6", [y])
    y = _layer(graph, f"{scope}/depthwise", "DepthwiseConv2dNative", y)
    y = _op(graph, f"{scope}/depthwise/relu", "Relu6", [y])
    y = _layer(graph, f"{scope}/project", "Conv2D", y)
    return _op(graph, f"{scope}/add", "AddV2", [y, source])


def _layer(graph: Any, scope: str, op: str, source: str) -> str:
    name = _op(graph, f"{scope}/conv", op, [source, f"{scope}/weights"])
    node = graph.node[-1]
    node.attr["strides"].list.i.extend([1, 1, 1, 1])
    node.attr["padding"].s = b"SAME"
    node.attr["data_format"].s = b"NHWC"
    return _op(graph, f"{scope}/shift", "BiasAdd", [name, f"{scope}/bias"])


def _op(graph: Any, name: str, op: str, inputs: List[str]) -> str:
    graph.node.add(name=name, op=op, input=inputs).attr["T"].type = FLOAT
    return name


def _constant(graph: Any, name: str, value: np.ndarray) -> None:
    node = graph.node.add(name=name, op="Const")
    node.attr["dtype"].type = FLOAT
    tensor = node.attr["value"].tensor
    tensor.dtype = FLOAT
    for size in value.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = value.astype(np.float32).tobytes()


def measure(path: str, blocks: int) -> Dict[str, float]:
    """Processor seconds per step of one graph, and the peak memory of this process in bytes."""
    import graphslim as gs
    from graphslim.cli.inspect import inspection

    seconds: Dict[str, float] = {}

    def timed(step: str, call: Any, *args: Any) -> Any:
        began = time.process_time()
        result = call(*args)
        seconds[step] = time.process_time() - began
        return result

    before = _peak()
    graph = timed("load", gs.load, path)
    timed("analyse", gs.analyse, graph)
    timed("blocks", gs.find_blocks, graph)
    plan = timed("plan", gs.plan, graph)
    slim = timed("apply", gs.apply, graph, plan)
    timed("emit", gs.serialize, slim)
    timed("inspect", inspection, graph)
    if len(graph.blocks) != blocks or plan.removed != DEAD * blocks:
        raise SystemExit(f"found {len(graph.blocks)} blocks and {plan.removed} dead channels")
    return {**seconds, "peak": _peak() - before}


def _peak() -> float:
    most = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return most if sys.platform == "darwin" else 1024 * most


def measured(blocks: int) -> Dict[str, float]:
    """What `measure` gives for a chain of so many blocks, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "chain.pb")
        with open(path, "wb") as file:
            file.write(chain(blocks))
        # The process that makes the file needs memory of its own: another one measures.
        command = [sys.executable, os.path.abspath(__file__), "--measure", path, str(blocks)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return dict(zip((*STEPS, "peak"), [float(word) for word in done.stdout.split()]))


def row(blocks: int, found: Dict[str, float]) -> str:
    """One line of the table: microseconds and kilobytes, each per block."""
    cells = [f"{1e6 * found[step] / blocks:9.1f}" for step in STEPS]
    total = sum([found[step] for step in STEPS])
    return f"{blocks:>7,}{''.join(cells)}{total:9.2f}{found['peak'] / 1024 / blocks:10.1f}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=20_000, help="blocks of the longest chain")
    parser.add_argument("--measure", nargs=2, metavar=("FILE", "BLOCKS"), help=argparse.SUPPRESS)
    parser.add_argument("--only", type=int, metavar="BLOCKS", help="one length alone")
    parser.add_argument("--json", action="store_true", help="for `python -m benchmarks`")
    options = parser.parse_args()
    if options.measure:
        found = measure(options.measure[0], int(options.measure[1]))
        print(*[found[step] for step in (*STEPS, "peak")])
        return
    if options.json:
        from benchmarks.work import tell

        tell({"length": options.only, **measured(options.only)})
        return
    print("processor time: microseconds per block, seconds in all; kilobytes per block at the peak")
    print(f"{'blocks':>7}{''.join([f'{step:>9}' for step in STEPS])}{'seconds':>9}{'kB/block':>10}")
    sizes = [100, 300, 1_000, 3_000, 10_000, 30_000]
    chosen = [size for size in sizes if size < options.most] + [options.most]
    for blocks in [options.only] if options.only else chosen:
        print(row(blocks, measured(blocks)), flush=True)


if __name__ == "__main__":
    main()
