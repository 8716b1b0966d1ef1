"""Delivery: formats by name, what converters are asked, what is run, and what is not written."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import pytest
from command import Run
from tiny import tiny

import graphslim as gs
from graphslim.delivery import check as checking
from graphslim.delivery import converter as converting
from graphslim.delivery import run as delivering
from graphslim.delivery.check import Losses, refuse
from graphslim.delivery.child import answer, missing_ops
from graphslim.delivery.converter import Converter, reason
from graphslim.delivery.formats import (
    GRAPH,
    ONNX,
    SAVED_MODEL,
    TFLITE,
    Package,
    Wish,
    check_wish,
    format_of_target,
)
from graphslim.delivery.prepare import prepared
from graphslim.engines import open_runner
from graphslim.errors import EmitError, GraphslimError, RuntimeUnavailable, VerifyError
from graphslim.measure.agreement import Agreement
from graphslim.measure.fidelity import OutputDifference
from graphslim.measure.models import alike
from graphslim.runtime import version

NETWORK = """
image = input ?,8,8,3
w = f32[3,3,3,8]{random 1}
c = Conv2D(image, w)
r = Relu6(c)
v = f32[3,3,8,1]{random 2}
d = DepthwiseConv2dNative(r, v)
s = Relu6(d)
u = f32[1,1,8,6]{random 3}
e = Conv2D(s, u)
axes = i32[2]{1 2}
m = Mean(e, axes) keep_dims=false
k = f32[6,4]{random 4}
logits = MatMul(m, k)
probs = Softmax(logits)
scores = Relu(logits)
output probs
output scores
"""
OLD = version().startswith("1.")


@pytest.fixture
def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    converter: Converter,
) -> Run:
    """Runs commands in a folder with the network and images of it, by one converter for all."""
    monkeypatch.setattr(delivering, "Converter", lambda: contextlib.nullcontext(converter))
    command = Run(tmp_path, capsys, monkeypatch)
    gs.save(tiny(NETWORK), "m.pb")
    rng = np.random.RandomState(0)
    np.savez("x.npz", image=rng.uniform(-1, 1, (12, 8, 8, 3)).astype(np.float32))
    return command


# ------------------------------------------------------------------ names and options


def test_the_format_by_the_name(tmp_path: Path) -> None:
    names = {
        **{"a.tflite": TFLITE, "a.LITE": TFLITE, "a.onnx": ONNX, "a/": SAVED_MODEL},
        **{"a.pb": GRAPH, "a.pbtxt": GRAPH, "a": GRAPH, "a-0.5": GRAPH, str(tmp_path): SAVED_MODEL},
    }
    assert {name: format_of_target(name) for name in names} == names


@pytest.mark.parametrize(
    ("path", "wish", "told"),
    [
        ("a.onnx", Wish("int8"), "--quantize int8: is for TensorFlow Lite models"),
        ("a.pb", Wish(select_tf_ops=True), "--select-tf-ops: is for TensorFlow Lite models"),
        ("a.tflite", Wish("int4"), "no quantisation 'int4'"),
        ("a.tflite", Wish("float16", "int8"), "--io int8: is for integer models"),
        ("a.tflite", Wish(None, random_calibration=True), "--random-calibration: is for integer"),
        ("a.tflite", Wish("int8"), "needs real inputs"),
        ("a.tflite", Wish("int8", "uint8", True), "--io: no element type 'uint8'"),
    ],
)
def test_options_that_do_not_fit(path: str, wish: Wish, told: str) -> None:
    with pytest.raises(GraphslimError) as caught:
        check_wish(path, wish, has_data=False)
    assert told in caught.value.told


def test_a_folder_of_other_things_is_kept(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "notes.txt").write_text("mine", encoding="utf-8")
    assert "other things than a SavedModel" in run("export m.pb -o own", status=2).err
    assert "does not exist" in run("export m.pb -o not/there/", status=2).err
    assert os.listdir("own") == ["notes.txt"]


def test_a_saved_model_is_replaced_and_files_beside_it_stay(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "variables/variables.index", "README"):
        (folder / name).write_bytes(b"old")
    with Package(str(folder), SAVED_MODEL, {"saved_model.pb": b"new", "assets/a": b"1"}).placing():
        pass
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}
    assert files == {"saved_model.pb": b"new"}
    assert sorted(os.listdir(folder)) == ["README", "assets", "saved_model.pb"]


# ------------------------------------------------------------------ before the converter


def test_sizes_that_a_format_wants() -> None:
    open_sizes = tiny(NETWORK.replace("?,8,8,3", "?,?,?,3"))
    with pytest.raises(GraphslimError) as caught:
        prepared(open_sizes, TFLITE)
    assert "--input-shape image=1,224,224,3" in caught.value.told
    lite = prepared(tiny(NETWORK), TFLITE)
    assert lite.graph["image"].attrs["shape"].dims == (1, 8, 8, 3)
    assert "batch is fixed at 1" in lite.notes[0]
    assert prepared(tiny(NETWORK), ONNX).graph["image"].attrs["shape"].dims == (None, 8, 8, 3)


def test_the_names_of_a_signature_are_those_of_the_file() -> None:
    graph = tiny(NETWORK)
    graph.signature = {"inputs": {"picture": "image"}, "outputs": {"classes": "probs"}}
    ready = prepared(graph, ONNX)
    assert ready.graph.inputs == ["picture"] and "image" not in ready.graph
    assert ready.outputs == (("classes", "probs"), ("scores", "scores"))


# ------------------------------------------------------------------ what converters say


def test_an_abort_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    code = r"import os; os.write(2, b'F tensorflow: Check failed: a != b\nAborted\n'); os.abort()"
    monkeypatch.setattr(converting, "_CODE", code)
    with Converter() as broken, pytest.raises(EmitError) as caught:
        broken.convert("tflite", "a.tflite", {"definition": bytes(1 << 20)})
    assert "a.tflite: the converter aborted: F tensorflow: Check failed: a != b" in str(
        caught.value
    )


def test_files_of_the_current_folder_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path / "a path that is no text"])
    with Converter() as converter, pytest.raises(EmitError, match="the converter fails: 'gif'"):
        converter.convert("gif", "a.gif", {})


def test_what_a_converter_raises_is_one_line() -> None:
    name, what, _, _ = answer("saved model", {"definition": b"\xff"})
    assert name == "EmitError" and "the converter fails" in what
    text = "Traceback (most recent call last):\n  File x\n\nno kernel for Foo\nmore"
    assert [reason(text, place) for place in (0, -1)] == ["no kernel for Foo", "more"]
    log = "See console\n2026-01-02 03:04:05.6: F a/toco.cc:7] Check failed: x\nAborted\nmore"
    assert reason(log, 0) == reason(log, -1) == "Check failed: x" and not reason("Aborted", -1)


@pytest.mark.parametrize(
    ("text", "ops", "known"),
    [
        ("error\nFlex ops: FlexErf, FlexRoll\nDetails", ["Erf", "Roll"], True),
        ("Flex ops: FlexErf\nCustom ops: Own\n", ["Own"], False),
        ("'tf.Own' op is neither a custom op nor a flex op", ["Own"], True),
        ("need custom implementations: A, B.\nTraceback", ["A", "B"], True),
        ("something else", [], True),
    ],
)
def test_missing_ops(text: str, ops: List[str], known: bool) -> None:
    assert missing_ops(text) == (ops, known)


# ------------------------------------------------------------------ what may be lost


def losses(
    loss: float, original: Optional[float], judged: bool = True, decision: Optional[str] = None
) -> Losses:
    def agreement(relative: float) -> Agreement:
        outputs = (OutputDifference("y", (1, 4), relative, relative, 1.0, decision=decision),)
        return Agreement(outputs, 1e-4, "TensorFlow", examples=8, random=True)

    reference = None if original is None else agreement(original)
    return Losses(agreement(loss), reference, judged, "Runtime 1")


def test_what_the_original_loses_is_no_fault_of_the_result() -> None:
    assert losses(1.3e-4, None).refused is not None
    assert losses(1.3e-4, 1.3e-4).refused is None
    assert losses(6e-4, 1.3e-4).refused is not None
    assert losses(0.03, 0.0, decision="classes").refused is None
    assert losses(0.3, 0.0, decision="classes").refused is not None
    assert losses(0.5, 0.5, judged=False).refused is None
    with pytest.raises(VerifyError, match="it is the converter that does not fit this graph"):
        refuse(losses(42, 42), "a")
    assert losses(np.inf, 0.5, judged=False).refused is not None
    with pytest.raises(VerifyError, match=r"a: in Runtime 1 it differs by 0\.3 of the range of y"):
        refuse(losses(0.3, None), "a")


def test_a_caution_about_quantised_models() -> None:
    assert losses(0.01, 0.01, False).caution is None
    for original, told in ((0.5, "both"), (0.01, "much more than the original"), (None, "result")):
        assert told in str(losses(0.5, original, False).caution)
    assert "the original, converted alike: 54 %" in losses(0.5, 0.54, False).sentence()


def test_integers_of_other_sizes_are_compared() -> None:
    wanted, floats = np.zeros(2, np.int64), np.zeros(2, np.float32)
    assert alike(np.zeros(2, np.int32), wanted).dtype == np.int64
    assert alike(floats, wanted) is floats


# ------------------------------------------------------------------ for real


def test_prune_to_an_integer_model(run: Run) -> None:
    chosen = "--criterion l1 --ratio 0.5 --multiple-of 1"
    found = run(f"prune m.pb -o slim.tflite {chosen} --data x.npz --quantize int8")
    assert "TensorFlow Lite model, int8 with float inputs and outputs" in found.out
    assert "error / variation, original" in found.out and "Written to slim.tflite" in found.out
    with open_runner("slim.tflite") as runner:
        assert [tensor.name for tensor in runner.inputs] == ["image"]
        assert [tensor.name for tensor in runner.outputs] == ["probs", "scores"]
        assert runner.inputs[0].shape == (1, 8, 8, 3) and runner.inputs[0].scale is None


def test_integer_inputs_and_outputs(run: Run) -> None:
    words = "export m.pb -o m.tflite --quantize int8 --io int8 --random-calibration --json"
    if OLD:  # its quantiser leaves one of two readers of a tensor as it is
        assert "leave out --io int8" in run(words, status=2).err
        words += " --outputs probs"
    tree = json.loads(run(words).out)
    assert tree["delivered"]["io"] == "int8" and tree["delivered"]["verified"]["ok"]
    with open_runner("m.tflite") as runner:
        assert {tensor.dtype for tensor in (*runner.inputs, *runner.outputs)} == {np.dtype(np.int8)}


@pytest.mark.parametrize("quantize", [None, "dynamic", "float16"])
def test_floats_in_tensorflow_lite(run: Run, quantize: Optional[str]) -> None:
    delivery = gs.export(gs.load("m.pb"), "m.tflite", quantize=quantize)
    assert delivery is not None and delivery.losses is not None
    assert delivery.losses.refused is None and delivery.losses.judged == (quantize != "dynamic")
    assert os.path.getsize("m.tflite") == delivery.package.size


def test_onnx_and_saved_model(run: Run) -> None:
    assert "the original, converted alike" in run("optimize m.pb -o m.onnx").out
    run("plan m.pb -o p.json --criterion l1 --ratio 0.5 --multiple-of 1")
    found = run("apply m.pb p.json -o slim/ --json")
    delivered = json.loads(found.out)["delivered"]
    assert delivered["format"] == SAVED_MODEL and delivered["size"][0] > delivered["size"][1]
    run("export slim -o again.onnx --input-shape 2,8,8,3")
    for path, shape in (("m.onnx", (None, 8, 8, 3)), ("again.onnx", (2, 8, 8, 3))):
        with open_runner(path) as runner:
            assert [tensor.name for tensor in runner.inputs] == ["image"]
            assert [tensor.name for tensor in runner.outputs] == ["probs", "scores"]
            assert runner.inputs[0].shape == shape
    assert "is the input itself" in run("export slim -o slim/", status=2).err
    assert gs.load("slim").signature["inputs"] == {"image": "image"}


def test_what_fails_the_check_is_not_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "ACROSS", -1.0)
    monkeypatch.setattr(checking, "tolerance_of", lambda graph: -1.0)
    found = run("export m.pb -o m.onnx", status=1)
    assert "it differs by" in found.err and run.files() == ["m.pb", "x.npz"]
    assert "Not run in its runtime: --no-verify" in run("export m.pb -o m.onnx --no-verify").out


def test_a_runtime_that_is_not_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(model: Any, *args: object, **options: object) -> Any:
        raise RuntimeUnavailable("ONNX Runtime is not installed", "here", "pip install onnxruntime")

    monkeypatch.setattr(checking, "open_runner", missing)
    found = run("export m.pb -o m.onnx")
    assert "Not run in its runtime: ONNX Runtime is not installed (pip install" in found.out
    os.unlink("m.onnx")
    assert "not installed" in run("export m.pb -o m.onnx --verify", status=2).err
    assert run.files() == ["m.pb", "x.npz"]


def test_an_op_that_the_format_has_not(run: Run) -> None:
    gs.save(tiny(NETWORK.replace("Softmax", "Tan")), "m.pb")
    err = run("export m.pb -o m.tflite", status=2).err
    assert "TensorFlow Lite does not have the op Tan (leave it to TensorFlow with --sel" in err
    gs.save(tiny(NETWORK.replace("probs = Softmax(", "probs = Zeta(logits, ")), "m.pb")
    assert "the op Zeta" in run("export m.pb -o m.onnx", status=2).err
    assert run.files() == ["m.pb", "x.npz"]


def test_an_op_that_is_left_to_tensorflow(run: Run) -> None:
    gs.save(tiny(NETWORK.replace("Softmax", "Tan")), "m.pb")
    found = run("export m.pb -o m.tflite --select-tf-ops")
    assert "Not run in its runtime: the ops that it leaves to TensorFlow" in found.out


def test_a_full_disk_leaves_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Package, path: str) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Package, "put", full)
    assert "No space left" in run("export m.pb -o m.onnx", status=2).err
    assert "No space left" in run("export m.pb -o m/ --no-verify", status=2).err
    assert run.files() == ["m.pb", "x.npz"]


def test_a_graph_is_saved_as_ever(run: Run) -> None:
    assert gs.export(gs.load("m.pb"), "copy.pb") is None
    run("export m.pb -o again.pb")
    files: Dict[str, bytes] = {name: Path(name).read_bytes() for name in ("copy.pb", "again.pb")}
    assert set(files.values()) == {Path("m.pb").read_bytes()}
