"""The command line, mostly in this process: what it prints, writes and exits with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import click
import numpy as np
import pytest
from command import Run

from graphslim import runtime
from graphslim.cli import COMMANDS, cli
from graphslim.graphdef import load, save, serialize
from graphslim.support.importing import install_hint
from graphslim.testing import from_text

# Channel 1 of `y` is never produced, but its offset makes it 2, which has to be folded into `c`.
# Channel 2 is never produced and 0.
FOLDS = """
x = Placeholder() dtype=float32 shape=<?,4,4,3>
w = Const() dtype=float32 value=float32[1,1,3,4]{1 0 0 1 1 0 0 2 1 0 0 3}
y = Conv2D(x, w) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
b = Const() dtype=float32 value=float32[4]{1 2 0 1}
yb = BiasAdd(y, b) T=float32 data_format="NHWC"
yr = Relu(yb) T=float32
v = Const() dtype=float32 value=float32[1,1,4,2]{random 2}
z = Conv2D(yr, v) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
c = Const() dtype=float32 value=float32[2]{1 -1}
out = BiasAdd(z, c) T=float32 data_format="NHWC"
"""
# An inverted residual block, and an op without a rule on another branch.
BLOCK = """
x = Placeholder() dtype=float32 shape=<1,4,4,2>
e = Const() dtype=float32 value=float32[1,1,2,8]{random 1}
b/expand = Conv2D(x, e) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
b/relu = Relu6(b/expand) T=float32
d = Const() dtype=float32 value=float32[3,3,8,1]{random 2}
b/depthwise = DepthwiseConv2dNative(b/relu, d) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
b/relu2 = Relu6(b/depthwise) T=float32
p = Const() dtype=float32 value=float32[1,1,8,4]{random 3}
b/project = Conv2D(b/relu2, p) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
out = Identity(b/project) T=float32
q = Const() dtype=float32 value=float32[1,1,2,3]{random 4}
other = Conv2D(x, q) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
odd = MysteryOp(other) T=float32
"""  # noqa: E501

CHANGES_NUMBERS = """
import graphslim as gs

class Shift(gs.Pass):
    '''Adds 1 to an offset.'''
    name = "shift"
    def run(self, graph):
        value = graph["c"].attrs["value"]
        graph.set_attr("c", "value", value.with_numbers(value.numbers() + 1))
        return gs.Outcome(True, ("shifted",))
"""


@pytest.fixture
def run(tmp_path: Path, capsys: Any, monkeypatch: Any) -> Run:
    found = Run(tmp_path, capsys, monkeypatch)
    save(from_text(FOLDS), "folds.pb")
    save(from_text(BLOCK), "block.pb")
    return found


# ------------------------------------------------------------------- inspect


def test_inspect(run: Run) -> None:
    found = run("inspect", "folds.pb")
    assert found.err == ""
    lines = [line.split(maxsplit=1) for line in found.out.splitlines()]
    assert dict(lines) == {
        "inputs": "x  ?x4x4x3 float32",
        "outputs": "out  ?x4x4x2 float32",
        "nodes": "10",
        "params": "26",
        "MACs": "320",
        "groups": "1 of 2 prunable, with 4 of 6 channels (the rest: --why-not; all: --groups)",
        "dead": "2 channels: `graphslim prune` removes them, and no output changes",
        "blocks": "none recognised",
    }


def test_inspect_shows_blocks(run: Run) -> None:
    found = run("inspect", "block.pb")
    assert "1 inverted residual" in found.out
    row = [line for line in found.out.splitlines() if "inverted residual" in line][-1]
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "b",
        "inverted residual",
        "8",
        "yes",
    ]


def test_inspect_json(run: Run) -> None:
    found = run("inspect", "block.pb", "--json")
    tree = found.json
    assert found.err == ""
    assert list(tree) == [
        *("inputs", "outputs", "input_tensors", "output_tensors", "signature", "nodes", "params"),
        *("macs", "cautions", "blocks", "groups", "dead"),
    ]
    assert (tree["inputs"], tree["outputs"], tree["nodes"]) == (["x"], ["out", "odd"], 13)
    assert tree["params"] == 2 * 8 + 9 * 8 + 8 * 4 + 2 * 3
    assert tree["macs"] == 16 * tree["params"]
    (block,) = tree["blocks"]
    assert list(block) == ["kind", "name", "nodes", "channels", "prunable", "why_not"]
    assert (block["kind"], block["channels"]) == ("inverted_residual", 8)
    assert (block["prunable"], block["why_not"]) == (True, None)
    assert {"b/expand", "b/depthwise", "b/project"} <= set(block["nodes"])
    for group in tree["groups"]:
        assert list(group) == [
            *("id", "channels", "prunable", "pinned_by", "what_to_do", "bindings")
        ]
        assert group["prunable"] == (group["pinned_by"] is None)
    (free,) = [group for group in tree["groups"] if group["prunable"]]
    assert {(one["param"], one["axis"], one["role"]) for one in free["bindings"]} == {
        ("e", 3, "producer"),
        ("d", 2, "follower"),
        ("p", 2, "consumer"),
    }


def test_open_sizes_leave_the_cost_open(run: Run) -> None:
    open_size = FOLDS.replace("<?,4,4,3>", "<?,?,?,3>")
    save(from_text(open_size), "open.pb")
    assert run("inspect", "open.pb", "--json").json["macs"] is None
    assert "not known: add --input-shape x=1,224,224,3" in run("inspect", "open.pb").out
    given = run("inspect", "open.pb", "--json", "--input-shape", "x=1,4,4,3").json
    assert given["macs"] == 320


def test_why_not_names_the_op_and_the_node(run: Run) -> None:
    found = run("inspect", "block.pb", "--why-not")
    assert "MysteryOp" in found.out and "odd" in found.out and "channel_rule" in found.out
    assert "other" in found.out, "the pinned group is not named"


def test_why_not_when_all_is_well(run: Run) -> None:
    save(from_text("x = Placeholder() dtype=float32 shape=<?>\ny = Relu(x)"), "plain.pb")
    assert "Every group is prunable." in run("inspect", "plain.pb", "--why-not").out


def test_inspect_shows_every_group(run: Run) -> None:
    lines = run("inspect", "block.pb", "--groups").out.splitlines()
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if "│" in line]
    assert {row[0]: row[1:] for row in rows} == {
        "b/expand": ["8", "no", "1 follower, 1 consumer, 1 producer"],
        "b/project": ["4", "it is a graph output (out)", "1 producer"],
        "other": ["3", "graphslim has no rule for the op MysteryOp (odd)", "1 producer"],
    }


def test_inspect_tells_shapes_and_types(run: Run) -> None:
    tree = run("inspect", "block.pb", "--json").json
    assert (tree["inputs"], tree["outputs"]) == (["x"], ["out", "odd"])
    assert tree["input_tensors"] == [{"name": "x", "shape": [1, 4, 4, 2], "dtype": "float32"}]
    assert tree["output_tensors"] == [
        {"name": "out", "shape": [1, 4, 4, 4], "dtype": "float32"},
        {"name": "odd", "shape": None, "dtype": "float32"},
    ]


def test_explain(run: Run) -> None:
    inside = run("inspect", "block.pb", "--explain", "b/depthwise").out
    assert "inverted_residual: b/depthwise is in b" in inside
    outside = run("inspect", "folds.pb", "--explain", "y").out
    assert "inverted_residual: not matched from " in outside
    assert (
        "depthwise" in outside and "declared at graphslim.passes.find_inverted_residual:" in outside
    )
    tree = run("inspect", "block.pb", "--explain", "b/depthwise", "--json").json
    assert {one["kind"]: one["block"] for one in tree}["inverted_residual"] == "b"


def test_outputs_can_be_chosen(run: Run) -> None:
    tree = run("inspect", "block.pb", "--json", "--outputs", "b/project,other").json
    assert tree["outputs"] == ["b/project", "other"]


def test_pipes_get_whole_lines_and_terminals_their_width(run: Run, monkeypatch: Any) -> None:
    long = "a/" * 100 + "out"
    save(from_text(BLOCK.replace("out =", f"{long} =")), "long.pb")
    assert f"outputs  {long}  1x4x4x4 float32\n" in run("inspect", "long.pb").out
    monkeypatch.setenv("COLUMNS", "60")
    narrow = run("inspect", "block.pb").out
    assert max(len(line) for line in narrow.splitlines()) <= 60
    assert "channels" in narrow, "the heading of a column of numbers was wrapped"


def test_names_are_no_markup(run: Run) -> None:
    save(from_text(BLOCK.replace("out =", "[red]out:smile: =")), "markup.pb")
    assert "outputs  [red]out:smile:  1x4x4x4 float32\n" in run("inspect", "markup.pb").out
    assert "Written to a[b].pb" in run("prune", "folds.pb", "-o", "a[b].pb", "--no-verify").out


# ------------------------------------------------------------------- prune


def test_prune_without_a_check(run: Run) -> None:
    found = run("prune", "folds.pb", "-o", "out.pb", "--no-verify")
    assert found.err == ""
    assert "2 channels removed, 1 constant folded, in" in found.out
    assert "Not verified: --no-verify was given." in found.out
    slim = load("out.pb")
    assert slim["w"].attrs["value"].shape == (1, 1, 3, 2)
    assert slim["b"].attrs["value"].array.tolist() == [1, 1]
    assert slim["v"].attrs["value"].shape == (1, 1, 2, 2)
    old = load("folds.pb")
    expected = np.array([1, -1]) + 2 * old["v"].attrs["value"].array[0, 0, 1]
    assert np.allclose(slim["c"].attrs["value"].array, expected)
    assert run.files() == ["block.pb", "folds.pb", "out.pb"]


def test_prune_twice_removes_nothing_more(run: Run) -> None:
    run("prune", "folds.pb", "-o", "one.pb", "--no-verify")
    found = run("prune", "one.pb", "-o", "two.pb", "--no-verify")
    assert "nothing removed" in found.out
    assert Path("one.pb").read_bytes() == Path("two.pb").read_bytes()


def test_prune_json_and_plan(run: Run) -> None:
    options = ["--no-verify", "--json", "--plan-out", "p.json"]
    tree = run("prune", "folds.pb", "-o", "out.pb", *options).json
    assert (tree["output"], tree["removed"], tree["folded"]) == ("out.pb", 2, 1)
    assert (tree["params"], tree["macs"], tree["verified"]) == ([26, 14], [320, 160], None)
    assert [one["removed"] for one in tree["groups"]] == [[1, 2]]
    plan = json.loads(Path("p.json").read_text("utf-8"))
    assert (plan["format"], plan["version"]) == ("graphslim-plan", 1)
    assert plan["totals"] == {"params": [26, 14], "macs": [320, 160]}
    assert plan["groups"][0]["removed"] == [1, 2]


def test_prune_to_text(run: Run) -> None:
    run("prune", "folds.pb", "-o", "out.pbtxt", "--no-verify")
    run("prune", "folds.pb", "-o", "out.pb", "--no-verify")
    assert serialize(load("out.pbtxt")) == serialize(load("out.pb"))


def test_prune_selects(run: Run) -> None:
    def removed(*options: str) -> int:
        given = ["--no-verify", "--json", *options]
        return int(run("prune", "folds.pb", "-o", "out.pb", *given).json["removed"])

    assert removed("--exclude", "y*") == 0
    assert removed("--only", "y*") == 2
    assert removed("--scope", "blocks") == 0
    assert removed("--min-channels", "3") == 1
    assert removed("--multiple-of", "4") == 0
    assert removed("--dead", "--dead-below", "0") == 2


def test_prune_overwrites_its_input_only_by_force(run: Run) -> None:
    before = Path("folds.pb").read_bytes()
    run("prune", "folds.pb", "-o", "folds.pb", "--no-verify", status=2)
    assert Path("folds.pb").read_bytes() == before
    run("prune", "folds.pb", "-o", "folds.pb", "--no-verify", "--force")
    assert Path("folds.pb").read_bytes() != before


def test_diagnostics_go_to_stderr(run: Run) -> None:
    options = ["--time-passes", "-v", "--verify-each", "--dump-after", "fold-identity"]
    found = run(
        "prune", "block.pb", "-o", "out.pb", "--no-verify", "--json", "--pass", "fold-identity",
        *options,
    )  # fmt: skip
    assert found.json["removed"] == 0
    lines = found.err.splitlines()
    assert "find-inverted-residual: 1 inverted_residual block" in lines
    assert "find-squeeze-excite: 0 squeeze_excite blocks" in lines
    times = [line.split() for line in lines if " ms " in line]
    assert [line[2] for line in times] == [
        "find-inverted-residual", "find-squeeze-excite", "remove-dead-channels", "fold-identity",
    ]  # fmt: skip
    assert "dumped 04-fold-identity.pbtxt" in lines
    assert serialize(load("04-fold-identity.pbtxt")) == serialize(load("out.pb"))


def test_a_dump_does_not_replace_the_model(run: Run) -> None:
    """Whoever looks into a dump by the same command would lose it."""
    run("prune block.pb -o out.pb --no-verify --dump-after remove-dead-channels")
    dumped = Path("03-remove-dead-channels.pbtxt")
    before = dumped.read_bytes()
    command = f"prune {dumped} -o out.pb --no-verify --pass fold-identity"
    found = run(f"{command} --dump-after remove-dead-channels", status=2)
    assert f"{dumped}: is the input itself" in found.err and dumped.read_bytes() == before
    command = "prune block.pb -o 03-remove-dead-channels.pbtxt --no-verify"
    found = run(f"{command} --dump-after remove-dead-channels", status=2)
    assert "is the output too" in found.err and dumped.read_bytes() == before


def test_pass_from_a_file(run: Run) -> None:
    Path("shift.py").write_text(CHANGES_NUMBERS, encoding="utf-8")
    run("prune", "folds.pb", "-o", "plain.pb", "--no-verify")
    found = run(
        "prune", "folds.pb", "-o", "out.pb", "--no-verify", "-v", "--pass", "shift.py:Shift"
    )
    assert "shift: shifted" in found.err and "Pass shift: changed the graph; shifted" in found.out
    one, other = (load(name)["c"].attrs["value"].array for name in ("plain.pb", "out.pb"))
    assert np.allclose(other, one + 1)


def test_a_finder_runs_before_the_removal(run: Run) -> None:
    Path("mine.py").write_text(
        "import graphslim as gs\n"
        "class FindMine(gs.FindBlocks):\n"
        "    '''Finds blocks again.'''\n"
        "    name = 'find-mine'\n"
        "    kind = 'squeeze_excite'\n",
        encoding="utf-8",
    )
    options = [
        "--no-verify",
        "--time-passes",
        "--pass",
        "drop-unused",
        "--pass",
        "mine.py:FindMine",
    ]
    found = run("prune", "folds.pb", "-o", "out.pb", *options)
    told = [line for line in found.out.splitlines() if line.startswith("Pass ")]
    assert told[0] == "Pass find-mine: 0 squeeze_excite blocks"
    assert told[1].startswith("Pass drop-unused: changed nothing")
    order = [line.split()[2] for line in found.err.splitlines()]
    assert order[-3:] == ["find-mine", "remove-dead-channels", "drop-unused"]


def test_passes_are_listed(run: Run) -> None:
    lines = run("passes").out.splitlines()
    assert any(line.startswith("fold-identity ") and line.endswith(".") for line in lines)
    assert lines == sorted(lines)


# ------------------------------------------------------------------- help


@pytest.mark.parametrize("command", [[], ["inspect"], ["prune"], ["verify"], ["passes"]])
def test_help(run: Run, command: List[str]) -> None:
    for option in ("-h", "--help"):
        found = run(*command, option)
        assert found.out.startswith("Usage: graphslim") and found.err == ""


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_lists_every_option_once(name: str, run: Run) -> None:
    told = run(name, "--help").out.split("\nOptions:\n")[1]
    rows = re.findall(r"^  (-.*?)(?:  |$)", told, re.MULTILINE)
    listed = [re.findall(r"--[a-z0-9-]+", row)[0] for row in rows]
    options = cli.get_command(click.Context(cli), name).params
    known = [param.opts[-1] for param in options if isinstance(param, click.Option)]
    assert sorted(listed) == sorted([*known, "--help"])


def test_help_has_headings(run: Run) -> None:
    _, *parts = re.split(r"^(\w[\w ]*):$", run("prune", "--help").out, flags=re.MULTILINE)
    sections = dict(zip(parts[::2], parts[1::2]))
    assert next(iter(sections)) == "Options" and list(sections)[-1] == "Reading models"
    assert "--json" in sections["Options"] and "--rounds" in sections["Repair"]
    assert "--workers" in sections["Choosing channels"]
    assert "--data" in sections["Inputs to run on"] and "--inputs" in sections["Reading models"]


def test_no_command_shows_the_help(run: Run) -> None:
    found = run()
    assert found.out == run("--help").out
    assert "..." not in found.out.split("Commands:")[1], "a summary is cut short"


# ------------------------------------------------------------------- with TensorFlow


@pytest.mark.tf
def test_prune_and_verify(run: Run) -> None:
    found = run("prune", "folds.pb", "-o", "out.pb", "--plan-out", "p.json")
    assert "The outputs are the same" in found.out and found.err == ""
    for options in ([], ["--plan", "p.json"], ["--seed", "7", "--batch", "3"]):
        assert "The outputs are the same" in run("verify", "folds.pb", "out.pb", *options).out
    tree = run("verify", "folds.pb", "out.pb", "--json").json
    assert tree["ok"] is True and tree["against"] == "original"
    assert [one["name"] for one in tree["outputs"]] == ["out"]
    assert 0 <= tree["outputs"][0]["relative"] <= tree["tolerance"]
    verified = run("prune", "folds.pb", "-o", "out.pb", "--json").json["verified"]
    assert verified["ok"] is True


@pytest.mark.tf
def test_nothing_removed_is_the_same_bit_for_bit(run: Run) -> None:
    options = ["--exclude", "*", "--tolerance", "0"]
    found = run("prune", "folds.pb", "-o", "out.pb", *options)
    assert "The outputs are the same, bit for bit, over 8 random inputs." in found.out
    assert Path("out.pb").read_bytes() == Path("folds.pb").read_bytes()


@pytest.mark.tf
def test_a_result_that_fails_its_check_is_not_written(run: Run) -> None:
    Path("shift.py").write_text(CHANGES_NUMBERS, encoding="utf-8")
    before = run.files()
    options = ["--pass", "shift.py:Shift", "--plan-out", "p.json"]
    found = run("prune", "folds.pb", "-o", "out.pb", *options, status=1)
    last = found.err.splitlines()[-1]
    assert last.startswith("graphslim: out.pb: the result differs by ")
    assert "of the range of out (nothing was written; look at it with --no-verify" in last
    assert re.search(r"and at the pass Shift, of shift\.py:\d+\)$", last)
    assert "NOT the same" in found.err and found.out == ""
    assert run.files() == before


@pytest.mark.tf
def test_verify_tells_a_difference_with_status_1(run: Run) -> None:
    Path("shift.py").write_text(CHANGES_NUMBERS, encoding="utf-8")
    run("prune", "folds.pb", "-o", "out.pb", "--no-verify", "--pass", "shift.py:Shift")
    found = run("verify", "folds.pb", "out.pb", status=1)
    assert "NOT the same: out differs by" in found.out and "Traceback" not in found.err
    assert run("verify", "folds.pb", "out.pb", "--json", status=1).json["ok"] is False
    assert run("verify", "folds.pb", "out.pb", "--tolerance", "10").status == 0
    assert "its input x has the shape" in run("verify", "folds.pb", "block.pb", status=2).err


@pytest.mark.tf
def test_data_from_files(run: Run) -> None:
    data = np.random.RandomState(0).rand(2, 4, 4, 3).astype(np.float32)
    np.savez("named.npz", x=data)
    np.save("one.npy", data)
    for name in ("named.npz", "one.npy"):
        assert "the same" in run("prune", "folds.pb", "-o", "out.pb", "--data", name).out
        assert "the same" in run("verify", "folds.pb", "out.pb", "--data", name).out
    np.savez("bad.npz", x=np.zeros((2, 5, 4, 3)))
    told = run("verify", "folds.pb", "folds.pb", "--data", "bad.npz", status=2).err
    assert "bad.npz: the array for 'x' has the shape 2,5,4,3 (the input takes ?,4,4,3)" in told


@pytest.mark.tf
def test_data_from_a_folder_of_images(run: Run) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    Path("images").mkdir()
    for number in range(3):
        image.fromarray(np.full((9, 9, 3), 80 * number, np.uint8)).save(f"images/{number}.png")
    found = run("prune", "folds.pb", "-o", "out.pb", "--data", "images")
    assert "The outputs are the same" in found.out


@pytest.mark.tf
def test_a_plan_for_another_checkpoint_is_refused(run: Run) -> None:
    run("prune", "folds.pb", "-o", "out.pb", "--no-verify", "--plan-out", "p.json")
    save(from_text(FOLDS.replace("{1 -1}", "{1 -2}")), "other.pb")
    run("prune", "other.pb", "-o", "slim.pb", "--no-verify")
    told = run("verify", "other.pb", "slim.pb", "--plan", "p.json", status=2).err
    assert "the plan was made for folds.pb" in told
    run("verify", "other.pb", "slim.pb", "--plan", "p.json", "--force")


# ------------------------------------------------------------------- without TensorFlow


def test_tensorflow_missing(run: Run, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert not runtime.available()
    found = run("prune", "folds.pb", "-o", "out.pb")
    assert "Not verified: TensorFlow is not installed." in found.out
    Path("out.pb").unlink()
    for command in (
        ["verify", "folds.pb", "folds.pb"],
        ["prune", "folds.pb", "-o", "out.pb", "--verify"],
    ):
        told = run(*command, status=2).err
        assert f"TensorFlow is not installed ({install_hint('tf')})" in told
        assert told.count("\n") == 1
    assert run.files() == ["block.pb", "folds.pb"]


def python(*arguments: str, **options: Any) -> Any:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True, text=True, timeout=120, check=False, **options,
    )  # fmt: skip


def test_inspect_and_prune_import_no_tensorflow(run: Run) -> None:
    code = (
        "import sys\n"
        "from graphslim.cli import main\n"
        "for status, line in ((0, 'inspect block.pb'), (0, 'inspect block.pb --why-not'),\n"
        "        (0, 'prune folds.pb -o out.pb --no-verify'), (0, 'passes'),\n"
        "        (2, 'prune gone.pb -o out.pb'), (2, 'prune folds.pb -o out.pb --ratio .5'),\n"
        "        (2, 'verify folds.pb block.pb')):\n"
        "    try:\n"
        "        main(line.split())\n"
        "    except SystemExit as end:\n"
        "        assert (end.code or 0) == status, line\n"
        "found = [name for name in sys.modules if name.split('.')[0] == 'tensorflow']\n"
        "sys.stderr.write(repr(found))\n"
    )
    done = python("-c", code)
    told = done.stderr.splitlines()
    assert (done.returncode, len(told), told[-1]) == (0, 4, "[]"), done.stderr


def test_tensorflow_is_imported_fast(run: Run) -> None:
    code = (
        "import gc, os, sys\n"
        "from graphslim.cli import main\n"
        "try:\n"
        "    main(['verify', 'folds.pb', 'folds.pb'])\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        "assert gc.isenabled() and gc.get_freeze_count() > 1e5\n"
        "assert 'TF_USE_LEGACY_KERAS' not in os.environ\n"
        "if sys.version_info >= (3, 8):\n"
        "    assert 'keras' not in sys.modules\n"
        "    import tensorflow as tf\n"  # as a pass of a user's may
        "    from tensorflow.keras import layers\n"
        "    assert layers.Dense is tf.keras.layers.Dense\n"
    )
    done = python("-c", code)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_the_module_runs(run: Run) -> None:
    done = python("-m", "graphslim", "inspect", "gone.pb")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "graphslim: gone.pb: no such file (check the path)\n"


def test_a_name_that_the_terminal_cannot_show_is_escaped(run: Run) -> None:
    command = ["prune", "folds.pb", "-o", "\u00e4.pb", "--no-verify"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = python("-m", "graphslim", *command, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("Written to \\xe4.pb\n") and "\u00e4.pb" in run.files()


@pytest.mark.skipif(os.name == "nt", reason="pipes end otherwise there")
def test_a_reader_that_leaves_early_is_no_error(run: Run) -> None:
    """As `graphslim inspect model.pb | head -1` does, once head is done."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "graphslim", "inspect", "block.pb"],
            stdout=write, stderr=subprocess.PIPE, timeout=120, check=False,
        )  # fmt: skip
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


# ------------------------------------------------------------------- published networks


def test_inspect_a_published_network(run: Run, shared: Path) -> None:
    tree = run("inspect", str(shared / "mobilepose" / "inflated.pb"), "--json").json
    kinds = [block["kind"] for block in tree["blocks"]]
    assert (kinds.count("inverted_residual"), kinds.count("squeeze_excite")) == (16, 4)
    assert (tree["inputs"], tree["outputs"]) == (["input"], ["output/BiasAdd"])
    assert tree["nodes"] == 866


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_an_option_means_one_thing(name: str) -> None:
    """Click warns of a name that two options share, and then takes the later one."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    spelled = [text for param in command.params for text in param.opts]
    spelled += [text for param in command.params for text in param.secondary_opts]
    assert sorted(set(spelled)) == sorted(spelled)
