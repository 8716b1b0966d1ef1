"""The charts of a report, drawn by matplotlib as small inline SVGs without scripts or fonts."""

from __future__ import annotations

import io
import re
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from graphslim.errors import GraphslimError
from graphslim.support.importing import install_hint

_COLOURS = {
    "kept": "#0072b2",
    "gone": "#e69f00",
    "ink": "#1a1c1e",
    "faint": "#8a8f94",
}
"""The colours that matplotlib uses; each is replaced by the style sheet's colour of that name."""
_BINS = 24
_SKEWED = 8
"""If the largest score is more than this many times the median, the axis is logarithmic."""
_DEPTH = 1e-3
"""Scores below this share of the median are in the linear part of a logarithmic axis."""
_ROOM = 0.19
"""The smallest distance of two numbers below the axis, as a share of its length."""


def require_library() -> None:
    """Makes sure that charts can be drawn.

    Raises:
        GraphslimError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise GraphslimError(
            "needs matplotlib, which is not installed",
            "the report",
            install_hint("report"),
        ) from None


def cut_between(scores: Sequence[float], removed: Sequence[int]) -> Optional[float]:
    """The score that separates removed channels from those that stay; None if there is none.

    Rounding, and ties between equal scores, may leave no such score.

    Args:
        scores: one per channel.
        removed: indices of the removed channels.
    """
    values = np.asarray(scores, np.float64)
    gone = np.zeros(len(values), bool)
    gone[list(removed)] = True
    if gone.all() or not gone.any():
        return None
    low, high = (gone, ~gone) if values[gone].mean() <= values[~gone].mean() else (~gone, gone)
    below, above = values[low].max(), values[high].min()
    return float(below + above) / 2 if below <= above else None


def histogram(scores: Sequence[float], removed: Sequence[int], label: str) -> str:
    """A histogram of a group's scores: removed channels stacked on those that stay, and the cut.

    Args:
        scores: one per channel.
        removed: indices of the removed channels.
        label: the text for screen readers.

    Returns:
        an `<svg>` element.
    """
    values = np.asarray(scores, np.float64)
    gone = np.zeros(len(values), bool)
    gone[list(removed)] = True
    cut = cut_between(scores, removed)
    axis = _Axis(values, cut)
    edges = axis.edges
    stay, leave = [np.histogram(axis.place(values[mask]), edges)[0] for mask in (~gone, gone)]
    figure, axes = _figure(2.3, 1.15)
    axes.stairs(stay, edges, fill=True, color=_COLOURS["kept"])
    axes.stairs(stay + leave, edges, baseline=stay, fill=True, color=_COLOURS["gone"])
    top = float((stay + leave).max()) * 1.12
    if cut is not None:
        place = float(axis.place(cut))
        axes.plot([place, place], [0, top], color=_COLOURS["ink"], lw=1.1, ls=(0, (3, 1.5)))
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, top)
    if axis.even is None:
        axes.locator_params(axis="x", nbins=4)
    else:
        marks = axis.marks()
        axes.set_xticks(axis.place(marks))
        axes.set_xticklabels([_short(mark) for mark in marks])
    axes.locator_params(axis="y", nbins=2, integer=True)
    return _svg(figure, label)


class _Axis:
    """The axis of a histogram of scores: linear, or logarithmic if the scores are skewed.

    A logarithmic axis is linear from `-even` to `even`, so that it has room for zero, for negative
    scores and for scores far below the median. Beyond that, a step of length `even` becomes a power
    of ten.

    Args:
        values: the scores; float64 of shape (channels,).
        cut: the score of the cut, which has to be visible beside both ends; None if there is none.
    """

    def __init__(self, values: np.ndarray, cut: Optional[float]) -> None:
        self.low, self.high = float(values.min()), float(values.max())
        if not self.high > self.low:
            self.low, self.high = self.low - 0.5, self.high + 0.5
        self.even: Optional[float] = None
        sizes = np.abs(values[values != 0])
        if len(sizes) and self._is_skewed(sizes, cut):
            self.even = max(float(sizes.min()), _DEPTH * float(np.median(sizes)))
        first, last = self.place([self.low, self.high]).tolist()
        self.edges = np.linspace(first, last, _BINS + 1)

    def _is_skewed(self, sizes: np.ndarray, cut: Optional[float]) -> bool:
        """Whether most scores, or one side of the cut, would share few bars of a linear axis."""
        bar = (self.high - self.low) / _BINS
        hidden = cut is not None and 0 < min(cut - self.low, self.high - cut) < 2 * bar
        least = sizes.min() if hidden else np.median(sizes)
        return bool(sizes.max() > _SKEWED * least)

    def place(self, values: Any) -> np.ndarray:
        """The positions of scores on the axis; float64 of the shape of `values`."""
        values = np.asarray(values, np.float64)
        if self.even is None:
            return values
        sizes = np.abs(values) / self.even
        with np.errstate(divide="ignore"):
            return np.sign(values) * np.where(sizes > 1, 1 + np.log10(sizes), sizes)

    def marks(self) -> List[float]:
        """The numbers below a logarithmic axis: zero, and round numbers that have room."""
        assert self.even is not None
        above = _round_numbers(max(self.even, self.low), self.high)
        below = [-number for number in _round_numbers(max(self.even, -self.high), -self.low)]
        zero = [0.0] if self.low <= 0 <= self.high else []
        room = _ROOM * (self.edges[-1] - self.edges[0])
        chosen: List[float] = []
        for number in [*zero, *sorted([*above, *below], key=abs, reverse=True)]:
            if all(abs(self.place(number) - self.place(mark)) >= room for mark in chosen):
                chosen.append(number)
        return sorted(chosen)


def _round_numbers(low: float, high: float) -> List[float]:
    """The powers of ten between two positive numbers; if fewer than two, 1, 2 and 5 times these."""
    if not high >= low:
        return []
    first, last = int(np.floor(np.log10(low))), int(np.floor(np.log10(high)))
    powers = [10.0**power for power in range(first, last + 1)]
    fine = [factor * power for power in powers for factor in (1, 2, 5)]
    coarse = [number for number in powers if low <= number <= high]
    return coarse if len(coarse) > 1 else [number for number in fine if low <= number <= high]


def _short(number: float) -> str:
    """A round number in few characters: `0.01`, `500`, `1e6`."""
    text = f"{number:g}"
    if number and not 1e-3 <= abs(number) < 1e4:
        digits, _, power = f"{number:.0e}".partition("e")
        text = f"{digits}e{int(power)}"
    return text.replace("-", "\N{MINUS SIGN}")


def differences(outputs: Sequence[Tuple[str, float]], tolerance: Optional[float]) -> str:
    """A chart of the largest difference of each output, on a logarithmic scale.

    Args:
        outputs: name, and largest difference as a share of the output's range.
        tolerance: the largest difference allowed, drawn as a line; None for no line.

    Returns:
        an `<svg>` element; a difference of zero is at its left end.
    """
    floor = 1e-9
    figure, axes = _figure(4.6, 0.62 + 0.22 * len(outputs))
    rows = np.arange(len(outputs))[::-1]
    shares = np.array([min(max(share, floor), 10.0) for _, share in outputs])
    fine = shares <= (np.inf if tolerance is None else tolerance)
    axes.set_xscale("log")
    axes.set_xlim(floor / 2, 20)
    axes.set_ylim(-0.7, len(outputs) - 0.3)
    axes.hlines(rows, floor / 2, shares, color=_COLOURS["faint"], lw=0.8)
    for mask, colour, marker in ((fine, "kept", "o"), (~fine, "gone", "D")):
        axes.plot(shares[mask], rows[mask], marker, color=_COLOURS[colour], ms=5)
    if tolerance:
        axes.axvline(tolerance, color=_COLOURS["ink"], lw=1.1, ls=(0, (3, 1.5)))
    axes.set_xticks([1e-8, 1e-6, 1e-4, 1e-2, 1])
    axes.set_xticklabels(["1e-8", "1e-6", "1e-4", "1 %", "100 %"])
    axes.minorticks_off()
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    return _svg(figure, "; ".join([f"{name}: {share:.3g}" for name, share in outputs]))


def curve(points: Sequence[Tuple[int, float]], label: str) -> str:
    """A chart of a loss over steps of training, from its start to its last measurement.

    Args:
        points: steps and loss, in the order in which they were measured; the rates that were tried
            first are at step 0. Losses that are not finite are left out.
        label: the text for screen readers.

    Returns:
        an `<svg>` element, with a logarithmic axis of losses.
    """
    shown = [(step, max(loss, 1e-12)) for step, loss in points if np.isfinite(loss)]
    trained = [shown[0], *[point for point in shown[1:] if point[0]]] if shown else []
    figure, axes = _figure(4.6, 1.9)
    axes.set_yscale("log")
    if trained:
        steps, losses = zip(*trained)
        axes.plot(steps, losses, "-o", color=_COLOURS["kept"], lw=1.3, ms=3)
        best = int(np.argmin(losses))
        axes.plot(steps[best], losses[best], "D", color=_COLOURS["gone"], ms=6)
        low, high = min(losses) / 1.15, max(losses) * 1.15
        axes.set_ylim(low, high)
        marks = np.geomspace(low * 1.1, high / 1.1, 4)
        axes.set_yticks(marks)
        axes.set_yticklabels([f"{mark:.2g}" for mark in marks])
    axes.minorticks_off()
    axes.locator_params(axis="x", nbins=6, integer=True)
    return _svg(figure, label)


def _figure(width: float, height: float) -> Tuple[Any, Any]:
    """A figure of a size in inches with one bare pair of axes; no global state, no window."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.1, 0.26 / height, 0.83, 1 - 0.32 / height))
    axes.patch.set_visible(False)
    figure.patch.set_visible(False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_COLOURS["faint"])
        axes.spines[side].set_linewidth(0.7)
    axes.tick_params(length=2, width=0.7, pad=1.5, labelsize=7.5)
    axes.tick_params(color=_COLOURS["faint"], labelcolor=_COLOURS["ink"])
    return figure, axes


def _svg(figure: Any, label: str) -> str:
    """The figure as an element that takes its colours and fonts from the page."""
    import html

    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    # Text stays text, and names inside the SVG are the same on each run.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # A style sheet inside an inline SVG would hold for the whole page.
    junk = r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->"
    text = re.sub(junk, "", text, flags=re.DOTALL)
    # Ids of groups would be in the page several times, and nothing refers to them.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    box = re.search(r'viewBox="[^"]*"', text)
    for name, colour in _COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    start = f'<svg class="chart" {box[0] if box else ""} role="img" aria-label="'
    text = start + html.escape(label) + '">' + text[text.index(">") + 1 :]
    return re.sub(r"\s*\n\s*", " ", text).replace("> <", "><").strip()
