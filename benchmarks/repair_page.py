"""The page of the repair benchmark, made of the rows that were measured."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

from benchmarks.results import table

SENSITIVITY = "## Budgets by measured sensitivity"
"""The heading of the last section, which `sensitivity.py` makes."""
AT_ONCE, GRADUALLY = "at once", "gradually"
"""The ways to a budget; a row has the columns of one."""
REMOVED, FITTED, TRAINED, BOTH, GRADUAL = COLUMNS = (
    *("removed", "least squares", "distilled", "both", "gradual"),
)
Row = Dict[str, Any]
_HEAD = """# Repair without labels

Made by `make bench-repair` from the rows of `REPAIR.jsonl`, which have what was measured for each
seed, and the seconds of each stage. A stage that its gate threw away shows as what was before it.
*Removed* is plain removal, *both* is least squares and then distillation, *gradual* both in each of
three rounds. In brackets stands the error, as a share of what the outputs vary by; *times smaller*
is by how much the error of *both* is below that of *removed*. Seconds are those of *both*.
"""
_LABELLED = """## {0}

{1}Networks for Fashion-MNIST, repaired by the first {2} training images without labels: the share
of the 10,000 test images that they get right. *Lost* is in points of that, with both stages.
"""
_PUBLISHED = """## {0}, published networks

{1}Images of their own kind are not at hand. The photographs are those of scikit-image and Debian's
wallpapers (`photos.py`), few of which show a person: images of the right kind would bring more. Two
thirds repair, the others judge: error, and where the network decides something, the share of
decisions that are as the original's (for pictures the mean intersection over union).
"""


def page(rows: Sequence[Row], published: Sequence[str]) -> str:
    """The page, in Markdown: a table for the rows of each set of options.

    Args:
        rows: what was measured.
        published: the names of the networks that have no labelled images.
    """
    parts = [_HEAD]
    for kind in (_LABELLED, _PUBLISHED):
        sets: Dict[Tuple[Any, ...], List[Row]] = {}
        for row in rows:
            if (row["network"] in published) == (kind is _PUBLISHED):
                options = [row[name] for name in ("images", "steps", "seconds", "threads")]
                sets.setdefault(tuple(options), []).append(row)
        for (images, steps, seconds, threads), members in sets.items():
            title = f"{steps} steps" if steps is not None else f"{seconds:g} seconds"
            machines = sorted({row["machine"] for row in members})
            on = "all threads" if not threads else f"{threads} thread{'s'[: threads > 1]}"
            about = f"On {on} of {'; '.join(machines)}. "
            parts += [kind.format(title, about, images), _table(members), ""]
    return "\n".join(parts)


def _table(rows: Sequence[Row]) -> str:
    cases: Dict[Tuple[Any, ...], List[Row]] = {}
    for row in rows:
        cases.setdefault((row["network"], row["criterion"], -row["macs"]), []).append(row)
    titles = [title for title in COLUMNS if any(title in row["columns"] for row in rows)]
    heads = ["network", "criterion", "MACs", "seeds", "original", *titles, "times smaller", "lost"]
    heads += ["steps", "seconds", "peak GB"]
    return table(heads, [_line(case, cases[case], titles) for case in sorted(cases)])


def _line(case: Tuple[Any, ...], rows: Sequence[Row], titles: Sequence[str]) -> List[str]:
    """The means over seeds."""
    network, criterion, macs = case
    last = BOTH if BOTH in titles else FITTED
    seeds = {row["seed"] for row in rows}
    cells = [network, criterion, f"{-macs:g}", str(len(seeds))]
    original = _mean([row["original"] for row in rows])
    cells.append(_percent(original))
    for title in titles:
        error = _of(rows, title, "error")
        right = _of(rows, title, "right")
        text = "" if error is None else f"({_percent(error)})"
        cells.append(f"{_percent(right)} {text}".strip())
    before, after, right = [
        _of(rows, title, what)
        for title, what in ((REMOVED, "error"), (last, "error"), (last, "right"))
    ]
    cells.append("" if before is None or not after else f"{before / after:.1f}")
    cells.append("" if original is None or right is None else f"{100 * (original - right):.2f}")
    made = _mean([row["made"] for row in rows if row["way"] == AT_ONCE])
    seconds = _of(rows, last, "seconds")
    cells += ["" if number is None else f"{number:.0f}" for number in (made, seconds)]
    cells.append(f"{max([row['gigabytes'] for row in rows]):.1f}")
    return cells


def _of(rows: Sequence[Row], title: str, what: str) -> Optional[float]:
    return _mean([row["columns"][title][what] for row in rows if title in row["columns"]])


def _mean(numbers: Sequence[Optional[float]]) -> Optional[float]:
    given = [number for number in numbers if number is not None]
    return sum(given) / len(given) if given else None


def _percent(share: Optional[float]) -> str:
    return "" if share is None else f"{100 * share:.2f} %"
