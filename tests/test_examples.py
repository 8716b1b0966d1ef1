"""The examples do what they say, run as people run them."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Iterator

import pytest
from networks import Net
from spellings import NORMS

import graphslim as gs
from graphslim.channels import rules
from graphslim.match import PATTERNS
from graphslim.pipeline import steps as registry
from graphslim.scoring import registry as criteria_registry
from graphslim.scoring import score
from graphslim.testing import assert_equivalent, check_drawing, check_pass, from_text

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

pytestmark = pytest.mark.skipif(
    not EXAMPLES.is_dir(), reason="there are no examples beside the tests"
)


def run(*command: object) -> str:
    words = [sys.executable, *map(str, command)]
    done = subprocess.run(words, capture_output=True, cwd=str(EXAMPLES))
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def load_example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", str(EXAMPLES / f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture()
def custom_pass(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    registry.load_plugins()
    monkeypatch.setattr(registry, "_PASSES", dict(registry._PASSES))
    yield load_example("custom_pass")


@pytest.fixture()
def model(tmp_path: Path) -> Path:
    """A separable network that scales its input twice and makes four channels for nothing."""
    net = Net(channels=3)
    y = net.times(net.times(net.x, 0.5), 3, swapped=True)
    for index, width in enumerate((8, 12)):
        net.scope = f"block_{index}/"
        y = net.f("Relu", NORMS["fused"](net, net.depthwise(y, name="depthwise")))
        y = net.f("Relu", NORMS["nothing"](net, net.conv(y, width, name="pointwise")))
    net.scope = ""
    net.conv(y, 2, name="head")
    graph = net.graph()
    filters = graph[graph.data_inputs("block_1/pointwise")[1].node]
    weights = filters.attrs["value"].array.copy()
    weights[..., 8:] = 0
    graph.set_attr(filters, "value", gs.Tensor.of(weights))
    path = tmp_path / "model.pb"
    gs.save(graph, str(path))
    return path


# ---------------------------------------------------------------------- custom_pass.py


def test_the_custom_pass_does_what_it_draws(custom_pass: ModuleType) -> None:
    check_drawing(custom_pass.MergeScales)


def test_the_custom_pass_merges_chains(custom_pass: ModuleType) -> None:
    outcome = check_pass(
        """
        x = Placeholder() dtype=float32
        a = Const() dtype=float32 value=float32[]{2}
        y = Mul(x, a) T=float32
        z = Mul(y, a) T=float32
        u = Mul(a, z) T=float32
        """,
        custom_pass.MergeScales(),
        """
        x = Placeholder() dtype=float32
        u = Mul(u/scale, x) T=float32
        u/scale = Const() dtype=float32 value=float32[]{8}
        """,
    )
    assert outcome.notes == ("2 scalings merged",)


@pytest.mark.parametrize(
    "line",
    [
        "z = Mul(y, v) T=float32",
        "z = Mul(y, a, ^x) T=float32",
        "z = Mul(y, y) T=float32",
        "z = Add(y, a) T=float32",
        "z = Mul(y, a) T=float32\n other = Neg(y) T=float32",
        "z = Mul(y, a) T=float32\n output y\n output z",
    ],
)
def test_the_custom_pass_leaves_what_it_must(custom_pass: ModuleType, line: str) -> None:
    text = f"""
        x = Placeholder() dtype=float32
        a = Const() dtype=float32 value=float32[]{{2}}
        v = Const() dtype=float32 value=float32[2]{{1 2}}
        y = Mul(x, a) T=float32
        {line}
    """
    assert not check_pass(text, custom_pass.MergeScales()).changed


@pytest.mark.tf
def test_the_custom_pass_from_the_command_line(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "slim.pb"
    merge = EXAMPLES / "custom_pass.py:MergeScales"
    run("-m", "graphslim", "prune", model, "-o", target, "--pass", merge)
    graph, slim = gs.load(str(model)), gs.load(str(target))
    assert [node.op for node in graph].count("Mul") == 2
    assert [node.op for node in slim].count("Mul") == 1
    assert gs.cost(slim).params < gs.cost(graph).params
    assert_equivalent(graph, slim)


# ---------------------------------------------------------------------- custom_block.py


def test_the_custom_block_is_found(model: Path) -> None:
    assert run(EXAMPLES / "custom_block.py", model).splitlines() == [
        "block_0: block_0/depthwise -> block_0/pointwise, 8 wide",
        "block_1: block_1/depthwise -> block_1/pointwise, 12 wide",
        "2 depthwise separable convolutions",
    ]
    assert "depthwise_separable" not in PATTERNS  # it ran in a process of its own


def test_the_custom_block_is_no_inverted_residual(tmp_path: Path) -> None:
    net = Net()
    net.inverted_residual(net.x)
    path = tmp_path / "model.pb"
    gs.save(net.graph(), str(path))
    assert run(EXAMPLES / "custom_block.py", path) == "0 depthwise separable convolutions\n"


# ---------------------------------------------------------------------- custom_criterion.py


def test_the_custom_criterion_scores(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(criteria_registry, "_CRITERIA", gs.criteria())
    graph = gs.load(str(model))
    channels = gs.analyse(graph)
    groups = [group for group in channels.groups if group.id == "block_1/pointwise"]
    found = score(graph, channels, groups, f"{EXAMPLES / 'custom_criterion.py'}:largest")
    filters = graph[graph.data_inputs("block_1/pointwise")[1].node].attrs["value"].array
    assert found.own["block_1/pointwise"] == pytest.approx(abs(filters).max(axis=(0, 1, 2)))
    assert "largest" in gs.criteria()


# ---------------------------------------------------------------------- custom_op.py


SCALED = """
x = Placeholder() dtype=float32 shape=<1,8,8,3>
a/w = Const() dtype=float32 value=float32[1,1,3,6]{random 1}
a = Conv2D(x, a/w) T=float32 padding="SAME" strides=[1,1,1,1]
scale = Const() dtype=float32 value=float32[6]{random 1}
y = ScaleChannels(a, scale)
z/w = Const() dtype=float32 value=float32[1,1,6,2]{random 1}
z = Conv2D(y, z/w) T=float32 padding="SAME" strides=[1,1,1,1]
output z
"""


def test_the_custom_op_lets_channels_go(tmp_path: Path) -> None:
    path = tmp_path / "scaled.pb"
    gs.save(from_text(SCALED), str(path))
    assert run(EXAMPLES / "custom_op.py", path).splitlines() == [
        "a: 6 channels may go",
        "z: 2 channels stay: it is a graph output",
    ]
    before = gs.analyse(gs.load(str(path))).groups  # without the rule, which ran elsewhere
    assert before[0].pinned_by == "graphslim has no rule for the op ScaleChannels"


def test_the_custom_op_is_cut_with_its_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    table = rules.CHANNEL_RULES
    monkeypatch.setitem(table, "ScaleChannels", table["Relu"])  # so that it goes after the test
    del table["ScaleChannels"]
    load_example("custom_op")
    graph = from_text(SCALED)
    plan = gs.plan(graph, criterion="l1", ratio=0.5, multiple_of=1)
    slim = gs.apply(graph, plan)
    assert slim["scale"].attrs["value"].shape == (3,)
    assert slim["z/w"].attrs["value"].shape == (1, 1, 3, 2)


# ---------------------------------------------------------------------- library.py


@pytest.mark.tf
def test_the_library_example(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "slim.pb"
    lines = run(EXAMPLES / "library.py", model, target).splitlines()
    assert lines[0] == "block_1/pointwise: 4 of 12 channels"
    assert lines[1].endswith(" parameters")
    assert lines[2].startswith("the outputs differ by ")
    assert_equivalent(gs.load(str(model)), gs.load(str(target)))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_imports_public_modules_alone(path: Path) -> None:
    lines = re.findall(r"^(?:import|from) (graphslim\S*)", path.read_text(encoding="utf-8"), re.M)
    assert lines and set(lines) <= {"graphslim", "graphslim.pattern"}
