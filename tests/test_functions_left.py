"""Calls that stay as they are, what becomes of the library, and graphs made by TensorFlow."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from function_lab import (
    F32,
    Lab,
    calls,
    check,
    put,
    relu_conv,
)
from tiny import pins

import graphslim as gs
from graphslim.errors import LoadError
from graphslim.graphdef import inline, load, serialize
from graphslim.graphdef.body import FIRST, OUTPUTS, port_of
from graphslim.ir import Func

# ---------------------------------------------------------------------- calls that stay


def test_recursion_stays_and_says_so() -> None:
    lab = Lab()
    kinds: Dict[str, Any] = {"Tin": [F32], "Tout": [F32]}
    for name, other in (("f", "g"), ("g", "f")):
        body = lab.function(name, ["t"], {"r": "again:output:0"})
        put(body, "again", "PartitionedCall", "t", f=Func(other), **kinds)
    whole, flat = lab.end(lab.call("c", "f", "a"))
    assert serialize(flat) == serialize(whole)
    assert pins(flat, "a") == "it enters a function that could not be inlined: f @ c"


@pytest.mark.parametrize(
    "op, text",
    [
        ("NobodyKnowsThis", "odd:second:0"),
        ("FusedBatchNorm", "odd:x:0"),
        ("FusedBatchNorm", "odd:y:1"),
        ("Neg", "odd:y"),
        ("Neg", "missing:y:0"),
        ("Neg", "t:4"),
    ],
)
def test_an_output_that_cannot_be_followed_leaves_the_call(op: str, text: str) -> None:
    lab = Lab()
    relu_conv(lab, "g")
    body = lab.function("f", ["t"], {"r": text})
    put(body, "odd", op, "t", T=F32)
    lab.call("d", "g", "a")
    whole, flat = lab.end(lab.call("c", "f", "d"))
    assert flat["c"].op == "PartitionedCall" and "d" not in flat
    assert [one.signature.name for one in gs.to_graph_def(flat).library.function] == ["f"]


def test_arguments_that_do_not_fit_leave_the_call() -> None:
    lab = Lab()
    relu_conv(lab)
    assert calls(lab.end(lab.call("c", "f", "a", "a"))[1]) == ["c"]
    lab.proto.library.function[0].signature.output_arg.add(name="s", type_attr="nobody")
    lab.proto.library.function[0].ret["s"] = "t"
    assert calls(load(lab.proto)) == ["c"]


def test_a_call_in_a_loop_stays() -> None:
    lab = Lab()
    relu_conv(lab)
    put(lab.node, "enter", "Enter", "a", T=F32, frame_name=b"loop")
    lab.call("inside", "f", "enter")
    put(lab.node, "exit", "Exit", "inside", T=F32)
    lab.call("behind", "f", "exit")
    lab.call("before", "f", "a")
    put(lab.node, "y", "Add", "behind", "before", T=F32)
    graph = load(lab.proto)
    assert calls(graph) == ["inside"]
    assert "While loop" in pins(graph, "a")


def test_functions_that_double_at_every_level_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline, "_MOST_NODES", 200)
    lab = Lab()
    relu_conv(lab, "f0")
    kinds: Dict[str, Any] = {"Tin": [F32], "Tout": [F32]}
    for level in range(1, 40):
        body = lab.function(f"f{level}", ["t"], {"r": "two:output:0"})
        inner = Func(f"f{level - 1}")
        put(body, "one", "PartitionedCall", "t", f=inner, **kinds)
        put(body, "two", "PartitionedCall", "one:output:0", f=inner, **kinds)
    graph = lab.end(lab.call("c", "f39", "a"))[1]
    assert len(graph) < 500 and calls(graph)
    assert pins(graph, "a").startswith("it enters a function that could not be inlined")


# ---------------------------------------------------------------------- the library


def test_a_library_that_is_not_called_comes_back_byte_for_byte() -> None:
    lab = Lab()
    relu_conv(lab)
    put(lab.node, "y", "Relu", "a", T=F32)
    data = lab.proto.SerializeToString(deterministic=True)
    assert serialize(load(lab.proto)) == data


def test_only_functions_that_nothing_refers_to_are_dropped() -> None:
    lab = Lab()
    for name in ("called", "shared", "gradient", "unrelated", "kept"):
        relu_conv(lab, name)
    outer = lab.function("outer", ["t"], {"r": "one:output:0"})
    kinds: Dict[str, Any] = {"Tin": [F32], "Tout": [F32]}
    put(outer, "one", "PartitionedCall", "t", f=Func("called"), **kinds)
    put(outer, "two", "PartitionedCall", "t", f=Func("shared"), **kinds)
    lab.proto.library.gradient.add(function_name="called", gradient_func="gradient")
    put(lab.node, "loop", "While", "a", body=Func("kept"), cond=Func("shared"), T=[F32])
    put(lab.node, "y", "Add", "loop", lab.call("c", "outer", "a"), T=F32)
    before = {one.signature.name: one for one in lab.proto.library.function}
    after = gs.to_graph_def(load(lab.proto)).library
    assert [one.signature.name for one in after.function] == ["shared", "unrelated", "kept"]
    assert all(one == before[one.signature.name] for one in after.function)
    assert not after.gradient


def test_a_damaged_library_is_refused() -> None:
    lab = Lab()
    relu_conv(lab)
    lab.call("c", "f", "a")
    data = lab.proto.SerializeToString(deterministic=True)
    broken = data.replace(b"\n\x04conv", b"\xff\x04conv")
    assert broken != data
    with pytest.raises(LoadError, match="damaged"):
        load(_Message(broken))


class _Message:
    """What looks like a message and has these bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def SerializeToString(self, **_: Any) -> bytes:  # noqa: N802
        return self.data


# ---------------------------------------------------------------------- names of outputs


def test_ports_by_name() -> None:
    assert port_of("Split", "output", 3) == 3
    assert port_of("Merge", "value_index", 0) == 1
    with pytest.raises(KeyError):
        port_of("ACustomOp", "mask", 0)


@pytest.mark.tf
def test_names_of_outputs_are_those_of_tensorflow() -> None:
    """What the table says is so, and no op outside it has such a name further back."""
    registry = _registry()
    for op, outputs in OUTPUTS.items():
        if op in registry:
            assert registry[op] == [(name, False) for name in outputs], op
    assert sum(op in registry for op in OUTPUTS) > 60
    wrong = {
        op: name
        for op, outputs in registry.items()
        for name, _ in outputs[1:]
        if op not in OUTPUTS and name in FIRST
    }
    assert wrong == {}


def _registry() -> Dict[str, List[Tuple[str, bool]]]:
    """The outputs of TensorFlow's ops: name, and whether it is a list."""
    import tensorflow as tf
    from tensorflow.core.framework import op_def_pb2

    if tf.__version__.startswith("1."):
        from tensorflow.python import pywrap_tensorflow as wrapped
    else:
        from tensorflow.python.client import pywrap_tf_session as wrapped
    ops = op_def_pb2.OpList.FromString(wrapped.TF_GetBuffer(wrapped.TF_GetAllOpList()))
    return {
        op.name: [(arg.name, bool(arg.number_attr or arg.type_list_attr)) for arg in op.output_arg]
        for op in ops.op
    }


# ---------------------------------------------------------------------- frozen by TensorFlow


def _layers(tf: Any, seed: int) -> Any:
    rng = np.random.RandomState(seed)
    kernel = tf.constant(rng.randn(3, 3, 8, 8).astype(np.float32))
    vector = tf.constant(rng.rand(8).astype(np.float32) + 1)

    def layers(x: Any) -> Any:
        y = tf.nn.conv2d(x, kernel, strides=[1, 1, 1, 1], padding="SAME")
        parts = tf.split(y, 2, axis=3)
        y = tf.concat([tf.nn.relu(parts[1]), parts[0]], axis=3)
        norm = tf.compat.v1.nn.fused_batch_norm(
            y, vector, vector, vector, vector, 0.1, "NHWC", False
        )
        return norm[0] + x

    return layers


@pytest.mark.tf
def test_functions_of_tensorflow_1() -> None:
    import tensorflow as tf

    if not tf.__version__.startswith("1."):
        pytest.skip("Defun is of TensorFlow 1")
    from tensorflow.python.framework import function

    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [1, 6, 6, 8], name="x")

        @function.Defun(tf.float32)
        def block(y: Any) -> Any:
            return _layers(tf, 1)(y)

        @function.Defun(tf.float32)
        def twice(y: Any) -> Any:
            return block(block(y)), _layers(tf, 2)(y)

        first = tf.nn.conv2d(x, _kernel(tf, 3), strides=[1, 1, 1, 1], padding="SAME")
        a, b = twice(first)
        tf.nn.conv2d(a - b, _kernel(tf, 4), strides=[1, 1, 1, 1], padding="SAME", name="z")
        proto = graph.as_graph_def()
    flat = check((load(proto, inline=False), load(proto)))
    assert not gs.to_graph_def(flat).library.function


@pytest.mark.tf
def test_functions_of_tensorflow_2() -> None:
    import tensorflow as tf

    if tf.__version__.startswith("1."):
        pytest.skip("tf.function of TensorFlow 2")
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    kernels = [tf.Variable(_kernel(tf, seed)) for seed in (3, 4)]
    apart = {"experimental_attributes": {"_noinline": True}}
    block = tf.function(_layers(tf, 1), **apart)
    third = tf.function(_layers(tf, 2), **apart)

    @tf.function(**apart)
    def twice(y: Any) -> Any:
        return block(block(y)), third(y)

    def network(x: Any) -> Any:
        a, b = twice(tf.nn.conv2d(x, kernels[0], strides=1, padding="SAME"))
        return tf.nn.conv2d(a - b, kernels[1], strides=1, padding="SAME")

    call = tf.function(network).get_concrete_function(tf.TensorSpec((1, 6, 6, 8), name="x"))
    frozen = convert_variables_to_constants_v2(
        call, lower_control_flow=False, aggressive_inlining=False
    )
    proto = frozen.graph.as_graph_def()
    whole, flat = load(proto, inline=False), load(proto)
    assert calls(whole), "TensorFlow inlined it itself"
    # TensorFlow fuses bias and activation inside the functions that it runs, not outside.
    check((whole, flat), tolerance=1e-6)
    assert not calls(flat) and not gs.to_graph_def(flat).library.function


def _kernel(tf: Any, seed: int) -> Any:
    return tf.constant(np.random.RandomState(seed).randn(1, 1, 8, 8).astype(np.float32))
