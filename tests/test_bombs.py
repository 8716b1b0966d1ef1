"""Files made to hurt: what they cost is bounded by their size, and what falls is one line."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
from command import Run
from function_lab import F32, Lab, put
from tiny import tiny

import graphslim as gs
from graphslim.analysis.values import Values
from graphslim.channels.facts import LAID_OUT, LONGEST
from graphslim.channels.rules import CHANNEL_RULES, COST_RULES
from graphslim.channels.walk import FOLLOWED
from graphslim.errors import AnalysisError, GraphslimError, LoadError
from graphslim.graphdef import load, serialize
from graphslim.graphdef.protos import GraphDef
from graphslim.ir import Func, Graph, Port
from graphslim.match.matcher import Matcher
from graphslim.plans import plan_given
from graphslim.rewrite import zero_consumers

MOST = 500 << 20
"""Bytes that numpy and Python may take for a graph of a few hundred bytes."""
X = "x = input 1,4,4,3\nw = f32[1,1,3,8]{random 1}\na = Conv2D(x, w)\n"
TWO_E_9 = 2_000_000_000


@pytest.fixture
def run(tmp_path: Path, capsys: Any, monkeypatch: Any) -> Run:
    return Run(tmp_path, capsys, monkeypatch)


def peak(work: Callable[[], Any]) -> int:
    """The most bytes that a piece of work holds at once; what it refuses counts as done."""
    tracemalloc.start()
    try:
        work()
    except GraphslimError:
        pass
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return most


def analysed(graph: Graph) -> None:
    channels = gs.analyse(graph)
    Values(graph, channels)
    gs.cost(graph)


# ------------------------------------------------------------------ sizes that are only stated


def splat(*shape: int, name: str = "w") -> bytes:
    """A graph that adds a constant, one value stated for many places, to an input."""
    graph = GraphDef()
    node = graph.node.add(name="x", op="Placeholder")
    node.attr["dtype"].type = 1
    node.attr["shape"].shape.dim.add().size = 1
    node = graph.node.add(name=name, op="Const")
    node.attr["dtype"].type = node.attr["value"].tensor.dtype = 1
    node.attr["value"].tensor.float_val.append(0.5)
    for size in shape:
        node.attr["value"].tensor.tensor_shape.dim.add().size = size
    node = graph.node.add(name="y", op="AddV2", input=["x", name])
    node.attr["T"].type = 1
    data: bytes = graph.SerializeToString(deterministic=True)
    return data


@pytest.mark.parametrize(
    "shape",
    [(7_200_000_000,), (100_000, 72_000), (1 << 62, 8), (1 << 40, 0, 1 << 40), (1,) * 40],
    ids=["long", "square", "overflow", "empty", "axes"],
)
def test_a_constant_that_states_too_much_is_refused(run: Run, shape: Any) -> None:
    (run.folder / "bomb.pb").write_bytes(splat(*shape))
    told = run("inspect bomb.pb", status=2).err
    assert told.count("\n") == 1 and "bomb.pb" in told and "w" in told
    assert "may state" in told or "impossible shape" in told


def test_one_value_for_a_megabyte_is_read_and_not_laid_out(tmp_path: Path) -> None:
    (tmp_path / "model.pb").write_bytes(splat(4096, 4096))
    graph = gs.load(str(tmp_path / "model.pb"))
    assert peak(lambda: analysed(graph)) < 16 << 20
    assert gs.cost(graph).params == 4096 * 4096
    value = Values(graph).constant(Port("w"))
    assert value is not None and value.shape == (1, 1) and value[0, 0] == 0.5


STATED = {
    "pad": f"n = i32[4,2]{{0 0 0 0 0 0 0 {TWO_E_9}}}\ny = Pad(a, n) Tpaddings=int32",
    "pad space": f"n = i32[4,2]{{0 0 0 {TWO_E_9} 0 0 0 0}}\ny = Pad(a, n) Tpaddings=int32",
    "mirror": f'n = i32[4,2]{{0 0 0 0 0 0 0 {TWO_E_9}}}\ny = MirrorPad(a, n) mode="REFLECT"',
    "tile": f"n = i32[4]{{1 1 1 {TWO_E_9}}}\ny = Tile(a, n)",
    "tile space": f"n = i32[4]{{1 1 {TWO_E_9} 1}}\ny = Tile(a, n)",
    "tile of constant": f"v = f32[8]{{random 2}}\nn = i32[1]{{{TWO_E_9}}}\ny = Tile(v, n)",
    "fill": f"n = i32[2]{{3 {TWO_E_9}}}\nv = f32[]{{0.5}}\ny = Fill(n, v)",
    "broadcast": f"n = i32[2]{{3 {TWO_E_9}}}\nv = f32[1]{{0.5}}\ny = BroadcastTo(v, n)",
    "range": f"n = i32[]{{0}}\nm = i32[]{{{TWO_E_9}}}\ns = i32[]{{1}}\ny = Range(n, m, s)",
    "one-hot": f"n = i32[2]{{0 1}}\nm = i32[]{{{TWO_E_9}}}\nv = f32[]{{1}}\n"
    "y = OneHot(n, m, v, v) axis=-1",
    "resize": f"n = i32[2]{{{TWO_E_9} {TWO_E_9}}}\ny = ResizeBilinear(a, n)",
    "random": f"n = i32[2]{{3 {TWO_E_9}}}\ny = RandomUniform(n)",
    "depth": "y = SpaceToDepth(a) block_size=65536",
    "fill for a filter": f"n = i32[4]{{1 1 8 {TWO_E_9}}}\nv = f32[]{{0.5}}\nf = Fill(n, v)\n"
    "y = Conv2D(a, f)",
    "fill for a depthwise filter": f"n = i32[4]{{1 1 8 {TWO_E_9}}}\nv = f32[]{{0.5}}\n"
    "f = Fill(n, v)\ny = DepthwiseConv2dNative(a, f)",
    "fill, flattened": "n = i32[2]{100000 100000}\nv = f32[]{0.5}\nf = Fill(n, v)\n"
    "m = i32[1]{-1}\ny = Reshape(f, m)",
    "input": f"z = input 1,{TWO_E_9}\ny = Relu(z)",
    "outer product": "p = f32[30000,1]{random 2}\nq = f32[1,30000]{random 3}\ny = Mul(p, q)",
    "outer matrix product": "p = f32[30000,1]{random 2}\nq = f32[1,30000]{random 3}\n"
    "y = MatMul(p, q)",
    **{
        name: f"p = f32[1,30000,1,1]{{random 2}}\nq = f32[30000]{{0.5}}\nr = f32[30000]{{7}}\n"
        f"n = i32[4]{{1 30000 1 30000}}\nf = BroadcastTo(p, n)\ny = {step}"
        for name, step in {
            "spread over a bias": "BiasAdd(f, q)",
            "spread over a norm": "FusedBatchNorm(f, q, q, q, q)",
            "spread over ranges": "FakeQuantWithMinMaxVarsPerChannel(f, q, r)",
            "softmax": "Softmax(f)",
        }.items()
    },
    "sum of squares": "n = i32[2]{100000 100000}\nv = f32[]{2}\nf = Fill(n, v)\ny = L2Loss(f)",
    "stack": "p = f32[1,30000]{random 2}\nq = f32[30000,1]{random 3}\nn = i32[2]{30000 30000}\n"
    "f = BroadcastTo(p, n)\ng = BroadcastTo(q, n)\ny = Pack(f, g) axis=0",
    "concatenation": "p = f32[1,30000,1]{random 2}\nq = f32[30000,1,1]{random 3}\n"
    "n = i32[3]{30000 30000 2}\nf = BroadcastTo(p, n)\ng = BroadcastTo(q, n)\nk = i32[]{2}\n"
    "y = ConcatV2(f, g, k)",
    "patches": "y = ExtractImagePatches(a) ksizes=[1,100000,100000,1] strides=[1,1,1,1] "
    'rates=[1,1,1,1] padding="SAME"',
    "gather": "p = f32[1,100000]{random 2}\nn = i32[1000]{0}\nk = i32[]{0}\ny = GatherV2(p, n, k)",
    "split": f"k = i32[]{{0}}\nm = Max(a, k) Tidx=int32\ny = Split(k, m) num_split={TWO_E_9}",
    "unstack": f"y = Unpack(a) axis=0 num={TWO_E_9}",
    "branches": "p = f32[1,30000]{random 2}\nq = f32[30000,1]{random 3}\nn = i32[2]{30000 30000}\n"
    "f = BroadcastTo(p, n)\ng = BroadcastTo(q, n)\ny = Merge(f, g) N=2",
}


@pytest.mark.parametrize("name", sorted(STATED))
def test_sizes_that_numbers_state_are_not_laid_out(name: str) -> None:
    graph = tiny(X + STATED[name] + "\n")
    assert peak(lambda: analysed(graph)) < MOST


def test_doubling_ends_where_nothing_more_is_followed() -> None:
    lines = ["n = i32[]{3}", "c0 = ConcatV2(a, a, n) N=2"]
    lines += [f"c{k} = ConcatV2(c{k - 1}, c{k - 1}, n) N=2" for k in range(1, 40)]
    graph = tiny(X + "\n".join(lines) + "\n")
    assert peak(lambda: analysed(graph)) < 2 * MOST


def test_many_long_axes_are_refused_together() -> None:
    text = "".join([f"x{k} = input 1,{LONGEST}\n" for k in range(4)])
    with pytest.raises(AnalysisError, match=f"may have {FOLLOWED:,}"):
        gs.analyse(tiny(text))


OF_DATA = f"""
d = input 2
all = i32[1]{{0}}
top = Max(d, all) Tidx=int32 keep_dims=false
few = i32[7]{{0 0 0 0 0 0 {LAID_OUT}}}
zero = i32[]{{0}}
one = i32[1]{{1}}
some = Cast(top)
last = Reshape(some, one) T=int32
eight = ConcatV2(few, last, zero) T=int32 Tidx=int32
two = i32[2]{{4 2}}
n = Reshape(eight, two) T=int32
"""


@pytest.mark.parametrize(
    ("amounts", "width"),
    [(f"n = i32[4,2]{{0 0 0 0 0 0 0 {LAID_OUT}}}\n", LAID_OUT + 8), (OF_DATA, None)],
    ids=["known", "with one that the data give"],
)
def test_an_axis_that_is_too_long_pins_and_keeps_its_size(amounts: str, width: Any) -> None:
    graph = tiny(f"{X}{amounts}y = Pad(a, n) Tpaddings=int32\n")
    channels = gs.analyse(graph)
    assert channels.fact(Port("y")).shape == (1, 4, 4, width)
    assert [group.pinned_by for group in channels.groups] == [
        "it is padded to an axis that is too long to follow"
    ]


# ------------------------------------------------------------------ functions


def tree(levels: int, calls: int = 2) -> Lab:
    """Functions of which each calls the one below so many times."""
    lab = Lab()
    kinds: Dict[str, Any] = {"Tin": [F32], "Tout": [F32]}
    put(lab.function("f0", ["t"], {"r": "one:activations:0"}), "one", "Relu", "t", T=F32)
    for level in range(1, levels):
        last = f"n{calls - 1}:output:0"
        body = lab.function(f"f{level}", ["t"], {"r": last})
        for place in range(calls):
            source = f"n{place - 1}:output:0" if place else "t"
            put(body, f"n{place}", "PartitionedCall", source, f=Func(f"f{level - 1}"), **kinds)
    put(lab.node, "c", "PartitionedCall", "a", f=Func(f"f{levels - 1}"), **kinds)
    return lab


def test_a_call_that_would_double_for_ever_stays_one_call() -> None:
    graph = load(tree(30).proto)
    assert [node.op for node in graph] == ["Placeholder", "Const", "Conv2D", "PartitionedCall"]
    assert gs.analyse(graph).groups[0].pinned_at == "c"


def test_a_call_that_would_never_end_is_not_run(run: Run) -> None:
    (run.folder / "model.pb").write_bytes(tree(30).proto.SerializeToString())
    told = run("prune model.pb -o out.pb").out
    assert "Not verified: c calls functions that double too often to be run." in told


def test_a_call_that_comes_to_little_is_inlined_whole() -> None:
    graph = load(tree(8).proto)
    assert [node.op for node in graph].count("Relu") == 2**7
    assert not [node for node in graph if node.op == "PartitionedCall"]


def test_calls_nested_a_hundred_deep_are_inlined_and_deeper_ones_stay() -> None:
    assert "Relu" in [node.op for node in load(tree(100, 1).proto)]
    assert [node.op for node in load(tree(101, 1).proto)].count("PartitionedCall") == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(b"f0", b"\xff0"),
        lambda data: data.replace(b"\x12\x04Relu", b"\x17\x04Relu"),
        lambda data: data.replace(b"\x12\x04Relu", b"\x12\x7fRelu"),
    ],
    ids=["no UTF-8", "no wire type", "cut off"],
)
def test_a_library_that_protobuf_refuses_is_refused(run: Run, damage: Any) -> None:
    data = tree(2).proto.SerializeToString(deterministic=True)
    damaged = damage(data)
    assert damaged != data
    (run.folder / "model.pb").write_bytes(damaged)
    for command in ("inspect model.pb", "prune model.pb -o out.pb --no-verify"):
        told = run(command, status=2).err
        assert "model.pb: " in told and "damaged" in told and "internal" not in told
    assert run.files() == ["model.pb"]


# ------------------------------------------------------------------ rules that fall


def fails(*_: Any) -> Any:
    raise AttributeError("no such thing")


@pytest.mark.parametrize("table", [CHANNEL_RULES, COST_RULES], ids=["channels", "cost"])
def test_whatever_a_rule_raises_names_file_and_node(table: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(table, "Conv2D", fails)
    with pytest.raises(AnalysisError) as caught:
        gs.cost(tiny(X))
    assert caught.value.where == "text: node a"
    assert "AttributeError: no such thing" in caught.value.what
    assert isinstance(caught.value.__cause__, AttributeError)


@pytest.mark.parametrize("inputs", [[], ["x"]], ids=["no input", "no filter"])
def test_a_fused_convolution_without_inputs_is_one_line(run: Run, inputs: List[str]) -> None:
    graph = GraphDef.FromString(serialize(tiny(X + "y = Relu(a)\n")))
    node = graph.node.add(name="f", op="_FusedConv2D", input=inputs)
    node.attr["T"].type = 1
    node.attr["fused_ops"].list.s.append(b"BiasAdd")
    (run.folder / "model.pb").write_bytes(graph.SerializeToString())
    for command in ("inspect model.pb", "prune model.pb -o out.pb --no-verify --json"):
        told = run(f"{command} --outputs y,f", status=2).err
        assert "model.pb: node f: " in told and "_FusedConv2D" in told and "internal" not in told
    assert run.files() == ["model.pb"]


def test_a_constant_that_holds_no_tensor_is_refused() -> None:
    graph = GraphDef.FromString(serialize(tiny(X)))
    graph.node[1].attr["value"].i = 3
    with pytest.raises(LoadError, match="a constant whose value is no tensor"):
        load(graph)


# ------------------------------------------------------------------ walks


@pytest.mark.parametrize("op", ["Identity", "Relu"])
def test_long_chains_are_walked_once(op: str, monkeypatch: Any) -> None:
    """Not by a clock: by how many steps the matcher takes to look behind nodes."""
    steps = []
    before = Matcher._before
    monkeypatch.setattr(Matcher, "_before", lambda *given: steps.append(0) or before(*given))
    length = 2000
    lines = [f"i{k} = {op}(i{k - 1})" for k in range(1, length)]
    weights = "f32[1,1,8,4]{random 2}"
    ends = [f"e{k} = {weights}\nr{k} = Conv2D(i{length - 1}, e{k})" for k in range(20)]
    graph = tiny(X + f"i0 = {op}(a)\n" + "\n".join(lines + ends) + "\n")
    gs.find_blocks(graph)
    assert len(steps) < 6 * len(graph)


def chain(op: str, first: str, length: int = 2000) -> str:
    """Ops of one input, one behind the other: `i0` reads `first`, and the last is called `end`."""
    lines = [f"i{k} = {op}(i{k - 1})" for k in range(1, length)]
    return "\n".join([f"i0 = {op}({first})", *lines, f"end = {op}(i{length - 1})", ""])


HEAD = "z/w = f32[1,1,8,4]{random 2}\nz = Conv2D(%s, z/w)\no = Relu(z)\n"


@pytest.mark.parametrize(
    "middle",
    [
        "ax = i32[2]{1 2}\nm = Mean(a, ax)\n" + chain("Identity", "m"),
        "n = i32[8]{0 1 2 3 4 5 6 7}\n"
        + chain("Identity", "n")
        + "k = i32[]{3}\ng = GatherV2(a, end, k)\n",
        "s = f32[8]{random 3}\n" + chain("Sqrt", "s") + "p = Mul(a, end)\n",
    ],
    ids=["behind a mean", "before a gather", "a scale"],
)
def test_a_long_chain_is_followed_to_its_end(middle: str) -> None:
    last = middle.splitlines()[-1].split(" =")[0]
    graph = tiny(X + middle + HEAD % last)
    assert gs.analyse(graph).groups[0].prunable
    assert not gs.plan(graph).groups
    assert gs.plan(graph, criterion="l1", ratio=0.5, multiple_of=1).removed


def test_weights_behind_a_long_chain_are_masked() -> None:
    graph = tiny(
        X + "v = f32[1,1,8,4]{random 2}\n" + chain("Identity", "v") + "o = Conv2D(a, end)\n"
    )
    plan = plan_given(graph, {"a": [1]})
    masked = zero_consumers(graph, plan)
    assert len(masked) == len(graph)
    assert not masked["v"].attrs["value"].numbers()[:, :, 1].any()


@pytest.mark.parametrize("op", ["AddV2", "Mul", "RealDiv"])
def test_constants_that_double_are_bounded_once_each(op: str, monkeypatch: Any) -> None:
    """Each op reads the one before it twice: 2 to the power of 40 ways lead to the first."""
    asked = []
    before = Values._magnitudes
    monkeypatch.setattr(Values, "_magnitudes", lambda *given: (asked.append(0), before(*given))[1])
    lines = [f"i{k} = {op}(i{k - 1}, i{k - 1})" for k in range(1, 40)]
    scale = "i0 = f32[8]{random 3}\n" + "\n".join(lines) + "\np = Mul(a, i39)\n"
    graph = tiny(X + scale + HEAD % "p")
    gs.plan(graph, criterion="l1", ratio=0.5, multiple_of=1)
    assert len(asked) < 6 * len(graph)
