"""The runtimes that run files: names, shapes, integers, refusals; bench and verify of them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Optional

import numpy as np
import pytest
from tiny import tiny

import graphslim as gs
from graphslim.cli import main
from graphslim.cli.bench import print_everywhere
from graphslim.cli.console import Console
from graphslim.delivery.child import to_onnx, to_tflite
from graphslim.delivery.converter import Converter
from graphslim.delivery.formats import TFLITE
from graphslim.delivery.prepare import prepared
from graphslim.engines import base, format_of, installed, open_runner, runtimes_of
from graphslim.engines.base import Tensor, asked_shapes, first_line, fits, plain_name
from graphslim.engines.lite_file import check_lite, try_in_copy
from graphslim.errors import GraphslimError, LoadError, RuntimeUnavailable, VerifyError
from graphslim.measure import models as measured
from graphslim.measure.fidelity import PROBABILITIES
from graphslim.measure.models import compare
from graphslim.measure.opened import Opening
from graphslim.measure.timings import LEAST, time_everywhere, time_models

NETWORK = """
image = input ?,8,8,3
w = f32[3,3,3,8]{random 1}
c = Conv2D(image, w)
r = Relu(c)
axes = i32[2]{1 2}
m = Mean(r, axes) keep_dims=false
d = f32[8,4]{random 2}
logits = MatMul(m, d)
probs = Softmax(logits)
output probs
output logits
"""
INPUTS, OUTPUTS = ["image"], ["probs", "logits"]


class Files(NamedTuple):
    """One network in each format; None where what converts to it is not installed."""

    graph: gs.Graph
    pb: Path
    lite: Optional[Path]
    int8: Optional[Path]
    onnx: Optional[Path]
    saved: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    folder = tmp_path_factory.mktemp("engines")
    graph = tiny(NETWORK)
    pb = folder / "net.pb"
    gs.save(graph, pb)
    graph.name = str(pb)
    definition = gs.serialize(prepared(graph, TFLITE).graph)
    ends = INPUTS, [(name, name) for name in OUTPUTS]
    rng = np.random.RandomState(0)
    examples = [{"image": rng.uniform(-1, 1, (1, 8, 8, 3)).astype(np.float32)} for _ in range(20)]
    lite, int8 = folder / "net.tflite", folder / "int8.tflite"
    lite.write_bytes(to_tflite(definition, *ends, None, "float", False, [])[""])
    int8.write_bytes(to_tflite(definition, *ends, "int8", "int8", False, examples)[""])
    onnx: Optional[Path] = None
    if importlib.util.find_spec("tf2onnx") is not None:
        onnx = folder / "net.onnx"
        onnx.write_bytes(to_onnx(gs.serialize(graph), *ends)[""])
    yield Files(graph, pb, lite, int8, onnx, _saved_model(graph, folder / "saved"))


def _tensorflow() -> Any:
    from graphslim.runtime import tensorflow

    return tensorflow()


def _saved_model(graph: gs.Graph, folder: Path) -> Path:
    """A SavedModel whose signature has names of its own."""
    tf = _tensorflow()
    with tf.Graph().as_default() as holder, tf.Session() as session:
        tf.import_graph_def(tf.GraphDef.FromString(gs.serialize(graph)), name="")
        inputs = {"picture": holder.get_tensor_by_name("image:0")}
        outputs = {f"the_{name}": holder.get_tensor_by_name(f"{name}:0") for name in OUTPUTS}
        tf.saved_model.simple_save(session, str(folder), inputs, outputs)
    return folder


def needs(*runtimes: str) -> Any:
    missing = [name for name in runtimes if name not in installed()]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def run(capsys: pytest.CaptureFixture, *args: object) -> Any:
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    said = capsys.readouterr()
    return stopped.value.code, said.out, said.err


# ------------------------------------------------------------------- without any runtime


def test_runtimes_by_the_name_of_a_file(tmp_path: Path) -> None:
    assert runtimes_of("a.tflite") == ("tflite", "openvino")
    assert runtimes_of("A.ONNX") == ("ort", "openvino")
    assert runtimes_of("a.pb") == ("tf", "openvino")
    assert runtimes_of("a.pbtxt") == runtimes_of("a.keras") == runtimes_of("ckpt-1") == ("tf",)
    (tmp_path / "bare").write_bytes(b"\x1c\0\0\0TFL3" + b"\0" * 20)
    assert format_of(tmp_path / "bare") == "tflite"
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    assert format_of(tmp_path / "saved") == "saved model"


def test_floats_become_the_integers_of_a_quantised_tensor() -> None:
    tensor = Tensor("x", (3,), np.dtype(np.int8), 0.5, -10)
    stored = tensor.stored(np.array([0, 1.3, 1000], np.float32))
    assert stored.dtype == np.int8 and stored.tolist() == [-10, -7, 127]
    assert tensor.real(stored).tolist() == [0, 1.5, 68.5]
    assert tensor.stored(np.array([3, 4, 5], np.int8)).tolist() == [3, 4, 5]
    plain = Tensor("x", (), np.dtype(np.float32))
    assert plain.stored(np.float64(2)).shape == () and plain.real(np.float32(2)) == 2


@pytest.mark.parametrize(
    "told, name",
    [
        ("image:0", "image"),
        ("serving_default_image:0", "image"),
        ("StatefulPartitionedCall:1", "1"),
        ("scope/out:1", "scope/out:1"),
    ],
)
def test_names_lose_what_converters_add(told: str, name: str) -> None:
    assert plain_name(told) == name


def test_shapes_fill_in_what_is_open() -> None:
    tensors = [Tensor("x", (None, 8, 8, 3), np.dtype(np.float32))]
    assert fits((None, 3), (7, 3)) and not fits((None, 3), (7, 4)) and fits(None, (1,))
    assert asked_shapes("m", tensors, {"": [2, None, None, None]}) == {"x": (2, 8, 8, 3)}
    assert asked_shapes("m", tensors, None) == {}
    for name, shape, says in (
        ("y", [1], "'y' is not an input of m"),
        ("x", [1, 9, 8, 3], "the input x has the shape ?,8,8,3"),
        ("x", [None, 8, 8, 3], "give what is open in it"),
        ("x", [8, 8, 3], "give a size for each of its 4 axes, not 3 sizes"),
    ):
        with pytest.raises(LoadError) as error:
            asked_shapes("m", tensors, {name: shape})
        assert says in str(error.value)


def test_of_what_a_runtime_raises_the_matter_itself_is_told() -> None:
    told = "Exception from src/core.cpp:84:\nCheck 'x' failed at y.cpp:3:\nFrontEnd API failed with"
    assert first_line(RuntimeError(f"{told} GeneralFailure:\nModel can't be parsed\n")) == (
        "Model can't be parsed"
    )
    text = "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from a.onnx failed:Bad bytes."
    assert first_line(ValueError(text)) == "Bad bytes."
    assert first_line(ValueError()) == "ValueError"


@pytest.mark.parametrize(
    "runtime, name, command",
    [
        ("tflite", "ai_edge_litert.interpreter", base.INSTALL["tflite"]),
        ("ort", "onnxruntime", "pip install onnxruntime"),
        ("openvino", "openvino", "pip install openvino"),
    ],
)
def test_a_missing_package_is_told_with_its_command(
    runtime: str, name: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = name.partition(".")[0]

    def missing(wanted: str) -> Any:
        raise ImportError(f"No module named {top!r}", name=top)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(RuntimeUnavailable) as error:
        base.package(name, runtime)
    assert error.value.told.endswith(f"is not installed ({command})")

    def broken(wanted: str) -> Any:
        raise OSError("libfoo.so: no such file")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(RuntimeUnavailable, match="does not load: libfoo.so"):
        base.package(name, runtime)


def test_a_damaged_lite_file_is_refused_before_a_runtime_sees_it(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    for data in (b"", b"nonsense" * 40, b"\x1c\0\0\0TFL3" + b"\xff" * 40):
        path.write_bytes(data)
        with pytest.raises(LoadError, match="no TensorFlow Lite model, or a damaged one"):
            check_lite(str(path))


def test_what_ends_the_process_is_told_of_the_file() -> None:
    def dies() -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def raises() -> None:
        raise ValueError("told by the process itself")

    for opening, seconds in ((dies, 60.0), (lambda: time.sleep(60), 0.05)):
        with pytest.raises(LoadError, match=r"m\.tflite: no TensorFlow Lite model, or a damaged"):
            try_in_copy("m.tflite", opening, seconds)
    try_in_copy("m.tflite", raises)
    try_in_copy("m.tflite", lambda: None)


@needs("tf", "tflite")
def test_files_with_damaged_bytes_end_no_process(files: Files, tmp_path: Path) -> None:
    assert files.lite is not None
    data, path, refused = files.lite.read_bytes(), tmp_path / "m.tflite", 0
    rng = np.random.RandomState(0)
    for _ in range(10):
        damaged = bytearray(data)
        for place in rng.randint(0, len(data), 4):
            damaged[place] = rng.randint(256)
        path.write_bytes(bytes(damaged))
        for runtime in [name for name in ("tflite", "openvino") if name in installed()]:
            try:
                open_runner(path, runtime).close()
            except (LoadError, VerifyError):
                refused += 1
    assert refused > 5


def test_nothing_is_imported_to_find_out_what_is_installed() -> None:
    code = (
        "import sys; from graphslim import engines; engines.installed();"
        "engines.runtimes_of('a.onnx');"
        "print([m for m in ('tensorflow', 'onnxruntime', 'openvino', 'ai_edge_litert')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert done.stdout.strip() == b"[]"


def test_probabilities_are_seen_by_their_sums() -> None:
    shares = np.array([[0.2, 0.8], [0.5, 0.49]], np.float32)
    decision = measured._decision("a.onnx", "y", shares)
    assert decision is not None and decision.kind == PROBABILITIES
    assert measured._decision("a.onnx", "y", shares * 2) is None
    assert measured._decision("a.onnx", "y", shares.astype(np.int64)) is None


# ------------------------------------------------------------------- in the runtimes


def opened(files: Files) -> List[Any]:
    """All files in all runtimes that run them and are installed."""
    paths = [path for path in (files.pb, files.lite, files.onnx, files.saved) if path is not None]
    return [
        (path, runtime) for path in paths for runtime in runtimes_of(path) if runtime in installed()
    ]


@needs("tf")
def test_every_runtime_computes_the_same(files: Files) -> None:
    image = np.random.RandomState(3).uniform(-1, 1, (1, 8, 8, 3)).astype(np.float32)
    with open_runner(files.graph) as runner:
        expected = runner.run({"image": image})
    assert list(expected) == OUTPUTS
    for path, runtime in opened(files):
        with open_runner(path, runtime) as runner:
            assert runner.runtime == runtime
            (tensor,) = runner.inputs
            assert tensor.name == ("picture" if path == files.saved else "image")
            assert tensor.dtype == np.float32 and tensor.shape is not None
            assert tensor.shape[1:] == (8, 8, 3)
            values = runner.run({tensor.name: image})
            given = runner.prepare({tensor.name: image})()
        assert len(given) == len(values)
        for name, value in values.items():
            np.testing.assert_allclose(
                value, expected[name.replace("the_", "")], atol=1e-5, err_msg=f"{path} {runtime}"
            )


@needs("tf")
def test_an_open_batch_takes_the_shape_that_is_asked_for(files: Files) -> None:
    images = np.zeros((3, 8, 8, 3), np.float32)
    for path, runtime in opened(files):
        if path == files.lite:
            continue  # it was converted with a batch of one
        with open_runner(path, runtime, inputs={"": [3, 8, 8, 3]}) as runner:
            (tensor,) = runner.inputs
            assert tensor.shape == (3, 8, 8, 3)
            assert {len(value) for value in runner.run({tensor.name: images}).values()} == {3}


@needs("tf", "tflite")
def test_integer_inputs_and_outputs_are_real_numbers_outside(files: Files) -> None:
    assert files.int8 is not None
    image = np.random.RandomState(3).uniform(-1, 1, (1, 8, 8, 3)).astype(np.float32)
    with open_runner(files.graph) as exact, open_runner(files.int8) as runner:
        (tensor,) = runner.inputs
        assert tensor.dtype == np.int8 and tensor.scale and tensor.zero_point is not None
        values, expected = runner.run({"image": image}), exact.run({"image": image})
        assert values["probs"].dtype == np.float32
        np.testing.assert_allclose(values["probs"], expected["probs"], atol=0.05)
        stored = runner.run({"image": tensor.stored(image)})
        np.testing.assert_array_equal(stored["probs"], values["probs"])


@needs("tf", "tflite")
def test_inputs_that_do_not_fit_are_refused(files: Files) -> None:
    assert files.lite is not None
    with open_runner(files.lite) as runner:
        with pytest.raises(GraphslimError, match="nothing is given for its input 'image'"):
            runner.run({"picture": np.zeros((1, 8, 8, 3))})
        with pytest.raises(GraphslimError, match=r"takes the shape \[1,8,8,3\], not \[2,8,8,3\]"):
            runner.run({"image": np.zeros((2, 8, 8, 3))})


@needs("tf", "ort")
def test_what_a_runtime_refuses_is_one_line(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"nonsense" * 30)
    with pytest.raises(VerifyError, match=r"ONNX Runtime refuses it: .*\(convert it again"):
        open_runner(path)
    with pytest.raises(LoadError, match="no such file"):
        open_runner(tmp_path / "none.onnx")
    with pytest.raises(GraphslimError, match="ONNX Runtime does not run a TensorFlow Lite model"):
        open_runner(tmp_path / "a.tflite", "ort")
    with pytest.raises(GraphslimError, match="no runtime 'trt'"):
        open_runner(path, "trt")


# ------------------------------------------------------------------- verify and bench


@needs("tf", "tflite", "ort")
def test_models_are_compared_output_by_output(files: Files) -> None:
    assert files.lite is not None and files.onnx is not None
    for first, second in (
        (files.graph, str(files.lite)),
        (str(files.onnx), files.graph),
        (str(files.lite), str(files.onnx)),
    ):
        compared = compare(first, second, Opening())
        agreement = compared.agreement
        assert agreement.ok and not agreement.same and agreement.tolerance == measured.ACROSS
        assert {output.name for output in agreement.outputs} == set(OUTPUTS)
        probs = next(output for output in agreement.outputs if output.name == "probs")
        assert probs.agreement == 1 and probs.decision == PROBABILITIES
        assert agreement.random and agreement.examples == 8 and not compared.notes
    assert gs.verify(files.graph, files.lite).ok
    assert not gs.verify(files.graph, str(files.int8)).ok
    assert gs.verify(files.graph, str(files.int8), tolerance=0.1).ok


@needs("tf", "tflite")
def test_names_that_differ(files: Files, tmp_path: Path) -> None:
    assert files.lite is not None
    graph = tiny(NETWORK.replace("output logits", "").replace("image", "photo"))
    with pytest.raises(GraphslimError, match=r"its outputs are logits, probs, and those of .*pro"):
        compare(graph, str(files.lite), Opening())
    graph = tiny(NETWORK.replace("image", "photo"))
    compared = compare(graph, str(files.lite), Opening())
    (note,) = compared.notes
    assert note.endswith("image, is taken for photo.") and compared.agreement.ok
    graph = tiny(NETWORK + "more = input 1\nsum = AddV2(logits, more)\noutput sum\n")
    with pytest.raises(GraphslimError, match="its inputs are image, and those of"):
        compare(graph, str(files.lite), Opening())


@needs("tf", "tflite")
def test_what_is_for_graphs_alone(files: Files) -> None:
    plan = gs.plan(files.graph)
    with pytest.raises(GraphslimError, match="a plan masks a graph"):
        gs.verify(str(files.lite), files.graph, plan=plan)
    with pytest.raises(GraphslimError, match="single runs are for two graphs"):
        gs.verify(files.graph, str(files.lite), feeds={})
    assert gs.verify(files.graph, str(files.lite), plan=plan).against == "masked original"


@needs("tf", "tflite", "openvino")
def test_integers_without_a_scale_are_timed_alone(files: Files) -> None:
    opening = Opening("openvino")
    with pytest.raises(GraphslimError, match="does not tell which numbers the integers of its"):
        compare(files.graph, str(files.int8), opening)
    times = time_models([files.graph, str(files.int8)], opening, runs=1, warmup=0)
    assert [timed.runtime for timed in times.models] == ["tf", "openvino"]


@needs("tf", "tflite", "ort")
def test_models_are_timed_in_turns(files: Files) -> None:
    assert files.lite is not None and files.onnx is not None
    times = time_models(
        [files.graph, str(files.lite), str(files.onnx)], Opening(), runs=3, warmup=1
    )
    assert [timed.runtime for timed in times.models] == ["tf", "tflite", "ort"]
    assert times.models[0].ratio == (1, 1, 1) and times.batch == 1
    assert [timed.size for timed in times.models] == [
        os.path.getsize(str(path)) for path in (files.pb, files.lite, files.onnx)
    ]
    tree = json.loads(json.dumps(times.as_dict()))
    assert tree["models"][1]["latency"]["median"] > 0
    many = time_models([files.graph, str(files.onnx)], Opening(), batch=32, runs=1, warmup=0)
    assert many.batch == 32
    few = time_models([files.graph, str(files.lite)], Opening(), runs=8, warmup=2, seconds=0)
    assert (few.runs, few.warmup) == (LEAST, 0)
    with pytest.raises(GraphslimError, match="its batch is fixed at 1"):
        time_models([files.graph, str(files.lite)], Opening(), batch=4)


@needs("tf", "tflite", "ort")
def test_the_commands(files: Files, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    outputs = ["--outputs", ",".join(OUTPUTS)]
    status, out, err = run(capsys, "verify", files.pb, files.onnx, *outputs)
    assert status == 0 and "same within 0.001 of their range" in out and not err
    assert f"{files.onnx} by ONNX Runtime" in out.replace("\n", " ")
    status, out, _ = run(capsys, "verify", files.lite, files.int8, "--json", "--threads", 2)
    assert status == 1
    tree = json.loads(out)
    assert len(tree["runtimes"]) == 2 and not tree["ok"]
    status, out, _ = run(
        capsys, "bench", files.pb, files.lite, files.onnx, *outputs, "--runs", 2, "--quiet"
    )
    assert status == 0 and "run by" in out and "of the first" in out and "in turns" in out
    status, out, _ = run(capsys, "bench", files.lite, files.onnx, "--runs", 2, "--quiet")
    assert status == 0 and "The second takes" in out
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"nonsense" * 30)
    for args, says in (
        (["verify", files.lite, bad], "ONNX Runtime refuses it"),
        (["bench", files.lite, bad], "ONNX Runtime refuses it"),
        (["bench", files.lite, files.int8, "--runtime", "ort"], "ONNX Runtime does not run"),
        (["verify", files.lite, files.onnx, *outputs], "names parts of a graph"),
        (["verify", files.lite, tmp_path / "none.onnx"], "no such file"),
        (["bench", files.lite, files.onnx, "--input-shape", "y=1,2"], "'y' is not an input"),
    ):
        status, out, err = run(capsys, *args)
        assert status == 2 and says in err and err.count("\n") == 1 and not out, args


@needs("tf", "tflite", "ort")
def test_a_missing_runtime_ends_a_command(
    files: Files, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = importlib.import_module

    def missing(name: str, *more: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError("No module named 'onnxruntime'", name=name)
        return usual(name, *more)

    monkeypatch.setattr(importlib, "import_module", missing)
    status, _, err = run(capsys, "bench", files.lite, files.onnx)
    assert status == 2 and "pip install onnxruntime" in err


@needs("tf", "tflite", "ort")
def test_two_graphs_in_every_runtime(files: Files, capsys: pytest.CaptureFixture) -> None:
    made: List[str] = []

    def export(graph: gs.Graph, path: str) -> None:
        made.append(os.path.basename(path))
        source = files.lite if path.endswith(".tflite") else files.onnx
        if path.endswith("second.tflite"):
            raise GraphslimError("no such op", path)
        assert source is not None and not os.path.exists(path)
        shutil.copy(str(source), path)

    runtimes = ["tf", "tflite", "ort"]
    given: Any = dict(runs=2, warmup=0, names=["a", "b"])
    times = time_everywhere(files.graph, files.graph, runtimes, export, **given)
    assert list(times.timings) == ["tf", "ort"]
    assert made == ["first.tflite", "second.tflite", "first.onnx", "second.onnx"]
    for timings in times.timings.values():
        assert [timed.name for timed in timings.models] == ["a", "b"]
    assert list(times.left_out) == ["tflite"] and "no such op" in times.left_out["tflite"]
    assert json.loads(json.dumps(times.as_dict()))["left_out"]
    print_everywhere(Console(), times)
    assert "Left out: TensorFlow Lite: " in capsys.readouterr().out
    with pytest.raises(GraphslimError, match="no such op"):
        time_everywhere(files.graph, files.graph, ["tflite"], export, **given)


@needs("tf", "tflite")
def test_in_converts_graphs_alone(files: Files, capsys: pytest.CaptureFixture) -> None:
    for args, says in (
        ([files.pb, files.lite, "--in", "all"], "converts two graphs"),
        ([files.pb, files.pb, files.pb, "--in", "tf"], "converts two graphs"),
        ([files.pb, files.pb, "--in", "tf", "--runtime", "tf"], "converts two graphs"),
        ([files.pb, files.pb, "--in", "tf,trt"], "no runtime 'trt'"),
    ):
        status, out, err = run(capsys, "bench", *args)
        assert status == 2 and says in err and not out


@needs("tf", "tflite", "ort")
def test_in_keeps_one_converter(
    files: Files, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: List[str] = []

    class Ready(Converter):
        """Hands out what was converted before."""

        def __enter__(self) -> Converter:
            asked.append("started")
            return self

        def convert(self, kind: str, where: str, request: Any) -> Any:
            asked.append(os.path.basename(where))
            path = files.lite if kind == "tflite" else files.onnx
            assert path is not None
            return {"": path.read_bytes()}

    monkeypatch.setattr("graphslim.delivery.converter.Converter", Ready)
    names = ["--outputs", ",".join(OUTPUTS)]
    words = ["bench", files.pb, files.pb, *names, "--in", "tf,tflite,ort", "--runs", 2]
    status, out, _ = run(capsys, *words)
    assert status == 0 and "Latency in each runtime" in out and "Left out" not in out, out
    assert asked == ["started", "first.tflite", "second.tflite", "first.onnx", "second.onnx"]


@needs("tf", "tflite")
def test_tensorflows_own_interpreter_serves_too(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert files.lite is not None
    from graphslim.engines import tflite as engine

    found = importlib.util.find_spec
    monkeypatch.setattr(
        engine.importlib.util,
        "find_spec",
        lambda name: None if name == "ai_edge_litert" else found(name),
    )
    with open_runner(files.lite, threads=2) as runner:
        assert runner.version.startswith("TensorFlow Lite of TensorFlow")
        assert runner.own_threads == runner.version.endswith(" 1.15.0")
        assert set(runner.run({"image": np.zeros((1, 8, 8, 3), np.float32)})) == set(OUTPUTS)
