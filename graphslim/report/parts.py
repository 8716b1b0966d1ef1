"""Pieces that pages are made of: the frame, sections, cards, tables."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template
from typing import Iterable, Sequence

_FOLDER = Path(__file__).resolve().parent


def fill(title: str, body: Iterable[str]) -> str:
    """A page of parts of HTML, with the style sheet of all pages."""
    return Template((_FOLDER / "template.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        style=(_FOLDER / "style.css").read_text(encoding="utf-8"),
        body="\n".join(body),
    )


def section(title: str, lead: str, *content: str) -> str:
    """A part of a page: a heading, a sentence that says what is seen, and the rest."""
    return f'<section><h2>{title}</h2><p class="soft">{lead}</p>{"".join(content)}</section>'


def verdict_card(title: str, text: str, shade: str = "") -> str:
    """A card of a heading and a sentence; `warn` shades it."""
    return (
        f'<div class="card {shade}"><strong>{escape(title)}</strong>'
        f'<span class="soft">{escape(text)}</span></div>'
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; heads of numbers begin with `>`."""
    numbers = [' class="number"' if head.startswith(">") else "" for head in heads]
    head = "".join(
        [f"<th{kind}>{escape(text.lstrip('>'))}</th>" for kind, text in zip(numbers, heads)]
    )
    cells = [
        "".join([f"<td{kind}>{escape(text)}</td>" for kind, text in zip(numbers, row)])
        for row in rows
    ]
    body = "".join([f"<tr>{row}</tr>" for row in cells])
    return (
        f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )
