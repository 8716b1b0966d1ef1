"""Tables in narrow terminals: whole names or tails that can be told apart, numbers unbroken."""

from __future__ import annotations

import io
from typing import List, Sequence

import pytest

from graphslim.cli.console import Console
from graphslim.cli.tables import elided, print_pairs, print_table

NAMES = [
    f"net/stage_{stage}/block/{part}/BatchNorm/FusedBatchNormV3"
    for stage in (1, 2)
    for part in ("expand", "depthwise", "project")
]
WIDE = ("node", "+op", "weights", "output", ">params", ">MACs")
LAYERS = [
    (name, "FusedBatchNormV3", "4 of 1280 => 4 of 1024", f"1x{size}x{size}x1280 => 1x7x7x1024")
    + ("1,638,400 => 1,048,576", "313.60 M => 200.70 M")
    for size, name in enumerate(NAMES, 100)
]


def printed(
    terminal: pytest.MonkeyPatch, width: int, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> List[str]:
    terminal.setenv("COLUMNS", str(width))
    console = Console()
    console.file = io.StringIO()
    print_table(console, "Layers", columns, rows)
    lines = console.file.getvalue().splitlines()
    assert max([len(line) for line in lines]) <= width, lines
    return [line.rstrip() for line in lines]


def test_with_room_every_row_is_one_line_in_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, 400, WIDE, LAYERS)
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if "│" in line]
    assert rows == [list(row) for row in LAYERS]


@pytest.mark.parametrize("width", [70, 80, 120])
def test_names_in_a_narrow_terminal_stand_above_their_rows(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed(monkeypatch, width, WIDE, LAYERS)
    assert lines[0] == "Layers (names in net/)"
    heads = [index for index, line in enumerate(lines) if line.endswith("  FusedBatchNormV3")]
    tails = [lines[index].split()[0] for index in heads]
    if width >= 80:
        assert tails == [name[len("net/") :] for name in NAMES]
    assert all(name.endswith(tail.lstrip(".")) for name, tail in zip(NAMES, tails))
    below = " ".join([" ".join(lines[heads[0] + 1 : heads[1]])]).split()
    for piece in ("313.60", "200.70", "1,638,400", "1,048,576", "1x100x100x1280", "1x7x7x1024"):
        assert piece in below, f"{piece} was broken over lines at {width} columns: {below}"


def test_names_lose_their_beginning_as_far_as_they_still_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [(f"{'scope/' * 8}{part}/weights/read", "1") for part in ("first", "second")]
    rows.append(("other", "2"))
    lines = printed(monkeypatch, 60, ("layer", ">channels"), rows)
    assert lines[0] == "Layers", "there is no scope that all names share"
    shown = [line.split()[0] for line in lines[3:6]]
    assert [name.endswith(tail.lstrip(".")) for (name, _), tail in zip(rows, shown)] == [True] * 3
    assert len(set(shown)) == 3 and shown[2] == "other"


def test_a_table_without_rows_has_a_heading(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "channels" in printed(monkeypatch, 80, ("layer", ">channels"), [])[2]


def test_a_name_is_elided_from_the_left() -> None:
    assert elided("scope/layer/Conv2D", 12) == "...er/Conv2D"
    assert elided("Conv2D", 12) == "Conv2D"


def test_texts_are_wrapped_beside_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    console = Console()
    console.file = io.StringIO()
    print_pairs(
        console, [("l1", "The sum of the absolute weights of a filter."), ("random", "Lots.")]
    )
    assert console.file.getvalue().splitlines() == [
        "l1      The sum of the absolute weights",
        "        of a filter.",
        "random  Lots.",
    ]


class LaidOut(Console):
    is_plain = False


TABLES = [
    (("block", ">channels"), [("b/expand", "8"), ("b", "1,024")]),
    (("", ">", "<"), [("a\nlonger", "1 ", ""), (" ", "22\n3", "\x1b[2J")]),
    (("layer", ">", "+text"), [("世界", "世", "é => 世"), ("a", "b", "c")]),
    (("layer", "text"), []),
    (("layer", "text"), [("x" * 9000, "y" * 2000)]),
]


@pytest.mark.parametrize("columns, rows", TABLES)
def test_a_table_in_a_pipe_is_the_one_that_rich_draws(
    columns: Sequence[str], rows: Sequence[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    plain, laid_out = Console(), LaidOut()
    plain.file, laid_out.file = io.StringIO(), io.StringIO()
    for console in (plain, laid_out):
        print_table(console, "Layers", columns, rows)
        print_pairs(console, [row[:2] for row in rows])
    assert plain.is_plain
    assert plain.file.getvalue() == laid_out.file.getvalue()
