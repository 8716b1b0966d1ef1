"""The network as a picture, and what its parts cost: bars that fit any width, as HTML."""

from __future__ import annotations

from html import escape
from typing import Callable, List, Optional, Sequence

from graphslim.report.data import Layer, Pair, Part
from graphslim.report.names import Names
from graphslim.support.text import count, plural, share

_SHOWN = 16
"""So many parts are in sight at once; the rest unfolds."""


def network(parts: Sequence[Part], names: Names) -> str:
    """Every layer from input to output, its width before and after; blocks are framed."""
    widest = max([layer.width[0] for part in parts for layer in part.layers] or [1])
    rows = [_part(part, widest, names) for part in parts]
    return f'<div class="columns">{"".join(rows)}</div>'


def _part(part: Part, widest: int, names: Names) -> str:
    if not part.layers:
        return ""
    if part.kind is None:
        rows = [_layer(layer, names(layer.name), widest) for layer in part.layers]
        return f'<div class="part">{"".join(rows)}</div>'
    rows = [_layer(layer, names.inside(layer.name, part.name), widest) for layer in part.layers]
    kind = part.kind.replace("_", " ")
    title = f"<h3>{escape(names(part.name))} <small>{escape(kind)}</small></h3>"
    return f'<div class="part block">{title}{"".join(rows)}</div>'


def _layer(layer: Layer, name: str, widest: int) -> str:
    before, after = layer.width
    held = f", {plural(layer.pinned, 'channel')} pinned" if layer.pinned else ""
    hint = f"{layer.name} ({layer.op}): {before} -> {after} channels{held}"
    # The square root keeps narrow layers in sight beside wide ones.
    length = 100 * (before / widest) ** 0.5
    stays = 100 * after / before if before else 0
    shade = "wall" if layer.pinned == before else "kept"
    pieces = _piece("gone", (100 - stays) / 2), _piece(shade, stays)
    number = str(before) if before == after else f"{before} → <b>{after}</b>"
    return (
        f'<div class="layer" title="{escape(hint)}"><span class="name">{tail(name)}</span>'
        f'<span class="bar"><span style="width:{length:.1f}%">{pieces[0]}{pieces[1]}{pieces[0]}'
        f'</span></span><span class="number">{number}</span></div>'
    )


def _piece(shade: str, percent: float) -> str:
    return f'<b class="{shade}" style="width:{percent:.2f}%"></b>' if percent > 0 else ""


def tail(text: str) -> str:
    """A name whose end stays in sight where there is no room for all of it."""
    return f"<bdi>{escape(text)}</bdi>"


def costs(parts: Sequence[Part], names: Names) -> str:
    """Multiply-accumulates and parameters of each part, before and after, the costliest first."""
    macs = _costs("Multiply-accumulates", parts, names, lambda part: part.macs)
    params = _costs("Parameters", parts, names, lambda part: part.params)
    return f'<div class="two">{macs}{params}</div>'


def _costs(
    title: str, parts: Sequence[Part], names: Names, of: Callable[[Part], Optional[Pair]]
) -> str:
    found = [(part, of(part)) for part in parts]
    known = [(part, pair) for part, pair in found if pair is not None and any(pair)]
    known.sort(key=lambda one: -one[1][0])
    head = f"<h3>{title}</h3>"
    if not known or len([one for one in found if one[1] is None]):
        text = "Not known: the size of an input is open; give it with --input-shape."
        return f'<div>{head}<p class="soft">{text}</p></div>'
    most = max([max(pair) for _, pair in known])
    rows = [_cost(part.name, names(part.name), pair, most) for part, pair in known]
    return f"<div>{head}{''.join(rows[:_SHOWN])}{_more(rows[_SHOWN:])}</div>"


def _more(rows: List[str]) -> str:
    if not rows:
        return ""
    return f"<details><summary>and {len(rows)} more</summary>{''.join(rows)}</details>"


def _cost(full: str, name: str, pair: Pair, most: int) -> str:
    before, after = pair
    name = name or "the rest"
    stays = min(100.0, 100 * after / before) if before else 100.0
    change = share(before, after)
    hint = f"{full or name}: {before:,} -> {after:,} ({change})"
    pieces = _piece("kept", stays) + _piece("gone", 100 - stays)
    number = count(before) if before == after else f"{count(before)} → <b>{count(after)}</b>"
    return (
        f'<div class="cost" title="{escape(hint)}"><span class="name">{tail(name)}</span>'
        f'<span class="bars"><span style="width:{100 * max(pair) / most:.2f}%">{pieces}</span>'
        f'</span><span class="number">{number}</span></div>'
    )
