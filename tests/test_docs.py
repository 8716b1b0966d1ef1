"""What the documentation shows is true: its Python runs, its commands exist with their options."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Iterator, List, Tuple

import click
import pytest

import graphslim as gs
import graphslim.pattern
from graphslim.channels import rules
from graphslim.cli import cli
from graphslim.layout.walk import CARRIES
from graphslim.match import PATTERNS
from graphslim.pipeline import steps as registry
from graphslim.scoring import registry as criteria_registry

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])

pytestmark = pytest.mark.skipif(
    not (ROOT / "docs").is_dir(), reason="there is no documentation beside the tests"
)


def commands(page: Path) -> Iterator[Tuple[int, List[str]]]:
    """The command lines of a page, in the order in which they stand, comments left out."""
    text = page.read_text(encoding="utf-8").replace(" \\\n", " ")
    for number, line in enumerate(text.splitlines(), start=1):
        if re.match(r"(    |\$ )graphslim ", line):
            words = shlex.split(line.strip().lstrip("$ "), comments=True)[1:]
            yield number, [word for word in words if word not in ("[...]", "...")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist_with_their_options(page: Path) -> None:
    for number, words in commands(page):
        words = words[: words.index(">")] if ">" in words else words
        command = cli.get_command(click.Context(cli), words[0])
        assert command is not None, f"{page.name}:{number}: no command {words[0]}"
        known = {name for option in command.params for name in option.opts + option.secondary_opts}
        known |= set(command.get_help_option_names(click.Context(command)))
        used = {word.partition("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)}
        assert used <= known, f"{page.name}:{number}: {words[0]} has no {used - known}"


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Takes back what is declared of ops and blocks, in the tables that every module has."""
    registry.load_plugins()
    tables = (rules.CHANNEL_RULES, rules.VALUE_RULES, rules.COST_RULES, CARRIES, PATTERNS)
    before = [dict(table) for table in tables]
    yield
    for table, kept in zip(tables, before):
        table.clear()
        table.update(kept)


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("page", ["extending.md"])
def test_python_runs(page: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module, name in (
        (registry, "_PASSES"),
        (criteria_registry, "_CRITERIA"),
    ):
        monkeypatch.setattr(module, name, dict(getattr(module, name)))
    os.symlink(str(ROOT / "fixtures" / "digits_mobilenet_v2_se.pb"), str(tmp_path / "model.pb"))
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    assert blocks
    names: dict = {}
    for block in blocks:
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block.group(1), page, "exec", dont_inherit=True), names)


def test_the_reference_has_every_public_name() -> None:
    page = (ROOT / "docs" / "reference" / "library.md").read_text(encoding="utf-8")
    listed = [name for names in re.findall(r" :members: (.*)", page) for name in names.split(", ")]
    assert len(listed) == len(set(listed)), "a name is listed twice"
    patterns = set(graphslim.pattern.__all__)
    assert set(listed) == set(gs.__all__) - {"__version__", "GraphslimError", "families"} - patterns


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_that_a_page_names_are_there(page: Path) -> None:
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", page.read_text(encoding="utf-8")))
    missing = [
        name
        for name in named
        if not any((folder / name).exists() for folder in (ROOT, ROOT / "graphslim"))
    ]
    assert not missing, f"{page.name} names modules that are gone: {missing}"
