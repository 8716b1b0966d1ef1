"""Damages files in ways that a file can be damaged, and runs graphslim on them in a cage.

`make fuzz` runs it at length (`tools/fuzz.py`), `test_fuzz.py` for a minute. A trial is one command
line on one damaged file, in a child process of its own; everything in it follows from its number.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import re
import resource
import shutil
import signal
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from graphslim.channels.rules import CHANNEL_RULES
from graphslim.cli import main
from graphslim.errors import GraphslimError
from graphslim.graphdef import serialize
from graphslim.graphdef.protos import DecodeError, GraphDef, text_format
from graphslim.method.dictionaries import parse_pickle
from graphslim.testing import from_text

SECONDS, MEGABYTES = 20, 1024
"""What a command may take: time on the processor, and memory beside the file's own size."""
EXTREMES = (
    *(0, 1, -1, 2, 3, 7, 127, 255, 256, 65535, 1 << 20, 1 << 24, (1 << 31) - 1, -(1 << 31)),
    *(1 << 31, 1 << 32, 1 << 40, (1 << 63) - 1, -(1 << 63)),
)
FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "digits_mobilenet_v2_se.pb"

CONVOLUTIONS = """
x = Placeholder() dtype=float32 shape=<1,8,8,3>
w = Const() dtype=float32 value=float32[3,3,3,8]{random 1}
y = Conv2D(x, w) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
v = Const() dtype=float32 value=float32[8]{random 2}
z = BiasAdd(y, v) T=float32 data_format="NHWC"
s = FusedBatchNormV3(z, v, v, v, v) T=float32 U=float32 data_format="NHWC" epsilon=0.001 \
is_training=false
r = Relu6(s) T=float32
d = Const() dtype=float32 value=float32[3,3,8,1]{random 3}
p = DepthwiseConv2dNative(r, d) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
f = _FusedConv2D(p, u, b) T=float32 num_args=1 fused_ops=["BiasAdd","Relu"] \
data_format="NHWC" padding="VALID" strides=[1,1,1,1]
u = Const() dtype=float32 value=float32[1,1,8,8]{random 4}
b = Const() dtype=float32 value=float32[8]{random 5}
m = MaxPool(f) T=float32 data_format="NHWC" ksize=[1,2,2,1] padding="SAME" strides=[1,2,2,1]
a = AddV2(m, v) T=float32
q = Const() dtype=float32 value=float32[1,1,8,4]{random 6}
o = Conv2D(a, q) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
"""
SHAPES = """
x = Placeholder() dtype=float32 shape=<1,4,4,3>
w = Const() dtype=float32 value=float32[1,1,3,8]{random 1}
y = Conv2D(x, w) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
amounts = Const() dtype=int32 value=int32[4,2]{0 0 1 1 1 1 0 4}
p = Pad(y, amounts) T=float32 Tpaddings=int32
axis = Const() dtype=int32 value=int32[]{3}
c = ConcatV2(p, p, axis) N=2 T=float32 Tidx=int32
begin = Const() dtype=int32 value=int32[4]{0 0 0 2}
end = Const() dtype=int32 value=int32[4]{1 6 6 18}
strides = Const() dtype=int32 value=int32[4]{1 1 1 1}
s = StridedSlice(c, begin, end, strides) T=float32 Index=int32 begin_mask=7 end_mask=7 \
ellipsis_mask=0 new_axis_mask=0 shrink_axis_mask=0
many = Const() dtype=int32 value=int32[4]{1 1 1 2}
t = Tile(s, many) T=float32 Tmultiples=int32
target = Const() dtype=int32 value=int32[2]{1 -1}
f = Reshape(t, target) T=float32 Tshape=int32
k = Const() dtype=float32 value=float32[1152,4]{random 2}
m = MatMul(f, k) T=float32 transpose_a=false transpose_b=false
zero = Const() dtype=int32 value=int32[]{0}
four = Const() dtype=int32 value=int32[]{4}
one = Const() dtype=int32 value=int32[]{1}
places = Range(zero, four, one) Tidx=int32
g = GatherV2(m, places, one) Taxis=int32 Tindices=int32 Tparams=float32 batch_dims=0
sizes = Shape(g) T=float32 out_type=int32
half = Const() dtype=float32 value=float32[]{0.5}
filled = Fill(sizes, half) T=float32 index_type=int32
wide = BroadcastTo(half, sizes) T=float32 Tidx=int32
sum = AddV2(filled, wide) T=float32
end_ = Mul(g, sum) T=float32
"""


class Verdict(NamedTuple):
    """What became of a command: what is wrong with it, or None; and what it said."""

    fault: Optional[str]
    said: str


class Trial(NamedTuple):
    """A command line on one damaged file.

    Attributes:
        number: what it follows from.
        name: what the damaged file is called.
        data: its bytes.
        arguments: the command line; `FILE` stands for the file.
        beside: other files that the command reads, by name.
    """

    number: int
    name: str
    data: bytes
    arguments: Sequence[str]
    beside: Dict[str, bytes]


# ------------------------------------------------------------------ seeds


def seeds(folders: Sequence[Path] = ()) -> List[bytes]:
    """Graphs to start from: some of every kind of op, and those in `folders`."""
    found = [serialize(from_text(text)) for text in (CONVOLUTIONS, SHAPES)]
    found += [_calling(found[0]), FIXTURE.read_bytes()]
    for folder in folders:
        found += [path.read_bytes() for path in sorted(folder.rglob("*.pb"))]
    return found


def _calling(data: bytes) -> bytes:
    """The same graph, with a function in its library that is called twice."""
    graph = GraphDef.FromString(data)
    function = graph.library.function.add()
    function.signature.name = "twice"
    function.signature.input_arg.add(name="t", type=1)
    function.signature.output_arg.add(name="r", type=1)
    for name, source in (("one", "t"), ("two", "one:activations:0")):
        node = function.node_def.add(name=name, op="Relu", input=[source])
        node.attr["T"].type = 1
    function.ret["r"] = "two:activations:0"
    for name, source in (("first", "o"), ("second", "first")):
        node = graph.node.add(name=name, op="PartitionedCall", input=[source])
        node.attr["f"].func.name = "twice"
        node.attr["Tin"].list.type.append(1)
        node.attr["Tout"].list.type.append(1)
    serialized: bytes = graph.SerializeToString(deterministic=True)
    return serialized


# ------------------------------------------------------------------ damage


def damaged_graph(data: bytes, rng: random.Random) -> bytes:
    """A graph with one to four of its parts damaged, or bytes of the file."""
    if rng.random() < 0.3:
        return damaged_bytes(data, rng)
    try:
        graph = GraphDef.FromString(data)
    except (DecodeError, ValueError):
        return damaged_bytes(data, rng)
    for _ in range(rng.randint(1, 4)):
        nodes = list(graph.node)
        for function in graph.library.function:
            nodes += function.node_def
        if nodes:
            rng.choice(_NODE_EDITS)(graph, rng.choice(nodes), rng)
    result: bytes = graph.SerializeToString(deterministic=True)
    return damaged_bytes(result, rng) if rng.random() < 0.1 else result


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, cut out, doubled or put in; varints made large."""
    result = bytearray(data)
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(len(result) + 1)
        length = rng.choice((1, 1, 2, 4, 16, 200))
        kind = rng.randrange(6)
        if kind == 0 and at < len(result):
            result[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(result):
            result[at] = rng.randrange(256)
        elif kind == 2:
            del result[at : at + length]
        elif kind == 3:
            result[at:at] = result[at : at + length]
        elif kind == 4:
            result[at : at + 1] = b"\xff" * rng.randint(1, 9) + b"\x01"
        else:
            del result[rng.randrange(len(result) + 1) :]
    return bytes(result)


def damaged_text(data: bytes, rng: random.Random) -> bytes:
    """Numbers of a text made extreme, words exchanged, lines doubled or cut out."""
    text = data.decode("utf-8", "replace")
    for _ in range(rng.randint(1, 4)):
        kind = rng.randrange(5)
        if kind < 2:
            numbers = list(re.finditer(r"-?\d+(\.\d+)?", text))
            if numbers:
                place = rng.choice(numbers)
                text = text[: place.start()] + str(rng.choice(EXTREMES)) + text[place.end() :]
        elif kind == 2:
            words = list(re.finditer(r'"[^"]*"', text))
            if words:
                place = rng.choice(words)
                other = rng.choice((rng.choice(words).group(), '""', "null", "[]", "{}", "1e999"))
                text = text[: place.start()] + other + text[place.end() :]
        else:
            lines = text.splitlines(True)
            if lines:
                at = rng.randrange(len(lines))
                lines[at : at + 1] = [] if kind == 3 else [lines[at]] * 2
            text = "".join(lines)
    result = text.encode("utf-8")
    return damaged_bytes(result, rng) if rng.random() < 0.2 else result


def _drop_input(graph: Any, node: Any, rng: random.Random) -> None:
    if node.input:
        del node.input[rng.randrange(len(node.input))]


def _drop_inputs(graph: Any, node: Any, rng: random.Random) -> None:
    del node.input[:]


def _add_input(graph: Any, node: Any, rng: random.Random) -> None:
    source = rng.choice(list(graph.node)).name
    node.input.append(rng.choice((source, f"{source}:1", f"{source}:{1 << 40}", f"^{source}")))


def _rewire(graph: Any, node: Any, rng: random.Random) -> None:
    if node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(list(graph.node)).name


def _swap_inputs(graph: Any, node: Any, rng: random.Random) -> None:
    inputs = list(node.input)
    rng.shuffle(inputs)
    node.input[:] = inputs


def _other_op(graph: Any, node: Any, rng: random.Random) -> None:
    node.op = rng.choice(
        (*sorted(CHANNEL_RULES), "While", "Switch", "Merge", "If", "twice", "Wall")
    )


def _drop_attr(graph: Any, node: Any, rng: random.Random) -> None:
    if node.attr:
        del node.attr[rng.choice(sorted(node.attr))]


def _other_attr(graph: Any, node: Any, rng: random.Random) -> None:
    others = [one.attr[key] for one in graph.node for key in sorted(one.attr)]
    if node.attr and others:
        copy = rng.choice(others).SerializeToString()
        node.attr[rng.choice(sorted(node.attr))].ParseFromString(copy)


def _extreme_attr(graph: Any, node: Any, rng: random.Random) -> None:
    if not node.attr:
        return
    value = node.attr[rng.choice(sorted(node.attr))]
    kind = value.WhichOneof("value")
    if kind == "list" and value.list.i:
        value.list.i[rng.randrange(len(value.list.i))] = rng.choice(EXTREMES[:-5])
    elif kind == "list":
        value.list.Clear()
    elif kind == "shape" and value.shape.dim:
        rng.choice(list(value.shape.dim)).size = rng.choice(EXTREMES[:-5])
    elif kind == "type":
        value.type = rng.choice((0, 1, 2, 3, 7, 9, 10, 14, 19, 20, 21, 101, 999))
    elif kind == "s":
        value.s = rng.choice((b"", b"SAME", b"NCHW", b"\xff\xfe", b"x" * 30000))
    elif kind == "f":
        value.f = rng.choice((0.0, -1.0, 1e38, float("inf"), float("nan")))
    elif kind == "b":
        value.b = not value.b
    elif kind != "tensor":
        value.i = rng.choice(EXTREMES[:-5])


def _other_shape(graph: Any, node: Any, rng: random.Random) -> None:
    shape = node.attr["value"].tensor.tensor_shape if "value" in node.attr else None
    if shape is not None and shape.dim and rng.random() < 0.7:
        rng.choice(list(shape.dim)).size = rng.choice(EXTREMES[:-4])
    elif shape is not None:
        shape.dim.add().size = rng.choice((0, 1, 2, 1 << 20))


def _splat(graph: Any, node: Any, rng: random.Random) -> None:
    if "value" in node.attr:
        tensor = node.attr["value"].tensor
        tensor.tensor_content = b""
        tensor.ClearField("float_val")
        tensor.float_val.append(rng.choice((0.0, 1.0, float("nan"))))


def _other_numbers(graph: Any, node: Any, rng: random.Random) -> None:
    tensor = node.attr["value"].tensor if "value" in node.attr else None
    if tensor is not None and tensor.dtype == 3 and tensor.tensor_content:
        data = bytearray(tensor.tensor_content)
        at = 4 * rng.randrange(len(data) // 4) if len(data) >= 4 else 0
        number = rng.choice([one for one in EXTREMES if -(1 << 31) <= one < 1 << 31])
        data[at : at + 4] = number.to_bytes(4, sys.byteorder, signed=True)
        tensor.tensor_content = bytes(data)


def _double_node(graph: Any, node: Any, rng: random.Random) -> None:
    copy = graph.node.add()
    copy.CopyFrom(node)
    copy.name += rng.choice(("", "_1", "/a"))
    node.input[:1] = [copy.name]


def _drop_node(graph: Any, node: Any, rng: random.Random) -> None:
    del graph.node[rng.randrange(len(graph.node))]


_NODE_EDITS: Sequence[Callable[[Any, Any, random.Random], None]] = (
    *(_drop_input, _drop_inputs, _add_input, _rewire, _swap_inputs, _other_op, _drop_attr),
    *(_other_attr, _extreme_attr, _other_shape, _splat, _other_numbers, _double_node),
    *(_extreme_attr, _other_numbers, _other_op, _drop_node),
)

# ------------------------------------------------------------------ trials

_UNPICKLE = "unpickle"
"""Stands for reading a pickle of the published class, for which there is no command."""
_L1 = ["--no-verify", "--criterion", "l1", "--ratio", "0.5", "--multiple-of", "1"]
_COMMANDS: Sequence[Sequence[str]] = (
    ["inspect", "FILE", "--json"],
    ["inspect", "FILE", "--why-not"],
    ["prune", "FILE", "-o", "out.pb", "--no-verify"],
    ["prune", "FILE", "-o", "out.pb", *_L1],
    ["prune", "FILE", "-o", "out.pb", "--scope", "all", "--json", *_L1],
    ["plan", "FILE", "-o", "out.json", "--scope", "all", *_L1[1:]],
    ["optimize", "FILE", "-o", "out.pb", "--no-verify"],
    ["prune", "FILE", "-o", "out.pb", "--pass", "to-nhwc", "--no-verify"],
    ["compare", "FILE", "model.pb"],
)


_SETTINGS = b"""\
'y*': {max_ratio: 0.25, multiple_of: 4}
"p": {exclude: true}
f: {ratio: 0.5, min_channels: 2, rounding: removed}
"""


def _arrays() -> bytes:
    """An .npz with examples for the input of the first graph."""
    file = io.BytesIO()
    np.savez(file, x=np.zeros((2, 8, 8, 3), np.float32), labels=np.arange(2))
    return file.getvalue()


def _filters() -> bytes:
    """A pickle as the published class writes it: lists of channels by block."""
    return pickle.dumps({"block_1": [1, 2, 5], "block_2": {"expand": [0], "of": 8}}, protocol=2)


def trial(number: int, graphs: Sequence[bytes], plan: bytes) -> Trial:
    """The trial of that number."""
    rng = random.Random(number)
    data = rng.choice(graphs)
    model = {"model.pb": graphs[0]}
    kind = rng.randrange(20)
    planning = ["plan", "model.pb", "-o", "out.json", "--scope", "all", *_L1[1:]]
    if kind == 2:
        text = damaged_text(_SETTINGS, rng)
        return Trial(number, "settings.yaml", text, [*planning, "--settings", "FILE"], model)
    if kind == 3:
        arrays = damaged_bytes(_arrays(), rng)
        return Trial(number, "data.npz", arrays, [*planning, "--data", "FILE"], model)
    if kind == 4:
        return Trial(number, "filters.pkl", damaged_bytes(_filters(), rng), [_UNPICKLE, "FILE"], {})
    if kind == 0:
        apply = ["apply", "model.pb", "FILE", "-o", "out.pb", "--no-verify"]
        return Trial(number, "plan.json", damaged_text(plan, rng), apply, model)
    if kind == 1:
        text = text_format.MessageToString(GraphDef.FromString(graphs[rng.randrange(2)])).encode()
        return Trial(number, "graph.pbtxt", damaged_text(text, rng), rng.choice(_COMMANDS), model)
    command = rng.choice(_COMMANDS)
    return Trial(number, "graph.pb", damaged_graph(data, rng), command, model)


def plan_of(graph: bytes, folder: Path) -> bytes:
    """A plan for a graph, made in a folder."""
    (folder / "model.pb").write_bytes(graph)
    arguments = ["plan", "model.pb", "-o", "plan.json", "--scope", "all", *_L1[1:]]
    verdict = _in_child(arguments, folder, len(graph))
    assert verdict == Verdict(None, verdict.said), verdict
    return (folder / "plan.json").read_bytes()


def run(one: Trial, folder: Path) -> Verdict:
    """Runs a trial in a folder, which is emptied first, and judges it."""
    shutil.rmtree(str(folder), ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in {**one.beside, one.name: one.data}.items():
        (folder / name).write_bytes(data)
    words = [one.name if word == "FILE" else word for word in one.arguments]
    verdict = _in_child(words, folder, len(one.data))
    if verdict.fault is None:
        return verdict._replace(fault=_written(folder))
    return verdict


def _written(folder: Path) -> Optional[str]:
    """What is wrong with the files that a command wrote."""
    try:
        if (folder / "out.pb").exists():
            GraphDef.FromString((folder / "out.pb").read_bytes())
        if (folder / "out.json").exists():
            json.loads((folder / "out.json").read_bytes().decode())
    except (DecodeError, ValueError) as error:
        return f"it wrote a broken file: {error}"
    litter = [path.name for path in folder.iterdir() if path.name.startswith(".graphslim")]
    return f"it left {litter}" if litter else None


def _in_child(words: Sequence[str], folder: Path, size: int) -> Verdict:
    """Runs a command line in a child that has only so much time and memory."""
    child = os.fork()
    if not child:
        _live(words, folder, size)
    _, status = os.waitpid(child, 0)
    said = (folder / "stderr").read_text("utf-8", "replace")
    return Verdict(_judged(status, said), said)


def _live(words: Sequence[str], folder: Path, size: int) -> None:
    """The child: never returns."""
    code = 70
    try:
        os.chdir(str(folder))
        for place, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), place)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        most = _memory() + size + (MEGABYTES << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
        signal.alarm(10 * SECONDS)
        if words[0] == _UNPICKLE:
            parse_pickle(Path(words[1]).read_bytes(), words[1])
        else:
            main(list(words))
        code = 0
    except GraphslimError as error:
        sys.stderr.write(f"graphslim: {error}\n")
        code = 2
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _memory() -> int:
    """How many bytes of addresses this process has now; 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 4 << 30


def _judged(status: int, said: str) -> Optional[str]:
    """What is wrong with how a command ended."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        slow = number in (signal.SIGXCPU, signal.SIGALRM, signal.SIGKILL)
        return f"it takes more than {SECONDS} s" if slow else f"signal {number}"
    code = os.WEXITSTATUS(status)
    # The C++ of protobuf writes lines of its own.
    lines = [line for line in said.splitlines() if line and not line.startswith("[libprotobuf")]
    if code not in (0, 1, 2):
        return f"exit status {code}"
    if any("internal error" in line or "Traceback" in line for line in lines):
        return "an internal error"
    if any("a bug in the pass" in line for line in lines):
        return "a pass fails"
    if any("memory" in line for line in lines):
        return f"it takes more than {MEGABYTES} MB"
    if code and not lines:
        return "it fails without a word"
    if any(len(line) > 4000 for line in lines):
        return "a message of thousands of characters"
    return None
