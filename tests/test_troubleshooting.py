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
from typing import Dict, Iterator, List, Mapping, NamedTuple, Tuple

import pytest

from graphslim import errors

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "troubleshooting.md"
CLASSES = [name for name, value in vars(errors).items() if isinstance(value, type)]
MAKERS = (*CLASSES, "Caution", "UsageError", "BadParameter", "fail", "error", "_Refused")
"""What messages are given to: `error` is a class that a caller has chosen, `fail` click's."""
MOST = 20
"""Messages that one part may stand for; with more it would speak of everything."""

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="there is no checkout beside the tests")

Known = Mapping[str, List[ast.expr]]
"""What the names of a function were assigned, and what the functions of its file return."""


class Message(NamedTuple):
    """What an error says in the source, `...` for what is filled in, and where."""

    text: str
    error: str
    place: str


def texts(node: ast.AST, known: Known) -> List[str]:
    """What an expression may say; nothing where it only passes on what was said elsewhere."""
    if isinstance(node, ast.IfExp):
        return [*texts(node.body, known), *texts(node.orelse, known)]
    if isinstance(node, ast.BinOp):
        left, right = (texts(side, known) or ["..."] for side in (node.left, node.right))
        return [before + after for before in left for after in right]
    if isinstance(node, ast.JoinedStr):
        return ["".join([(texts(part, {}) or ["..."])[0] for part in node.values])]
    if isinstance(node, ast.Starred):
        return texts(node.value, known)
    if isinstance(node, ast.Tuple) and node.elts:
        return texts(node.elts[0], known)
    name = node.func if isinstance(node, ast.Call) else node
    if isinstance(name, ast.Name):
        others = {key: values for key, values in known.items() if key != name.id}
        return [text for value in known.get(name.id, []) for text in texts(value, others)]
    value = getattr(node, "value", getattr(node, "s", None))
    return [value] if isinstance(value, str) else []


@functools.lru_cache(maxsize=None)
def trees() -> Dict[str, ast.Module]:
    """The source of graphslim and of its passes, by file."""
    files = sorted([*(ROOT / "graphslim").rglob("*.py"), *(ROOT / "passes").glob("*.py")])
    return {
        file.relative_to(ROOT).as_posix(): ast.parse(file.read_text(encoding="utf-8"))
        for file in files
    }


def assigned(function: ast.AST) -> Iterator[Tuple[str, ast.expr]]:
    """The names that a function assigns, each with the expression."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield getattr(target, "id", ""), node.value
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    for name, value in zip(target.elts, node.value.elts):
                        yield getattr(name, "id", ""), value


def returned(tree: ast.AST) -> Iterator[Tuple[str, ast.expr]]:
    """The functions of a file, each with the expressions that it returns."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Return) and node.value is not None:
                    yield function.name, node.value


def by_name(pairs: Iterator[Tuple[str, ast.expr]]) -> Known:
    known: Dict[str, List[ast.expr]] = {}
    for name, value in pairs:
        known.setdefault(name, []).append(value)
    return known


@functools.lru_cache(maxsize=None)
def messages() -> List[Message]:
    """Every error and caution that the source makes."""
    found = []
    for file, tree in trees().items():
        stack: List[Tuple[ast.AST, Known]] = [(tree, by_name(returned(tree)))]
        while stack:
            node, known = stack.pop()
            if isinstance(node, ast.FunctionDef):
                known = {**known, **by_name(assigned(node))}
            if isinstance(node, ast.Call) and node.args:
                maker = getattr(node.func, "id", getattr(node.func, "attr", ""))
                for text in texts(node.args[0], known) if maker in MAKERS else ():
                    if re.search("[a-z]", text):
                        found.append(Message(text, maker, f"{file}:{node.lineno}"))
            stack += [(child, known) for child in ast.iter_child_nodes(node)]
    return found


def rows() -> List[str]:
    """The parts of messages that the page explains."""
    cells = re.findall(r"^\| (.*?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [part for cell in cells for part in re.findall(r"`([^`]+)`", cell)]


def test_every_message_is_spoken_of() -> None:
    parts = rows()
    assert len(messages()) > 300
    missing = [
        f"{message.place}: {message.error}: {message.text}"
        for message in messages()
        if message.error not in parts and not any(part in message.text for part in parts)
    ]
    assert not missing, (
        f"add a row to {PAGE.name}, or their words to the first column of a row:\n"
        + "\n".join(missing)
    )


def test_no_row_speaks_of_what_nothing_says() -> None:
    # Some messages are put together elsewhere than where they are raised.
    said = {
        text
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.expr)
        for text in texts(node, {})
    }
    idle = [
        part for part in rows() if part not in CLASSES and not any(part in text for text in said)
    ]
    assert not idle, f"nothing in the source says: {idle}"


def test_no_row_speaks_of_everything() -> None:
    words = {part: re.sub(r"[^a-z]+", " ", part.lower()).split() for part in rows()}
    vague = [part for part in words if len(words[part]) < 2 and len(part) < 7]
    vague += [part for part in words if sum(part in one.text for one in messages()) > MOST]
    assert not vague, f"these words could be in any message: {vague}"


def test_each_row_says_why_and_what_to_do() -> None:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:3] == "| `"]
    assert lines
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        assert len(cells) == 3 and all(cells), line
