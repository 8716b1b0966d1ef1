"""Constants that dead channels leave: where they are folded, and where a border forbids it."""

from __future__ import annotations

import numpy as np
import pytest
from dead_nets import BIASED, HEAD, TAIL, WIDE, folded, net, ops
from tiny import constant, dead, prune, tiny, zero_filters

import graphslim as gs

pytestmark = pytest.mark.tf

# ------------------------------------------------------------------ a constant to be folded


def test_folds_into_bias() -> None:
    graph = net(BIASED, TAIL + "z/b = f32[3]{1 2 3}\no = BiasAdd(z, z/b)\n")
    slim = folded(graph, {"a": [2]})
    moved = constant(slim, "z/b") - [1, 2, 3]
    np.testing.assert_allclose(moved, 2 * constant(graph, "z/w")[0, 0, 2], rtol=1e-6)


NORM = """
n/s = f32[3]{0.5 2 -1}
n/m = f32[3]{0.1 0.2 0.3}
n/v = f32[3]{1 2 0.5}
n/b = f32[3]{1 2 3}
"""


def test_folds_into_batch_norm_through_an_identity() -> None:
    tail = TAIL + NORM + "i = Identity(z)\no = FusedBatchNorm(i, n/s, n/b, n/m, n/v)\n"
    slim = folded(net(BIASED, tail), {"a": [2]})
    for name, before in (("n/s", [0.5, 2, -1]), ("n/m", [0.1, 0.2, 0.3]), ("n/v", [1, 2, 0.5])):
        np.testing.assert_array_equal(constant(slim, name), np.float32(before))
    assert (constant(slim, "n/b") != [1, 2, 3]).all()


@pytest.mark.parametrize("shape", ["3", "1,1,1,3", "1,3"])
@pytest.mark.parametrize("operands", ["z, z/b", "z/b, z"])
def test_folds_into_a_sum_with_a_constant(shape: str, operands: str) -> None:
    graph = net(BIASED, TAIL + f"z/b = f32[{shape}]{{1 2 3}}\no = AddV2({operands})\n")
    assert constant(folded(graph, {"a": [2]}), "z/b").shape == constant(graph, "z/b").shape


SPELLED = """
n/e = f32[]{0.001}
n/ve = AddV2(n/v, n/e)
n/r = Rsqrt(n/ve)
n/k = Mul(n/r, n/s)
n/mk = Mul(n/m, n/k)
n/o = Sub(n/b, n/mk)
zk = Mul(z, n/k)
o = AddV2(zk, n/o)
"""


def test_folds_into_batch_norm_spelled_out() -> None:
    slim = folded(net(BIASED, TAIL + NORM + SPELLED), {"a": [2]})
    assert (constant(slim, "n/b") != [1, 2, 3]).all()


def test_inserts_a_bias_where_there_is_no_offset() -> None:
    slim = prune(net(BIASED, TAIL + "o = Relu(z)\n"), {"a": [2]})
    assert [node.op for node in slim if node.name.startswith("z/folded")] == ["Const", "BiasAdd"]
    assert slim.inputs_of("o") == (gs.Port("z/folded"),)


def test_inserted_bias_leaves_every_reader_right() -> None:
    tail = TAIL + "o = Relu(z)\nq = Tanh(z)\nu = AddV2(o, q)\n"
    assert ops(prune(net(BIASED, tail), {"a": [2]})).count("BiasAdd") == 2


def test_output_itself_gets_no_fold() -> None:
    """The consumer is a graph output, whose name must keep its meaning: the channel stays."""
    assert dead(net(BIASED, TAIL)) == {}


def test_matmul_takes_the_fold() -> None:
    tail = """
m = i32[2]{1 2}
p = Mean(y, m) Tidx=int32 keep_dims=false
z/w = f32[4,3]{random 2}
z = MatMul(p, z/w)
o = Relu(z)
"""
    assert "BiasAdd" in ops(prune(net(BIASED, tail), {"a": [2]}))
    assert "BiasAdd" in ops(prune(net(BIASED, tail.replace("[4,3]", "[3,4]").replace(
        "z/w)", "z/w) transpose_b=true")), {"a": [2]}))  # fmt: skip


def test_flattened_constant_is_folded() -> None:
    tail = "t = i32[2]{1 144}\nf = Reshape(y, t) Tshape=int32\nz/w = f32[144,3]{random 2}\n"
    tail += "z = MatMul(f, z/w)\nz/b = f32[3]{1 2 3}\no = BiasAdd(z, z/b)\n"
    slim = folded(net(BIASED, tail), {"a": [2]})
    assert constant(slim, "z/w").shape == (108, 3)
    assert constant(slim, "t").tolist() == [1, 108]


def test_offset_shared_by_two_readers_is_not_shared_after_the_fold() -> None:
    tail = TAIL + "z/b = f32[3]{1 2 3}\no = BiasAdd(z, z/b)\nv/w = f32[1,1,2,3]{random 7}\n"
    tail += "v = Conv2D(x, v/w)\nvb = BiasAdd(v, z/b)\n"
    slim = prune(net(BIASED, tail), {"a": [2]})
    assert constant(slim, "z/b").tolist() == [1, 2, 3], "the other reader's bias was changed"
    assert len([node for node in slim if node.name.startswith("z/b")]) == 2


def test_nchw_folds_as_nhwc_does() -> None:
    """TensorFlow runs no NCHW on a CPU; the constants have to be those of the NHWC twin."""
    tail = TAIL + NORM + "o = FusedBatchNorm(z, n/s, n/b, n/m, n/v)\n"
    nhwc = net(BIASED, tail)
    text = (HEAD + BIASED + tail).replace("1,6,6,2", "1,2,6,6")
    lines = [
        line + ' data_format="NCHW"'
        if "Conv2D(" in line or "BiasAdd(" in line or "Norm(" in line
        else line
        for line in text.splitlines()
    ]
    nchw = zero_filters(tiny("\n".join(lines)), "a/w", 3, [2])
    slim = [gs.apply(graph, gs.plan(graph)) for graph in (nhwc, nchw)]
    for node in slim[0]:
        if node.op == "Const":
            np.testing.assert_array_equal(
                constant(slim[0], node.name), constant(slim[1], node.name)
            )
    assert constant(slim[1], "a/w").shape == (1, 1, 2, 3)


def test_nchw_per_row_constant_takes_no_fold() -> None:
    """A constant of as many rows as there are channels is no offset of channels."""
    row = "x = input 1,3,3,2\n" + HEAD.replace("x = input 1,6,6,2\n", "")
    for op in ("AddV2", "Mul"):
        text = row + BIASED + TAIL + f"z/r = f32[3,1]{{1 2 3}}\no = {op}(z, z/r)\n"
        graph = zero_filters(tiny(text), "a/w", 3, [2])
        slim = prune(graph, {"a": [2]})
        assert constant(slim, "z/r").tolist() == [[1], [2], [3]]


# ------------------------------------------------------------------ borders


def test_border_keeps_a_constant_under_same_padding() -> None:
    assert dead(net(BIASED, WIDE % "")) == {}
    prune(net(BIASED, WIDE % ""), {})


def test_border_lets_zero_go() -> None:
    """Bias -1 under a Relu is zero at the border and inside."""
    prune(net(BIASED + "r = Relu(y)\n", WIDE.replace("(y", "(r") % "", kill=1), {"a": [1]})


@pytest.mark.parametrize("more", ["", " dilations=[1,2,2,1]", " strides=[1,2,2,1]"])
def test_valid_padding_folds(more: str) -> None:
    prune(net(BIASED, WIDE % (' padding="VALID"' + more)), {"a": [2]})


def test_strided_pointwise_sees_no_border() -> None:
    tail = TAIL.replace("z/w)", "z/w) strides=[1,2,2,1]") + "o = Relu(z)\n"
    prune(net(BIASED, tail), {"a": [2]})


def test_pad_before_a_valid_convolution_keeps_a_constant() -> None:
    pad = "p = i32[4,2]{0 0 1 1 1 1 0 0}\nq = Pad(y, p) Tpaddings=int32\n"
    tail = WIDE.replace("(y", "(q") % ' padding="VALID"'
    prune(net(BIASED + pad, tail), {})


def test_pad_with_the_constant_itself_folds() -> None:
    pad = "p = i32[4,2]{0 0 1 1 1 1 0 0}\nc = f32[]{2}\nq = PadV2(y, p, c) Tpaddings=int32\n"
    tail = WIDE.replace("(y", "(q") % ' padding="VALID"'
    prune(net(BIASED + pad, tail), {"a": [2]})


def test_mirrored_constant_folds() -> None:
    pad = "p = i32[4,2]{0 0 1 1 1 1 0 0}\n"
    pad += 'q = MirrorPad(y, p) Tpaddings=int32 mode="REFLECT"\n'
    prune(net(BIASED + pad, WIDE.replace("(y", "(q") % ' padding="VALID"'), {"a": [2]})


def test_depthwise_border_under_same_padding_keeps_a_constant() -> None:
    deep = (
        BIASED.replace("y =", "q =")
        + "d/w = f32[3,3,4,1]{random 3}\ny = DepthwiseConv2dNative(q, d/w)\n"
    )
    prune(net(deep, TAIL + "o = Relu(z)\n"), {})
    prune(
        net(deep.replace("q, d/w)", 'q, d/w) padding="VALID"'), TAIL + "o = Relu(z)\n"), {"a": [2]}
    )


def test_space_to_batch_pads_with_zeros() -> None:
    """Around a dilated depthwise convolution v = 0 goes and v != 0 stays."""
    dilated = """
n = i32[2]{2 2}
p = i32[2,2]{2 2 2 2}
c = i32[2,2]{0 0 0 0}
s = SpaceToBatchND(r, n, p)
d/w = f32[3,3,4,1]{random 3}
d = DepthwiseConv2dNative(s, d/w) padding="VALID"
t = BatchToSpaceND(d, n, c)
"""
    tail = TAIL.replace("(y", "(t") + "o = Relu(z)\n"
    prune(net(BIASED + "r = Relu(y)\n" + dilated, tail, kill=2), {})
    prune(net(BIASED + "r = Relu(y)\n" + dilated, tail, kill=1), {"a": [1]})


@pytest.mark.parametrize("kill", [0, 2])
def test_weights_that_are_filled_with_one_number_are_folded_with(kill: int) -> None:
    tail = "n = i32[4]{1 1 4 3}\nv = f32[]{0.5}\nz/w = Fill(n, v)\nz = Conv2D(y, z/w)\n"
    tail += "z/b = f32[3]{1 2 3}\no = BiasAdd(z, z/b)\n"
    slim = folded(net(BIASED, tail, kill), {"a": [kill]})
    shift = 0.5 * constant(tiny(HEAD), "a/b")[kill]
    np.testing.assert_allclose(constant(slim, "z/b"), np.add([1, 2, 3], shift), rtol=1e-6)


# ------------------------------------------------------------------ an offset that is an output


@pytest.mark.parametrize(
    "offset, name, output",
    [
        ("", "z/b", "z/b"),
        ("i = Identity(z/b)\n", "i", "i"),
        ("i = Identity(z/b)\n", "i", "z/b"),
        ("k = f32[3]{1 1 1}\ni = Sub(z/b, k)\n", "i", "i"),
        ("k = f32[3]{1 1 1}\ni = Sub(z/b, k)\n", "i", "z/b"),
    ],
    ids=["itself", "identity", "behind an identity", "difference", "behind a difference"],
)
def test_offset_that_is_an_output_keeps_its_numbers(offset: str, name: str, output: str) -> None:
    tail = f"z/b = f32[3]{{1 2 3}}\n{offset}o = BiasAdd(z, {name})\n"
    graph = net(BIASED, TAIL + tail)
    graph.outputs = [*graph.outputs, gs.Port(output)]
    slim = prune(graph, {"a": [2]})
    np.testing.assert_array_equal(constant(slim, "z/b"), [1, 2, 3])


def test_offset_of_a_fused_op_that_is_fed_takes_no_fold() -> None:
    tail = "z/w = f32[1,1,4,3]{random 2}\nz/b = f32[3]{1 2 3}\n"
    tail += 'z = _FusedConv2D(y, z/w, z/b) fused_ops=["BiasAdd"] padding="VALID"\no = Relu(z)\n'
    graph = net(BIASED, tail)
    graph.inputs = [*graph.inputs, "z/b"]
    slim = gs.apply(graph, gs.plan(graph))
    np.testing.assert_array_equal(constant(slim, "z/b"), [1, 2, 3])
    assert slim[slim.inputs_of("z")[2].node].op == "AddV2"
