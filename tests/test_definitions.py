"""A user's file with one bad definition: it is told in one line, and the others still work."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

import pytest
from command import Run
from tiny import tiny

import graphslim as gs
from graphslim.channels.rules import CHANNEL_RULES
from graphslim.errors import PlanError
from graphslim.match import PATTERNS
from graphslim.pipeline import steps as passes
from graphslim.scoring import find_criterion, registry
from graphslim.support.importing import DefinitionWarning

MIXED = '''
import graphslim as gs
from graphslim.pattern import block_pattern, conv

@gs.criterion("silent")
def silent(weights):
    return weights.sum(axis=1)

@gs.criterion("spoken")
def spoken(weights):
    """The sum of the weights."""
    return weights.sum(axis=1)

@block_pattern("broken", channels_of="layer")
def broken(x):
    return conv(x, kernel=1, nmae="layer")

@block_pattern("single", channels_of="layer")
def single(x):
    return conv(x, kernel=1, name="layer")

@gs.channel_rule("Conv2D")
def second_rule(op):
    raise AssertionError("takes the place of a rule that is there")

@gs.register
class Silent(gs.Pass):
    name = "silent-pass"

@gs.register
class FindBroken(gs.FindBlocks):
    """Finds blocks of the kind that could not be declared."""
    name = "find-broken"
    kind = "broken"

@gs.register
class FindSingle(gs.FindBlocks):
    """Finds convolutions of size 1."""
    name = "find-single"
    kind = "single"
'''
REFUSED = (
    "mixed.py: left out: silent: a criterion needs a name and a docstring (say what it measures)",
    "mixed.py: left out: broken: the function that declares it fails: TypeError: ",
    "mixed.py: left out: Conv2D: this op has a channel rule already, of graphslim.ops.conv:",
    "mixed.py: left out: Silent: a pass needs a name and a docstring",
)
NETWORK = """
    x = input 1,4,4,3
    w = f32[1,1,3,8]{random 1}
    c = Conv2D(x, w)
    u = f32[1,1,8,2]{random 2}
    out = Conv2D(c, u)
"""


@pytest.fixture
def mixed(tmp_path: Path, monkeypatch: Any) -> Iterator[str]:
    """The path of a file of good and bad definitions, which are forgotten after the test."""
    (tmp_path / "mixed.py").write_text(MIXED, encoding="utf-8")
    gs.save(tiny(NETWORK), tmp_path / "m.pb")
    passes.load_plugins()
    tables = (registry._CRITERIA, passes._PASSES, PATTERNS, CHANNEL_RULES)
    before = [dict(table) for table in tables]
    monkeypatch.chdir(tmp_path)
    yield "mixed.py"
    for table, kept in zip(tables, before):
        table.clear()
        table.update(kept)


def test_what_is_well_defined_is_found_and_the_rest_is_told(mixed: str) -> None:
    with pytest.warns(DefinitionWarning) as told:
        assert find_criterion(f"{mixed}:spoken").name == "spoken"
    texts = [str(one.message) for one in told]
    assert len(texts) == len(REFUSED)
    assert all(text.startswith(start) for text, start in zip(texts, REFUSED)), texts
    assert "second_rule" not in [rule.__name__ for rule in CHANNEL_RULES.values()]


@pytest.mark.filterwarnings("ignore::graphslim.support.importing.DefinitionWarning")
def test_what_is_asked_for_and_badly_defined_is_refused(mixed: str) -> None:
    for _ in range(2):
        with pytest.raises(PlanError, match="silent: a criterion needs a name and a docstring"):
            find_criterion(f"{mixed}:silent")


def test_the_command_tells_each_in_a_line_and_runs_the_rest(
    mixed: str, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    run = Run(tmp_path, capsys, monkeypatch)
    words = f"prune m.pb -o out.pb --no-verify --quiet --criterion {mixed}:spoken --ratio 0.25"
    found = run(f"{words} --pass {mixed}:FindSingle --multiple-of 1")
    assert "channels removed" in found.out
    lines = found.err.splitlines()
    assert [line[: len("graphslim: ") + 40] for line in lines] == [
        f"graphslim: {start}"[: len("graphslim: ") + 40] for start in REFUSED
    ]


def test_explain_names_a_file_and_no_folder_of_this_machine(
    mixed: str, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    with pytest.warns(DefinitionWarning):
        find_criterion(f"{mixed}:spoken")
    run = Run(tmp_path, capsys, monkeypatch)
    places = {
        one["kind"]: one.get("declared_at") for one in run("inspect m.pb --explain x --json").json
    }
    assert "broken" not in places and "single" in places
    assert PATTERNS["single"].at.startswith("mixed.py:")
    assert PATTERNS["inverted_residual"].at.startswith("graphslim.passes.find_inverted_residual:")
