"""A page on what a network loses as single groups lose channels: a heat map, and the curves."""

from __future__ import annotations

import math
from html import escape
from typing import List, Optional

import numpy as np

from graphslim.plans import Plan
from graphslim.plans.curves import Curve, Curves
from graphslim.report.parts import fill, section
from graphslim.support.text import percent, plural

SHARES = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)
"""Shares of a group's channels that the map has columns for."""
BETWEEN = "Numbers with a ~ stand between measurements, and are in proportion to these"
_WIDTH, _HEIGHT, _EDGE = 120, 30, 3
"""The size of a curve's drawing, and the room around it, in its own units."""


def render_curves(curves: Curves, plan: Optional[Plan] = None) -> str:
    """The page as text.

    Args:
        curves: the measurements.
        plan: a plan whose widths are drawn in.
    """
    by_group = sorted(curves.by_group().items(), key=lambda item: -steepness(item[1]))
    chosen = {} if plan is None else {group.id: len(group.removed) for group in plan.groups}
    most = max([float(curve.losses.max()) for _, curve in by_group], default=0.0)
    heads = "".join([f"<th>{percent(share)}</th>" for share in SHARES])
    rows = [_row(name, curve, chosen.get(name), most) for name, curve in by_group]
    about = curves.about
    fitted = ", after the layers behind it were fitted by least squares" if about.repaired else ""
    lead = (
        f"Each group alone loses the share of its channels at the head of the column, those first "
        f"that {escape(about.criterion)} holds least worth keeping; the number is the loss of the "
        f"whole network{fitted} ({escape(about.metric)}, over {plural(about.images, 'image')}). "
        f"The steepest group stands first. {BETWEEN}; a cell without a number is beyond what was "
        "measured."
    )
    drawn = " The ring is the width that the plan gives the group." if plan is not None else ""
    table = (
        f'<div class="card scroll"><table class="heat"><thead><tr><th>group</th><th>channels</th>'
        f"{heads}<th>curve</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
    body = [
        f"<h1>{escape(about.model)}: what its channels are worth</h1>",
        section("Loss by group and share", lead + drawn, table),
    ]
    return fill(f"{about.model}: sensitivity", body)


def steepness(curve: Curve) -> float:
    """What a group would lose whole, if the last measurement's proportion held."""
    return float(curve.losses[-1]) * curve.channels / max(1, int(curve.removed[-1]))


def loss_at(curve: Curve, share: float) -> Optional[float]:
    """The loss at a share of the channels, in proportion between measurements; None beyond."""
    count = share * curve.channels
    if count > curve.removed[-1]:
        return None
    return max(0.0, float(np.interp(count, curve.removed, curve.losses)))


def told_at(curve: Curve, share: float) -> str:
    """The loss at a share of the channels, in words; with a ~ where it was not measured itself."""
    loss = loss_at(curve, share)
    if loss is None:
        return ""
    return percent(loss) if share * curve.channels in curve.removed else f"~{percent(loss)}"


def _row(name: str, curve: Curve, chosen: Optional[int], most: float) -> str:
    cells: List[str] = []
    for share in SHARES:
        heat = _heat(loss_at(curve, share), most)
        cells.append(f'<td style="--heat:{heat:.2f}">{told_at(curve, share)}</td>')
    return (
        f'<tr><th scope="row"><code>{escape(name)}</code></th><td>{curve.channels}</td>'
        f"{''.join(cells)}<td>{_drawing(curve, chosen, most)}</td></tr>"
    )


def _heat(loss: Optional[float], most: float) -> float:
    """How strongly a loss is coloured, from 0 to 1: by its root, so that small ones differ."""
    return 0.0 if loss is None or not most else math.sqrt(min(1.0, loss / most))


def _drawing(curve: Curve, chosen: Optional[int], most: float) -> str:
    """The curve as a line, all on one scale, with a ring at the width that was chosen."""

    def place(removed: float, loss: float) -> str:
        across = _EDGE + (_WIDTH - 2 * _EDGE) * removed / curve.channels
        down = _HEIGHT - _EDGE - (_HEIGHT - 2 * _EDGE) * max(0.0, loss) / (most or 1.0)
        return f"{across:.1f},{down:.1f}"

    points = " ".join([place(*pair) for pair in zip(curve.removed, curve.losses)])
    ring = ""
    if chosen:
        loss = float(np.interp(chosen, curve.removed, curve.losses))
        across, down = place(chosen, loss).split(",")
        ring = f'<circle cx="{across}" cy="{down}" r="2.6"/>'
    label = f"from 0 to {percent(float(curve.losses[-1]))}"
    return (
        f'<svg class="curve" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
        f'<polyline points="{points}"/>{ring}</svg>'
    )
