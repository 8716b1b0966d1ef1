"""Bad input: status 2, one line that says what, where and what to do, and nothing written."""

from __future__ import annotations

import io
import os
import random
import re
import sys
import zipfile
from pathlib import Path
from typing import Any, Callable, List, Sequence

import pytest

from graphslim.cli import inspect, main
from graphslim.graphdef import serialize
from graphslim.graphdef.protos import GraphDef
from graphslim.testing import from_text

NETWORK = """
x = Placeholder() dtype=float32 shape=<1,4,4,3>
w = Const() dtype=float32 value=float32[1,1,3,8]{random 1}
y = Conv2D(x, w) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
big = Const() dtype=float32 value=float32[8,1000]{random 2}
bias = Const() dtype=float32 value=float32[8]{random 3}
z = BiasAdd(y, bias) T=float32 data_format="NHWC"
"""


def network() -> bytes:
    return serialize(from_text(NETWORK))


def changed(change: Callable[[Any], None]) -> bytes:
    message = GraphDef.FromString(network())
    change(message)
    return message.SerializeToString(deterministic=True)


def node(message: Any, name: str) -> Any:
    return [one for one in message.node if one.name == name][0]


def _cycle(message: Any) -> None:
    node(message, "y").input[0] = "z"


def _self_loop(message: Any) -> None:
    node(message, "z").input[0] = "z"


def _dangling(message: Any) -> None:
    node(message, "z").input[1] = "gone"


def _dangling_control(message: Any) -> None:
    node(message, "z").input.append("^gone")


def _duplicate(message: Any) -> None:
    message.node.add(name="y", op="NoOp")


def _short_constant(message: Any) -> None:
    tensor = node(message, "bias").attr["value"].tensor
    tensor.tensor_content = tensor.tensor_content[:-4]


def _short_large_constant(message: Any) -> None:
    tensor = node(message, "big").attr["value"].tensor
    tensor.tensor_content = tensor.tensor_content[:-1]


def _too_many_values(message: Any) -> None:
    tensor = node(message, "bias").attr["value"].tensor
    tensor.tensor_content = b""
    tensor.float_val.extend(range(9))


def _no_value(message: Any) -> None:
    del node(message, "bias").attr["value"]


def _variable(message: Any) -> None:
    node(message, "w").op = "VariableV2"


def _no_op(message: Any) -> None:
    node(message, "z").op = ""


DAMAGED = {
    "cycle": (_cycle, "cycle"),
    "self-loop": (_self_loop, "cycle: z -> z"),
    "dangling": (_dangling, "node z: reads 'gone'"),
    "dangling-control": (_dangling_control, "node z: reads '^gone'"),
    "duplicate": (_duplicate, "node y: two nodes have this name"),
    "short-constant": (_short_constant, "node bias: 28 bytes"),
    "short-large-constant": (_short_large_constant, "node big: 31999 bytes"),
    "too-many-values": (_too_many_values, "node bias: 9 values"),
    "no-value": (_no_value, "node bias: a constant without a value"),
    "unfrozen": (_variable, "not frozen: 1 variable, such as w"),
    "no-op": (_no_op, "node 6 is damaged"),
}


def _zip(*names: str) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as file:
        for name in names:
            file.writestr(name, "")
    return held.getvalue()


IMPOSTORS = {
    "empty": (b"", "the file is empty"),
    "blank": (b"\n \n", "the file is empty"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "Git LFS pointer.*git lfs pull",
    ),
    "html": (b"\n<!DOCTYPE html>\n<html><body>Not found</body></html>", "a web page"),
    "html-plain": (b"<HTML>", "a web page"),
    "json": (b'{"message": "Not Found"}', "not a GraphDef"),
    "text": (b"hello, world\n", "not a GraphDef"),
    "pbtxt-as-pb": (b'node {\n name: "x" op: "Placeholder"\n}\n', "rename it to .pbtxt"),
    "tflite": (b"\x1c\0\0\0TFL3 and more", "TensorFlow Lite"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "a Keras model by another name.*end with .h5"),
    "zip, damaged": (b"PK\x03\x04....", "a zip file, and a damaged one"),
    "zip": (_zip("model/saved_model.pb"), "a zip file.*unpack it"),
    "keras": (
        _zip("metadata.json", "config.json"),
        "a Keras model by another name.*end with .keras",
    ),
    "torchscript": (_zip("net/data.pkl", "net/version"), "a PyTorch model.*onnx2tf"),
    "pickle": (b"\x80\x02\x8a\nl\xfc\x9cF", "PyTorch.*onnx2tf"),
    "onnx": (b"\x08\x08\x12\x07pytorch", "an ONNX model.*onnx2tf"),
    "gzip": (b"\x1f\x8b\x08\0", "gzip"),
    "savedmodel-pb": (b"\x08\x01\x12\x03\x0a\x01x", "saved_model.pb by another name"),
    "no-nodes": (b"\x22\x02\x08\x01", "not a GraphDef"),
    "zeros": (bytes(64), "not a GraphDef"),
}

COMMANDS = {
    "inspect": lambda model, folder: ["inspect", model],
    "prune": lambda model, folder: ["prune", model, "-o", str(folder / "out.pb"), "--no-verify"],
}


class Command:
    """Runs a command that must fail, and checks how it does."""

    def __init__(self, name: str, folder: Path, capsys: Any) -> None:
        self.name, self.folder, self.capsys = name, folder, capsys

    def refuses(self, model: Any, *options: str) -> str:
        return self.run([*COMMANDS[self.name](str(model), self.folder), *options])

    def run(self, arguments: Sequence[str], status: int = 2) -> str:
        before = tree(self.folder)
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        stdout, stderr = self.capsys.readouterr()
        assert caught.value.code == status, stderr
        assert stderr.count("\n") == 1 and stderr.startswith("graphslim: "), stderr
        assert "Traceback" not in stderr and "internal error" not in stderr, stderr
        assert "(" in stderr, f"no advice: {stderr}"
        assert stdout == ""
        assert tree(self.folder) == before, "something was written"
        return stderr


def tree(folder: Path) -> List[Any]:
    return sorted(
        (str(path), path.stat().st_size if path.is_file() else -1) for path in folder.rglob("*")
    )


@pytest.fixture(params=sorted(COMMANDS))
def command(request: Any, tmp_path: Path, capsys: Any) -> Command:
    return Command(request.param, tmp_path, capsys)


@pytest.fixture
def prune(tmp_path: Path, capsys: Any) -> Command:
    return Command("prune", tmp_path, capsys)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.pb"
    path.write_bytes(network())
    return path


@pytest.fixture(autouse=True)
def _no_bytecode(monkeypatch: Any) -> None:
    """Keeps Python from writing files beside those that it imports."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


def matches(pattern: str, text: str) -> None:
    __tracebackhide__ = True
    assert re.search(pattern, text), f"{pattern!r} is not in {text!r}"


# ------------------------------------------------------------------- files


@pytest.mark.parametrize("kind", sorted(IMPOSTORS))
def test_files_that_are_no_graph(command: Command, tmp_path: Path, kind: str) -> None:
    data, told = IMPOSTORS[kind]
    path = tmp_path / "model.pb"
    path.write_bytes(data)
    text = command.refuses(path)
    matches(told, text)
    assert "model.pb: " in text


@pytest.mark.parametrize("kind", sorted(DAMAGED))
def test_graphs_that_are_damaged(command: Command, tmp_path: Path, kind: str) -> None:
    damage, told = DAMAGED[kind]
    path = tmp_path / "model.pb"
    path.write_bytes(changed(damage))
    text = command.refuses(path)
    matches(told.replace("^", r"\^"), text)
    assert "model.pb: " in text


def test_a_truncated_file(tmp_path: Path, capsys: Any) -> None:
    """Cut anywhere, it is refused; but where a node ends, what is left may be a whole graph."""
    data, path = network(), tmp_path / "model.pb"
    ends, at = [], 0
    for one in GraphDef.FromString(data).node:
        at += len(GraphDef(node=[one]).SerializeToString())
        ends.append(at)
    draw = random.Random(0)
    cuts = {1, 2, 3, len(data) - 1, *[end - 1 for end in ends], *[end + 1 for end in ends[:-1]]}
    cuts |= set(draw.sample(range(1, len(data)), 40))
    command = Command("inspect", tmp_path, capsys)
    for cut in sorted(cuts - set(ends)):
        path.write_bytes(data[:cut])
        text = command.refuses(path)
        number = sum(end < cut for end in ends) + 1
        expected = "not a GraphDef" if cut < 8 else f"cut off in the middle of node {number}"
        assert expected in text or cut < 8, (cut, text)


def test_a_file_cut_behind_its_nodes(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "model.pb"
    path.write_bytes(changed(lambda message: setattr(message.versions, "producer", 9999))[:-1])
    assert "cut off behind its nodes" in command.refuses(path)


@pytest.mark.parametrize("seed", range(12))
def test_random_bytes(command: Command, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    path = tmp_path / "model.pb"
    # Half of them begin as a GraphDef does.
    start = b"\x0a" if seed % 2 else b""
    path.write_bytes(start + bytes(draw.randrange(256) for _ in range(4000)))
    assert "model.pb: " in command.refuses(path)


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_byte_never_ends_in_a_traceback(tmp_path: Path, capsys: Any, seed: int) -> None:
    draw = random.Random(seed)
    data = bytearray(network())
    for _ in range(3):
        data[draw.randrange(600)] = draw.randrange(256)
    path = tmp_path / "model.pb"
    path.write_bytes(bytes(data))
    with pytest.raises(SystemExit) as caught:
        main(["inspect", str(path)])
    stderr = capsys.readouterr().err
    assert caught.value.code in (0, 2)
    assert "Traceback" not in stderr and "internal error" not in stderr, stderr


def test_a_missing_file(command: Command, tmp_path: Path) -> None:
    assert "gone.pb: no such file (check the path)" in command.refuses(tmp_path / "gone.pb")


def test_a_folder(command: Command, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert "folder: a folder, not a model file (give" in command.refuses(tmp_path / "folder")


@pytest.mark.parametrize(
    ("data", "told"),
    [(b"", "is empty"), (b"\x08\x01", "holds no graph"), (b"\x08\x01\x12\x09", "is damaged")],
)
def test_a_saved_model_folder(command: Command, tmp_path: Path, data: bytes, told: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "saved_model.pb").write_bytes(data)
    assert told in command.refuses(tmp_path / "folder")


def test_a_signature_of_a_frozen_graph(command: Command, tmp_path: Path) -> None:
    (tmp_path / "model.pb").write_bytes(network())
    assert "is no SavedModel" in command.refuses(tmp_path / "model.pb", "--signature", "x")


def test_a_checkpoint(command: Command, tmp_path: Path) -> None:
    (tmp_path / "model.ckpt.index").write_bytes(b"")
    assert "model.ckpt" in command.refuses(tmp_path / "model.ckpt")


@pytest.mark.parametrize(
    ("data", "told"),
    [(b"node {", "no text GraphDef"), (b"\xff\xfe\x00", "not a text file"), (b"", "is empty")],
)
def test_bad_text_files(command: Command, tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "model.pbtxt"
    path.write_bytes(data)
    assert told in command.refuses(path)


# ------------------------------------------------------------------- names and options


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--outputs", "zz"], "--outputs: no node 'zz' in model.pb .did you mean z"),
        (["--outputs", "nothing/like/it"], "--outputs: no node 'nothing/like/it'"),
        (["--outputs", "^z"], "control edge"),
        (["--inputs", "xx"], "--inputs: no node 'xx'"),
        (["--inputs", "z"], "no output can be inferred"),
        (["--input-shape", "z=1,2"], "'z' is not an input .*the inputs are: x"),
        (["--input-shape", "x=1,4,4,9"], "the input x has the shape 1,4,4,3 .all of it is fixed"),
        (["--input-shape", "x=1,4"], "(give a size for each of its 4 axes, not 2 sizes)"),
        (["--input-shape", "x"], "not of the form NAME=1,224,224,3"),
        (["--input-shape", "x=a,b"], "not of the form"),
        (["--input-shape", "x=0"], "not of the form"),
        (["--input-shape", "=1"], "not of the form"),
        (["--bogus"], "No such option.*--bogus.*--help"),
        (["surplus"], "unexpected extra argument.*--help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_options(command: Command, model: Path, options: List[str], told: str) -> None:
    matches(told, command.refuses(model, *options))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--only", "nothing*"], "--only: 'nothing\\*' matches no group"),
        (["--exclude", "nothing*"], "--exclude: 'nothing\\*' matches no group"),
        (["--scope", "some"], "--scope"),
        (["--dead-below", "-1"], "--dead-below"),
        (["--dead-below", "inf"], "not a finite number"),
        (["--dead-below", "much"], "--dead-below"),
        (["--tolerance", "nan"], "not a finite number"),
        (["--multiple-of", "0"], "--multiple-of"),
        (["--min-channels", "0"], "--min-channels"),
        (["--batch", "0"], "--batch"),
        (["--seed", "-1"], "--seed"),
        (["--pass", "no-such-pass"], "no-such-pass: no pass of that name .one of:"),
        (["--pass", "fold-identiti"], "did you mean fold-identity"),
        (["--pass", "gone.py:Pass"], "gone.py:Pass: no such file"),
        (["--pass", "gone.py"], "name the class too"),
        (["--pass", "no.such.module:Pass"], "cannot be imported"),
        (["--pass", "json:loads"], "is not a Pass"),
        (["--pass", "json:gone"], "there is no 'gone' in json"),
        (["--dump-after", "drop-unused"], "--dump-after.*'drop-unused' is not run"),
        (["--verify", "--data", "gone.npz"], "gone.npz: no such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_options_of_prune(prune: Command, model: Path, options: List[str], told: str) -> None:
    matches(told, prune.refuses(model, *options))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["frobnicate"], "No such command 'frobnicate'.*--help"),
        (["inspect"], "Missing argument 'MODEL'.*--help"),
        (["prune", "model.pb"], "Missing option '-o'"),
        (["verify", "model.pb"], "Missing argument 'B'"),
        (["--bogus"], "No such option"),
    ],
    ids=" ".join,
)
def test_bad_usage(prune: Command, arguments: List[str], told: str) -> None:
    matches(told, prune.run(arguments))


def test_an_unknown_node_to_explain(model: Path, tmp_path: Path, capsys: Any) -> None:
    text = Command("inspect", tmp_path, capsys).refuses(model, "--explain", "gone")
    assert "--explain: no node 'gone' in model.pb" in text


def test_bad_plans(prune: Command, model: Path, tmp_path: Path) -> None:
    for name, data, told in (
        ("gone.json", None, "gone.json: no such file"),
        ("text.json", b"hello", "text.json: not JSON"),
        ("list.json", b"[]", "list.json: not a graphslim plan"),
        ("binary.json", b"\xff\xfe", "binary.json: not a text file"),
    ):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        given = ["verify", str(model), str(model), "--plan", str(tmp_path / name)]
        assert told in prune.run(given)


# ------------------------------------------------------------------- targets


def test_a_target_in_a_folder_that_is_not_there(prune: Command, model: Path) -> None:
    target = str(prune.folder / "gone" / "out.pb")
    assert "the folder does not exist" in prune.run(["prune", str(model), "-o", target])
    given = ["prune", str(model), "-o", str(prune.folder / "out.pb"), "--plan-out", target]
    assert "the folder does not exist" in prune.run(given)


@pytest.mark.parametrize("target", ["", ".", "folder", "folder/", os.devnull])
def test_a_target_that_is_no_file(
    prune: Command, model: Path, target: str, monkeypatch: Any
) -> None:
    monkeypatch.chdir(prune.folder)
    (prune.folder / "folder").mkdir()
    # An empty folder becomes a SavedModel.
    (prune.folder / "folder" / "notes.txt").write_text("nothing that may be lost")
    prune.run(["prune", str(model), "-o", target])


def test_a_folder_that_is_not_writable(prune: Command, model: Path, monkeypatch: Any) -> None:
    # Root may write to any folder, whatever its mode.
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert "the folder is not writable" in prune.refuses(model)


def test_a_disk_that_fails(prune: Command, model: Path, monkeypatch: Any) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "cannot be written: No space left on device" in prune.refuses(model)


@pytest.mark.parametrize("link", [False, True])
def test_the_input_is_not_overwritten(prune: Command, model: Path, link: bool) -> None:
    target = model
    if link:
        target = prune.folder / "link.pb"
        target.symlink_to(model)
    assert "is the input itself" in prune.run(["prune", str(model), "-o", str(target)])
    given = ["prune", str(model), "-o", str(prune.folder / "o.pb"), "--plan-out", str(target)]
    assert "is the input itself" in prune.run(given)


def test_the_plan_does_not_overwrite_the_output(prune: Command, model: Path) -> None:
    target = str(prune.folder / "out.pb")
    told = prune.run(["prune", str(model), "-o", target, "--plan-out", target])
    assert "is the output too" in told


# ------------------------------------------------------------------- passes that fail

BROKEN = """
import graphslim as gs

class Raises(gs.Pass):
    '''Fails.'''
    name = "raises"
    def run(self, graph):
        raise ZeroDivisionError("oh")

class Nothing(gs.Pass):
    '''Gives nothing.'''
    name = "nothing"
    def run(self, graph):
        pass

class Lies(gs.Pass):
    '''Lies.'''
    name = "lies"
    def run(self, graph):
        graph.set_attr("z", "T", gs.DType.float32)
        return gs.Outcome(False)

class Breaks(gs.Pass):
    '''Leaves a data input behind a control input.'''
    name = "breaks"
    def run(self, graph):
        graph.set_inputs("z", [gs.Port("y", gs.CONTROL), gs.Port("y")])
        return gs.Outcome(True)

class Nameless(gs.Pass):
    '''Has no name.'''

class Wants(gs.Pass):
    '''Wants an argument.'''
    name = "wants"
    def __init__(self, what):
        pass
"""


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Raises", "raises: fails: ZeroDivisionError: oh"),
        ("Nothing", "nothing: gives None, not an Outcome"),
        ("Lies", "lies: changed the graph and reports otherwise"),
        ("Breaks", "breaks: left a broken graph: z: has a data input after a control input"),
        ("Nameless", "is a Pass without a name"),
        ("Wants", "cannot be made: .*what"),
        ("Gone", "there is no 'Gone'"),
    ],
)
def test_passes_that_fail(prune: Command, model: Path, name: str, told: str) -> None:
    file = prune.folder / "broken.py"
    file.write_text(BROKEN, encoding="utf-8")
    given = ["--pass", f"{file}:{name}", "--verify-each"]
    matches(told, prune.refuses(model, *given))


@pytest.mark.parametrize(
    ("source", "told"),
    [("1 +", "SyntaxError"), ("oops", "NameError"), ("open('/no/such')", "FileNotFoundError")],
)
def test_files_that_do_not_import(prune: Command, model: Path, source: str, told: str) -> None:
    file = prune.folder / f"{told}.py"
    file.write_text(source, encoding="utf-8")
    text = prune.refuses(model, "--pass", f"{file}:Pass")
    assert "cannot be imported" in text and told in text


def test_a_bug_is_told_in_one_line(model: Path, monkeypatch: Any, prune: Command) -> None:
    def bug(*_: Any) -> None:
        raise RuntimeError("oh")

    monkeypatch.setattr(inspect, "find_blocks", bug)
    with pytest.raises(SystemExit) as caught:
        main(["inspect", str(model)])
    stderr = prune.capsys.readouterr().err
    assert caught.value.code == 2
    assert stderr.startswith("graphslim: internal error: RuntimeError: oh (a bug")
    with pytest.raises(SystemExit):
        main(["inspect", str(model), "--debug"])
    assert "Traceback" in prune.capsys.readouterr().err
