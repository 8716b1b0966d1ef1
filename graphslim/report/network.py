"""The network and its cost as bars of a page, a bar for each layer, block or part."""

from __future__ import annotations

import os
from collections import Counter
from html import escape
from typing import Callable, Iterable, List, Optional, Sequence

from graphslim.report.data import LayerWidth, Pair, Part
from graphslim.support.text import count, plural, share

_PARTS_SHOWN = 16
"""The number of parts shown at first; the others unfold."""


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


def _layer(layer: LayerWidth, name: str, widest: int) -> str:
    before, after = layer.width
    pinned = f", {plural(layer.pinned, 'channel')} pinned" if layer.pinned else ""
    hint = f"{layer.name} ({layer.op}): {before} -> {after} channels{pinned}"
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
    """A name of which, in a narrow space, the end is shown."""
    return f"<bdi>{escape(text)}</bdi>"


def costs(parts: Sequence[Part], names: Names) -> str:
    """Multiply-accumulates and parameters of each part, before and after, the costliest first."""
    macs = _cost_list("Multiply-accumulates", parts, names, lambda part: part.macs)
    params = _cost_list("Parameters", parts, names, lambda part: part.params)
    return f'<div class="two">{macs}{params}</div>'


def _cost_list(
    title: str, parts: Sequence[Part], names: Names, cost_of: Callable[[Part], Optional[Pair]]
) -> str:
    costs = [(part, cost_of(part)) for part in parts]
    known = [(part, pair) for part, pair in costs if pair is not None and any(pair)]
    known.sort(key=lambda part_pair: -part_pair[1][0])
    head = f"<h3>{title}</h3>"
    if not known or any(pair is None for _, pair in costs):
        text = "Not known: the size of an input is open; give it with --input-shape."
        return f'<div>{head}<p class="soft">{text}</p></div>'
    most = max([max(pair) for _, pair in known])
    rows = [_cost(part.name, names(part.name), pair, most) for part, pair in known]
    return f"<div>{head}{''.join(rows[:_PARTS_SHOWN])}{_more(rows[_PARTS_SHOWN:])}</div>"


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


class Names:
    """Shortens the names of one network's layers and blocks; the short names differ too.

    Args:
        layers: the names of the layers.
        blocks: the names of the blocks.
    """

    def __init__(self, layers: Iterable[str], blocks: Iterable[str]) -> None:
        layers = list(layers)
        self._blocks = set(blocks)
        scopes = [name.split("/")[:-1] for name in [*layers, *self._blocks]]
        shared = os.path.commonprefix(scopes) if scopes else []
        self._shared = "".join([f"{scope}/" for scope in shared])
        self._stems = Counter([name.rpartition("/")[0] for name in layers])

    def __call__(self, name: str) -> str:
        """A name without the scopes that all share, and without a needless `/Conv2D`."""
        short = name[len(self._shared) :] if name.startswith(self._shared) else name
        stem = name.rpartition("/")[0]
        if name in self._blocks or self._stems[stem] != 1 or len(stem) <= len(self._shared):
            return short
        return short.rpartition("/")[0]

    def inside(self, name: str, block: str) -> str:
        """The name of a layer in a block, without the name of the block."""
        short = self(name)
        start = self(block)
        suffix = short[len(start) :] if short.startswith(start) else ""
        return suffix[1:] if suffix[:1] in ("/", "_") and len(suffix) > 1 else short
