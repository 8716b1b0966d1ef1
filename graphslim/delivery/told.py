"""What a delivery came to, in sentences and rows of tables, for the terminal and for reports."""

from __future__ import annotations

from typing import List, Sequence, Tuple

from graphslim.delivery.check import Losses
from graphslim.delivery.formats import TITLES
from graphslim.delivery.run import Delivery
from graphslim.measure.agreement import Agreement
from graphslim.measure.timings import Timings
from graphslim.plans import TARGETS
from graphslim.support.text import percent, threads_used


def title_of(delivery: Delivery) -> str:
    """The format, and what the numbers in it are."""
    return f"{TITLES[delivery.package.kind]}, {delivery.wish.title}"


def gain(times: Timings) -> Tuple[str, bool]:
    """The time of a result beside that of its original, and whether it is slower."""
    original, result = times.models
    ratio = result.ratio
    text = (
        f"In {result.version}, {threads_used(times.threads)}: {result.latency.median:.3g} ms, and "
        f"the original {original.latency.median:.3g} ms; in runs side by side {ratio.median:.3g} "
        f"of its time (the middle half: {ratio.low:.3g} to {ratio.high:.3g})"
    )
    if ratio.low <= 1 <= ratio.high:
        return f"{text}: no difference beyond the spread.", False
    if ratio.low <= 1:
        return f"{text}.", False
    multiple = TARGETS[result.runtime].multiple
    advice = f"multiples of {multiple} are fast there (--multiple-of), or remove more"
    return f"Slower than the original. {text}; {advice}.", True


def losses_table(losses: Losses) -> Tuple[Sequence[str], List[Sequence[str]]]:
    """The columns and rows of what each output loses, beside what the original's loses.

    The heads of numbers begin with `>`.
    """
    sides = [losses.result] if losses.original is None else [losses.original, losses.result]
    heads = ["error / variation", "largest / range"]
    if any(output.agreement is not None for output in losses.result.outputs):
        heads.append("same decision")
    columns = ["output"]
    for head in heads:
        columns += [f">{head}, original", f">{head}"][-len(sides) :]
    rows: List[Sequence[str]] = []
    for number, output in enumerate(losses.result.outputs):
        cells = [_cells(side, number, len(heads)) for side in sides]
        rows.append([output.name, *[cell for pair in zip(*cells) for cell in pair]])
    return columns, rows


def _cells(agreement: Agreement, number: int, width: int) -> Sequence[str]:
    """The figures of an output, in the order of the heads."""
    output = agreement.outputs[number]
    figures = (output.error, output.relative, output.agreement)
    return ["" if figure is None else percent(figure) for figure in figures[:width]]
