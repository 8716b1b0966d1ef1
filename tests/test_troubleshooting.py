"""docs/troubleshooting.md speaks of every message of the code, and of none that is gone.

The first column of its tables holds, as code, parts of messages, with `...` for what is filled in.
A new message needs a row only where no row's words are in it yet; a row may also name a class of
`graphslim.errors`, and then stands for all messages of that class.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import Iterator, List, NamedTuple, Tuple

import pytest

from graphslim import errors

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "troubleshooting.md"
CLASSES = [name for name, one in vars(errors).items() if isinstance(one, type)]

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="there is no checkout beside the tests")


class Message(NamedTuple):
    """What an error says in the source, `...` for what is filled in, and where."""

    text: str
    error: str
    place: str


def texts(node: ast.AST) -> List[str]:
    """What an expression may say; nothing where it only passes on what was said elsewhere."""
    if isinstance(node, ast.IfExp):
        return [*texts(node.body), *texts(node.orelse)]
    if isinstance(node, ast.BinOp):
        return [one + other for one in texts(node.left) for other in texts(node.right)]
    if isinstance(node, ast.JoinedStr):
        return ["".join([(texts(part) or ["..."])[0] for part in node.values])]
    value = getattr(node, "value", getattr(node, "s", None))
    return [value] if isinstance(value, str) else []


@functools.lru_cache(maxsize=None)
def nodes() -> List[Tuple[str, ast.AST]]:
    """The source of graphslim and of its passes: each node, and the file that it is in."""
    files = sorted([*(ROOT / "graphslim").rglob("*.py"), *(ROOT / "passes").glob("*.py")])
    return [
        (str(file.relative_to(ROOT)), node)
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    ]


def messages() -> Iterator[Message]:
    """Every error that the source makes; `error` is a class that a caller has chosen."""
    for file, node in nodes():
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id in (*CLASSES, "error") and node.args:
            for text in texts(node.args[0]):
                if re.search("[a-z]", text):
                    yield Message(text, node.func.id, f"{file}:{node.lineno}")


def rows() -> List[str]:
    """The parts of messages that the page explains."""
    cells = re.findall(r"^\| (.*?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [part for cell in cells for part in re.findall(r"`([^`]+)`", cell)]


def test_every_message_is_spoken_of() -> None:
    found, told = list(messages()), rows()
    assert len(found) > 300
    missing = [
        f"{one.place}: {one.error}: {one.text}"
        for one in found
        if one.error not in told and not any(part in one.text for part in told)
    ]
    assert not missing, "no row of docs/troubleshooting.md has their words:\n" + "\n".join(missing)


def test_no_row_speaks_of_what_nothing_says() -> None:
    # Some messages are put together elsewhere than where they are raised.
    found = {text for _, node in nodes() if isinstance(node, ast.expr) for text in texts(node)}
    idle = [
        part for part in rows() if part not in CLASSES and not any(part in text for text in found)
    ]
    assert not idle, f"nothing in the source says: {idle}"


def test_no_row_speaks_of_everything() -> None:
    words = {part: re.sub(r"[^a-z]+", " ", part.lower()).split() for part in rows()}
    vague = [part for part in words if len(words[part]) < 2 and len(part) < 7]
    assert not vague, f"these words could be in any message: {vague}"


def test_each_row_says_why_and_what_to_do() -> None:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:3] == "| `"]
    assert lines
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        assert len(cells) == 3 and all(cells), line
