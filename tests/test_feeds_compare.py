"""Inputs made up or read from files, and the comparison of outputs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphslim import runtime
from graphslim.errors import GraphslimError, RuntimeUnavailable, VerifyError
from graphslim.ir import Graph, Node
from graphslim.measure import feeds
from graphslim.measure.agreement import Agreement
from graphslim.measure.feeds import random_feeds
from graphslim.measure.fidelity import difference
from graphslim.measure.inputs import range_of
from graphslim.measure.verify import verify
from graphslim.support.importing import install_hint
from graphslim.testing import from_text


def fed(shape: str = "<?,8,6,3>", dtype: str = "float32", rest: str = "") -> Graph:
    rest = rest or "y = Identity(x)"
    return from_text(f"x = Placeholder() dtype={dtype} shape={shape}\n{rest}")


# ------------------------------------------------------------------- random feeds


def test_the_same_seed_gives_the_same_data() -> None:
    one, same, other = (random_feeds(fed(), seed)["x"] for seed in (3, 3, 4))
    assert (one == same).all() and (one != other).any()


def test_batch_and_open_sizes() -> None:
    assert random_feeds(fed(), batch=5)["x"].shape == (5, 8, 6, 3)
    assert random_feeds(fed("<2,8,6,3>"), batch=5)["x"].shape == (2, 8, 6, 3)
    assert random_feeds(fed("<?,?,?,3>"))["x"].shape == (1, 224, 224, 3)
    assert random_feeds(fed("<?,7>"), batch=2)["x"].shape == (2, 7)


@pytest.mark.parametrize("shape", ["<?,?>", "<*>", "<1,4,?>"])
def test_sizes_that_stay_open_are_told(shape: str) -> None:
    with pytest.raises(GraphslimError, match="input x: its shape .*open.*input_shapes=..x.: "):
        random_feeds(fed(shape))


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("uint8", 0, 255), ("int32", 0, 255), ("int8", -128, 127), ("int64", 0, 255)],
)
def test_integers_stay_in_the_range_of_pixels_and_type(dtype: str, low: int, high: int) -> None:
    data = random_feeds(fed("<1,32,32,3>", dtype))["x"]
    assert data.dtype == np.dtype(dtype)
    assert low <= data.min() < low + 100 and high - 100 < data.max() <= high


def test_booleans_are_false_and_half_stays_half() -> None:
    assert not random_feeds(fed("<3>", "bool"))["x"].any()
    assert random_feeds(fed("<3>", "float16"))["x"].dtype == np.float16


def test_strings_cannot_be_made_up() -> None:
    with pytest.raises(GraphslimError, match="input x: cannot make up string data.*data"):
        random_feeds(fed("<1>", "string"))


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("y = Relu(x)", (-1, 1)),
        ("k = Const() value=float32[]{0.0078125}\ny = Mul(x, k)", (0, 255)),
        ("k = Const() value=float32[]{127.5}\ny = RealDiv(x, k)", (0, 255)),
        ("k = Const() value=float32[3]{123 117 104}\ny = Sub(x, k)", (0, 255)),
        ("i = Identity(x)\nk = Const() value=float32[]{255}\ny = RealDiv(i, k)", (0, 255)),
        ("k = Const() value=float32[]{0.5}\ny = Mul(x, k)", (-1, 1)),
        ("k = Const() value=float32[]{2}\ny = Sub(x, k)", (-1, 1)),
        ("r = Relu(x)\nk = Const() value=float32[]{255}\ny = RealDiv(r, k)", (-1, 1)),
    ],
)
def test_the_range_that_a_graph_seems_to_want(rest: str, expected: Any) -> None:
    graph = fed("<1,16,16,3>", rest=rest)
    assert range_of(graph, "x")[:2] == expected
    data = random_feeds(graph)["x"]
    assert expected[0] <= data.min() and data.max() <= expected[1]
    assert data.max() - data.min() > 0.5 * (expected[1] - expected[0])


@pytest.mark.parametrize(("shape", "axes"), [("<1,64,64,3>", (1, 2)), ("<1,3,64,64>", (2, 3))])
def test_images_vary_smoothly(shape: str, axes: Any) -> None:
    data = random_feeds(fed(shape))["x"]
    for axis in axes:
        assert np.abs(np.diff(data, axis=axis)).max() < 0.3, "as rough as white noise"
    flat = random_feeds(fed("<1,4096>"))["x"]
    assert np.abs(np.diff(flat)).max() > 1


def test_feeds_import_no_tensorflow() -> None:
    assert not hasattr(feeds, "tf")


# ------------------------------------------------------------------- differences


def test_difference_is_a_share_of_the_range() -> None:
    found = difference("y", np.array([0.0, 10.0]), np.array([0.5, 10.0]))
    assert (found.absolute, found.relative, found.span) == (0.5, 0.05, 10.0)


def test_difference_without_a_range() -> None:
    assert difference("y", np.full(3, 4.0), np.full(3, 5.0)).relative == 0.25
    assert difference("y", np.zeros(3), np.ones(3)).relative == 1
    assert difference("y", np.zeros((0, 3)), np.zeros((0, 3))).absolute == 0


def test_unsigned_integers_do_not_wrap() -> None:
    found = difference("y", np.array([0, 200], np.uint8), np.array([1, 199], np.uint8))
    assert found.absolute == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_never_the_same(bad: float) -> None:
    found = difference("y", np.array([0.0, 1.0]), np.array([bad, 1.0]))
    assert found.absolute == np.inf and found.relative == np.inf
    assert not Agreement((found,), 1e9, "original").ok
    with pytest.raises(VerifyError, match="output y: is not finite in the original"):
        difference("y", np.array([bad, 1.0]), np.array([bad, 1.0]))


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (np.zeros((2, 3), np.float32), r"output y: has shape \[2, 3\] instead of \[3\]"),
        (np.zeros(3, np.float16), "output y: is of type float16 instead of float32"),
        (np.zeros(3, np.int32), "output y: is of type int32 instead of float32"),
        (np.full(3, b"a", object), "output y: is of type object instead of float32"),
    ],
)
def test_shapes_and_types_must_be_the_same(other: Any, told: str) -> None:
    with pytest.raises(VerifyError, match=told):
        difference("y", np.zeros(3, np.float32), other)


def test_strings_are_the_same_or_not() -> None:
    one = np.array([b"a", b"b"], object)
    assert difference("y", one, one.copy()).absolute == 0
    assert difference("y", one, np.array([b"a", b"c"], object)).absolute == np.inf
    assert difference("y", b"a", b"a").absolute == 0
    assert difference("y", b"a", b"longer").absolute == np.inf


def test_complex_numbers_differ_by_their_parts() -> None:
    first = np.array([[1 + 2j, 0], [3, 4j]], np.complex64)
    found = difference("y", first, first + np.complex64(0.01j))
    assert found.shape == (2, 2) and found.absolute == pytest.approx(0.01, rel=1e-4)
    assert found.relative == pytest.approx(0.01 / 4, rel=1e-4)


def test_booleans_differ_by_one() -> None:
    found = difference("y", np.array([True, False]), np.array([True, True]))
    assert (found.absolute, found.relative) == (1, 1)


def test_the_worst_output_and_the_tolerance() -> None:
    near = difference("near", np.array([0.0, 1.0]), np.array([0.01, 1.0]))
    far = difference("far", np.array([0.0, 1.0]), np.array([np.nan, 1.0]))
    assert Agreement((near, far), 1.0, "original").worst is far
    assert Agreement((near,), 0.01, "original").ok
    assert not Agreement((near,), 0.009, "original").ok


def test_json_has_no_nan_and_no_infinity() -> None:
    far = difference("far", np.array([0.0, 1.0]), np.array([np.nan, 1.0]))
    tree = json.loads(json.dumps(Agreement((far,), 0.1, "original").as_dict(), allow_nan=False))
    assert tree["ok"] is False and tree["outputs"][0]["absolute"] is None
    assert tree["outputs"][0]["shape"] == [2]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ("z = Placeholder() dtype=float32 shape=<2>\ny = Relu(z)", "its inputs are z, .* are x"),
        ("x = Placeholder() dtype=float32 shape=<2>\nz = Relu(x)", "its outputs are z, .* are y"),
        ("y = Const() value=float32[2]{1}\noutput y", "its inputs are none, .* are x"),
    ],
)
def test_signatures_must_be_the_same(other: str, told: str) -> None:
    first = from_text("x = Placeholder() dtype=float32 shape=<2>\ny = Relu(x)")
    with pytest.raises(GraphslimError, match=told):
        verify(first, from_text(other))


# ------------------------------------------------------------------- with TensorFlow

TWO_OUTPUTS = """
x = Placeholder() dtype=float32 shape=<2>
a = Relu(x) T=float32
b = Neg(x) T=float32
output {}
output {}
"""


@pytest.mark.tf
def test_outputs_are_compared_by_name_not_by_place() -> None:
    first, second = (from_text(TWO_OUTPUTS.format(*order)) for order in (("a", "b"), ("b", "a")))
    agreement = verify(first, second)
    assert [one.name for one in agreement.outputs] == ["a", "b"]
    assert agreement.worst.absolute == 0


@pytest.mark.tf
def test_a_difference_is_found() -> None:
    first = from_text("x = Placeholder() dtype=float32 shape=<4>\ny = Relu(x) T=float32")
    second = from_text("x = Placeholder() dtype=float32 shape=<4>\ny = Neg(x) T=float32")
    assert verify(first, first).ok
    assert not verify(first, second).ok


@pytest.mark.tf
def test_a_graph_that_names_another_device_runs() -> None:
    graph = from_text("x = Placeholder() dtype=float32 shape=<4>\ny = Relu(x) T=float32")
    y = graph["y"]
    graph.replace(Node("y", "Relu", y.attrs.copy(), "/device:GPU:0"), graph.inputs_of("y"))
    assert verify(graph, graph).ok


@pytest.mark.tf
def test_what_tensorflow_refuses_is_told() -> None:
    graph = from_text("x = Placeholder() dtype=float32 shape=<4>\ny = NoSuchOp(x) T=float32")
    with pytest.raises(VerifyError, match="does not know NoSuchOp.*--no-verify"):
        verify(graph, graph)
    graph = from_text("x = Placeholder() dtype=float32 shape=<4>\ny = Relu(x) T=float32")
    with pytest.raises(VerifyError, match="does not run"):
        verify(graph, graph, feeds={"x": np.zeros((3, 3, 3), np.float32)})
    with pytest.raises(VerifyError, match="does not run"):
        verify(graph, graph, feeds={"gone": np.zeros(4, np.float32)})


def test_tensorflow_missing_is_told(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert not runtime.available()
    graph = from_text("x = Placeholder() dtype=float32 shape=<4>\ny = Relu(x) T=float32")
    with pytest.raises(RuntimeUnavailable, match=re.escape(install_hint("tf"))):
        verify(graph, graph)


def test_a_broken_tensorflow_is_told(monkeypatch: Any, tmp_path: Path) -> None:
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise OSError('no AVX')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorflow"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(RuntimeUnavailable, match="TensorFlow does not load: no AVX"):
        runtime.tensorflow()
