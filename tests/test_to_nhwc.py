"""The pass to-nhwc: the same function, without NCHW and with few Transposes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Dict, List

import numpy as np
import pytest
from keras_networks import freeze
from nchw import NchwNet, naive
from networks import Net, blocks
from spellings import ACTIVATIONS, GATES, NORMS, POOLS
from tiny import prune, tiny

import graphslim as gs
from graphslim import cli
from graphslim.ir.verify import check
from graphslim.layout import needs_nhwc
from graphslim.measure.verify import check as compare_pruned
from graphslim.measure.verify import runnable
from graphslim.runtime import Session, version
from graphslim.testing import assert_mask_equivalent, check_pass, random_plan, round_trip


def ops(graph: gs.Graph) -> Counter:
    return Counter(node.op for node in graph)


def turned(graph: gs.Graph) -> gs.Graph:
    """A copy after the pass, which may not be changed by a second run."""
    twin = graph.copy()
    check_pass(twin, "to-nhwc")
    check(twin)
    left = [node.name for node in twin if node.text("data_format") == "NCHW"]
    assert not left, f"still in NCHW: {left}"
    return round_trip(twin)


def assert_turned(graph: gs.Graph, transposes: int) -> gs.Graph:
    """The graph after the pass, compared with one in which each op is wrapped on its own."""
    twin = turned(graph)
    assert [str(port) for port in twin.outputs] == [str(port) for port in graph.outputs]
    rng = np.random.RandomState(0)
    feeds: Dict[str, np.ndarray] = {}
    for name in graph.inputs:
        shape = gs.analyse(graph).fact(gs.Port(name)).shape or ()
        feeds[name] = rng.uniform(-1, 1, [size or 1 for size in shape]).astype(np.float32)
    wrapped = naive(graph)
    results: List[List[np.ndarray]] = []
    for one in (wrapped, twin):
        with Session(one, optimize=False) as session:
            results.append(session.run(feeds))
    for port, want, got in zip(graph.outputs, *results):
        assert want.shape == got.shape, port
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5, err_msg=str(port))
    assert ops(twin)["Transpose"] == transposes, [n.name for n in twin if n.op == "Transpose"]
    return twin


# ---------------------------------------------------------------------- ops with a data_format


@pytest.mark.tf
@pytest.mark.parametrize(
    "lines",
    [
        'y = Conv2D(x, w) data_format="NCHW" strides=[1,1,2,1]',
        'y = Conv2D(x, w) data_format="NCHW" dilations=[1,1,1,2] padding="VALID"',
        'y = Conv2D(x, w) data_format="NCHW" padding="EXPLICIT"'
        " explicit_paddings=[0,0,0,0,2,1,0,3]",
        """d = f32[3,3,4,2]{random 2}
           y = DepthwiseConv2dNative(x, d) data_format="NCHW" strides=[1,1,2,2]""",
        """b = f32[4]{random 3}
           y = BiasAdd(x, b) data_format="NCHW" """,
        'y = MaxPool(x) data_format="NCHW" ksize=[1,1,3,2] strides=[1,1,1,2]',
        'y = AvgPool(x) data_format="NCHW" ksize=[1,1,2,3] strides=[1,1,2,1] padding="VALID"',
        """k = i32[4]{1 1 2 3}
           s = i32[4]{1 1 3 2}
           y = MaxPoolV2(x, k, s) data_format="NCHW" padding="SAME" """,
        'y = DepthToSpace(x) data_format="NCHW"',
        'y = SpaceToDepth(x) data_format="NCHW"',
        """n = i32[4]{1 3 12 6}
           t = f32[3,3,3,4]{random 4}
           y = Conv2DBackpropInput(n, t, x) data_format="NCHW" strides=[1,1,2,1]""",
        """g = f32[4]{1 2 3 4}
           b = f32[4]{4 3 2 1}
           y = FusedBatchNorm(x, g, b, b, g) data_format="NCHW" """,
        """b = f32[5]{random 5}
           y = _FusedConv2D(x, w, b) data_format="NCHW" padding="SAME" strides=[1,1,2,1] """
        'epsilon=0.0 fused_ops=["BiasAdd","Relu"] num_args=1',
    ],
    ids=lambda lines: lines.strip().splitlines()[-1].split("(")[0].split("= ")[1],
)
def test_each_kernel(lines: str) -> None:
    graph = tiny(f"x = input 1,4,6,6\nw = f32[3,3,4,5]{{random 1}}\n{lines}")
    if graph["y"].op == "_FusedConv2D" and not version().startswith("1."):
        graph.set_attr("y", "TArgs", [gs.DType.float32])
    assert_turned(graph, 2)


@pytest.mark.tf
def test_batch_norm_in_training_gives_its_statistics_as_before() -> None:
    graph = tiny(
        """
        x = input 2,3,4,4
        g = f32[3]{1 2 3}
        b = f32[3]{3 2 1}
        e = f32[0]{}
        y = FusedBatchNorm(x, g, b, e, e) data_format="NCHW" is_training=true
        m = Neg(y:1)
        output y
        output m
        """
    )
    assert_turned(graph, 2)


# ---------------------------------------------------------------------- ops that carry the layout


HEAD = """
x = input 1,4,6,6
w = f32[3,3,4,6]{random 1}
c = Conv2D(x, w) data_format="NCHW"
"""
CARRIED = {
    "relu": ("y = Relu(c)", 2),
    "scalar": ("k = f32[]{2}\ny = Mul(k, c)", 2),
    "constant C11": ("k = f32[6,1,1]{random 2}\ny = AddV2(c, k)", 2),
    "constant 1C11": ("k = f32[1,6,1,1]{random 2}\ny = Sub(k, c)", 2),
    "constant W": ("k = f32[6]{random 2}\ny = Mul(c, k)", 2),
    "constant CHW": ("k = f32[6,6,6]{random 2}\ny = Mul(c, k)", 2),
    "vector, reshaped": (
        """
        k = f32[6]{random 2}
        n = i32[3]{6 1 1}
        v = Reshape(k, n) Tshape=int32
        y = Mul(c, v)
        """,
        2,
    ),
    "vector, reshaped to four axes": (
        """
        k = f32[6]{random 2}
        n = i32[4]{1 -1 1 1}
        v = Reshape(k, n) Tshape=int32
        y = Mul(c, v)
        """,
        2,
    ),
    "sum with the input of a second convolution": (
        """
        v = f32[1,1,4,6]{random 2}
        d = Conv2D(x, v) data_format="NCHW"
        y = AddN(c, d, c)
        """,
        2,
    ),
    "concatenation": (
        """
        v = f32[1,1,6,2]{random 2}
        d = Conv2D(c, v) data_format="NCHW"
        a = i32[]{-3}
        j = ConcatV2(c, d, a) Tidx=int32
        u = f32[1,1,8,2]{random 3}
        y = Conv2D(j, u) data_format="NCHW"
        """,
        2,
    ),
    "split": (
        """
        a = i32[]{1}
        s = Split(a, c) num_split=3
        y = AddV2(s, s:2)
        """,
        2,
    ),
    "split by sizes": (
        """
        a = i32[]{1}
        n = i32[2]{2 4}
        s = SplitV(c, n, a) num_split=2 Tlen=int32
        y = Relu(s:1)
        """,
        2,
    ),
    "pad": ("p = i32[4,2]{0 0 0 1 2 3 4 5}\ny = Pad(c, p) Tpaddings=int32", 2),
    "mirror pad": (
        'p = i32[4,2]{0 0 0 0 2 1 0 3}\ny = MirrorPad(c, p) Tpaddings=int32 mode="REFLECT"',
        2,
    ),
    "tile": ("m = i32[4]{1 1 2 3}\ny = Tile(c, m) Tmultiples=int32", 2),
    "mean": ("a = i32[2]{2 -1}\ny = Mean(c, a) Tidx=int32", 2),
    "mean, axes dropped": ("a = i32[2]{2 3}\ny = Mean(c, a) Tidx=int32 keep_dims=false", 1),
    "max over channels": ("a = i32[]{1}\ny = Max(c, a) Tidx=int32 keep_dims=false", 1),
    "mean over rows": ("a = i32[]{2}\ny = Mean(c, a) Tidx=int32 keep_dims=false", 2),
    "argmax": ("a = i32[]{1}\nf = ArgMax(c, a) Tidx=int32 output_type=int32\n"
               "y = Cast(f) SrcT=int32 DstT=float32", 1),
    "squeeze": (
        """
        a = i32[2]{2 3}
        m = Mean(c, a) Tidx=int32
        y = Squeeze(m) squeeze_dims=[2,-1]
        """,
        1,
    ),
    "squeeze of all": (
        """
        a = i32[2]{2 3}
        m = Mean(c, a) Tidx=int32
        y = Squeeze(m)
        """,
        1,
    ),
    "flattened after a mean": (
        """
        a = i32[2]{2 3}
        m = Mean(c, a) Tidx=int32
        n = i32[2]{-1 6}
        y = Reshape(m, n) Tshape=int32
        """,
        1,
    ),
    "slice": ("b = i32[4]{0 1 2 3}\nn = i32[4]{1 4 3 -1}\ny = Slice(c, b, n) Index=int32", 2),
    "strided slice": (
        """
        b = i32[3]{0 1 9}
        e = i32[3]{9 -1 0}
        s = i32[3]{1 2 1}
        y = StridedSlice(c, b, e, s) begin_mask=1 end_mask=5 begin_mask=5
        """,
        2,
    ),
    "strided slice with an ellipsis": (
        """
        b = i32[2]{0 1}
        e = i32[2]{0 5}
        s = i32[2]{1 2}
        y = StridedSlice(c, b, e, s) ellipsis_mask=1
        """,
        2,
    ),
    "strided slice that drops space": (
        """
        b = i32[4]{0 0 1 -1}
        e = i32[4]{0 0 2 0}
        s = i32[4]{1 1 1 1}
        y = StridedSlice(c, b, e, s) begin_mask=3 end_mask=3 shrink_axis_mask=12
        """,
        1,
    ),
    "strided slice that drops rows": (
        """
        b = i32[3]{0 0 1}
        e = i32[3]{0 0 2}
        s = i32[3]{1 1 1}
        y = StridedSlice(c, b, e, s) begin_mask=3 end_mask=3 shrink_axis_mask=4
        """,
        2,
    ),
    "gather": (
        """
        i = i32[3]{5 0 2}
        a = i32[]{1}
        y = GatherV2(c, i, a) Tparams=float32 Tindices=int32 Taxis=int32
        """,
        2,
    ),
    "dilated by batches": (
        """
        k = i32[3]{1 2 2}
        p = i32[3,2]{0 0 2 2 2 2}
        q = i32[3,2]{0 0 0 0 0 0}
        b = SpaceToBatchND(c, k, p)
        d = f32[3,3,6,1]{random 2}
        e = DepthwiseConv2dNative(b, d) data_format="NCHW" padding="VALID"
        y = BatchToSpaceND(e, k, q)
        """,
        2,
    ),
    "select": ("z = f32[]{0}\ng = Greater(c, z)\nn = Neg(c)\ny = Select(g, c, n)", 2),
    "comparison as an output": (
        "z = f32[]{0}\ng = Greater(c, z)\nl = LogicalNot(g)\ny = Cast(l) SrcT=bool DstT=float32",
        2,
    ),
    "sizes": (
        """
        s = Shape(c)
        f = Cast(s) SrcT=int32 DstT=float32
        y = AddV2(c, c)
        output f
        output y
        """,
        2,
    ),
    "its number of elements": (
        "s = Size(c) out_type=int32\ny = Cast(s) SrcT=int32 DstT=float32", 1,
    ),
    "softmax": ("y = Softmax(c)", 2),
    "flattened": ("n = i32[2]{1 216}\ny = Reshape(c, n) Tshape=int32", 2),
    "unpacked": ("u = Unpack(c) axis=1 num=6\ny = AddV2(u, u:3)", 2),
    "product with a computed tensor of fewer axes": (
        "a = i32[]{0}\nm = Mean(x, a) Tidx=int32 keep_dims=false\nb = i32[]{0}\n"
        "k = Max(m, b) Tidx=int32 keep_dims=false\ny = Mul(c, k)",
        2,
    ),
    "two tensors at once": (
        "i = IdentityN(c, x) T=[float32,float32]\nj = Relu(i)\ny = Neg(i:1)\noutput j\noutput y", 2
    ),
}  # fmt: skip


@pytest.mark.tf
@pytest.mark.parametrize("case", sorted(CARRIED))
def test_what_carries_the_layout(case: str) -> None:
    lines, transposes = CARRIED[case]
    lines = "\n".join([line.strip() for line in lines.splitlines()])
    assert_turned(tiny(HEAD + lines.replace("Shape(c)", "Shape(c) T=float32")), transposes)


@pytest.mark.tf
def test_constants_computed_in_the_form_of_nchw() -> None:
    """Batch norm of a converter: every vector has the axes of the tensor."""
    graph = tiny(
        HEAD
        + """
        v = f32[1,6,1,1]{2.5}
        e = f32[]{0.001}
        ve = AddV2(v, e)
        root = Rsqrt(ve)
        g = f32[1,6,1,1]{random 2}
        gr = Mul(root, g)
        y = Mul(c, gr)
        """
    )
    assert_turned(graph, 2)


@pytest.mark.tf
def test_a_vector_that_is_reshaped_becomes_a_tensor_of_nhwc() -> None:
    """As MobileNet has it: the mean, reshaped for a 1x1 convolution, behind a dropout's rest."""
    graph = tiny(
        HEAD
        + """
        a = i32[2]{2 3}
        m = Mean(c, a) Tidx=int32 keep_dims=false
        n = i32[4]{-1 6 1 1}
        t = Reshape(m, n) Tshape=int32
        i = Identity(t)
        v = f32[1,1,6,5]{random 2}
        d = Conv2D(i, v) data_format="NCHW"
        k = i32[2]{-1 5}
        y = Reshape(d, k) Tshape=int32
        """
    )
    assert_turned(graph, 1)


def test_a_given_input_shape_is_not_relied_upon() -> None:
    """At another size the flattened tensor is more than a vector."""
    graph = tiny(
        """
        x = input 1,4,?,?
        w = f32[3,3,4,6]{random 1}
        c = Conv2D(x, w) data_format="NCHW" padding="VALID"
        n = i32[2]{1 -1}
        y = Reshape(c, n) Tshape=int32
        """
    )
    graph.input_shapes = {"x": (1, 4, 3, 3)}
    assert ops(turned(graph))["Transpose"] == 2


@pytest.mark.tf
@pytest.mark.parametrize("phase", [0, 1])
def test_a_constant_of_one_branch_stays_in_it(phase: int) -> None:
    """Its Identity waits for the branch: a copy that did not would run in both."""
    graph = tiny(
        f"""
        x = input 1,4,6,6
        w = f32[3,3,4,3]{{random 1}}
        c = Conv2D(x, w) data_format="NCHW"
        phase = Const() dtype=bool value=bool[]{{{phase}}}
        s = Switch(c, phase)
        on = Identity(s:1)
        k = f32[1,3,6,6]{{random 2}}
        other = Identity(k, ^on)
        off = Tanh(s)
        m = Merge(off, other) N=2
        y = Relu(m)
        """
    )
    left = assert_turned(graph, ops(turned(graph))["Transpose"])
    assert left["m"].op == "Merge"


@pytest.mark.tf
def test_computed_sizes_of_a_transposed_convolution() -> None:
    graph = tiny(
        HEAD
        + """
        s = Shape(x)
        o = i32[4]{1 3 1 1}
        b = i32[1]{0}
        m = i32[4]{0 0 2 2}
        d = Mul(s, m) T=int32
        k = i32[4]{1 3 0 0}
        n = AddV2(d, k) T=int32
        t = f32[2,2,3,6]{random 4}
        y = Conv2DBackpropInput(n, t, c) data_format="NCHW" strides=[1,1,2,2]
        """
    )
    assert_turned(graph, 2)


# ---------------------------------------------------------------------- inputs, outputs, Transposes


@pytest.mark.tf
def test_outputs_in_the_middle_keep_their_form() -> None:
    graph = tiny(
        HEAD
        + """
        r = Relu(c)
        v = f32[1,1,6,2]{random 2}
        y = Conv2D(r, v) data_format="NCHW"
        output c
        output r
        output y
        """
    )
    assert_turned(graph, 4)


@pytest.mark.tf
def test_an_output_behind_an_identity() -> None:
    graph = tiny(HEAD + "r = Relu(c)\nout = Identity(r)")
    twin = assert_turned(graph, 2)
    assert twin["out"].op == "Identity"


@pytest.mark.tf
def test_transposes_of_the_graph_cancel() -> None:
    """TF1 Keras puts Transposes around depthwise convolutions, converters at the beginning."""
    graph = tiny(
        """
        image = input 1,6,6,4
        p = i32[4]{0 3 1 2}
        q = i32[4]{0 2 3 1}
        x = Transpose(image, p) Tperm=int32
        w = f32[3,3,4,6]{random 1}
        c = Conv2D(x, w) data_format="NCHW"
        a = Transpose(c, q) Tperm=int32
        d = f32[3,3,6,1]{random 2}
        e = DepthwiseConv2dNative(a, d)
        b = Transpose(e, p) Tperm=int32
        r = Relu(b)
        k = f32[6]{random 3}
        f = BiasAdd(r, k) data_format="NCHW"
        y = Transpose(f, q) Tperm=int32
        """
    )
    twin = assert_turned(graph, 0)
    assert twin["y"].op == "Identity"
    assert len(twin) == 9


@pytest.mark.tf
def test_another_transpose_is_merged() -> None:
    graph = tiny(HEAD + "r = Relu(c)\np = i32[4]{0 3 2 1}\ny = Transpose(r, p) Tperm=int32")
    assert_turned(graph, 2)


@pytest.mark.tf
def test_a_constant_that_others_use_is_copied() -> None:
    graph = tiny(
        HEAD
        + """
        k = f32[6,1,1]{random 2}
        y = AddV2(c, k)
        z = Neg(k)
        output y
        output z
        """
    )
    twin = assert_turned(graph, 2)
    assert twin["k"].attrs["value"].shape == (6, 1, 1)


def test_a_graph_without_nchw_stays_as_it_is() -> None:
    text = """
        x = input 1,6,6,4
        p = i32[4]{0 3 1 2}
        t = Transpose(x, p) Tperm=int32
        w = f32[3,3,4,6]{random 1}
        c = Conv2D(x, w)
        k = f32[6]{random 1}
        b = BiasAdd(t, k)
        """
    assert not check_pass(tiny(text), "to-nhwc").changed


def test_what_nobody_knows_gets_the_form_that_it_had() -> None:
    graph = tiny(HEAD + "r = Relu(c)\no = NobodyKnows(r, ^c)\nv = f32[3,3,4,2]{random 3}\n"
                 'y = Conv2D(o, v) data_format="NCHW"')  # fmt: skip
    twin = turned(graph)
    back = twin.data_inputs("o")[0]
    assert twin[back.node].op == "Transpose" and twin.data_inputs(back.node)[0] == gs.Port("r")
    assert ops(twin)["Transpose"] == 4


def test_a_fed_node_stays() -> None:
    """What is fed has the form that the user gives, whatever stands before it."""
    graph = tiny(HEAD + 'r = Relu(c)\nv = f32[3,3,6,2]{random 3}\n'
                 'y = Conv2D(r, v) data_format="NCHW"\ninput r')  # fmt: skip
    graph.inputs = ["r"]
    twin = graph.copy()
    check_pass(twin, "to-nhwc")
    moved = twin.data_inputs("y/nhwc")[0].node
    assert twin[moved].op == "Transpose" and twin.data_inputs(moved)[0] == gs.Port("r")
    assert twin[twin.data_inputs("r")[0].node].op == "Transpose"


# ---------------------------------------------------------------------- whole networks


def mobilenet(net: Net) -> gs.Graph:
    """MobileNetV2's head, four blocks, one of them with an SE block, and its tail."""
    x = net.conv(net.x, 8, 3, stride=2)
    x = ACTIVATIONS["relu6"](net, NORMS["fused"](net, x))
    for number in range(4):
        net.scope = f"block{number}/"
        se = None if number % 2 else lambda y: net.squeeze_excite(y, "mean", "conv", size=4)
        x = net.inverted_residual(x, 12, 8, se=se)
    net.scope = ""
    x = ACTIVATIONS["relu6"](net, NORMS["bias"](net, net.conv(x, 16)))
    width = net.width[x]
    x = net.mean(x, keep=False)
    net.width[x] = width
    x = net.matmul(x, 10)
    return net.graph(net.f("Softmax", x), x)


@pytest.mark.tf
def test_a_mobilenet_needs_one_transpose() -> None:
    graph = mobilenet(NchwNet(8, 3))
    assert_turned(graph, 1)
    assert [len(blocks(graph, kind)) for kind in ("inverted_residual", "squeeze_excite")] == [4, 2]


@pytest.mark.tf
def test_a_resnet_needs_one_transpose() -> None:
    net = NchwNet(12, 3)
    x = ACTIVATIONS["relu"](net, NORMS["fused"](net, net.conv(net.pad(net.x), 8, 3, stride=2)))
    for number in range(3):
        net.scope = f"block{number}/"
        y = ACTIVATIONS["relu"](net, NORMS["primitive"](net, net.conv(x, 4)))
        y = NORMS["bias"](net, net.conv(y, 8, 3))
        short = NORMS["fused"](net, net.conv(x, 8)) if number == 0 else x
        x = ACTIVATIONS["relu"](net, net.f("AddV2", short, y))
    net.scope = ""
    assert_turned(net.graph(net.mean(x, keep=False)), 1)


def widths(graph: gs.Graph) -> List[object]:
    """The groups; a group may be named after an op that gave its name to a Transpose."""
    return [
        (group.id.replace("/nhwc", ""), len(group), group.prunable)
        for group in gs.analyse(graph).groups
    ]


@pytest.mark.tf
@pytest.mark.parametrize("norm", ["fused", "primitive", "bias"])
@pytest.mark.parametrize("act", ["relu6", "prelu", "hard swish", "swish, two outputs"])
def test_blocks_in_nchw_are_those_in_nhwc(norm: str, act: str) -> None:
    graphs = []
    for net in (NchwNet(8, 8), Net(8, 8)):
        net.inverted_residual(net.x, norm=norm, act=act)
        graphs.append(net.graph())
    first, second = graphs
    assert len(blocks(first, "inverted_residual")) == 1
    assert widths(first) == widths(second) == widths(turned(first))
    assert gs.cost(first) == gs.cost(second)
    assert_mask_equivalent(first, random_plan(first), tolerance=1e-5)


@pytest.mark.tf
@pytest.mark.parametrize("pool", sorted(POOLS))
@pytest.mark.parametrize("dense", ["conv", "matmul", "matmul, free batch", "packed", "tensordot"])
def test_squeeze_excite_in_nchw(pool: str, dense: str) -> None:
    if (pool, dense) == ("mean, axes dropped", "conv"):
        pytest.skip("a convolution takes no vector")
    graphs = []
    for net in (NchwNet(8, 8), Net(8, 8)):
        x = net.conv(net.x, 8, name="first")
        x = net.squeeze_excite(x, pool, dense, gate=sorted(GATES)[len(pool) % len(GATES)])
        net.conv(x, 4, name="last")
        graphs.append(net.graph())
    first, second = graphs
    assert len(blocks(first, "squeeze_excite")) == len(blocks(second, "squeeze_excite")) == 1
    assert widths(first) == widths(second) == widths(turned(first))
    assert_mask_equivalent(first, random_plan(first), tolerance=1e-5)


def lines(graph: gs.Graph, **without: str) -> gs.Graph:
    """A graph without an attribute that the short text gives to every op."""
    for key, names in without.items():
        for name in names.split():
            graph.drop_attr(name, key)
    return graph


@pytest.mark.tf
def test_a_loop_around_convolutions() -> None:
    """A constant that is made inside a loop has to wait for something of that loop."""
    loop = 'frame_name="f" is_constant=false parallel_iterations=1'
    graph = tiny(
        f"""
        x = input 1,2,4,4
        v = f32[3,3,2,2]{{random 1}}
        c = Conv2D(x, v) data_format="NCHW"
        zero = i32[]{{0}}
        n = Enter(zero) T=int32 {loop}
        e = Enter(c) {loop}
        m = Merge(n, next) T=int32 N=2
        me = Merge(e, next_e) N=2
        limit = Const(^m) dtype=int32 value=int32[]{{3}}
        less = Less(m, limit) T=int32
        go = LoopCond(less)
        s = Switch(m, go) T=int32
        se = Switch(me, go)
        i = Identity(s:1) T=int32
        one = Const(^i) dtype=int32 value=int32[]{{1}}
        i2 = AddV2(i, one) T=int32
        next = NextIteration(i2) T=int32
        filters = f32[3,3,2,2]{{random 2}}
        w = Enter(filters) frame_name="f" is_constant=true parallel_iterations=1
        k = Const(^i) dtype=float32 value=float32[2,1,1]{{0.5}}
        d = Conv2D(se:1, w) data_format="NCHW"
        dk = Mul(d, k)
        a = Const(^i) dtype=int32 value=int32[1]{{1}}
        top = Max(dk, a) Tidx=int32
        dt = Sub(dk, top)
        next_e = NextIteration(dt)
        y = Exit(se)
        """
    )
    assert_turned(lines(graph, T="go"), 4)


@pytest.mark.tf
def test_a_loop_within_a_loop() -> None:
    """What is made behind the end of the inner loop waits for something of the outer one."""
    outer, inner = [
        f'frame_name="{name}" parallel_iterations=1 is_constant=' for name in ("outer", "inner")
    ]
    graph = tiny(
        f"""
        x = input 1,2,4,4
        filters = f32[3,3,2,2]{{random 1}}
        w = Enter(filters) {outer}true
        e = Enter(x) {outer}false
        m = Merge(e, next) N=2
        zero = f32[]{{0}}
        n = Enter(zero) {outer}false
        mn = Merge(n, next_n) N=2
        two = Const(^mn) dtype=float32 value=float32[]{{2}}
        less = Less(mn, two)
        go = LoopCond(less)
        s = Switch(m, go)
        sn = Switch(mn, go)
        i = Identity(sn:1)
        one = Const(^i) dtype=float32 value=float32[]{{1}}
        i2 = AddV2(i, one)
        next_n = NextIteration(i2)
        inner/e = Enter(s:1) {inner}false
        inner/n = Enter(i) {inner}false
        inner/m = Merge(inner/e, inner/next) N=2
        inner/mn = Merge(inner/n, inner/next_n) N=2
        inner/three = Const(^inner/mn) dtype=float32 value=float32[]{{3}}
        inner/less = Less(inner/mn, inner/three)
        inner/go = LoopCond(inner/less)
        inner/s = Switch(inner/m, inner/go)
        inner/sn = Switch(inner/mn, inner/go)
        inner/i = Identity(inner/sn:1)
        inner/one = Const(^inner/i) dtype=float32 value=float32[]{{1}}
        inner/i2 = AddV2(inner/i, inner/one)
        inner/next_n = NextIteration(inner/i2)
        inner/t = Tanh(inner/s:1)
        inner/next = NextIteration(inner/t)
        inner/y = Exit(inner/s)
        d = Conv2D(inner/y, w) data_format="NCHW"
        next = NextIteration(d)
        y = Exit(s)
        v = f32[3,3,2,2]{{random 2}}
        c = Conv2D(y, v) data_format="NCHW"
        """
    )
    assert_turned(lines(graph, T="go inner/go"), 4)


@pytest.mark.tf
@pytest.mark.parametrize("phase", [0, 1])
def test_the_learning_phase_of_keras(phase: int) -> None:
    """Batch norm twice, behind a Switch, and joined by a Merge."""
    graph = tiny(
        f"""
        x = input 2,4,6,6
        w = f32[3,3,4,3]{{random 1}}
        c = Conv2D(x, w) data_format="NCHW"
        phase = Const() dtype=bool value=bool[]{{{phase}}}
        s = Switch(c, phase)
        g = f32[3]{{1 2 3}}
        b = f32[3]{{3 2 1}}
        empty = f32[0]{{}}
        train = FusedBatchNorm(s:1, g, b, empty, empty) data_format="NCHW" is_training=true
        infer = FusedBatchNorm(s, g, b, b, g) data_format="NCHW"
        m = Merge(infer, train) N=2
        r = Relu(m)
        v = f32[1,1,3,2]{{random 2}}
        y = Conv2D(r, v) data_format="NCHW"
        """
    )
    assert_turned(graph, 2)


@pytest.mark.tf
@pytest.mark.parametrize("kernel", [1, 3])
def test_dead_channels_in_nchw_are_folded(kernel: int) -> None:
    """Channel 1 is the constant 2; behind a 3x3 convolution with a border it has to stay."""
    graph = tiny(
        f"""
        x = input 1,3,6,6
        w = f32[1,1,3,4]{{1 0 0 1 1 0 0 2 1 0 0 3}}
        a = Conv2D(x, w) data_format="NCHW"
        b = f32[4]{{1 2 0 1}}
        ab = BiasAdd(a, b) data_format="NCHW"
        r = Relu(ab)
        v = f32[{kernel},{kernel},4,5]{{random 1}}
        c = Conv2D(r, v) data_format="NCHW"
        s = Sigmoid(c)
        u = f32[1,1,5,2]{{random 2}}
        y = Conv2D(s, u) data_format="NCHW"
        """
    )
    slim = prune(graph, {"a": [1, 2] if kernel == 1 else [2]})
    assert slim["c"].text("data_format") == "NCHW"


# ---------------------------------------------------------------------- real networks, commands


@pytest.mark.tf
@pytest.mark.slow
@pytest.mark.parametrize(
    "name, expected", [("MobileNetV2", {"inverted_residual": 16}), ("ResNet50", {})]
)
def test_keras_networks_with_channels_first(name: str, expected: dict, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    graphs = []
    for way in ("channels first", "frozen"):
        (tmp_path / way).mkdir()
        graphs.append(gs.find_blocks(freeze(name, tmp_path / way, size=64, way=way).graph))
    first, last = graphs
    for graph in graphs:
        assert Counter(block.kind for block in graph.blocks) == expected
    groups = [
        sorted([(len(group), group.prunable) for group in gs.analyse(graph).groups])
        for graph in graphs
    ]
    assert groups[0] == groups[1]
    assert gs.cost(first) == gs.cost(last)
    assert ops(turned(first))["Transpose"] == 1
    plan = random_plan(first)
    slim = round_trip(gs.apply(first, plan))
    surgery, change = compare_pruned(first, slim, plan, tolerance=1e-4)
    assert surgery.ok
    assert change.outputs[0].relative > 0.01


@pytest.mark.tf
def test_verify_says_that_twins_were_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("tensorflow")
    graph = mobilenet(NchwNet(8, 3))
    model, out = str(tmp_path / "model.pb"), str(tmp_path / "out.pb")
    gs.save(graph, model)
    said = "Run as NHWC twins: TensorFlow's CPU kernels take no NCHW."

    def run(*args: str) -> str:
        with pytest.raises(SystemExit) as found:
            cli.main(args)
        assert found.value.code == 0
        return capsys.readouterr().out

    assert said in run("prune", model, "-o", out, "--pass", "to-nhwc")
    slim = gs.load(out)
    assert not [node for node in slim if node.text("data_format") == "NCHW"]
    assert ops(slim)["Transpose"] == 1
    assert said in run("verify", model, out)
    assert json.loads(run("verify", model, out, "--json"))["nhwc_twins"] is True
    assert said not in run("verify", out, out)
    assert json.loads(run("verify", out, out, "--json"))["nhwc_twins"] is False


def test_a_bias_alone_needs_no_twin() -> None:
    """Its CPU kernel takes NCHW; that of batch norm does not in TF 1.15."""
    graph = tiny('x = input 1,4,6,6\nb = f32[4]{1 2 3 4}\ny = BiasAdd(x, b) data_format="NCHW"')
    assert not needs_nhwc(graph) and needs_nhwc(tiny(HEAD))
    assert runnable(graph) is graph
