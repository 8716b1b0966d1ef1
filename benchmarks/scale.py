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
from typing import Any, Dict, List, Tuple

import numpy as np
from tensorboard.compat.proto.graph_pb2 import GraphDef

STEPS = ("load", "analyse", "blocks", "plan", "apply", "emit", "inspect")
WIDTH, HIDDEN, FLOAT, INT = 4, 8, 1, 3
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


def identities(count: int) -> bytes:
    """A convolution, a chain of so many Identity nodes, and a convolution."""
    graph, last = _begun()
    for number in range(count):
        last = _op(graph, f"pass{number}", "Identity", [last])
    return _ended(graph, last, HIDDEN)


def readers(count: int) -> bytes:
    """One constant that so many additions read, one after another."""
    graph, last = _begun()
    _constant(graph, "bias", np.ones(HIDDEN))
    for number in range(count):
        last = _op(graph, f"add{number}", "BiasAdd", [last, "bias"])
        graph.node[-1].attr["data_format"].s = b"NHWC"
    return _ended(graph, last, HIDDEN)


def concats(count: int) -> bytes:
    """A chain of so many concatenations, of a tensor that all share with a convolution of all."""
    graph, first = _begun()
    last, width = first, HIDDEN
    axis = graph.node.add(name="axis", op="Const")
    axis.attr["dtype"].type = axis.attr["value"].tensor.dtype = INT
    axis.attr["value"].tensor.int_val.append(3)
    axis.attr["value"].tensor.tensor_shape.SetInParent()
    for number in range(count):
        _constant(graph, f"layer{number}/weights", np.ones((1, 1, width, HIDDEN)))
        _constant(graph, f"layer{number}/bias", np.zeros(HIDDEN))
        last = _layer(graph, f"layer{number}", "Conv2D", last)
        last = _op(graph, f"join{number}", "ConcatV2", [last, first, "axis"])
        graph.node[-1].attr["N"].i, graph.node[-1].attr["Tidx"].type = 2, INT
        width = 2 * HIDDEN
    return _ended(graph, last, width)


def calls(count: int) -> bytes:
    """A tree of calls: each function calls the next one twice, the last one is a Relu."""
    graph, last = _begun()
    depth = count.bit_length() - 1
    for level in range(depth + 1):
        function = graph.library.function.add()
        function.signature.name = f"f{level}"
        function.signature.input_arg.add(name="x", type=FLOAT)
        function.signature.output_arg.add(name="y", type=FLOAT)
        source = "x"
        for step in ("first", "second") if level else ("relu",):
            op = f"f{level - 1}" if level else "Relu"
            node = function.node_def.add(name=step, op=op, input=[source])
            if not level:
                node.attr["T"].type = FLOAT
            source = f"{step}:y:0" if level else f"{step}:activations:0"
        function.ret["y"] = source
    graph.node.add(name="call", op=f"f{depth}", input=[last])
    return _ended(graph, "call", HIDDEN)


SHAPES = {"identities": identities, "readers": readers, "concats": concats, "calls": calls}
"""Graphs of other shapes than a chain of blocks, each of so many of what it is made of."""
LENGTHS = dict.fromkeys(SHAPES, (1_024, 4_096, 16_384))
"""How long each shape is made. A tree of more calls than the last is not inlined at all."""
LENGTHS["calls"] = (256, 1_024, 4_096)


def _begun() -> Tuple[Any, str]:
    """A graph that begins with a convolution, and the convolution's name."""
    graph = GraphDef()
    image = graph.node.add(name="image", op="Placeholder")
    image.attr["dtype"].type = FLOAT
    for size in (1, 8, 8, WIDTH):
        image.attr["shape"].shape.dim.add(size=size)
    _constant(graph, "first/weights", np.ones((1, 1, WIDTH, HIDDEN)))
    _constant(graph, "first/bias", np.zeros(HIDDEN))
    return graph, _layer(graph, "first", "Conv2D", "image")


def _ended(graph: Any, source: str, width: int) -> bytes:
    """The file of a graph that ends with a convolution of `width` channels."""
    _constant(graph, "last/weights", np.ones((1, 1, width, 2)))
    _constant(graph, "last/bias", np.zeros(2))
    _layer(graph, "last", "Conv2D", source)
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


def measure(path: str, shape: str, count: int) -> Dict[str, float]:
    """Processor seconds per step of one graph, and the peak memory of this process in bytes."""
    from graphslim.support.garbage import pause_gc

    with pause_gc():  # as commands do
        return _measure(path, shape, count)


def _measure(path: str, shape: str, count: int) -> Dict[str, float]:
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
    chosen = {} if shape == "chain" else {"criterion": "l1", "ratio": 0.5, "multiple_of": 1}
    plan = timed("plan", lambda: gs.plan(graph, **chosen))
    slim = timed("apply", gs.apply, graph, plan)
    timed("emit", gs.serialize, slim)
    del slim  # as between two commands
    timed("inspect", inspection, graph)
    if shape != "chain":
        return {**seconds, "peak": _peak() - before}
    if len(graph.blocks) != count or plan.removed != DEAD * count:
        raise SystemExit(f"found {len(graph.blocks)} blocks and {plan.removed} dead channels")
    return {**seconds, "peak": _peak() - before}


def _peak() -> float:
    most = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return most if sys.platform == "darwin" else 1024 * most


def measured(count: int, shape: str = "chain") -> Dict[str, float]:
    """What `measure` gives for a graph of so many blocks or nodes, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "chain.pb")
        with open(path, "wb") as file:
            file.write({**SHAPES, "chain": chain}[shape](count))
        # The process that makes the file needs memory of its own: another one measures.
        command = [sys.executable, os.path.abspath(__file__), "--measure", path, shape, str(count)]
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
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--shape", choices=SHAPES, help="a graph of another shape than a chain")
    parser.add_argument("--only", type=int, metavar="BLOCKS", help="one length alone")
    parser.add_argument("--json", action="store_true", help="for `python -m benchmarks`")
    options = parser.parse_args()
    if options.measure:
        path, shape, count = options.measure
        found = measure(path, shape, int(count))
        print(*[found[step] for step in (*STEPS, "peak")])
        return
    if options.json:
        from benchmarks.work import tell

        shape = options.shape or "chain"
        tell({"shape": shape, "length": options.only, **measured(options.only, shape)})
        return
    print("processor time: microseconds per block, seconds in all; kilobytes per block at the peak")
    print(f"{'blocks':>7}{''.join([f'{step:>9}' for step in STEPS])}{'seconds':>9}{'kB/block':>10}")
    if options.shape:
        for count in [options.only] if options.only else LENGTHS[options.shape]:
            print(row(count, measured(count, options.shape)), flush=True)
        return
    sizes = [100, 300, 1_000, 3_000, 10_000, 30_000]
    chosen = [size for size in sizes if size < options.most] + [options.most]
    for blocks in [options.only] if options.only else chosen:
        print(row(blocks, measured(blocks)), flush=True)


if __name__ == "__main__":
    main()
