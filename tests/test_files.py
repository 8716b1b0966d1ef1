"""Files in and out: regular ones alone are read; what is written is whole or not there."""

from __future__ import annotations

import errno
import io
import os
import random
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import numpy as np
import pytest
from command import Run

import graphslim as gs
from graphslim.errors import EmitError, GraphslimError, LoadError, PlanError, elided, visible
from graphslim.graphdef.kinds import check_graph_ending
from graphslim.graphdef.meta_graph import read_meta
from graphslim.method.dictionaries import read_dictionary
from graphslim.plans import read_plan
from graphslim.plans.settings import LARGEST, read_settings
from graphslim.support.reading import read_arrays, read_bytes
from graphslim.support.text import is_finite
from graphslim.support.writing import clear_parts, part_prefix, replacing, replacing_folder
from graphslim.testing import from_text

NETWORK = """
x = Placeholder() dtype=float32 shape=<1,4,4,3>
w = Const() dtype=float32 value=float32[1,1,3,8]{random 1}
y = Conv2D(x, w) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
r = Relu(y) T=float32
v = Const() dtype=float32 value=float32[1,1,8,2]{random 2}
z = Conv2D(r, v) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
"""
posix = pytest.mark.skipif(os.name != "posix", reason="needs signals and devices")
PRUNE = "prune m.pb --criterion l1 --ratio 0.5 --multiple-of 1 --no-verify -o"


@pytest.fixture
def run(tmp_path: Path, capsys: Any, monkeypatch: Any) -> Iterator[Run]:
    found = Run(tmp_path, capsys, monkeypatch)
    gs.save(from_text(NETWORK), "m.pb")
    yield found


# ------------------------------------------------------------------ what is read


def pipe(path: Path) -> None:
    os.mkfifo(str(path))


def plug(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(path.name)


IRREGULAR: List[Any] = [
    pytest.param(pipe, "a pipe, no regular file .write what comes out of it to a file", id="pipe"),
    pytest.param(plug, "a socket, no regular file", id="socket"),
    pytest.param(lambda path: path.symlink_to("/dev/zero"), "a device, no", id="endless device"),
    pytest.param(lambda path: path.symlink_to("/dev/null"), "a device, no", id="empty device"),
    pytest.param(lambda path: path.symlink_to("gone"), "no such file", id="link to nothing"),
    pytest.param(lambda path: path.symlink_to(path.name), "cannot be read: Too many", id="loop"),
]
READERS: List[Any] = [
    pytest.param(gs.load, "model.pb", id="model"),
    pytest.param(gs.load, "model.pbtxt", id="text model"),
    pytest.param(read_meta, "model.meta", id="MetaGraph"),
    pytest.param(read_plan, "plan.json", id="plan"),
    pytest.param(read_settings, "settings.yaml", id="YAML settings"),
    pytest.param(read_settings, "settings.json", id="JSON settings"),
    pytest.param(read_arrays, "data.npz", id="arrays"),
    pytest.param(lambda path: read_dictionary(path, "x"), "old.pkl", id="pickle"),
    pytest.param(lambda path: read_dictionary(path, "x"), "old.json", id="JSON dictionary"),
]


@posix
@pytest.mark.parametrize(("read", "name"), READERS)
@pytest.mark.parametrize(("make", "told"), IRREGULAR)
def test_what_is_no_regular_file_is_not_read(
    tmp_path: Path, monkeypatch: Any, read: Any, name: str, make: Any, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path(name))
    with pytest.raises(GraphslimError, match=told) as caught:
        read(name)
    assert str(caught.value).startswith(name) and "\n" not in str(caught.value)


@posix
@pytest.mark.parametrize("file", ["m.index", "m.data-00000-of-00001"])
@pytest.mark.tf
def test_a_checkpoint_of_pipes_is_not_read(run: Run, file: str) -> None:
    for name in {"m.index", "m.meta", "m.data-00000-of-00001"} - {file}:
        Path(name).write_bytes(b"x")
    pipe(Path(file))
    assert f"{file}: a pipe, no regular file" in run("inspect", "m", status=2).err


@posix
def test_a_saved_model_of_a_pipe_is_not_read(run: Run) -> None:
    Path("folder").mkdir()
    pipe(Path("folder/saved_model.pb"))
    assert "saved_model.pb: a pipe, no regular file" in run("inspect", "folder", status=2).err


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "link").symlink_to("file")
    assert read_bytes(str(tmp_path / "link")) == b"text"


def test_a_folder_and_a_dash_are_no_files(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LoadError, match="a folder, no regular file"):
        read_bytes(str(tmp_path))
    with pytest.raises(LoadError, match="-: no such file .standard input is not read"):
        gs.load("-")
    with pytest.raises(LoadError, match="cannot be read: embedded null"):
        read_bytes("a\0b")


# ------------------------------------------------------------------ settings and arrays


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: !!timestamp 99999-01-01", "not YAML, line 1: .* tag .*timestamp"),
        ("a: 2020-13-45", "'a' holds a str, no mapping"),
        ("a: &x [1]\nb: *x", "not YAML, line 2: the reference [*]x; write it out"),
        ("&a {b: *a}", "the reference [*]a"),
        ("[" * 5000, "nested deeper than 100 levels"),
        ("- " * 5000, "not YAML: maximum recursion depth"),
        ("a: {}\na: {}", "not YAML, line 1: a key is there twice"),
        ("a: !!bool maybe", "not YAML: 'maybe'"),
        ("a: !!int nine", "not YAML, line 1: no number: nine"),
        ("a: !!python/name:os.system ''", "not YAML, line 1: .* tag"),
        ("a: {ratio: " + "9" * 5000 + "}", "ratio is inf, and has to be"),
        ("a: {ratio: 1:30}", "ratio is '1:30', and has to be"),
        ("? [a]\n: {}", "not YAML, line 1: found unhashable key"),
        ("\0", "not YAML: unacceptable character"),
        ("a: {}\n" + "#" * LARGEST, "larger than 128 KiB .*JSON"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PlanError, match=told) as caught:
        read_settings(str(path))
    assert str(caught.value).startswith(str(path)) or "ratio" in told
    assert "\n" not in str(caught.value)


def test_numbers_of_settings_are_read_as_they_look(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("a: {threshold: 1e-3, min_channels: 010, max_ratio: .5, exclude: yes}")
    ((glob, found),) = read_settings(str(path))
    assert (glob, found.as_dict()) == (
        "a",
        {"threshold": 0.001, "min_channels": 10, "max_ratio": 0.5, "exclude": True},
    )


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }\n"


def stored(header: str, elements: bytes = b"") -> bytes:
    text = header.encode()
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + elements


def zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", data)
    return file.getvalue()


@pytest.mark.parametrize("wrap", [bytes, zipped], ids=["npy", "npz"])
@pytest.mark.parametrize(
    ("data", "told"),
    [
        (stored(HEADER % "10**15,"), "not an array of numbers"),
        (stored(HEADER % f"{10**15},", b"1234"), "states 4,000,000,000,000,000 bytes .* holds 4"),
        (stored(HEADER % f"{2**62}, 4,"), "bytes of elements"),
        (stored(HEADER % "-1,", b"1234"), "states -4 bytes"),
        (stored(HEADER.replace("<f4", "S0") % "9,"), "not an array of numbers, but of"),
        (stored(HEADER.replace("<f4", "|O") % "1,", b"12345678"), "not an array of numbers"),
        (stored("(" * 30000), "not an array of numbers"),
        (stored(HEADER % ("1," * 100), b"1234"), "not an array of numbers"),
    ],
)
def test_an_array_larger_than_its_file_is_refused(
    tmp_path: Path, data: bytes, told: str, wrap: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(wrap(data))
    with pytest.raises(GraphslimError, match=told):
        read_arrays(str(path))


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(str(path), "w", zipfile.ZIP_DEFLATED) as archive, archive.open(
        "a.npy", "w"
    ) as entry:
        entry.write(stored(HEADER % "75000000,"))
        for _ in range(300):
            entry.write(bytes(1_000_000))
    with pytest.raises(GraphslimError, match="states 300,000,.* bytes of arrays, in a file of"):
        read_arrays(str(path))


@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24.0).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.float32(3),
        np.zeros((0, 3)),
        np.array([b"ab", b"c"]),
        np.array(["ab", "c"]),
    ],
    ids=lambda array: str(array.dtype),
)
def test_arrays_are_read_as_numpy_reads_them(tmp_path: Path, save: Any, array: Any) -> None:
    file = io.BytesIO()
    save(file, array)
    (tmp_path / "data").write_bytes(file.getvalue())
    (found,) = read_arrays(str(tmp_path / "data")).values()
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("save", [np.save, np.savez_compressed])
def test_mutated_arrays_are_read_or_refused(tmp_path: Path, save: Any) -> None:
    file, path, pick = io.BytesIO(), tmp_path / "data", random.Random(1)
    save(file, np.arange(20.0))
    for _ in range(300):
        data = bytearray(file.getvalue())
        for _ in range(pick.randint(1, 3)):
            data[pick.randrange(len(data))] = pick.randrange(256)
        path.write_bytes(data)
        try:
            read_arrays(str(path))
        except GraphslimError as error:
            assert "\n" not in str(error)


# ------------------------------------------------------------------ messages


def test_long_names_are_elided_and_control_characters_shown() -> None:
    error = GraphslimError(f"no node {'a' * 30_000}", "x\x1b[31m\n.pb", "b" * 30_000)
    assert str(error).startswith("x\\x1b[31m\\n.pb: no node aaa") and len(str(error)) < 1000
    assert error.what == f"no node {'a' * 30_000}"
    assert elided("abcdefghijklmnop", 11) == "abc ... nop"
    assert visible("Straße \u202e\x85\ud800") == "Straße \\u202e\\x85\\ud800"


def test_no_control_character_reaches_the_terminal(run: Run) -> None:
    graph = from_text(NETWORK)
    message = gs.graphdef.to_graph_def(graph)
    for node in message.node:
        node.name += "\x1b[2J"
        for index, source in enumerate(node.input):
            node.input[index] = source + "\x1b[2J"
    Path("m.pb").write_bytes(message.SerializeToString())
    for words in ("inspect m.pb", "inspect m.pb --why-not", f"{PRUNE} out.pb"):
        found = run(words)
        assert "\x1b" not in found.out + found.err and "\\x1b[2J" in found.out


def test_a_number_larger_than_any_float_is_not_finite() -> None:
    assert not is_finite(10**400) and is_finite(10**300)


# ------------------------------------------------------------------ names of what is written


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("slim.h5", "no Keras model"),
        ("slim.keras", "no Keras model"),
        ("slim.ckpt", "cut a checkpoint with `graphslim strip`"),
        ("slim.savedmodel", ".savedmodel is not how a GraphDef ends (name it slim.pb)"),
        ("slim.json", ".json is not how a GraphDef ends"),
        ("slim.pb.gz", "(name it slim.pb)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["prune m.pb", "apply m.pb p.json", "optimize m.pb"])
def test_a_graph_is_not_written_by_another_name(
    run: Run, name: str, told: str, command: str
) -> None:
    run("plan m.pb -o p.json")
    assert told in run(f"{command} -o {name}", status=2).err
    with pytest.raises(EmitError) as caught:
        gs.save(gs.load("m.pb"), name)
    assert told in str(caught.value)
    assert run.files() == ["m.pb", "p.json"]


@pytest.mark.parametrize(
    ("name", "kind"), [("a.tflite", "a TensorFlow Lite model"), ("a.onnx", "an ONNX model")]
)
def test_what_saves_graphs_alone_names_the_command_that_exports(
    run: Run, name: str, kind: str
) -> None:
    told = f"not {kind} (write a.pb, then: `graphslim export a.pb -o {name}`)"
    assert told in run(f"repair m.pb m.pb -o {name} --data m.npz", status=2).err
    with pytest.raises(EmitError) as caught:
        gs.save(gs.load("m.pb"), name)
    assert told in str(caught.value)
    assert run.files() == ["m.pb"]


def test_names_that_a_graph_may_have(run: Run) -> None:
    graph = gs.load("m.pb")
    for name in ("a.pb", "a", "a-0.5", "a.PB", "b.pbtxt", "b.pbtext", "b.prototxt", "b.PBTXT"):
        gs.save(graph, name)
        assert len(gs.load(name)) == len(graph)
        assert Path(name).read_bytes().startswith(b"node {") == name.startswith("b.")
    check_graph_ending("/some.where/slim")


def test_a_plan_and_a_page_are_not_written_by_another_name(run: Run) -> None:
    assert "p.pb: .pb is not how a plan ends" in run("plan m.pb -o p.pb", status=2).err
    found = run(f"{PRUNE} out.pb --plan-out p.yaml", status=2)
    assert "p.yaml: .yaml is not how a plan ends (name it p.json)" in found.err
    assert run.files() == ["m.pb"]


# ------------------------------------------------------------------ whole or not there


def python(*words: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *words], **options)


_WRITES = """
import signal, sys, time
from graphslim.cli import main
import graphslim.cli.files as files

def slowly(graph, path):
    yield b"half"
    print("begun", flush=True)
    time.sleep(60)

files.encoded = slowly
# Whoever runs the tests may ignore signals, which is inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("SIGTERM", "SIGHUP"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
main(sys.argv[1:])
"""


def begun(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """A process that is in the middle of writing its output."""
    process = python("-c", _WRITES, *words, stdout=subprocess.PIPE, cwd=str(folder))
    assert process.stdout is not None and process.stdout.readline() == b"begun\n"
    return process


def ended(process: subprocess.Popen[bytes]) -> int:
    process.communicate(timeout=60)
    return process.returncode


def litter(folder: Path) -> List[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".graphslim-")]


@posix
def test_what_a_killed_process_left_goes_with_the_next_run(run: Run) -> None:
    words = [*PRUNE.split(), "out.pb"]
    dead, alive = begun(run.folder, *words), begun(run.folder, *words)
    try:
        dead.kill()
        assert ended(dead) == -signal.SIGKILL
        assert len(litter(run.folder)) == 2 and not Path("out.pb").exists()
        run(f"{PRUNE} out.pb")
        (left,) = litter(run.folder)
        assert f"-{alive.pid}-" in left, "the part of a process that lives was taken away"
    finally:
        alive.kill()
        ended(alive)
    run(f"{PRUNE} out.pb --force")
    assert run.files() == ["m.pb", "out.pb"]
    gs.load("out.pb")


@posix
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_process_that_is_told_to_end_leaves_nothing(run: Run, name: str, status: int) -> None:
    process = begun(run.folder, *PRUNE.split(), "out.pb")
    process.send_signal(getattr(signal, name))
    assert ended(process) == status
    assert run.files() == ["m.pb"]


@posix
def test_parts_are_told_apart(tmp_path: Path) -> None:
    """Of a dead process, of another with its id, of another machine, and of nobody."""
    own = part_prefix()
    machine, pid, start = own[len(".graphslim-") : -1].split("-")
    child = python("-c", "")
    child.wait()
    names = {
        f"{own}x.part": True,
        f".graphslim-{machine}-{child.pid}-{start}-x.part": False,
        f".graphslim-00000000-{child.pid}-{start}-x.part": True,
        f".graphslim-{machine}-{10**30}-{start}-x.part": True,
        ".graphslim-x.part": True,
        "notes.part": True,
    }
    if start != "0":
        names[f".graphslim-{machine}-{pid}-{int(start) + 1}-x.part"] = False
    for name in names:
        (tmp_path / name).write_text("")
    folder = tmp_path / f".graphslim-{machine}-{child.pid}-{start}-y.part"
    (folder / "sub").mkdir(parents=True)
    aside = tmp_path / f".graphslim-{machine}-{child.pid}-{start}-z.part"
    aside.mkdir()
    (tmp_path / (aside.name + ".old")).mkdir()
    clear_parts(str(tmp_path))
    kept = [name for name, stays in names.items() if stays] + [aside.name, aside.name + ".old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


@posix
def test_a_folder_that_a_killed_process_left_goes_too(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom graphslim.support.writing import replacing_folder\n"
        "with replacing_folder(sys.argv[1]) as part:\n"
        "    open(os.path.join(part, 'x'), 'w').close()\n    os.kill(os.getpid(), 9)\n"
    )
    python("-c", code, str(tmp_path / "out")).wait()
    assert len(litter(tmp_path)) == 1
    with replacing(str(tmp_path / "file")) as file:
        file.write(b"")
    assert os.listdir(str(tmp_path)) == ["file"]


@posix
def test_two_that_write_the_same_file_leave_one_whole(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom graphslim.support.writing import replacing\n"
        "for _ in range(30):\n"
        "    with replacing(sys.argv[1]) as file:\n"
        "        for _ in range(50):\n            file.write(sys.argv[2].encode() * 1000)\n"
    )
    target = tmp_path / "out"
    processes = [python("-c", code, str(target), letter) for letter in "ab"]
    seen = set()
    while any(process.poll() is None for process in processes):
        if target.exists():
            seen.add(target.read_bytes())
        time.sleep(0.005)
    assert [process.returncode for process in processes] == [0, 0]
    seen.add(target.read_bytes())
    assert seen <= {b"a" * 50_000, b"b" * 50_000}
    assert os.listdir(str(tmp_path)) == ["out"]


def test_a_link_is_followed_and_permissions_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to("real")
    with replacing(str(link)) as file:
        file.write(b"new")
    assert link.is_symlink() and real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o640


@posix
@pytest.mark.parametrize("write", [replacing, replacing_folder])
def test_a_full_disk_leaves_nothing(tmp_path: Path, write: Any) -> None:
    with pytest.raises(EmitError, match="out: cannot be written: No space left"), write(
        str(tmp_path / "out")
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())


@posix
def test_a_file_that_grows_too_large_leaves_nothing(run: Run) -> None:
    code = (
        "import resource, sys\nfrom graphslim.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\nmain(sys.argv[1:])\n"
    )
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = python("-c", code, *PRUNE.split(), "out.pb", **streams)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert told.startswith(b"graphslim: out.pb: cannot be written: File too large (")
    assert run.files() == ["m.pb"]


# ------------------------------------------------------------------ results before files

PRINTING: Dict[str, List[str]] = {
    f"{PRUNE} out.pb --plan-out q.json": ["out.pb", "q.json"],
    f"{PRUNE} out.pb --json": ["out.pb"],
    "plan m.pb -o out.json --json": ["out.json"],
    "apply m.pb p.json --no-verify -o out.pb": ["out.pb"],
    "optimize m.pb --no-verify -o out.pb --json": ["out.pb"],
    "inspect m.pb": [],
    "inspect m.pb --json": [],
}
"""What prints, and the files that it writes."""


def printed_to(stream: Any, command: str) -> Any:
    """The exit status and what was said on stderr."""
    words = ["-m", "graphslim", *command.split()]
    process = python(*words, stdout=stream, stderr=subprocess.PIPE)
    told = process.communicate(timeout=60)[1]
    return process.returncode, told.decode()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("command", PRINTING)
def test_no_file_where_the_results_cannot_be_printed(run: Run, command: str) -> None:
    run("plan m.pb -o p.json")
    before = run.files()
    with open("/dev/full", "w") as full:
        status, told = printed_to(full, command)
    assert status == 2 and told.count("\n") == 1
    assert told.startswith("graphslim: standard output: cannot be written: No space left")
    assert run.files() == before


@posix
@pytest.mark.parametrize("command", PRINTING)
def test_files_where_the_reader_has_seen_enough(run: Run, command: str) -> None:
    run("plan m.pb -o p.json")
    before = run.files()
    read, write = os.pipe()
    os.close(read)
    try:
        assert printed_to(write, command) == (141, "")
    finally:
        os.close(write)
    assert run.files() == sorted(before + PRINTING[command])


@posix
def test_a_closed_standard_output_is_told_at_once(run: Run) -> None:
    line = f'"{sys.executable}" -m graphslim {PRUNE} out.pb >&-'
    done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr == (
        b"graphslim: standard output: is closed (send it to a file or to /dev/null)\n"
    )
    assert run.files() == ["m.pb"]


@pytest.mark.parametrize("place", ["pruning", "print_pruning"])
def test_no_file_where_the_results_cannot_be_made(run: Run, monkeypatch: Any, place: str) -> None:
    """An error in what is shown is a bug; it must not leave a file that nothing was said of."""

    def fail(*given: Any, **named: Any) -> None:
        raise IndexError("a bug in what is shown")

    monkeypatch.setattr(f"graphslim.cli.results.{place}", fail)
    option = " --json" if place == "pruning" else ""
    found = run(f"{PRUNE} out.pb --plan-out p.json{option}", status=2)
    assert "internal error: IndexError" in found.err
    assert run.files() == ["m.pb"]
