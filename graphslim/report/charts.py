"""The charts of a report, drawn by matplotlib as small inline SVGs without scripts or fonts."""

from __future__ import annotations

import io
import re
from typing import Any, Optional, Sequence, Tuple

import numpy as np

from graphslim.errors import GraphslimError

_COLOURS = {
    "kept": "#0072b2",
    "gone": "#e69f00",
    "ink": "#1a1c1e",
    "faint": "#8a8f94",
}
"""What matplotlib draws with; each becomes the style sheet's colour of that name."""
_BINS = 24
_SKEWED = 8
"""So many times the median, the highest score calls for a logarithmic axis."""


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
            "pip install 'graphslim[report]'",
        ) from None


def cut_between(scores: Sequence[float], removed: Sequence[int]) -> Optional[float]:
    """The score that parts the channels that go from those that stay; None if none does.

    Rounding, and ties between equal scores, may leave none.

    Args:
        scores: one per channel.
        removed: indices of the channels that go.
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
    """How the scores of a group are distributed, those that go on those that stay, and the cut.

    Args:
        scores: one per channel.
        removed: indices of the channels that go.
        label: what a screen reader says.

    Returns:
        an `<svg>` element.
    """
    values = np.asarray(scores, np.float64)
    gone = np.zeros(len(values), bool)
    gone[list(removed)] = True
    low, high = float(values.min()), float(values.max())
    if not high > low:
        low, high = low - 0.5, high + 0.5
    skewed = _skewed(values)
    spaced: Any = np.geomspace if skewed else np.linspace
    edges = spaced(low, high, _BINS + 1)
    # Rounding may leave the outermost scores outside.
    edges[0], edges[-1] = low, high
    stay, leave = [np.histogram(values[one], edges)[0] for one in (~gone, gone)]
    figure, axes = _figure(2.3, 1.15)
    axes.stairs(stay, edges, fill=True, color=_COLOURS["kept"])
    axes.stairs(stay + leave, edges, baseline=stay, fill=True, color=_COLOURS["gone"])
    cut = cut_between(scores, removed)
    top = float((stay + leave).max()) * 1.12
    if cut is not None:
        axes.plot([cut, cut], [0, top], color=_COLOURS["ink"], lw=1.1, ls=(0, (3, 1.5)))
    axes.set_xlim(low, high)
    axes.set_ylim(0, top)
    if skewed:
        _tick_logarithmically(axes, low, high)
    else:
        axes.locator_params(axis="x", nbins=4)
    axes.locator_params(axis="y", nbins=2, integer=True)
    return _svg(figure, label)


def _skewed(values: np.ndarray) -> bool:
    """Whether most scores are so near the lowest that only a logarithmic axis tells them apart."""
    return bool(values.min() > 0 and values.max() > _SKEWED * np.median(values))


def _tick_logarithmically(axes: Any, low: float, high: float) -> None:
    """A logarithmic axis with two or three numbers that are short."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.minorticks_off()
    first, last = int(np.ceil(np.log10(low))), int(np.floor(np.log10(high)))
    powers = list(range(first, last + 1))
    places = [10.0**power for power in powers[:: max(1, (len(powers) + 2) // 3)]]
    axes.set_xticks(places)
    axes.set_xticklabels([f"{place:g}" for place in places])


def differences(outputs: Sequence[Tuple[str, float]], tolerance: Optional[float]) -> str:
    """How far each output is from what it should be, on a logarithmic scale.

    Args:
        outputs: name, and largest difference as a share of the output's range.
        tolerance: what is allowed, drawn as a line; None for no line.

    Returns:
        an `<svg>` element; a difference of zero stands at its left end.
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
    for which, colour, marker in ((fine, "kept", "o"), (~fine, "gone", "D")):
        axes.plot(shares[which], rows[which], marker, color=_COLOURS[colour], ms=5)
    if tolerance:
        axes.axvline(tolerance, color=_COLOURS["ink"], lw=1.1, ls=(0, (3, 1.5)))
    axes.set_xticks([1e-8, 1e-6, 1e-4, 1e-2, 1])
    axes.set_xticklabels(["1e-8", "1e-6", "1e-4", "1 %", "100 %"])
    axes.minorticks_off()
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    return _svg(figure, "; ".join([f"{name}: {share:.3g}" for name, share in outputs]))


def _figure(width: float, height: float) -> Tuple[Any, Any]:
    """A figure of so many inches with one bare pair of axes; no global state, no window."""
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
    # Ids of groups would stand in the page many times over, and nothing refers to them.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    box = re.search(r'viewBox="[^"]*"', text)
    for name, colour in _COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    start = f'<svg class="chart" {box[0] if box else ""} role="img" aria-label="'
    text = start + html.escape(label) + '">' + text[text.index(">") + 1 :]
    return re.sub(r"\s*\n\s*", " ", text).replace("> <", "><").strip()
