"""What a comparison means for who uses the network, in sentences and in tables."""

from __future__ import annotations

from typing import List, Optional, Tuple

from graphslim.fidelity.agreement import Agreement
from graphslim.fidelity.measures import OutputDifference
from graphslim.support.text import percent

_MEAN = "100 % is what a network would be off by that always gave the mean answer"


def verdict(change: Agreement) -> Tuple[str, str]:
    """What became of a network, in two parts: how bad it is, and the figure of its worst output."""
    if change.same:
        return "The outputs did not change", f"they are the same bit for bit over {change.inputs}"
    text = f"{lost(change.furthest)} over {change.inputs}"
    if not change.far:
        return "The outputs changed little", text
    return (
        "Caution: the outputs changed much",
        f"{text}; use the result only after training it on, or remove less",
    )


def surgery_verdict(surgery: Agreement) -> str:
    """That nothing but the removed channels is missing from a result."""
    how = (
        "bit for bit"
        if surgery.same
        else f"within {surgery.worst.relative:.2g} of the range of {surgery.worst.name}; "
        f"{surgery.tolerance:g} is allowed"
    )
    return (
        "Nothing else changed: where the original is made to ignore the removed channels, it "
        f"computes what the result computes ({how})"
    )


def lost(output: OutputDifference) -> str:
    """What an output lost, in its own terms; a clause."""
    name, apart = output.name, f"is off by up to {percent(output.relative)} of its range"
    if output.error is not None:
        apart = f"is off by {percent(output.error)} of its variation ({_MEAN})"
    if output.agreement is None:
        return f"{name} {apart}"
    if output.mean_iou is None:
        return f"{name} decides as before in {percent(output.agreement)} of the cases, and {apart}"
    return (
        f"{name} decides {percent(output.agreement)} of the pixels as before (mean intersection "
        f"over union {output.mean_iou:.3g}), and {apart}"
    )


def columns_of(agreement: Agreement) -> List[str]:
    """The heads of a table of outputs; those of numbers begin with `>`."""
    decides = any(output.agreement is not None for output in agreement.outputs)
    pictures = any(output.ious for output in agreement.outputs)
    return [
        "output",
        ">error / variation",
        ">99 % within",
        ">largest / range",
        *([">same decision"] if decides else []),
        *([">mean IoU"] if pictures else []),
    ]


def rows_of(agreement: Agreement) -> List[List[str]]:
    """The rows of a table of outputs, under `columns_of`."""
    columns = len(columns_of(agreement))
    return [
        [
            output.name
            if output.compared_at is None
            else f"{output.name} (numbers of {output.compared_at})",
            "does not vary" if output.varies is False else _share(output.error),
            _share(output.within),
            _share(output.relative),
            _share(output.agreement),
            "" if output.mean_iou is None else f"{output.mean_iou:.3g}",
        ][:columns]
        for output in agreement.outputs
    ]


def _share(part: Optional[float]) -> str:
    return "" if part is None else percent(part)
